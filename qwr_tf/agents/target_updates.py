"""Updates of the target networks (Algorithm 2, lines 8-9).

Functions of the variables of critic and actor (source), those of their target
networks in the same order, `step`, the critic steps since the phase began, and
`critic_steps`, those since training began. They return whether the target
changed, bool scalar: values computed with the target stay valid until it does.
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
  """Copies source to target when step is a multiple of the period, as 0 is.

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
