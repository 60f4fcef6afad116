"""Logged episodes on disk, read into a replay table and written."""

from qwr_tf.datasets.conversion import convert
from qwr_tf.datasets.data_set import DataSet
from qwr_tf.datasets.data_set import Summary
from qwr_tf.datasets.splits import Keep
from qwr_tf.datasets.splits import Split
from qwr_tf.datasets.writer import Episode
from qwr_tf.datasets.writer import write

__all__ = [
  'DataSet',
  'Episode',
  'Keep',
  'Split',
  'Summary',
  'convert',
  'write',
]
