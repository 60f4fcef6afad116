"""The two regressions of Algorithm 2 (lines 14 and 21)."""

import tensorflow as tf


def masked_mean(
  values: tf.Tensor,
  mask: tf.Tensor | None = None,
  weights: tf.Tensor | None = None,
) -> tf.Tensor:
  """Mean of weights * values over the entries where the mask is 1.

  Args:
    values: float [B].
    mask: 1 for the entries that count, float [B]; None counts all.
    weights: float [B] or scalar; they scale the mean and do not average out.
  """
  if weights is not None:
    values *= weights
  if mask is None:
    return tf.reduce_mean(values)
  return tf.math.divide_no_nan(
    tf.reduce_sum(mask * values), tf.reduce_sum(mask)
  )


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
