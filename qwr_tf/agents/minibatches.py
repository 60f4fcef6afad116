"""Minibatches of both phases (lines 11 and 17), one for each gradient step."""

from collections.abc import Callable
from typing import Any

import gin
import tensorflow as tf

from qwr_tf import replay
from qwr_tf.agents.streams import Stream


@gin.configurable
class PerMinibatch:
  """Minibatches of windows, for which targets and weights are made anew.

  The draws of a phase depend on the agent's seed and on the number of steps
  it has made, nothing else.
  """

  def __init__(self, agent, table: replay.Table, batch_size: int):
    """Prepares draws from a table.

    Args:
      agent: to be trained.
      table: windows are drawn from it.
      batch_size: windows in a minibatch.

    Raises:
      ValueError: if replicas cannot share a minibatch equally.
    """
    agent.replicas.check_batch_size(batch_size)
    self._agent = agent
    self._table = table
    self._batch_size = batch_size

  def critic_phase(self, num_steps: tf.Tensor) -> Callable[[tf.Tensor], dict]:
    """Returns step i -> arguments of `QwrAgent.train_critic`."""
    windows = self._windows(Stream.CRITIC_DRAWS, num_steps)
    return lambda i: {'experience': windows(i), 'seed': self._critic_seed()}

  def actor_phase(self, num_steps: tf.Tensor) -> Callable[[tf.Tensor], dict]:
    """Returns step i -> arguments of `QwrAgent.train_actor`."""
    windows = self._windows(Stream.ACTOR_DRAWS, num_steps)
    return lambda i: {'experience': windows(i), 'seed': self._actor_seed()}

  def redraw(
    self, stream: Stream, steps_before: int, num_steps: int, i: int
  ) -> tuple[tf.Tensor, Any]:
    """The windows of a step whose phase is over or was interrupted.

    Args:
      stream: of the phase's draws.
      steps_before: gradient steps of both kinds before the phase.
      num_steps: of the phase.
      i: number of the step in the phase.

    Returns:
      (window starts [B], windows [B, T + 1]) as the table has them.
    """
    seed = self._agent.seed_for(stream, steps_before)
    shape = [num_steps, self._batch_size]
    return self._table.redraw(shape, self._agent.horizon + 1, seed, i)

  def _windows(self, stream: Stream, num_steps: tf.Tensor) -> Callable:
    """Step i -> windows [B, T + 1], or each replica's share of them."""
    agent = self._agent
    shape, seed = self._draws(stream, num_steps)
    windows = self._table.windows(shape, agent.horizon + 1, seed)
    return lambda i: agent.replicas.split(windows(i))

  def _draws(self, stream: Stream, num_steps) -> tuple[list, tf.Tensor]:
    """Shape and seed of the draws of a whole phase."""
    agent = self._agent
    steps_before = agent.critic_steps + agent.actor_steps
    return [num_steps, self._batch_size], agent.seed_for(stream, steps_before)

  def _critic_seed(self) -> tf.Tensor:
    agent = self._agent
    return agent.seed_for(Stream.CRITIC, agent.critic_steps.read_value())

  def _actor_seed(self) -> tf.Tensor:
    agent = self._agent
    return agent.seed_for(Stream.ACTOR, agent.actor_steps.read_value())
