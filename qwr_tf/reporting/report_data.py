"""Raw rows sorted into experiments, settings, environments and runs."""

import csv
import dataclasses
import math
import pathlib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from qwr_tf.config.errors import ConfigError
from qwr_tf.environments import env_names
from qwr_tf.reporting import published
from qwr_tf.reporting import results

ACTIONS = ('mode', 'sampled')


class Setting(NamedTuple):
  """What runs of one experiment differ in, besides environment and seed."""

  algorithm: str
  preset: str
  bindings: str
  dataset: str

  @property
  def markdown(self) -> str:
    """For a table."""
    cell = self.algorithm
    for part in (self.preset, *self.bindings.split('; '), self.dataset):
      cell += f' `{part}`' if part else ''
    return cell.replace('|', '\\|')


class Evaluation(NamedTuple):
  """One row's measurements; None where nothing was measured."""

  interactions: int
  critic_steps: int
  actor_steps: int
  episodes: int
  mode: float | None
  sampled: float | None
  wall_seconds: float | None


@dataclasses.dataclass(frozen=True)
class Run:
  """One run.

  Attributes:
    setting: its algorithm and values.
    environment: its name.
    seed: its seed.
    evaluations: in the order of the rows.
    facts: the row's other cells: versions, commit, host.
  """

  setting: Setting
  environment: str
  seed: int
  evaluations: tuple[Evaluation, ...]
  facts: Mapping[str, str]

  @property
  def final(self) -> Evaluation:
    """The last evaluation after the most steps with the most episodes."""
    order = [e[:4] for e in self.evaluations]
    last = max(range(len(order)), key=lambda i: (order[i], i))
    return self.evaluations[last]

  def curve(self, action: str) -> list[tuple[int, float]]:
    """(progress, return) points; a final evaluation replaces its row."""
    points = {self._progress(e): getattr(e, action) for e in self.evaluations}
    points[self._progress(self.final)] = getattr(self.final, action)
    return sorted((x, y) for x, y in points.items() if y is not None)

  def _progress(self, e: Evaluation) -> int:
    """Interactions; gradient steps where learning began without any."""
    learned = e.actor_steps or e.critic_steps
    return learned if self.setting.dataset else e.interactions

  @property
  def switch(self) -> int | None:
    """Gradient steps after which an offline run began to collect."""
    offline = [
      self._progress(e) for e in self.evaluations if not e.interactions
    ]
    return max(offline) if offline and self.final.interactions else None


@dataclasses.dataclass(frozen=True)
class Experiment:
  """All runs of an experiment.

  Attributes:
    name: of its CSV.
    runs: sorted by setting, environment and seed.
  """

  name: str
  runs: tuple[Run, ...]

  @property
  def settings(self) -> list[Setting]:
    """By data set, the default preset's algorithm first: no bindings."""
    found = {run.setting for run in self.runs}
    return sorted(
      found, key=lambda s: (s.dataset, bool(s.bindings), _rank(s), s)
    )

  @property
  def learned(self) -> list[Setting]:
    """Those of runs; the others are data sets."""
    return [s for s in self.settings if s.algorithm != results.DATA]

  @property
  def of_a_preset(self) -> bool:
    """Whether it has a preset's name: no ablation, nothing on the side."""
    return self.name in {s.preset for s in self.settings}

  @property
  def centre(self) -> Setting | None:
    """The one setting without bindings, if all others vary that one."""
    plain = [s for s in self.learned if not s.bindings]
    if self.of_a_preset or len(plain) != 1 or len(self.learned) == 1:
      return None
    of = {(s.preset, s.dataset) for s in self.learned}
    return plain[0] if len(of) == 1 else None

  @property
  def learning_runs(self) -> list[Run]:
    """Runs that are no data sets."""
    return [r for r in self.runs if r.setting.algorithm != results.DATA]

  def data_return(self, dataset: str, environment: str) -> float | None:
    """Mean return of a data set's own episodes; None if it is not known."""
    found = self.of(Setting(results.DATA, '', '', dataset), environment)
    return found[0].final.mode if found else None

  @property
  def labels(self) -> dict[Setting, str]:
    """Names for figures; the preset once, where all settings have the same."""
    alike = len({setting.preset for setting in self.learned}) == 1
    labels = {}
    for setting in self.settings:
      preset = '' if alike and setting.bindings else setting.preset
      parts = (setting.algorithm, preset, setting.dataset)
      name = ' '.join(part for part in parts if part)
      bindings = setting.bindings.replace(' = ', '=')  # Breaks less well.
      labels[setting] = ': '.join(filter(None, (name, bindings)))
    if self.centre:
      labels[self.centre] += ' (centre)'
    return labels

  @property
  def environments(self) -> list[str]:
    """Those the papers print first in their order, others by name."""
    order = {task: i for i, task in enumerate(published.INDEX_TASKS)}

    def place(environment: str) -> tuple:
      # Numbers as numbers: BitFlip-5 before BitFlip-20.
      parts = [
        (int(part), '') if part.isdigit() else (0, part)
        for part in re.split(r'(\d+)', environment)
      ]
      return order.get(env_names.task(environment), len(order)), parts

    return sorted({run.environment for run in self.runs}, key=place)

  def of(self, setting: Setting, environment: str) -> list[Run]:
    """The runs of one cell of a table, one per seed."""
    return [
      run
      for run in self.runs
      if (run.setting, run.environment) == (setting, environment)
    ]

  def finals(self, setting: Setting, environment: str, action: str):
    """The final scores of a cell's runs that were measured."""
    values = [getattr(r.final, action) for r in self.of(setting, environment)]
    return [value for value in values if value is not None]

  @property
  def budget(self) -> int:
    """The interactions of most runs."""
    made = [run.final.interactions for run in self.learning_runs]
    return max(sorted(set(made)), key=made.count)


