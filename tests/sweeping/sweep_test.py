"""Grids of runs and their raw rows, with trainers that only pretend."""

import functools
import json
import multiprocessing
import os
import pathlib
import signal
import sys
import time

import numpy as np
import pytest
from absl import flags

from qwr_tf import datasets
from qwr_tf import sweep
from qwr_tf.config import algorithms
from qwr_tf.config import gin_files
from qwr_tf.config.errors import ConfigError
from qwr_tf.reporting import results
from qwr_tf.runs import run_json
from qwr_tf.sweeping import finished_runs
from qwr_tf.sweeping import grid
from qwr_tf.sweeping import run_rows
from qwr_tf.sweeping import sweep_plan
from qwr_tf.sweeping import sweep_run

# Seeds


@pytest.mark.parametrize(
  ('text', 'seeds'),
  [
    ('0', [0]),
    ('0-4', [0, 1, 2, 3, 4]),
    ('3, 0-1,7-7', [3, 0, 1, 7]),
    ('2147463647', [2147463647]),
  ],
)
def test_seeds(text, seeds):
  assert sweep_plan.parse_seeds(text) == seeds


def test_seeds_that_no_run_takes():
  with pytest.raises(ConfigError, match='at most 2147463647'):
    sweep_plan.parse_seeds('0,2147463648')


@pytest.mark.parametrize(
  'text', ['0-99999999999', '99999999999', '0-2147463647', '0-9000,9001-19000']
)
def test_more_seeds_than_memory_holds(text):
  with pytest.raises(ConfigError, match='at most'):
    sweep_plan.parse_seeds(text)


@pytest.mark.parametrize(
  'text', ['', '4-0', '-1', '0-', 'a', '1,', '1.5', '9' * 5000]
)
def test_bad_seeds(text):
  with pytest.raises(ConfigError, match='is no seed'):
    sweep_plan.parse_seeds(text)


def test_seed_twice():
  with pytest.raises(ConfigError, match='names 2 twice'):
    sweep_plan.parse_seeds('0-3,2')


# The algorithm's name


@pytest.mark.parametrize(
  ('config', 'name'),
  [
    ('', 'QWR-LSE'),  # The agent's default.
    ('QwrAgent.backup_fn = @log_sum_exp_backup', 'QWR-LSE'),
    ('QwrAgent.backup_fn = @max_backup', 'QWR-MAX'),
    ('QwrAgent.backup_fn = \\\n    @mean_backup', 'QWR-AVG'),
    ('F = @max_backup\nQwrAgent.backup_fn = %F', 'QWR-MAX'),
    ('# F = @mean_backup\nQwrAgent.backup_fn = @max_backup', 'QWR-MAX'),
    ('make_agent.agent_class = @AwrAgent', 'AWR'),
    ('make_agent.agent_class = @AwacAgent', 'AWAC'),
    ('make_agent.agent_class = @AwrAgent\niterate.critic_steps = 0', 'RWR'),
    ('iterate.critic_steps = 0', 'BC'),
    ('iterate.actor_steps = 0', 'DQN'),
    ('N = 0\niterate.actor_steps = %N', 'DQN'),
    ('QwrAgent.backup_fn = @backups.max_backup', 'QWR-MAX'),
    ('make_agent.agent_class = @other/qwr_tf.awr_agent.AwrAgent', 'AWR'),
    (
      'QwrAgent.regression_actions = @stored_actions\n'
      'QwrAgent.baseline_fn = @critic_baseline',
      'CRR',
    ),
  ],
)
def test_algorithm(config, name):
  assert name in results.ALGORITHMS
  assert algorithms.algorithm_of(config) == name


@pytest.mark.parametrize(
  'config',
  [
    'QwrAgent.backup_fn = @my_backup',
    'make_agent.agent_class = @MyAgent',
    'QwrAgent.regression_actions = @stored_actions',
  ],
)
def test_unknown_algorithm(config):
  with pytest.raises(ConfigError, match='--algorithm'):
    algorithms.algorithm_of(config)


def test_bindings_in_one_cell():
  bindings = [
    "run.environment='Hopper-v4'",
    "ENVIRONMENT='Hopper-v4'",
    "GAME='Pong'",
    'QwrAgent.horizon=3',
    'A.b  =  (1,\n 2)',
  ]
  assert run_rows.binding_cell(bindings) == 'A.b = (1, 2); QwrAgent.horizon = 3'


# Rows of a run


def _run_folder(folder, seed=0, final=(30.0, 20.0, 10), **facts):
  """A finished run: 4 rows, of which 2 are evaluations, and the final one."""
  folder.mkdir(parents=True)
  header = (
    'iteration,interactions,critic_steps,actor_steps,wall_seconds,'
    'eval_return_mode,eval_return_sampled,eval_episodes'
  )
  lines = [
    '1,1000,500,600,2.04,,,',
    '2,2000,1000,1200,4.06,11.123456,9.5,5',
    '3,3000,1500,1800,6.0,,,',
    '4,4000,2000,2400,8.0,13.0,9.75,5',
  ]
  (folder / 'metrics.csv').write_text('\n'.join([header, *lines]) + '\n')
  content = {
    'preset': 'quick',
    'bindings': ["run.environment='BitFlip-5'", 'QwrAgent.horizon=2'],
    'environment': 'BitFlip-5',
    'seed': seed,
    'config': 'QwrAgent.backup_fn = @max_backup',
    'commit': 'abc',
    'versions': {'python': '3.11.7', 'tensorflow': '2.15.1'},
    'host_cores': 2,
    'threads': 1,
    'interactions': 4000,
    'critic_steps': 2000,
    'actor_steps': 2400,
    'wall_seconds': 8.5,
    'scores': dict(
      zip(
        ('eval_return_mode', 'eval_return_sampled', 'eval_episodes'),
        final,
        strict=True,
      )
    ),
    'finished': True,
    **facts,
  }
  (folder / 'run.json').write_text(json.dumps(content))
  return folder


