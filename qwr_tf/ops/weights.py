"""Regression weights from advantages (Algorithm 2, line 20).

A weight function takes (advantages [n, B], log_weights [n, B], batch) and
returns weights [n, B]. The batch says which states count.
"""

from typing import Protocol

import gin
import tensorflow as tf

from qwr_tf.ops import backups
from qwr_tf.ops import reductions

NORMALIZATION_EPSILON = 1e-5


class WeightFn(Protocol):
  """(advantages [n, B], log_weights [n, B], batch) -> float [n, B]."""

  def __call__(
    self,
    advantages: tf.Tensor,
    log_weights: tf.Tensor,
    batch: reductions.Batch = reductions.WHOLE,
  ) -> tf.Tensor:
    """Arguments as in the first function below."""
    ...


@gin.configurable
def standardize(
  advantages: tf.Tensor,
  log_weights: tf.Tensor,
  batch: reductions.Batch = reductions.WHOLE,
) -> tf.Tensor:
  """Zero mean and unit deviation over the whole n x B array.

  Args:
    advantages: float [n, B].
    log_weights: of the actions, broadcasts to [n, B]; each state counts once.
    batch: the states that count, [B].

  Returns:
    (A - mean) / (std + 1e-5), float [n, B].
  """
  weights = tf.exp(log_weights) * tf.ones_like(advantages)
  if batch.mask is not None:
    weights *= batch.mask
  total, weighted = batch.sum_fn(
    (tf.reduce_sum(weights), tf.reduce_sum(weights * advantages))
  )
  centered = advantages - tf.math.divide_no_nan(weighted, total)
  squares = batch.sum_fn(tf.reduce_sum(weights * centered**2))
  variance = tf.math.divide_no_nan(squares, total)
  return centered / (tf.sqrt(variance) + NORMALIZATION_EPSILON)


@gin.configurable
def keep(
  advantages: tf.Tensor,
  log_weights: tf.Tensor,
  batch: reductions.Batch = reductions.WHOLE,
) -> tf.Tensor:
  """Advantages as they are: beta is then in units of return."""
  return advantages


@gin.configurable
def exp_weights(
  advantages: tf.Tensor,
  log_weights: tf.Tensor,
  batch: reductions.Batch = reductions.WHOLE,
  beta: float = 1.0,
  normalize_fn: WeightFn = standardize,
) -> tf.Tensor:
  """exp(A / beta), with A normalised first.

  Args:
    advantages: Q(s, a_j) - V(s), float [n, B].
    log_weights: of the actions, float, broadcasts to [n, B].
    batch: the states that count, [B].
    beta: divides the advantages; larger imitates the sampling policy more.
    normalize_fn: `standardize` or `keep`.

  Returns:
    Regression weights, float [n, B]. They may overflow to infinity; the agent
    clips them.
  """
  return tf.exp(normalize_fn(advantages, log_weights, batch) / beta)


@gin.configurable
def softmax_weights(
  advantages: tf.Tensor,
  log_weights: tf.Tensor,
  batch: reductions.Batch = reductions.WHOLE,
  beta: float = 1.0,
) -> tf.Tensor:
  """exp(A / beta), divided by its mean over the batch (AWAC's code).

  Cannot overflow, and the mean weight of the batch is one. Equals
  B softmax(A / beta) where every state has one action. Arguments as in
  `exp_weights`.
  """
  log_weights += tf.zeros_like(advantages)  # [n, B]
  if batch.mask is not None:
    log_weights += tf.math.log(batch.mask)  # -inf leaves a state out.
  total, count = (
    batch.log_sum_exp(tf.reduce_logsumexp(x))
    for x in (advantages / beta + log_weights, log_weights)
  )
  weights = tf.exp(advantages / beta - total + count)
  # Both sums are empty where every state is left out.
  return tf.where(log_weights > -float('inf'), weights, 0.0)


@gin.configurable
def binary_weights(
  advantages: tf.Tensor,
  log_weights: tf.Tensor,
  batch: reductions.Batch = reductions.WHOLE,
) -> tf.Tensor:
  """1 where the advantage is positive, else 0 (CRR, binary)."""
  return tf.cast(advantages > 0, advantages.dtype)


@gin.configurable
def uniform_weights(
  advantages: tf.Tensor,
  log_weights: tf.Tensor,
  batch: reductions.Batch = reductions.WHOLE,
) -> tf.Tensor:
  """Weight one for every action: behavioural cloning."""
  return tf.ones_like(advantages)


def weight_metrics(
  advantages: tf.Tensor,
  weights: tf.Tensor,
  log_weights: tf.Tensor,
  batch: reductions.Batch,
  max_weight: float,
) -> dict[str, tf.Tensor]:
  """Scalars of line 20 by name.

  Args:
    advantages: before normalisation, [n, B].
    weights: after the clip, [n, B].
    log_weights: of the actions, broadcasts to [n, B].
    batch: the states that count, [B].
    max_weight: the clip.

  Returns:
    Means over states, actions weighted by log_weights: `weight_mean`,
    `weight_clipped` (the share at the clip) and `q_scale` (mean absolute
    advantage: how far the critic tells actions apart); and `weight_max`.
  """

  def mean(values):
    return batch.mean(backups.mean_backup(values, log_weights))

  # Weights are not negative, so 0 stands for a state that does not count.
  counted = weights if batch.mask is None else batch.mask * weights
  return {
    'weight_mean': mean(weights),
    'weight_max': batch.maximum(tf.reduce_max(counted)),
    'weight_clipped': mean(tf.cast(weights >= max_weight, tf.float32)),
    'q_scale': mean(tf.abs(advantages)),
  }
