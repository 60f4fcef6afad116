"""The papers' numbers, and the scale of scores of different tasks."""

import csv
import pathlib
from collections.abc import Sequence
from typing import NamedTuple

from qwr_tf.config.errors import ConfigError
from qwr_tf.environments import env_names

# Of a checkout; a wheel has no results.
DEFAULT_PATH = (
  pathlib.Path(__file__).resolve().parents[2] / 'results' / 'published.csv'
)

# A run of whole episodes ends a little later than its budget.
_SAME_BUDGET = 0.02

INDEX_TASKS = ('HalfCheetah', 'Walker2d', 'Hopper', 'Humanoid')

# The scores that count as 0 and as 1.
Scale = tuple[float, float]


class Number(NamedTuple):
  """A published score; the fields are the columns of the CSV."""

  source: str  # Paper or collection.
  table: str
  environments: str  # Versions it was measured on.
  dataset: str  # Of offline runs.
  algorithm: str
  task: str  # An environment's name without version.
  interactions: int | None  # None if the budget is not stated.
  metric: str  # 'return', or what else the score is.
  statistic: str  # 'median', 'mean', or '' if it is not stated.
  score: float
  spread: float | None  # What stands behind ±.
  seeds: str
  note: str

  @property
  def method(self) -> str:
    """The algorithm, where its score is from and what was measured."""
    source = ' '.join(filter(None, (self.source, self.table)))
    return f'*{self.algorithm}*, {source}, {self.environments}'

  @property
  def stated_statistic(self) -> str:
    """'median', 'mean', or that neither is stated."""
    return self.statistic or 'statistic not stated'


def load(path: pathlib.Path) -> list[Number]:
  """Reads the table.

  Raises:
    ConfigError: if there is none or it is damaged.
  """
  try:
    with open(path, newline='', encoding='utf-8') as f:
      return [_number(row) for row in csv.DictReader(f)]
  except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
    raise ConfigError(
      f'{path} is no table of published numbers: {error!r}'
    ) from error


def _number(row: dict[str, str]) -> Number:
  cells: dict = {column: row[column] for column in Number._fields}
  cells['interactions'] = int(row['interactions'] or 0) or None
  cells['score'] = float(row['score'])
  cells['spread'] = float(row['spread']) if row['spread'] else None
  return Number(**cells)


def at_budget(
  numbers: Sequence[Number], interactions: int, dataset: str = ''
) -> list[Number]:
  """Returns published for the same number of interactions and data set."""
  return [
    n
    for n in numbers
    if n.interactions
    and abs(n.interactions - interactions) <= _SAME_BUDGET * n.interactions
    and (n.metric, n.dataset) == ('return', dataset)
  ]


def medians(numbers: Sequence[Number]) -> list[Number]:
  """Drops published means where the same method's median is there, too.

  Scores of this project are shown as medians, so that these are the numbers
  to show beside them.
  """
  keys = [(n.method, n.task, n.interactions) for n in numbers]
  pairs = list(zip(keys, numbers, strict=True))
  with_median = {key for key, n in pairs if n.statistic == 'median'}
  return [
    n for key, n in pairs if n.statistic == 'median' or key not in with_median
  ]


def scales(numbers: Sequence[Number]) -> dict[str, Scale]:
  """The scale of each task.

  Atari: from the random policy to the human. MuJoCo: from 0 to the mean of SAC
  after 1M interactions on gymnasium v4.
  """
  random, human = (_scores_of(numbers, name) for name in ('random', 'human'))
  sac = ('SAC', 'mean', 'gymnasium v4', 1_000_000)
  return {task: (random[task], human[task]) for task in games(numbers)} | {
    n.task: (0.0, n.score)
    for n in numbers
    if (n.algorithm, n.statistic, n.environments, n.interactions) == sac
  }


def games(numbers: Sequence[Number]) -> set[str]:
  """Tasks with a score of random play and one of a human."""
  return {*_scores_of(numbers, 'random')} & {*_scores_of(numbers, 'human')}


def _scores_of(numbers: Sequence[Number], algorithm: str) -> dict[str, float]:
  return {n.task: n.score for n in numbers if n.algorithm == algorithm}


def normalised(score: float, scale: Scale) -> float:
  """Where a score lies between 0 and 1 of its task."""
  zero, one = scale
  return (score - zero) / (one - zero)


def beside(
  environment: str, interactions: int, score: float, dataset: str = ''
) -> list[str]:
  """Lines that compare a score with published ones; none without any.

  Args:
    environment: as gymnasium names it.
    interactions: that were made.
    dataset: what it learned from first, or alone; '' for none.
  """
  if not DEFAULT_PATH.exists():
    return []
  numbers = load(DEFAULT_PATH)
  task, lines = env_names.task(environment), []
  others = at_budget(numbers, interactions, dataset)
  if others := medians([n for n in others if n.task == task]):
    scores = ', '.join(
      f'{n.algorithm} {n.score:g} ({n.source}, {n.stated_statistic})'
      for n in others
    )
    lines.append(f'published at {interactions} interactions: {scores}')
  if task in games(numbers):
    zero, one = scale = scales(numbers)[task]
    lines.append(
      f'human-normalised: {normalised(score, scale):.3f} (0 is random play, '
      f'{zero:g}; 1 is a human, {one:g})'
    )
  return lines
