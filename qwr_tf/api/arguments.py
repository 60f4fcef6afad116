"""Keyword arguments of a model's constructor, and their gin bindings."""

import ast
import contextlib
import copy
import functools
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import gymnasium
import numpy as np

from qwr_tf import environments
from qwr_tf.config import ranges
from qwr_tf.config.errors import ConfigError

# Ids of functions, which a model holds: they are registered while it runs.
_LOCAL = 'local/'


def environment(env: Any) -> tuple[dict[str, Any], dict[str, Callable]]:
  """Bindings that stand for an environment, and functions by the ids in them.

  Args:
    env: an id; an environment; or a function or class that makes one, such as
      `lambda: MyEnv()`. Training and evaluation each make their own: those of
      `gymnasium.make` with its wrappers, others as deep copies.

  Raises:
    ConfigError: for an object that cannot be made again, or is something else.
  """
  if isinstance(env, str):
    return {'run.environment': env}, {}
  if isinstance(env, gymnasium.Env):
    bindings = _of_spec(env.spec)
    if bindings is not None:
      return bindings, {}
    name = type(env.unwrapped).__name__
    try:
      original = copy.deepcopy(env)  # Before it is stepped.
    except Exception as error:  # Each environment has its own.
      raise ConfigError(
        f'{name} cannot be copied ({error}), which evaluations need; give a '
        'function that makes it, such as `lambda: MyEnv()`, or its id.'
      ) from error
    make: Callable = functools.partial(copy.deepcopy, original)
  elif callable(env):
    name, make = getattr(env, '__name__', type(env).__name__).strip('<>'), env
  else:
    raise ConfigError(
      'env must be an id, one environment or a function that makes one, not '
      f'{type(env).__name__}.'
    )
  # The same in every process, since it is part of the run's identity.
  env_id = f'{_LOCAL}{name}-v0'
  return {'run.environment': env_id}, {env_id: make}


def function(env_id: str, env: Any) -> dict[str, Callable]:
  """The function that `environment` gives, by an id that is recorded.

  Raises:
    ConfigError: for an id that is no function's, and as `environment`.
  """
  _, by_id = environment(env)
  if not env_id.startswith(_LOCAL) or not by_id:
    raise ConfigError(f'{env_id} is an id of its own; leave env out.')
  return dict.fromkeys([env_id], *by_id.values())


@contextlib.contextmanager
def registered(functions: Mapping[str, Callable | None]) -> Iterator[None]:
  """Gymnasium knows ids of functions meanwhile, and none where it is None."""
  before = {i: gymnasium.registry.pop(i, None) for i in functions}
  try:
    for env_id, make in functions.items():
      if make is not None:
        gymnasium.register(env_id, entry_point=make)
    yield
  finally:
    for env_id, spec in before.items():
      gymnasium.registry.pop(env_id, None)
      if spec is not None:
        gymnasium.registry[env_id] = spec


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


def whole_number(
  name: str, value: Any, low: int = 0, high: float = math.inf
) -> int:
  """An argument as an int, of any library; ConfigError if it is not whole."""
  try:
    number = int(value)
    is_whole = number == value
  except (TypeError, ValueError, OverflowError):
    is_whole = False
  bounds = ranges.Range(low, high)
  problem = bounds.problem(number) if is_whole else 'a whole number'
  if problem:
    raise ConfigError(f'{name} must be {problem}, not {value!r}.')
  return number


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
