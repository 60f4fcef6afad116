"""What turns advantages into regression weights (Algorithm 2, line 20)."""

from collections.abc import Callable

import gin
import tensorflow as tf

from qwr_tf.ops import backups
from qwr_tf.ops import cross_replica

NormalizeFn = Callable[
  [tf.Tensor, tf.Tensor, tf.Tensor | None],
  tf.Tensor,
]

NORMALIZATION_EPSILON = 1e-5


@gin.configurable
def standardize(
  advantages: tf.Tensor,
  log_weights: tf.Tensor,
  mask: tf.Tensor | None = None,
) -> tf.Tensor:
  """Zero mean and unit deviation over the whole n x B array.

  Args:
    advantages: float [n, B].
    log_weights: of the actions, broadcasts to [n, B]; each state counts once.
    mask: float [B], 1 for the states that count; None counts all.

  Returns:
    (A - mean) / (std + 1e-5), float [n, B].
  """
  weights = tf.exp(log_weights) * tf.ones_like(advantages)
  if mask is not None:
    weights *= mask
  total, weighted = cross_replica.total(
    (tf.reduce_sum(weights), tf.reduce_sum(weights * advantages))
  )
  centered = advantages - tf.math.divide_no_nan(weighted, total)
  squares = cross_replica.total(tf.reduce_sum(weights * centered**2))
  variance = tf.math.divide_no_nan(squares, total)
  return centered / (tf.sqrt(variance) + NORMALIZATION_EPSILON)


@gin.configurable
def keep(
  advantages: tf.Tensor,
  log_weights: tf.Tensor,
  mask: tf.Tensor | None = None,
) -> tf.Tensor:
  """No normalisation: beta is in units of return."""
  del log_weights, mask
  return advantages


@gin.configurable
def exp_weights(
  advantages: tf.Tensor,
  log_weights: tf.Tensor,
  mask: tf.Tensor | None = None,
  beta: float = 1.0,
  normalize_fn: NormalizeFn = standardize,
) -> tf.Tensor:
  """exp(A / beta), with A normalised first.

  Args:
    advantages: Q(s, a_j) - V(s), float [n, B].
    log_weights: of the actions, float, broadcasts to [n, B].
    mask: float [B], 1 for the states that count; None counts all.
    beta: divides the advantages; more of it imitates the sampling policy more.
    normalize_fn: `standardize` or `keep`.

  Returns:
    Regression weights, float [n, B]. They may overflow to infinity; the agent
    clips them.
  """
  return tf.exp(normalize_fn(advantages, log_weights, mask) / beta)


@gin.configurable
def softmax_weights(
  advantages: tf.Tensor,
  log_weights: tf.Tensor,
  mask: tf.Tensor | None = None,
  beta: float = 1.0,
) -> tf.Tensor:
  """exp(A / beta), divided by its mean over the batch (AWAC's code).

  Cannot overflow, and the batch weighs as much as with equal weights. The
  same as B softmax(A / beta) where every state has one action. Arguments as
  in `exp_weights`.
  """
  log_weights += tf.zeros_like(advantages)  # [n, B]
  if mask is not None:
    log_weights += tf.math.log(mask)  # -inf leaves a state out.
  total, count = (
    cross_replica.log_sum_exp(tf.reduce_logsumexp(x))
    for x in (advantages / beta + log_weights, log_weights)
  )
  weights = tf.exp(advantages / beta - total + count)
  # With every state left out both sums are empty; outside them anything goes.
  return tf.where(log_weights > -float('inf'), weights, 0.0)


@gin.configurable
def binary_weights(
  advantages: tf.Tensor,
  log_weights: tf.Tensor,
  mask: tf.Tensor | None = None,
) -> tf.Tensor:
  """1 where the advantage is positive, else 0 (CRR, binary)."""
  del log_weights, mask
  return tf.cast(advantages > 0, advantages.dtype)


@gin.configurable
def uniform_weights(
  advantages: tf.Tensor,
  log_weights: tf.Tensor,
  mask: tf.Tensor | None = None,
) -> tf.Tensor:
  """Every action weighs the same: behavioural cloning."""
  del log_weights, mask
  return tf.ones_like(advantages)


def weight_scalars(
  advantages: tf.Tensor,
  weights: tf.Tensor,
  log_weights: tf.Tensor,
  mask: tf.Tensor | None,
  max_weight: float,
) -> dict[str, tf.Tensor]:
  """What line 20 made, by name; all but the maximum weigh actions by mu.

  Args:
    advantages: before normalisation, [n, B]. Their mean size is how far the
      critic tells actions apart (`q_scale`).
    weights: after the clip, [n, B].
    log_weights: of the action set, broadcasts to [n, B].
    mask: 1 for the states that count, float [B]; None counts all.
    max_weight: the clip.
  """

  def mean(values):
    means = backups.mean_backup(values, log_weights)
    return cross_replica.masked_mean(means, mask)

  counted = weights if mask is None else mask * weights  # Weights are not < 0.
  clipped = tf.cast(weights >= max_weight, tf.float32)
  return {
    'weight_mean': mean(weights),
    'weight_max': cross_replica.maximum(tf.reduce_max(counted)),
    'weight_clipped': mean(clipped),
    'q_scale': mean(tf.abs(advantages)),
  }
