"""The replay table, which keeps the sampling policy with every step."""

from qwr_tf.replay.frame_stacks import OTHER_STACKS
from qwr_tf.replay.replay_table import ReplayTable
from qwr_tf.replay.table import Table
from qwr_tf.replay.table_files import TableFiles
from qwr_tf.replay.table_files import files_of

__all__ = ['OTHER_STACKS', 'ReplayTable', 'Table', 'TableFiles', 'files_of']