def test_rows_of_a_run(tmp_path):
  rows = run_rows.rows(_run_folder(tmp_path / 'r'), 'table')
  assert [list(row) for row in rows] == [list(results.COLUMNS)] * 3
  first, second, final = rows
  assert first == {
    'experiment': 'table',
    'algorithm': 'QWR-MAX',
    'preset': 'quick',
    'bindings': 'QwrAgent.horizon = 2',
    'dataset': '',
    'environment': 'BitFlip-5',
    'seed': '0',
    'interactions': '2000',
    'critic_steps': '1000',
    'actor_steps': '1200',
    'return_mode': '11.1235',
    'return_sampled': '9.5',
    'episodes': '5',
    'wall_seconds': '4.1',
    'commit': 'abc',
    'python': '3.11.7',
    'tensorflow': '2.15.1',
    'tf_agents': '',
    'gymnasium': '',
    'mujoco': '',
    'ale_py': '',
    'host_cores': '2',
    'threads': '1',
  }
  assert second['return_mode'] == '13.0'
  assert (final['interactions'], final['episodes']) == ('4000', '10')
  assert (final['return_mode'], final['return_sampled']) == ('30.0', '20.0')


def test_final_evaluation_is_one_row_if_metrics_have_it(tmp_path):
  folder = _run_folder(tmp_path / 'r', final=(13.0, 9.75, 5))
  assert len(run_rows.rows(folder, 'table')) == 2


def test_no_rows_from_an_unfinished_run(tmp_path):
  folder = _run_folder(tmp_path / 'r', finished=False)
  assert run_json.read_finished(folder) is None
  with pytest.raises(ConfigError, match='not finished'):
    run_rows.rows(folder, 'table')


def test_progress_of_a_run(tmp_path):
  folder = _run_folder(tmp_path / 'r')
  assert run_rows.latest_interactions(folder) == 4000
  assert run_rows.latest_interactions(tmp_path / 'none') == 0


_DATA = {'name': 'third-v0', 'mean_return': 31.54321, 'episodes': 50}


def test_rows_of_a_data_set(tmp_path):
  runs_dir = tmp_path / 'runs'
  for seed in (0, 1):
    _run_folder(
      runs_dir / f'r{seed}',
      seed,
      dataset='third-v0',
      data=_DATA,
      bindings=["run.dataset='/somewhere/third-v0'"],
    )
  (row,) = run_rows.data_rows(runs_dir / 'r0', 'offline')
  expected = {
    'experiment': 'offline',
    'algorithm': 'data',
    'dataset': 'third-v0',
    'environment': 'BitFlip-5',
    'interactions': '0',
    'return_mode': '31.5432',
    'episodes': '50',
  }
  assert {name: row[name] for name in expected} == expected
  assert list(row) == list(results.COLUMNS)
  # Once for all runs, which have the data set in a column of its own.
  path = tmp_path / 'offline.csv'
  finished_runs.collect(path, runs_dir, lambda facts: True)
  rows = results.read(path)
  assert [r['algorithm'] for r in rows] == ['QWR-MAX'] * 6 + ['data']
  assert {(r['dataset'], r['bindings']) for r in rows} == {('third-v0', '')}
  nothing = _run_folder(tmp_path / 'online')
  assert run_rows.data_rows(nothing, 'table') == []


def test_data_sets_of_one_name_are_not_mixed(tmp_path):
  runs_dir, path = tmp_path / 'runs', tmp_path / 'offline.csv'
  for seed, mean in ((0, 985.0), (1, 3200.0)):
    data = _DATA | {'mean_return': mean}
    _run_folder(runs_dir / f'r{seed}', seed, dataset='third-v0', data=data)
  message = r'third-v0 is 985.0 in one row and 3200.0 in another'
  with pytest.raises(ConfigError, match=message):
    finished_runs.collect(path, runs_dir, lambda facts: True)
  assert not path.exists()
  finished_runs.collect(path, runs_dir, lambda facts: facts['seed'] == 0)
  with pytest.raises(ConfigError, match=message):
    finished_runs.collect(path, runs_dir, lambda facts: facts['seed'] == 1)
  assert {row['seed'] for row in results.read(path)} == {'0'}


def test_plan_names_the_data_set(tmp_path):
  episode = datasets.Episode(
    *(np.zeros([n, *shape]) for n, shape in ((2, [6]), (1, []), (1, []))),
    np.ones([1], bool),
    np.zeros([1], bool),
    {},
  )
  datasets.write(tmp_path / 'BitFlip-5' / 'third-v0', [episode], {})
  path = tmp_path / '{environment}' / 'third-v0'
  recipe = _recipe(tmp_path, bindings=(f"run.dataset='{path}'",))
  ((job, identity),) = sweep_plan.plan(recipe, ['BitFlip-5'], [0])
  row = dict(zip(results.COLUMNS, identity, strict=False))
  assert (row['dataset'], row['bindings']) == ('third-v0', '')
  assert f"--gin_bindings=run.dataset='{path}'" in job.arguments
  with pytest.raises(ConfigError, match='BitFlip-6/third-v0: there is no such'):
    sweep_plan.plan(recipe, ['BitFlip-6'], [0])


