"""Floor 1: gymnasium's environments as TF-Agents' PyEnvironments."""

from gym_notices import notices

# TF-Agents imports the retired `gym`, which prints a notice about its age.
notices.notices.clear()

from qwr_tf.environments.atari import game_id as atari_id  # noqa: E402
from qwr_tf.environments.bitflip import BitFlipEnv  # noqa: E402
from qwr_tf.environments.gymnasium_wrapper import GymnasiumWrapper  # noqa: E402
from qwr_tf.environments.minari_metadata import minari_metadata  # noqa: E402
from qwr_tf.environments.registry import load  # noqa: E402
from qwr_tf.environments.registry import score_settings  # noqa: E402
from qwr_tf.environments.spaces import action_bounds  # noqa: E402

__all__ = [
  'BitFlipEnv',
  'GymnasiumWrapper',
  'action_bounds',
  'atari_id',
  'load',
  'minari_metadata',
  'score_settings',
]
