"""A run's folder: what it holds, and that two runs never share one."""

import contextlib
import csv
import datetime
import hashlib
import io
import json
import os
import pathlib
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from absl import logging

from qwr_tf.config import gin_files
from qwr_tf.runs import provenance
from qwr_tf.runs import run_lock
from qwr_tf.runs.atomic_files import write_atomically
from qwr_tf.config.errors import ConfigError

# What makes two runs the same.
_IDENTITY = ('config', 'environment', 'seed')

# What a run writes, beside run.json and checkpoints.
_CONTENTS = (
  'config.gin',
  'metrics.csv',
  'learning_curve.png',
  'tensorboard',
  'policy',
  'video.*',
  'offending_batch.npz',
)
_HALF_WRITTEN = '.*.tmp'


def default_path(
  gin_file: str, environment: str, seed: int, config: str
) -> pathlib.Path:
  """runs/<gin>-<environment>-s<seed>-<8 hex of the configuration>."""
  digest = hashlib.sha256(config.encode()).hexdigest()[:8]
  name = re.sub(r'[^A-Za-z0-9_.-]', '_', environment)
  return pathlib.Path(
    'runs', f'{pathlib.Path(gin_file).stem}-{name}-s{seed}-{digest}'
  )


def _delete(path: pathlib.Path) -> None:
  shutil.rmtree(path) if path.is_dir() else path.unlink()


