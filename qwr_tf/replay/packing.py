"""Rows with one column per dtype: what Reverb charges for is columns.

A row of HalfCheetah has seven fields, and Reverb compresses, sends and checks
each for itself; with the fields of a dtype side by side in a vector there are
two.
"""

import collections
from typing import Any

import numpy as np
import tensorflow as tf
import tree


def _by_dtype(fields: list) -> dict[str, list[int]]:
  """Places of the fields in a flat row, by name of their dtype."""
  places = collections.defaultdict(list)
  for i, field in enumerate(fields):
    places[field.dtype.name].append(i)
  return dict(places)


def _size(shape) -> int:
  return int(np.prod(shape, dtype=np.int64))


def packed_spec(spec: Any) -> dict[str, tf.TensorSpec]:
  """Specs of the columns of a packed row.

  Args:
    spec: nest of TensorSpecs.

  Returns:
    {name of a dtype: [numbers of all its fields]}.
  """
  flat = tree.flatten(spec)
  return {
    name: tf.TensorSpec([sum(_size(flat[i].shape) for i in places)], name)
    for name, places in _by_dtype(flat).items()
  }


def pack(rows: Any) -> dict[str, np.ndarray]:
  """Packs rows.

  Args:
    rows: nest of arrays [N, ...].

  Returns:
    {name: [N, numbers]}, as `packed_spec` says.
  """
  fields = [x.reshape(len(x), _size(x.shape[1:])) for x in tree.flatten(rows)]
  return {
    name: np.concatenate([fields[i] for i in places], axis=1)
    for name, places in _by_dtype(fields).items()
  }


def unpack(packed: dict[str, tf.Tensor], spec: Any) -> Any:
  """Undoes `pack`.

  Args:
    packed: {name: [..., numbers]} with any number of outer dimensions.
    spec: of a row.

  Returns:
    Nest of tensors [..., *shape of the field].
  """
  specs = tree.flatten(spec)
  flat: list[Any] = [None] * len(specs)
  for name, places in _by_dtype(specs).items():
    sizes = [_size(specs[i].shape) for i in places]
    parts = tf.split(packed[name], sizes, axis=-1)
    for i, part in zip(places, parts, strict=True):
      outer = tf.shape(part)[:-1]
      field = tf.reshape(part, tf.concat([outer, specs[i].shape], 0))
      field.set_shape([*part.shape[:-1], *specs[i].shape])
      flat[i] = field
  return tree.unflatten_as(spec, flat)
