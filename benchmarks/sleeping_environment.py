"""An environment whose steps take 5 ms and no computation."""

import time

import gymnasium
import numpy as np


class SleepingEnv(gymnasium.Env):
  """Episodes of 200 steps."""

  observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (8,), np.float32)
  action_space = gymnasium.spaces.Box(-1.0, 1.0, (2,), np.float32)

  def reset(self, *, seed=None, options=None):
    """Begins."""
    super().reset(seed=seed)
    return np.zeros(8, np.float32), {}

  def step(self, action):
    """Sleeps."""
    time.sleep(0.005)
    return np.full(8, 0.5, np.float32), 1.0, False, False, {}


gymnasium.register(
  'Sleeping-v0',
  'benchmarks.sleeping_environment:SleepingEnv',
  max_episode_steps=200,
)
