"""Episodes into Minari's layout, which Minari itself reads."""

import errno
import json
import os
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import h5py
import numpy as np

from qwr_tf.datasets import minari_layout
from qwr_tf.datasets import steps
from qwr_tf.runs import atomic_files

# The layout's version; Minari asks for it.
_MINARI_VERSION = '0.5.0'


class Episode(NamedTuple):
  """One episode of L steps.

  Attributes:
    observations: [L + 1, ...], the final one last; an array, or {entry:
      array}.
    actions: in the environment's units, [L, ...].
    rewards: [L].
    terminations: bool [L].
    truncations: bool [L].
    dist_params: of the policy that acted, {name: [L + 1, ...]}, in units where
      action bounds are +-1; {} if it has none.
    seed: of the reset; None if there was none.
  """

  observations: Any
  actions: np.ndarray
  rewards: np.ndarray
  terminations: np.ndarray
  truncations: np.ndarray
  dist_params: dict[str, np.ndarray]
  seed: int | None = None


_ARRAYS = Episode._fields[:5]


def write(
  path: pathlib.Path, episodes: Iterable[Episode], metadata: Mapping[str, Any]
) -> None:
  """Writes a data set, complete or not at all.

  Args:
    path: a folder that does not exist yet, or is empty; not the current one.
    episodes: written one by one as they come.
    metadata: of Minari's metadata.json, which counts and what the layout is
      are added to.

  Raises:
    FileExistsError: if there is something.
    ValueError: if there are no episodes.
  """
  if path.is_file() or any(path.glob('*')) or not path.name:
    reason = os.strerror(errno.EEXIST)
    raise FileExistsError(errno.EEXIST, reason, str(path))
  with atomic_files.new_folder(path, replace=False) as folder:
    data = folder / 'data'
    data.mkdir()
    counts = _write_episodes(data / minari_layout.MAIN_FILE, episodes)
    if not counts['total_steps']:
      raise ValueError('there are no episodes to write.')
    size = (data / minari_layout.MAIN_FILE).stat().st_size / 1e6
    content = {
      **metadata,
      **counts,
      'data_format': 'hdf5',
      'jpeg_encoding': False,
      'minari_version': _MINARI_VERSION,
      'dataset_size': round(size, 1),  # MB
    }
    text = json.dumps(content, indent=2)
    (data / minari_layout.METADATA_FILE).write_text(text + '\n', 'utf-8')


def _write_episodes(path: pathlib.Path, episodes) -> dict[str, int]:
  total_episodes = total_steps = 0
  # Through Python's file: HDF5's own may crash when the disk is full.
  with open(path, 'w+b') as raw, h5py.File(raw, 'w', track_order=True) as file:
    for episode in episodes:
      group = file.create_group(f'episode_{total_episodes}')
      group.attrs['id'] = total_episodes
      group.attrs['total_steps'] = len(episode.rewards)
      if episode.seed is not None:
        group.attrs['seed'] = episode.seed
      for name in _ARRAYS:
        values = getattr(episode, name)
        entries = values if isinstance(values, dict) else {'': values}
        for entry, array in entries.items():
          group.create_dataset(f'{name}/{entry}'.rstrip('/'), data=array)
      for name, values in episode.dist_params.items():
        key = f'{steps.DIST_PARAMS}/{name}'
        group.create_dataset(key, data=values)
      total_episodes += 1
      total_steps += len(episode.rewards)
  return {'total_episodes': total_episodes, 'total_steps': total_steps}
