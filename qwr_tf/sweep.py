"""Runs a grid of training runs and collects their raw results.

    python -m qwr_tf.sweep --gin_file=mujoco_100k.gin --seeds=0-4 \
      --envs=HalfCheetah-v4,Hopper-v4

One training process per core. The same command resumes an interrupted sweep:
runs whose rows are in the CSV are skipped, finished ones give their rows,
unfinished ones resume from their checkpoints, others start. Exit codes: 0 done,
2 bad input, 1 a run failed (the others went on). By default --seeds is 0 and
--results is results/<gin_file>.csv.
"""

from qwr_tf.config import startup  # noqa: F401, before TensorFlow.

# isort: split
import pathlib

from absl import flags

from qwr_tf.config import command
from qwr_tf.config.errors import ConfigError
from qwr_tf.distributed import ray_flags
from qwr_tf.reporting import results
from qwr_tf.sweeping import sweep_flags

flags.declare_key_flag('gin_file')
flags.declare_key_flag('gin_bindings')
flags.declare_key_flag('engine')
flags.declare_key_flag('address')
flags.adopt_module_key_flags(sweep_flags)
_ENVS = flags.DEFINE_list(
  'envs', [], "Environments, with commas; default the gin file's own."
)
_ALGORITHM = flags.DEFINE_string(
  'algorithm', None, 'Name in the rows; default what the configuration says.'
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
_SELECT = flags.DEFINE_bool(
  'select',
  False,
  'Rank offline runs by their off-policy evaluation (selection.csv in '
  '--runs_dir) and link the best one (best). With --collect_only: the finished '
  'runs under --runs_dir, run nothing.',
)
command.answer_help(__name__)

# isort: split
from qwr_tf.distributed import cluster
from qwr_tf.sweeping import finished_runs
from qwr_tf.sweeping import run_rows
from qwr_tf.sweeping import selection
from qwr_tf.sweeping import sweep_plan
from qwr_tf.sweeping import sweep_run


def _gin_file() -> str:
  """The one gin file of a grid; '' if none is given."""
  files = command.GIN_FILE.value
  if len(files) > 1:
    raise ConfigError(
      'A grid has one --gin_file, which may include others; or give '
      '--gin_bindings.'
    )
  return files[0] if files else ''


def _wanted(facts: dict) -> bool:
  """True if the flags, where they are given, name a run."""
  if _ENVS.value and facts.get('environment') not in _ENVS.value:
    return False
  if sweep_flags.SEEDS.value and (
    facts.get('seed') not in sweep_plan.parse_seeds(sweep_flags.SEEDS.value)
  ):
    return False
  if not _gin_file():
    return True
  bindings = run_rows.binding_cell(command.GIN_BINDINGS.value)
  if (
    facts.get('preset') != pathlib.Path(_gin_file()).stem
    or run_rows.binding_cell(facts.get('bindings') or ()) != bindings
  ):
    return False
  return sweep_plan.still_gives(_gin_file(), facts)


def _results_path() -> pathlib.Path:
  if given := sweep_flags.RESULTS.value:
    if not given.endswith('.csv'):
      raise ConfigError(f'--results={given}: not the name of a CSV.')
    return pathlib.Path(given)
  if not _gin_file():
    raise ConfigError(
      '--gin_file is missing, for instance --gin_file=mujoco_100k.gin.'
    )
  return pathlib.Path('results', f'{pathlib.Path(_gin_file()).stem}.csv')


def _collect(path: pathlib.Path) -> None:
  runs_dir = pathlib.Path(sweep_flags.RUNS_DIR.value)
  if not runs_dir.is_dir():
    raise ConfigError(f'--runs_dir={runs_dir} is no folder.')
  added = finished_runs.collect(
    path, runs_dir, _wanted, _ALGORITHM.value, _REPLACE.value
  )
  runs = len(
    {results.identity(r) for r in added if r['algorithm'] != results.DATA}
  )
  print(f'{len(added)} rows of {runs} runs added to {path}')


def _select() -> None:
  """Ranks the finished runs that the flags name."""
  runs_dir = pathlib.Path(sweep_flags.RUNS_DIR.value)
  ranked = selection.rank(runs_dir, _wanted)
  print(*selection.lines(ranked), sep='\n')
  print(f'best  {selection.keep_best(runs_dir, ranked)} -> {ranked[0].run}')


def main() -> None:
  """One grid from flags to rows."""
  if _SELECT.value and _COLLECT_ONLY.value:
    _select()
    return
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
    pathlib.Path(sweep_flags.RUNS_DIR.value),
    _REPLACE.value,
    _SELECT.value,
  )
  seeds = sweep_plan.parse_seeds(sweep_flags.SEEDS.value or '0')
  processes = sweep_flags.process_count()
  options = {}
  if ray_flags.ENGINE.value == 'ray':
    cluster.connect(processes)
    from qwr_tf.distributed import ray_sweep

    options['runner'] = ray_sweep.run
  failed = sweep_run.run([recipe], _ENVS.value, seeds, processes, **options)
  if _SELECT.value:
    try:
      _select()
    except ConfigError:
      sweep_flags.tell_failed(failed)  # Exits: a reason why nothing is left.
      raise
  else:
    print(f'raw results: {path}')
  sweep_flags.tell_failed(failed)


if __name__ == '__main__':
  command.run(main)
