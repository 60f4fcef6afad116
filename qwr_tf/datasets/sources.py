"""Sources of logged steps: recognises the layout of a data set and opens it."""

import os
import pathlib
import re
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import h5py
import numpy as np

from qwr_tf.datasets import arrow_layout
from qwr_tf.datasets import columns
from qwr_tf.datasets import rlds_layout
from qwr_tf.datasets import table_layout
from qwr_tf.datasets.d4rl_layout import D4rlSource
from qwr_tf.datasets.minari_layout import MAIN_FILE
from qwr_tf.datasets.minari_layout import METADATA_FILE
from qwr_tf.datasets.minari_layout import MinariSource
from qwr_tf.datasets.minari_layout import read_json
from qwr_tf.datasets.steps import Fields
from qwr_tf.datasets.steps import Steps
from qwr_tf.datasets.table_layout import TableSource

_ENDINGS = ', '.join([*table_layout.FORMATS, '.npz'])


class Source(Protocol):
  """An open data set: what a layout must provide.

  Attributes:
    path: of the data set, for error messages.
    metadata: what the data set says of itself, by Minari's names: spaces as
      `observation_space` and `action_space`, for instance.
  """

  path: pathlib.Path
  metadata: dict[str, Any]

  def close(self) -> None:
    """Closes its files."""

  def num_steps(self) -> int:
    """Steps of all episodes."""

  def recorded(self) -> set[str]:
    """Names of the recorded parameters of mu."""

  def first_step(self) -> dict[str, np.ndarray]:
    """The first 'action' and 'observation', or 'observation/<entry>' of each.

    Spaces come from their shapes and types where the metadata have none;
    without what has no shape of its own.
    """

  def chunks(self, fields: Fields, num_steps: int) -> Iterator[Steps]:
    """Yields chunks of about `num_steps` steps, episodes in their order.

    Raises:
      ValueError: for the first step or column that is not as it should be.
    """


def open_source(
  data: str | Mapping[str, Any], max_episode_steps: int | None
) -> Source:
  """Opens a file, a folder or arrays.

  Args:
    data: path of the data set, or its id in Minari's local store; or arrays by
      column, a pandas frame for instance.
    max_episode_steps: as in `DataSet`.

  Raises:
    ValueError: if it has no such layout, or is damaged or empty.
  """
  if not isinstance(data, str | os.PathLike):
    return table_layout.array_source(data, 'the arrays')
  path = _in_store(pathlib.Path(data))
  if rlds := rlds_layout.folder_of(path):
    return rlds_layout.RldsSource(rlds)
  source = _table(path) or _arrow(path)
  if source is not None:
    return source
  file_path = _main_file(path)
  file = _hdf5(file_path)
  try:
    return _source(file_path, file, max_episode_steps)
  except BaseException:
    file.close()
    raise


def _source(
  path: pathlib.Path, file: h5py.File, max_episode_steps: int | None
) -> Source:
  """The layout of an HDF5 file."""
  with columns.readable(str(path)):
    names = list(file)
  if any(re.fullmatch(r'episode_\d+', name) for name in names):
    return MinariSource(path, file)
  if {'observations', 'actions', 'rewards', 'terminals'} & set(names):
    return D4rlSource(path, file, max_episode_steps)
  holds = f'holds {", ".join(names[:5])}' if names else 'is empty'
  raise ValueError(
    f'{path}: {holds}; a data set holds groups episode_0, … (Minari) or the '
    'arrays observations, actions, rewards, terminals, timeouts (D4RL); '
    f'tables end in {_ENDINGS}.'
  )


def _in_store(path: pathlib.Path) -> pathlib.Path:
  """The path itself, or the data set in Minari's local store with this id."""
  default = pathlib.Path('~/.minari/datasets').expanduser()
  store = pathlib.Path(os.environ.get('MINARI_DATASETS_PATH', default))
  is_id = re.search(r'-v\d+$', path.name) and not path.exists()
  return store / path if is_id and (store / path).exists() else path


def _table(path: pathlib.Path) -> TableSource | None:
  """A table by the ending of its file, or of the files in a folder."""
  if path.is_file() and path.suffix.lower() == '.npz':
    return table_layout.npz_source(path)
  files = [path]
  if path.is_dir() and not (path / 'data').exists():
    files = sorted(path.iterdir(), key=_in_order)
    files = [file for file in files if file.name[0] not in '._']
  kinds = {
    file: table_layout.FORMATS[file.suffix.lower()]
    for file in files
    if file.suffix.lower() in table_layout.FORMATS and file.is_file()
  }
  if len({*kinds.values()}) != 1:
    return None
  return table_layout.arrow_source(path, [*kinds], kinds.popitem()[1])


def _in_order(path: pathlib.Path) -> tuple:
  """A key that sorts part-2 before part-10."""
  parts = re.split(r'(\d+)', path.name)
  return [int(p) if p.isdecimal() else p for p in parts], path.name


def _hdf5(path: pathlib.Path) -> h5py.File:
  with columns.readable(str(path)):
    try:
      return h5py.File(path, 'r')
    except OSError as error:
      is_other = 'signature not found' in str(error)
      if not is_other or path.suffix.lower() in ('.hdf5', '.h5'):
        raise
      raise ValueError(
        f'{path}: is no HDF5 file, nor a table by its ending; decompress it, '
        f'or write a table that ends in {_ENDINGS}.'
      ) from error


def _arrow(path: pathlib.Path) -> arrow_layout.MinariArrowSource | None:
  """A folder in Minari's format other than HDF5."""
  for folder in (path / 'data', path):
    kind = read_json(folder / METADATA_FILE).get('data_format')
    if kind in arrow_layout.KINDS:
      return arrow_layout.MinariArrowSource(folder, kind)
  return None


def _main_file(path: pathlib.Path) -> pathlib.Path:
  if path.is_file():
    return path
  if not path.is_dir():
    raise ValueError(
      f'{path}: there is no such data set; set run.dataset to a file or folder.'
    )
  for folder in (path / 'data', path):
    if (folder / MAIN_FILE).is_file():
      return folder / MAIN_FILE
    kind = read_json(folder / METADATA_FILE).get('data_format', 'hdf5')
    if kind != 'hdf5':
      raise ValueError(
        f"{path}: is in Minari's format {kind!r}; those that can be read are "
        'hdf5, arrow and parquet.'
      )
  raise ValueError(
    f'{path}: holds no data/{MAIN_FILE}; set run.dataset to a file, or to a '
    "folder in Minari's layout or of tables of one format "
    f'({", ".join(table_layout.FORMATS)}).'
  )
