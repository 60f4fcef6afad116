"""Lambda-returns (line 13), over windows [B, T + 1] and over whole tables."""

from collections.abc import Callable

import tensorflow as tf


def discounted_sum(
  rewards: tf.Tensor, discounts: tf.Tensor, returns: tf.Tensor
) -> tf.Tensor:
  """The Bellman equation for numbers: r + discount G, all float [...]."""
  return rewards + discounts * returns


def lambda_returns(
  rewards: tf.Tensor,
  discounts: tf.Tensor,
  next_values: tf.Tensor,
  is_last: tf.Tensor,
  td_lambda: float,
  bellman: Callable = discounted_sum,
) -> tf.Tensor:
  """Truncated lambda-returns that stop at episode ends.

  G_j = r_j + discount_j [(1 - lambda) V_{j+1} + lambda G_{j+1}]. At the end of
  the window, and where the episode ends after step j, G_{j+1} = V_{j+1}. The
  weights of the n-step returns sum to one; those of the paper's Eq. 13 as
  printed sum to 1 - lambda^T. T = 1 is the one-step target, lambda = 1 the
  T-step one.

  Args:
    rewards: r_j, float [B, T].
    discounts: gamma (1 - d_j), float [B, T]; zero where step j is terminal, so
      that nothing is bootstrapped there. A time limit keeps its discount.
    next_values: V_{j+1}, float [B, T], or [B, T, ...] for a `bellman` that
      adds rewards to something else than numbers.
    is_last: bool [B, T], True where the episode ends after step j, whether by
      termination or by a time limit.
    td_lambda: lambda in [0, 1].
    bellman: (r [B], discount [B], G [B, ...]) -> r + discount G.

  Returns:
    G, float [B, T], or as next_values.
  """
  horizon = rewards.shape[1]
  if horizon is None:
    raise ValueError('lambda_returns needs a static window length [B, T].')
  if not tf.TensorShape(rewards.shape).is_compatible_with(
    next_values.shape[:2]
  ):
    raise ValueError(
      f'The backup returns values {next_values.shape} for states '
      f'{rewards.shape}: it has to combine the first axis of [n, B, T] alone.'
    )
  returns = [next_values[:, -1]]
  for j in reversed(range(horizon)):
    value = next_values[:, j]
    ends = tf.reshape(is_last[:, j], [-1] + [1] * (value.shape.rank - 1))
    following = tf.where(ends, value, returns[0])
    blend = (1.0 - td_lambda) * value + td_lambda * following
    returns.insert(0, bellman(rewards[:, j], discounts[:, j], blend))
  return tf.stack(returns[:-1], axis=1)


def episode_lambda_returns(
  rewards: tf.Tensor,
  discounts: tf.Tensor,
  next_values: tf.Tensor,
  is_last: tf.Tensor,
  td_lambda: float,
) -> tf.Tensor:
  """Lambda-returns up to the end of each episode, over rows in time order.

  The recursion of `lambda_returns` with no horizon, by prefix doubling: G_j is
  an affine map of G_{j+1}, and after k rounds the map of every row covers 2^k
  rows. 50,000 rows take 16 rounds instead of 50,000 steps.

  Args:
    rewards: r_j, float [N].
    discounts: gamma (1 - d_j), float [N].
    next_values: V_{j+1}, float [N]; the last is the value after the newest row.
    is_last: bool [N], True where the episode ends after row j.
    td_lambda: lambda in [0, 1].

  Returns:
    G, float [N].
  """
  size = tf.shape(rewards)[0]
  rows = tf.range(size)
  ends = is_last | tf.equal(rows, size - 1)
  # G_j = offset_j + slope_j G_{j+1}.
  slopes = tf.where(ends, 0.0, discounts * td_lambda)
  shares = tf.where(ends, 1.0, 1.0 - td_lambda)
  offsets = rewards + discounts * shares * next_values
  span = tf.constant(1)
  while span < size:
    inside = rows + span < size
    later_offsets = tf.where(inside, tf.roll(offsets, -span, 0), 0.0)
    later_slopes = tf.where(inside, tf.roll(slopes, -span, 0), 0.0)
    offsets += slopes * later_offsets
    slopes *= later_slopes
    span *= 2
  return offsets
