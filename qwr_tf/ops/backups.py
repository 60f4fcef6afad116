"""Backup operators F (QWR paper, Eq. 6; Algorithm 2, line 13).

Each takes the Q-values of n actions per state and turns them into one state
value. The actions come with log-weights that sum to one in probability over
the sample axis: log(1/n) for n samples, log mu(a|s) when all discrete actions
are enumerated. Enumerating is then the limit of sampling for the mean and for
log-sum-exp: samples without end. Where log-sum-exp has a scale per state, that
limit is not what a few samples say. As mu comes near one action the scale of
the state vanishes, and log-sum-exp becomes the maximum over all actions, those
that mu never takes among them; k samples hardly ever hold one. A scale of the
minibatch does not vanish.
"""

from collections.abc import Callable

import gin
import tensorflow as tf

from qwr_tf.ops import cross_replica

ScaleFn = Callable[
  [tf.Tensor, tf.Tensor, tf.Tensor | None],
  tf.Tensor,
]

# Keeps the scale of constant Q-values positive (the authors' code).
SCALE_EPSILON = 1e-5


@gin.configurable
def mean_backup(
  q_values: tf.Tensor,
  log_weights: tf.Tensor,
  mask: tf.Tensor | None = None,
) -> tf.Tensor:
  """F_AVG: the expectation of Q under the sampling policy.

  Args:
    q_values: Q(s, a_l), float [n, ...].
    log_weights: of the actions, float, broadcasts to q_values.
    mask: not used; every backup has the same signature.

  Returns:
    State values, float [...].
  """
  del mask
  return tf.reduce_sum(tf.exp(log_weights) * q_values, axis=0)


@gin.configurable
def max_backup(
  q_values: tf.Tensor,
  log_weights: tf.Tensor,
  mask: tf.Tensor | None = None,
) -> tf.Tensor:
  """F_MAX: the best of the n actions. Arguments as in `mean_backup`."""
  del log_weights, mask
  return tf.reduce_max(q_values, axis=0)


def _mean(
  values: tf.Tensor,
  log_weights: tf.Tensor,
  mask: tf.Tensor | None,
  per_state: bool,
) -> tf.Tensor:
  """Mean over the actions, and over the unmasked states unless per_state."""
  state_means = tf.reduce_sum(tf.exp(log_weights) * values, axis=0)  # [...]
  if per_state:
    return state_means
  return cross_replica.masked_mean(state_means, mask)


@gin.configurable
def mean_absolute_deviation(
  q_values: tf.Tensor,
  log_weights: tf.Tensor,
  mask: tf.Tensor | None = None,
  per_state: bool = True,
) -> tf.Tensor:
  """Mean absolute deviation of Q around its mean, + 1e-5.

  Args:
    q_values: float [n, ...].
    log_weights: float, broadcasts to q_values.
    mask: bool [...], the states that count (positions of a window inside the
      episode); None counts all. Only used when per_state is False.
    per_state: one scale per state (the paper's notation), or one for the whole
      minibatch (the authors' code), which sees the spread across states too
      and so brings log-sum-exp nearer to the mean.

  Returns:
    The scale, float [...] or scalar.
  """
  center = _mean(q_values, log_weights, mask, per_state)
  deviation = tf.abs(q_values - center)
  return _mean(deviation, log_weights, mask, per_state) + SCALE_EPSILON


@gin.configurable
def standard_deviation(
  q_values: tf.Tensor,
  log_weights: tf.Tensor,
  mask: tf.Tensor | None = None,
  per_state: bool = True,
) -> tf.Tensor:
  """Standard deviation of Q, + 1e-5. As in `mean_absolute_deviation`."""
  center = _mean(q_values, log_weights, mask, per_state)
  variance = _mean((q_values - center) ** 2, log_weights, mask, per_state)
  return tf.sqrt(variance) + SCALE_EPSILON


@gin.configurable
def unit_scale(
  q_values: tf.Tensor,
  log_weights: tf.Tensor,
  mask: tf.Tensor | None = None,
) -> tf.Tensor:
  """No scale: the temperature is in units of return (the ICLR text)."""
  del log_weights, mask
  return tf.ones([], q_values.dtype)


@gin.configurable
def log_sum_exp_backup(
  q_values: tf.Tensor,
  log_weights: tf.Tensor,
  mask: tf.Tensor | None = None,
  backup_temperature: float = 0.3,
  scale_fn: ScaleFn = mean_absolute_deviation,
) -> tf.Tensor:
  """F_LSE: tau s log sum_l w_l exp(Q(s, a_l) / (tau s)).

  Between the mean (tau -> infinity) and the maximum (tau -> 0).

  Args:
    q_values: float [n, ...].
    log_weights: float, broadcasts to q_values.
    mask: bool [...], handed to scale_fn.
    backup_temperature: tau; more of it is less optimistic.
    scale_fn: (q_values, log_weights, mask) -> s, what makes tau independent of
      the size of the rewards.

  Returns:
    State values, float [...].
  """
  scale = scale_fn(q_values, log_weights, mask)
  # A constant: the gradient of F then says how much each action counts.
  temperature = tf.stop_gradient(backup_temperature * scale)
  return temperature * tf.reduce_logsumexp(
    log_weights + q_values / temperature, axis=0
  )
