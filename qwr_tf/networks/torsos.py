"""Torsos: observations to features, for actors and critics alike."""

from collections.abc import Callable, Sequence
from typing import Annotated

import gin
import tensorflow as tf

from qwr_tf.config.ranges import Range

TorsoFn = Callable[[], tf.keras.Sequential]


def uniform_initializer(limit: float | None):
  """Uniform in [-limit, limit]; Keras' default (Glorot) when None."""
  if limit is None:
    return 'glorot_uniform'
  return tf.keras.initializers.RandomUniform(-limit, limit)


# Of a layer, in units.
Width = Annotated[int, Range(1, 1_000_000)]


_LARGE = 36  # Pixels; every torso for images takes images of this side.


@gin.configurable
def mlp_torso(
  units: Sequence[Width] = (256, 256), layer_norm: bool = False
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
def dqn_2013_torso(
  dtype_policy: str = 'float32', layer_norm: bool = False
) -> tf.keras.Sequential:
  """The convolutions of the 2013 DQN, which the QWR paper cites for Atari.

  Args:
    dtype_policy: Keras' name for the types of the arithmetic and of the
      weights; 'mixed_bfloat16' computes in bfloat16 and learns in float32.
    layer_norm: normalise the output of the last layer, in float32.

  Returns:
    A stack of layers, images in 0..255 [B, 84, 84, 4] -> float [B, 256].
  """
  convolutions = ((16, 8, 4), (32, 4, 2))
  return _conv_torso(convolutions, 256, dtype_policy, layer_norm)


_DATA_EFFICIENT = (32, 5, 5), (64, 5, 5)


@gin.configurable
def data_efficient_torso(
  dtype_policy: str = 'float32', layer_norm: bool = False
) -> tf.keras.Sequential:
  """The convolutions of data-efficient Rainbow (van Hasselt et al. 2019).

  Half the arithmetic of `dqn_2013_torso` (1.4M products), and 202,000 weights
  instead of 676,000.

  Args:
    dtype_policy: as in `dqn_2013_torso`.
    layer_norm: as in `dqn_2013_torso`.

  Returns:
    A stack of layers, images in 0..255 [B, 84, 84, 4] -> float [B, 256].
  """
  return _conv_torso(_DATA_EFFICIENT, 256, dtype_policy, layer_norm)


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


def is_convolution(torso: tf.keras.Sequential) -> bool:
  """True if a torso is for images."""
  return any(isinstance(x, tf.keras.layers.Conv2D) for x in torso.layers)


def has_batch_norm(network: tf.Module) -> bool:
  """True if a layer of a network is BatchNorm."""
  batch_norm = tf.keras.layers.BatchNormalization
  return any(isinstance(x, batch_norm) for x in network.submodules)


def image_torso(shape: Sequence[int]) -> tf.keras.Sequential:
  """The torso of images where the preset has none.

  `data_efficient_torso` for sides of 36 pixels or more, two layers of 3 x 3
  convolutions for others. Both are padded: else strides of 5 leave out the last
  14 of 64 pixels.

  Args:
    shape: (height, width, channels).

  Returns:
    A stack of layers, images in 0..255 [B, *shape] -> float [B, d].
  """
  if min(shape[:2]) >= _LARGE:
    return _conv_torso(_DATA_EFFICIENT, 256, 'float32', padding='same')
  keras = tf.keras.layers
  stride = 2 if min(shape[:2]) >= 16 else 1
  convolutions = [
    keras.Conv2D(32, 3, stride, 'same', activation='relu') for _ in range(2)
  ]
  return tf.keras.Sequential(
    [keras.Rescaling(1 / 255), *convolutions, keras.Flatten()]
  )


def _conv_torso(
  convolutions: Sequence[tuple[int, int, int]],
  units: int,
  dtype_policy: str,
  layer_norm: bool = False,
  padding: str = 'valid',
) -> tf.keras.Sequential:
  """ReLU convolutions, then a ReLU layer.

  Args:
    convolutions: (filters, kernel size, stride) of each.
    units: width of the layer on top.
    dtype_policy: of all layers but the LayerNorm.
    layer_norm: whether a LayerNorm is the last layer.
    padding: of the convolutions.

  Returns:
    A stack of layers; the first turns uint8 in 0..255 into float in [0, 1],
    the last returns float32.
  """
  keras = tf.keras.layers
  policy = tf.keras.mixed_precision.Policy(dtype_policy)
  stack: list = [keras.Rescaling(1 / 255, dtype=policy)]
  for filters, size, stride in convolutions:
    stack.append(
      keras.Conv2D(
        filters, size, stride, padding, activation='relu', dtype=policy
      )
    )
  stack.append(keras.Flatten(dtype=policy))
  stack.append(keras.Dense(units, activation='relu', dtype=policy))
  if policy.compute_dtype != 'float32':
    stack.append(keras.Activation('linear', dtype='float32'))
  if layer_norm:
    stack.append(keras.LayerNormalization(epsilon=1e-5, dtype='float32'))
  return tf.keras.Sequential(stack)
