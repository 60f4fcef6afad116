"""Finished runs in a folder: their rows and their configurations.

A row names a preset, which may have changed since; the run's folder holds the
configuration.
"""

import logging
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence

from qwr_tf.config.errors import ConfigError
from qwr_tf.reporting import results
from qwr_tf.runs import run_json
from qwr_tf.sweeping import run_rows

# An identity without the seed: of the runs that share a cell of a table.
Group = tuple[str, ...]


def collect(
  path: pathlib.Path,
  runs_dir: pathlib.Path,
  wanted: Callable[[dict], bool],
  algorithm: str | None = None,
  replace: bool = False,
) -> list[results.Row]:
  """Adds the rows of the finished runs in a folder to a CSV.

  Args:
    algorithm: name in the rows; None derives it.
    replace: whether rows of the same runs in the CSV are replaced.

  Returns:
    The rows that were added.

  Raises:
    ConfigError: if two folders hold runs with the same identity, or seeds of
      one setting have different configurations, or two data sets have the same
      name.
  """
  rows: list[results.Row] = []
  data: dict[tuple[str, ...], results.Row] = {}
  folders: dict[tuple[str, ...], pathlib.Path] = {}
  groups: dict[Group, tuple[pathlib.Path, str]] = {}
  for folder, facts in _finished(runs_dir, wanted):
    new_rows = run_rows.rows(folder, path.stem, algorithm)
    identity = results.identity(new_rows[0])
    if folders.setdefault(identity, folder) != folder:
      raise ConfigError(
        f'{folders[identity]} and {folder} count as one run; name its gin file '
        'with --gin_file to get the one it still describes.'
      )
    first, config = groups.setdefault(
      identity[:-1], (folder, facts.get('config', ''))
    )
    if changes := run_rows.changes(config, facts.get('config', '')):
      raise ConfigError(
        f'{first} and {folder} would count as seeds of one setting, but their '
        f'gin file has changed in between ({"; ".join(changes[:4])}). Name it '
        'with --gin_file to get those it still describes.'
      )
    rows += new_rows
    for row in run_rows.data_rows(folder, path.stem):
      data.setdefault((*results.identity(row), row['return_mode']), row)
  return results.add(path, [*rows, *data.values()], replace)


def _finished(
  runs_dir: pathlib.Path, wanted: Callable[[dict], bool]
) -> Iterator[tuple[pathlib.Path, dict]]:
  for folder in sorted(file.parent for file in runs_dir.glob('*/run.json')):
    facts = run_json.read_finished(folder)
    if facts is None or not wanted(facts):
      continue
    if run_rows.has_scores(facts):
      yield folder, facts
    else:
      logging.warning('%s has no scores: nothing was played.', folder)


def refuse_changed(
  path: pathlib.Path,
  folders: Sequence[pathlib.Path],
  configs: Mapping[Group, str],
  algorithm: str | None,
  replaced: Sequence[tuple[str, ...]] = (),
) -> None:
  """Checks that a CSV's rows come from the present configurations.

  Rows without a folder are trusted.

  Args:
    folders: where its runs may be.
    configs: the present ones, of the groups that will get runs.
    algorithm: name in the rows; None derives it.
    replaced: identities whose rows in the CSV will be replaced.

  Raises:
    ConfigError: for rows of another configuration in one of the groups.
  """
  old_rows: dict[tuple[str, ...], list[results.Row]] = {}
  for row in results.read(path):
    old_rows.setdefault(results.identity(row), []).append(row)
  for folder in folders if old_rows else ():
    facts = run_json.read_finished(folder)
    if facts is None:
      continue
    try:
      rows = run_rows.rows(folder, path.stem, algorithm)
    except ConfigError:
      continue  # A run that has no rows of its own has none in the CSV.
    identity = results.identity(rows[0])
    config = configs.get(identity[:-1])
    if config is None or identity in replaced:
      continue
    changes = run_rows.changes(facts.get('config', ''), config)
    if changes and _returns(old_rows.get(identity, ())) == _returns(rows):
      raise ConfigError(
        f'{path} has rows of {folder}, made when {facts.get("preset")}.gin was '
        f'another one ({"; ".join(changes[:4])}): they would count as seeds of '
        'one setting. Give --results another CSV, or --replace all seeds.'
      )


def _returns(rows: Sequence[results.Row]) -> list[tuple[str, ...]]:
  columns = 'interactions', 'return_mode', 'return_sampled'
  return [tuple(row[column] for column in columns) for row in rows]
