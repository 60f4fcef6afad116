"""Runs a grid of runs and keeps their raw results.

    python -m qwr_tf.sweep --gin_file=mujoco_100k.gin --seeds=0-4 \
      --envs=HalfCheetah-v4,Hopper-v4

One training process per core. The same command goes on where it was cut: runs
whose rows are in the CSV are skipped, finished ones give their rows, unfinished
ones go on from their checkpoints, others start. Exit codes: 0 done, 2 bad
input, 1 a run failed (the others went on).
"""

import collections
import pathlib
import sys
from collections.abc import Callable, Mapping, Sequence

import tqdm
from absl import flags

from qwr_tf import command
from qwr_tf.gin_files import ConfigError
from qwr_tf.reporting import results
from qwr_tf.sweeping import finished_runs
from qwr_tf.sweeping import grid
from qwr_tf.sweeping import run_rows
from qwr_tf.sweeping import sweep_plan

flags.declare_key_flag('gin_file')
flags.declare_key_flag('gin_bindings')
_ENVS = flags.DEFINE_list(
  'envs', [], "Environments, with commas; default the gin file's own."
)
_SEEDS = flags.DEFINE_string(
  'seeds', None, 'Such as 0-4 or 0,2,5-7; default 0.'
)
_RESULTS = flags.DEFINE_string(
  'results', None, 'CSV of raw results; default results/<gin_file>.csv.'
)
_RUNS_DIR = flags.DEFINE_string('runs_dir', 'runs', "The runs' folders.")
_PROCESSES = flags.DEFINE_integer(
  'processes', None, 'Runs at a time; default one per core.'
)
_ALGORITHM = flags.DEFINE_enum(
  'algorithm',
  None,
  results.ALGORITHMS,
  'Name in the rows; default what the configuration says.',
)
_REPLACE = flags.DEFINE_bool(
  'replace', False, "Rows of these runs replace the CSV's of the same runs."
)
_COLLECT_ONLY = flags.DEFINE_bool(
  'collect_only',
  False,
  'Add the rows of finished runs under --runs_dir, run nothing. Narrowed by '
  '--gin_file (as it is now, with its bindings), --envs and --seeds.',
)

# With the identity of the rows.
_Planned = tuple[sweep_plan.Recipe, grid.Job, tuple[str, ...]]


class Sweep:
  """Takes in what ends: rows to the CSV, a line and the bar to the screen."""

  def __init__(self, recipes: Mapping[grid.Job, sweep_plan.Recipe]):
    """Draws the bar.

    Args:
      recipes: of all jobs of the grid, the finished ones too.
    """
    self._recipes = recipes
    self.failed: list[str] = []
    self._done = 0
    is_offline = all(job.interactions == 1 for job in recipes)
    self._bar = tqdm.tqdm(
      total=sum(job.interactions for job in recipes),
      unit=' runs' if is_offline else ' interactions',
      unit_scale=not is_offline,
      smoothing=0,  # Evenly over the whole grid: rows come in bursts.
      miniters=0,
      mininterval=1 if sys.stderr.isatty() else 30,
      dynamic_ncols=True,
    )

  def collect(self, job: grid.Job) -> None:
    """Rows of a finished run."""
    recipe = self._recipes[job]
    path, name = recipe.path, recipe.path.stem
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
    self._say(f'{job}: {mode} mode action, {sampled} sampled')

  def skip(self, job: grid.Job, why: str) -> None:
    """A run that needs no work."""
    self._say(f'{job}: {why}')

  def ended(self, job: grid.Job, error: str | None) -> None:
    """A run of the grid is over."""
    if error is None:
      self.collect(job)
    elif error == grid.BUSY:
      self._say(f'{job}: left out, {error}')
    else:
      self._fail(job, f'{error} ({job.log})')
    self.finish(job)

  def finish(self, job: grid.Job) -> None:
    """Counts a whole run; `progress` moves the bar."""
    self._done += job.interactions

  def start(self, todo: Sequence[grid.Job]) -> None:
    """What is done by now, of cut runs too, does not count for the ETA."""
    made = sum(job.done() for job in todo)
    self._bar.initial = self._done + made
    self.progress(made, 0, len(todo))

  def progress(self, made: int, running: int, waiting: int) -> None:
    """Moves the bar."""
    self._bar.set_postfix_str(
      f'{running} running, {waiting} waiting, {len(self.failed)} failed',
      refresh=False,
    )
    # A cut run goes on from its checkpoint, which is older than its last row.
    self._bar.initial = min(self._bar.initial, self._done + made)
    self._bar.update(self._done + made - self._bar.n)

  def close(self) -> None:
    """Ends the bar."""
    self._bar.close()

  def _fail(self, job: grid.Job, error: str) -> None:
    self.failed.append(f'{job}: {error}')
    self._say(f'{job}: failed, {error}')

  def _say(self, line: str) -> None:
    self._bar.write(line, file=sys.stdout)


