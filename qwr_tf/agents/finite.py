"""A gradient step with NaN or Inf is not taken, and can be looked into."""

import re
from collections.abc import Sequence
from typing import NamedTuple

import tensorflow as tf

_MARK = 'NaN or Inf in the gradient step of'


class BadStep(NamedTuple):
  """Where training stopped.

  Attributes:
    network: name of the network whose step it was.
    critic_steps: critic steps made before.
    actor_steps: likewise.
  """

  network: str
  critic_steps: int
  actor_steps: int


def check(
  loss: tf.Tensor,
  gradients: Sequence[tf.Tensor],
  network: str,
  critic_steps: tf.Variable,
  actor_steps: tf.Variable,
) -> list[tf.Operation]:
  """Operations that a gradient step has to wait for.

  They raise InvalidArgumentError for `bad_step` unless the loss and the norm
  of the gradients are finite numbers. On a TPU there are none: its programs
  cannot stop, and the row of the iteration's means tells.
  """
  if isinstance(tf.distribute.get_strategy(), tf.distribute.TPUStrategy):
    return []
  norm = tf.linalg.global_norm(gradients)
  is_finite = tf.math.is_finite(loss) & tf.math.is_finite(norm)
  data = [_MARK, network, critic_steps.read_value(), actor_steps.read_value()]
  operation = tf.debugging.Assert(is_finite, data)
  return [] if operation is None else [operation]


def bad_step(error: Exception) -> BadStep | None:
  """What `check` said, or None if the error is another one."""
  # Eagerly, texts are printed as b'...'.
  match = re.search(rf"{_MARK}\W+(?:b')?(\w+)\W+(\d+)\W+(\d+)", str(error))
  return BadStep(match[1], int(match[2]), int(match[3])) if match else None
