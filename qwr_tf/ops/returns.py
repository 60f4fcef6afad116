"""Returns over a window of time steps (Algorithm 2, line 13)."""

import tensorflow as tf


def lambda_returns(
  rewards: tf.Tensor,
  discounts: tf.Tensor,
  next_values: tf.Tensor,
  is_last: tf.Tensor,
  td_lambda: float,
) -> tf.Tensor:
  """Truncated lambda-returns that stop at episode ends.

  G_j = r_j + discount_j [(1 - lambda) V_{j+1} + lambda G_{j+1}], where
  G_{j+1} is V_{j+1} at the end of the window and where the episode ends after
  step j. The weights of the n-step returns sum to one: Eq. 13 of the paper,
  read literally, sums to 1 - lambda^T. T = 1 is the one-step target, lambda =
  1 the n-step one.

  Args:
    rewards: r_j, float [B, T].
    discounts: gamma (1 - d_j), float [B, T]; zero where step j is terminal, so
      that nothing is bootstrapped there. A time limit keeps its discount.
    next_values: V_{j+1}, float [B, T].
    is_last: bool [B, T], True where the episode ends after step j, whether by
      termination or by a time limit.
    td_lambda: lambda in [0, 1].

  Returns:
    G, float [B, T].
  """
  horizon = rewards.shape[1]
  if horizon is None:
    raise ValueError('lambda_returns needs a static window length [B, T].')
  returns = [next_values[:, -1]]
  for j in reversed(range(horizon)):
    value = next_values[:, j]
    following = tf.where(is_last[:, j], value, returns[0])
    blend = (1.0 - td_lambda) * value + td_lambda * following
    returns.insert(0, rewards[:, j] + discounts[:, j] * blend)
  return tf.stack(returns[:-1], axis=1)
