"""The interface of a table that Algorithm 2 draws windows from."""

from collections.abc import Callable, Sequence
from typing import Protocol

import tensorflow as tf
from tf_agents.trajectories import trajectory
from tf_agents.typing import types


class Table(Protocol):
  """Windows of steps: a `ReplayTable`, or a server's `ReverbTable`."""

  def windows(
    self, shape: Sequence, window_rows: int, seed: types.Seed
  ) -> Callable[[tf.Tensor], trajectory.Trajectory]:
    """Draws for a phase, shape [steps, B]: step i -> [B, window_rows, ...]."""
    ...

  def redraw(
    self, shape: Sequence, window_rows: int, seed: types.Seed, i: int
  ) -> tuple[tf.Tensor, trajectory.Trajectory]:
    """(window starts [B], windows) of step i of the newest phase, again."""
    ...
