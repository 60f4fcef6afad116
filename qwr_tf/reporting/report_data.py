"""Experiments: raw rows sorted by setting, environment and run."""

import csv
import dataclasses
import functools
import pathlib
import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from qwr_tf.config.errors import ConfigError
from qwr_tf.environments import env_names
from qwr_tf.reporting import published
from qwr_tf.reporting import results
from qwr_tf.reporting.published import Number

ACTIONS = ('mode', 'sampled')

# Empty cells of these are 0.
_COUNTS = ['critic_steps', 'actor_steps', 'episodes']
_FLOATS = {
  'return_mode': 'mode',
  'return_sampled': 'sampled',
  'wall_seconds': 'wall_seconds',
}
# The final evaluation is the last row in this order.
_PROGRESS = ['interactions', *_COUNTS]


class Setting(NamedTuple):
  """What runs of one experiment differ in, besides environment and seed."""

  algorithm: str
  preset: str
  bindings: str
  dataset: str

  @property
  def markdown(self) -> str:
    """Cell of a table."""
    cell = self.algorithm
    for part in (self.preset, *self.bindings.split('; '), self.dataset):
      cell += f' `{part}`' if part else ''
    return cell.replace('|', '\\|')


_CELL = [*Setting._fields, 'environment']
_RUN = [*_CELL, 'seed']


@dataclasses.dataclass(frozen=True)
class Experiment:
  """All runs of one CSV.

  Attributes:
    name: name of the CSV.
    evaluations: one row per evaluation, sorted by setting, environment, seed
      and progress. The columns are those of the CSV, with returns named `mode`
      and `sampled` (NaN: not measured), and `progress`: interactions, or
      gradient steps where learning began on a data set.
    numbers: published ones.
  """

  name: str
  evaluations: pd.DataFrame
  numbers: Sequence[Number] = ()

  @functools.cached_property
  def runs(self) -> pd.DataFrame:
    """The final evaluation of each run, data sets left out.

    It is the last one after the most steps with the most episodes.
    """
    rows = self.evaluations
    return rows[rows.algorithm != results.DATA].groupby(_RUN).tail(1)

  @functools.cached_property
  def _cells(self) -> dict[tuple, pd.DataFrame]:
    return dict(iter(self.evaluations.groupby(_CELL)))

  def of(self, setting: Setting, environment: str) -> pd.DataFrame:
    """Evaluations of the runs in one cell of a table, one run per seed."""
    return self._cells.get((*setting, environment), self.evaluations[:0])

  def final(self, setting: Setting, environment: str) -> pd.DataFrame:
    """Final evaluations of a cell's runs."""
    return self.of(setting, environment).groupby('seed').tail(1)

  def finals(
    self, setting: Setting, environment: str, action: str
  ) -> list[float]:
    """Final scores of a cell's runs, as far as they were measured."""
    return self.final(setting, environment)[action].dropna().tolist()

  def switches(self, setting: Setting, environment: str) -> list[int]:
    """Gradient steps after which offline runs began to collect."""
    rows = self.of(setting, environment)
    collected = rows.groupby('seed').interactions.transform('max') > 0
    offline = rows[collected & (rows.interactions == 0)]
    return sorted(set(offline.groupby('seed').progress.max()) - {0})

  def data_return(self, dataset: str, environment: str) -> float | None:
    """Mean return of a data set's own episodes; None if it is not known."""
    data = Setting(results.DATA, '', '', dataset)
    return next(iter(self.finals(data, environment, 'mode')), None)

  @functools.cached_property
  def settings(self) -> list[Setting]:
    """By data set; those without bindings first, in the order of algorithms."""
    names = results.ALGORITHMS

    def place(setting: Setting) -> tuple:
      is_listed = setting.algorithm in names
      rank = names.index(setting.algorithm) if is_listed else len(names)
      return setting.dataset, bool(setting.bindings), rank, setting

    return sorted({Setting(*cell[:-1]) for cell in self._cells}, key=place)

  @property
  def learned(self) -> list[Setting]:
    """Settings of runs; the others are data sets."""
    return [s for s in self.settings if s.algorithm != results.DATA]

  @property
  def of_a_preset(self) -> bool:
    """True if the experiment has the name of a preset: no ablation."""
    return self.name in {s.preset for s in self.settings}

  @functools.cached_property
  def centre(self) -> Setting | None:
    """The one setting without bindings, if all others vary that one."""
    plain = [s for s in self.learned if not s.bindings]
    if self.of_a_preset or len(plain) != 1 or len(self.learned) == 1:
      return None
    origins = {(s.preset, s.dataset) for s in self.learned}
    return plain[0] if len(origins) == 1 else None

  @property
  def labels(self) -> dict[Setting, str]:
    """Names for figures; the preset once, where all settings have the same."""
    one_preset = len({setting.preset for setting in self.learned}) == 1
    labels = {}
    for setting in self.settings:
      preset = '' if one_preset and setting.bindings else setting.preset
      parts = (setting.algorithm, preset, setting.dataset)
      name = ' '.join(part for part in parts if part)
      bindings = setting.bindings.replace(' = ', '=')  # Breaks less well.
      labels[setting] = ': '.join(filter(None, (name, bindings)))
    if self.centre:
      labels[self.centre] += ' (centre)'
    return labels

  @functools.cached_property
  def environments(self) -> list[str]:
    """In the order of the papers' tables, others by name."""
    order = {task: i for i, task in enumerate(published.INDEX_TASKS)}

    def place(environment: str) -> tuple:
      # Numbers as numbers: BitFlip-5 before BitFlip-20.
      parts = [
        (int(part), '') if part.isdigit() else (0, part)
        for part in re.split(r'(\d+)', environment)
      ]
      return order.get(env_names.task(environment), len(order)), parts

    return sorted(set(self.evaluations.environment), key=place)

  @property
  def tasks(self) -> list[str]:
    """Names of the environments without versions."""
    return [env_names.task(e) for e in self.environments]

  @property
  def budget(self) -> int:
    """The interactions of most runs."""
    return int(self.runs.interactions.mode()[0])

  @functools.cached_property
  def rivals(self) -> list[Number]:
    """Numbers of methods published for this budget and a task measured here."""
    numbers = [
      n
      for dataset in sorted({setting.dataset for setting in self.settings})
      for n in published.at_budget(self.numbers, self.budget, dataset)
    ]
    methods = {n.method for n in numbers if n.task in self.tasks}
    return [n for n in numbers if n.method in methods]

  def same_algorithms(self, environment: str) -> list[Number]:
    """Published scores of the algorithms that were run here."""
    task = env_names.task(environment)
    algorithms = {setting.algorithm for setting in self.settings}
    return [
      n for n in self.rivals if n.task == task and n.algorithm in algorithms
    ]

  @functools.cached_property
  def scales(self) -> dict[str, published.Scale]:
    """What counts as 0 and as 1 in the environments that have a scale."""
    scales = published.scales(self.numbers)
    tasks = zip(self.environments, self.tasks, strict=True)
    return {e: scales[task] for e, task in tasks if task in scales}

  def normalised(self, setting: Setting, action: str) -> dict[str, list[float]]:
    """{environment: final scores}, where there are scores and a scale."""
    return {
      environment: [published.normalised(score, scale) for score in finals]
      for environment, scale in self.scales.items()
      if (finals := self.finals(setting, environment, action))
    }


