"""Steps of a data set in RLDS' layout, as TensorFlow Datasets stores it.

A folder with features.json and files of episodes, each with a data set `steps`
of observation, action, reward, is_last and is_terminal. The step that is last
has the observation after the episode alone: its action and its reward mean
nothing.
"""

import json
import pathlib
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import tree

from qwr_tf.datasets import minari_layout

# Keys of features.json whose texts name a class; the last one before TFDS 4.5.
_CLASSES = 'pythonClassName', 'python_class_name', 'type'
_NEEDED = 'observation', 'action', 'reward', 'is_last', 'is_terminal'


def folder_of(path: pathlib.Path) -> pathlib.Path | None:
  """The folder of the data set, or of its last version; None if it is none."""
  versions = sorted(
    path.glob('*/features.json'),
    key=lambda f: [int(n) for n in re.findall(r'\d+', f.parent.name)],
  )
  files = [*versions, path / 'features.json']
  return next((f.parent for f in files[::-1] if f.is_file()), None)


class RldsSource(minari_layout.MinariSource):
  """An open folder, read from its beginning each time."""

  def __init__(self, path: pathlib.Path):
    """Opens the folder.

    Args:
      path: with features.json.

    Raises:
      ValueError: if tensorflow_datasets is not installed, the data set holds no
        episodes, or it names classes of other modules.
    """
    _check_classes(path / 'features.json')
    try:
      import tensorflow_datasets as tfds
    except ImportError as error:
      raise ValueError(
        f'{path} needs tensorflow-datasets, which cannot be imported '
        f'({error}); run `pip install "qwr_tf[rlds]"`.'
      ) from error
    self.path, self.metadata = path, {}
    self.close = lambda: None
    try:
      builder = tfds.builder_from_directory(str(path))
      self._episodes = builder.as_dataset(split='all', shuffle_files=False)
      steps = self._episodes.element_spec['steps'].element_spec
    except Exception as error:  # Of many classes, without a common one.
      reason = ' '.join(str(error).split())[:200] or type(error).__name__
      raise ValueError(f'{path}: cannot be read ({reason}).') from error
    missing = [name for name in _NEEDED if name not in steps]
    if missing:
      raise ValueError(
        f'{path}: RLDS asks for {", ".join(missing)}; the steps have '
        f'{", ".join(steps)}.'
      )

  def num_steps(self) -> int:
    """Steps of all episodes; reads them."""
    return sum(len(group['rewards']) for _, group in self._groups())

  def recorded(self) -> set[str]:
    """Nothing: RLDS has no place for the policy that acted."""
    return set()

  def _groups(self) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
    count = 0
    for number, episode in enumerate(self._episodes):
      steps = next(episode['steps'].batch(1 << 40).as_numpy_iterator(), None)
      # The last step may be an observation alone.
      if steps and len(steps['is_last']) > bool(steps['is_last'][-1]):
        yield f'episode {number}', _arrays(steps)
        count += 1
    if not count:
      raise ValueError(f'{self.path}: there are no steps; write it anew.')


def _check_classes(path: pathlib.Path) -> None:
  """Raises ValueError for classes that TensorFlow Datasets would import.

  Only its own may be named: importing others runs their code.
  """
  nodes: list[Any] = [minari_layout.read_json(path)]
  while nodes:
    node = nodes.pop()
    if isinstance(node, dict):
      for name in (node[key] for key in _CLASSES if key in node):
        if isinstance(name, str) and not re.fullmatch(
          r'tensorflow_datasets(\.\w+)+', name
        ):
          raise ValueError(
            f'{path}: names the class {name!r}; classes outside of '
            'tensorflow_datasets are not imported. Write the data set with '
            'features of tfds.features.'
          )
      nodes += node.values()
    elif isinstance(node, list):
      nodes += node
    elif isinstance(node, str):  # Which may be JSON again.
      try:
        nodes.append(json.loads(node))
      except RecursionError as error:
        raise ValueError(f'{path}: cannot be read ({error}).') from error
      except ValueError:
        pass


def _arrays(steps: dict[str, Any]) -> dict[str, np.ndarray]:
  """Arrays with the names and lengths of Minari's."""
  has_end = bool(steps['is_last'][-1])
  observations = {
    '/'.join(['observations', *path]): x
    for path, x in tree.flatten_with_path(steps['observation'])
  }
  if not has_end:  # Recording stopped before the observation after the end.
    observations = {
      name: np.concatenate([x, x[-1:]]) for name, x in observations.items()
    }
  end = len(steps['is_last']) - has_end
  terminal, timeout = np.zeros([2, end], bool)
  terminal[-1] = has_end and steps['is_terminal'][-1]
  timeout[-1] = has_end and not terminal[-1]
  return observations | {
    'actions': steps['action'][:end],
    'rewards': steps['reward'][:end],
    'terminations': terminal,
    'truncations': timeout,
  }
