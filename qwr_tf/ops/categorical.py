"""Return distributions on a fixed grid of atoms (Bellemare et al. 2017)."""

import tensorflow as tf


def project(
  probabilities: tf.Tensor, locations: tf.Tensor, atoms: tf.Tensor
) -> tf.Tensor:
  """Moves probability from arbitrary locations onto a grid.

  Each mass is split between its two neighbours on the grid so that its mean
  stays; what lies outside goes to the nearest end.

  Args:
    probabilities: float [..., K].
    locations: where they are, float, broadcasts to [..., K].
    atoms: the grid, evenly spaced, float [M] with M at least 2.

  Returns:
    Probabilities of the atoms, float [..., M].
  """
  spacing = atoms[1] - atoms[0]
  inside = tf.clip_by_value(locations, atoms[0], atoms[-1])  # [..., K]
  distances = tf.abs(inside[..., tf.newaxis] - atoms) / spacing  # [..., K, M]
  shares = tf.maximum(1.0 - distances, 0.0)
  return tf.reduce_sum(probabilities[..., tf.newaxis] * shares, axis=-2)


def mean(probabilities: tf.Tensor, atoms: tf.Tensor) -> tf.Tensor:
  """Expectation of distributions [..., M] on the grid [M], float [...]."""
  return tf.linalg.matvec(probabilities, atoms)
