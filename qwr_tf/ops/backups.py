"""Backup operators F (QWR paper, Eq. 6; Algorithm 2, line 13).

A backup takes the Q-values of n actions per state and returns one state value.
The actions have log-weights whose exponentials sum to one over the n actions:
log(1/n) for n samples, log mu(a|s) when all discrete actions are enumerated.
Enumeration is the limit n -> infinity of sampling. For log-sum-exp with a scale
per state it differs much from a few samples: as mu becomes deterministic the
scale goes to 0, and log-sum-exp becomes the maximum over all actions, also over
those with mu(a|s) near 0, which a few samples hardly ever contain.
"""

from collections.abc import Callable

import gin
import tensorflow as tf

from qwr_tf.config.ranges import PositiveFloat
from qwr_tf.ops import regression

# Keeps the scale of constant Q-values positive (the authors' code).
SCALE_EPSILON = 1e-5


# F: (q_values [n, ...], log_weights [n, ...], batch) -> values [...].
Backup = Callable[[tf.Tensor, tf.Tensor, regression.Batch], tf.Tensor]


@gin.configurable
def mean_backup(
  q_values: tf.Tensor,
  log_weights: tf.Tensor,
  batch: regression.Batch = regression.WHOLE,
) -> tf.Tensor:
  """F_AVG: the expectation of Q under the sampling policy.

  Args:
    q_values: Q(s, a_l), float [n, ...].
    log_weights: of the actions, float, broadcasts to q_values.
    batch: not used; every backup has the same signature.

  Returns:
    State values, float [...].
  """
  return tf.reduce_sum(tf.exp(log_weights) * q_values, axis=0)


@gin.configurable
def max_backup(
  q_values: tf.Tensor,
  log_weights: tf.Tensor,
  batch: regression.Batch = regression.WHOLE,
) -> tf.Tensor:
  """F_MAX: the best of the n actions. Arguments as in `mean_backup`."""
  return tf.reduce_max(q_values, axis=0)


@gin.configurable
def mean_absolute_deviation(
  q_values: tf.Tensor,
  log_weights: tf.Tensor,
  batch: regression.Batch = regression.WHOLE,
  per_state: bool = True,
) -> tf.Tensor:
  """Mean absolute deviation of Q around its mean, + 1e-5.

  Args:
    q_values: float [n, ...].
    log_weights: float, broadcasts to q_values.
    batch: the states that count (positions of a window inside the episode),
      [...]. Only used when per_state is False.
    per_state: one scale per state (the paper's notation), or one for the whole
      minibatch (the authors' code), which includes the spread across states
      and so brings log-sum-exp nearer to the mean.

  Returns:
    The scale, float [...] or scalar.
  """
  center = _mean(q_values, log_weights, batch, per_state)
  deviation = tf.abs(q_values - center)
  return _mean(deviation, log_weights, batch, per_state) + SCALE_EPSILON


@gin.configurable
def standard_deviation(
  q_values: tf.Tensor,
  log_weights: tf.Tensor,
  batch: regression.Batch = regression.WHOLE,
  per_state: bool = True,
) -> tf.Tensor:
  """Standard deviation of Q, + 1e-5. As in `mean_absolute_deviation`."""
  center = _mean(q_values, log_weights, batch, per_state)
  variance = _mean((q_values - center) ** 2, log_weights, batch, per_state)
  return tf.sqrt(variance) + SCALE_EPSILON


def _mean(values, log_weights, batch, per_state: bool) -> tf.Tensor:
  """Mean over the actions, and over the states too unless per_state."""
  state_means = tf.reduce_sum(tf.exp(log_weights) * values, axis=0)  # [...]
  return state_means if per_state else batch.mean(state_means)


@gin.configurable
def unit_scale(
  q_values: tf.Tensor,
  log_weights: tf.Tensor,
  batch: regression.Batch = regression.WHOLE,
) -> tf.Tensor:
  """No scale: the temperature is in units of return (the ICLR text)."""
  return tf.ones([], q_values.dtype)


@gin.configurable
def log_sum_exp_backup(
  q_values: tf.Tensor,
  log_weights: tf.Tensor,
  batch: regression.Batch = regression.WHOLE,
  backup_temperature: PositiveFloat = 0.3,
  scale_fn: Backup = mean_absolute_deviation,
) -> tf.Tensor:
  """F_LSE: tau s log sum_l w_l exp(Q(s, a_l) / (tau s)).

  Between the mean (tau -> infinity) and the maximum (tau -> 0).

  Args:
    q_values: float [n, ...].
    log_weights: float, broadcasts to q_values.
    batch: handed to scale_fn.
    backup_temperature: tau; larger is less optimistic.
    scale_fn: (q_values, log_weights, batch) -> s, which makes tau independent
      of the size of the rewards.

  Returns:
    State values, float [...].
  """
  scale = scale_fn(q_values, log_weights, batch)
  # A constant: the gradient of F then says how much each action counts.
  temperature = tf.stop_gradient(backup_temperature * scale)
  return temperature * tf.reduce_logsumexp(
    log_weights + q_values / temperature, axis=0
  )
