"""Environments of one's own: images, images beside vectors, several actions.

    python -m qwr_tf train --gin_file=pixels \
        --env=examples.small_tasks:Catch-v0 --interactions=3000

Installed, the module is `qwr_tf.examples.small_tasks`. Catch's episodes
end by themselves, so that it needs no time limit.
"""

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

_CELL = 8  # Pixels.


class Catch(gymnasium.Env):
  """A ball falls in a random column; a paddle moves left, stays or right.

  The last step's reward is 1 if the paddle catches the ball, else -1; random
  actions score -0.8. Based on "catch" of bsuite (Osband et al. 2020).
  """

  def __init__(self, size: int = 8, paddle_in_image: bool = True):
    """Makes the spaces.

    Args:
      size: rows and columns, of 8 pixels each; an episode has size - 1 steps.
      paddle_in_image: if not, observations are {'camera': image, 'paddle':
        column in [-1, 1]}.
    """
    self._size, self._paddle_in_image = size, paddle_in_image
    pixels = size * _CELL
    image = spaces.Box(0, 255, (pixels, pixels, 3), np.uint8)
    paddle = spaces.Box(-1.0, 1.0, (1,))
    self.observation_space = (
      image
      if paddle_in_image
      else spaces.Dict({'camera': image, 'paddle': paddle})
    )
    self.action_space = spaces.Discrete(3)

  def reset(self, *, seed: int | None = None, options: Any = None):
    """Drops a ball; the paddle starts in the middle."""
    super().reset(seed=seed)
    self._row, self._column = 0, int(self.np_random.integers(self._size))
    self._paddle = self._size // 2
    return self._observation(), {}

  def step(self, action: Any):
    """Moves the paddle by action - 1 columns, the ball down one row."""
    self._paddle = int(np.clip(self._paddle + action - 1, 0, self._size - 1))
    self._row += 1
    terminated = self._row == self._size - 1
    reward = 0.0
    if terminated:
      reward = 1.0 if self._paddle == self._column else -1.0
    return self._observation(), reward, terminated, False, {}

  def _observation(self) -> Any:
    grid = np.zeros((self._size, self._size, 3), np.uint8)
    if self._paddle_in_image:
      grid[-1, self._paddle, 1] = 255  # Green
    grid[self._row, self._column, 0] = 255  # Red
    image = grid.repeat(_CELL, axis=0).repeat(_CELL, axis=1)
    if self._paddle_in_image:
      return image
    paddle = 2 * self._paddle / (self._size - 1) - 1
    return {'camera': image, 'paddle': np.array([paddle], np.float32)}


class Dials(gymnasium.Env):
  """Three dials are turned at once, each to a number of its own.

  Observations: positions and wanted positions. Actions: back, stay or forth for
  each dial. A step costs the share of dials that are wrong then; an episode
  ends when all are right, after 30 steps at most. Random actions score -21.
  """

  observation_space = spaces.MultiDiscrete([5] * 6)
  action_space = spaces.MultiDiscrete([3, 3, 3])

  def reset(self, *, seed: int | None = None, options: Any = None):
    """Draws positions and wanted positions."""
    super().reset(seed=seed)
    self._dials, self._wanted = self.np_random.integers(5, size=(2, 3))
    return self._observation(), {}

  def step(self, action: Any):
    """Turns the dials."""
    self._dials = (self._dials + np.asarray(action) - 1) % 5
    reward = -float(np.mean(self._dials != self._wanted))
    return self._observation(), reward, reward == 0.0, False, {}

  def _observation(self) -> np.ndarray:
    return np.concatenate([self._dials, self._wanted])


gymnasium.register('Catch-v0', f'{__name__}:Catch')
gymnasium.register(
  'CatchDict-v0', f'{__name__}:Catch', kwargs={'paddle_in_image': False}
)
gymnasium.register('Dials-v0', f'{__name__}:Dials', max_episode_steps=30)
