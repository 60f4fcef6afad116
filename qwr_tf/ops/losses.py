"""The regression of the actor (Algorithm 2, line 21)."""

import tensorflow as tf


def weighted_log_likelihood_losses(
  log_probs: tf.Tensor, weights: tf.Tensor, log_weights: tf.Tensor
) -> tf.Tensor:
  """- sum_j w_j f(A_j) log pi(a_j | s), line 21 with the sample mean.

  Args:
    log_probs: log pi(a_j | s), float [n, B].
    weights: f(A_j), float [n, B].
    log_weights: of the actions, log w_j, broadcasts to [n, B].

  Returns:
    One loss per state, float [B].
  """
  log_probs.shape.assert_is_compatible_with(weights.shape)
  return -tf.reduce_sum(tf.exp(log_weights) * weights * log_probs, axis=0)
