"""Minibatches of n-step transitions, for targets with lambda = 1.

With td_lambda = 1 the target of a window's first step is the discounted sum of
its rewards and the value of one state, the one after the last of them. The
states in between need not be read or evaluated; with images those are most of
the cost of a critic step.
"""

from collections.abc import Callable

import gin
import tensorflow as tf
from tf_agents.trajectories import trajectory

from qwr_tf import replay
from qwr_tf.agents import minibatches
from qwr_tf.agents.streams import Stream


def n_step_transitions(
  steps: trajectory.Trajectory, gamma: float
) -> tuple[trajectory.Trajectory, tf.Tensor]:
  """Windows of T + 1 steps as windows of two with the same target.

  Args:
    steps: windows [B, T + 1]; observations may be ().
    gamma: discount per step.

  Returns:
    (windows [B, 2] without observations, positions [B]). A window holds the
    first step, with the reward and the discount of all steps up to the end of
    the episode or of the window, and the step after those; the position is
    where the latter stands in the window of T + 1.
  """
  is_last = tf.cast(steps.is_boundary()[:, 1:], tf.int32)  # [B, T]
  # The first step, and all others before a final observation.
  counts = tf.equal(tf.cumsum(is_last, axis=1, exclusive=True), 0)
  ends = tf.reduce_sum(tf.cast(counts, tf.int32), axis=1)  # [B], 1 ... T
  past = tf.where(counts, gamma * steps.discount[:, :-1], 1.0)
  before = tf.math.cumprod(past, axis=1, exclusive=True)
  rewards = tf.where(counts, before * steps.reward[:, :-1], 0.0)
  reward = tf.reduce_sum(rewards, axis=1)
  # The agent multiplies by gamma once more.
  discount = tf.math.divide_no_nan(tf.reduce_prod(past, axis=1), gamma)
  first = tf.zeros_like(ends)
  both = tf.stack([first, ends], axis=1)  # [B, 2]
  pairs = tf.nest.map_structure(
    lambda x: tf.gather(x, both, axis=1, batch_dims=1),
    steps._replace(observation=()),
  )

  pairs = pairs._replace(
    reward=tf.stack([reward, pairs.reward[:, 1]], axis=1),
    discount=tf.stack([discount, pairs.discount[:, 1]], axis=1),
  )
  return pairs, ends


@gin.configurable
class NStepMinibatches(minibatches.PerMinibatch):
  """`PerMinibatch` for td_lambda = 1, at a lower cost.

  Draws are those of `PerMinibatch`, and so are targets but for rounding, unless
  actions are sampled or the scale of F is the minibatch's. Windows have two
  steps in the critic phase and one in the actor phase: slots there may use
  first steps only.
  """

  _table: replay.ReplayTable

  def __init__(
    self,
    agent,
    table: replay.ReplayTable,
    batch_size: int,
    augment_fn: Callable | None = None,
  ):
    """Prepares draws from a table in this process.

    Arguments as in `PerMinibatch`.

    Raises:
      ValueError: as `PerMinibatch`, and unless td_lambda is 1.
    """
    if agent.td_lambda != 1.0:
      raise ValueError(
        'NStepMinibatches needs QwrAgent.td_lambda = 1.0, not '
        f'{agent.td_lambda}; set it, or use @PerMinibatch.'
      )
    super().__init__(agent, table, batch_size, augment_fn=augment_fn)

  def _windows(self, stream: Stream, num_steps: tf.Tensor) -> Callable:
    """Step i -> windows [B, 2], or [B, 1] for the actor, split."""
    agent, table = self._agent, self._table
    starts = self._starts(stream, num_steps)
    seed = self._phase_seed(stream)

    def pairs(i):
      steps = table.gather(starts[i], agent.horizon + 1, observations=False)
      transitions, ends = n_step_transitions(steps, agent.gamma)
      slots = table.window_slots(starts[i], agent.horizon + 1)
      both = tf.stack([tf.zeros_like(ends), ends], axis=1)
      slots = tf.gather(slots, both, axis=1, batch_dims=1)
      return transitions._replace(observation=table.observations(slots))

    def windows(i):
      is_critic = stream == Stream.CRITIC_DRAWS
      steps = pairs(i) if is_critic else table.gather(starts[i], 1)
      return agent.replicas.split(self._augmented(steps, seed, i))

    return windows
