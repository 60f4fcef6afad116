"""Numbers of gradient steps of a phase (Algorithm 2, lines 7 and 16)."""

import math

import gin
import tensorflow as tf


@gin.configurable
def fixed_steps(interactions: int, steps: int) -> int:
  """The same number in every iteration."""
  return steps


@gin.configurable
def proportional_steps(
  interactions: int, steps: int, env_steps: int = 2048
) -> tf.Tensor:
  """Steps in proportion to the interactions of line 5, rounded up (AWR).

  Args:
    interactions: collected in this iteration; 0 (offline) makes `steps`.
    steps: gradient steps for `env_steps` interactions.
    env_steps: the interactions for which `steps` are meant.

  Returns:
    int32 scalar; a tensor, so that a new number compiles nothing anew.
  """
  interactions = interactions or env_steps
  return tf.constant(math.ceil(steps * interactions / env_steps))
