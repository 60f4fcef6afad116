"""Rows of raw results from the folders of finished runs."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from qwr_tf.config import algorithms
from qwr_tf.config import gin_files
from qwr_tf.config.errors import ConfigError
from qwr_tf.reporting import results
from qwr_tf.runs import run_folder
from qwr_tf.runs import run_json

# Values with columns of their own; ENVIRONMENT and GAME are presets' macros.
_IN_COLUMNS = ('run.environment', 'run.dataset', 'ENVIRONMENT', 'GAME')


def changes(before: str, now: str) -> list[str]:
  """Differences of two configurations, without settings with a CSV column."""
  values = gin_files.values(before), gin_files.values(now)
  differences = gin_files.differences(*values)
  return [t for name, t in differences.items() if name not in _IN_COLUMNS]


def binding_cell(bindings: Sequence[str]) -> str:
  """The cell `bindings`: sorted, without settings with a CSV column."""
  cells = []
  for binding in bindings:
    name, _, value = (part.strip() for part in binding.partition('='))
    if name not in _IN_COLUMNS:
      cells.append(f'{name} = {" ".join(value.split())}')
  return '; '.join(sorted(cells))


def has_scores(facts: Mapping[str, Any]) -> bool:
  """True if a finished run was evaluated; without a simulator none is.

  True for a damaged run.json without scores, for which `rows` has an error.
  """
  scores = facts.get('scores') or {}
  return scores.get('eval_return_mode', 0.0) is not None


def latest_interactions(folder: pathlib.Path) -> int:
  """The interactions of the last row of metrics.csv; 0 if there is none."""
  try:
    rows = run_folder.read_rows(folder)
    return int(rows[-1]['interactions']) if rows else 0
  except (OSError, KeyError, ValueError):
    return 0


def rows(
  folder: pathlib.Path, experiment: str, algorithm: str | None = None
) -> list[results.Row]:
  """A finished run's rows, the final evaluation last.

  Args:
    algorithm: None derives it from the configuration.

  Raises:
    ConfigError: if the folder lacks a value of a row.
  """
  facts = run_json.read_finished(folder)
  try:
    if facts is None:
      raise ValueError('the run is not finished')
    common = _common(facts, experiment, algorithm)
    scores = facts['scores']
    evaluations = [
      m for m in run_folder.read_rows(folder) if m['eval_return_mode']
    ]
    run_rows = [_row(common, e) for e in evaluations]
    final = _row(common, {**facts, **scores})
    if not run_rows or not _same_evaluation(run_rows[-1], final):
      run_rows.append(final)
    return run_rows
  except (KeyError, ValueError, TypeError, OSError) as error:
    raise ConfigError(f'no rows from {folder}: {error!r}') from error


def data_rows(folder: pathlib.Path, experiment: str) -> list[results.Row]:
  """The row of a finished run's data set; [] without one. As `rows`."""
  facts = run_json.read_finished(folder) or {}
  data = facts.get('data')
  if not data or data.get('mean_return') is None:
    return []
  common = _common(facts, experiment, results.DATA)
  cells = {
    'preset': '',
    'bindings': '',
    'seed': '0',
    'interactions': '0',
    'return_mode': _rounded(data['mean_return']),
    'episodes': str(data['episodes']),
  }
  return [dict.fromkeys(results.COLUMNS, '') | common | cells]


def _common(
  facts: Mapping[str, Any], experiment: str, name: str | None
) -> results.Row:
  """The cells that all rows of a run share; unknown values stay empty."""
  versions = facts.get('versions') or {}
  cells = {name: versions.get(name) for name in results.VERSION_NAMES}
  for column in ('preset', 'environment', 'seed', 'commit', 'dataset'):
    cells[column] = facts.get(column)
  cells |= {
    'experiment': experiment,
    'algorithm': name or algorithms.algorithm_of(facts['config']),
    'bindings': binding_cell(facts.get('bindings') or ()),
    'host_cores': facts.get('host_cores'),
    'threads': facts.get('threads'),
  }
  return {k: '' if value is None else str(value) for k, value in cells.items()}


def _row(common: results.Row, evaluation: Mapping[str, Any]) -> results.Row:
  """The row of an evaluation, from metrics.csv or the scores in run.json."""
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
  return {column: cells[column] for column in results.COLUMNS}


def _same_evaluation(one: results.Row, other: results.Row) -> bool:
  """True if two rows are equal but for their clocks."""
  columns = set(results.COLUMNS) - {'wall_seconds'}
  return all(one[column] == other[column] for column in columns)


def _rounded(value: Any) -> str:
  return '' if value in ('', None) else str(round(float(value), 4))
