"""Steps of a file in D4RL's layout.

Flat arrays `observations`, `actions`, `rewards`, `terminals`, `timeouts`;
optionally `next_observations` and `infos/dist_params/<name>`, of the policy
that acted, in units where action bounds are +-1.
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

_TERMINALS = columns.Field('terminals', (), np.dtype(bool))
_TIMEOUTS = columns.Field(
  'timeouts',
  (),
  np.dtype(bool),
  if_missing='set DataSet.max_episode_steps to the time limit of the '
  'environment (MuJoCo: 1000), at which episodes are then cut',
)


class D4rlSource:
  """An open file of flat arrays; `metadata` is empty."""

  def __init__(
    self, path: pathlib.Path, file: h5py.File, max_episode_steps: int | None
  ):
    """Takes an open file, and the time limit of files without `timeouts`."""
    self.path = path
    self.close = file.close
    self.metadata: dict[str, Any] = {}
    self._file = file
    self._limit = max_episode_steps

  def num_steps(self) -> int:
    """Steps of all episodes."""
    return len(self._column(columns.REWARD))

  def recorded(self) -> set[str]:
    """Names of the recorded parameters."""
    name = steps_lib.DIST_PARAMS
    return set(columns.group(self._file, name, f'{self.path}, {name}') or ())

  def first_step(self) -> dict[str, np.ndarray]:
    """As in `sources.Source`."""
    return columns.first_step(self._file, str(self.path))

  def _column(self, field: columns.Field) -> columns.Column:
    return columns.Column(self._file, field, f'{self.path}: all episodes')

  def _has(self, name: str) -> bool:
    place = f'{self.path}: all episodes, {name}'
    return columns.member(self._file, name, place) is not None

  def _columns(self, fields: Fields) -> dict[str, columns.Column]:
    """The arrays by name, which all have the length of the rewards."""
    entries = fields.observation.values()
    wanted = [*entries, fields.action, _TERMINALS]
    if self._limit is None or self._has('timeouts'):
      wanted.append(_TIMEOUTS)
    if self._has('next_observations'):
      wanted += [entry._replace(name=f'next_{entry.name}') for entry in entries]
    reward = self._column(columns.REWARD)
    opened = {'rewards': reward}
    for field in [*wanted, *fields.dist_params.values()]:
      opened[field.name] = self._column(field)
      opened[field.name].check_length(len(reward), 'rewards has')
    return opened

  def chunks(self, fields: Fields, num_steps: int) -> Iterator[Steps]:
    """Yields chunks of `num_steps` steps.

    Raises:
      ValueError: for arrays that do not fit, and for the first bad step.
    """
    arrays = self._columns(fields)
    length = len(arrays['rewards'])
    episode, start = 0, 0  # Of the chunk's first step.
    for first in range(0, length, num_steps):
      end = min(first + num_steps, length)

      def flags(name: str, first=first, end=end) -> np.ndarray:
        return arrays[name].read(
          first, end, lambda step: f'{self.path}: row {first + step}'
        )

      terminals = flags('terminals')
      if 'timeouts' in arrays:
        timeouts = flags('timeouts') & ~terminals
      else:
        timeouts = self._timeouts(terminals, first - start)
      ends = terminals | timeouts
      locate = _locator(self.path, ends, episode, first - start)

      def read(name: str, first=first, end=end, locate=locate) -> np.ndarray:
        return arrays[name].read(first, end, locate)

      observations = steps_lib.observation(fields, lambda f: read(f.name))
      final = observations
      if self._has('next_observations') and terminals.any():
        final = steps_lib.observation(fields, lambda f: read(f'next_{f.name}'))
      yield Steps(
        observations,
        read('actions'),
        read('rewards'),
        terminals,
        timeouts,
        ~ends & (np.arange(first, end) == length - 1),
        steps_lib.selected(final, terminals),
        {key: read(field.name) for key, field in fields.dist_params.items()},
      )
      episode += int(ends.sum())
      if ends.any():
        start = first + int(np.flatnonzero(ends)[-1]) + 1

  def _timeouts(self, terminals: np.ndarray, age: int) -> np.ndarray:
    """True where a step of a chunk reaches the time limit, bool [n].

    Args:
      terminals: of the chunk, bool [n].
      age: steps of its first episode before the chunk.
    """
    timeouts = np.zeros_like(terminals)
    for step, is_terminal in enumerate(terminals):
      age += 1
      timeouts[step] = age == self._limit and not is_terminal
      if is_terminal or timeouts[step]:
        age = 0
    return timeouts


def _locator(path: pathlib.Path, ends: np.ndarray, episode: int, age: int):
  """A function from a step of a chunk to its place in words.

  Args:
    ends: whether a step of the chunk ends an episode, bool [n].
    episode: number of the chunk's first episode.
    age: steps of that episode before the chunk.
  """

  def locate(step: int) -> str:
    before = np.flatnonzero(ends[:step])
    in_episode = step - before[-1] - 1 if len(before) else step + age
    return f'{path}: episode {episode + len(before)}, step {in_episode}'

  return locate
