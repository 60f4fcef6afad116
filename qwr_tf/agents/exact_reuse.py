"""The numbers of PerMinibatch for less: Q-vectors of rows are kept.

Between two target copies the target network stands still, and during the
actor phase the critic does. With enumerated actions Q(s, .) of a table's row
is then a fixed vector, and what a phase draws is known when it begins. So each
row that will be drawn goes through the torso once, however often it is drawn;
F, its scale, the advantages and their normalisation still belong to each
minibatch. On images, where the torso is nearly all there is to pay for, this
is what makes a phase quick.
"""

from collections.abc import Callable

import gin
import tensorflow as tf
from tf_agents.specs import tensor_spec
from tf_agents.trajectories import trajectory

from qwr_tf import replay
from qwr_tf.agents import action_sets
from qwr_tf.agents import minibatches
from qwr_tf.agents import regression_agent
from qwr_tf.agents import views

# Rows that go through the torso at once.
_CHUNK_ROWS = 256


@gin.configurable
class ExactReuse(minibatches.PerMinibatch):
  """Targets and weights from Q-vectors that are computed once.

  Draws and random numbers are those of `PerMinibatch`, and so are targets and
  weights but for rounding. For discrete actions, and for slots that ask the
  critics and mu alone.
  """

  _table: replay.ReplayTable

  def __init__(
    self,
    agent,
    table: replay.ReplayTable,
    batch_size: int,
    reuse_train_steps: int = 100,
  ):
    """Allocates a Q-vector for each row of the table.

    Args:
      agent: makes the numbers.
      table: its rows have numbers.
      batch_size: windows in a minibatch.
      reuse_train_steps: critic steps whose rows are computed together; best
        the period of the target's copies. If a target changes earlier, the
        next ones are taken to stay as long as it did.

    Raises:
      ValueError: for continuous actions, and for a slot that needs the
        observations themselves or, in a phase, the other critic's values.
    """
    super().__init__(agent, table, batch_size)
    spec = agent.action_spec
    if not tensor_spec.is_discrete(spec):
      raise ValueError(
        'ExactReuse keeps the value of every discrete action; use '
        '@PerMinibatch for continuous ones.'
      )
    self._reuse_train_steps = reuse_train_steps
    outputs = agent.critic_outputs(*_one_of_each(agent))
    # Most critics have one number per action; others have own axes.
    shape = [outputs.shape[0], *outputs.shape[2:]]
    with tf.device('/cpu:0'):
      self._q_vectors = _variable([table.num_slots, *shape], tf.float32)
    # What the kept vectors are of: this target, steps from one to another.
    self._target = _variable([], tf.int64)
    self._begin, self._end, self._ahead = (
      _variable([], tf.int32) for _ in range(3)
    )
    # Targets are made of the target network's values, weights of the critic's.
    self._critic_view = _with_values(agent, 'target_outputs')
    self._actor_view = _with_values(agent, 'critic_outputs')
    self._try_agent()

  def _try_agent(self) -> None:
    """Makes each kind of number once: what does not fit fails here."""
    agent = self._agent
    seed = agent.seed_for(regression_agent.CHECK_STREAM, 0)
    experience = tensor_spec.zero_spec_nest(
      agent.collect_data_spec, outer_dims=[1, agent.horizon + 1]
    )
    shape = [1, agent.horizon + 1, *self._q_vectors.shape[1:]]
    known = experience._replace(observation=tf.zeros(shape))
    self._critic_view.td_targets(known, seed)
    self._actor_view.regression(known, seed)

  def critic_phase(self, num_steps: int):
    """As in `PerMinibatch`; windows hold their first step only."""
    agent = self._agent
    horizon = agent.horizon
    replicas = agent.replicas

    def targets_of(known, seed):
      return self._critic_view.td_targets(known, seed)[:, 0]

    starts = self._starts(regression_agent.CRITIC_DRAWS, num_steps)
    self._end.assign(0)
    self._ahead.assign(self._reuse_train_steps)

    def draw(i):
      changed = self._target != agent.target_updates
      if changed and i < self._end:
        self._ahead.assign(i - self._begin)
      if changed or i >= self._end:
        end = tf.minimum(i + self._ahead, num_steps)
        slots = self._table.window_slots(starts[i:end], horizon + 1)
        self._compute(agent.target_outputs, slots[..., 1:])
        self._target.assign(agent.target_updates)
        self._begin.assign(i)
        self._end.assign(end)
      step = agent.critic_steps.read_value()
      seed = agent.seed_for(regression_agent.CRITIC_STREAM, step)
      known = self._windows_of_values(starts[i], horizon + 1)
      targets = replicas.run(targets_of, replicas.split(known), seed)
      return self._first_steps(starts[i], known), targets

    return draw

  def actor_phase(self, num_steps: int):
    """As in `PerMinibatch`; windows hold their first step only."""
    agent = self._agent
    replicas = agent.replicas
    starts = self._starts(regression_agent.ACTOR_DRAWS, num_steps)
    self._compute(agent.critic_outputs, self._table.window_slots(starts, 1))

    def draw(i):
      step = agent.actor_steps.read_value()
      seed = agent.seed_for(regression_agent.ACTOR_STREAM, step)
      known = self._windows_of_values(starts[i], 1)
      actions, weights, scalars = replicas.run(
        self._actor_view.regression, replicas.split(known), seed
      )
      steps = self._first_steps(starts[i], known)
      return steps, actions, weights, replicas.one(scalars)

    return draw

  def _compute(self, outputs_of: Callable, slots: tf.Tensor) -> None:
    """Keeps the Q-vectors of these slots, each computed once."""
    is_needed = tf.tensor_scatter_nd_update(
      tf.zeros([self._table.num_slots], tf.bool),
      tf.reshape(slots, [-1, 1]),
      tf.ones([tf.size(slots)], tf.bool),
    )
    needed = tf.where(is_needed)[:, 0]
    count = tf.shape(needed)[0]
    actions = action_sets.all_actions(self._agent.action_spec, 1)  # [n, 1]
    for first in tf.range(0, count, _CHUNK_ROWS):
      # The last chunk is filled up: one shape is compiled once.
      chunk = tf.minimum(first + tf.range(_CHUNK_ROWS), count - 1)
      rows = tf.ensure_shape(tf.gather(needed, chunk), [_CHUNK_ROWS])
      outputs = self._agent.replicas.map_rows(
        lambda observations: outputs_of(observations, actions),
        self._table.observations(rows),
        axis=1,
      )
      rows_first = [1, 0, *range(2, outputs.shape.rank)]  # From [n, C, ...].
      self._q_vectors.scatter_nd_update(
        rows[:, tf.newaxis], tf.transpose(outputs, rows_first)
      )

  def _starts(self, stream: int, num_steps: int) -> tf.Tensor:
    """Window starts of a whole phase, [num_steps, B]."""
    return self._table.sample_starts(*self._draws(stream, num_steps))

  def _windows_of_values(
    self, starts: tf.Tensor, num_steps: int
  ) -> trajectory.Trajectory:
    """Windows whose observations are Q-vectors, [B, num_steps, n, ...]."""
    windows = self._table.gather(starts, num_steps, observations=False)
    slots = self._table.window_slots(starts, num_steps)
    return windows._replace(observation=self._q_vectors.sparse_read(slots))

  def _first_steps(
    self, starts: tf.Tensor, windows: trajectory.Trajectory
  ) -> trajectory.Trajectory:
    """Windows [B, 1] with the observations themselves."""
    slots = self._table.window_slots(starts, 1)
    first = tf.nest.map_structure(lambda x: x[:, :1], windows)
    observations = self._table.observations(slots)
    return self._agent.replicas.split(first._replace(observation=observations))


