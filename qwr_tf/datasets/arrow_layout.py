"""Steps of a data set in Minari's Arrow or Parquet format: a folder each."""

import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from qwr_tf.datasets import minari_layout
from qwr_tf.datasets import steps as steps_lib
from qwr_tf.datasets import table_layout

# Minari's name of a format to Arrow's.
KINDS = {'arrow': 'ipc', 'parquet': 'parquet'}
_SPACES = {'observations': 'observation_space', 'actions': 'action_space'}
_READ = {*_SPACES, 'rewards', 'terminations', 'truncations'}
_PARAMS = f'{steps_lib.DIST_PARAMS}/'


class MinariArrowSource(minari_layout.MinariSource):
  """An open folder with a folder for each episode."""

  def __init__(self, path: pathlib.Path, kind: str):
    """Lists the episodes, in the order of their numbers.

    Args:
      path: with metadata.json.
      kind: among `KINDS`.
    """
    self.path = path
    self.close = lambda: None
    self._kind = KINDS[kind]
    self._arrow = table_layout.import_arrow(path)
    self._names = sorted(
      (folder.name for folder in path.iterdir() if folder.name.isdigit()),
      key=int,
    )
    self.metadata = minari_layout.read_json(path / minari_layout.METADATA_FILE)

  def num_steps(self) -> int:
    """Number of steps: one less than the rows of each episode, summed."""
    return sum(self._episode(name).count_rows() - 1 for name in self._names)

  def recorded(self) -> set[str]:
    """Names of the recorded parameters."""
    first = self._episode(self._names[0]).schema.empty_table()
    return {
      path.removeprefix(_PARAMS)
      for path, *_ in self._columns(first)
      if path.startswith(_PARAMS)
    }

  def _episode(self, name: str):
    with table_layout.readable(self.path / name):
      return self._arrow.dataset(
        self.path / name,
        format=self._kind,
        ignore_prefixes=['_', '.', minari_layout.METADATA_FILE],
      )

  def _place(self, name: str) -> str:
    return f'{self.path}: episode {name}'

  def _group(self, name: str) -> dict[str, np.ndarray]:
    """The episode's arrays."""
    episode = self._episode(name)
    arrays = {}
    with table_layout.readable(self.path / name):
      for path, column, shape in self._columns(episode.to_table()):
        values = table_layout.to_numpy(column)
        # Arrow's lists are flat.
        if shape is not None and values.ndim <= 2:
          values = values.reshape([len(values), *shape])
        arrays[path] = values
    return arrays

  def _columns(self, table) -> Iterator[tuple[str, Any, Any]]:
    """Name as in HDF5, values and shape of a step, if known, of what is read.

    Observations have a row more than the others, whose last row is padding.
    """
    for field in table.schema:
      space = table_layout.space_entry(
        self.metadata, _SPACES.get(field.name, '')
      )
      column = table.column(field.name).combine_chunks()
      for path, values, shape in _leaves(field.name, column, field, space):
        if field.name in _READ - {'observations'}:
          values = values[:-1]
        if field.name in _READ or path.startswith(_PARAMS):
          yield path, values, shape


def _leaves(
  path: str, values, field, space: Any
) -> Iterator[tuple[str, Any, Any]]:
  """Name, values and shape of the entries of a struct, or of another column."""
  from pyarrow import types

  space = space if isinstance(space, dict) else {}
  if not types.is_struct(field.type):
    shape = space.get('shape')
    if b'shape' in (field.metadata or {}):
      shape = [int(n) for n in field.metadata[b'shape'].split(b',') if n]
    yield path, values, shape
    return
  inner, prefix = space.get('subspaces'), ''
  if isinstance(inner, list):  # Of a Tuple.
    inner, prefix = {str(i): x for i, x in enumerate(inner)}, '_index_'
  for part, column in zip(field.type, values.flatten(), strict=True):
    of_part = inner.get(part.name) if isinstance(inner, dict) else None
    yield from _leaves(f'{path}/{prefix}{part.name}', column, part, of_part)
