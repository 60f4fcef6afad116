"""An environment without a simulator, for learning from logged data alone."""

from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec

from qwr_tf.environments import description
from qwr_tf.environments.env_names import NO_SIMULATOR

_Bound = float | Sequence


class NoSimulatorEnv(gymnasium.Env):
  """Spaces alone: a reset gives zeros, and a step raises RuntimeError."""

  metadata: dict[str, Any] = {'render_modes': []}

  def __init__(
    self,
    observation_shape: Sequence[int] | None = None,
    observation_dtype: str = 'float32',
    action_shape: Sequence[int] | None = None,
    action_low: _Bound = -1.0,
    action_high: _Bound = 1.0,
    num_actions: int | None = None,
    observation_space: Mapping[str, Any] | None = None,
    action_space: Mapping[str, Any] | None = None,
  ):
    """Creates the spaces.

    Args:
      observation_shape: such as (17,).
      observation_dtype: 'uint8' for images.
      action_shape: of actions that are vectors.
      action_low: bound of all elements, or of each (nested as they are).
      action_high: likewise.
      num_actions: of discrete actions, which count from 0.
      observation_space: in place of its shape, as Minari writes spaces, such as
        {'type': 'Dict', 'subspaces': {'goal': {'type': 'Box', 'shape': (3,),
        'dtype': 'float32'}}}.
      action_space: likewise, such as {'type': 'MultiDiscrete', 'nvec': (3, 2),
        'start': (0, 0)}.

    Raises:
      ValueError: if an argument is missing or does not fit.
    """
    if (observation_shape is None) == (observation_space is None):
      raise ValueError(
        f'{NO_SIMULATOR} needs load_environment.observation_shape, such as '
        '(17,), or load_environment.observation_space, one of them'
      )
    if [action_shape, num_actions, action_space].count(None) != 2:
      raise ValueError(
        f'{NO_SIMULATOR} needs load_environment.action_shape, such as (6,), '
        'or load_environment.num_actions or .action_space, one of them'
      )
    self.observation_space = description.space_of(
      observation_space
      or {
        'type': 'Box',
        'shape': observation_shape,
        'dtype': observation_dtype,
      }
    )
    self.action_space: gymnasium.Space
    if action_space is not None:
      self.action_space = description.space_of(action_space)
    elif num_actions is not None:
      self.action_space = spaces.Discrete(num_actions)
    else:
      self.action_space = description.space_of(
        {
          'type': 'Box',
          'shape': action_shape,
          'dtype': 'float32',
          'low': action_low,
          'high': action_high,
        }
      )

  def reset(
    self, *, seed: int | None = None, options: dict | None = None
  ) -> tuple[Any, dict]:
    """Zeros, or the first categories, for instance to try a policy."""
    super().reset(seed=seed, options=options)
    return _first(self.observation_space), {}

  def step(self, action) -> tuple[np.ndarray, float, bool, bool, dict]:
    """Raises RuntimeError."""
    raise RuntimeError(
      f'{NO_SIMULATOR} cannot be played; give the environment of the data'
    )


def no_simulator_arguments(
  described: Mapping[str, gymnasium.Space],
) -> dict[str, Any]:
  """Arguments of `NoSimulatorEnv` for spaces by `observation` and `action`."""
  arguments: dict[str, Any] = {}
  for kind, space in described.items():
    if (
      kind == 'action'
      and isinstance(space, spaces.Discrete)
      and space.start == 0
    ):
      arguments['num_actions'] = space.n.item()
    elif not isinstance(space, spaces.Box):
      arguments[f'{kind}_space'] = description.content_of(space, bounds=False)
    elif kind == 'observation':
      is_image = space.dtype == np.uint8
      arguments['observation_shape'] = space.shape
      arguments['observation_dtype'] = 'uint8' if is_image else 'float32'
    else:
      arguments['action_shape'] = space.shape
      arguments['action_low'] = _tuples(space.low.tolist())
      arguments['action_high'] = _tuples(space.high.tolist())
  return arguments


def _tuples(numbers: Any) -> Any:
  return tuple(map(_tuples, numbers)) if isinstance(numbers, list) else numbers


def _first(space: Any) -> Any:
  if isinstance(space, spaces.Dict):
    return {key: _first(inner) for key, inner in space.spaces.items()}
  if isinstance(space, spaces.Tuple):
    return tuple(map(_first, space.spaces))
  first = getattr(space, 'start', 0)
  return np.zeros(space.shape, space.dtype) + np.asarray(first, space.dtype)


SPEC = EnvSpec(
  id=NO_SIMULATOR,
  entry_point='qwr_tf.environments.no_simulator:NoSimulatorEnv',
)
