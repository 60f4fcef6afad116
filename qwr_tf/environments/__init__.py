"""gymnasium's environments as TF-Agents' PyEnvironments.

Names are imported at their first use, so that `qwr_tf.environments.bitflip`
needs gymnasium alone.
"""

import importlib
from typing import Any

_MODULES = {
  'NO_SIMULATOR': 'no_simulator',
  'BitFlipEnv': 'bitflip',
  'FaultyEnvironmentError': 'faults',
  'Float32Spread': 'float32_spread',
  'GymnasiumWrapper': 'gymnasium_wrapper',
  'VectorEnvironment': 'vector',
  'action_bounds': 'spaces',
  'action_scale': 'spaces',
  'entries': 'spaces',
  'input_name': 'spaces',
  'is_integer': 'spaces',
  'action_spec': 'spaces',
  'observation_map': 'spaces',
  'observation_spec': 'spaces',
  'atari_id': 'atari',
  'describe': 'description',
  'dict_content': 'description',
  'describe_error': 'faults',
  'env_id': 'env_names',
  'factory': 'registry',
  'feature_names': 'float32_spread',
  'load': 'registry',
  'minari_metadata': 'description',
  'no_simulator_arguments': 'no_simulator',
  'score_settings': 'registry',
  'seed_of': 'vector',
  'space_of': 'description',
  'specs_of': 'spaces',
  'task': 'env_names',
  'wrapper_names': 'wrapping',
}

__all__ = list(_MODULES)  # noqa: PLE0605


def __getattr__(name: str) -> Any:
  if name not in _MODULES:
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
  module = importlib.import_module(f'{__name__}.{_MODULES[name]}')
  return getattr(module, name)
