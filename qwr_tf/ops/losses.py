"""The two regressions of Algorithm 2 (lines 14 and 21)."""

from typing import Optional

import tensorflow as tf


def masked_mean(
  values: tf.Tensor, mask: Optional[tf.Tensor] = None
) -> tf.Tensor:
  """Mean of values [B] over the entries where mask [B] is 1."""
  if mask is None:
    return tf.reduce_mean(values)
  return tf.math.divide_no_nan(
    tf.reduce_sum(mask * values), tf.reduce_sum(mask)
  )


def squared_errors(predictions: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
  """(prediction - target)^2 without the half, both of one shape."""
  predictions.shape.assert_is_compatible_with(targets.shape)
  return tf.math.squared_difference(predictions, targets)


def weighted_log_likelihood_losses(
  log_probs: tf.Tensor, weights: tf.Tensor, log_weights: tf.Tensor
) -> tf.Tensor:
  """- sum_j w_j f(A_j) log pi(a_j | s), line 21 with the sample mean.

  Args:
    log_probs: log pi(a_j | s), float [n, B].
    weights: f(A_j), float [n, B].
    log_weights: of the actions in the action set, broadcasts to [n, B].

  Returns:
    One loss per state, float [B].
  """
  log_probs.shape.assert_is_compatible_with(weights.shape)
  return -tf.reduce_sum(tf.exp(log_weights) * weights * log_probs, axis=0)
