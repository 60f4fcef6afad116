"""When the numbers of lines 11-13 and 17-20 are made: for each minibatch."""

import gin
import tensorflow as tf

from qwr_tf.agents import regression_agent


@gin.configurable
class PerMinibatch:
  """Targets and weights are made for each minibatch as it is drawn.

  The draws of a phase are known when it begins: they depend on the agent's
  seed and on how many steps it has made, nothing else.
  """

  def __init__(self, agent, table, batch_size: int):
    """Remembers where numbers come from.

    Args:
      agent: makes the numbers.
      table: a `replay.ReplayTable`.
      batch_size: windows in a minibatch.
    """
    self._agent = agent
    self._table = table
    self._batch_size = batch_size

  def critic_phase(self, num_steps: int):
    """Returns step i -> (windows, targets [B]), lines 11-13."""
    agent = self._agent
    starts = self._starts(regression_agent.CRITIC_DRAWS, num_steps)

    def draw(i):
      experience = self._table.gather(starts[i], agent.horizon + 1)
      step = agent.critic_steps.read_value()
      seed = agent.seed_for(regression_agent.CRITIC_STREAM, step)
      return experience, agent.td_targets(experience, seed)[:, 0]

    return draw

  def actor_phase(self, num_steps: int):
    """Returns step i -> (windows, actions, weights, scalars), lines 17-20."""
    agent = self._agent
    starts = self._starts(regression_agent.ACTOR_DRAWS, num_steps)

    def draw(i):
      experience = self._table.gather(starts[i], agent.horizon + 1)
      step = agent.actor_steps.read_value()
      seed = agent.seed_for(regression_agent.ACTOR_STREAM, step)
      return experience, *agent.regression(experience, seed)

    return draw

  def _starts(self, stream: int, num_steps: int) -> tf.Tensor:
    """Window starts of a whole phase, [num_steps, B]."""
    agent = self._agent
    steps = agent.critic_steps + agent.actor_steps
    seed = agent.seed_for(stream, steps)
    return self._table.sample_starts([num_steps, self._batch_size], seed)
