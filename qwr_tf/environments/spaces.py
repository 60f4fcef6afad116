"""gymnasium's spaces as TF-Agents' specs, and the maps between both.

An observation is one array, or {entry: array} of a Dict or Tuple space. Entries
have the names of their paths in Minari's files: `hand/angle`, `_index_0`.
"""

import keyword
import re
import textwrap
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import gymnasium
import numpy as np
from gymnasium import spaces
from tf_agents.specs import array_spec
from tf_agents.specs import tensor_spec
from tf_agents.trajectories import time_step as ts

# Of one number in an action; more are no categories.
_MAX_VALUES = 1000

# Names of other inputs of signatures, and of Python's methods.
_TAKEN = ('action', 'seed', 'self')


class Entry(NamedTuple):
  """A space within Dict and Tuple spaces.

  Attributes:
    name: keys of the outer spaces joined by '/'; '' if there are none.
    keys: of the outer spaces, the outermost first.
    space: no Dict and no Tuple.
    spec: of its arrays.
  """

  name: str
  keys: tuple
  space: gymnasium.Space
  spec: array_spec.ArraySpec


def entries(space: gymnasium.Space) -> list[Entry]:
  """The entries of an observation space, one for a space without others.

  uint8 stays uint8 and other numbers of a Box are float32, without bounds,
  because environments overstep them (CartPole by rounding). Discrete,
  MultiDiscrete and MultiBinary are bounded int32.

  Raises:
    ValueError: for spaces that are no arrays, and for keys that no input of an
      exported policy can be named for.
  """
  flat = [*_entries(space, (), ())]
  inputs = [entry.spec.name.lower() for entry in flat]
  if len(set(inputs)) < len(inputs):
    raise ValueError(
      f'observation space {_in_short(space)} has entries with the same letters '
      '(a to z, in either case) and digits; rename them with '
      'gymnasium.wrappers.TransformObservation'
    )
  return flat


def _entries(
  space: gymnasium.Space, keys: tuple, names: tuple[str, ...]
) -> Iterator[Entry]:
  if isinstance(space, spaces.Dict):
    for key, inner in space.spaces.items():
      if not isinstance(key, str):
        raise ValueError(
          f'observation space {_in_short(space)} has the key {key!r}, which is '
          'no text; rename it with gymnasium.wrappers.TransformObservation'
        )
      yield from _entries(inner, (*keys, key), (*names, key))
  elif isinstance(space, spaces.Tuple):
    for i, inner in enumerate(space.spaces):
      yield from _entries(inner, (*keys, i), (*names, f'_index_{i}'))
  else:
    name = '/'.join(names)
    yield Entry(name, keys, space, _leaf_spec(space, input_name(name)))


def input_name(entry: str) -> str:
  """The input of exported policies for an entry: a-z, A-Z, 0-9 and '_'.

  Names that Python or a signature needs itself, and numbers, get a prefix.
  """
  name = re.sub(r'\W+', '_', entry, flags=re.ASCII).strip('_')
  is_taken = keyword.iskeyword(name) or name.lower() in _TAKEN
  is_name = name.isidentifier() and not is_taken
  return name if is_name else f'observation_{name}'.rstrip('_')


def _leaf_spec(space: gymnasium.Space, name: str) -> array_spec.ArraySpec:
  if isinstance(space, spaces.Box):
    dtype = np.uint8 if space.dtype == np.uint8 else np.float32
    return array_spec.ArraySpec(space.shape, dtype, name=name)
  if isinstance(space, _CATEGORIES):
    low, high = _categories(space)
    return array_spec.BoundedArraySpec(low.shape, np.int32, low, high, name)
  wrapper = (
    'FlattenObservation' if space.is_np_flattenable else 'TransformObservation'
  )
  raise ValueError(
    f'observation space {_in_short(space)} is no array; wrap the environment '
    f'in gymnasium.wrappers.{wrapper}'
  )


_CATEGORIES = (spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary)


