"""The replay table, which keeps the sampling policy with every step."""

from qwr_tf.replay.frame_stacks import OTHER_STACKS
from qwr_tf.replay.frame_stacks import is_single_frame
from qwr_tf.replay.frame_stacks import newest
from qwr_tf.replay.replay_table import ReplayTable
from qwr_tf.replay.table_files import TableFiles

__all__ = [
  'OTHER_STACKS',
  'ReplayTable',
  'TableFiles',
  'is_single_frame',
  'newest',
]
