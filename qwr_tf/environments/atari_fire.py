"""A wrapper for Atari games that wait for FIRE."""

from typing import Any

import gymnasium
import numpy as np


class FireFirst(gymnasium.Wrapper, gymnasium.utils.RecordConstructorArgs):
  """Makes FIRE the first action of each life, in games that have FIRE.

  Belongs inside of `atari.LifeLossTerminal`, whose resets do not all begin a
  life.
  """

  def __init__(self, env: gymnasium.Env):
    """Wraps a game whose `info` holds the lives left."""
    # Recorded, so that a description can make the wrapper again.
    gymnasium.utils.RecordConstructorArgs.__init__(self)
    super().__init__(env)
    meanings = env.unwrapped.get_action_meanings()  # type: ignore[attr-defined]
    self._fire = meanings.index('FIRE') if 'FIRE' in meanings else None
    self._lives = 0
    self._is_new = True

  def reset(
    self, *, seed: int | None = None, options: dict | None = None
  ) -> tuple[np.ndarray, dict]:
    """Starts a game with its first life."""
    observation, info = self.env.reset(seed=seed, options=options)
    self._lives, self._is_new = info['lives'], True
    return observation, info

  def step(
    self, action: Any
  ) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
    """Steps with the action, or with FIRE at the start of a life."""
    if self._is_new and self._fire is not None:
      action = self._fire
    observation, reward, terminated, truncated, info = self.env.step(action)
    self._is_new = info['lives'] < self._lives
    self._lives = info['lives']
    return observation, float(reward), terminated, truncated, info
