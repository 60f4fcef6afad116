"""Keyword arguments of a model's constructor, and their gin bindings."""

import ast
import itertools
from collections.abc import Callable, Mapping
from typing import Any

import gymnasium
import numpy as np

from qwr_tf import environments
from qwr_tf.config.errors import ConfigError

_LOCAL = 'local/'
_objects: dict[str, Any] = {}  # By id in gymnasium's registry.


def environment(env: str | gymnasium.Env | Callable) -> dict[str, Any]:
  """Bindings that stand for an environment.

  Args:
    env: an id; an environment that `gymnasium.make` has made, with its
      wrappers; or a function or class that makes one, such as `lambda:
      MyEnv()`. Training and evaluation each make their own.

  Raises:
    ConfigError: for an object that cannot be made again.
  """
  if isinstance(env, str):
    return {'run.environment': env}
  if isinstance(env, gymnasium.Env):
    bindings = _of_spec(env.spec)
    if bindings is not None:
      return bindings
    raise ConfigError(
      f'{env} cannot be made again, which evaluations need; give a function '
      'that makes it, such as `lambda: MyEnv()`, or its id.'
    )
  return {'run.environment': _registered(env)}


def _of_spec(spec: Any) -> dict[str, Any] | None:
  """Bindings with the values of an EnvSpec; None if some are no literals."""
  if spec is None or spec.id not in gymnasium.registry:
    return None
  registered = gymnasium.registry[spec.id]
  settings = {
    k: v for k, v in spec.kwargs.items() if registered.kwargs.get(k) != v
  }
  if spec.max_episode_steps != registered.max_episode_steps:
    settings['max_episode_steps'] = spec.max_episode_steps
  wrappers = tuple(
    (w.entry_point, dict(w.kwargs or {})) for w in spec.additional_wrappers
  )
  if wrappers:
    settings['wrappers'] = wrappers
  try:
    for value in settings.values():
      ast.literal_eval(repr(value))
  except (ValueError, SyntaxError):
    return None
  bound = {f'load_environment.{k}': v for k, v in settings.items()}
  return {'run.environment': spec.id, **bound}


def _registered(make: Callable) -> str:
  """An id for a function that makes environments, the same for the same one."""
  name = getattr(make, '__name__', type(make).__name__).strip('<>')
  for number in itertools.count():
    env_id = f'{_LOCAL}{name}-v{number}'
    if _objects.setdefault(env_id, make) is make:
      break
  register(env_id, make)
  return env_id


def register(env_id: str, make: Callable) -> None:
  """Lets an id of `environment` stand for a function.

  Raises:
    ConfigError: for an id that is none of these.
  """
  if not env_id.startswith(_LOCAL):
    raise ConfigError(f'{env_id} is an id of its own; leave env out.')
  gymnasium.registry.pop(env_id, None)
  gymnasium.register(env_id, entry_point=make)


def no_simulator(data: Mapping[str, np.ndarray]) -> dict[str, Any]:
  """Bindings of an environment with the spaces of arrays.

  Args:
    data: `observations` [N, ...] and `actions` [N, ...]: numbers from 0, or
      vectors within ±1.
  """
  observations, actions = (
    np.asarray(data[name]) for name in ('observations', 'actions')
  )
  bindings: dict[str, Any] = {
    'run.environment': environments.NO_SIMULATOR,
    'load_environment.observation_shape': observations.shape[1:],
  }
  if observations.dtype == np.uint8:
    bindings['load_environment.observation_dtype'] = 'uint8'
  if np.issubdtype(actions.dtype, np.integer):
    bindings['load_environment.num_actions'] = int(actions.max()) + 1
  else:
    bindings['load_environment.action_shape'] = actions.shape[1:]
  return bindings
