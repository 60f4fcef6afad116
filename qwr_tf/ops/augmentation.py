"""Augmentations of minibatches of images."""

import gin
import tensorflow as tf
from tf_agents.typing import types


@gin.configurable
def random_shifts(
  images: tf.Tensor, seed: types.Seed, pixels: int = 4
) -> tf.Tensor:
  """Shifts the images of each element by up to `pixels` on both axes.

  Pixels that enter at an edge repeat the edge (DrQ, Kostrikov et al. 2020: pad
  by 4 and crop). All images of one element, those of a window and of a stack,
  shift alike, so that motion in them is unchanged.

  Args:
    images: [B, ..., height, width, channels], any type.
    seed: stateless seed, int [2]; the shifts depend on it and on B alone.
    pixels: the largest shift; shifts are uniform in -pixels ... pixels.

  Returns:
    As `images`.
  """
  shape = images.shape
  # A pixel of four bytes is copied as one number, which is faster.
  packs = images.dtype == tf.uint8 and shape[-1] == 4
  moving = tf.bitcast(images, tf.int32)[..., tf.newaxis] if packs else images
  size = moving.shape[-3:]  # Height, width, numbers in a pixel.
  flat = tf.reshape(moving, [tf.shape(images)[0], -1, *size])
  padded = _repeat_edges(_repeat_edges(flat, 2, pixels), 3, pixels)
  corners = tf.random.stateless_uniform(
    [tf.shape(images)[0], 2], seed, 0, 2 * pixels + 1, tf.int32
  )

  def cut(element):
    images, corner = element
    begin = tf.concat([[0], corner, [0]], axis=0)
    return tf.slice(images, begin, [-1, *size])

  if shape[0] is None:
    moved = tf.map_fn(cut, (padded, corners), fn_output_signature=flat.dtype)
  else:  # An unrolled loop takes half the time.
    moved = tf.stack([cut((padded[i], corners[i])) for i in range(shape[0])])
  moved = tf.reshape(moved, tf.shape(moving))
  if packs:
    moved = tf.bitcast(moved[..., 0], images.dtype)
  return tf.ensure_shape(moved, shape)


def _repeat_edges(images: tf.Tensor, axis: int, pixels: int) -> tf.Tensor:
  """Adds the first and the last entry of an axis `pixels` times."""
  first = tf.zeros([pixels], tf.int32)
  last = tf.fill([pixels], images.shape[axis] - 1)
  first, last = (tf.gather(images, x, axis=axis) for x in (first, last))
  return tf.concat([first, images, last], axis=axis)
