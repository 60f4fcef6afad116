"""From a finished run's folder to its rows of raw results."""

import csv
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from qwr_tf.config import algorithms
from qwr_tf.config import gin_files
from qwr_tf.config.errors import ConfigError
from qwr_tf.reporting import results
from qwr_tf.reporting.results import COLUMNS
from qwr_tf.reporting.results import Row

_VERSIONS = ('python', 'tensorflow', 'tf_agents', 'gymnasium', 'mujoco')

# What has a column of its own; ENVIRONMENT and GAME are the presets' macros.
_IN_COLUMNS = ('run.environment', 'run.dataset', 'ENVIRONMENT', 'GAME')


def changes(before: str, now: str) -> list[str]:
  """What two configs differ in, but for what has a column of its own."""
  found = gin_files.differences(gin_files.values(before), gin_files.values(now))
  return [text for name, text in found.items() if name not in _IN_COLUMNS]


def own_bindings(bindings: Sequence[str]) -> str:
  """Bindings in one cell, sorted, without those that have a column."""
  cells = []
  for binding in bindings:
    name, _, value = (part.strip() for part in binding.partition('='))
    if name not in _IN_COLUMNS:
      cells.append(f'{name} = {" ".join(value.split())}')
  return '; '.join(sorted(cells))


def finished(folder: pathlib.Path) -> dict[str, Any] | None:
  """run.json of a finished run; None if it is unfinished or there is none.

  Raises:
    ConfigError: if the file cannot be read.
  """
  path = folder / 'run.json'
  try:
    facts = json.loads(path.read_text('utf-8'))
  except (FileNotFoundError, NotADirectoryError):
    return None
  except (ValueError, OSError) as error:
    raise ConfigError(f'{path} cannot be read: {error}') from error
  return facts if isinstance(facts, dict) and facts.get('finished') else None


def has_scores(facts: Mapping[str, Any]) -> bool:
  """Whether a finished run was evaluated; without a simulator none is.

  One whose run.json says nothing of it is damaged, which `rows` tells.
  """
  return facts.get('scores', {}).get('eval_return_mode', 0.0) is not None


def latest_interactions(folder: pathlib.Path) -> int:
  """How far a run's metrics.csv is."""
  try:
    rows = _metrics(folder)
    return int(rows[-1]['interactions']) if rows else 0
  except (OSError, KeyError, ValueError):
    return 0


def rows(
  folder: pathlib.Path,
  experiment: str,
  algorithm: str | None = None,
) -> list[Row]:
  """A finished run's rows, the final evaluation last.

  Args:
    folder: of the run.
    experiment: the name of the CSV.
    algorithm: None derives it from the configuration.

  Raises:
    ConfigError: if the folder lacks what a row needs.
  """
  facts = finished(folder)
  try:
    if facts is None:
      raise ValueError('the run is not finished')
    common = _common(facts, experiment, algorithm)
    scores = facts['scores']
    evaluations = [m for m in _metrics(folder) if m['eval_return_mode']]
    found = [_row(common, e) for e in evaluations]
    final = _row(common, {**facts, **scores})
    if not found or not _same_evaluation(found[-1], final):
      found.append(final)
    return found
  except (KeyError, ValueError, TypeError, OSError) as error:
    raise ConfigError(f'no rows from {folder}: {error!r}') from error


def data_rows(folder: pathlib.Path, experiment: str) -> list[Row]:
  """The row of the data set that a finished run learned from, if it did.

  Args:
    folder: of the run.
    experiment: the name of the CSV.

  Raises:
    ConfigError: if the folder lacks what the row needs.
  """
  facts = finished(folder) or {}
  data = facts.get('data')
  if not data or data.get('mean_return') is None:
    return []
  known = _common(facts, experiment, results.DATA)
  own = {
    'preset': '',
    'bindings': '',
    'seed': '0',
    'interactions': '0',
    'return_mode': _rounded(data['mean_return']),
    'episodes': str(data['episodes']),
  }
  return [dict.fromkeys(COLUMNS, '') | known | own]


def _metrics(folder: pathlib.Path) -> list[dict[str, str]]:
  try:
    with open(folder / 'metrics.csv', newline='', encoding='utf-8') as f:
      return list(csv.DictReader(f))
  except FileNotFoundError:
    return []


def _common(
  facts: Mapping[str, Any],
  experiment: str,
  algorithm: str | None,
) -> Row:
  """The cells that all rows of a run share; what is not known stays empty."""
  versions = facts.get('versions', {})
  known = {name: versions.get(name) for name in (*_VERSIONS, 'ale_py')}
  for name in ('preset', 'environment', 'seed', 'commit', 'dataset'):
    known[name] = facts.get(name)
  known |= {
    'experiment': experiment,
    'algorithm': algorithm or algorithms.algorithm_of(facts['config']),
    'bindings': own_bindings(facts.get('bindings', ())),
    'host_cores': facts.get('host_cores'),
    'threads': facts.get('threads'),
  }
  return {k: '' if value is None else str(value) for k, value in known.items()}


def _row(common: Row, evaluation: Mapping[str, Any]) -> Row:
  """One evaluation, a row of metrics.csv or run.json with its scores."""
  cells = {
    **common,
    'interactions': str(int(evaluation['interactions'])),
    'critic_steps': str(int(evaluation['critic_steps'])),
    'actor_steps': str(int(evaluation['actor_steps'])),
    'return_mode': _rounded(evaluation['eval_return_mode']),
    'return_sampled': _rounded(evaluation['eval_return_sampled']),
    'episodes': str(int(evaluation['eval_episodes'])),
    'wall_seconds': str(round(float(evaluation['wall_seconds']), 1)),
  }
  return {column: cells[column] for column in COLUMNS}


def _same_evaluation(one: Row, other: Row) -> bool:
  """metrics.csv may hold the final evaluation too; clocks differ a little."""
  columns = set(COLUMNS) - {'wall_seconds'}
  return all(one[column] == other[column] for column in columns)


def _rounded(value: Any) -> str:
  return '' if value in ('', None) else str(round(float(value), 4))
