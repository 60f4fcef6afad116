"""Floor 1: experience, with the parameters of the policy that made it."""

from qwr_tf.replay.replay_table import ReplayTable
from qwr_tf.replay.table_files import TableFiles

__all__ = ['ReplayTable', 'TableFiles']
