"""Raw results: one CSV per experiment, one row per evaluation of a run.

The rows of a run are added together or not at all, and once: its evaluations
while training in their order, the final one last. The CSV has no column for
that; the final evaluation is the one after the most steps with the most
episodes, and the later row where two are equal.
"""

import contextlib
import csv
import os
import pathlib
import re
from collections.abc import Iterator, Mapping, Sequence

from qwr_tf.config.errors import ConfigError
from qwr_tf.runs import atomic_files

# Libraries by the columns of their versions.
VERSION_NAMES = {
  'python': 'Python',
  'tensorflow': 'TensorFlow',
  'tf_agents': 'TF-Agents',
  'gymnasium': 'gymnasium',
  'mujoco': 'MuJoCo',
  'ale_py': 'ale-py',
}

COLUMNS = (
  'experiment', 'algorithm', 'preset', 'bindings', 'dataset', 'environment',
  'seed', 'interactions', 'critic_steps', 'actor_steps', 'return_mode',
  'return_sampled', 'episodes', 'wall_seconds', 'commit', *VERSION_NAMES,
  'host_cores', 'threads',
)  # fmt: skip

ALGORITHMS = (
  'QWR-LSE', 'QWR-MAX', 'QWR-AVG', 'AWR', 'RWR', 'AWAC', 'CRR', 'BC', 'DQN',
  'SAC',
)  # fmt: skip

# In the column `algorithm`: no run, but what the episodes of a data set
# returned in the mean.
DATA = 'data'

Row = dict[str, str]

# What makes two runs the same; versions and commit do not, so that a newer
# run of the same thing is not counted as another seed.
_IDENTITY = COLUMNS[:7]


def identity(row: Mapping[str, str]) -> tuple[str, ...]:
  """Of the run that a row belongs to."""
  return tuple(row[column] for column in _IDENTITY)


def check_name(experiment: str) -> None:
  """Raises ConfigError for a name that no CSV and no figure can have."""
  if not re.fullmatch(r'[\w.-]+', experiment):
    raise ConfigError(
      f'experiment {experiment!r} is no name for a CSV or a figure; use '
      'letters, digits, "_", "-" and ".".'
    )


def read(path: pathlib.Path) -> list[Row]:
  """Rows of a CSV, none if there is no such file.

  Raises:
    ConfigError: if it is something else or damaged.
  """
  try:
    with open(path, newline='', encoding='utf-8-sig') as f:
      reader = csv.DictReader(f)
      _check_columns(path, reader.fieldnames or ())
      return [_checked(path, reader.line_num, row) for row in reader]
  except FileNotFoundError:
    return []
  except (OSError, UnicodeDecodeError, csv.Error) as error:
    raise ConfigError(f'{path} cannot be read: {error}') from error


def _check_columns(path: pathlib.Path, columns: Sequence[str]) -> None:
  if tuple(columns) == COLUMNS:
    return
  faults = {
    'lacks': [c for c in COLUMNS if c not in columns],
    'has the foreign': [c for c in columns if c not in COLUMNS],
  }
  text = ' and '.join(f'{k} {", ".join(v)}' for k, v in faults.items() if v)
  raise ConfigError(
    f'{path} is no CSV of raw results: it '
    f'{text or "has another order of columns"}.'
  )


def _checked(path: pathlib.Path, line: int, row: dict) -> Row:
  if None in row or None in row.values():
    raise ConfigError(f'{path}, line {line}: not {len(COLUMNS)} cells.')
  return row


def add(
  path: pathlib.Path, rows: Sequence[Row], replace: bool = False
) -> list[Row]:
  """Adds the rows of runs that the CSV does not know.

  Several processes may do so at once.

  Args:
    path: the CSV, made if there is none.
    rows: all rows of one or more runs.
    replace: whether known runs' rows give way to these; else they stay.

  Returns:
    The rows that were added.

  Raises:
    ConfigError: if two data sets have one name: runs on them would count as
      seeds of one setting.
  """
  path.parent.mkdir(parents=True, exist_ok=True)
  with _locked(path.parent):
    old = read(path)
    if replace:
      gone = {identity(row) for row in rows}
      old = [row for row in old if identity(row) not in gone]
    _refuse_other_data(path, [*old, *rows])
    present = {identity(row) for row in old}
    new = [row for row in rows if identity(row) not in present]
    if new:
      atomic_files.write_csv(path, COLUMNS, [*old, *new])
  return new


def _refuse_other_data(path: pathlib.Path, rows: Sequence[Row]) -> None:
  means: dict[tuple[str, ...], str] = {}
  for row in rows:
    if row['algorithm'] == DATA:
      mean = means.setdefault(identity(row), row['return_mode'])
      if mean != row['return_mode']:
        raise ConfigError(
          f'{path}: the mean return of {row["dataset"]} is {mean} in one row '
          f'and {row["return_mode"]} in another: two data sets of one name. '
          'Rename one, or give its runs a CSV of their own.'
        )


@contextlib.contextmanager
def _locked(folder: pathlib.Path) -> Iterator[None]:
  """One process at a time; the folder is the lock, so nothing is left over."""
  import fcntl  # Not on Windows.

  descriptor = os.open(folder, os.O_RDONLY)
  try:
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    yield
  finally:
    os.close(descriptor)
