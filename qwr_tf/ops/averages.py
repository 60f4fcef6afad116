"""Averages of metrics over the gradient steps of a phase.

Metrics are averaged; of those named `*_max` the largest is kept, and they must
not be negative.
"""

from collections.abc import Mapping, Sequence

import tensorflow as tf


def add(
  totals: tf.Tensor, metrics: Mapping[str, tf.Tensor], names: Sequence[str]
) -> tf.Tensor:
  """Adds the metrics of a step to the totals [M] of the metrics' names."""
  values = tf.stack([metrics[name] for name in names])
  larger = tf.maximum(totals, values)
  return tf.where(_is_maximum(names), larger, totals + values)


def averages(
  totals: tf.Tensor, num_steps: tf.Tensor, names: Sequence[str]
) -> tf.Tensor:
  """Means over the steps of a phase, and maxima, [M]; 0 for no steps."""
  steps = tf.cast(tf.maximum(num_steps, 1), tf.float32)
  return tf.where(_is_maximum(names), totals, totals / steps)


def _is_maximum(names: Sequence[str]) -> list[bool]:
  return [name.endswith('_max') for name in names]