def _gin_file() -> str:
  """The one gin file of a grid; '' if none is given."""
  files = command.GIN_FILE.value
  if len(files) > 1:
    raise ConfigError(
      'A grid has one --gin_file, which may include others; or give '
      '--gin_bindings.'
    )
  return files[0] if files else ''


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
    processes: runs at a time.
    runner: `grid.run`, or what stands for it.

  Raises:
    ConfigError: for what would make a run fail at its start.
  """
  planned = _plan(recipes, envs, seeds)
  known = {
    path: set(map(results.identity, results.read(path)))
    for path in {recipe.path for recipe in recipes}
  }
  sweep = Sweep({job: recipe for recipe, job, _ in planned})
  todo = []
  try:
    for recipe, job, identity in planned:
      if identity in known[recipe.path] and not recipe.replace:
        sweep.skip(job, f'{recipe.path} has its rows')
        sweep.finish(job)
      elif run_rows.finished(job.folder):
        sweep.collect(job)
        sweep.finish(job)
      else:
        todo.append(job)
    sweep.start(todo)
    runner(todo, processes, sweep.ended, sweep.progress)
  finally:
    sweep.close()
  return sweep.failed


def _wanted(facts: dict) -> bool:
  """Whether the flags, where they are given, name a run."""
  if _ENVS.value and facts.get('environment') not in _ENVS.value:
    return False
  if _SEEDS.value and (
    facts.get('seed') not in sweep_plan.parse_seeds(_SEEDS.value)
  ):
    return False
  if not _gin_file():
    return True
  own = run_rows.own_bindings(command.GIN_BINDINGS.value)
  if (
    facts.get('preset') != pathlib.Path(_gin_file()).stem
    or run_rows.own_bindings(facts.get('bindings', ())) != own
  ):
    return False
  return sweep_plan.still_says(_gin_file(), facts)


def _results_path() -> pathlib.Path:
  if _RESULTS.value:
    if not _RESULTS.value.endswith('.csv'):
      raise ConfigError(f'--results={_RESULTS.value}: not the name of a CSV.')
    return pathlib.Path(_RESULTS.value)
  if not _gin_file():
    raise ConfigError(
      '--gin_file is missing, for instance --gin_file=mujoco_100k.gin.'
    )
  return pathlib.Path('results', f'{pathlib.Path(_gin_file()).stem}.csv')


def _collect(path: pathlib.Path) -> None:
  runs_dir = pathlib.Path(_RUNS_DIR.value)
  if not runs_dir.is_dir():
    raise ConfigError(f'--runs_dir={runs_dir} is no folder.')
  added = finished_runs.collect(
    path, runs_dir, _wanted, _ALGORITHM.value, _REPLACE.value
  )
  runs = len({results.identity(row) for row in added})
  print(f'{len(added)} rows of {runs} runs added to {path}')


def process_count() -> int:
  """Runs at a time, from the flags.

  Raises:
    ConfigError: for less than one.
  """
  count = _PROCESSES.value
  if count is None:
    return len(grid.cores())
  if count < 1:
    raise ConfigError(f'--processes={count} must be 1 or more.')
  return count


def main() -> None:
  """One grid from flags to rows."""
  path = _results_path()
  results.check_name(path.stem)
  results.read(path)  # A CSV that is none is found before hours of training.
  if _COLLECT_ONLY.value:
    _collect(path)
    return
  if not _gin_file():
    raise ConfigError('--gin_file is missing; --collect_only needs none.')
  recipe = sweep_plan.Recipe(
    _gin_file(),
    tuple(command.GIN_BINDINGS.value),
    _ALGORITHM.value,
    path,
    pathlib.Path(_RUNS_DIR.value),
    _REPLACE.value,
  )
  seeds = sweep_plan.parse_seeds(_SEEDS.value or '0')
  failed = run([recipe], _ENVS.value, seeds, process_count())
  print(f'raw results: {path}')
  if failed:
    print(f'{len(failed)} failed:', *failed, sep='\n  ', file=sys.stderr)
    sys.exit(1)


if __name__ == '__main__':
  command.run(main)
