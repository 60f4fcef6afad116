"""Means and sums over the states of a minibatch.

Where replicas of `tf.distribute` hold shares of a minibatch, the mean over the
whole of it needs numbers of all of them. The functions of `ops` take a `Batch`
and never ask which replica they run in.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf


class Batch(NamedTuple):
  """The states of a minibatch that count, and how replicas add up.

  The defaults are those of one device and a minibatch that counts as a whole.

  Attributes:
    mask: nonzero for the states that count, [...]; None counts all.
    sum_fn: a nest of tensors -> their sums over all replicas.
    gather_fn: a scalar -> the scalars of all R replicas, [R].
    num_replicas: R.
  """

  mask: tf.Tensor | None = None
  sum_fn: Callable[[Any], Any] = lambda values: values
  gather_fn: Callable[[tf.Tensor], tf.Tensor] = lambda value: value[tf.newaxis]
  num_replicas: int = 1

  def mean(self, values: tf.Tensor) -> tf.Tensor:
    """Mean over the states that count, float [...] -> scalar; 0 if none do."""
    if self.mask is None:
      means = self.sum_fn(tf.reduce_mean(values))
      return means / self.num_replicas if self.num_replicas > 1 else means
    counts = tf.cast(self.mask, tf.bool)
    total, count = self.sum_fn(
      (
        tf.reduce_sum(tf.where(counts, values, 0.0)),
        tf.reduce_sum(tf.cast(counts, values.dtype)),
      )
    )
    return tf.math.divide_no_nan(total, count)

  def maximum(self, value: tf.Tensor) -> tf.Tensor:
    """Largest of the replicas' scalars."""
    return tf.reduce_max(self.gather_fn(value))

  def log_sum_exp(self, value: tf.Tensor) -> tf.Tensor:
    """Log-sum-exp of the replicas' scalars."""
    return tf.reduce_logsumexp(self.gather_fn(value))


# One device, every state counts.
WHOLE = Batch()


def masked_mean(
  values: tf.Tensor,
  mask: tf.Tensor | None = None,
  weights: tf.Tensor | None = None,
) -> tf.Tensor:
  """Mean of weights * values over the entries whose mask is 1, on one replica.

  Args:
    values: float [B].
    mask: 1 for the entries that count, float [B]; None counts all.
    weights: float [B] or scalar; they scale the mean and do not average out.

  Returns:
    Float scalar, 0 where nothing counts.
  """
  if weights is not None:
    values *= weights
  if mask is None:
    return tf.reduce_mean(values)
  return tf.math.divide_no_nan(
    tf.reduce_sum(mask * values), tf.reduce_sum(mask)
  )
