"""Steps of a file in Minari's layout.

A group `episode_<n>` per episode with `observations` (one more than steps),
`actions`, `rewards`, `terminations`, `truncations`; optionally
`infos/dist_params/<name>`, of the policy that acted, in units where action
bounds are +-1. `metadata.json` beside the file; before Minari 0.5 the file's
attributes.
"""

import json
import pathlib
import re
from collections.abc import Iterator
from typing import Any

import h5py
import numpy as np
import tensorflow as tf

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
    with columns.readable(str(path)):
      attributes = dict(file.attrs)
    self.metadata = attributes | read_json(path.with_name(METADATA_FILE))

  def num_steps(self) -> int:
    """Steps of all episodes."""
    return sum(
      len(columns.Column(self._group(name), columns.REWARD, self._place(name)))
      for name in self._names
    )

  def _place(self, name: str) -> str:
    return f'{self.path}: {name}'

  def _group(self, name: str) -> h5py.Group:
    group = columns.group(self._file, name, self._place(name))
    assert group is not None
    return group

  def recorded(self) -> set[str]:
    """Names of the recorded parameters."""
    first, name = self._names[0], steps_lib.DIST_PARAMS
    place = f'{self._place(first)}, {name}'
    return set(columns.group(self._group(first), name, place) or ())

  def first_step(self) -> dict[str, np.ndarray]:
    """As in `sources.Source`."""
    name, arrays = next(self._groups())
    return columns.first_step(arrays, self._place(name))

  def chunks(self, fields: Fields, num_steps: int) -> Iterator[Steps]:
    """Yields chunks of about `num_steps` steps, never twice as many.

    Raises:
      ValueError: for the first episode that is not as it should be.
    """
    pieces = (
      piece
      for name, group in self._groups()
      for piece in self._pieces(name, group, fields, num_steps)
    )
    return steps_lib.regrouped(pieces, num_steps)

  def _groups(self) -> Iterator[tuple[str, Any]]:
    """Name and arrays of each episode."""
    return ((name, self._group(name)) for name in self._names)

  def _pieces(
    self, name: str, group: Any, fields: Fields, num_steps: int
  ) -> Iterator[Steps]:
    """Yields the steps of an episode, at most `num_steps` at once."""
    place = self._place(name)
    reward = columns.Column(group, columns.REWARD, place)
    length = len(reward)
    if not length:
      raise ValueError(
        f'{reward.place}: the episode has no steps; delete its group.'
      )

    def column(field: columns.Field, *lengths: int) -> columns.Column:
      opened = columns.Column(group, field, place)
      if len(opened) not in lengths:
        opened.check_length(lengths[0], f'{length} rewards ask for')
      return opened

    def ends(name: str) -> np.ndarray:
      flags = column(columns.Field(name, (), np.dtype(bool)), length)
      is_end = flags.read(0, length, lambda step: f'{place}, step {step}')
      if is_end[:-1].any():
        raise ValueError(
          f'{flags.place}: True at step {int(np.argmax(is_end))}, but the '
          f'episode goes on to step {length - 1}; split it into two groups.'
        )
      return is_end

    observation = steps_lib.observation(fields, lambda f: column(f, length + 1))
    action = column(fields.action, length)
    params = {
      key: column(field, length, length + 1)
      for key, field in fields.dist_params.items()
    }
    terminal = ends('terminations')
    timeout = ends('truncations') & ~terminal
    cut = (np.arange(length) == length - 1) & ~terminal & ~timeout
    final = tf.nest.map_structure(
      lambda x: x.read(length, length + 1, lambda _: f'{place}, end'),
      observation,
    )
    for first in range(0, length, num_steps):
      rows = slice(first, min(first + num_steps, length))

      def read(column: columns.Column, rows=rows) -> np.ndarray:
        start = rows.start
        return column.read(
          start, rows.stop, lambda step: f'{place}, step {start + step}'
        )

      yield Steps(
        tf.nest.map_structure(read, observation),
        read(action),
        read(reward),
        terminal[rows],
        timeout[rows],
        cut[rows],
        steps_lib.selected(final, slice(int(terminal[rows].any()))),
        {key: read(param) for key, param in params.items()},
      )


def read_json(path: pathlib.Path) -> dict[str, Any]:
  """Minari's metadata; {} if there is no such file (Minari before 0.5)."""
  if not path.exists():
    return {}
  try:
    content = json.loads(path.read_text('utf-8')) if path.is_file() else None
    reason = 'it holds no JSON object'
  except (OSError, ValueError, RecursionError) as error:
    content, reason = None, str(error)
  if not isinstance(content, dict):
    raise ValueError(
      f'{path}: cannot be read ({reason}); delete or correct it.'
    )
  return content
