"""Keyword arguments of a model's constructor, and their gin bindings."""

import ast
import contextlib
import copy
import itertools
from collections.abc import Callable, Iterator, Mapping
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
    env: an id; an environment; or a function or class that makes one, such as
      `lambda: MyEnv()`. Training and evaluation each make their own: those of
      `gymnasium.make` with its wrappers, others as deep copies.

  Raises:
    ConfigError: for an object that cannot be made again.
  """
  if isinstance(env, str):
    return {'run.environment': env}
  if isinstance(env, gymnasium.Env):
    bindings = _of_spec(env.spec)
    if bindings is not None:
      return bindings
    name = type(env.unwrapped).__name__
    try:
      original = copy.deepcopy(env)  # Before it is stepped.
    except Exception as error:  # Each environment has its own.
      raise ConfigError(
        f'{name} cannot be copied ({error}), which evaluations need; give a '
        'function that makes it, such as `lambda: MyEnv()`, or its id.'
      ) from error
    return {
      'run.environment': _registered(lambda: copy.deepcopy(original), name)
    }
  name = getattr(env, '__name__', type(env).__name__).strip('<>')
  return {'run.environment': _registered(env, name)}


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


def _registered(make: Callable, name: str) -> str:
  """An id for a function that makes environments, the same for the same one."""
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


def is_table(data: Mapping[str, Any]) -> bool:
  """True for columns as `TableColumns` names them, False for D4RL's layout."""
  is_d4rl = {'observations', 'actions'} <= set(data)
  return not (is_d4rl and isinstance(data, Mapping))


def spaces(data: Mapping[str, Any]) -> dict[str, Any]:
  """Bindings that give `NoSimulator` the spaces of arrays.

  Args:
    data: `observations` [N, ...], an array or a dictionary of them, and
      `actions` [N, ...]: numbers from 0, or vectors within ±1. Or a table, of
      which only the number of discrete actions is taken (column `action`).
  """
  bindings: dict[str, Any] = {}
  if is_table(data):
    actions = np.asarray(data.get('action', 0.0))
    if actions.dtype.kind not in 'iu':  # The data set has the shapes.
      return {}
  else:
    actions = np.asarray(data['actions'])
    boxes = {
      path.partition('/')[2]: {
        'type': 'Box',
        'shape': values.shape[1:],
        'dtype': 'uint8' if values.dtype == np.uint8 else 'float32',
      }
      for path, values in flat({'observations': data['observations']})
    }
    bindings['observation_space'] = boxes.get('') or environments.dict_content(
      boxes
    )
  if not np.issubdtype(actions.dtype, np.integer):
    bindings['action_shape'] = actions.shape[1:]
  elif actions.ndim == 1:
    bindings['num_actions'] = int(actions.max()) + 1
  else:
    bindings['action_space'] = {
      'type': 'MultiDiscrete',
      'nvec': (actions.max(axis=0) + 1).tolist(),
      'start': np.zeros_like(actions[0]).tolist(),
    }
  return {f'load_environment.{name}': x for name, x in bindings.items()}


def columns(table: Mapping[str, Any]) -> Iterator[tuple[str, np.ndarray]]:
  """Yields a table's columns as arrays of numbers or texts.

  Raises:
    ConfigError: for nulls among texts, and other objects.
  """
  import pandas

  for name, values in flat(table):
    if values.dtype == object:
      is_bad = pandas.isna(values).any()
      with contextlib.suppress(ValueError):  # Lists of several lengths.
        values = np.array(values.tolist())
      if is_bad or values.dtype == object:
        raise ConfigError(
          f'dataset: column {name!r} holds nulls or objects; leave it out, or '
          'convert it to numbers or texts.'
        )
    yield name, values


def flat(arrays: Mapping[str, Any]) -> Iterator[tuple[str, np.ndarray]]:
  """Yields arrays by path, such as `observations/goal`, of nested mappings."""
  for name, values in arrays.items():
    if isinstance(values, Mapping):
      for path, inner in flat(values):
        yield f'{name}/{path}', inner
    else:
      yield name, np.asarray(values)