# The CSV


def _rows(seed, score=1.0, count=3):
  row = dict.fromkeys(results.COLUMNS, '') | {'experiment': 't'}
  return [
    row | {'seed': str(seed), 'interactions': str(i), 'return_mode': f'{score}'}
    for i in range(count)
  ]


def test_rows_are_added_once(tmp_path):
  path = tmp_path / 'new' / 't.csv'
  assert results.read(path) == []
  assert len(results.add(path, _rows(0))) == 3
  assert results.add(path, _rows(0, score=2.0)) == []
  assert len(results.add(path, _rows(0) + _rows(1))) == 3
  assert results.read(path) == _rows(0) + _rows(1)
  assert os.listdir(path.parent) == ['t.csv']


def test_replaced_rows(tmp_path):
  path = tmp_path / 't.csv'
  results.add(path, _rows(0) + _rows(1))
  results.add(path, _rows(0, score=2.0, count=2), replace=True)
  assert results.read(path) == _rows(1) + _rows(0, score=2.0, count=2)


def _add_many(path, first):
  for seed in range(first, first + 20):
    results.add(path, _rows(seed))


def test_two_writers_lose_nothing(tmp_path):
  path = tmp_path / 't.csv'
  context = multiprocessing.get_context('fork')
  # Seeds 0-19 and 10-29: ten of them come from both.
  writers = [
    context.Process(target=_add_many, args=(path, first)) for first in (0, 10)
  ]
  for writer in writers:
    writer.start()
  for writer in writers:
    writer.join(60)
  assert [writer.exitcode for writer in writers] == [0, 0]
  seeds = [int(row['seed']) for row in results.read(path)]
  assert sorted(seeds) == sorted([*range(30)] * 3)


@pytest.mark.parametrize(
  ('text', 'message'),
  [
    ('a,b\n1,2\n', 'lacks experiment, .* has the foreign a, b'),
    ('', 'lacks experiment'),
    (','.join(results.COLUMNS) + ',extra\n', 'has the foreign extra'),
    (','.join(reversed(results.COLUMNS)) + '\n', 'another order'),
    (','.join(results.COLUMNS) + '\n1,2\n', 'line 2: not 23 cells'),
  ],
)
def test_other_csvs_are_refused(text, message, tmp_path):
  path = tmp_path / 't.csv'
  path.write_text(text)
  with pytest.raises(ConfigError, match=message):
    results.read(path)


# The plan

_QUICK = """
run.environment = 'BitFlip-5'
run.interactions = 4000
QwrAgent.backup_fn = @max_backup
"""


def _recipe(tmp_path, **fields):
  gin_file = tmp_path / 'quick.gin'
  gin_file.write_text(_QUICK)
  recipe = sweep_plan.Recipe(
    str(gin_file),
    ('QwrAgent.horizon=2',),
    None,
    tmp_path / 'results' / 'table.csv',
    tmp_path / 'runs',
  )
  return recipe._replace(**fields)


def test_plan(tmp_path):
  planned = sweep_plan.plan(
    _recipe(tmp_path), ['BitFlip-5', 'BitFlip-6'], [3, 4]
  )
  assert [str(job) for job, _ in planned] == [
    'BitFlip-5 seed 3 (QwrAgent.horizon = 2)',
    'BitFlip-6 seed 3 (QwrAgent.horizon = 2)',
    'BitFlip-5 seed 4 (QwrAgent.horizon = 2)',
    'BitFlip-6 seed 4 (QwrAgent.horizon = 2)',
  ]
  job, identity = planned[1]
  assert job.interactions == 4000
  assert job.folder.parent == tmp_path / 'runs'
  assert job.folder.name.startswith('quick-BitFlip-6-s3-')
  assert job.arguments[1:4] == (
    '--gin_bindings=QwrAgent.horizon=2',
    "--gin_bindings=run.environment='BitFlip-6'",
    '--seed=3',
  )
  assert identity == (
    'table',
    'QWR-MAX',
    'quick',
    'QwrAgent.horizon = 2',
    '',
    'BitFlip-6',
    '3',
  )
  assert len({job.folder for job, _ in planned}) == 4


def test_the_gin_files_own_environment(tmp_path):
  ((job, _),) = sweep_plan.plan(_recipe(tmp_path), [], [0])
  assert job.environment == 'BitFlip-5'


@pytest.mark.parametrize(
  ('envs', 'fields', 'message'),
  [
    (['HalfCheeta-v4'], {}, 'unknown environment'),
    (['BitFlip-5', 'BitFlip-5'], {}, 'twice'),
    (['BitFlip-5', ''], {}, 'a comma too many'),
    ([], {'path': pathlib.Path('my runs.csv')}, "'my runs' is no name"),
    ([], {'bindings': ('QwrAgent.horizont=2',)}, 'horizont'),
    ([], {'gin_file': 'none.gin'}, 'not found'),
  ],
)
def test_bad_plans(envs, fields, message, tmp_path):
  with pytest.raises(ConfigError, match=message):
    sweep_plan.plan(_recipe(tmp_path, **fields), envs, [0])


def _changed_since(tmp_path, seeds=(0,), **fields):
  """Rows in the CSV of runs made before quick.gin got its present line."""
  recipe = _recipe(tmp_path, **fields)
  gin_file = pathlib.Path(recipe.gin_file)
  gin_file.write_text(_QUICK + 'QwrAgent.td_lambda = 0.5\n')
  for job, _ in sweep_plan.plan(recipe, [], list(seeds)):
    config = gin_files.parse([str(gin_file)], ['QwrAgent.horizon = 2'])
    _run_folder(job.folder, job.seed, config=config)
    results.add(recipe.path, run_rows.rows(job.folder, 'table'))
  gin_file.write_text(_QUICK + 'QwrAgent.td_lambda = 0.9\n')
  return recipe


