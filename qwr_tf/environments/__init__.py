"""gymnasium's environments as TF-Agents' PyEnvironments.

Names are imported at their first use, so that `qwr_tf.environments.bitflip`
needs gymnasium alone.
"""

import importlib
from typing import Any

_NAMES = {
  'atari': ['atari_id'],
  'bitflip': ['BitFlipEnv'],
  'description': ['describe', 'dict_content', 'minari_metadata', 'space_of'],
  'env_names': ['NO_SIMULATOR', 'env_id', 'task'],
  'faults': ['FaultyEnvironmentError', 'describe_error'],
  'float32_spread': ['Float32Spread', 'feature_names'],
  'gymnasium_wrapper': ['GymnasiumWrapper'],
  'no_simulator': ['no_simulator_arguments'],
  'registry': ['factory', 'load', 'score_settings'],
  'spaces': [
    'action_bounds', 'action_scale', 'action_spec', 'entries', 'input_name',
    'is_integer', 'observation_map', 'observation_spec', 'specs_of',
  ],
  'vector': ['VectorEnvironment', 'seed_of'],
  'wrapping': ['wrapper_names'],
}  # fmt: skip
_MODULES = {name: module for module, names in _NAMES.items() for name in names}

__all__ = list(_MODULES)  # noqa: PLE0605


def __getattr__(name: str) -> Any:
  if name not in _MODULES:
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
  module = importlib.import_module(f'{__name__}.{_MODULES[name]}')
  return getattr(module, name)
