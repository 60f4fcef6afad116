"""The actor's regression (lines 20-21), and means over minibatches.

A weight function takes (advantages [n, B], log_weights [n, B], batch) and
returns weights [n, B].

`Batch` has the mask of a minibatch and the reductions across replicas of
`tf.distribute`, so that these functions need not know about replicas.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import gin
import tensorflow as tf

from qwr_tf.config.ranges import PositiveFloat


class Batch(NamedTuple):
  """The mask of a minibatch, and reductions across replicas.

  The defaults are one device and no mask.

  Attributes:
    mask: 1 for the states that count, 0 for the others, float [...]; None
      counts all.
    num_replicas: R, replicas with an equal share of the minibatch each.
    sum: a nest of tensors -> their sums over all replicas.
    gather: a scalar -> the scalars of all replicas, [R].
  """

  mask: tf.Tensor | None = None
  num_replicas: int = 1
  sum: Callable[[Any], Any] = lambda values: values
  gather: Callable[[tf.Tensor], tf.Tensor] = lambda value: value[tf.newaxis]

  def mean(
    self, values: tf.Tensor, weights: tf.Tensor | None = None
  ) -> tf.Tensor:
    """Mean over the states that count, float [...] -> scalar; 0 if none do.

    Weights, a scalar or like the values, multiply the values; the mean is not
    divided by their sum.
    """
    if weights is not None:
      values *= weights
    if self.mask is None:
      return self.sum(tf.reduce_mean(values) / self.num_replicas)
    counts = tf.cast(self.mask, tf.bool)
    total = tf.reduce_sum(tf.where(counts, values, 0.0))
    count = tf.reduce_sum(tf.cast(counts, values.dtype))
    if self.num_replicas > 1:
      total, count = self.sum((total, count))
    return tf.math.divide_no_nan(total, count)


# One device, every state counts.
WHOLE = Batch()


class ActionSet(NamedTuple):
  """n actions per state and their weights.

  Attributes:
    actions: [n, ..., *action shape]; [n, 1, ...] are the same n actions for
      all states.
    log_weights: float, [n, ...] or broadcasting to it.
  """

  actions: tf.Tensor
  log_weights: tf.Tensor


NORMALIZATION_EPSILON = 1e-5


# (advantages [n, B], log_weights [n, B], batch) -> float [n, B].
WeightFn = Callable[[tf.Tensor, tf.Tensor, Batch], tf.Tensor]


@gin.configurable
def standardize(
  advantages: tf.Tensor,
  log_weights: tf.Tensor,
  batch: Batch = WHOLE,
  min_deviation: float = 0.0,
) -> tf.Tensor:
  """Zero weighted mean and unit deviation, over the states that count.

  Args:
    advantages: float [n, B].
    log_weights: of the actions, broadcasts to [n, B]; the weights of a state's
      actions sum to 1.
    batch: the states that count, [B].
    min_deviation: smallest divisor, in units of return; without it an early
      critic's small, noisy advantages weigh as much as large ones.

  Returns:
    (A - mean) / (max(std, min_deviation) + 1e-5), float [n, B].
  """
  weights = tf.exp(log_weights) * tf.ones_like(advantages)
  if batch.mask is not None:
    weights *= batch.mask
  total, weighted = batch.sum(
    (tf.reduce_sum(weights), tf.reduce_sum(weights * advantages))
  )
  centered = advantages - tf.math.divide_no_nan(weighted, total)
  squares = batch.sum(tf.reduce_sum(weights * centered**2))
  variance = tf.math.divide_no_nan(squares, total)
  deviation = tf.sqrt(variance)
  if min_deviation:
    deviation = tf.maximum(deviation, min_deviation)
  return centered / (deviation + NORMALIZATION_EPSILON)


@gin.configurable
def keep(
  advantages: tf.Tensor,
  log_weights: tf.Tensor,
  batch: Batch = WHOLE,
) -> tf.Tensor:
  """Advantages as they are: beta is then in units of return."""
  return advantages


@gin.configurable
def exp_weights(
  advantages: tf.Tensor,
  log_weights: tf.Tensor,
  batch: Batch = WHOLE,
  beta: PositiveFloat = 1.0,
  normalize_fn: WeightFn = standardize,
) -> tf.Tensor:
  """exp(A / beta), with A normalised first.

  Args:
    advantages: Q(s, a_j) - V(s), float [n, B].
    log_weights: of the actions, float, broadcasts to [n, B].
    batch: the states that count, [B].
    beta: divides the advantages; larger stays closer to mu.
    normalize_fn: `standardize` or `keep`.

  Returns:
    Regression weights, float [n, B]. They may overflow to infinity; the agent
    clips them.
  """
  return tf.exp(normalize_fn(advantages, log_weights, batch) / beta)


@gin.configurable
def state_softmax_weights(
  advantages: tf.Tensor,
  log_weights: tf.Tensor,
  batch: Batch = WHOLE,
  beta: PositiveFloat = 1.0,
  normalize_fn: WeightFn = standardize,
) -> tf.Tensor:
  """exp(A / beta), divided by its mean over the actions of each state.

  With all actions enumerated the actor is fitted to p exp(A / beta) / Z, where
  p are the probabilities of the set, and the weights of every state have mean 1
  (MPO, Abdolmaleki et al. 2018). `QwrAgent.max_weight` would clip them; with a
  uniform p it clips nothing if it is at least the number of actions. Arguments
  as in `exp_weights`.
  """
  scaled = normalize_fn(advantages, log_weights, batch) / beta
  mean = tf.reduce_logsumexp(scaled + log_weights, axis=0, keepdims=True)
  return tf.exp(scaled - mean)


@gin.configurable
def softmax_weights(
  advantages: tf.Tensor,
  log_weights: tf.Tensor,
  batch: Batch = WHOLE,
  beta: PositiveFloat = 1.0,
) -> tf.Tensor:
  """exp(A / beta), divided by its mean over the batch (AWAC's code).

  Cannot overflow, and the mean weight of the batch is one. Equals
  B softmax(A / beta) for B states of one action each. Arguments as in
  `exp_weights`.
  """
  log_weights += tf.zeros_like(advantages)  # [n, B]
  if batch.mask is not None:
    log_weights += tf.math.log(batch.mask)  # -inf leaves a state out.
  total, count = (
    tf.reduce_logsumexp(batch.gather(tf.reduce_logsumexp(x)))
    for x in (advantages / beta + log_weights, log_weights)
  )
  weights = tf.exp(advantages / beta - total + count)
  # Where every state is left out both logarithms are -inf, and their
  # difference is NaN.
  return tf.where(log_weights > -float('inf'), weights, 0.0)


@gin.configurable
def binary_weights(
  advantages: tf.Tensor,
  log_weights: tf.Tensor,
  batch: Batch = WHOLE,
) -> tf.Tensor:
  """1 where the advantage is positive, else 0 (CRR, binary)."""
  return tf.cast(advantages > 0, advantages.dtype)


@gin.configurable
def uniform_weights(
  advantages: tf.Tensor,
  log_weights: tf.Tensor,
  batch: Batch = WHOLE,
) -> tf.Tensor:
  """Weight one for every action: behavioural cloning."""
  return tf.ones_like(advantages)


def weight_metrics(
  advantages: tf.Tensor,
  weights: tf.Tensor,
  log_weights: tf.Tensor,
  batch: Batch,
  max_weight: float,
) -> dict[str, tf.Tensor]:
  """Metrics of the regression weights (line 20).

  Args:
    advantages: before normalisation, [n, B].
    weights: after the clip, [n, B].
    log_weights: of the actions, broadcasts to [n, B].
    batch: the states that count, [B].
    max_weight: the clip.

  Returns:
    Means over states, actions weighted by exp(log_weights): `weight_mean`,
    `weight_clipped` (the share at the clip) and `q_scale` (mean absolute
    advantage: how far the critic tells actions apart); and `weight_max`.
  """
  shares = tf.exp(log_weights)

  # Weights are not negative, so states at 0 cannot be the maximum.
  counted = weights if batch.mask is None else batch.mask * weights
  clipped = tf.cast(weights >= max_weight, tf.float32)
  means = {
    'weight_mean': weights,
    'weight_clipped': clipped,
    'q_scale': tf.abs(advantages),
  }
  return {
    'weight_max': tf.reduce_max(batch.gather(tf.reduce_max(counted))),
    **{
      name: batch.mean(tf.reduce_sum(shares * values, axis=0))
      for name, values in means.items()
    },
  }


def weighted_log_likelihood_losses(
  log_probs: tf.Tensor, weights: tf.Tensor, log_weights: tf.Tensor
) -> tf.Tensor:
  """- sum_j p_j w_j log pi(a_j | s), line 21; samples have p_j = 1/n.

  Args:
    log_probs: log pi(a_j | s), float [n, B].
    weights: w_j, float [n, B].
    log_weights: of the actions, log p_j, broadcasts to [n, B].

  Returns:
    One loss per state, float [B].
  """
  log_probs.shape.assert_is_compatible_with(weights.shape)
  return -tf.reduce_sum(tf.exp(log_weights) * weights * log_probs, axis=0)
