"""Floor 1: experience, with the parameters of the policy that made it."""

from qwr_tf.replay.replay_table import ReplayTable

__all__ = ['ReplayTable']