@pytest.mark.parametrize('seed', [0, 1])  # The same run, and another seed.
def test_rows_of_a_changed_preset_are_not_mixed_with_new_ones(seed, tmp_path):
  recipe = _changed_since(tmp_path)
  with pytest.raises(
    ConfigError, match=r'table.csv has rows of .*td_lambda: 0.5 there, 0.9 here'
  ):
    sweep_plan.plan(recipe, [], [seed])
  # Other settings, and another CSV, have nothing to do with it.
  assert sweep_plan.plan(recipe, ['BitFlip-6'], [seed])
  other = recipe._replace(path=tmp_path / 'other.csv')
  assert sweep_plan.plan(other, [], [seed])


def test_a_run_that_has_no_rows_has_nothing_to_do_with_others(tmp_path):
  recipe = _recipe(tmp_path)
  ((job, identity),) = sweep_plan.plan(recipe, [], [0])
  config = gin_files.parse([recipe.gin_file], recipe.bindings)
  _run_folder(job.folder, config=config)
  results.add(recipe.path, run_rows.rows(job.folder, 'table'))
  nameless = job.folder.with_name(job.folder.name[:-8] + '0' * 8)
  _run_folder(nameless, config='QwrAgent.regression_actions = @stored_actions')
  with pytest.raises(ConfigError, match='--algorithm'):
    run_rows.rows(nameless, 'table')
  ((_, planned),) = sweep_plan.plan(recipe, [], [1])
  assert planned[:-1] == identity[:-1]


def test_all_seeds_of_a_changed_preset_can_be_replaced(tmp_path):
  recipe = _changed_since(tmp_path, seeds=(0, 1))._replace(replace=True)
  assert len(sweep_plan.plan(recipe, [], [0, 1])) == 2
  with pytest.raises(ConfigError, match='count as seeds of one setting'):
    sweep_plan.plan(recipe, [], [0])  # Seed 1 would stay.


def test_rows_whose_folder_is_gone_are_believed(tmp_path):
  recipe = _changed_since(tmp_path)
  recipe.runs_dir.rename(tmp_path / 'elsewhere')
  assert sweep_plan.plan(recipe, [], [0])


def test_where_a_data_set_lies_does_not_make_another_configuration():
  before = "run.dataset = '/here'\nrun.environment = 'A'\na.b = {\n     1: 2}\n"
  after = before.replace('here', 'there').replace("'A'", "'B'")
  assert run_rows.changes(before, after) == []
  assert run_rows.changes(before, after.replace('1: 2', '1: 3')) == [
    'a.b: { 1: 2} there, { 1: 3} here'
  ]


# The grid. The trainer is a script that writes what the real one would: it
# copies a finished run's folder, or fails for seed 1.

_TRAINER = """
import json, os, pathlib, shutil, sys
flags = dict(a.lstrip('-').partition('=')[::2] for a in sys.argv[2:])
folder, seed = pathlib.Path(flags['root_dir']), int(flags['seed'])
print('some noise', file=sys.stderr)
if seed == 1:
  sys.exit('bar 10%\\rerror: critic_loss is nan')
if seed == 2:
  sys.exit(0)  # And leaves nothing.
if seed == 3:
  os.kill(os.getpid(), 9)
shutil.copytree(sys.argv[1], folder, dirs_exist_ok=True)
facts = json.loads((folder / 'run.json').read_text())
facts |= {'seed': seed, 'overwrite': 'overwrite' in flags}
facts |= {'threads': int(os.environ['TF_NUM_INTRAOP_THREADS'])}
(folder / 'run.json').write_text(json.dumps(facts))
"""


def _runner(tmp_path):
  script = tmp_path / 'trainer.py'
  script.write_text(_TRAINER)
  example = tmp_path / 'example'
  if not example.exists():
    _run_folder(example)
  return functools.partial(
    grid.run,
    trainer=(sys.executable, str(script), str(example)),
    poll_seconds=0.02,
  )


def _sweep(tmp_path, seeds, processes=2, **fields):
  return sweep_run.run(
    [_recipe(tmp_path, **fields)], [], seeds, processes, _runner(tmp_path)
  )


def _seeds(tmp_path):
  rows = results.read(tmp_path / 'results' / 'table.csv')
  return [row['seed'] for row in rows]


def test_grid(tmp_path, capsys):
  assert _sweep(tmp_path, [0, 4, 5]) == []
  assert sorted(_seeds(tmp_path)) == ['0'] * 3 + ['4'] * 3 + ['5'] * 3
  rows = results.read(tmp_path / 'results' / 'table.csv')
  assert {row['threads'] for row in rows} == {'1'}
  output = capsys.readouterr()
  assert 'horizon = 2): 30.0 mode action, 20.0 sampled' in output.out
  assert '12.0k/12.0k' in output.err  # 3 runs of 4000 interactions.
  assert not list((tmp_path / 'runs').glob('*.log'))


def test_a_log_gets_a_line_of_progress_now_and_then(tmp_path, capsys):
  jobs = [job for job, _ in sweep_plan.plan(_recipe(tmp_path), [], range(20))]
  sweep_of_20 = sweep_run.Sweep(dict.fromkeys(jobs, _recipe(tmp_path)))
  sweep_of_20.start(jobs)
  for i, job in enumerate(jobs):
    sweep_of_20.progress(4000 * i, 1, 20 - i)
    sweep_of_20.bar.say(f'{job}: has its rows')
  sweep_of_20.bar.close()
  output = capsys.readouterr()
  assert output.out.count('has its rows') == 20
  assert len(output.err.replace('\r', '\n').split('\n')) < 6


