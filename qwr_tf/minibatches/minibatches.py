"""Minibatches of both phases (lines 11 and 17), one for each gradient step."""

from collections.abc import Callable
from typing import Any

import gin
import tensorflow as tf

from qwr_tf import replay
from qwr_tf.ops.streams import Stream

# Step i of a phase -> keyword arguments of `QwrAgent.train_critic` or
# `train_actor`.
Minibatches = Callable[[tf.Tensor], dict[str, Any]]


@gin.configurable
class PerMinibatch:
  """Minibatches of windows; targets and weights are computed for each.

  The draws of a phase depend only on the table, the agent's seed and the
  gradient steps it has made so far.
  """

  # True: a phase computes targets or Q-values beforehand.
  _is_cache = False

  def __init__(
    self,
    agent,
    table: replay.ReplayTable,
    batch_size: int,
    augment_fn: Callable | None = None,
  ):
    """Prepares draws of minibatches of batch_size windows from a table.

    Args:
      augment_fn: (observations [B, T + 1, ...], seed) -> observations, applied
        to each minibatch before targets and weights are computed; for instance
        `random_shifts`. In nested observations to images only. None keeps
        observations as they are.

    Raises:
      ValueError: if replicas cannot share a minibatch equally, and for
        augment_fn without images.
    """
    agent.replicas.check_batch_size(batch_size)
    if self._is_cache and agent.critic_network.has_batch_norm:
      raise ValueError(
        'A critic with BatchNorm needs targets computed per minibatch; use '
        'iterate.minibatches_fn = @PerMinibatch.'
      )
    shapes = [
      s.shape for s in tf.nest.flatten(agent.time_step_spec.observation)
    ]
    if augment_fn is not None and all(shape.rank != 3 for shape in shapes):
      raise ValueError(
        'augment_fn changes images [height, width, channels], but observations '
        f'have shape {", ".join(map(str, shapes))}; leave it out.'
      )
    self._agent = agent
    self._table = table
    self._batch_size = batch_size
    self._augment_fn = augment_fn

  def critic_phase(self, num_steps: tf.Tensor) -> Minibatches:
    """Minibatches of lines 7-14."""
    return self._phase(Stream.CRITIC_DRAWS, Stream.CRITIC, num_steps)

  def actor_phase(self, num_steps: tf.Tensor) -> Minibatches:
    """Minibatches of lines 16-21."""
    return self._phase(Stream.ACTOR_DRAWS, Stream.ACTOR, num_steps)

  def redraw(
    self, stream: Stream, steps_before: int, num_steps: int, i: int
  ) -> tuple[tf.Tensor, Any]:
    """(Starts [B], windows [B, T + 1]) of step i of a phase again.

    Valid until the table changes. `steps_before` are the critic and actor steps
    made before the phase.
    """
    seed = self._agent.seed_for(stream, steps_before)
    shape = [num_steps, self._batch_size]
    starts = self._table.sample_starts(shape, seed)[i]
    windows = self._table.gather(starts, self._agent.horizon + 1)
    return starts, self._augmented(windows, seed, i)

  def _phase(
    self, draws: Stream, stream: Stream, num_steps: tf.Tensor
  ) -> Minibatches:
    starts, seed = self._starts(draws, num_steps), self._phase_seed(draws)

    def minibatch(i):
      windows = self._augmented(self._gather(starts[i], draws), seed, i)
      return {
        'experience': self._agent.replicas.split(windows),
        'seed': self._step_seed(stream),
      }

    return minibatch

  def _gather(self, starts: tf.Tensor, draws: Stream):
    """Windows [B, T + 1] of a phase's draws."""
    del draws
    return self._table.gather(starts, self._agent.horizon + 1)

  def _augmented(self, windows, seed: tf.Tensor, i: tf.Tensor | int):
    """Windows of step i of a phase after `augment_fn`."""
    if self._augment_fn is None:
      return windows
    step_seed = tf.random.experimental.stateless_fold_in(seed, i)
    entries = tf.nest.flatten(windows.observation)
    observation = [
      self._augment_fn(x, step_seed) if len(entries) == 1 or _is_image(x) else x
      for x in entries
    ]
    return windows._replace(
      observation=tf.nest.pack_sequence_as(windows.observation, observation)
    )

  def _starts(self, stream: Stream, num_steps: tf.Tensor) -> tf.Tensor:
    """Window starts of a phase, [num_steps, B]."""
    shape = [num_steps, self._batch_size]
    return self._table.sample_starts(shape, self._phase_seed(stream))

  def _phase_seed(self, stream: Stream) -> tf.Tensor:
    agent = self._agent
    return agent.seed_for(stream, agent.critic_steps + agent.actor_steps)

  def _step_seed(self, stream: Stream) -> tf.Tensor:
    """The seed of the next critic or actor step."""
    agent = self._agent
    is_critic = stream == Stream.CRITIC
    count = agent.critic_steps if is_critic else agent.actor_steps
    return agent.seed_for(stream, count.read_value())


def _is_image(entry: tf.Tensor) -> bool:
  return entry.dtype == tf.uint8 and entry.shape.rank == 5
