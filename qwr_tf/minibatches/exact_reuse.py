"""Minibatches with cached Q-values, equal to `PerMinibatch`'s up to rounding.

Between two target copies the target network stands still, and during the
actor phase the critic does. So Q(s, .) of every stored row is constant, and
the draws of a phase are known when it begins: each row that will be drawn goes
through the torso once, however often it is drawn. F, its scale, the advantages
and their normalisation are still computed for each minibatch. On images the
torso is nearly the whole cost of a phase.
"""

import gin
import tensorflow as tf
from tf_agents.specs import tensor_spec

from qwr_tf import replay
from qwr_tf.config.ranges import PositiveInt
from qwr_tf.minibatches import minibatches
from qwr_tf.networks import discrete_actions
from qwr_tf.networks.discrete_actions import all_actions
from qwr_tf.ops import returns
from qwr_tf.ops.streams import Stream

# Rows that go through the torso at once.
_CHUNK_ROWS = 256


@gin.configurable
class ExactReuse(minibatches.PerMinibatch):
  """Minibatches of windows with Q-vectors that are computed once.

  Draws and random numbers are those of `PerMinibatch`, and so are targets and
  weights but for rounding. For discrete actions. Slots may use mu, and the
  target network in the critic phase, the critic in the actor phase.
  """

  _is_cache = True

  def __init__(
    self,
    agent,
    table: replay.ReplayTable,
    batch_size: int,
    reuse_train_steps: PositiveInt = 100,
  ):
    """Allocates a Q-vector for each row of the table.

    Args:
      reuse_train_steps: critic steps whose rows are computed together; best
        the period of the target's copies. If the target changes earlier, later
        fills are for that shorter period.

    Raises:
      ValueError: for continuous actions, and for a slot that needs the
        observations themselves or, in a phase, the other critic's values.
    """
    super().__init__(agent, table, batch_size, augment_fn=None)
    spec = agent.action_spec
    if not discrete_actions.is_enumerable(spec):
      raise ValueError(
        'ExactReuse keeps the value of every discrete action; use '
        '@PerMinibatch for continuous ones, and for more than '
        f'{discrete_actions.MAX_COMBINATIONS} combinations.'
      )
    self._reuse_train_steps = reuse_train_steps
    experience = tensor_spec.zero_spec_nest(
      agent.collect_data_spec, outer_dims=[1, agent.horizon + 1]
    )
    outputs = agent.critic_network.outputs(
      returns.first_steps(experience).observation, all_actions(spec, 1)
    )
    # Most critics have one number per action; others have axes of their own.
    shape = [outputs.shape[0], *outputs.shape[2:]]
    # A slot that does not fit fails here.
    seed = agent.seed_for(Stream.CHECK, 0)
    agent.td_targets(experience, seed, tf.zeros([1, agent.horizon, *shape]))
    agent.weighted_actions(experience, seed, tf.zeros([1, *shape]))
    with tf.device('/cpu:0'):
      self._q_vectors = _variable([table.num_slots, *shape], tf.float32)
    # `target_updates` when the cache was filled, the steps [begin, end) of the
    # phase that it covers, and how many steps ahead it is filled.
    self._cached_version = _variable([], tf.int64)
    self._begin, self._end, self._ahead = (
      _variable([], tf.int32) for _ in range(3)
    )

  def critic_phase(self, num_steps: tf.Tensor) -> minibatches.Minibatches:
    """As in `PerMinibatch`; observations of the windows' first rows only."""
    agent = self._agent
    window_rows = agent.horizon + 1
    starts = self._starts(Stream.CRITIC_DRAWS, num_steps)
    self._end.assign(0)
    self._ahead.assign(self._reuse_train_steps)

    def minibatch(i):
      changed = self._cached_version != agent.target_updates
      if changed and i < self._end:  # Sooner than expected.
        self._ahead.assign(i - self._begin)
      if changed or i >= self._end:
        end = tf.minimum(i + self._ahead, num_steps)
        slots = self._table.window_slots(starts[i:end], window_rows)
        self._fill_cache(agent.target_network, slots[..., 1:])
        self._cached_version.assign(agent.target_updates)
        self._begin.assign(i)
        self._end.assign(end)
      slots = self._table.window_slots(starts[i], window_rows)
      q_vectors = self._q_vectors.sparse_read(slots[:, 1:])
      return self._minibatch(starts[i], window_rows, q_vectors, Stream.CRITIC)

    return minibatch

  def actor_phase(self, num_steps: tf.Tensor) -> minibatches.Minibatches:
    """As in `PerMinibatch`; windows hold their first step only."""
    starts = self._starts(Stream.ACTOR_DRAWS, num_steps)
    slots = self._table.window_slots(starts, 1)
    self._fill_cache(self._agent.critic_network, slots)

    def minibatch(i):
      q_vectors = self._q_vectors.sparse_read(slots[i, :, 0])
      return self._minibatch(starts[i], 1, q_vectors, Stream.ACTOR)

    return minibatch

  def _minibatch(self, starts, window_rows: int, q_vectors, stream) -> dict:
    """Windows, the observation of their first step, and Q-vectors."""
    windows = self._table.gather(starts, window_rows, observations=False)
    first = self._table.window_slots(starts, 1)
    experience = windows._replace(observation=self._table.observations(first))
    split = self._agent.replicas.split
    return {
      'experience': split(experience),
      'seed': self._step_seed(stream),
      'q_vectors': split(q_vectors),
    }

  def _fill_cache(self, network, slots: tf.Tensor) -> None:
    """Caches the Q-vectors of these table slots, duplicates computed once."""
    is_needed = tf.tensor_scatter_nd_update(
      tf.zeros([self._table.num_slots], tf.bool),
      tf.reshape(slots, [-1, 1]),
      tf.ones([tf.size(slots)], tf.bool),
    )
    needed = tf.where(is_needed)[:, 0]
    count = tf.shape(needed)[0]
    actions = all_actions(self._agent.action_spec, 1)  # [n, 1]
    for first in tf.range(0, count, _CHUNK_ROWS):
      # The last row is repeated in the last chunk: all have one shape.
      chunk = tf.minimum(first + tf.range(_CHUNK_ROWS), count - 1)
      rows = tf.ensure_shape(tf.gather(needed, chunk), [_CHUNK_ROWS])
      outputs = self._agent.replicas.map_rows(
        lambda observations: network.outputs(observations, actions),
        self._table.observations(rows),
        axis=1,
      )
      rows_first = [1, 0, *range(2, outputs.shape.rank)]  # From [n, rows, ...].
      self._q_vectors.scatter_nd_update(
        rows[:, tf.newaxis], tf.transpose(outputs, rows_first)
      )


def _variable(shape, dtype: tf.DType) -> tf.Variable:
  return tf.Variable(tf.zeros(shape, dtype), trainable=False)
