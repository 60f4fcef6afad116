"""Updates of the target networks (Algorithm 2, lines 8-9).

Each returns whether the target changed, bool scalar: values computed with the
target stay valid until it does.
"""

from collections.abc import Sequence

import gin
import tensorflow as tf
from tf_agents.utils import common

from qwr_tf.config.ranges import Fraction
from qwr_tf.config.ranges import PositiveInt
from qwr_tf.replicas import replicas


@gin.configurable
def hard_update(
  source: Sequence[tf.Variable],
  target: Sequence[tf.Variable],
  step: tf.Tensor,
  critic_steps: tf.Tensor,
  period_train_steps: PositiveInt = 100,
) -> tf.Tensor:
  """Copies source to target when step is a multiple of the period.

  Args:
    source: variables of the critic and the actor.
    target: variables of their target networks, in the same order.
    step: critic steps since the phase began; step 0 copies (line 6).
    critic_steps: critic steps since training began.
    period_train_steps: critic steps between copies.
  """
  return _copy_every(period_train_steps, source, target, step)


@gin.configurable
def periodic_update(
  source: Sequence[tf.Variable],
  target: Sequence[tf.Variable],
  step: tf.Tensor,
  critic_steps: tf.Tensor,
  period_train_steps: PositiveInt = 100,
) -> tf.Tensor:
  """As `hard_update`, counted over all phases (DQN, CRR: phases of a step)."""
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
  source: Sequence[tf.Variable],
  target: Sequence[tf.Variable],
  step: tf.Tensor,
  critic_steps: tf.Tensor,
  target_update_tau: Fraction = 5e-3,
) -> tf.Tensor:
  """Moves the target by tau towards the source at every step (AWAC).

  Args:
    source: variables of the trained network.
    target: variables of the target network.
    step: not used.
    critic_steps: not used.
    target_update_tau: share of the way per critic step; larger follows faster.

  Returns:
    True, as the target changes.
  """
  replicas.together(
    lambda: common.soft_variables_update(source, target, tau=target_update_tau)
  )
  return tf.constant(True)
