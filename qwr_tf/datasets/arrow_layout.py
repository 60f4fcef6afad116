"""Steps of a data set in Minari's Arrow or Parquet format: a folder each."""

import pathlib

import numpy as np

from qwr_tf.datasets import minari_layout
from qwr_tf.datasets import steps as steps_lib
from qwr_tf.datasets import table_layout

# Minari's name of a format to Arrow's.
KINDS = {'arrow': 'ipc', 'parquet': 'parquet'}
_PARAMS = steps_lib.DIST_PARAMS.split('/')


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
    kind = self._episode(self._names[0]).schema
    for name in _PARAMS:
      names = [field.name for field in kind]
      if name not in names:
        return set()
      kind = kind.field(name).type
    return {field.name for field in kind}

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
    """The episode's arrays; all but observations have a row of padding."""
    episode = self._episode(name)
    with table_layout.readable(self.path / name):
      table = episode.to_table().combine_chunks()
      columns = {
        column: table.column(column).chunk(0)
        for column in table.column_names
        if table.num_rows
      }
      infos = columns.pop('infos', None)
      arrays = {
        column: self._shaped(column, table_layout.to_numpy(values))
        for column, values in columns.items()
      }
    for column in ('actions', 'rewards', 'terminations', 'truncations'):
      if column in arrays:
        arrays[column] = arrays[column][:-1]
    if infos is not None and self.recorded():
      params = infos.field(_PARAMS[1])
      for param in self.recorded():
        arrays[f'{steps_lib.DIST_PARAMS}/{param}'] = table_layout.to_numpy(
          params.field(param)
        )
    return arrays

  def _shaped(self, name: str, values: np.ndarray) -> np.ndarray:
    """Arrow's lists are flat: the metadata have the shape of a step."""
    kind = {'observations': 'observation_space', 'actions': 'action_space'}
    space = table_layout.space_entry(self.metadata, kind.get(name, ''))
    shape = space.get('shape') if isinstance(space, dict) else None
    if shape is None or values.ndim > 2:
      return values
    return values.reshape([len(values), *shape])