def _categories(space: Any) -> tuple[np.ndarray, np.ndarray]:
  """Lowest and highest value of each number."""
  if isinstance(space, spaces.MultiBinary):
    return np.zeros(space.shape, np.int32), np.ones(space.shape, np.int32)
  sizes = space.n if isinstance(space, spaces.Discrete) else space.nvec
  start = np.asarray(space.start)
  return start, np.asarray(start + sizes - 1)


def observation_spec(space: gymnasium.Space):
  """The spec of an observation, or {entry: spec}; see `entries`."""
  first, *_ = flat = entries(space)
  if not first.keys:
    return first.spec
  return {entry.name: entry.spec for entry in flat}


def observation_map(
  space: gymnasium.Space, raw: bool = False
) -> Callable[[Any], Any]:
  """A function from the environment's observation to one of the spec.

  With `raw` its arrays keep the dtypes of the space. It copies, because some
  environments reuse an array for the next observation. It raises ValueError
  for observations that do not fit.
  """
  first, *_ = flat_entries = entries(space)
  if not first.keys:
    return _entry_map(first, raw)
  maps = [(entry, _entry_map(entry, raw)) for entry in flat_entries]

  def flat(observation):
    arrays = {}
    for entry, convert in maps:
      value = observation
      try:
        for key in entry.keys:
          value = value[key]
      except (LookupError, TypeError) as error:
        raise ValueError(
          f'an observation lacks {entry.name}; the observation space says '
          f'{_in_short(space)}'
        ) from error
      arrays[entry.name] = convert(value)
    return arrays

  return flat


def rows(space: gymnasium.Space, batch: Any) -> Iterator[Any]:
  """Yields the observations of a batch, whose arrays are [B, ...]."""
  if isinstance(space, spaces.Dict):
    inner = {k: rows(space[k], batch[k]) for k in space if k in batch}
    for values in zip(*inner.values(), strict=True):
      yield dict(zip(inner, values, strict=True))
  elif isinstance(space, spaces.Tuple):
    yield from zip(*map(rows, space, batch), strict=True)
  else:
    yield from batch


def _entry_map(entry: Entry, raw: bool) -> Callable[[Any], np.ndarray]:
  spec: Any = entry.spec
  space, shape = entry.space, spec.shape
  dtype: Any = space.dtype if raw else spec.dtype
  what = f'observation ({entry.name})' if entry.name else 'observation'

  def convert(value):
    if isinstance(value, dict):
      raise ValueError(
        f'an {what} is a dict; the observation space says {space}'
      )
    copy = np.array(value, dtype)
    if copy.shape != shape:
      raise ValueError(
        f'an {what} has the shape {copy.shape}; the observation space says '
        f'{shape}'
      )
    return copy

  def category(value):
    copy = convert(value)
    if (copy < spec.minimum).any() or (copy > spec.maximum).any():
      raise ValueError(
        f'an {what} is {copy}; the observation space says {_in_short(space)}'
      )
    return copy

  return category if isinstance(space, _CATEGORIES) else convert


def action_spec(space: gymnasium.Space) -> array_spec.BoundedArraySpec:
  """A spec of actions: int32 in [0, n - 1], or a float32 vector in [-1, 1].

  int32 is a scalar for a Discrete, a vector [A] for MultiDiscrete, MultiBinary
  and integer Boxes. Matrices and scalars of a Box become vectors.

  Raises:
    ValueError: as `action_bounds` does.
  """
  low, high = action_bounds(space)
  if not is_integer(space):
    return array_spec.BoundedArraySpec(
      (low.size,), np.float32, minimum=-1.0, maximum=1.0, name='action'
    )
  is_scalar = isinstance(space, spaces.Discrete)
  last = (high - low).item() if is_scalar else (high - low).ravel()
  shape = () if is_scalar else (low.size,)
  first = np.zeros_like(last)
  return array_spec.BoundedArraySpec(shape, np.int32, first, last, 'action')


