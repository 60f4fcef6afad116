"""Environments as JSON: for gymnasium to make again, and for Minari."""

import contextlib
import json
from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium import wrappers

from qwr_tf.environments import env_names


def describe(env: gymnasium.Env) -> dict[str, Any]:
  """A description with which gymnasium alone makes the environment again.

  Args:
    env: made by `gymnasium.make`; wrappers around it record their arguments,
      as gymnasium's do.

  Returns:
    `gymnasium_spec`: id, entry_point and kwargs of an EnvSpec; `wrappers`:
    name, entry_point and kwargs of each, innermost first;
    `observation_space`, `action_space` and `render_fps`. Of the first two, one
    with an argument that is not JSON is None, and `not_described` says why.
  """
  content: dict[str, Any] = {
    'observation_space': content_of(env.observation_space, bounds=False),
    'action_space': content_of(env.action_space),
    'render_fps': env.metadata.get('render_fps') or 30,
  }
  reasons = []
  for name, part in (('gymnasium_spec', _spec), ('wrappers', _wrappers)):
    try:
      # Tuples become lists here already.
      content[name] = json.loads(json.dumps(part(env), allow_nan=False))
    except (TypeError, ValueError) as error:
      content[name] = None
      reasons.append(str(error))
  return content | ({'not_described': '; '.join(reasons)} if reasons else {})


def _spec(env: gymnasium.Env) -> dict[str, Any]:
  spec = env.unwrapped.spec
  if spec is None:
    raise ValueError('the environment was not made by gymnasium.make')
  if spec.id == env_names.NO_SIMULATOR:
    raise ValueError('it stands for logged data')
  kwargs = {k: v for k, v in spec.kwargs.items() if k != 'render_mode'}
  entry_point: Any = spec.entry_point
  if callable(entry_point):
    entry_point = f'{entry_point.__module__}:{entry_point.__qualname__}'
  return {'id': spec.id, 'entry_point': entry_point, 'kwargs': kwargs}


def _wrappers(env: gymnasium.Env) -> list[dict[str, Any]]:
  """The wrappers around what `gymnasium.make` made, innermost first."""
  kind = type(env)
  if not isinstance(env, gymnasium.Wrapper) or kind is wrappers.OrderEnforcing:
    return []
  wrapper = {
    'name': kind.__name__,
    'entry_point': f'{kind.__module__}:{kind.__qualname__}',
    'kwargs': _arguments(env),
  }
  return [*_wrappers(env.env), wrapper]


def _arguments(env: gymnasium.Wrapper) -> dict[str, Any]:
  if env.spec is None:
    raise ValueError('the environment was not made by gymnasium.make')
  if isinstance(env, wrappers.TimeLimit):  # It edits the spec instead.
    return {'max_episode_steps': env.spec.max_episode_steps}
  kwargs = env.spec.additional_wrappers[-1].kwargs
  if kwargs is None:
    raise ValueError(
      f'{type(env).__name__} is no gymnasium.utils.RecordConstructorArgs'
    )
  return kwargs


def minari_metadata(env: gymnasium.Env) -> dict[str, str]:
  """Entries of Minari's metadata.json, JSON texts.

  Args:
    env: with spaces of arrays, Dicts or Tuples of them.

  Returns:
    `observation_space`, `action_space`, and `env_spec` if the environment has
    one that is JSON.
  """
  metadata = {
    'observation_space': json.dumps(content_of(env.observation_space)),
    'action_space': json.dumps(content_of(env.action_space)),
  }
  with contextlib.suppress(TypeError, ValueError):
    if env.spec is not None:
      metadata['env_spec'] = env.spec.to_json()
  return metadata


def space_of(content: Mapping[str, Any]) -> gymnasium.Space:
  """The space of a description in `describe` or `minari_metadata`.

  Raises:
    ValueError: for other content.
  """
  try:
    return _space_of(content)
  except (KeyError, TypeError, ValueError, OverflowError) as error:
    raise ValueError(f'{content} describes no space: {error}') from error


def _space_of(content: Mapping[str, Any]) -> gymnasium.Space:
  kind = content['type']
  if kind == 'Dict':
    inner = content['subspaces'].items()
    return spaces.Dict({key: _space_of(value) for key, value in inner})
  if kind == 'Tuple':
    return spaces.Tuple([_space_of(value) for value in content['subspaces']])
  if kind == 'Discrete':
    return spaces.Discrete(int(content['n']), start=int(content['start']))
  if kind == 'MultiDiscrete':
    return spaces.MultiDiscrete(content['nvec'], start=content['start'])
  if kind == 'MultiBinary':
    return spaces.MultiBinary(content['shape'])
  if kind != 'Box':
    raise ValueError(f'a space of type {kind!r} is not supported')
  dtype = np.dtype(content['dtype'])
  unbounded = (0, 255) if dtype == np.uint8 else (-np.inf, np.inf)
  low, high = (
    np.broadcast_to(np.asarray(bound, dtype), content['shape'])
    for bound in (
      content.get('low', unbounded[0]),
      content.get('high', unbounded[1]),
    )
  )
  return spaces.Box(low, high, dtype=dtype.type)


def dict_content(entries: Mapping[str, Any]) -> dict[str, Any]:
  """The description of a Dict space from those of its entries by path."""
  space: dict[str, Any] = {'type': 'Dict', 'subspaces': {}}
  for path, content in entries.items():
    inner = space
    *outer, name = path.split('/')
    for key in outer:
      empty = {'type': 'Dict', 'subspaces': {}}
      inner = inner['subspaces'].setdefault(key, empty)
    inner['subspaces'][name] = content
  return space


def content_of(space: gymnasium.Space, bounds: bool = True) -> dict[str, Any]:
  """A space as Minari writes it; MultiDiscrete and MultiBinary in its style."""
  content: dict[str, Any] = {'type': type(space).__name__}
  if isinstance(space, spaces.Dict):
    inner = {k: content_of(x, bounds) for k, x in space.spaces.items()}
    return content | {'subspaces': inner}
  if isinstance(space, spaces.Tuple):
    return content | {
      'subspaces': [content_of(x, bounds) for x in space.spaces]
    }
  content['dtype'] = np.dtype(space.dtype).name
  if isinstance(space, spaces.Discrete):
    return content | {'start': space.start.item(), 'n': space.n.item()}
  content['shape'] = list(space.shape or ())
  if isinstance(space, spaces.MultiDiscrete):
    content |= {'start': space.start.tolist(), 'nvec': space.nvec.tolist()}
  if isinstance(space, spaces.Box) and bounds:
    content |= {'low': space.low.tolist(), 'high': space.high.tolist()}
  return content
