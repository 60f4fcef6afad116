"""The folder of a run: its files, and the rule that runs never share one."""

import contextlib
import csv
import datetime
import hashlib
import json
import os
import pathlib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from absl import logging

from qwr_tf.config import gin_files
from qwr_tf.config.errors import ConfigError
from qwr_tf.runs import atomic_files
from qwr_tf.runs import provenance
from qwr_tf.runs import regular_files
from qwr_tf.runs import run_json
from qwr_tf.runs import run_lock

# The files that a run writes, beside run.json.
_FILES = (
  'config.gin',
  'metrics.csv',
  'learning_curve.png',
  'offending_batch.npz',
  'evaluation.md',
  'evaluation.csv',
  'evaluation.png',
)
# The folders that a run writes into, and what is the run's in them.
_FOLDERS = {
  'checkpoints': ('[0-9]' * 8, 'final', 'best'),
  'tensorboard': ('events.out.tfevents.*',),
  'policy': ('[0-9]*',),
}
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


class RunFolder:
  """Writer of a run's folder, but for TensorBoard's own files.

  Attributes:
    begins_anew: whether `begin` replaces what is there; known once claimed.
  """

  def __init__(self, path: pathlib.Path, facts: Mapping[str, Any]):
    """Describes the run; nothing is written before `begin`.

    Args:
      path: the folder.
      facts: command, bindings, configuration, environment, seed; as in JSON.
    """
    self.path = path
    self.checkpoints = path / 'checkpoints'
    self.rows: list[dict[str, Any]] = []  # Of metrics.csv.
    self.begins_anew = False
    self._facts = dict(facts)
    self._resumed: list[dict[str, Any]] = []
    self._prolonged: list[dict[str, Any]] = []
    self._changes: dict[str, Any] = {}

  def at(self, path: pathlib.Path) -> 'RunFolder':
    """The folder of the same run at another path."""
    copy = RunFolder(path, self._facts)
    copy._prolonged = self._prolonged
    return copy

  @property
  def run_ids(self) -> list[str]:
    """Hashes of configuration, environment and seed.

    First that of the run, then those it had before it was prolonged.
    """
    return run_ids(self._facts | {'prolonged': self._prolonged})

  def prolong(self) -> None:
    """Takes over the folder's run, which had a smaller budget.

    A run of another seed or environment is left to `check`, which refuses it.
    """
    facts = self._read()
    budget = {'config': self._facts['config']}
    if not facts or not run_json.is_same_run(facts | budget, self._facts):
      return
    kept = ('interactions', 'scores')
    entry = {name: facts.get(name) for name in kept}
    earlier = facts.get('prolonged') or []
    self._prolonged = [*earlier, {**entry, 'run_id': _run_id(facts)}]

  def _is_ours(self, facts: Mapping[str, Any]) -> bool:
    """True if facts are of this run, or of it before it was prolonged."""
    return (
      run_json.is_same_run(facts, self._facts)
      or _run_id(facts) in self.run_ids[1:]
    )

  def recorded(self, name: str) -> Any:
    """A value in the folder's run.json; None if it has none."""
    return (self._read() or {}).get(name)

  def add_fact(self, name: str, value: Any) -> None:
    """Adds a value to the description of the run; None adds nothing."""
    if value is not None:
      self._facts[name] = value

  def finished(self) -> dict[str, Any] | None:
    """run.json of this run if it is finished, or None."""
    facts = self._read()
    if facts is None or not facts.get('finished'):
      return None
    return facts if run_json.is_same_run(facts, self._facts) else None

  def check(self, overwrite: bool) -> None:
    """Checks that this run may use the folder; changes nothing.

    Raises:
      ConfigError: if the folder holds another run, unless overwrite is given,
        or anything else.
    """
    facts = self._read()
    if facts is not None and not overwrite:
      if not self._is_ours(facts):
        raise ConfigError(self._refusal(facts))
    with self._os_errors_in_one_line():
      if self.path.exists() and not self.path.is_dir():
        raise ConfigError(f'{self.path} is a file; choose another --root_dir.')
      if facts is None and self.path.exists() and self._holds_anything():
        raise ConfigError(
          f'{self.path} is not empty and holds no run; choose another '
          '--root_dir.'
        )
      self._check_kinds()

  def _holds_anything(self) -> bool:
    return any(
      p.name != run_lock.NAME and not p.match(_HALF_WRITTEN)
      for p in self.path.iterdir()
    )

  def _check_kinds(self) -> None:
    """Refuses a file for a folder, a folder for a file, a broken link."""
    for name in (*_FOLDERS, *_FILES):
      path = self.path / name
      kind = 'folder' if name in _FOLDERS else 'file'
      is_right = path.is_dir() if kind == 'folder' else path.is_file()
      if os.path.lexists(path) and not is_right:
        raise ConfigError(
          f'{path} is no {kind}; delete it or choose another --root_dir.'
        )

  @contextlib.contextmanager
  def claimed(self, overwrite: bool) -> Iterator[None]:
    """Holds the folder for this process while the context is entered.

    Changes nothing but what a process that was killed has left.

    Args:
      overwrite: whether `begin` may delete a run that is there.

    Raises:
      ConfigError: as `check`, and if another process has the folder or it
        cannot be written.
    """
    with contextlib.ExitStack() as stack:
      with self._os_errors_in_one_line():
        self.check(overwrite)
        self.path.mkdir(parents=True, exist_ok=True)
        stack.enter_context(run_lock.held(self.path))
        self.check(overwrite)
        facts = self._read()
        for name in ('.', *_FOLDERS):  # Of a process that was killed.
          _delete_all(self.path / name, _HALF_WRITTEN)
        self.begins_anew = facts is None or overwrite
        if facts and not overwrite:
          self._resumed = facts.get('resumed') or []
          self._prolonged = self._prolonged or facts.get('prolonged') or []
          self._changes = self._changes_since(facts)
      yield

  def _clear(self) -> None:
    """Deletes a run; a link to a folder elsewhere stays, emptied."""
    if self.checkpoints.exists():  # At once, as they would be resumed.
      renamed = self.path / '.checkpoints.tmp'
      os.replace(self.checkpoints, renamed)
      _empty(renamed, _FOLDERS['checkpoints'])
      if renamed.is_symlink():
        os.replace(renamed, self.checkpoints)
    self.write_json({})  # It stays a run's folder, whatever happens.
    for name in ('tensorboard', 'policy'):
      _empty(self.path / name, _FOLDERS[name])
    _delete_all(self.path, *_FILES, 'video.*')

  def _changes_since(self, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Warns of other versions, which may change the rest of the run."""
    before = {**facts, **(facts.get('versions') or {})}
    changes = {
      name: value
      for name, value in provenance.facts().items()
      if before.get(name, value) != value
    }
    if changes:
      logging.warning(
        '%s resumes, but not exactly as it would have gone on: %s.',
        self.path,
        ', '.join(f'{n} was {before[n]}, is {v}' for n, v in changes.items()),
      )
    return changes

  def new_policy(self) -> pathlib.Path:
    """The folder of the policy, without one that a killed process left."""
    _empty(self.path / 'policy', _FOLDERS['policy'])
    return self.path / 'policy'

  def begin(self) -> None:
    """Writes the configuration of a run that has no checkpoint yet.

    If it begins anew, the run that was there is deleted first; files that no
    run has written stay.

    Raises:
      ConfigError: if it has rows, so that there must have been a checkpoint.
    """
    if self.begins_anew:
      with self._os_errors_in_one_line():
        self._clear()
    if self._prolonged:
      raise ConfigError(
        f'{self.path} cannot be prolonged: its last checkpoint was not kept '
        '(run.keep_checkpoint). Begin a new run with its weights, with '
        f'--gin_bindings="run.warm_start=\'{self.path}\'".'
      )
    if (self.path / 'metrics.csv').exists():
      raise ConfigError(
        f'{self.path} holds an unfinished run of the same configuration but '
        'no checkpoint; start it anew with --overwrite or choose another '
        '--root_dir.'
      )
    self.write_config(self._facts['config'])

  def state(self) -> list[dict[str, Any]]:
    """The rows, for a checkpoint."""
    return self.rows

  def restore(self, state: Sequence[Mapping[str, Any]]) -> None:
    """Takes the rows from a checkpoint; writes nothing yet."""
    self.rows = [dict(row) for row in state]

  def resume(self, columns: Sequence[str], interactions: int) -> None:
    """Writes the restored rows in place of later ones."""
    self._write_rows(columns)
    self._resumed.append({'interactions': interactions, **self._changes})
    self.write_json({'interactions': interactions, 'finished': False})

  @contextlib.contextmanager
  def _os_errors_in_one_line(self) -> Iterator[None]:
    try:
      yield
    except OSError as error:
      raise ConfigError(
        f'{self.path} cannot be used ({error.strerror or error}); choose '
        'another --root_dir.'
      ) from error

  def content(self, results: Mapping[str, Any]) -> dict[str, Any]:
    """The content of run.json: the facts, versions and results so far."""
    return {
      **self._facts,
      'commit': provenance.commit(),
      'versions': provenance.versions(),
      'host_cores': os.cpu_count(),
      'threads': provenance.threads(),
      'time': datetime.datetime.now(datetime.timezone.utc).isoformat(),
      **({'resumed': self._resumed} if self._resumed else {}),
      **({'prolonged': self._prolonged} if self._prolonged else {}),
      **results,
    }

  def write_json(self, results: Mapping[str, Any]) -> None:
    """Writes run.json."""
    text = json.dumps(self.content(results), indent=2)
    atomic_files.write_atomically(self.path / run_json.NAME, text)

  def write_config(self, operative_config: str) -> None:
    """Writes config.gin."""
    atomic_files.write_atomically(self.path / 'config.gin', operative_config)

  def add_row(self, row: Mapping[str, Any], columns: Sequence[str]) -> None:
    """Adds a row to metrics.csv.

    Args:
      row: values by column; empty cells may be missing.
      columns: the first ones of the file. Those of the rows that are not
        among them follow.
    """
    self.rows.append(dict(row))
    self._write_rows(columns)

  def _write_rows(self, columns: Sequence[str]) -> None:
    names = dict.fromkeys([*columns, *(n for row in self.rows for n in row)])
    atomic_files.write_csv(self.path / 'metrics.csv', names, self.rows)

  def _read(self) -> dict[str, Any] | None:
    try:
      return run_json.read(self.path)
    except ConfigError as error:
      raise ConfigError(f'{error}; choose another --root_dir.') from error

  def _refusal(self, facts: Mapping[str, Any]) -> str:
    differences = gin_files.differences(_values(facts), _values(self._facts))
    changes = '; '.join(list(differences.values())[:4])
    return (
      f'{self.path} holds another run: {changes}. Choose another --root_dir, '
      'or start anew with --overwrite.'
    )


def run_ids(facts: Mapping[str, Any]) -> list[str]:
  """Hashes of the run that run.json describes, before it was prolonged last."""
  earlier = [str(e.get('run_id')) for e in facts.get('prolonged') or ()]
  return [_run_id(facts), *reversed(earlier)]


def read_rows(path: pathlib.Path) -> list[dict[str, str]]:
  """The rows of a folder's metrics.csv; [] if there is none."""
  try:
    text = regular_files.read_text(path / 'metrics.csv')
  except FileNotFoundError:
    return []
  return list(csv.DictReader(text.splitlines()))


def foreign(path: pathlib.Path, copy: pathlib.Path) -> list[pathlib.Path]:
  """Files of a run's folder that a copy lacks and no run writes anew."""
  patterns = {'.': (run_lock.NAME, _HALF_WRITTEN), **_FOLDERS}
  return [
    file
    for folder in patterns
    for file in sorted((path / folder).glob('*'))
    if not any(map(file.match, patterns[folder]))
    and not os.path.lexists(copy / file.relative_to(path))
  ]


def _run_id(facts: Mapping[str, Any]) -> str:
  identity = [facts[name] for name in ('config', 'environment', 'seed')]
  return hashlib.sha256(json.dumps(identity).encode()).hexdigest()


def _empty(folder: pathlib.Path, patterns: Sequence[str]) -> None:
  """Deletes a folder; of a link's target only what matches the patterns."""
  if folder.is_symlink():
    _delete_all(folder, *patterns)
  else:
    atomic_files.delete(folder)


def _delete_all(folder: pathlib.Path, *patterns: str) -> None:
  for pattern in patterns:
    for path in folder.glob(pattern):
      atomic_files.delete(path)


def _values(facts: Mapping[str, Any]) -> dict[str, str]:
  values = {name: str(facts[name]) for name in ('seed', 'environment')}
  return values | gin_files.values(str(facts['config']))
