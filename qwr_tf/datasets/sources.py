"""Recognises the layout of a data set: Minari's or D4RL's."""

import pathlib
import re

import h5py

from qwr_tf.datasets import columns
from qwr_tf.datasets.d4rl_layout import D4rlSource
from qwr_tf.datasets.minari_layout import MAIN_FILE
from qwr_tf.datasets.minari_layout import METADATA_FILE
from qwr_tf.datasets.minari_layout import MinariSource
from qwr_tf.datasets.minari_layout import read_json


def open_source(
  path: pathlib.Path, max_episode_steps: int | None
) -> MinariSource | D4rlSource:
  """Opens a file or a folder.

  Args:
    path: of the data set.
    max_episode_steps: as in `DataSet`.

  Raises:
    ValueError: if it has neither layout, or is damaged or empty.
  """
  file_path = _main_file(path)
  with columns.readable(str(file_path)):
    file = h5py.File(file_path, 'r')
    names = list(file)
  if any(re.fullmatch(r'episode_\d+', name) for name in names):
    return MinariSource(file_path, file)
  if {'observations', 'actions', 'rewards', 'terminals'} & set(names):
    return D4rlSource(file_path, file, max_episode_steps)
  file.close()
  holds = f'holds {", ".join(names[:5])}' if names else 'is empty'
  raise ValueError(
    f'{file_path}: {holds}; a data set holds groups episode_0, … (Minari) or '
    'the arrays observations, actions, rewards, terminals, timeouts (D4RL).'
  )


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
        f"{path}: is in Minari's format {kind!r}; only 'hdf5' can be read, so "
        "record it with data_format='hdf5'."
      )
  raise ValueError(
    f'{path}: holds no data/{MAIN_FILE}; set run.dataset to a file, or to a '
    "folder in Minari's layout."
  )