class RunFolder:
  """Writes everything but TensorBoard's own files."""

  def __init__(self, path: pathlib.Path, facts: Mapping[str, Any]):
    """Describes the run; nothing is written before `claimed`.

    Args:
      path: the folder.
      facts: command, configuration, environment, seed: what makes two runs
        the same or not. Must be JSON.
    """
    self.path = path
    self._facts = dict(facts)
    self._rows: list[dict[str, Any]] = []
    self._resumed: list[dict[str, Any]] = []
    self._changes: dict[str, Any] = {}

  @property
  def bindings(self) -> Sequence[str]:
    """What was bound on the command line."""
    return self._facts.get('bindings', ())

  def recorded(self, name: str) -> Any:
    """A fact of the run as run.json has it; None if it has none."""
    return (self._read() or {}).get(name)

  def add_fact(self, name: str, value: Any) -> None:
    """Adds to what run.json says of the run; None adds nothing."""
    if value is not None:
      self._facts[name] = value

  def finished(self) -> dict[str, Any] | None:
    """run.json of a finished run with the same configuration, or None."""
    known = self._read()
    if known is None or not known.get('finished'):
      return None
    return known if self._same(known) else None

  def check(self, overwrite: bool) -> None:
    """Looks whether the folder can be this run's own; changes nothing.

    Raises:
      ConfigError: if it holds another run, unless overwrite is given, or
        anything else.
    """
    known = self._read()
    if known is not None and not overwrite and not self._same(known):
      raise ConfigError(self._refusal(known))
    with self._errors_name_the_fix():
      if self.path.exists() and not self.path.is_dir():
        raise ConfigError(f'{self.path} is a file; choose another --root_dir.')
      if known is None and self.path.exists() and self._holds_anything():
        raise ConfigError(
          f'{self.path} is not empty and holds no run; choose another '
          '--root_dir.'
        )

  def _holds_anything(self) -> bool:
    return any(
      p.name != run_lock.NAME and not p.match(_HALF_WRITTEN)
      for p in self.path.iterdir()
    )

  @contextlib.contextmanager
  def claimed(self, overwrite: bool) -> Iterator[None]:
    """While it is entered the folder is this process's own.

    What an unfinished run of the same configuration has left is kept, unless
    overwrite is given; files that no run has written stay in any case.

    Raises:
      ConfigError: as `check`, if another process has the folder, or if it
        cannot be written.
    """
    with contextlib.ExitStack() as stack:
      with self._errors_name_the_fix():
        self.check(overwrite)
        self.path.mkdir(parents=True, exist_ok=True)
        stack.enter_context(run_lock.held(self.path))
        self.check(overwrite)
        known = self._read()
        self._clear_half_written()
        if known is None or overwrite:
          self._clear()
        else:
          self._resumed = known.get('resumed', [])
          self._changes = self._changes_since(known)
      yield

  def _clear_half_written(self) -> None:
    """Deletes what a process was writing when it was killed."""
    for folder in (self.path, self.checkpoints, self.path / 'policy'):
      for old in folder.glob(_HALF_WRITTEN):
        _delete(old)

  def _clear(self) -> None:
    """Makes it the folder of a run that has not begun."""
    if self.checkpoints.exists():  # At once, as they would be resumed.
      gone = self.path / '.checkpoints.tmp'
      os.replace(self.checkpoints, gone)
      _delete(gone)
    self.write_json({})  # It stays a run's folder, whatever happens.
    for old in (p for pattern in _CONTENTS for p in self.path.glob(pattern)):
      _delete(old)

  def _changes_since(self, known: Mapping[str, Any]) -> dict[str, Any]:
    """Warns of what makes the run another one than it would have been."""
    before = {**known, **known.get('versions', {})}
    changes = {
      name: value
      for name, value in provenance.facts().items()
      if before.get(name, value) != value
    }
    if changes:
      logging.warning(
        '%s goes on, but not exactly as it would have: %s.',
        self.path,
        ', '.join(f'{n} was {before[n]}, is {v}' for n, v in changes.items()),
      )
    return changes

  @property
  def checkpoints(self) -> pathlib.Path:
    """The folder of the run's checkpoints."""
    return self.path / 'checkpoints'

  def begin(self) -> None:
    """Writes the configuration of a run that has no checkpoint yet.

    Raises:
      ConfigError: if it has rows, so that there must have been a checkpoint.
    """
    if (self.path / 'metrics.csv').exists():
      raise ConfigError(
        f'{self.path} holds an unfinished run of the same configuration but '
        'no checkpoint; start it anew with --overwrite or choose another '
        '--root_dir.'
      )
    self.write_config(self._facts['config'])

  def state(self) -> list[dict[str, Any]]:
    """The rows, for a checkpoint."""
    return self._rows

  def restore(self, state: Sequence[Mapping[str, Any]]) -> None:
    """Takes back what `state` returned; writes nothing yet."""
    self._rows = [dict(row) for row in state]

  def go_on(self, columns: Sequence[str], interactions: int) -> None:
    """Writes the restored rows in place of later ones."""
    self._write_rows(columns)
    self._resumed.append({'interactions': interactions, **self._changes})
    self.write_json({'interactions': interactions, 'finished': False})

  @contextlib.contextmanager
  def _errors_name_the_fix(self) -> Iterator[None]:
    try:
      yield
    except OSError as error:
      raise ConfigError(
        f'{self.path} cannot be used ({error.strerror}); choose another '
        '--root_dir.'
      ) from error

  def content(self, results: Mapping[str, Any]) -> dict[str, Any]:
    """What run.json says: the facts, versions and results so far."""
    return {
      **self._facts,
      'commit': provenance.commit(),
      'versions': provenance.versions(),
      'host_cores': os.cpu_count(),
      'threads': provenance.threads(),
      'time': datetime.datetime.now(datetime.timezone.utc).isoformat(),
      **({'resumed': self._resumed} if self._resumed else {}),
      **results,
    }

  def write_json(self, results: Mapping[str, Any]) -> None:
    """Writes run.json."""
    text = json.dumps(self.content(results), indent=2)
    write_atomically(self.path / 'run.json', text)

  def write_config(self, operative_config: str) -> None:
    """Writes config.gin."""
    write_atomically(self.path / 'config.gin', operative_config)

  def add_row(self, row: Mapping[str, Any], columns: Sequence[str]) -> None:
    """Adds a row to metrics.csv; the file is complete at any moment."""
    self._rows.append(dict(row))
    self._write_rows(columns)

  def _write_rows(self, columns: Sequence[str]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval='', lineterminator='\n')
    writer.writeheader()
    writer.writerows(self._rows)
    write_atomically(self.path / 'metrics.csv', text.getvalue())

  @property
  def rows(self) -> list[dict[str, Any]]:
    """The rows of metrics.csv."""
    return self._rows

  def _read(self) -> dict[str, Any] | None:
    """run.json, or None if there is none that a run has written."""
    try:
      known = json.loads((self.path / 'run.json').read_text())
    except (FileNotFoundError, NotADirectoryError):
      return None
    except (ValueError, OSError) as error:
      raise ConfigError(
        f'{self.path / "run.json"} cannot be read ({error}); choose another '
        '--root_dir.'
      ) from error
    if isinstance(known, dict) and set(_IDENTITY) <= set(known):
      return known
    return None

  def _same(self, known: Mapping[str, Any]) -> bool:
    return all(known[key] == self._facts[key] for key in _IDENTITY)

  def _refusal(self, known: Mapping[str, Any]) -> str:
    found = gin_files.differences(_values(known), _values(self._facts))
    changes = '; '.join(list(found.values())[:4])
    return (
      f'{self.path} holds another run: {changes}. Choose another --root_dir, '
      'or replace that run with --overwrite.'
    )


def _values(facts: Mapping[str, Any]) -> dict[str, str]:
  own = {name: str(facts[name]) for name in ('seed', 'environment')}
  return own | gin_files.values(str(facts['config']))