def test_the_log_follows_no_link(tmp_path):
  (tmp_path / 'notes.txt').write_text('mine')
  job = grid.Job('E', 0, tmp_path / 'r', (), 1)
  job.log.symlink_to(tmp_path / 'notes.txt')
  with pytest.raises(ConfigError, match='r.log .*link'):
    grid.open_log(job)
  assert (tmp_path / 'notes.txt').read_text() == 'mine'


def test_a_grid_of_recipes(tmp_path, capsys):
  default = _recipe(tmp_path, bindings=())
  changed = default._replace(bindings=('QwrAgent.horizon = 3',))
  recipes, runner = [default, changed], _runner(tmp_path)
  started = []

  def run(jobs, *args):
    started.extend(map(str, jobs))
    runner(jobs, *args)

  failed = sweep_run.run(recipes, ['BitFlip-5'], [4, 1], 1, run)
  assert started == [
    'BitFlip-5 seed 4',
    'BitFlip-5 seed 4 (QwrAgent.horizon = 3)',
    'BitFlip-5 seed 1',
    'BitFlip-5 seed 1 (QwrAgent.horizon = 3)',
  ]
  assert [line.partition(': ')[0] for line in failed] == started[2:]
  assert '16.0k/16.0k' in capsys.readouterr().err  # One bar for all.


def test_rows_bear_the_bindings_of_their_recipe(tmp_path, capsys):
  # Bindings that have become lines of the gin file since: the same run.
  recipe = _recipe(tmp_path, bindings=())
  ((job, _),) = sweep_plan.plan(recipe, ['BitFlip-5'], [4])
  _run_folder(job.folder, seed=4, bindings=['QwrAgent.horizon=2'])
  for _ in range(2):
    runner = _runner(tmp_path)
    assert sweep_run.run([recipe], ['BitFlip-5'], [4], 1, runner) == []
  rows = results.read(recipe.path)
  assert [row['bindings'] for row in rows] == [''] * 3
  assert 'table.csv has its rows' in capsys.readouterr().out


def test_recipes_that_are_the_same_run_are_refused(tmp_path):
  recipe = _recipe(tmp_path, bindings=('QwrAgent.horizon = 2',))
  with pytest.raises(ConfigError, match='seed 0 .*= 2.: another .* same run'):
    sweep_run.run([recipe, recipe], [], [0], 1, _runner(tmp_path))


def test_a_second_sweep_runs_nothing_twice(tmp_path, capsys):
  _sweep(tmp_path, [0])
  folder = next((tmp_path / 'runs').glob('*-s0-*'))
  before = (folder / 'run.json').stat().st_mtime_ns
  _sweep(tmp_path, [0, 4])
  assert _seeds(tmp_path) == ['0'] * 3 + ['4'] * 3
  assert 'table.csv has its rows' in capsys.readouterr().out
  # Without the CSV, the finished folders give their rows again.
  (tmp_path / 'results' / 'table.csv').unlink()
  _sweep(tmp_path, [0, 4])
  assert _seeds(tmp_path) == ['0'] * 3 + ['4'] * 3
  assert (folder / 'run.json').stat().st_mtime_ns == before


def test_known_rows_are_replaced_when_asked_for(tmp_path):
  _sweep(tmp_path, [0])
  folder = next((tmp_path / 'runs').glob('*-s0-*'))
  facts = json.loads((folder / 'run.json').read_text())
  (folder / 'run.json').write_text(json.dumps(facts | {'commit': 'new'}))
  path = tmp_path / 'results' / 'table.csv'
  _sweep(tmp_path, [0])
  assert {row['commit'] for row in results.read(path)} == {'abc'}
  _sweep(tmp_path, [0], replace=True)
  assert [row['commit'] for row in results.read(path)] == ['new'] * 3


def test_a_cut_run_goes_on(tmp_path):
  ((job, _),) = sweep_plan.plan(_recipe(tmp_path), [], [0])
  _run_folder(job.folder, finished=False)
  assert _sweep(tmp_path, [0]) == []
  facts = json.loads((job.folder / 'run.json').read_text())
  assert not facts['overwrite'] and _seeds(tmp_path) == ['0'] * 3


def test_what_was_made_before_does_not_count_for_the_eta(tmp_path):
  recipe = _recipe(tmp_path)
  jobs = [job for job, _ in sweep_plan.plan(recipe, [], [0, 4, 5])]
  _run_folder(jobs[1].folder, finished=False, interactions=3000)
  metrics = jobs[1].folder / 'metrics.csv'
  metrics.write_text(''.join(metrics.read_text().splitlines(True)[:-1]))
  taken_in = sweep_run.Sweep(dict.fromkeys(jobs, recipe))
  taken_in.finish(jobs[0])  # Has its rows.
  taken_in.start(jobs[1:])  # One was cut at 3000, the other waits.
  bar = taken_in.bar
  assert (bar.initial, bar.n, bar.total) == (7000, 7000, 12_000)
  taken_in.progress(1000, 1, 1)  # Its checkpoint is older than its last row.
  assert (bar.initial, bar.n) == (5000, 5000)
  taken_in.bar.close()