def specs_of(observation_space: gymnasium.Space, action_space: gymnasium.Space):
  """(time step spec, action spec) of tensors; ValueError as those above."""
  observation = tensor_spec.from_spec(observation_spec(observation_space))
  action = tensor_spec.from_spec(action_spec(action_space))
  return ts.time_step_spec(observation), action


def action_map(space: gymnasium.Space) -> Callable[[np.ndarray], Any]:
  """A function from an agent's action to the environment's.

  Integers: [0, n - 1] to [start, start + n - 1]. Floats: [-1, 1] linearly to
  the bounds, then clipped to them, since Gaussian agents act out of bounds.

  It takes 0.7 us if the bounds are +-1 and 1.5 us elsewhere, where gymnasium's
  RescaleAction and ClipAction take 2.6 us of a HalfCheetah step's 40 us.

  Raises:
    ValueError: as `action_bounds` does.
  """
  bounds = action_bounds(space)
  if isinstance(space, spaces.Discrete):
    start = space.start
    return lambda action: int(action + start)
  low, high = (bound.ravel() for bound in bounds)
  if is_integer(space):
    convert = lambda action: action + low  # noqa: E731
  else:
    scale, offset = (x.ravel() for x in action_scale(space))
    if np.all(scale == 1) and np.all(offset == 0):
      convert = lambda a: np.minimum(np.maximum(a, low), high)  # noqa: E731
    else:
      convert = lambda a: np.minimum(  # noqa: E731
        np.maximum(a * scale + offset, low), high
      )
  shape: Any = space.shape
  dtype: Any = space.dtype
  if shape == low.shape and np.can_cast(np.float32, dtype):
    return convert
  return lambda action: convert(action).reshape(shape).astype(dtype, copy=False)


def action_scale(space: gymnasium.Space) -> tuple[np.ndarray, np.ndarray]:
  """(scale, offset): an agent's action a is a * scale + offset in a float Box.

  Raises:
    ValueError: as `action_bounds` does.
  """
  low, high = action_bounds(space)
  # Halves, as the difference of the bounds may overflow.
  return high / 2 - low / 2, high / 2 + low / 2


def action_bounds(space: gymnasium.Space) -> tuple[np.ndarray, np.ndarray]:
  """Lowest and highest action in the environment's units and shape.

  Raises:
    ValueError: for Dict, Tuple and other spaces, for a Box without bounds, for
      integers with more than 1000 values, and for bounds that an exported
      policy's int32 or float32 cannot hold.
  """
  fix = (
    'map it to a Discrete, a MultiDiscrete or a bounded Box with '
    'gymnasium.wrappers.TransformAction'
  )
  if isinstance(space, _CATEGORIES):
    low, high = _categories(space)
  elif not isinstance(space, spaces.Box):
    raise ValueError(
      f'action space {_in_short(space)} is neither Discrete, MultiDiscrete, '
      f'MultiBinary nor a Box; {fix}'
    )
  elif not space.is_bounded():
    raise ValueError(
      f'action space {_in_short(space)} has no bounds to scale actions to; '
      'give them: load_environment.action_bounds = (-1.0, 1.0)'
    )
  else:
    low, high = space.low, space.high
  exported: Any = np.iinfo(np.int32) if is_integer(space) else np.finfo('f')
  if np.max(np.maximum(-low.astype(float), high)) > exported.max:
    raise ValueError(
      f'action space {_in_short(space)} has numbers that {exported.dtype} '
      f'cannot hold; {fix}'
    )
  if is_integer(space) and not isinstance(space, spaces.Discrete):
    if np.max(high.astype(float) - low) >= _MAX_VALUES:
      raise ValueError(
        f'action space {_in_short(space)} has more than {_MAX_VALUES} values '
        f'of one number; {fix}'
      )
    low, high = low.astype(np.int64), high.astype(np.int64)
  return low, high


def is_integer(space: gymnasium.Space) -> bool:
  """True if actions are integers."""
  return not np.issubdtype(space.dtype, np.floating)


def _in_short(space: gymnasium.Space) -> str:
  """A space in one line, also if its bounds are arrays."""
  return textwrap.shorten(str(space), width=100)
