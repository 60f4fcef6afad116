"""Updates of the target networks (Algorithm 2, lines 8-9).

An update is a function (source, target, step, critic_steps) -> bool scalar.
`source` and `target` are the variables of critic and actor, and of their target
networks in the same order; `step` counts the critic steps of this phase,
`critic_steps` those of the whole training. True means that the target changed:
values computed with it before are no longer valid.
"""

from collections.abc import Sequence

import gin
import tensorflow as tf
from tf_agents.utils import common

from qwr_tf.config.ranges import Fraction
from qwr_tf.config.ranges import PositiveInt
from qwr_tf.replicas import replicas

Variables = Sequence[tf.Variable]


@gin.configurable
def hard_update(
  source: Variables,
  target: Variables,
  step: tf.Tensor,
  critic_steps: tf.Tensor,
  period_train_steps: PositiveInt = 100,
) -> tf.Tensor:
  """Copies source to target at steps 0, period, 2 period, ... of each phase.

  Args:
    period_train_steps: critic steps between copies.
  """
  return _copy_every(period_train_steps, source, target, step)


@gin.configurable
def periodic_update(
  source: Variables,
  target: Variables,
  step: tf.Tensor,
  critic_steps: tf.Tensor,
  period_train_steps: PositiveInt = 100,
) -> tf.Tensor:
  """`hard_update` by the count of all critic steps (DQN, CRR)."""
  return _copy_every(period_train_steps, source, target, critic_steps)


def _copy_every(period: int, source, target, step) -> tf.Tensor:
  def copy():
    common.soft_variables_update(source, target, tau=1.0)
    return tf.constant(True)

  is_due = tf.equal(step % period, 0)
  return replicas.together(
    lambda: tf.cond(is_due, copy, lambda: tf.constant(False))
  )


@gin.configurable
def polyak_update(
  source: Variables,
  target: Variables,
  step: tf.Tensor,
  critic_steps: tf.Tensor,
  target_update_tau: Fraction = 5e-3,
) -> tf.Tensor:
  """Moves the target by tau towards the source at every step (AWAC).

  Args:
    target_update_tau: share of the way per critic step; larger follows faster.
  """
  replicas.together(
    lambda: common.soft_variables_update(source, target, tau=target_update_tau)
  )
  return tf.constant(True)
