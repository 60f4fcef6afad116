"""Encoders of observations: a normaliser, then a torso."""

from collections.abc import Callable

import gin
import numpy as np
import tensorflow as tf
from absl import logging
from tf_agents.networks import utils as network_utils
from tf_agents.typing import types

from qwr_tf.networks import observations
from qwr_tf.networks import torsos

_EPSILON = 1e-5  # Added to every deviation, as in the authors' code.

# Deviations below |mean| * _ROUNDING + _ABSOLUTE_ROUNDING are rounding errors:
# the feature is constant.
_ROUNDING = 4 * np.finfo(np.float32).eps
_ABSOLUTE_ROUNDING = 1e-10

# By rank of an observation, how to fix the torso.
_FIXES = {
  1: 'set actors.ActorNetwork.torso_fn and GatedQNetwork.torso_fn to '
  '@mlp_torso, as qwr.gin does',
  3: 'images, of 36 x 36 pixels or more, need @dqn_2013_torso or '
  '@nature_torso as actors.ActorNetwork.torso_fn and GatedQNetwork.torso_fn, '
  'as in atari.gin',
}


@gin.configurable
class ObservationNormalizer(tf.Module):
  """Standardises observations: (s - mean) / (deviation + 1e-5), then clips.

  A departure from the QWR paper's text, taken from its code and from AWR. The
  statistics are the identity until the first update, no gradient reaches them,
  and they are summed up in float64.

  A constant feature gets a deviation of 1. Its true one, rounding error, would
  turn the first change into 1e5 deviations.
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
      observation_spec: a float spec, or a nest; of a nest the numbers are
        normalised, not images and categories.
      min_deviation: floor of all deviations (AWR: 0.01); None: constant
        features get 1.
      clip_value: bound of a normalised observation's magnitude, in deviations;
        None clips nothing.
      freeze_after_env_steps: `update` does nothing once it has seen this many
        observations (final ones of episodes too, where they are stored). The
        batch that passes the limit still counts. None: never.

    Raises:
      ValueError: for observations that are not floats, or a clip_value that is
        not positive.
    """
    super().__init__(name=name)
    is_nested = tf.nest.is_nested(observation_spec)
    if not is_nested and not observation_spec.dtype.is_floating:
      raise ValueError(
        'ObservationNormalizer is for float observations, not '
        f'{observation_spec.dtype.name}; set make_agent.normalizer = None '
        '(torsos for images scale them).'
      )
    if clip_value is not None and clip_value <= 0:
      raise ValueError(f'clip_value must be positive, not {clip_value}.')
    self._features = observations.Features(observation_spec)
    shape = [self._features.num_numbers]
    if not is_nested:
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
    """(mean, 1 / (deviation + 1e-5)), float32, as `Features.numbers`."""
    return self._mean.value(), self._inverse_deviation.value()

  def __call__(self, observation: tf.Tensor) -> tf.Tensor:
    """Normalises what `Features.numbers` returns, float32."""
    # Close to the mean a float32 difference is exact.
    normalized = (observation - self._mean) * self._inverse_deviation
    if self.clip_value is None:
      return normalized
    return tf.clip_by_value(normalized, -self.clip_value, self.clip_value)

  @tf.function(reduce_retracing=True)
  def update(self, observations: types.NestedTensor) -> None:
    """Adds observations [N, ...] to the statistics (Chan et al. 1979)."""
    numbers = self._features.numbers(observations, tf.float64)
    num_added = tf.shape(numbers, out_type=tf.int64)[0]
    frozen = self._freeze_after is not None and (
      self._count >= self._freeze_after
    )
    if not tf.logical_or(frozen, tf.equal(num_added, 0)):
      self._merge(numbers, num_added)

  @tf.function(reduce_retracing=True)
  def fit(self, observations: types.NestedTensor) -> None:
    """Adds a data set's observations [N > 0, ...], even after the freeze."""
    numbers = self._features.numbers(observations, tf.float64)
    self._merge(numbers, tf.shape(numbers, out_type=tf.int64)[0])

  def constant_features(self) -> np.ndarray:
    """Flat indices, int [n], of the features constant so far."""
    count = max(int(self._count), 1)
    deviation = np.sqrt(self._sum_of_squares.numpy() / count)
    return np.flatnonzero(deviation <= _rounding(self._exact_mean.numpy()))

  def warn_if_empty(self) -> None:
    """Logs a warning where nothing has been added to the statistics.

    In a function that TensorFlow traces it looks once, at the tracing.
    """
    with tf.init_scope():
      if tf.executing_eagerly() and self._count.numpy() == 0:
        logging.warning(
          'Observations are not normalised: the normaliser has seen none. Add '
          'qwr_tf.acting.observers.normalizer_observer(agent) to the observers '
          'of the driver that collects.'
        )

  def _merge(self, numbers: tf.Tensor, num_added: tf.Tensor) -> None:
    count = tf.cast(self._count, tf.float64)
    count_new = tf.cast(num_added, tf.float64)
    total = count + count_new
    new_mean, new_variance = tf.nn.moments(
      tf.cast(numbers, tf.float64), axes=[0]
    )
    shift = new_mean - self._exact_mean
    self._exact_mean.assign_add(shift * count_new / total)
    self._sum_of_squares.assign_add(
      new_variance * count_new + shift**2 * count * count_new / total
    )
    self._count.assign_add(num_added)
    self._mean.assign(tf.cast(self._exact_mean, tf.float32))
    deviation = self._floored(tf.sqrt(self._sum_of_squares / total))
    self._inverse_deviation.assign(
      tf.cast(1.0 / (deviation + _EPSILON), tf.float32)
    )

  def _floored(self, deviation: tf.Tensor) -> tf.Tensor:
    if self._min_deviation is not None:
      return tf.maximum(deviation, tf.cast(self._min_deviation, tf.float64))
    rounding = _rounding(self._exact_mean)
    # At means around 1e9 the rounding error is larger than 1.
    fallback = tf.maximum(rounding, tf.ones([], tf.float64))
    return tf.where(deviation > rounding, deviation, fallback)