def _with_values(agent, known: str):
  """The agent, where an observation is the Q-vector of its state.

  Args:
    agent: which is asked for the shape of its critics' outputs.
    known: whose values they are, 'target_outputs' or 'critic_outputs'.
  """
  own_axes = agent.critic_outputs(*_one_of_each(agent)).shape.rank - 2
  axis = -1 - own_axes

  def entries(q_vectors: tf.Tensor, actions: tf.Tensor) -> tf.Tensor:
    """Of Q-vectors [..., all actions, ...], float [n, ..., ...]."""
    chosen = tf.one_hot(actions, q_vectors.shape[axis])
    for _ in range(own_axes):
      chosen = chosen[..., tf.newaxis]
    return tf.reduce_sum(chosen * q_vectors, axis=axis)

  answers = {
    'target_outputs': _other_network,
    'critic_outputs': _other_network,
    'policy_distribution': _no_observations,
    'target_policy_distribution': _no_observations,
  }
  return views.view(agent, **answers | {known: entries})


def _other_network(*_):
  raise ValueError(
    'ExactReuse keeps the values of the target network while the critic '
    'learns, of the critic while the actor does; use iterate.minibatches_fn = '
    '@PerMinibatch for slots that ask the other one.'
  )


def _no_observations(*_):
  raise ValueError(
    'ExactReuse has no observations for actions of the current policy; use '
    'iterate.minibatches_fn = @PerMinibatch.'
  )


def _one_of_each(agent) -> tuple[tf.Tensor, tf.Tensor]:
  """One observation [1] and all actions [n, 1]."""
  spec = agent.collect_data_spec.observation
  actions = action_sets.all_actions(agent.action_spec, 1)
  return tf.zeros([1, *spec.shape], spec.dtype), actions


def _variable(shape, dtype: tf.DType) -> tf.Variable:
  return tf.Variable(tf.zeros(shape, dtype), trainable=False)
