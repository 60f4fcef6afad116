"""Steps of a file in D4RL's layout.

Flat arrays `observations`, `actions`, `rewards`, `terminals`, `timeouts`, and
where there are any `next_observations` and `infos/dist_params/<name>`: of the
policy that acted, in units where action bounds are +-1.
"""

import pathlib
from collections.abc import Iterator
from typing import Any

import h5py
import numpy as np

from qwr_tf.datasets import columns
from qwr_tf.datasets import steps as steps_lib
from qwr_tf.datasets.steps import Fields
from qwr_tf.datasets.steps import Steps


class D4rlSource:
  """An open file of flat arrays."""

  def __init__(self, path: pathlib.Path, file: h5py.File):
    """Remembers the file; `metadata` is what D4RL's files say, nothing."""
    self.path = path
    self.close = file.close
    self._file = file
    self.metadata: dict[str, Any] = {}

  def num_steps(self) -> int:
    """Steps of all episodes."""
    return len(
      columns.Column(self._file, columns.REWARD, f'{self.path}: all episodes')
    )

  def recorded(self) -> set[str]:
    """Names of the recorded parameters."""
    with columns.readable(str(self.path)):
      return set(self._file.get(steps_lib.DIST_PARAMS, ()))

  def chunks(self, fields: Fields, num_steps: int) -> Iterator[Steps]:
    """Yields chunks of `num_steps` steps.

    Raises:
      ValueError: for arrays that do not fit, and for the first bad step.
    """
    place = f'{self.path}: all episodes'
    reward = columns.Column(self._file, columns.REWARD, place)

    def column(field: columns.Field) -> columns.Column:
      found = columns.Column(self._file, field, place)
      found.check_length(len(reward), 'rewards')
      return found

    observation, action = column(fields.observation), column(fields.action)
    terminal = column(columns.flag('terminals'))
    timeout = column(columns.flag('timeouts'))
    following = None
    if 'next_observations' in self._file:
      field = fields.observation._replace(name='next_observations')
      following = column(field)
    params = {k: column(field) for k, field in fields.dist_params.items()}
    episode, start = 0, 0  # Where the chunk begins.
    for first in range(0, len(reward), num_steps):
      end = min(first + num_steps, len(reward))
      plain = _row_locator(self.path, first)
      terminals = terminal.read(first, end, plain)
      timeouts = timeout.read(first, end, plain) & ~terminals
      ends = terminals | timeouts
      locate = _episode_locator(self.path, ends, episode, first - start)
      final = None
      if following is not None and terminals.any():
        final = following.read(first, end, locate)[terminals]
      yield Steps(
        observation.read(first, end, locate),
        action.read(first, end, locate),
        reward.read(first, end, locate),
        terminals,
        timeouts,
        ~ends & (np.arange(first, end) == len(reward) - 1),
        final,
        {k: c.read(first, end, locate) for k, c in params.items()},
      )
      episode += int(ends.sum())
      if ends.any():
        start = first + int(np.flatnonzero(ends)[-1]) + 1


def _row_locator(path: pathlib.Path, first: int):
  return lambda step: f'{path}: row {first + step}'


def _episode_locator(path, ends: np.ndarray, episode: int, age: int):
  """Step of a chunk to words.

  Args:
    path: of the file.
    ends: which steps of the chunk end an episode, bool [n].
    episode: number of the one the chunk begins in.
    age: steps of that episode before the chunk.
  """

  def locate(step: int) -> str:
    before = np.flatnonzero(ends[:step])
    in_episode = step - before[-1] - 1 if len(before) else step + age
    return f'{path}: episode {episode + len(before)}, step {in_episode}'

  return locate
