"""Torsos: observations to features, for actors and critics alike."""

from collections.abc import Callable, Sequence

import gin
import tensorflow as tf
from tf_agents.networks import utils as network_utils
from tf_agents.typing import types

TorsoFn = Callable[[], tf.keras.Sequential]


def uniform_initializer(limit: float | None):
  """Uniform in [-limit, limit]; Keras' default (Glorot) when None."""
  if limit is None:
    return 'glorot_uniform'
  return tf.keras.initializers.RandomUniform(-limit, limit)


@gin.configurable
def mlp_torso(
  units: Sequence[int] = (256, 256), layer_norm: bool = False
) -> tf.keras.Sequential:
  """ReLU layers over flat observations.

  Args:
    units: width of each layer.
    layer_norm: normalise each layer's output after its ReLU. Keeps the values
      of actions never taken in check, which is what a critic that is asked
      about resampled actions needs (a deviation from the paper).

  Returns:
    A stack of layers, float [..., d] -> float [..., units[-1]].
  """
  layers = []
  for width in units:
    layers.append(tf.keras.layers.Dense(width, activation='relu'))
    if layer_norm:
      layers.append(tf.keras.layers.LayerNormalization(epsilon=1e-5))
  return tf.keras.Sequential(layers)


@gin.configurable
def dqn_2013_torso(dtype_policy: str = 'float32') -> tf.keras.Sequential:
  """The convolutions of the 2013 DQN, which the QWR paper cites for Atari.

  Args:
    dtype_policy: Keras' name for the types of the arithmetic and of the
      weights; 'mixed_bfloat16' computes in bfloat16 and learns in float32.

  Returns:
    A stack of layers, images in 0..255 [B, 84, 84, 4] -> float [B, 256].
  """
  return _conv_torso(((16, 8, 4), (32, 4, 2)), 256, dtype_policy)


@gin.configurable
def nature_torso(dtype_policy: str = 'float32') -> tf.keras.Sequential:
  """The convolutions of the 2015 DQN in Nature (QWR's published code).

  Three times the arithmetic of `dqn_2013_torso` (9.3M against 3.0M products).

  Args:
    dtype_policy: as in `dqn_2013_torso`.

  Returns:
    A stack of layers, images in 0..255 [B, 84, 84, 4] -> float [B, 512].
  """
  convolutions = ((32, 8, 4), (64, 4, 2), (64, 3, 1))
  return _conv_torso(convolutions, 512, dtype_policy)


def _conv_torso(
  convolutions: Sequence[tuple[int, int, int]], units: int, dtype_policy: str
) -> tf.keras.Sequential:
  """ReLU convolutions without padding, then a ReLU layer.

  Args:
    convolutions: (filters, kernel size, stride) of each.
    units: width of the layer on top.
    dtype_policy: of all layers.

  Returns:
    A stack of layers; the first turns uint8 in 0..255 into float in [0, 1],
    what leaves the last is float32.
  """
  keras = tf.keras.layers
  policy = tf.keras.mixed_precision.Policy(dtype_policy)
  stack: list = [keras.Rescaling(1 / 255, dtype=policy)]
  for filters, size, stride in convolutions:
    stack.append(
      keras.Conv2D(filters, size, stride, activation='relu', dtype=policy)
    )
  stack.append(keras.Flatten(dtype=policy))
  stack.append(keras.Dense(units, activation='relu', dtype=policy))
  if policy.compute_dtype != 'float32':
    stack.append(keras.Activation('linear', dtype='float32'))
  return tf.keras.Sequential(stack)


class Encoder(tf.Module):
  """Normaliser and torso: observations [..., *shape] to features [..., d]."""

  def __init__(
    self,
    observation_spec: types.TensorSpec,
    torso_fn: TorsoFn,
    normalizer: Callable[[tf.Tensor], tf.Tensor] | None,
  ):
    """Creates the torso; the normaliser is shared, not copied.

    Raises:
      ValueError: if the torso makes no vectors of such observations, or
        scales images that are not uint8.
    """
    super().__init__(name='Encoder')
    self._observation_rank = observation_spec.shape.rank
    self.normalizer = normalizer
    self.torso = torso_fn()
    _check_dtype(self.torso, observation_spec)
    self.width = _width(self.torso, observation_spec.shape)

  def __call__(self, observation: tf.Tensor) -> tf.Tensor:
    """Features of observations with any outer shape."""
    if self.normalizer is not None:
      observation = self.normalizer(observation)
    # Keras' layers want one batch axis.
    squash = network_utils.BatchSquash(
      observation.shape.rank - self._observation_rank
    )
    return squash.unflatten(self.torso(squash.flatten(observation)))


# Rank of an observation -> what it takes.
_FIXES = {
  1: 'set torso_fn = @mlp_torso, as mujoco.gin does',
  3: 'images, of 36 x 36 pixels or more, need torso_fn = @dqn_2013_torso or '
  '@nature_torso, as in atari.gin',
}
_OTHER_FIX = 'wrap the environment in gymnasium.wrappers.FlattenObservation'


def _check_dtype(torso: tf.keras.Sequential, spec: types.TensorSpec) -> None:
  """Raises ValueError for images that may be in 0..1 already."""
  scales = any(isinstance(x, tf.keras.layers.Rescaling) for x in torso.layers)
  if scales and spec.dtype != tf.uint8:
    raise ValueError(
      f'the torso takes images of uint8 in 0..255, not {spec.dtype.name}; '
      'make them so in the environment, for instance with '
      'gymnasium.wrappers.TransformObservation.'
    )


def _width(torso: tf.keras.Sequential, shape: tf.TensorShape) -> int:
  """Numbers that a torso makes of an observation."""
  try:
    outputs = _output_shape(torso, (1, *shape))
    if len(outputs) == 2:
      return outputs[-1]
    problem = f'makes {outputs[1:]} of'
  except ValueError:  # Keras' words name layers of its own.
    problem = 'does not take'
  fix = _FIXES.get(shape.rank, _OTHER_FIX)
  if shape.rank == 3 and shape[0] < min(shape[1:]):
    fix = (
      'images need their channels in the last axis; set '
      'load_environment.channels_last = True'
    )
  raise ValueError(f'the torso {problem} observations {tuple(shape)}; {fix}.')


def _output_shape(torso: tf.keras.Sequential, shape: tuple) -> tuple:
  """As Keras', which does not look whether a layer takes such ranks."""
  for layer in torso.layers:
    if layer.input_spec and len(shape) < (layer.input_spec.min_ndim or 0):
      raise ValueError(f'{layer.name} takes no {shape}')
    shape = tuple(layer.compute_output_shape(shape))
  return shape
