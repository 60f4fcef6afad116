"""Observations as images and one vector of features.

An observation is one array or a nest of arrays, its entries. Images are uint8
of three axes. Integers with bounds, other than uint8, are categories, which
become one-hot vectors. All others are numbers.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf
from tf_agents.typing import types

from qwr_tf.networks import categories

_Normalizer = Callable[[Any], Any] | None


def _is_image(spec: types.TensorSpec) -> bool:
  return spec.dtype == tf.uint8 and spec.shape.rank == 3


def _is_number(spec: types.TensorSpec) -> bool:
  return not _is_image(spec) and not categories.is_category(spec)


def outer_rank(observation: Any, spec: types.NestedTensorSpec) -> int:
  """The number of axes [...] before an observation's own."""
  first, first_spec = (tf.nest.flatten(x)[0] for x in (observation, spec))
  return len(first.shape) - first_spec.shape.rank


def outer_shape(observation: Any, spec: types.NestedTensorSpec) -> tf.Tensor:
  """The sizes of these axes, int [outer rank]."""
  first = tf.nest.flatten(observation)[0]
  return tf.shape(first)[: outer_rank(observation, spec)]


class Features:
  """Maps from observations [...] of a spec to images and a vector.

  Attributes:
    images: specs of the images.
    is_vector: whether `vector` is the normalised observation itself.
    num_numbers: numbers in an observation that are in no image.
    size: length of `vector`.
  """

  def __init__(self, spec: types.NestedTensorSpec):
    """Takes the spec of an observation."""
    self._specs = tf.nest.flatten(spec)
    self._is_nested = tf.nest.is_nested(spec)
    self.images = [s for s in self._specs if _is_image(s)]
    self.is_vector = (
      not self._is_nested and spec.shape.rank == 1 and _is_number(spec)
    )
    numbers = filter(_is_number, self._specs)
    self.num_numbers = sum(s.shape.num_elements() for s in numbers)
    one_hot = filter(categories.is_category, self._specs)
    self.size = self.num_numbers + sum(map(categories.width, one_hot))

  def select(self, observation: Any, kind: Callable) -> list[tuple[Any, Any]]:
    """(value, spec) of the entries whose spec is of a kind."""
    entries = zip(tf.nest.flatten(observation), self._specs, strict=True)
    return [(value, spec) for value, spec in entries if kind(spec)]

  def image_entries(self, observation: Any) -> list[tf.Tensor]:
    """The images, uint8 [..., height, width, channels]."""
    return [image for image, _ in self.select(observation, _is_image)]

  def numbers(self, observation: Any, dtype: tf.DType = tf.float32) -> Any:
    """Input of the normaliser: the only entry, or a vector [..., n] of all."""
    if not self._is_nested:
      return observation
    entries = self.select(observation, _is_number)
    if tf.is_tensor(tf.nest.flatten(observation)[0]):
      return tf.concat(
        [tf.cast(categories.flat(x, s), dtype) for x, s in entries], axis=-1
      )
    return np.concatenate([categories.flat(x, s) for x, s in entries], axis=-1)

  def vector(self, observation: Any, normalizer: _Normalizer) -> Any:
    """Normalised numbers and one-hot categories, float32 [..., size].

    Args:
      observation: tensors or NumPy's arrays.
      normalizer: of what `numbers` returns; None changes nothing.
    """
    parts = []
    if self.num_numbers:
      numbers = self.numbers(observation)
      if normalizer is not None:
        numbers = normalizer(numbers)
      if not self._is_nested:
        if not tf.is_tensor(numbers):  # NumPy's scalars may become float64.
          numbers = np.asarray(numbers, np.float32)
        numbers = categories.flat(numbers, self._specs[0])
      parts.append(numbers)
    parts += [
      categories.one_hot(x, s)
      for x, s in self.select(observation, categories.is_category)
    ]
    if len(parts) == 1:
      return parts[0]
    join = tf.concat if tf.is_tensor(parts[0]) else np.concatenate
    return join(parts, axis=-1)
