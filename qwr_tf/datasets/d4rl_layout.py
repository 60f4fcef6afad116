"""Steps of a file in D4RL's layout.

Flat arrays `observations`, `actions`, `rewards`, `terminals`, `timeouts`;
optionally `next_observations` and `infos/dist_params/<name>`, of the policy
that acted, in units where action bounds are +-1.
"""

import pathlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import h5py
import numpy as np

from qwr_tf.datasets import columns
from qwr_tf.datasets import steps as steps_lib
from qwr_tf.datasets.steps import Fields
from qwr_tf.datasets.steps import Steps

_WITHOUT_TIMEOUTS = (
  'set DataSet.max_episode_steps to the time limit of the environment (MuJoCo: '
  '1000), where episodes without a terminal step are then cut'
)


class _Columns(NamedTuple):
  """Open arrays of a file; `timeout` and `next_observation` may be missing."""

  observation: columns.Column
  action: columns.Column
  reward: columns.Column
  terminal: columns.Column
  timeout: columns.Column | None
  next_observation: columns.Column | None
  dist_params: dict[str, columns.Column]


class D4rlSource:
  """An open file of flat arrays; `metadata` is empty."""

  def __init__(
    self, path: pathlib.Path, file: h5py.File, max_episode_steps: int | None
  ):
    """Stores the arguments.

    Args:
      path: of the file.
      file: open.
      max_episode_steps: time limit of episodes in files without `timeouts`.
    """
    self.path = path
    self._limit = max_episode_steps
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
    name = steps_lib.DIST_PARAMS
    return set(columns.group(self._file, name, f'{self.path}, {name}') or ())

  def _columns(self, fields: Fields) -> _Columns:
    """Opens the arrays, which are as long as the rewards."""
    place = f'{self.path}: all episodes'
    reward = columns.Column(self._file, columns.REWARD, place)

    def column(field: columns.Field) -> columns.Column:
      opened = columns.Column(self._file, field, place)
      opened.check_length(len(reward), 'rewards has')
      return opened

    timeout, next_observation = None, None
    if 'timeouts' in self._file or self._limit is None:
      timeout = column(columns.flag('timeouts', _WITHOUT_TIMEOUTS))
    if 'next_observations' in self._file:
      field = fields.observation._replace(name='next_observations')
      next_observation = column(field)
    return _Columns(
      column(fields.observation),
      column(fields.action),
      reward,
      column(columns.flag('terminals')),
      timeout,
      next_observation,
      {k: column(field) for k, field in fields.dist_params.items()},
    )

  def chunks(self, fields: Fields, num_steps: int) -> Iterator[Steps]:
    """Yields chunks of `num_steps` steps.

    Raises:
      ValueError: for arrays that do not fit, and for the first bad step.
    """
    of = self._columns(fields)
    episode, start = 0, 0  # Of the chunk's first step.
    for first in range(0, len(of.reward), num_steps):
      end = min(first + num_steps, len(of.reward))
      plain = _row_locator(self.path, first)
      terminals = of.terminal.read(first, end, plain)
      if of.timeout is not None:
        timeouts = of.timeout.read(first, end, plain) & ~terminals
      else:
        timeouts = self._timeouts(terminals, first - start)
      ends = terminals | timeouts
      locate = _episode_locator(self.path, ends, episode, first - start)
      final = None
      if of.next_observation is not None and terminals.any():
        final = of.next_observation.read(first, end, locate)[terminals]
      yield Steps(
        of.observation.read(first, end, locate),
        of.action.read(first, end, locate),
        of.reward.read(first, end, locate),
        terminals,
        timeouts,
        ~ends & (np.arange(first, end) == len(of.reward) - 1),
        final,
        {k: c.read(first, end, locate) for k, c in of.dist_params.items()},
      )
      episode += int(ends.sum())
      if ends.any():
        start = first + int(np.flatnonzero(ends)[-1]) + 1

  def _timeouts(self, terminals: np.ndarray, age: int) -> np.ndarray:
    """Steps that reach the time limit.

    Args:
      terminals: of a chunk, bool [n].
      age: steps of its first episode before the chunk.
    """
    timeouts = np.zeros_like(terminals)
    for step, is_terminal in enumerate(terminals):
      age += 1
      timeouts[step] = age == self._limit and not is_terminal
      if is_terminal or timeouts[step]:
        age = 0
    return timeouts


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
