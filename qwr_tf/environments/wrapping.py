"""Wrappers around an environment: the user's, stacks, layout, bounds."""

import contextlib
import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium import wrappers

# 'Name', 'module:Class', a class or function, or a pair of one of these and
# keyword arguments.
Wrapper = str | Callable | Sequence

# A smaller array of two axes is a board rather than an image.
_SMALLEST_IMAGE = 16

# They learn statistics while they are stepped, which no copy of them has.
_LEARNING = (wrappers.NormalizeObservation, wrappers.NormalizeReward)


def wrap(env: gymnasium.Env, chosen: Sequence[Wrapper]) -> gymnasium.Env:
  """Applies the user's wrappers, the first one innermost.

  Raises:
    ValueError: for an entry that names no wrapper, and for wrappers with
      statistics of their own; names the fix.
  """
  for entry in chosen:
    wrapper, kwargs = _parts(entry)
    if isinstance(wrapper, str):
      wrapper = _by_name(wrapper)
    env = wrapper(env, **kwargs)
  layer = env
  while isinstance(layer, gymnasium.Wrapper):
    if isinstance(layer, _LEARNING) and layer.update_running_mean:
      raise ValueError(
        f'{type(layer).__name__} would scale by other statistics in training, '
        'evaluations and play; leave it out, and for observations set '
        'make_agent.normalizer = @ObservationNormalizer'
      )
    layer = layer.env
  return env


def follow(env: gymnasium.Env) -> None:
  """Draws with MuJoCo's camera 'track' where no camera follows the body.

  From gymnasium 1.4 on HalfCheetah and Ant run out of the picture.
  """
  renderer = getattr(env.unwrapped, 'mujoco_renderer', None)
  if renderer and renderer.camera_id == -1:
    cameras = range(renderer.model.ncam)
    names = {renderer.model.camera(i).name: i for i in cameras}
    if 'trackbodyid' not in (renderer.default_cam_config or {}):
      renderer.camera_id = names.get('track', -1)


def _parts(entry: Wrapper) -> tuple[str | Callable, Mapping[str, Any]]:
  if isinstance(entry, str) or callable(entry):
    return entry, {}
  if len(entry) == 2 and isinstance(entry[1], Mapping):
    return entry[0], entry[1]
  raise ValueError(
    f'load_environment.wrappers: {entry!r} is no wrapper; write a name or '
    "('Name', {'argument': value})"
  )


def _by_name(name: str) -> Callable:
  """A wrapper of gymnasium, or the class of 'module:Class'."""
  module, _, attribute = name.rpartition(':')
  source = importlib.import_module(module) if module else wrappers
  wrapper = getattr(source, attribute, None)
  if isinstance(wrapper, type) and issubclass(wrapper, gymnasium.Wrapper):
    return wrapper
  near = '' if module else "; one of your own is 'my_module:MyWrapper'"
  raise ValueError(
    f'load_environment.wrappers: {source.__name__} has no gymnasium.Wrapper '
    f'{attribute!r}{near}'
  )


def wrapper_names(chosen: Sequence[Wrapper]) -> list[str]:
  """Names among the entries of `load_environment.wrappers`."""
  wrappers_or_names = (_parts(entry)[0] for entry in chosen)
  return [name for name in wrappers_or_names if isinstance(name, str)]


def lay_out(
  env: gymnasium.Env, channels_first: bool | None, frame_stack: int
) -> gymnasium.Env:
  """Images as [height, width, channels], the newest `frame_stack` of them.

  Args:
    env: with any observations; only images are changed.
    channels_first: whether images are [channels, height, width] and are
      transposed; None: if they are uint8 and their first axis is the shortest.
    frame_stack: images in an observation, oldest first; the first image of an
      episode is repeated.

  Raises:
    ValueError: for other observations, where an argument asks for images.
  """
  if channels_first or (channels_first is None and _is_channels_first(env)):
    env = ChannelsLast(env)
  if frame_stack > 1:
    if len(env.observation_space.shape or ()) not in (2, 3):
      raise ValueError(
        'load_environment.frame_stack is for images [height, width(, '
        f'channels)], not {_form(env.observation_space)}'
      )
    env = SpaceDtype(env)
    env = wrappers.FrameStackObservation(env, frame_stack, padding_type='reset')
    return ChannelsLast(env)
  shape = env.observation_space.shape or ()
  if _is_uint8(env) and len(shape) == 2 and min(shape) >= _SMALLEST_IMAGE:
    return wrappers.ReshapeObservation(env, (*shape, 1))
  return env


