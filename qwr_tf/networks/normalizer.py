"""Running mean and deviation of observations, shared by actor and critic."""

import gin
import tensorflow as tf
from tf_agents.typing import types


@gin.configurable
class ObservationNormalizer(tf.Module):
  """Whitens observations with the statistics of the collected steps.

  A deviation from the QWR paper's text, taken from its code and from AWR:
  (s - mean) / (std + 1e-5). The statistics are the identity until the first
  `update`. They are variables that no gradient reaches.
  """

  def __init__(
    self,
    observation_spec: types.TensorSpec,
    *,
    min_deviation: float = 0.0,
    clip_value: float | None = None,
    freeze_after_env_steps: int | None = 300_000,
    name: str = 'ObservationNormalizer',
  ):
    """Creates the statistics.

    Args:
      observation_spec: a single float spec.
      min_deviation: floor of the deviation (AWR: 0.01).
      clip_value: bound of a normalised observation's magnitude; None has none.
        What stood still so far has no deviation, and its first move would be
        1e5 of them (Humanoid).
      freeze_after_env_steps: observations after which `update` does nothing,
        counted as they come: with an episode's last one where the table keeps
        it. None never freezes.
      name: of the module.

    Raises:
      ValueError: for observations that are not float vectors, or a clip_value
        that is not positive.
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
    self._mean = variable(tf.zeros(shape, tf.float32), 'mean')
    self._sum_of_squares = variable(tf.zeros(shape, tf.float32), 'squares')
    self._inverse_deviation = variable(tf.ones(shape, tf.float32), 'inverse')

  @property
  def parameters(self) -> tuple[tf.Tensor, tf.Tensor]:
    """(mean, 1 / deviation): what normalising takes before the clip."""
    return self._mean.value(), self._inverse_deviation.value()

  def __call__(self, observation: tf.Tensor) -> tf.Tensor:
    """Normalises [..., *observation shape]."""
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

  def _merge(self, observations: tf.Tensor, added: tf.Tensor) -> None:
    count, new = tf.cast(self._count, tf.float32), tf.cast(added, tf.float32)
    total = count + new
    new_mean, new_variance = tf.nn.moments(observations, axes=[0])
    shift = new_mean - self._mean
    self._mean.assign_add(shift * new / total)
    self._sum_of_squares.assign_add(
      new_variance * new + shift**2 * count * new / total
    )
    self._count.assign_add(added)
    deviation = tf.sqrt(self._sum_of_squares / total)
    self._inverse_deviation.assign(
      1.0 / (tf.maximum(deviation, self._min_deviation) + 1e-5)
    )