def _rounding(mean):
  """The largest deviation that may be rounding error alone."""
  return abs(mean) * _ROUNDING + _ABSOLUTE_ROUNDING


class Encoder(tf.Module):
  """Observations [...] to features [..., d]: normaliser, then torsos.

  One torso is for a vector or for a single image. Where there are images beside
  other entries, each image has a torso of its own, and another one is over
  their features, the numbers and the categories together.
  """

  def __init__(
    self,
    observation_spec: types.NestedTensorSpec,
    torso_fn: torsos.TorsoFn,
    normalizer: Callable[[tf.Tensor], tf.Tensor] | None,
  ):
    """Creates the torsos; the normaliser is shared, not copied.

    Args:
      observation_spec: see `observations`.
      torso_fn: a convolutional torso encodes each image, and `mlp_torso` then
        joins the features of all entries. Any other torso joins them, and
        `image_torso` encodes each image.
      normalizer: of the numbers.

    Raises:
      ValueError: if the torso cannot take such observations, or expects uint8
        images and gets others.
    """
    super().__init__(name='Encoder')
    self._rank = tf.nest.flatten(observation_spec)[0].shape.rank
    self.observations = observations.Features(observation_spec)
    self.normalizer = normalizer
    self.torso = torso_fn()
    images = self.observations.images
    is_entry = tf.nest.is_nested(observation_spec)
    for image in images:
      _check_channels(image.shape, is_entry)
    is_image = len(images) == 1 and not self.observations.size
    is_convolution = torsos.is_convolution(self.torso)
    self._is_single = is_image and is_convolution
    shape = images[0].shape if self._is_single else [self.observations.size]
    if images and not self._is_single:
      if is_convolution:
        self.torso = torsos.mlp_torso()
      self.image_torsos = [
        torso_fn() if is_convolution else torsos.image_torso(image.shape)
        for image in images
      ]
      pairs = zip(self.image_torsos, images, strict=True)
      shape[0] += sum(_width(torso, image.shape) for torso, image in pairs)
    elif not images:
      _check_dtype(self.torso, observation_spec)
    self.width = _width(self.torso, tf.TensorShape(shape))

  def chain_to(
    self, head: tf.keras.layers.Layer
  ) -> list[tf.keras.layers.Layer] | None:
    """The layers up to a head, in order; None if there are several torsos."""
    if self.observations.images and not self._is_single:
      return None
    return [*self.torso.layers, head]

  def __call__(self, observation: types.NestedTensor) -> tf.Tensor:
    """Features of observations with any outer shape."""
    outer_rank = len(tf.nest.flatten(observation)[0].shape) - self._rank
    # Keras' layers want one batch axis.
    squash = network_utils.BatchSquash(outer_rank)
    inputs = tf.nest.map_structure(squash.flatten, observation)
    if self._is_single:
      (inputs,) = tf.nest.flatten(inputs)
    elif not self.observations.is_vector:
      inputs = self._joined(inputs)
    elif self.normalizer is not None:
      inputs = self.normalizer(inputs)
    return squash.unflatten(self.torso(inputs))

  def _joined(self, observation: types.NestedTensor) -> tf.Tensor:
    """Numbers, categories and features of images side by side, [B, d]."""
    parts = []
    if self.observations.size:
      parts.append(self.observations.vector(observation, self.normalizer))
    if self.observations.images:
      images = self.observations.image_entries(observation)
      pairs = zip(self.image_torsos, images, strict=True)
      parts += [torso(image) for torso, image in pairs]
    return parts[0] if len(parts) == 1 else tf.concat(parts, axis=-1)


