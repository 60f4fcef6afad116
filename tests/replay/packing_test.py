"""Rows with one column per dtype."""

import numpy as np
import tensorflow as tf

from qwr_tf.replay import packing

_SPEC = {
  'image': tf.TensorSpec([2, 2], tf.uint8),
  'position': tf.TensorSpec([3], tf.float32),
  'reward': tf.TensorSpec([], tf.float32),
  'type': tf.TensorSpec([], tf.int32),
}
# Two rows.
_ROWS = {
  'image': np.array([[[1, 2], [3, 4]], [[5, 6], [7, 8]]], np.uint8),
  'position': np.array([[0.1, 0.2, 0.3], [1.1, 1.2, 1.3]], np.float32),
  'reward': np.array([0.4, 1.4], np.float32),
  'type': np.array([0, 2], np.int32),
}


def test_fields_of_a_dtype_stand_side_by_side():
  assert packing.packed_spec(_SPEC) == {
    'uint8': tf.TensorSpec([4], tf.uint8),
    'float32': tf.TensorSpec([4], tf.float32),
    'int32': tf.TensorSpec([1], tf.int32),
  }
  packed = packing.pack(_ROWS)
  np.testing.assert_array_equal(packed['uint8'], [[1, 2, 3, 4], [5, 6, 7, 8]])
  np.testing.assert_array_equal(
    packed['float32'],
    np.array([[0.1, 0.2, 0.3, 0.4], [1.1, 1.2, 1.3, 1.4]], np.float32),
  )
  np.testing.assert_array_equal(packed['int32'], [[0], [2]])
  none = packing.pack({name: x[:0] for name, x in _ROWS.items()})
  assert {name: x.shape for name, x in none.items()} == {
    'uint8': (0, 4),
    'float32': (0, 4),
    'int32': (0, 1),
  }


def test_minibatches_of_windows_come_back():
  packed = packing.pack(_ROWS)

  @tf.function
  def unpacked(columns):
    return packing.unpack(columns, _SPEC)

  # As a minibatch of three windows, each the two rows.
  windows = {name: tf.stack([x] * 3) for name, x in packed.items()}
  found = unpacked(windows)
  for name, rows in _ROWS.items():
    assert found[name].shape == [3, *rows.shape]
    for window in found[name]:
      np.testing.assert_array_equal(window, rows)
