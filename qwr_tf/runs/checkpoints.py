"""What an agent has learned, and all it takes to go on with a run exactly."""

import json
import pathlib
import shutil
from collections.abc import Mapping
from typing import Any, Protocol

import tensorflow as tf
from absl import logging

from qwr_tf.runs import atomic_files
from qwr_tf.runs import checkpoint_files
from qwr_tf.config.errors import ConfigError

_TENSORS = 'tensors'
_STATE = 'state.json'


def save(agent, path: pathlib.Path) -> None:
  """Writes an agent's networks, optimisers and counters into a folder.

  Args:
    agent: a `QwrAgent`.
    path: a folder; it appears, or is replaced, complete or not at all.
  """
  with atomic_files.new_folder(path) as folder:
    with checkpoint_files.tensorflow_errors(folder):
      tf.train.Checkpoint(agent=agent).write(str(folder / 'agent'))


def restore(agent, path: pathlib.Path) -> None:
  """Reads what `save` wrote into an agent of the same configuration.

  Raises:
    ValueError: if there is no checkpoint, or one of another agent.
  """
  try:
    status = tf.train.Checkpoint(agent=agent).read(str(path / 'agent'))
    # Before the check: else what is left over is listed line by line.
    status.expect_partial().assert_consumed()
  except (tf.errors.OpError, AssertionError, ValueError) as error:
    raise ValueError(
      f'{path} holds no checkpoint of this configuration: '
      f'{str(error).splitlines()[0]}'
    ) from error


class Stateful(Protocol):
  """Anything that is not made of variables and changes while training."""

  def state(self) -> Any:
    """What `restore` needs: numbers, texts, lists, dicts, as in JSON."""

  def restore(self, state: Any) -> None:
    """Takes back what `state` returned."""


class Checkpoints:
  """The newest two checkpoints of a run, a folder each.

  The folder, named by a number, holds the variables, the table, the states of
  all other parts, and checksums. It appears complete or not at all, and the
  one before stays until the one after is there.
  """

  def __init__(
    self,
    path: pathlib.Path,
    modules: Mapping[str, tf.Module],
    table_files,
    parts: Mapping[str, Stateful],
  ):
    """Writes nothing yet.

    Args:
      path: parent of the folders.
      modules: whose variables are kept, by name.
      table_files: `replay.TableFiles` of the run's table.
      parts: everything else, by name; restored in this order.
    """
    self._path = path
    self._tensors = tf.train.Checkpoint(**modules)
    self._table_files = table_files
    self._parts = dict(parts)
    self._latest: pathlib.Path | None = None

  def save(self, number: int) -> None:
    """Writes everything as it is now.

    Args:
      number: more than that of the checkpoint before.

    Raises:
      OSError: if the disk is full, for instance; nothing has changed then.
    """
    before, target = self._latest, self._path / f'{number:08d}'
    with atomic_files.new_folder(target) as folder:
      linked = self._table_files.save(folder, before)
      sums = checkpoint_files.read_sums(before) if before and linked else {}
      with checkpoint_files.tensorflow_errors(folder):
        self._tensors.write(str(folder / _TENSORS))
      state = {name: part.state() for name, part in self._parts.items()}
      (folder / _STATE).write_text(json.dumps(state))
      checkpoint_files.write_sums(folder, {n: sums[n] for n in linked})
    self._latest = target
    for old in self._folders():
      if old not in (before, target):
        shutil.rmtree(old)

  def restore(self) -> bool:
    """Restores the newest checkpoint that is intact; warns of the others.

    Returns:
      False if there is none at all.

    Raises:
      ConfigError: if there are some, and none is intact.
    """
    damaged = []
    for folder in reversed(self._folders()):
      try:
        checkpoint_files.verify(folder)
        self._restore(folder)
      except (OSError, ValueError, LookupError, TypeError) as error:
        damaged.append(f'{folder} cannot be used: {_in_a_line(error)}')
        continue
      for line in damaged:
        logging.warning('%s. Going on from %s.', line, folder.name)
      self._latest = folder
      return True
    if damaged:
      raise ConfigError(
        f'{"; ".join(damaged)}. Start anew with --overwrite or choose another '
        '--root_dir.'
      )
    return False

  def remove(self) -> None:
    """Deletes them: the run is finished."""
    for folder in self._folders():
      shutil.rmtree(folder)

  def _folders(self) -> list[pathlib.Path]:
    return sorted(self._path.glob('[0-9]' * 8))

  def _restore(self, folder: pathlib.Path) -> None:
    state = json.loads((folder / _STATE).read_text('utf-8'))
    try:
      self._tensors.read(str(folder / _TENSORS)).assert_consumed()
    except (tf.errors.OpError, AssertionError) as error:
      raise ValueError(f'{_TENSORS}: {error}') from error
    self._table_files.restore(folder)
    for name, part in self._parts.items():
      part.restore(state[name])


def _in_a_line(error: Exception) -> str:
  if isinstance(error, OSError) and error.filename:
    return f'{pathlib.Path(error.filename).name}: {error.strerror}'
  return ' '.join(str(error).split())[:200]
