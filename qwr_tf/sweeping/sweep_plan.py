"""The plan of a sweep: its jobs, checked before any of them starts."""

import collections
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from qwr_tf import environments
from qwr_tf.acting import offline
from qwr_tf.config import algorithms
from qwr_tf.config import gin_files
from qwr_tf.config import ranges
from qwr_tf.config.errors import ConfigError
from qwr_tf.reporting import results
from qwr_tf.runs import run_folder
from qwr_tf.sweeping import finished_runs
from qwr_tf.sweeping import grid
from qwr_tf.sweeping import run_rows
from qwr_tf.training import experiment

_MOST_SEEDS = 10_000


def still_gives(gin_file: str, facts: Mapping[str, Any]) -> bool:
  """True if a gin file still gives the configuration of an earlier run.

  Raises:
    ConfigError: if there is no such file.
  """
  gin_files.find(gin_file)
  try:
    config = experiment.configuration([gin_file], facts.get('bindings', ()))
  except ConfigError:  # A binding that is unknown by now.
    return False
  return config == facts.get('config')


class Recipe(NamedTuple):
  """The settings that all runs of a grid share.

  Attributes:
    gin_file: path or bare name.
    bindings: gin bindings.
    algorithm: name in the rows; None derives it.
    path: the CSV.
    runs_dir: parent of the runs' folders.
    replace: whether rows of the same runs in the CSV are replaced.
    select: whether runs are ranked by their evaluation, with no simulator.
  """

  gin_file: str
  bindings: tuple[str, ...]
  algorithm: str | None
  path: pathlib.Path
  runs_dir: pathlib.Path
  replace: bool = False
  select: bool = False


def parse_seeds(text: str) -> list[int]:
  """'0-2,5' is [0, 1, 2, 5].

  Raises:
    ConfigError: for other text, a seed twice, one that is too large, and more
      than anyone would run.
  """
  seeds: list[int] = []
  for part in text.split(','):
    match = re.fullmatch(r'\s*(\d{1,20})(?:-(\d{1,20}))?\s*', part)
    first, last = map(
      int, (match[1], match[2] or match[1]) if match else (1, 0)
    )
    if first > last:
      raise ConfigError(f'--seeds={text}: {part!r} is no seed, nor a range 0-4')
    if last > ranges.MAX_SEED:
      raise ConfigError(f'--seeds={text}: at most {ranges.MAX_SEED}.')
    if len(seeds) + last - first >= _MOST_SEEDS:
      raise ConfigError(f'--seeds={text}: at most {_MOST_SEEDS} at once.')
    seeds += range(first, last + 1)
  check_once('seeds', seeds)
  return seeds


def check_once(flag: str, values: Sequence) -> None:
  """Raises ConfigError if a value is there twice."""
  twice = [v for v, n in collections.Counter(values).items() if n > 1]
  if twice:
    raise ConfigError(f'--{flag} names {min(twice)} twice.')


def plan(
  recipe: Recipe, envs: Sequence[str], seeds: Sequence[int]
) -> list[tuple[grid.Job, tuple[str, ...]]]:
  """The grid's jobs with the identity of their rows, seed by seed.

  Raises:
    ConfigError: if a run would fail at its start, or the CSV has rows of these
      settings from before the gin file was changed.
  """
  results.check_name(recipe.path.stem)
  check_once('envs', envs)
  if not all(envs):
    raise ConfigError('--envs has an empty name: a comma too many.')
  planned, configs = [], {}
  for environment in envs or ['']:
    bindings = list(recipe.bindings)
    if environment:
      bindings.append(f"run.environment='{environment}'")
    config = experiment.configuration([recipe.gin_file], bindings)
    settings = _checked_settings(recipe.select)
    row = _row(recipe, settings, bindings, config)
    configs[results.identity(row)[:-1]] = config
    for seed in seeds:
      job = _job(recipe, settings, bindings, config, seed)
      planned.append((job, results.identity(row | {'seed': str(seed)})))
  identities = [identity for _, identity in planned]
  finished_runs.refuse_changed(
    recipe.path,
    _earlier(recipe, [job for job, _ in planned]),
    configs,
    recipe.algorithm,
    identities if recipe.replace else (),
  )
  # Seed by seed: a sweep that is cut leaves something of every environment.
  return sorted(planned, key=lambda item: seeds.index(item[0].seed))


def _row(recipe: Recipe, settings, bindings, config: str) -> results.Row:
  """A row with the cells that identify it, but for the seed."""
  return dict.fromkeys(results.COLUMNS, '') | {
    'experiment': recipe.path.stem,
    'algorithm': recipe.algorithm or algorithms.algorithm_of(config),
    'preset': pathlib.Path(recipe.gin_file).stem,
    'bindings': run_rows.binding_cell(bindings),
    'dataset': _dataset_name(settings, recipe.select),
    'environment': settings.environment,
  }


def _earlier(recipe: Recipe, jobs: Sequence[grid.Job]) -> list[pathlib.Path]:
  """Other runs of the same preset and environments, of any seed."""
  patterns = {
    re.sub(rf'-s{job.seed}-[0-9a-f]{{8}}$', '-s*-*', job.folder.name)
    for job in jobs
  }
  paths = {p for pattern in patterns for p in recipe.runs_dir.glob(pattern)}
  planned = {job.folder for job in jobs}
  return sorted(path for path in paths - planned if path.is_dir())


def _checked_settings(select: bool) -> experiment.Settings:
  settings = experiment.settings()
  is_offline = settings.environment == environments.NO_SIMULATOR
  if is_offline and not select:
    raise ConfigError(
      'without a simulator there are no scores to gather; --select ranks such '
      'runs by their off-policy evaluation.'
    )
  if select and not is_offline:
    raise ConfigError(
      '--select ranks runs by their off-policy evaluation, which only those '
      'with NoSimulator have; without --select their scores are gathered.'
    )
  try:
    experiment.load_environment(settings.environment).close()
  except (ValueError, TypeError) as error:
    raise ConfigError(gin_files.describe(error)) from error
  return settings


def _dataset_name(settings: experiment.Settings, select: bool) -> str:
  """The cell of the column `dataset`; '' without one."""
  if settings.dataset is None:
    return ''
  try:
    data = offline.open_data_set(settings.dataset, settings.environment)
    data.close()
    split = offline.split_of(data, settings.environment)
  except ValueError as error:
    raise ConfigError(gin_files.describe(error)) from error
  if select and not split.share:
    raise ConfigError(
      '--select needs episodes to evaluate on; DataSet.held_out_share is 0.'
    )
  return data.name


def _job(
  recipe: Recipe,
  settings: experiment.Settings,
  bindings: Sequence[str],
  config: str,
  seed: int,
) -> grid.Job:
  name = run_folder.default_path(
    recipe.gin_file, settings.environment, seed, config
  ).name
  folder = recipe.runs_dir / name
  arguments = (
    f'--gin_file={recipe.gin_file}',
    *(f'--gin_bindings={binding}' for binding in bindings),
    f'--seed={seed}',
    f'--root_dir={folder}',
  )
  return grid.Job(
    settings.environment,
    seed,
    folder,
    arguments,
    settings.interactions or 1,
    run_rows.binding_cell(recipe.bindings),
  )
