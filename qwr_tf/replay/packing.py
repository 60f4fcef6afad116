"""Rows with one column per dtype: what Reverb charges for is columns.

A row of HalfCheetah has seven fields, and Reverb compresses, sends and checks
each for itself. With the fields of a dtype side by side in a vector its server
takes half as long for a window (`benchmarks/reverb_speed.py`), the learner two
thirds.
"""

import collections
from typing import Any

import numpy as np
import tensorflow as tf
import tree


def _by_dtype(specs: list) -> dict[str, list[int]]:
  """Places of the fields in a flat row, by name of their dtype."""
  places = collections.defaultdict(list)
  for i, spec in enumerate(specs):
    places[spec.dtype.name].append(i)
  return dict(places)


def _size(spec) -> int:
  return int(np.prod(spec.shape, dtype=np.int64))


def packed_spec(spec: Any) -> dict[str, tf.TensorSpec]:
  """Specs of the columns of a packed row.

  Args:
    spec: nest of TensorSpecs.

  Returns:
    {name of a dtype: [numbers of all its fields]}.
  """
  flat = tree.flatten(spec)
  return {
    name: tf.TensorSpec([sum(_size(flat[i]) for i in places)], name)
    for name, places in _by_dtype(flat).items()
  }


def pack(rows: Any, spec: Any) -> dict[str, np.ndarray]:
  """Packs rows.

  Args:
    rows: nest of arrays [N, ...].
    spec: of a row.

  Returns:
    {name: [N, numbers]}, as `packed_spec` says.
  """
  flat = [np.asarray(x).reshape(len(x), -1) for x in tree.flatten(rows)]
  return {
    name: np.concatenate([flat[i] for i in places], axis=1)
    for name, places in _by_dtype(tree.flatten(spec)).items()
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
    sizes = [_size(specs[i]) for i in places]
    parts = tf.split(packed[name], sizes, axis=-1)
    for i, part in zip(places, parts, strict=True):
      outer = tf.shape(part)[:-1]
      field = tf.reshape(part, tf.concat([outer, specs[i].shape], 0))
      field.set_shape([*part.shape[:-1], *specs[i].shape])
      flat[i] = field
  return tree.unflatten_as(spec, flat)
