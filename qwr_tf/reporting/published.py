"""The papers' numbers, and what scores of different tasks are divided by."""

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

COLUMNS = (
  'source',
  'table',
  'environments',
  'dataset',
  'algorithm',
  'task',
  'interactions',
  'metric',
  'statistic',
  'score',
  'spread',
  'seeds',
  'note',
)

# A run of whole episodes ends a little later than its budget.
_SAME_BUDGET = 0.02

INDEX_TASKS = ('HalfCheetah', 'Walker2d', 'Hopper', 'Humanoid')


Scale = tuple[float, float]


class Number(NamedTuple):
  """A published score.

  Attributes:
    source: paper or collection.
    table: in the paper.
    environments: versions it was measured on.
    dataset: of offline runs.
    algorithm: its name there.
    task: an environment's name without version.
    interactions: the budget; None if it is not stated.
    metric: 'return', or what else the score is.
    statistic: 'median', 'mean', or '' if it is not stated.
    score: the number.
    spread: what stands behind ±; half the interquartile range of medians.
    seeds: as stated.
    note: what else must be known.
  """

  source: str
  table: str
  environments: str
  dataset: str
  algorithm: str
  task: str
  interactions: int | None
  metric: str
  statistic: str
  score: float
  spread: float | None
  seeds: str
  note: str

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
  cells: dict = {column: row[column] for column in COLUMNS}
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
    and n.metric == 'return'
    and n.dataset == dataset
  ]


def medians(numbers: Sequence[Number]) -> list[Number]:
  """The numbers without the means of scores whose medians are there too.

  Scores of this project are shown as medians, so that these are the numbers
  to show beside them.
  """

  def score(n: Number) -> tuple:
    return n.source, n.table, n.algorithm, n.task, n.interactions

  with_median = {score(n) for n in numbers if n.statistic == 'median'}
  return [
    n for n in numbers if n.statistic == 'median' or score(n) not in with_median
  ]


def scales(numbers: Sequence[Number]) -> dict[str, Scale]:
  """Per task what counts as 0 and as 1.

  Atari: the random policy and the human. MuJoCo: 0 and the mean of SAC after
  1M interactions on gymnasium v4.
  """
  zeros = {n.task: n.score for n in numbers if n.algorithm == 'random'}
  ones = {n.task: n.score for n in numbers if n.algorithm == 'human'}
  found = {t: (zeros[t], ones[t]) for t in zeros if t in ones}
  for n in numbers:
    if (n.algorithm, n.statistic) == ('SAC', 'mean') and (
      (n.environments, n.interactions) == ('gymnasium v4', 1_000_000)
    ):
      found[n.task] = (0.0, n.score)
  return found


def games(numbers: Sequence[Number]) -> set[str]:
  """Tasks with a score of random play and one of a human."""
  random, human = (
    {n.task for n in numbers if n.algorithm == name}
    for name in ('random', 'human')
  )
  return random & human


def normalised(score: float, scale: Scale) -> float:
  """Where a score lies between 0 and 1 of its task."""
  zero, one = scale
  return (score - zero) / (one - zero)


def beside(
  environment: str, interactions: int, score: float, dataset: str = ''
) -> list[str]:
  """A score among published ones, in lines; none where there is nothing.

  Args:
    environment: as gymnasium names it.
    interactions: that were made.
    score: the run's.
    dataset: what it learned from first, or alone; '' for none.
  """
  if not DEFAULT_PATH.exists():
    return []
  numbers = load(DEFAULT_PATH)
  name, lines = env_names.task(environment), []
  others = at_budget(numbers, interactions, dataset)
  others = medians([n for n in others if n.task == name])
  if others:
    each = (
      f'{n.algorithm} {n.score:g} ({n.source}, {n.stated_statistic})'
      for n in others
    )
    lines.append(f'published at {interactions} interactions: {", ".join(each)}')
  if name in games(numbers):
    zero, one = scale = scales(numbers)[name]
    lines.append(
      f'human-normalised: {normalised(score, scale):.3f} (0 is random play, '
      f'{zero:g}; 1 is a human, {one:g})'
    )
  return lines
