"""Finished runs in a folder: their rows, and what they were made with.

A row names a preset but not what the preset said, which may have changed; the
run's folder does.
"""

import logging
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence

from qwr_tf.config.errors import ConfigError
from qwr_tf.reporting import results
from qwr_tf.sweeping import run_rows

# Of an identity: all but the seed. Runs that share it share a cell of a table.
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
    path: the CSV.
    runs_dir: parent of the runs' folders.
    wanted: says of a run.json whether its run counts.
    algorithm: name in the rows; None derives it.
    replace: whether known runs' rows are replaced.

  Returns:
    The rows that were added.

  Raises:
    ConfigError: if two folders hold what counts as one run, or what counts as
      two seeds of one setting but is not, or two data sets have one name.
  """
  rows: list[results.Row] = []
  data: dict[tuple[str, ...], results.Row] = {}
  folders: dict[tuple[str, ...], pathlib.Path] = {}
  groups: dict[Group, tuple[pathlib.Path, str]] = {}
  for folder, facts in _finished(runs_dir, wanted):
    found = run_rows.rows(folder, path.stem, algorithm)
    identity = results.identity(found[0])
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
    rows += found
    for row in run_rows.data_rows(folder, path.stem):
      data.setdefault((*results.identity(row), row['return_mode']), row)
  return results.add(path, [*rows, *data.values()], replace)


def _finished(
  runs_dir: pathlib.Path, wanted: Callable[[dict], bool]
) -> Iterator[tuple[pathlib.Path, dict]]:
  for folder in sorted(file.parent for file in runs_dir.glob('*/run.json')):
    facts = run_rows.finished(folder)
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
  """Looks whether a CSV's rows come from the configurations of today.

  Rows whose folder is gone are believed.

  Args:
    path: the CSV.
    folders: where its runs may be.
    configs: today's, of the groups that will get runs.
    algorithm: name in the rows; None derives it.
    replaced: identities whose rows in the CSV are about to go.

  Raises:
    ConfigError: for rows that would stand in one group with other ones.
  """
  known: dict[tuple[str, ...], list[results.Row]] = {}
  for row in results.read(path):
    known.setdefault(results.identity(row), []).append(row)
  for folder in folders if known else ():
    facts = run_rows.finished(folder)
    if facts is None:
      continue
    try:
      found = run_rows.rows(folder, path.stem, algorithm)
    except ConfigError:
      continue  # A run that has no rows of its own has none in the CSV.
    identity = results.identity(found[0])
    config = configs.get(identity[:-1])
    if config is None or identity in replaced:
      continue
    changes = run_rows.changes(facts.get('config', ''), config)
    if changes and _returns(known.get(identity, ())) == _returns(found):
      raise ConfigError(
        f'{path} has rows of {folder}, made when {facts.get("preset")}.gin was '
        f'another one ({"; ".join(changes[:4])}): they would count as seeds of '
        'one setting. Give --results another CSV, or --replace all seeds.'
      )


def _returns(rows: Sequence[results.Row]) -> list[tuple[str, ...]]:
  columns = 'interactions', 'return_mode', 'return_sampled'
  return [tuple(row[column] for column in columns) for row in rows]
