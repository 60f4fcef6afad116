"""What Algorithm 2 asks of a table, wherever its rows are."""

from collections.abc import Callable, Sequence
from typing import Protocol

import tensorflow as tf
from tf_agents.trajectories import trajectory
from tf_agents.typing import types


class Table(Protocol):
  """Windows of steps: a `ReplayTable`, or a server's `ReverbTable`."""

  # Which windows were read last, int64 [B], as `gather` takes them.
  latest_starts: tf.Variable

  def windows(
    self, shape: Sequence, num_steps: int, seed: types.Seed
  ) -> Callable[[tf.Tensor], trajectory.Trajectory]:
    """Draws for a phase, shape [steps, B]: step i -> [B, num_steps, ...]."""
    ...

  def gather(self, starts: tf.Tensor, num_steps: int) -> trajectory.Trajectory:
    """The windows that begin there, [B, num_steps, ...]."""
    ...
