"""Floor 1: gymnasium's environments as TF-Agents' PyEnvironments.

Names are imported when they are asked for: who plays BitFlip with gymnasium
alone (`qwr_tf.environments.bitflip`) need not have TF-Agents.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
  from qwr_tf.environments.atari import game_id as atari_id
  from qwr_tf.environments.bitflip import BitFlipEnv
  from qwr_tf.environments.description import describe
  from qwr_tf.environments.env_names import env_id
  from qwr_tf.environments.env_names import task
  from qwr_tf.environments.gymnasium_wrapper import GymnasiumWrapper
  from qwr_tf.environments.minari_json import minari_metadata
  from qwr_tf.environments.no_simulator import NO_SIMULATOR
  from qwr_tf.environments.registry import factory
  from qwr_tf.environments.registry import load
  from qwr_tf.environments.registry import score_settings
  from qwr_tf.environments.spaces import action_bounds
  from qwr_tf.environments.spaces import action_scale

__all__ = [
  'NO_SIMULATOR',
  'BitFlipEnv',
  'GymnasiumWrapper',
  'action_bounds',
  'action_scale',
  'atari_id',
  'describe',
  'env_id',
  'factory',
  'load',
  'minari_metadata',
  'score_settings',
  'task',
]

_PLACES = {
  'NO_SIMULATOR': ('no_simulator', 'NO_SIMULATOR'),
  'BitFlipEnv': ('bitflip', 'BitFlipEnv'),
  'GymnasiumWrapper': ('gymnasium_wrapper', 'GymnasiumWrapper'),
  'action_bounds': ('spaces', 'action_bounds'),
  'action_scale': ('spaces', 'action_scale'),
  'atari_id': ('atari', 'game_id'),
  'describe': ('description', 'describe'),
  'env_id': ('env_names', 'env_id'),
  'factory': ('registry', 'factory'),
  'load': ('registry', 'load'),
  'minari_metadata': ('minari_json', 'minari_metadata'),
  'score_settings': ('registry', 'score_settings'),
  'task': ('env_names', 'task'),
}


def __getattr__(name: str) -> Any:
  if name not in _PLACES:
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
  module, attribute = _PLACES[name]
  return getattr(importlib.import_module(f'{__name__}.{module}'), attribute)
