"""Random shifts against what a hand would cut out."""

import numpy as np
import pytest
import tensorflow as tf

from qwr_tf.ops import augmentation

_SEED = (1, 2)


def _shifts(batch, pixels):
  """Where the crops of the padded images begin, [2, B], as the seed says."""
  return (
    tf.random.stateless_uniform([batch, 2], _SEED, 0, 2 * pixels + 1, tf.int32)
    .numpy()
    .T
  )


@pytest.mark.slow
@pytest.mark.parametrize('is_static', [True, False])
@pytest.mark.parametrize('channels', [3, 4])
@pytest.mark.parametrize('dtype', [np.uint8, np.float32])
def test_shifts_repeat_the_edges(is_static, channels, dtype):
  """As padding by edge values and cropping, element by element."""
  rng = np.random.default_rng(0)
  images = rng.integers(0, 256, [6, 2, 5, 7, channels]).astype(dtype)
  spec = tf.TensorSpec([6 if is_static else None, *images.shape[1:]], dtype)
  shift = tf.function(
    lambda x: augmentation.random_shifts(x, _SEED, pixels=2), [spec]
  )
  moved = shift(images)
  padded = np.pad(images, [(0, 0), (0, 0), (2, 2), (2, 2), (0, 0)], 'edge')
  down, right = _shifts(6, 2)
  for i in range(6):
    expected = padded[i, :, down[i] : down[i] + 5, right[i] : right[i] + 7]
    np.testing.assert_array_equal(moved[i], expected)
  assert len({*zip(down, right, strict=True)}) > 2


def test_a_shift_by_hand():
  """A row 1 2 3 moved by one either way is 1 1 2 or 2 3 3."""
  row = np.array([1, 2, 3], np.uint8)
  images = np.tile(row[:, np.newaxis], [64, 1, 1, 1])  # [64, 1, 3, 1]
  moved = augmentation.random_shifts(tf.constant(images), _SEED, pixels=1)
  found = {tuple(int(x) for x in image.ravel()) for image in moved.numpy()}
  assert found == {(1, 1, 2), (1, 2, 3), (2, 3, 3)}


def test_no_pixels_change_nothing():
  """A shift by at most zero."""
  images = tf.range(4 * 4 * 4 * 4, dtype=tf.int32)
  images = tf.cast(tf.reshape(images, [4, 4, 4, 4]), tf.uint8)
  same = augmentation.random_shifts(images, _SEED, pixels=0)
  np.testing.assert_array_equal(same, images)
