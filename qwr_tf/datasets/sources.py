"""Logged steps, chunk by chunk, from two layouts of HDF5 files.

Minari: a group `episode_<n>` per episode with `observations` (one more than
steps), `actions`, `rewards`, `terminations`, `truncations`. D4RL: flat arrays
`observations`, `actions`, `rewards`, `terminals`, `timeouts`, and where there
are any `next_observations`. Either may hold the parameters of the policy that
acted as `infos/dist_params/<name>`, in units where action bounds are +-1.
"""

import json
import pathlib
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import h5py
import numpy as np

from qwr_tf.datasets import columns

DIST_PARAMS = 'infos/dist_params'
MAIN_FILE, METADATA_FILE = 'main_data.hdf5', 'metadata.json'


class Steps(NamedTuple):
  """Consecutive steps; the next chunk goes on where they end.

  Attributes:
    observation: before the action, [n, ...].
    action: in the environment's units, [n, ...].
    reward: float32 [n].
    terminal: whether the episode ended in a terminal state, bool [n].
    timeout: whether it ended otherwise, bool [n].
    cut: whether it did so because the data end there, bool [n].
    final_observation: after the terminal steps, [number of them, ...]; None
      where there is none, or none was recorded.
    dist_params: of the policy that acted, {name: [n, ...]}.
  """

  observation: np.ndarray
  action: np.ndarray
  reward: np.ndarray
  terminal: np.ndarray
  timeout: np.ndarray
  cut: np.ndarray
  final_observation: np.ndarray | None
  dist_params: dict[str, np.ndarray]


class Fields(NamedTuple):
  """What is read: observations, actions, and parameters by name."""

  observation: columns.Field
  action: columns.Field
  dist_params: dict[str, columns.Field]


class MinariSource:
  """An open file in Minari's layout."""

  def __init__(self, path: pathlib.Path, file: h5py.File):
    """Lists the episodes, in the order of their numbers."""
    self.path = path
    self._file = file
    names = [name for name in file if re.fullmatch(r'episode_\d+', name)]
    self._names = sorted(names, key=lambda name: int(name[8:]))
    self.metadata = {**file.attrs, **_json(path.with_name(METADATA_FILE))}

  def num_steps(self) -> int:
    """Steps of all episodes."""
    return sum(self._length(name) for name in self._names)

  def _length(self, name: str) -> int:
    place = f'{self.path}: {name}'
    return len(columns.Column(self._file[name], columns.REWARD, place))

  def recorded(self) -> set[str]:
    """Names of the recorded parameters."""
    return set(self._file[self._names[0]].get(DIST_PARAMS, ()))

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
          yield _joined(waiting)
          waiting = []
    if waiting:
      yield _joined(waiting)

  def _episode(self, name, fields: Fields, num_steps: int) -> Iterator[Steps]:
    place = f'{self.path}: {name}'
    with columns.readable(place):
      group = self._file[name]
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


class D4rlSource:
  """An open file of flat arrays."""

  def __init__(self, path: pathlib.Path, file: h5py.File):
    """Remembers the file; `metadata` is what D4RL's files say, nothing."""
    self.path = path
    self._file = file
    self.metadata: dict[str, Any] = {}

  def num_steps(self) -> int:
    """Steps of all episodes."""
    return len(columns.Column(self._file, columns.REWARD, f'{self.path}: all'))

  def recorded(self) -> set[str]:
    """Names of the recorded parameters."""
    return set(self._file.get(DIST_PARAMS, ()))

  def chunks(self, fields: Fields, num_steps: int) -> Iterator[Steps]:
    """Yields chunks of `num_steps` steps.

    Raises:
      ValueError: for arrays that do not fit, and for the first bad step.
    """
    place = f'{self.path}: all episodes'
    reward = columns.Column(self._file, columns.REWARD, place)

    def column(field: columns.Field) -> columns.Column:
      found = columns.Column(self._file, field, place)
      found.check_length(len(reward), 'rewards')
      return found

    observation, action = column(fields.observation), column(fields.action)
    terminal = column(columns.flag('terminals'))
    timeout = column(columns.flag('timeouts'))
    following = None
    if 'next_observations' in self._file:
      field = fields.observation._replace(name='next_observations')
      following = column(field)
    params = {k: column(field) for k, field in fields.dist_params.items()}
    episode, start = 0, 0  # Where the chunk begins.
    for first in range(0, len(reward), num_steps):
      end = min(first + num_steps, len(reward))
      plain = _row_locator(self.path, first)
      terminals = terminal.read(first, end, plain)
      timeouts = timeout.read(first, end, plain) & ~terminals
      ends = terminals | timeouts
      locate = _episode_locator(self.path, ends, episode, first - start)
      final = None
      if following is not None and terminals.any():
        final = following.read(first, end, locate)[terminals]
      yield Steps(
        observation.read(first, end, locate),
        action.read(first, end, locate),
        reward.read(first, end, locate),
        terminals,
        timeouts,
        ~ends & (np.arange(first, end) == len(reward) - 1),
        final,
        {k: c.read(first, end, locate) for k, c in params.items()},
      )
      episode += int(ends.sum())
      if ends.any():
        start = first + int(np.flatnonzero(ends)[-1]) + 1


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


def _joined(parts: list[Steps]) -> Steps:
  """Chunks as one."""
  if len(parts) == 1:
    return parts[0]

  def join(*values):
    if isinstance(values[0], Mapping):
      return {k: join(*(v[k] for v in values)) for k in values[0]}
    return np.concatenate(values)

  return Steps(*map(join, *parts))


def _json(path: pathlib.Path) -> dict[str, Any]:
  try:
    return json.loads(path.read_text('utf-8'))
  except FileNotFoundError:  # Minari before 0.5 wrote attributes instead.
    return {}
  except (OSError, ValueError) as error:
    raise ValueError(f'{path}: cannot be read ({error}).') from error


def open_source(path: pathlib.Path) -> MinariSource | D4rlSource:
  """Finds out which layout a file or a folder has.

  Raises:
    ValueError: if it is neither, damaged or empty.
  """
  file_path = _main_file(path)
  file = columns.open_file(file_path)
  with columns.readable(str(file_path)):
    names = list(file)
  if any(re.fullmatch(r'episode_\d+', name) for name in names):
    return MinariSource(file_path, file)
  known = {'observations', 'actions', 'rewards', 'terminals'} & set(names)
  if known:
    return D4rlSource(file_path, file)
  holds = f'holds {", ".join(names[:5])}' if names else 'is empty'
  raise ValueError(
    f'{file_path}: {holds}; a data set holds groups episode_0, … (Minari) or '
    'the arrays observations, actions, rewards, terminals, timeouts (D4RL).'
  )


def _main_file(path: pathlib.Path) -> pathlib.Path:
  if not path.is_dir():
    if not path.exists():
      raise ValueError(f'{path}: there is no such data set.')
    return path
  for folder in (path / 'data', path):
    if (folder / MAIN_FILE).is_file():
      return folder / MAIN_FILE
    kind = _json(folder / METADATA_FILE).get('data_format', 'hdf5')
    if kind != 'hdf5':
      raise ValueError(
        f"{path}: is in Minari's format {kind!r}; only 'hdf5' can be read."
      )
  raise ValueError(f'{path}: holds no data/{MAIN_FILE}.')
