"""How many steps a phase makes (Algorithm 2, lines 7 and 16)."""

import math

import gin
import tensorflow as tf


@gin.configurable
def fixed_steps(collected, steps: int) -> int:
  """The same number in every iteration."""
  del collected
  return steps


@gin.configurable
def proportional_steps(
  collected, steps: int, env_steps: int = 2048
) -> tf.Tensor:
  """As many more as there were more interactions, rounded up (AWR).

  Offline, where there are none, `steps`.

  Args:
    collected: what line 5 returned, a `collect.Collected`.
    steps: gradient steps for `env_steps` interactions.
    env_steps: interactions.

  Returns:
    int32 scalar; a tensor, so that a new number compiles nothing anew.
  """
  made = collected.interactions or env_steps
  return tf.constant(math.ceil(steps * made / env_steps))
