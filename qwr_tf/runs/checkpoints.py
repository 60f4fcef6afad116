"""Checkpoints: an agent's final weights, and the exact state of a run."""

import json
import pathlib
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import tensorflow as tf
from absl import logging

from qwr_tf.config.errors import ConfigError
from qwr_tf.runs import atomic_files
from qwr_tf.runs import checkpoint_files
from qwr_tf.runs import first_edition
from qwr_tf.runs import regular_files
from qwr_tf.runs import run_json

_TENSORS = 'tensors'
_STATE = 'state.json'
_LARGE = 100e6  # Bytes of a checkpoint, most of them its table's.
_RUN_ID = 'run_id'  # In state.json, beside the parts.


def save(agent, path: pathlib.Path) -> None:
  """Writes an agent's networks, optimisers and counters into a folder.

  Args:
    path: a folder; it appears, or is replaced, complete or not at all.
  """
  with atomic_files.new_folder(path) as folder:
    with checkpoint_files.tensorflow_errors(folder):
      tf.train.Checkpoint(agent=agent).write(str(folder / 'agent'))


def restore(agent, path: pathlib.Path) -> None:
  """Reads weights (`weights_of_run`) into an agent of the same configuration.

  Raises:
    ValueError: if there is no checkpoint, or one of another agent.
  """
  try:
    _read(tf.train.Checkpoint(agent=agent), prefix(path))
  except (tf.errors.OpError, AssertionError, ValueError) as error:
    raise ValueError(
      f'{path} holds no checkpoint of this configuration: '
      f'{str(error).splitlines()[0]}'
    ) from error


def weights_of_run(root_dir: pathlib.Path, best: bool = False) -> pathlib.Path:
  """The folder of a run's newest weights, or of the best evaluated ones.

  Args:
    root_dir: a run's folder, finished or not.
    best: whether those of the highest `eval_return_mode` are meant.

  Raises:
    ConfigError: if there are none.
  """
  folder = root_dir / 'checkpoints'
  # A run that was prolonged has the final weights of its first end.
  is_finished = run_json.required(root_dir).get('finished')
  numbered = [] if is_finished else sorted(folder.glob('[0-9]' * 8))[::-1]
  last = [*numbered, folder / 'final']
  for path in [folder / 'best'] if best else last:
    if pathlib.Path(f'{prefix(path)}.index').is_file():
      return path
  raise ConfigError(
    f'{root_dir} has no checkpoint of {"an evaluated" if best else "a"} policy '
    'yet; go on with the run, with the command in its run.json.'
  )


def prefix(path: pathlib.Path) -> pathlib.Path:
  """Path prefix of the agent's tensors in a folder of weights."""
  alone = path / 'agent'
  return alone if alone.with_suffix('.index').is_file() else path / _TENSORS


class Stateful(Protocol):
  """An object without variables that changes while training."""

  def state(self) -> Any:
    """The state for `restore`: numbers, texts, lists, dicts, as in JSON."""

  def restore(self, state: Any) -> None:
    """Goes back to a state; ConfigError for one of another kind of run."""


class Checkpoints:
  """The newest two checkpoints of a run, a folder each.

  The folder, named by a number, holds the variables, the replay table, the
  states of all other parts, the run's identifier, and checksums. It appears
  complete or not at all, and the checkpoint before stays until then.
  """

  def __init__(
    self,
    path: pathlib.Path,
    modules: Mapping[str, tf.Module],
    table_files,
    parts: Mapping[str, Stateful],
    run_ids: Sequence[str] = ('',),
  ):
    """Writes nothing yet.

    Args:
      path: parent of the folders.
      modules: the owners of the variables, by name.
      table_files: `replay.TableFiles` of the run's table.
      parts: everything else, by name; restored in this order.
      run_ids: the first is written into each checkpoint; one of another run
        is refused.
    """
    self._path = path
    self._tensors = tf.train.Checkpoint(**modules)
    self._table_files = table_files
    self._parts = dict(parts)
    self._run_ids = run_ids
    self._latest: pathlib.Path | None = None

  def save(self, number: int) -> None:
    """Writes a checkpoint of the present state.

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
      state[_RUN_ID] = self._run_ids[0]
      (folder / _STATE).write_text(json.dumps(state))
      checkpoint_files.write_sums(folder, {n: sums[n] for n in linked})
    self._latest = target
    for folder in self._folders():
      if folder not in (before, target):
        atomic_files.delete(folder)

  def restore(self) -> bool:
    """Restores the newest checkpoint that is intact; warns of the others.

    Returns:
      False if there is no checkpoint.

    Raises:
      ConfigError: if there are some, and none is intact or the newest intact
        one does not fit this run.
    """
    damaged = []
    for folder in reversed(self._folders()):
      try:
        checkpoint_files.verify(folder)
        state = dict(regular_files.read_json(folder / _STATE))
        # Version 0.1 wrote no identifier.
        run_id = state.pop(_RUN_ID, self._run_ids[0])
        is_foreign = run_id not in self._run_ids
        if not is_foreign:
          self._restore(folder, state)
      except ConfigError as error:  # Intact, but of no use to this run.
        raise ConfigError(
          f'{folder} does not fit: {error}. Go on as the run began, or choose '
          'another --root_dir.'
        ) from error
      except (OSError, ValueError, LookupError, TypeError) as error:
        damaged.append(f'{folder} cannot be used: {_in_a_line(error)}')
        continue
      if is_foreign:
        raise ConfigError(
          f'{folder} is a checkpoint of another run (configuration, '
          'environment or seed); delete it or choose another --root_dir.'
        )
      for line in damaged:
        logging.warning('%s. Resuming from %s.', line, folder.name)
      self._latest = folder
      return True
    if damaged:
      raise ConfigError(
        f'{"; ".join(damaged)}. Start anew with --overwrite or choose another '
        '--root_dir.'
      )
    return False

  def retire(self, keep: bool | None) -> None:
    """Deletes them, or all but the newest: the run is finished.

    Args:
      keep: whether the newest stays; None: if it has less than 100 MB.
    """
    *old, newest = self._folders()
    if keep is None:
      files = (path for path in newest.rglob('*') if path.is_file())
      keep = sum(path.stat().st_size for path in files) < _LARGE
    for folder in [*old, *([] if keep else [newest])]:
      atomic_files.delete(folder)

  def _folders(self) -> list[pathlib.Path]:
    paths = sorted(self._path.glob('[0-9]' * 8))
    return [path for path in paths if path.is_dir()]

  def _restore(self, folder: pathlib.Path, state: Mapping[str, Any]) -> None:
    try:
      _read(self._tensors, folder / _TENSORS)
    except (tf.errors.OpError, AssertionError) as error:
      raise ValueError(f'{_TENSORS}: {error}') from error
    self._table_files.restore(folder)
    for name, part in self._parts.items():
      part.restore(state[name])


def _read(variables: tf.train.Checkpoint, path: pathlib.Path) -> None:
  """Reads a TensorFlow checkpoint of this version or the one before."""
  with tempfile.TemporaryDirectory() as copy:
    readable = first_edition.upgraded(str(path), pathlib.Path(copy))
    status = variables.read(readable)
    # Before the check: else every unread variable is listed on a line.
    status.expect_partial().assert_consumed()


def _in_a_line(error: Exception) -> str:
  if isinstance(error, OSError) and error.filename:
    return f'{pathlib.Path(error.filename).name}: {error.strerror}'
  return ' '.join(str(error).split())[:200]