def _is_uint8(env: gymnasium.Env) -> bool:
  space = env.observation_space
  return isinstance(space, gymnasium.spaces.Box) and space.dtype == np.uint8


def _is_channels_first(env: gymnasium.Env) -> bool:
  shape = env.observation_space.shape or ()
  is_image = _is_uint8(env) and len(shape) == 3
  return is_image and shape[0] < min(shape[1:])


def _form(space: gymnasium.Space) -> str:
  return (
    f'a {type(space).__name__}' if space.shape is None else f'{space.shape}'
  )


class SpaceDtype(wrappers.TransformObservation):
  """Copies of the space's dtype, whatever the environment returns.

  gymnasium stacks references, and no lists or other dtypes.
  """

  def __init__(self, env: gymnasium.Env):
    """Wraps an environment with observations in a Box."""
    # Recorded, so that a description can make the wrapper again.
    gymnasium.utils.RecordConstructorArgs.__init__(self)
    dtype: Any = env.observation_space.dtype
    super().__init__(env, lambda x: np.array(x, dtype), env.observation_space)


class ChannelsLast(wrappers.TransformObservation):
  """Images [n, height, width(, c)] to [height, width, n (times c)]."""

  def __init__(self, env: gymnasium.Env):
    """Wraps an environment.

    Raises:
      ValueError: if its observations do not have three or four axes.
    """
    # Recorded, so that a description can make the wrapper again.
    gymnasium.utils.RecordConstructorArgs.__init__(self)
    box = env.observation_space
    if not isinstance(box, gymnasium.spaces.Box) or len(box.shape) not in (
      3,
      4,
    ):
      raise ValueError(
        'load_environment.channels_first is for observations [channels, '
        f'height, width], not {_form(box)}; for entries of a Dict or a Tuple '
        'take gymnasium.wrappers.TransformObservation'
      )
    dtype: Any = box.dtype
    space = gymnasium.spaces.Box(
      _channels_last(box.low), _channels_last(box.high), dtype=dtype
    )
    super().__init__(env, _fastest(box), space)


def _channels_last(images: np.ndarray) -> np.ndarray:
  moved = np.moveaxis(images, 0, 2)
  return moved.reshape(*moved.shape[:2], -1)


def _fastest(box: gymnasium.spaces.Box) -> Callable:
  if box.shape[0] > 1 and len(box.shape) == 3 and box.dtype == np.uint8:
    with contextlib.suppress(ImportError):
      import cv2

      # 2 us; NumPy takes ten times as long.
      merge: Any = cv2.merge
      return lambda images: merge(np.asarray(images, np.uint8))
  return lambda images: _channels_last(np.asarray(images))


class BoundedActions(
  gymnasium.ActionWrapper, gymnasium.utils.RecordConstructorArgs
):
  """Bounds for the numbers of a Box action that have none, or half of them."""

  def __init__(self, env: gymnasium.Env, low: float, high: float):
    """Replaces infinite bounds.

    Raises:
      ValueError: unless actions are in a Box, and low is below high.
    """
    gymnasium.utils.RecordConstructorArgs.__init__(self, low=low, high=high)
    super().__init__(env)
    space: Any = env.action_space
    if not isinstance(space, gymnasium.spaces.Box):
      raise ValueError(
        'load_environment.action_bounds is for a Box, not for the action space '
        f'{space}; remove it'
      )
    lowest = np.where(np.isfinite(space.low), space.low, low)
    highest = np.where(np.isfinite(space.high), space.high, high)
    if not np.all(lowest < highest):
      raise ValueError(
        f'load_environment.action_bounds = ({low}, {high}) leaves no actions '
        f'in {space}; give a lower and a higher number'
      )
    dtype: Any = space.dtype
    self.action_space = gymnasium.spaces.Box(
      lowest.astype(dtype), highest.astype(dtype), dtype=dtype
    )

  def action(self, action: np.ndarray) -> np.ndarray:
    """The same action."""
    return action