def _rank(setting: Setting) -> int:
  """Where the algorithm stands in the list of names."""
  names = results.ALGORITHMS
  known = setting.algorithm in names
  return names.index(setting.algorithm) if known else len(names)


def is_raw(path: pathlib.Path) -> bool:
  """Whether a CSV claims to hold raw results; others lie beside them.

  Raises:
    ConfigError: if it cannot be read, or seems to be what once held some.
  """
  try:
    with open(path, newline='', encoding='utf-8-sig') as f:
      header = f.readline()
    columns = next(csv.reader([header]), [])
  except (OSError, UnicodeDecodeError, csv.Error) as error:
    raise ConfigError(f'{path} cannot be read: {error}') from error
  found = results.COLUMNS[0] in columns
  if not columns or (results.COLUMNS[0] in header and not found):
    raise ConfigError(
      f'{path} is empty or not separated by commas; put back what it was, or '
      'move it elsewhere.'
    )
  return found


def load(paths: Iterable[pathlib.Path]) -> list[Experiment]:
  """Experiments by name.

  Raises:
    ConfigError: for a damaged CSV, for a run that is there twice, for data sets
      without runs, and for a CSV that has not the name of its experiment (a
      copy, kept beside it).
  """
  runs: dict[tuple[str, ...], list[results.Row]] = {}
  for path in paths:
    blocks: dict[tuple[str, ...], list[results.Row]] = {}
    for row in results.read(path):
      blocks.setdefault(results.identity(row), []).append(row)
    for identity, rows in blocks.items():
      if identity[0] != path.stem:
        raise ConfigError(
          f'{path} has rows of the experiment {identity[0]!r}; give the CSV '
          'and its column the same name.'
        )
      if identity in runs:
        raise ConfigError(
          f'{path}: {_name(rows)} is in another file too; give one of them.'
        )
      runs[identity] = rows
    if blocks and {identity[1] for identity in blocks} == {results.DATA}:
      raise ConfigError(
        f'{path} has rows of data sets alone; put those of the runs back.'
      )
  experiments: dict[str, list[Run]] = {}
  for identity, rows in runs.items():
    experiments.setdefault(identity[0], []).append(_run(rows))
  return [
    Experiment(name, tuple(sorted(found, key=_order)))
    for name, found in sorted(experiments.items())
  ]


def _order(run: Run):
  return run.setting, run.environment, run.seed


def _name(rows: Sequence[results.Row]) -> str:
  return f'{rows[0]["environment"]} seed {rows[0]["seed"]}'


def _run(rows: Sequence[results.Row]) -> Run:
  first = rows[0]
  results.check_name(first['experiment'])
  setting = Setting(*(first[field] for field in Setting._fields))
  try:
    evaluations = tuple(_evaluation(row) for row in rows)
    seed = int(first['seed'])
  except ValueError as error:
    raise ConfigError(f'rows of {_name(rows)}: {error}') from error
  counts = [e.interactions for e in evaluations]
  if counts != sorted(counts):
    raise ConfigError(
      f'rows of {_name(rows)}: out of order, or there twice; remove them, and '
      'qwr_tf.sweep --collect_only adds them again.'
    )
  return Run(setting, first['environment'], seed, evaluations, first)


def _evaluation(row: results.Row) -> Evaluation:
  def measured(column: str) -> float | None:
    value = float(row[column]) if row[column] else None
    if value is not None and not math.isfinite(value):
      raise ValueError(f'{column} is {value}')
    return value

  return Evaluation(
    int(row['interactions']),
    int(row['critic_steps'] or 0),
    int(row['actor_steps'] or 0),
    int(row['episodes'] or 0),
    measured('return_mode'),
    measured('return_sampled'),
    measured('wall_seconds'),
  )