def test_the_bar_never_goes_back(tmp_path):
  class Bar(list):
    def progress(self, made, running, waiting):
      self.append(made)

  bar, jobs = Bar(), []
  for seed in (0, 4):
    ((job, _),) = sweep_plan.plan(_recipe(tmp_path), [], [seed])
    _run_folder(job.folder, seed, finished=False)
    jobs.append(job)
  _runner(tmp_path)(jobs, 1, lambda *_: None, bar.progress)
  # Both were at 4000; the one that waits counts as well.
  assert bar[0] == 8000 and bar[-1] == 0
  assert set(bar) == {8000, 4000, 0}


def test_failed_runs_are_reported_and_the_others_go_on(tmp_path):
  failed = _sweep(tmp_path, [1, 2, 3, 4], processes=1)
  assert _seeds(tmp_path) == ['4'] * 3
  assert len(failed) == 3
  run = 'BitFlip-5 seed {} (QwrAgent.horizon = 2): {}'.format
  assert failed[0].startswith(run(1, 'error: critic_loss is nan ('))
  assert failed[1].startswith(run(2, 'left no finished run'))
  assert failed[2].startswith(run(3, 'ended by signal 9'))
  logs = list((tmp_path / 'runs').glob('*-s1-*.log'))
  assert 'some noise' in logs[0].read_text()


def test_a_run_of_another_sweep_is_left_alone(tmp_path, capsys):
  ((job, _),) = sweep_plan.plan(_recipe(tmp_path), [], [0])
  log = grid.open_log(job)
  assert _sweep(tmp_path, [0]) == []
  assert 'left out, another sweep' in capsys.readouterr().out
  assert not job.folder.exists()
  log.close()


def _interrupt():
  raise KeyboardInterrupt


@pytest.mark.parametrize(
  'interrupt',
  [
    _interrupt,
    lambda: os.kill(os.getpid(), signal.SIGTERM),
    lambda: os.kill(os.getpid(), signal.SIGHUP),
  ],
)
def test_interruption_ends_the_runs(interrupt, tmp_path):
  before = [
    signal.signal(number, signal.SIG_DFL)
    for number in (signal.SIGTERM, signal.SIGHUP)
  ]
  script = tmp_path / 'slow.py'
  script.write_text(
    'import os, pathlib, sys, time\n'
    'pathlib.Path(sys.argv[-1]).write_text(str(os.getpid()))\n'
    'time.sleep(60)\n'
  )
  pids = [tmp_path / 'pid0', tmp_path / 'pid1']
  jobs = [
    grid.Job('E', i, tmp_path / f'r{i}', (str(pids[i]),), 1) for i in (0, 1)
  ]

  def progress(*_):
    if all(pid.exists() and pid.read_text() for pid in pids):
      interrupt()

  with pytest.raises(KeyboardInterrupt):
    grid.run(
      jobs,
      2,
      lambda *_: None,
      progress,
      trainer=(sys.executable, str(script)),
      poll_seconds=0.02,
    )
  for pid in pids:
    with pytest.raises(ProcessLookupError):
      os.kill(int(pid.read_text()), signal.SIG_DFL)
  for number, handler in zip(
    (signal.SIGTERM, signal.SIGHUP), before, strict=True
  ):
    assert signal.getsignal(number) == signal.SIG_DFL
    signal.signal(number, handler)


def test_ctrl_c_reaches_the_trainers_once(tmp_path):
  # From a terminal it goes to a process group; the sweep tells its runs.
  job = grid.Job('E', 0, tmp_path / 'r', (), 1)
  groups = []
  grid.run(
    [job],
    1,
    lambda _, error: groups.append(int(error)),
    lambda *_: None,
    trainer=(
      sys.executable,
      '-c',
      'import os, sys; sys.exit(str(os.getpgrp()))',
    ),
    poll_seconds=0.02,
  )
  assert groups != [os.getpgrp()]


@pytest.mark.skipif(
  not hasattr(os, 'sched_setaffinity'), reason='no CPU affinity here'
)
def test_a_full_machine_gets_a_core_per_run(tmp_path):
  script = 'import os, sys; sys.exit(str(sorted(os.sched_getaffinity(0))))'
  jobs = [grid.Job('E', i, tmp_path / f'r{i}', (), 1) for i in grid.cores()]
  errors = []
  grid.run(
    jobs,
    len(jobs),
    lambda _, error: errors.append(error),
    lambda *_: None,
    trainer=(sys.executable, '-c', f'import time; time.sleep(.2); {script}'),
    poll_seconds=0.02,
  )
  assert sorted(errors) == sorted(f'[{core}]' for core in grid.cores())


# Collecting


def test_collect_only(tmp_path):
  for seed in (0, 1):
    _run_folder(tmp_path / 'runs' / f'r{seed}', seed=seed)
  _run_folder(tmp_path / 'runs' / 'cut', finished=False)
  path = tmp_path / 't.csv'
  assert len(_collect(path, tmp_path, lambda facts: facts['seed'] == 1)) == 3
  assert len(_collect(path, tmp_path, lambda facts: True)) == 3
  assert _collect(path, tmp_path, lambda facts: True) == []
  assert len(results.read(path)) == 6


def test_a_run_without_a_simulator_has_no_rows(tmp_path, caplog):
  _run_folder(tmp_path / 'runs' / 'played')
  _run_folder(tmp_path / 'runs' / 'logged', final=(None, None, None))
  assert len(_collect(tmp_path / 't.csv', tmp_path, lambda facts: True)) == 3
  (message,) = caplog.messages
  assert 'logged has no scores' in message


