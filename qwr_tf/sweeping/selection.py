"""The best of several offline runs, by their off-policy evaluation."""

import math
import os
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

from qwr_tf.config import algorithms
from qwr_tf.config.errors import ConfigError
from qwr_tf.runs import atomic_files
from qwr_tf.runs import run_json
from qwr_tf.sweeping import run_rows

BEST = 'best'


class Candidate(NamedTuple):
  """An evaluated run: FQE's value with its interval."""

  run: str
  algorithm: str
  preset: str
  bindings: str
  seed: int
  value: float
  low: float
  high: float
  doubts: int


def rank(
  runs_dir: pathlib.Path, wanted: Callable[[dict], bool]
) -> list[Candidate]:
  """Finished runs with an evaluation, the highest value first.

  Raises:
    ConfigError: if there are none, or their values cannot be compared.
  """
  candidates, first = [], None
  for path in sorted(runs_dir.glob('*/run.json')):
    folder = path.parent
    facts = None if folder.is_symlink() else run_json.read_finished(folder)
    if facts is None or 'evaluation' not in facts or not wanted(facts):
      continue
    candidates.append(_candidate(folder, facts))
    first = first or (folder, _circumstances(facts))
    if changes := _changes(first[1], _circumstances(facts)):
      raise ConfigError(
        f'{first[0]} and {folder} cannot be compared: {changes}; give them a '
        '--runs_dir each.'
      )
  if not candidates:
    raise ConfigError(
      f'{runs_dir} has no finished run with an evaluation to select by; runs '
      'with NoSimulator and held-out episodes have one.'
    )
  # A value that is no number comes last.
  return sorted(candidates, key=lambda c: (math.isnan(c.value), -c.value))


def _circumstances(facts: dict[str, Any]) -> dict[str, Any]:
  """Data and discount that an estimate depends on beside the policy."""
  return {
    **{n: facts.get(n) for n in ('dataset', 'held_out', 'first_steps')},
    'steps': (facts.get('data') or {}).get('steps'),
    'gamma': facts['evaluation'].get('gamma'),
  }


def _changes(one: dict[str, Any], other: dict[str, Any]) -> str:
  return ', '.join(
    f'{name} {one[name]!r} and {other[name]!r}'
    for name in one
    if one[name] != other[name]
  )


def _candidate(folder: pathlib.Path, facts: dict[str, Any]) -> Candidate:
  try:
    estimate = facts['evaluation']
    return Candidate(
      folder.name,
      algorithms.algorithm_of(facts['config']),
      facts['preset'],
      run_rows.binding_cell(facts.get('bindings') or ()),
      facts['seed'],
      float(estimate['value']),
      float(estimate['low']),
      float(estimate['high']),
      int(estimate['doubts']),
    )
  except (KeyError, TypeError, ValueError) as error:
    raise ConfigError(f'no evaluation from {folder}: {error!r}') from error


def keep_best(runs_dir: pathlib.Path, ranked: list[Candidate]) -> pathlib.Path:
  """Writes selection.csv and a link to the best run; returns the link."""
  atomic_files.write_csv(
    runs_dir / 'selection.csv',
    ('rank', *Candidate._fields),
    ({'rank': i, **c._asdict()} for i, c in enumerate(ranked, start=1)),
  )
  link = runs_dir / BEST
  if link.exists() and not link.is_symlink():
    raise ConfigError(f'{link} is no link to a run; move it away.')
  temporary = runs_dir / f'.{BEST}.{os.getpid()}'
  temporary.symlink_to(ranked[0].run)
  os.replace(temporary, link)
  return link


def lines(ranked: list[Candidate]) -> list[str]:
  """The ranking in words, one line per run."""
  return [
    f'{place:>3}  {c.value:9.4g} ({c.low:.4g} to {c.high:.4g})  {c.run}'
    + (f', {c.doubts} doubts' if c.doubts else '')
    for place, c in enumerate(ranked, start=1)
  ]
