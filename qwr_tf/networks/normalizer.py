"""Running mean and standard deviation of observations, shared by networks."""

import gin
import numpy as np
import tensorflow as tf
from tf_agents.typing import types

_EPSILON = 1e-5  # Added to every deviation, as in the authors' code.

# A deviation up to these, relative to the mean or absolute, is rounding.
_ROUNDING = 4 * np.finfo(np.float32).eps
_ABSOLUTE_ROUNDING = 1e-10


@gin.configurable
class ObservationNormalizer(tf.Module):
  """Whitens observations: (s - mean) / (deviation + 1e-5), then clips.

  A departure from the QWR paper's text, taken from its code and from AWR. The
  statistics are the identity until the first update, no gradient reaches them,
  and they are summed up in float64.

  A feature without spread, up to rounding, gets a deviation of 1: divided by
  what rounding left, its first change would be 1e5 deviations.
  """

  def __init__(
    self,
    observation_spec: types.TensorSpec,
    *,
    min_deviation: float | None = None,
    clip_value: float | None = 10.0,
    freeze_after_env_steps: int | None = 300_000,
    name: str = 'ObservationNormalizer',
  ):
    """Creates the statistics.

    Args:
      observation_spec: a single float spec.
      min_deviation: floor of every deviation (AWR: 0.01), instead of a
        deviation of 1 for features without spread.
      clip_value: bound of a normalised observation's magnitude, in deviations;
        None clips nothing.
      freeze_after_env_steps: observations after which `update` does nothing,
        final ones of episodes included where the replay buffer holds them.
        None never freezes.
      name: of the module.

    Raises:
      ValueError: for observations that are not floats, or a clip_value that is
        not positive.
    """
    super().__init__(name=name)
    if not observation_spec.dtype.is_floating:
      raise ValueError(
        'ObservationNormalizer is for float observations, not '
        f'{observation_spec.dtype.name}; set make_agent.normalizer = None '
        '(torsos for images scale them).'
      )
    if clip_value is not None and clip_value <= 0:
      raise ValueError(f'clip_value must be positive, not {clip_value}.')
    shape = observation_spec.shape
    self.clip_value = clip_value
    self._min_deviation = min_deviation
    self._freeze_after = freeze_after_env_steps

    def variable(value, name):
      return tf.Variable(value, trainable=False, name=name)

    self._count = variable(tf.zeros([], tf.int64), 'count')
    self._exact_mean = variable(tf.zeros(shape, tf.float64), 'exact_mean')
    self._sum_of_squares = variable(tf.zeros(shape, tf.float64), 'squares')
    # What the networks read.
    self._mean = variable(tf.zeros(shape, tf.float32), 'mean')
    self._inverse_deviation = variable(tf.ones(shape, tf.float32), 'inverse')

  @property
  def parameters(self) -> tuple[tf.Tensor, tf.Tensor]:
    """(mean, 1 / (deviation + 1e-5)), float32, an observation's shape."""
    return self._mean.value(), self._inverse_deviation.value()

  def __call__(self, observation: tf.Tensor) -> tf.Tensor:
    """Normalises float32 [..., *observation shape]."""
    # Close to the mean a float32 difference is exact.
    normalized = (observation - self._mean) * self._inverse_deviation
    if self.clip_value is None:
      return normalized
    return tf.clip_by_value(normalized, -self.clip_value, self.clip_value)

  @tf.function(reduce_retracing=True)
  def update(self, observations: tf.Tensor) -> None:
    """Adds observations [N, ...] to the statistics (Chan et al. 1979)."""
    added = tf.shape(observations, out_type=tf.int64)[0]
    frozen = self._freeze_after is not None and (
      self._count >= self._freeze_after
    )
    if not tf.logical_or(frozen, tf.equal(added, 0)):
      self._merge(observations, added)

  @tf.function(reduce_retracing=True)
  def fit(self, observations: tf.Tensor) -> None:
    """Adds observations [N, ...] of a data set, N > 0, frozen or not."""
    self._merge(observations, tf.shape(observations, out_type=tf.int64)[0])

  def constant_features(self) -> np.ndarray:
    """Flat indices, int [n], of the features without spread so far."""
    count = max(int(self._count), 1)
    deviation = np.sqrt(self._sum_of_squares.numpy() / count)
    return np.flatnonzero(deviation <= _rounding(self._exact_mean.numpy()))

  def _merge(self, observations: tf.Tensor, added: tf.Tensor) -> None:
    count, new = tf.cast(self._count, tf.float64), tf.cast(added, tf.float64)
    total = count + new
    new_mean, new_variance = tf.nn.moments(
      tf.cast(observations, tf.float64), axes=[0]
    )
    shift = new_mean - self._exact_mean
    self._exact_mean.assign_add(shift * new / total)
    self._sum_of_squares.assign_add(
      new_variance * new + shift**2 * count * new / total
    )
    self._count.assign_add(added)
    self._mean.assign(tf.cast(self._exact_mean, tf.float32))
    deviation = self._floored(tf.sqrt(self._sum_of_squares / total))
    self._inverse_deviation.assign(
      tf.cast(1.0 / (deviation + _EPSILON), tf.float32)
    )

  def _floored(self, deviation: tf.Tensor) -> tf.Tensor:
    if self._min_deviation is not None:
      return tf.maximum(deviation, tf.cast(self._min_deviation, tf.float64))
    rounding = _rounding(self._exact_mean)
    # Around 1e9 the rounding itself is more than 1.
    instead = tf.maximum(rounding, tf.ones([], tf.float64))
    return tf.where(deviation > rounding, deviation, instead)


def _rounding(mean):
  """The largest deviation that may be rounding alone."""
  return abs(mean) * _ROUNDING + _ABSOLUTE_ROUNDING