def _check_dtype(
  torso: tf.keras.Sequential, spec: types.NestedTensorSpec
) -> None:
  """Raises ValueError if the torso divides by 255 but nothing is uint8."""
  scales = any(isinstance(x, tf.keras.layers.Rescaling) for x in torso.layers)
  dtypes = {s.dtype.name for s in tf.nest.flatten(spec)}
  if scales and 'uint8' not in dtypes:
    raise ValueError(
      'the torso takes images of uint8 in 0..255, not '
      f'{" and ".join(sorted(dtypes))}; make them so in the environment, for '
      'instance with gymnasium.wrappers.TransformObservation.'
    )


def _width(torso: tf.keras.Sequential, shape: tf.TensorShape) -> int:
  """Features per observation."""
  try:
    output_shape = _output_shape(torso, (1, *shape))
    if len(output_shape) == 2:
      return output_shape[-1]
    problem = f'makes {output_shape[1:]} of'
  except ValueError:  # Keras' message names its own layers; ours is clearer.
    problem = 'does not take'
  raise ValueError(
    f'the torso {problem} observations {tuple(shape)}; {_FIXES[shape.rank]}.'
  )


def _check_channels(shape: tf.TensorShape, is_entry: bool) -> None:
  if shape[0] < min(shape[1:]):
    fix = 'set load_environment.channels_first = True'
    if is_entry:
      fix = 'move them with gymnasium.wrappers.TransformObservation'
    raise ValueError(
      f'the torso does not take observations {tuple(shape)}; images need their '
      f'channels in the last axis; {fix}.'
    )


def _output_shape(torso: tf.keras.Sequential, shape: tuple) -> tuple:
  """Keras' output shape, but ValueError for ranks a layer cannot take."""
  for layer in torso.layers:
    if layer.input_spec and len(shape) < (layer.input_spec.min_ndim or 0):
      raise ValueError(f'{layer.name} takes no {shape}')
    shape = tuple(layer.compute_output_shape(shape))
  return shape