def is_raw(path: pathlib.Path) -> bool:
  """True if a CSV claims to hold raw results; others lie beside them.

  Raises:
    ConfigError: if it cannot be read, or seems to be what once held some.
  """
  try:
    with open(path, newline='', encoding='utf-8-sig') as f:
      header = f.readline()
    columns = next(csv.reader([header]), [])
  except (OSError, UnicodeDecodeError, csv.Error) as error:
    raise ConfigError(f'{path} cannot be read: {error}') from error
  has_first = results.COLUMNS[0] in columns
  if not columns or (results.COLUMNS[0] in header and not has_first):
    raise ConfigError(
      f'{path} is empty or not separated by commas; put back what it was, or '
      'move it elsewhere.'
    )
  return has_first


def load(
  paths: Iterable[pathlib.Path], numbers: Sequence[Number] = ()
) -> list[Experiment]:
  """Experiments by name.

  Raises:
    ConfigError: for a damaged CSV, for a run that is there twice, for data sets
      without runs, and for a CSV that has not the name of its experiment (a
      copy, kept beside it).
  """
  frames = [frame for path in paths if len(frame := _read(path))]
  if not frames:
    return []
  runs = pd.concat([frame.drop_duplicates(_RUN) for frame in frames])
  for _, run in runs[runs.duplicated(['experiment', *_RUN])].iterrows():
    raise ConfigError(
      f'{run.path}: {_name(run)} is in another file too; give one of them.'
    )
  return [
    Experiment(str(name), rows.sort_values([*_RUN, *_PROGRESS]), numbers)
    for name, rows in pd.concat(frames).groupby('experiment')
  ]


def _read(path: pathlib.Path) -> pd.DataFrame:
  """Evaluations of one CSV, in the order of its rows."""
  rows = pd.DataFrame(results.read(path), columns=[*results.COLUMNS])
  for name in set(rows.experiment) - {path.stem}:
    raise ConfigError(
      f'{path} has rows of the experiment {name!r}; give the CSV and its '
      'column the same name.'
    )
  results.check_name(path.stem)
  if set(rows.algorithm) == {results.DATA}:
    raise ConfigError(
      f'{path} has rows of data sets alone; put those of the runs back.'
    )
  for column in ['seed', *_PROGRESS, *_FLOATS]:
    rows[column] = _numbers(path, rows[column])
  learned = rows.actor_steps.where(rows.actor_steps > 0, rows.critic_steps)
  rows['progress'] = rows.interactions.where(rows.dataset == '', learned)
  for _, run in rows.groupby(_RUN):
    if not run.interactions.is_monotonic_increasing:
      raise ConfigError(
        f'{path}, rows of {_name(run.iloc[0])}: out of order, or there twice; '
        'remove them, and qwr_tf.sweep --collect_only adds them again.'
      )
  return rows.rename(columns=_FLOATS).assign(path=str(path))


def _numbers(path: pathlib.Path, cells: pd.Series) -> pd.Series:
  """A column of text as numbers; empty cells are NaN, in `_COUNTS` 0."""
  try:
    numbers = pd.to_numeric(cells.where(cells != '')).astype(float)
    if not np.isfinite(numbers[cells != '']).all():
      raise ValueError('not a finite number')
    if cells.name in _FLOATS:
      return numbers
    integers = numbers.astype('Int64')
    return (integers.fillna(0) if cells.name in _COUNTS else integers).astype(
      int
    )
  except (ValueError, TypeError) as error:
    raise ConfigError(f'{path}, column {cells.name}: {error}') from error


def _name(run: pd.Series) -> str:
  return f'{run.environment} seed {run.seed}'
