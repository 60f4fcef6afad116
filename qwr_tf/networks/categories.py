"""Bounded integers, of observations and actions, as one-hot vectors."""

from typing import Any

import numpy as np
import tensorflow as tf
from tf_agents.specs import tensor_spec
from tf_agents.typing import types


def is_category(spec: types.TensorSpec) -> bool:
  """True if values are integers with bounds; uint8 is a number."""
  return (
    isinstance(spec, tensor_spec.BoundedTensorSpec)
    and spec.dtype.is_integer
    and spec.dtype != tf.uint8
  )


def sizes(spec: types.BoundedTensorSpec) -> np.ndarray:
  """Number of values of each of the spec's integers, int64 [k]."""
  low, high = (np.asarray(x, np.int64) for x in (spec.minimum, spec.maximum))
  return np.broadcast_to(high - low + 1, tuple(spec.shape)).ravel()


def width(spec: types.BoundedTensorSpec) -> int:
  """Length of `one_hot`."""
  counts = sizes(spec)
  return len(counts) if _is_binary(counts) else int(counts.sum())


def _is_binary(counts: np.ndarray) -> bool:
  return len(counts) > 1 and counts.max() <= 2


def one_hot(values: Any, spec: types.BoundedTensorSpec) -> Any:
  """One-hot vectors of each integer side by side, float32 [..., width].

  Vectors of bits stay as they are, one number each.

  Args:
    values: [...] and the spec's shape, a tensor or NumPy's array.
    spec: of the values.
  """
  counts, places = sizes(spec), flat(values, spec)
  low = np.broadcast_to(np.asarray(spec.minimum), tuple(spec.shape)).ravel()
  is_tensor = tf.is_tensor(values)
  dtype = spec.dtype.as_numpy_dtype
  if _is_binary(counts):
    bits = places - low.astype(dtype)
    return tf.cast(bits, tf.float32) if is_tensor else bits.astype(np.float32)
  first = np.cumsum(counts) - counts  # Of each integer, in the vector.
  places = places + (first - low).astype(dtype)
  if is_tensor:
    return tf.reduce_sum(tf.one_hot(places, width(spec)), axis=-2)
  is_place = places[..., np.newaxis] == np.arange(width(spec))
  return is_place.any(-2).astype(np.float32)


def flat(values: Any, spec: types.TensorSpec) -> Any:
  """Values with one axis in place of the spec's, [..., n]."""
  if spec.shape.rank == 1:
    return values
  if not spec.shape.rank:
    return values[..., np.newaxis]
  outer = len(values.shape) - spec.shape.rank
  size = spec.shape.num_elements()
  if not tf.is_tensor(values):
    return values.reshape(*values.shape[:outer], size)
  shape = tf.shape(values)
  lengths = [
    shape[i] if n is None else n for i, n in enumerate(values.shape[:outer])
  ]
  return tf.reshape(values, [*lengths, size])
