"""Terms that line 21 adds to the regression's loss.

A penalty is a function (policy, states) -> [B] or scalar: of the distribution
being trained at the states of a minibatch, and of the states themselves. It
raises ValueError for actions it does not fit.
"""

import math

import gin
import tensorflow as tf

from qwr_tf.agents.slots import Distribution
from qwr_tf.agents.slots import States
from qwr_tf.networks import actors


@gin.configurable
def no_penalty(policy: Distribution, states: States) -> tf.Tensor:
  """Zero: the regression alone."""
  return tf.zeros([])


@gin.configurable
def action_bound_penalty(
  policy: Distribution, states: States, coefficient: float = 10.0
) -> tf.Tensor:
  """Penalises means outside the bounds: c / 2 |mean - [-1, 1]|^2 (AWR).

  Args:
    coefficient: c; larger keeps the mean inside the bounds.

  Returns:
    float [B]; 0 where the mean is within the bounds.
  """
  if hasattr(policy, 'logits'):
    raise ValueError(
      'Discrete actions have no bounds; use @logits_penalty or @no_penalty.'
    )
  mean = policy.mean()
  outside = mean - tf.clip_by_value(mean, -1.0, 1.0)
  return 0.5 * coefficient * tf.reduce_sum(outside**2, axis=-1)


@gin.configurable
def logits_penalty(
  policy: Distribution, states: States, coefficient: float = 1e-3
) -> tf.Tensor:
  """Penalises large logits: c / 2 |logits|^2, [B] (AWR).

  Args:
    coefficient: c; larger keeps the policy random. AWR uses it on LunarLander.
  """
  if not hasattr(policy, 'logits'):
    raise ValueError(
      'Continuous actions have no logits; use @action_bound_penalty or '
      '@no_penalty.'
    )
  logits = policy.logits
  if isinstance(policy, actors.MultiCategorical):
    logits = tf.where(logits > actors.NO_LOGIT, logits, 0.0)
    logits = tf.reshape(logits, [-1, math.prod(logits.shape[-2:])])
  return 0.5 * coefficient * tf.reduce_sum(logits**2, axis=-1)


@gin.configurable
def weight_decay(
  policy: Distribution, states: States, coefficient: float = 1e-4
) -> tf.Tensor:
  """Penalises large variables of the actor: c / 2 |theta|^2 (AWAC).

  Its gradient is what the `weight_decay` of PyTorch's Adam adds, which AWAC's
  code uses. Keras' AdamW has decoupled weight decay: 1e-4 times the
  learning rate, which is next to nothing.

  Args:
    coefficient: c; larger keeps the variables small.

  Returns:
    float scalar.
  """
  return coefficient * tf.add_n(
    [tf.nn.l2_loss(v) for v in states.actor_variables]
  )