def test_a_data_sets_row_is_not_counted_as_a_run(tmp_path, monkeypatch, capsys):
  _run_folder(tmp_path / 'runs' / 'r', data=_DATA)
  _set_flags(monkeypatch, tmp_path, collect_only=True, results='t.csv')
  sweep.main()
  assert '4 rows of 1 runs added' in capsys.readouterr().out


def test_two_folders_of_one_run_are_refused(tmp_path):
  for name, commit in (('old', 'a'), ('new', 'b')):
    _run_folder(tmp_path / 'runs' / name, commit=commit)
  with pytest.raises(ConfigError, match='new and .*old count as one run'):
    _collect(tmp_path / 't.csv', tmp_path, lambda facts: True)
  assert not (tmp_path / 't.csv').exists()


def test_two_seeds_of_a_preset_that_changed_are_refused(tmp_path):
  for seed in (0, 1):
    config = f'QwrAgent.td_lambda = 0.{seed}'
    _run_folder(tmp_path / 'runs' / f'r{seed}', seed=seed, config=config)
  with pytest.raises(
    ConfigError, match='r0 and .*r1 would count as seeds .*0.0'
  ):
    _collect(tmp_path / 't.csv', tmp_path, lambda facts: True)
  assert not (tmp_path / 't.csv').exists()
  assert _collect(tmp_path / 't.csv', tmp_path, lambda facts: facts['seed'])


def _collect(path, tmp_path, wanted):
  return finished_runs.collect(path, tmp_path / 'runs', wanted)


# The command


@pytest.mark.parametrize(
  ('arguments', 'message'),
  [
    ({}, 'gin_file is missing'),
    ({'gin_file': 'bitflip.gin', 'processes': 0}, 'processes=0'),
    ({'gin_file': 'bitflip.gin', 'seeds': '3-1'}, 'is no seed'),
    (
      {'gin_file': 'bitflip.gin', 'envs': ['BitFlip-5', 'Bitflop-5']},
      "unknown environment 'Bitflop-5'",
    ),
    ({'collect_only': True, 'results': 't.txt'}, 'not the name of a CSV'),
    (
      {'collect_only': True, 'results': 't.csv', 'runs_dir': 'none'},
      'is no folder',
    ),
  ],
)
def test_bad_flags(arguments, message, tmp_path, monkeypatch):
  _set_flags(monkeypatch, tmp_path, **arguments)
  with pytest.raises(ConfigError, match=message):
    sweep.main()
  assert not (tmp_path / 'runs').exists()


def _set_flags(monkeypatch, tmp_path, **arguments):
  monkeypatch.chdir(tmp_path)
  flags.FLAGS.mark_as_parsed()
  for name, value in arguments.items():
    value = [value] if name == 'gin_file' else value
    monkeypatch.setattr(flags.FLAGS[name], 'value', value)


@pytest.mark.parametrize(
  ('arguments', 'runs'),
  [
    ({'seeds': '1-5'}, 1),
    ({'seeds': '0', 'envs': ['BitFlip-5']}, 1),
    ({'envs': ['Hopper-v4']}, 0),
    ({'gin_file': 'quick.gin'}, 0),  # Without the runs' binding.
    ({'gin_file': 'quick.gin', 'gin_bindings': ['QwrAgent.horizon = 2']}, 1),
  ],
)
def test_flags_narrow_what_is_collected(
  arguments, runs, tmp_path, monkeypatch, capsys
):
  (tmp_path / 'quick.gin').write_text(_QUICK)
  bindings = ["run.environment='BitFlip-5'", 'QwrAgent.horizon=2']
  now = gin_files.parse([str(tmp_path / 'quick.gin')], bindings)
  before = now.replace('4000', '5000')  # The file has changed since.
  for seed, config in enumerate([before, now]):
    _run_folder(tmp_path / 'runs' / f'r{seed}', seed=seed, config=config)
  _set_flags(
    monkeypatch, tmp_path, collect_only=True, results='t.csv', **arguments
  )
  sweep.main()
  added = f'{3 * runs} rows of {runs} runs added to t.csv'
  assert capsys.readouterr().out.strip() == added
  assert len(results.read(tmp_path / 't.csv')) == 3 * runs


def test_a_failed_run_is_exit_code_1(tmp_path, monkeypatch, capsys):
  _set_flags(monkeypatch, tmp_path, gin_file='bitflip.gin')
  monkeypatch.setattr(sweep_run, 'run', lambda *_: ['E seed 0: nan'])
  handler = signal.getsignal(signal.SIGTERM)
  with pytest.raises(SystemExit) as ending:
    sweep.main()
  signal.signal(signal.SIGTERM, handler)
  assert ending.value.code == 1
  assert capsys.readouterr().err == '1 failed:\n  E seed 0: nan\n'


def test_a_sweep_without_a_run_to_select_is_exit_code_1(
  tmp_path, monkeypatch, capsys
):
  _set_flags(monkeypatch, tmp_path, gin_file='bitflip.gin', select=True)
  monkeypatch.setattr(sweep_run, 'run', lambda *_: ['E seed 0: nan'])
  with pytest.raises(SystemExit) as ending:
    sweep.main()
  assert ending.value.code == 1
  assert capsys.readouterr().err == '1 failed:\n  E seed 0: nan\n'


def test_the_log_of_a_run_begins_empty(tmp_path):
  job = grid.Job('E', 0, tmp_path / 'r', (), 1)
  job.log.write_text('error: of the run before')
  grid.open_log(job).close()
  assert job.log.read_text() == ''


def test_a_sweep_pins_threads_whatever_the_shell_asks_for(
  tmp_path, monkeypatch
):
  monkeypatch.setenv('TF_NUM_INTRAOP_THREADS', '7')
  _sweep(tmp_path, [0])
  rows = results.read(tmp_path / 'results' / 'table.csv')
  assert {row['threads'] for row in rows} == {'1'}


