"""A sweep: runs the missing runs of a grid and collects their rows."""

import collections
import math
from collections.abc import Callable, Mapping, Sequence

from qwr_tf.config.errors import ConfigError
from qwr_tf.reporting import results
from qwr_tf.runs import progress_bar
from qwr_tf.runs import run_json
from qwr_tf.sweeping import grid
from qwr_tf.sweeping import run_rows
from qwr_tf.sweeping import sweep_plan

# With the identity of the rows.
_Planned = tuple[sweep_plan.Recipe, grid.Job, tuple[str, ...]]


class Sweep:
  """Collector of finished runs: rows to the CSV, lines and a bar."""

  def __init__(self, recipes: Mapping[grid.Job, sweep_plan.Recipe]):
    """Draws the bar.

    Args:
      recipes: of all jobs of the grid, the finished ones too.
    """
    self._recipes = recipes
    self.failed: list[str] = []
    self._done = 0
    is_offline = all(job.interactions == 1 for job in recipes)
    self.bar = progress_bar.ProgressBar(
      total=sum(job.interactions for job in recipes),
      unit=' runs' if is_offline else ' interactions',
      unit_scale=not is_offline,
      smoothing=0,  # Evenly over the whole grid: rows come in bursts.
      miniters=0,
    )

  def collect(self, job: grid.Job) -> None:
    """Adds the rows of a finished run to the CSV."""
    recipe = self._recipes[job]
    path, name = recipe.path, recipe.path.stem
    facts = run_json.read_finished(job.folder) or {}
    if not run_rows.has_scores(facts):
      value = facts.get('evaluation', {}).get('value', math.nan)
      self.bar.say(f'{job}: estimated at {value:.4g}')
      return
    try:
      rows = run_rows.rows(job.folder, name, recipe.algorithm)
      # An equal run may have been made by other bindings.
      rows = [row | {'bindings': job.bindings} for row in rows]
      data = run_rows.data_rows(job.folder, name)
      results.add(path, [*rows, *data], recipe.replace)
    except (ConfigError, OSError) as error:
      self._fail(job, str(error))
      return
    mode, sampled = rows[-1]['return_mode'], rows[-1]['return_sampled']
    self.bar.say(f'{job}: {mode} mode action, {sampled} sampled')

  def ended(self, job: grid.Job, error: str | None) -> None:
    """Takes a run of the grid that has ended, with an error or None."""
    if error is None:
      self.collect(job)
    elif error == grid.BUSY:
      self.bar.say(f'{job}: left out, {error}')
    else:
      self._fail(job, f'{error} ({job.log})')
    self.finish(job)

  def finish(self, job: grid.Job) -> None:
    """Counts a whole run; `progress` moves the bar."""
    self._done += job.interactions

  def start(self, todo: Sequence[grid.Job]) -> None:
    """Excludes the interactions made so far from the ETA."""
    interactions = sum(job.done() for job in todo)
    self.bar.initial = self._done + interactions
    self.progress(interactions, 0, len(todo))

  def progress(self, made: int, running: int, waiting: int) -> None:
    """Moves the bar."""
    self.bar.set_postfix_str(
      f'{running} running, {waiting} waiting, {len(self.failed)} failed',
      refresh=False,
    )
    # A cut run goes on from its checkpoint, which is older than its last row.
    self.bar.initial = min(self.bar.initial, self._done + made)
    self.bar.update(self._done + made - self.bar.n)

  def _fail(self, job: grid.Job, error: str) -> None:
    self.failed.append(f'{job}: {error}')
    self.bar.say(f'{job}: failed, {error}')


def _plan(recipes, envs, seeds) -> list[_Planned]:
  planned = [
    (recipe, job, identity)
    for recipe in recipes
    for job, identity in sweep_plan.plan(recipe, envs, seeds)
  ]
  jobs = collections.Counter(job.folder for _, job, _ in planned)
  for _, job, _ in planned:
    if jobs[job.folder] > 1:
      raise ConfigError(f'{job}: another one of the grid is the same run.')
  # A grid that is cut leaves something of every recipe.
  planned.sort(key=lambda item: seeds.index(item[1].seed))
  return planned


def run(
  recipes: Sequence[sweep_plan.Recipe],
  envs: Sequence[str],
  seeds: Sequence[int],
  processes: int,
  runner: Callable = grid.run,
) -> list[str]:
  """Runs what is missing of a grid; returns a line for each failed run.

  Args:
    recipes: each is run in every environment with every seed.
    envs: environments; none are the recipes' own.
    seeds: the first of all recipes, then the second.
    runner: `grid.run`, or a substitute.

  Raises:
    ConfigError: for what would make a run fail at its start.
  """
  planned = _plan(recipes, envs, seeds)
  identities = {
    path: set(map(results.identity, results.read(path)))
    for path in {recipe.path for recipe in recipes}
  }
  sweep = Sweep({job: recipe for recipe, job, _ in planned})
  todo = []
  try:
    for recipe, job, identity in planned:
      if identity in identities[recipe.path] and not recipe.replace:
        sweep.bar.say(f'{job}: {recipe.path} has its rows')
        sweep.finish(job)
      elif run_json.read_finished(job.folder):
        sweep.collect(job)
        sweep.finish(job)
      else:
        todo.append(job)
    sweep.start(todo)
    runner(todo, processes, sweep.ended, sweep.progress)
  finally:
    sweep.bar.close()
  return sweep.failed
