"""Environments of every kind of space, for spaces_test.py.

`tests.training.any_space:AnySpace-v0` takes `load_environment.kind`. The reward
is 1 for an action whose first number is in the upper half of its range.
"""

import copy

import gymnasium
import numpy as np
from gymnasium import spaces

_VECTOR = spaces.Box(-1.0, 1.0, (3,))
_IMAGE = spaces.Box(0, 255, (8, 8, 3), np.uint8)

# Kind -> (observation space, action space).
KINDS = {
  'vector': (_VECTOR, spaces.Box(-1.0, 2.0, (2,))),
  'Discrete': (spaces.Discrete(5, start=2), spaces.Discrete(3, start=1)),
  'MultiDiscrete': (
    spaces.MultiDiscrete([3, 2]),
    spaces.MultiDiscrete([2, 3], start=[1, 0]),
  ),
  'MultiBinary': (spaces.MultiBinary(4), spaces.MultiBinary([2, 1])),
  'integer Box': (
    spaces.Box(0, 9, (2,), np.int64),
    spaces.Box(-1, 2, (2,), np.int32),
  ),
  '125 combinations': (_VECTOR, spaces.MultiDiscrete([5, 5, 5])),
  'scalar': (spaces.Box(-1.0, 1.0, ()), spaces.Box(-2.0, 1.0, ())),
  'matrix': (
    spaces.Box(-np.inf, np.inf, (2, 3), np.float64),
    spaces.Box(0.0, 3.0, (2, 2)),
  ),
  'Dict': (
    spaces.Dict(
      {
        'goal': spaces.Dict({'place': _VECTOR, 'color': spaces.Discrete(3)}),
        'time': spaces.Box(-1.0, 1.0, (), np.float64),
      }
    ),
    spaces.Box(-1.0, 1.0, (2,)),
  ),
  'Tuple': (
    spaces.Tuple([spaces.Discrete(4), spaces.MultiBinary(3), _VECTOR]),
    spaces.Discrete(2),
  ),
  # With load_environment.action_bounds.
  'half-bounded': (_VECTOR, spaces.Box(np.array([0.0, -np.inf]), np.inf)),
  'image': (_IMAGE, spaces.Discrete(2)),
  'image and vector': (
    spaces.Dict({'camera': _IMAGE, 'joints': _VECTOR}),
    spaces.Box(-1.0, 1.0, (2,)),
  ),
}


class AnySpace(gymnasium.Env):
  """Random observations, episodes of 5 steps."""

  def __init__(self, kind: str):
    """Takes the spaces of a kind."""
    # A space has random numbers of its own.
    self.observation_space, self.action_space = copy.deepcopy(KINDS[kind])

  def reset(self, *, seed=None, options=None):
    """The seed is that of the observations."""
    super().reset(seed=seed)
    if seed is not None:
      self.observation_space.seed(seed)
    self._steps = 0
    return self.observation_space.sample(), {}

  def step(self, action):
    """Refuses actions that are not in the space."""
    space = self.action_space
    dtype, shape = getattr(action, 'dtype', None), getattr(action, 'shape', ())
    assert shape == space.shape, (action, space)
    assert space.contains(np.asarray(action, space.dtype)), (dtype, action)
    first = float(np.ravel(action)[0])
    self._steps += 1
    reward = float(first > 0.5)
    observation = self.observation_space.sample()
    return observation, reward, self._steps == 5, False, {}


gymnasium.register('AnySpace-v0', f'{__name__}:AnySpace')