def test_a_run_that_does_not_end_is_killed(tmp_path):
  ready = tmp_path / 'ready'
  code = (
    'import signal, sys, time\n'
    'signal.signal(signal.SIGTERM, signal.SIG_IGN)\n'
    f'open({str(ready)!r}, "w").close()\ntime.sleep(15)'
  )
  job = grid.Job('E', 0, tmp_path / 'r', (), 1)

  def progress(*_):
    if ready.exists():
      raise KeyboardInterrupt

  start = time.monotonic()
  with pytest.raises(KeyboardInterrupt):
    grid.run(
      [job],
      1,
      lambda *_: None,
      progress,
      trainer=(sys.executable, '-c', code),
      poll_seconds=0.02,
      seconds_to_save=0.2,
    )
  assert time.monotonic() - start < 10.0
  assert not job.log.exists()


def test_done_is_at_most_what_was_asked_for(tmp_path):
  folder = _run_folder(tmp_path / 'r')
  assert grid.Job('E', 0, folder, (), 3000).done() == 3000


def test_a_sweep_under_nohup_goes_on():
  before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
  try:
    with grid.signals_interrupt():
      assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
  finally:
    signal.signal(signal.SIGHUP, before)


@pytest.mark.slow
def test_cores_are_used_again(tmp_path):
  script = 'import os, sys; sys.exit(str(sorted(os.sched_getaffinity(0))))'
  count = len(grid.cores())
  jobs = [grid.Job('E', i, tmp_path / f'r{i}', (), 1) for i in range(3 * count)]
  errors = []
  grid.run(
    jobs,
    count,
    lambda _, error: errors.append(error),
    lambda *_: None,
    trainer=(sys.executable, '-c', f'import time; time.sleep(.1); {script}'),
    poll_seconds=0.02,
  )
  assert set(errors) == {f'[{core}]' for core in grid.cores()}


def test_an_unfinished_folder_is_a_failure_whatever_the_exit_code(tmp_path):
  ((job, _),) = sweep_plan.plan(_recipe(tmp_path), [], [2])
  job.folder.mkdir(parents=True)
  (failed,) = _sweep(tmp_path, [2])
  assert 'left no finished run' in failed


def test_defaults_of_the_command(tmp_path, monkeypatch):
  _set_flags(monkeypatch, tmp_path, gin_file='bitflip.gin')
  given = []
  monkeypatch.setattr(sweep_run, 'run', lambda *a: given.extend(a) or [])
  sweep.main()
  (recipe,), envs, seeds, processes = given
  assert recipe.path == pathlib.Path('results', 'bitflip.csv')
  assert (envs, seeds, processes) == ([], [0], len(grid.cores()))


def test_collected_rows_replace(tmp_path, monkeypatch):
  folder = _run_folder(tmp_path / 'runs' / 'r')
  _set_flags(monkeypatch, tmp_path, collect_only=True, results='t.csv')
  sweep.main()
  facts = json.loads((folder / 'run.json').read_text())
  (folder / 'run.json').write_text(json.dumps(facts | {'commit': 'new'}))
  sweep.main()
  assert {r['commit'] for r in results.read(tmp_path / 't.csv')} == {'abc'}
  monkeypatch.setattr(flags.FLAGS['replace'], 'value', True)
  sweep.main()
  assert [r['commit'] for r in results.read(tmp_path / 't.csv')] == ['new'] * 3


def test_a_cell_too_many_is_refused(tmp_path):
  results.add(tmp_path / 't.csv', _rows(0, count=1))
  text = (tmp_path / 't.csv').read_text()
  (tmp_path / 't.csv').write_text(text.rstrip('\n') + ',1\n')
  with pytest.raises(ConfigError, match='line 2: not 23 cells'):
    results.read(tmp_path / 't.csv')


def test_a_data_set_whose_mean_is_unknown_has_no_row(tmp_path):
  folder = _run_folder(tmp_path / 'r', data=_DATA | {'mean_return': None})
  assert run_rows.data_rows(folder, 'table') == []


def test_known_rows_move_the_bar(tmp_path, capsys):
  _sweep(tmp_path, [0])
  capsys.readouterr()
  _sweep(tmp_path, [0, 4])
  assert '8.00k/8.00k' in capsys.readouterr().err


def test_rows_that_cannot_be_written_fail_their_run_alone(
  tmp_path, monkeypatch
):
  def full(*_):
    raise OSError(28, 'No space left on device')

  monkeypatch.setattr(results, 'add', full)
  failed = _sweep(tmp_path, [0, 4])
  assert len(failed) == 2 and all('No space left' in line for line in failed)


def test_the_log_goes_before_its_lock(tmp_path):
  job = grid.Job('E', 0, tmp_path / 'r', (), 1)
  log, there = grid.open_log(job), []

  class Log:
    def close(self):
      there.append(job.log.exists())
      log.close()

  grid.close_log(job, Log(), keep=False)
  assert there == [False]


def test_an_offline_run_counts_as_one(tmp_path):
  test_plan_names_the_data_set(tmp_path)
  path = tmp_path / '{environment}' / 'third-v0'
  recipe = _recipe(
    tmp_path,
    bindings=(
      f"run.dataset='{path}'",
      'run.interactions=0',
      'run.offline_iterations=3',
    ),
  )
  ((job, _),) = sweep_plan.plan(recipe, ['BitFlip-5'], [0])
  assert job.interactions == 1
