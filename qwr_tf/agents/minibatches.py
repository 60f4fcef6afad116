"""When the numbers of lines 11-13 and 17-20 are made: for each minibatch."""

from collections.abc import Callable

import gin
import tensorflow as tf

from qwr_tf import replay
from qwr_tf.agents import regression_agent


@gin.configurable
class PerMinibatch:
  """Targets and weights are made for each minibatch as it is drawn.

  The draws of a phase are known when it begins: they depend on the agent's
  seed and on how many steps it has made, nothing else.
  """

  def __init__(self, agent, table: replay.Table, batch_size: int):
    """Remembers where numbers come from.

    Args:
      agent: makes the numbers.
      table: which windows are drawn from.
      batch_size: windows in a minibatch.

    Raises:
      ValueError: if replicas cannot share a minibatch equally.
    """
    agent.replicas.check_batch_size(batch_size)
    self._agent = agent
    self._table = table
    self._batch_size = batch_size

  def critic_phase(self, num_steps: int):
    """Returns step i -> (windows, targets [B]), lines 11-13."""
    agent = self._agent
    windows = self._windows(regression_agent.CRITIC_DRAWS, num_steps)

    def targets(experience, seed):
      return agent.td_targets(experience, seed)[:, 0]

    def draw(i):
      experience = windows(i)
      step = agent.critic_steps.read_value()
      seed = agent.seed_for(regression_agent.CRITIC_STREAM, step)
      return experience, agent.replicas.run(targets, experience, seed)

    return draw

  def actor_phase(self, num_steps: int):
    """Returns step i -> (windows, actions, weights, scalars), lines 17-20."""
    agent = self._agent
    windows = self._windows(regression_agent.ACTOR_DRAWS, num_steps)

    def draw(i):
      experience = windows(i)
      step = agent.actor_steps.read_value()
      seed = agent.seed_for(regression_agent.ACTOR_STREAM, step)
      numbers = agent.replicas.run(agent.regression, experience, seed)
      actions, weights, scalars = numbers
      return experience, actions, weights, agent.replicas.one(scalars)

    return draw

  def _windows(self, stream: int, num_steps: int) -> Callable:
    """Step i -> windows [B, T + 1], or each replica's share of them."""
    agent = self._agent
    shape, seed = self._draws(stream, num_steps)
    windows = self._table.windows(shape, agent.horizon + 1, seed)
    return lambda i: agent.replicas.split(windows(i))

  def _draws(self, stream: int, num_steps: int) -> tuple[list, tf.Tensor]:
    """Shape and seed of what a whole phase draws."""
    agent = self._agent
    steps = agent.critic_steps + agent.actor_steps
    return [num_steps, self._batch_size], agent.seed_for(stream, steps)
