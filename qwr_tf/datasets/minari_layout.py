"""Steps of a file in Minari's layout.

A group `episode_<n>` per episode with `observations` (one more than steps),
`actions`, `rewards`, `terminations`, `truncations`, and where it was recorded
`infos/dist_params/<name>`: of the policy that acted, in units where action
bounds are +-1. `metadata.json` beside the file; before Minari 0.5 it was the
file's attributes.
"""

import json
import pathlib
import re
from collections.abc import Iterator
from typing import Any

import h5py
import numpy as np

from qwr_tf.datasets import columns
from qwr_tf.datasets import steps as steps_lib
from qwr_tf.datasets.steps import Fields
from qwr_tf.datasets.steps import Steps

MAIN_FILE, METADATA_FILE = 'main_data.hdf5', 'metadata.json'


class MinariSource:
  """An open file in Minari's layout."""

  def __init__(self, path: pathlib.Path, file: h5py.File):
    """Lists the episodes, in the order of their numbers."""
    self.path = path
    self.close = file.close
    self._file = file
    names = [name for name in file if re.fullmatch(r'episode_\d+', name)]
    self._names = sorted(names, key=lambda name: int(name[8:]))
    self.metadata = {**file.attrs, **read_json(path.with_name(METADATA_FILE))}

  def num_steps(self) -> int:
    """Steps of all episodes."""
    return sum(self._length(name) for name in self._names)

  def _length(self, name: str) -> int:
    place = f'{self.path}: {name}'
    return len(columns.Column(self._group(name), columns.REWARD, place))

  def _group(self, name: str) -> h5py.Group:
    with columns.readable(f'{self.path}: {name}'):
      return self._file[name]

  def recorded(self) -> set[str]:
    """Names of the recorded parameters."""
    group = self._group(self._names[0])
    with columns.readable(f'{self.path}: {self._names[0]}'):
      return set(group.get(steps_lib.DIST_PARAMS, ()))

  def chunks(self, fields: Fields, num_steps: int) -> Iterator[Steps]:
    """Yields chunks of about `num_steps` steps, never twice as many.

    Raises:
      ValueError: for the first episode that is not as it should be.
    """
    waiting: list[Steps] = []
    for name in self._names:
      for part in self._episode(name, fields, num_steps):
        waiting.append(part)
        if sum(len(w.reward) for w in waiting) >= num_steps:
          yield steps_lib.joined(waiting)
          waiting = []
    if waiting:
      yield steps_lib.joined(waiting)

  def _episode(self, name, fields: Fields, num_steps: int) -> Iterator[Steps]:
    place = f'{self.path}: {name}'
    group = self._group(name)
    reward = columns.Column(group, columns.REWARD, place)
    length = len(reward)
    if not length:
      raise ValueError(f'{reward.place}: the episode has no steps.')

    def column(field: columns.Field, *lengths: int) -> columns.Column:
      found = columns.Column(group, field, place)
      if len(found) not in lengths:
        found.check_length(lengths[0], f'{length} rewards ask for')
      return found

    observation = column(fields.observation, length + 1)
    action = column(fields.action, length)
    params = {
      key: column(field, length, length + 1)
      for key, field in fields.dist_params.items()
    }
    terminal, timeout = _ends(column, length, place)
    for first in range(0, length, num_steps):
      end = min(first + num_steps, length)
      rows = slice(first, end)

      def locate(step: int, first=first) -> str:
        return f'{place}, step {first + step}'

      final = observation.read(length, length + 1, lambda _: f'{place}, end')
      yield Steps(
        observation.read(first, end, locate),
        action.read(first, end, locate),
        reward.read(first, end, locate),
        terminal[rows],
        timeout[rows],
        (~terminal & ~timeout & _last(length))[rows],
        final[: int(terminal[rows].any())],
        {key: c.read(first, end, locate) for key, c in params.items()},
      )


def _last(length: int) -> np.ndarray:
  return np.arange(length) == length - 1


def _ends(column, length: int, place: str) -> tuple[np.ndarray, np.ndarray]:
  """Terminal and timed-out steps of an episode, which are its last at most."""
  found = []
  for name in ('terminations', 'truncations'):
    flags = column(columns.flag(name), length)
    ends = flags.read(0, length, lambda step: f'{place}, step {step}')
    if ends[:-1].any():
      raise ValueError(
        f'{flags.place}: True at step {int(np.argmax(ends))}, but the episode '
        f'goes on to step {length - 1}.'
      )
    found.append(ends)
  terminal, timeout = found
  return terminal, timeout & ~terminal


def read_json(path: pathlib.Path) -> dict[str, Any]:
  """Minari's metadata; nothing where there is no such file."""
  try:
    return json.loads(path.read_text('utf-8'))
  except FileNotFoundError:  # Minari before 0.5 wrote attributes instead.
    return {}
  except (OSError, ValueError) as error:
    raise ValueError(f'{path}: cannot be read ({error}).') from error
