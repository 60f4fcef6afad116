"""A run's folder: what it holds, and that two runs never share one."""

import contextlib
import csv
import datetime
import hashlib
import importlib.metadata
import io
import json
import os
import pathlib
import platform
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from qwr_tf.gin_files import ConfigError

_VERSIONS_OF = (
  'tensorflow',
  'tf-agents',
  'tensorflow-probability',
  'gymnasium',
  'mujoco',
  'ale-py',
  'numpy',
)

# What makes two runs the same.
_IDENTITY = ('config', 'environment', 'seed')

# What a run writes, beside run.json.
_CONTENTS = (
  'config.gin',
  'metrics.csv',
  'learning_curve.png',
  'tensorboard',
  'checkpoints',
  'policy',
  'video.*',
)


def default_path(
  gin_file: str, environment: str, seed: int, config: str
) -> pathlib.Path:
  """runs/<gin>-<environment>-s<seed>-<8 hex of the configuration>."""
  digest = hashlib.sha256(config.encode()).hexdigest()[:8]
  name = re.sub(r'[^A-Za-z0-9_.-]', '_', environment)
  return pathlib.Path(
    'runs', f'{pathlib.Path(gin_file).stem}-{name}-s{seed}-{digest}'
  )


def write_atomically(path: pathlib.Path, content: str | bytes) -> None:
  """Writes a file that is either the old one or the new one, never half."""
  temporary = path.with_name(f'.{path.name}.{os.getpid()}.tmp')
  data = content.encode() if isinstance(content, str) else content
  try:
    with open(temporary, 'wb') as f:
      f.write(data)
      f.flush()
      os.fsync(f.fileno())
    os.replace(temporary, path)
  finally:
    temporary.unlink(missing_ok=True)


def threads() -> int:
  """Threads of one TensorFlow operation: as asked for, else all cores."""
  asked_for = os.environ.get('TF_NUM_INTRAOP_THREADS', '')
  if asked_for.isdigit() and int(asked_for):
    return int(asked_for)
  if hasattr(os, 'sched_getaffinity'):  # Not on macOS.
    return len(os.sched_getaffinity(0))
  return os.cpu_count() or 1


def versions() -> dict[str, str]:
  """Of Python and of the libraries a score may depend on."""
  found = {'python': platform.python_version()}
  for name in _VERSIONS_OF:
    try:
      found[name.replace('-', '_')] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
      found[name.replace('-', '_')] = ''
  return found


def commit() -> str:
  """The checkout's commit, with '-dirty' if it has changes; '' outside one."""
  folder = pathlib.Path(__file__).resolve().parent

  def git(*arguments: str) -> str:
    return subprocess.run(
      ['git', '-C', str(folder), *arguments],
      capture_output=True,
      text=True,
      check=True,
      timeout=10,
    ).stdout.strip()

  try:
    if not (folder.parent / '.git').exists():
      return ''  # Installed inside somebody else's checkout.
    changed = git('status', '--porcelain', '--untracked-files=no')
    return git('rev-parse', '--short=12', 'HEAD') + '-dirty' * bool(changed)
  except (OSError, subprocess.SubprocessError):
    return ''


class RunFolder:
  """Writes everything but TensorBoard's own files."""

  def __init__(self, path: pathlib.Path, facts: Mapping[str, Any]):
    """Describes the run; nothing is written before `claim`.

    Args:
      path: the folder.
      facts: command, configuration, environment, seed: what makes two runs
        the same or not. Must be JSON.
    """
    self.path = path
    self._facts = dict(facts)
    self._rows: list[dict[str, Any]] = []

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
    if known is not None and not overwrite:
      raise ConfigError(self._refusal(known))
    with self._errors_name_the_fix():
      if self.path.exists() and not self.path.is_dir():
        raise ConfigError(f'{self.path} is a file; choose another --root_dir.')
      if known is None and self.path.exists() and any(self.path.iterdir()):
        raise ConfigError(
          f'{self.path} is not empty and holds no run; choose another '
          '--root_dir.'
        )

  def claim(self, overwrite: bool) -> None:
    """Makes the folder this run's own, without what an older one left.

    Files that no run has written stay.

    Raises:
      ConfigError: as `check`, or if the folder cannot be written.
    """
    self.check(overwrite)
    with self._errors_name_the_fix():
      self.path.mkdir(parents=True, exist_ok=True)
      self.write_json({})  # First, so that it stays a run whatever happens.
      for old in (p for pattern in _CONTENTS for p in self.path.glob(pattern)):
        shutil.rmtree(old) if old.is_dir() else old.unlink()

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
      'commit': commit(),
      'versions': versions(),
      'host_cores': os.cpu_count(),
      'threads': threads(),
      'time': datetime.datetime.now(datetime.timezone.utc).isoformat(),
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
    if self._same(known):
      return (
        f'{self.path} holds an unfinished run of the same configuration; '
        'start it anew with --overwrite or choose another --root_dir.'
      )
    changes = '; '.join(_differences(known, self._facts))
    return (
      f'{self.path} holds another run: {changes}. Choose another --root_dir, '
      'or replace that run with --overwrite.'
    )


def _differences(
  there: Mapping[str, Any], here: Mapping[str, Any]
) -> Iterator[str]:
  """Yields the first few values that differ between two runs' facts."""
  old, new = _values(there), _values(here)
  names = [n for n in [*new, *old] if old.get(n) != new.get(n)]
  for name in list(dict.fromkeys(names))[:4]:
    values = (v.get(name, 'not set') for v in (old, new))
    yield '{}: {} there, {} here'.format(name, *values)


def _values(facts: Mapping[str, Any]) -> dict[str, str]:
  # gin breaks long values into indented lines.
  text = re.sub(r'\\?\n +', ' ', str(facts['config']))
  lines = (line.partition(' = ') for line in text.splitlines())
  values = {name: value.strip() for name, equals, value in lines if equals}
  return {
    'seed': str(facts['seed']),
    'environment': str(facts['environment']),
    **values,
  }
