"""The training command: what it writes, says and refuses.

Most tests call it in this process, with functions run eagerly: two iterations
need no compiled graph. The subprocesses at the end are the real thing.
"""

import contextlib
import csv
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import gin
import gymnasium
import numpy as np
import pytest
import tensorflow as tf
from absl import app
from absl.testing import flagsaver
from gymnasium import spaces

from qwr_tf import command
from qwr_tf import environments
from qwr_tf import evaluate
from qwr_tf import experiment
from qwr_tf import gin_files
from qwr_tf import metrics
from qwr_tf import train

_ROOT = pathlib.Path(__file__).resolve().parents[1]
_TINY = (
  'run.interactions=40',
  'run.replay_capacity=100',
  'run.eval_every_env_steps=20',
  'run.eval_episodes=2',
  'run.final_eval_episodes=3',
  'run.eval_environments=2',
  'run.log_every_env_steps=20',
  'Collector.env_steps=20',
  'iterate.critic_steps=2',
  'iterate.actor_steps=2',
  'iterate.rounds=1',
  'iterate.batch_size=4',
  'load_environment.max_episode_steps=20',
)
_VECTOR = spaces.Box(-1.0, 1.0, (2,), np.float32)


class _Five(gymnasium.Env):
  """Episodes of five steps, reward 1 each; may go wrong at a step."""

  def __init__(
    self,
    observation_space=_VECTOR,
    action_space=_VECTOR,
    nan_at=None,
    interrupt_at=None,
  ):
    self.observation_space = observation_space
    self.action_space = action_space
    self._nan_at, self._interrupt_at = nan_at, interrupt_at
    self._steps = self._time = 0

  def reset(self, *, seed=None, options=None):
    super().reset(seed=seed)
    self._time = 0
    return np.zeros(2, np.float32), {}

  def step(self, action):
    self._steps += 1
    self._time += 1
    if self._steps == self._interrupt_at:
      raise KeyboardInterrupt
    value = np.nan if self._steps == self._nan_at else 0.0
    observation = np.full(2, value, np.float32)
    return observation, 1.0, self._time == 5, False, {}


def _register(name, **kwargs):
  gymnasium.register(f'{name}-v0', entry_point=_Five, kwargs=kwargs)


_register('Five')
_register('FiveDict', observation_space=spaces.Dict({'x': _VECTOR}))
_register('FiveMultiDiscrete', action_space=spaces.MultiDiscrete([2, 3]))


@pytest.fixture(autouse=True)
def _isolated(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  tf.config.run_functions_eagerly(True)
  yield
  tf.config.run_functions_eagerly(False)
  gin.clear_config()


def _bindings(*bindings):
  return [f'--gin_bindings={binding}' for binding in bindings]


def _note_export(agent, facts, output):
  """In the place of an export, which takes a second; see serving_test.py."""
  assert agent.actor_network.variables
  output.mkdir()
  (output / 'facts.json').write_text(json.dumps(facts))


@pytest.fixture(name='cli')
def _cli(monkeypatch, capsys):
  """Runs the command in this process: (exit code, stdout, stderr)."""
  monkeypatch.setattr(train.serving, 'export', _note_export)

  def run(*arguments):
    argv = ['qwr_tf.train', *arguments]
    monkeypatch.setattr(sys, 'argv', argv)
    code = 0
    with flagsaver.flagsaver():
      try:
        command.parse_flags(argv)
        command.guarded(train.main)
      except SystemExit as ended:
        code = ended.code
    return code, *capsys.readouterr()

  return run


def _rows(folder):
  with open(folder / 'metrics.csv') as f:
    return list(csv.DictReader(f))


def _facts(folder):
  return json.loads((folder / 'run.json').read_text())


def _contents(path):
  return {p: p.read_bytes() for p in path.rglob('*') if p.is_file()}


def _has_environment(file):
  gin_files.parse([file], [])
  with contextlib.suppress(ValueError):
    return bool(gin.query_parameter('run.environment'))


@pytest.mark.parametrize(
  'file', sorted(p.name for p in _ROOT.glob('gin_configs/*.gin'))
)
def test_every_gin_file_runs_two_iterations(cli, tmp_path, file):
  extra = () if _has_environment(file) else ("run.environment='Hopper-v4'",)
  code, out, err = cli(
    f'--gin_file={file}', '--root_dir=run', *_bindings(*_TINY, *extra)
  )
  assert code == 0, err
  rows = _rows(tmp_path / 'run')
  assert [row['iteration'] for row in rows] == ['1', '2']
  assert int(rows[1]['interactions']) >= 40
  assert np.isfinite(float(rows[1]['critic_loss']))
  assert 'score' in out


# What a run leaves behind.


@pytest.fixture(name='bitflip')
def _bitflip(cli, tmp_path):
  arguments = ('--gin_file=bitflip.gin', *_bindings(*_TINY))
  code, out, err = cli(*arguments)
  assert code == 0, err
  (folder,) = (tmp_path / 'runs').iterdir()
  return arguments, folder, out, err


def test_folder_of_a_run(bitflip):
  _, folder, _, _ = bitflip
  assert folder.name.startswith('bitflip-BitFlip-20-s0-')
  assert {p.name for p in folder.iterdir()} == {
    'checkpoints',
    'config.gin',
    'learning_curve.png',
    'metrics.csv',
    'policy',
    'run.json',
    'tensorboard',
  }
  assert not list(folder.rglob('.*'))  # No temporary file stays.
  assert list((folder / 'tensorboard').glob('events.out.tfevents.*'))
  header = (folder / 'metrics.csv').read_text().splitlines()[0]
  assert header == ','.join(metrics.COLUMNS)


def test_rows_and_scores_of_a_run(bitflip):
  _, folder, out, _ = bitflip
  first, last = _rows(folder)
  # 2 of 2 critic and 2 actor steps; 20 and 40 interactions; an evaluation of
  # 2 episodes, then the final one of 3.
  counted = ('interactions', 'critic_steps', 'actor_steps', 'eval_episodes')
  assert [first[name] for name in counted] == ['20', '2', '2', '2']
  assert [last[name] for name in counted] == ['40', '4', '4', '3']
  facts = _facts(folder)
  assert facts['finished'] is True
  assert (facts['environment'], facts['seed']) == ('BitFlip-20', 0)
  assert facts['interactions'] == 40
  assert facts['command'].startswith('python -m qwr_tf.train --gin_file=bitf')
  scores = facts['scores']
  assert scores['eval_return_mode'] == float(last['eval_return_mode'])
  assert scores['eval_return_sampled'] == float(last['eval_return_sampled'])
  assert f'score   {scores["eval_return_mode"]:.1f} with the mode' in out
  assert folder.name in out


def test_operative_configuration_can_be_run_again(bitflip):
  _, folder, _, _ = bitflip
  gin_files.parse([str(folder / 'config.gin')], [])
  assert gin.query_parameter('iterate.batch_size') == 4
  # Not in any gin file: a default that was used.
  assert gin.query_parameter('iterate.rounds') == 1
  assert experiment.settings().interactions == 40


def test_same_command_again_says_so_and_changes_nothing(bitflip, cli):
  arguments, folder, out, _ = bitflip
  before = _contents(folder)
  # The order of the bindings is no other configuration.
  code, again, err = cli(arguments[0], *reversed(arguments[1:]))
  assert (code, err) == (0, '')
  assert again.splitlines()[0].startswith('This run is finished')
  assert again.splitlines()[1:] == out.splitlines()
  assert _contents(folder) == before


def test_another_configuration_is_another_folder(bitflip, cli):
  arguments, folder, _, _ = bitflip
  assert cli(*arguments, *_bindings('iterate.batch_size=3'))[0] == 0
  assert cli(*arguments, '--seed=1')[0] == 0
  names = [p.name.rsplit('-', 1) for p in folder.parent.iterdir()]
  assert sorted(n for n, _ in names) == [
    'bitflip-BitFlip-20-s0',
    'bitflip-BitFlip-20-s0',
    'bitflip-BitFlip-20-s1',
  ]
  assert len({digest for _, digest in names}) == 2


def test_root_dir_of_another_run(bitflip, cli):
  arguments, folder, _, _ = bitflip
  before = _contents(folder)
  changed = (*arguments, f'--root_dir={folder}', *_bindings('QwrAgent.gamma=1'))
  code, _, err = cli(*changed)
  assert code == 2
  assert 'QwrAgent.gamma: 0.99 there, 1 here' in err
  assert _contents(folder) == before
  # What cannot run replaces nothing, --overwrite or not.
  broken = _bindings("ENVIRONMENT='Hopper-v4'")
  assert cli(*changed, '--overwrite', *broken)[0] == 2
  assert _contents(folder) == before
  assert cli(*changed, '--overwrite')[0] == 0
  assert 'QwrAgent.gamma = 1\n' in _facts(folder)['config']
  assert len(_rows(folder)) == 2
  assert len(list((folder / 'tensorboard').iterdir())) == 1


def test_bar_does_not_flood_a_log_file(bitflip):
  _, _, _, err = bitflip
  lines = err.replace('\r', '\n').strip().splitlines()
  assert 1 <= len(lines) <= 3
  assert all('interactions/s' in line for line in lines)
  assert '40/40' in lines[-1]
  assert 'eval_return_mode=' in lines[-1]


# Evaluations.


_TRAINING = ('train_return', 'critic_loss', 'actor_loss', 'q_mean')


def _trained(cli, folder, *arguments):
  bindings = _bindings(*_TINY, 'run.interactions=80')
  root_dir = f'--root_dir={folder}'
  assert cli('--gin_file=bitflip.gin', root_dir, *bindings, *arguments)[0] == 0
  rows = _rows(folder)
  return [[row[name] for name in _TRAINING] for row in rows], rows


def test_evaluating_does_not_change_training(cli, tmp_path):
  often, rows = _trained(cli, tmp_path / 'often')
  seldom, others = _trained(
    cli, tmp_path / 'seldom', *_bindings('run.eval_every_env_steps=1000')
  )
  assert [row['eval_episodes'] for row in rows] == ['2', '2', '2', '3']
  assert [row['eval_episodes'] for row in others] == ['', '', '', '3']
  assert often == seldom
  other_seed, _ = _trained(cli, tmp_path / 'seed', '--seed=1')
  assert other_seed != often


def test_evaluator_plays_whole_episodes(tmp_path):
  gin_files.parse(
    ['mujoco_100k.gin'], ["run.environment='train_test:Five-v0'", *_TINY]
  )
  parts = experiment.build(experiment.settings(), seed=0)
  for sampled in (False, True):
    # Five rewards of 1, undiscounted, however the last call ended.
    assert parts.evaluator.returns(3, sampled=sampled) == [5.0, 5.0, 5.0]


def test_mode_is_not_sampled():
  gin_files.parse(
    ['mujoco_100k.gin'], ["run.environment='Pendulum-v1'", *_TINY]
  )
  agent = experiment.build(experiment.settings(), seed=0).agent

  def score(seed, sampled):
    # The same start, so that only actions can make a difference.
    env = environments.load('Pendulum-v1', seed=7, max_episode_steps=20)
    evaluator = evaluate.Evaluator([env], agent, seed=seed)
    return evaluator.returns(1, sampled=sampled)

  assert score(1, sampled=False) == score(2, sampled=False)
  assert score(1, sampled=True) == score(1, sampled=True)
  assert score(1, sampled=True) != score(2, sampled=True)


# Bad input: one line, exit code 2, nothing written.


def _refused(cli, tmp_path, *arguments):
  code, out, err = cli(*arguments)
  assert code == 2
  assert out == ''
  assert err.startswith('error: ')
  assert err.count('\n') == 1
  assert not list(tmp_path.iterdir())
  return err


@pytest.mark.parametrize(
  ('arguments', 'fix'),
  [
    ((), '--gin_file=mujoco_100k.gin'),
    (('--gin_file=nope.gin',), 'bitflip.gin, mujoco.gin'),
    (('--gin_file=bitflip.gin', '--gin_binding=x'), 'gin_bindings'),
    (('--gin_file=bitflip.gin', '--nonsense'), "'nonsense'"),
    (('--gin_file=bitflip.gin', '--seed=one'), '--seed=one'),
    (('--gin_file=bitflip.gin', '--seed=-1'), 'in the range [0,'),
    (('--gin_file=bitflip.gin', 'run.interactions=3'), "'run.interactions=3'"),
    (('--gin_file=mujoco_authors_networks.gin',), "run.environment='Half"),
  ],
)
def test_bad_flags(cli, tmp_path, arguments, fix):
  assert fix in _refused(cli, tmp_path, *arguments)


@pytest.mark.parametrize(
  ('binding', 'fix'),
  [
    ('QwrAgent.horizn=2', 'Near it: horizon'),
    ("run.interactions='many'", 'run.interactions must be a whole number'),
    ("run.environment='HalfCheeta-v4'", 'near it: HalfCheetah-v4'),
    ("run.environment='BitFlip-2'", 'use BitFlip-5'),
    ("run.environment='no_such_module:X-v0'", 'no_such_module'),
    ("run.environment='HalfCheetah-v4'", 'use @sampled_behavior_actions'),
    ('actors.ActorNetwork.head_fn=@GaussianHead', 'Use CategoricalHead'),
    ("run.environment='train_test:FiveDict-v0'", 'FlattenObservation'),
    ("run.environment='train_test:FiveMultiDiscrete-v0'", 'TransformAction'),
    ('load_environment.nonsense=3', 'nonsense'),
    ('actor/Adam.learning_rat=3.0', 'learning_rat'),
    ('make_agent.critic_network=@actors.ActorNetwork', 'GatedQNetwork'),
  ],
)
def test_bad_bindings(cli, tmp_path, binding, fix):
  flags = _bindings(*_TINY, binding)
  assert fix in _refused(cli, tmp_path, '--gin_file=bitflip.gin', *flags)


def test_bad_root_dirs(cli, tmp_path):
  (tmp_path / 'file').write_text('mine')
  (tmp_path / 'full').mkdir()
  (tmp_path / 'full' / 'thesis.tex').write_text('mine')
  before = _contents(tmp_path)
  for root_dir in ('file', 'file/run', 'full'):
    for more in ((), ('--overwrite',)):
      code, _, err = cli(
        '--gin_file=bitflip.gin', f'--root_dir={root_dir}', *more
      )
      assert code == 2
      assert err.startswith(f'error: {root_dir} ')
      assert 'choose another --root_dir' in err
  assert _contents(tmp_path) == before


def test_help_is_no_error(cli):
  app.define_help_flags()
  code, out, err = cli('--help')
  assert (code, err) == (0, '')
  for flag in ('gin_file', 'gin_bindings', 'root_dir', 'seed', 'overwrite'):
    assert flag in out


# What goes wrong while running: exit code 1, one line, all so far kept.


@pytest.mark.parametrize(
  ('binding', 'line'),
  [
    ('load_environment.nan_at=50', 'NaN or Inf in the observation of step 50'),
    ('load_environment.interrupt_at=50', 'error: interrupted'),
  ],
)
def test_end_while_running_keeps_what_was_measured(
  cli, tmp_path, binding, line
):
  code, out, err = cli(
    '--gin_file=mujoco_100k.gin',
    '--root_dir=run',
    *_bindings(*_TINY, "run.environment='train_test:Five-v0'", binding),
    *_bindings('run.interactions=1000', 'run.eval_every_env_steps=1000'),
  )
  assert (code, out) == (1, '')
  assert line in err.splitlines()[-1]
  assert err.count('error:') == 1
  rows = _rows(tmp_path / 'run')
  # Steps 41-60 are the third iteration.
  assert [row['interactions'] for row in rows] == ['20', '40']
  assert [row['train_return'] for row in rows] == ['5.0', '5.0']
  facts = _facts(tmp_path / 'run')
  assert (facts['finished'], facts['interactions']) == (False, 40)
  assert (tmp_path / 'run' / 'learning_curve.png').exists()
  assert not list((tmp_path / 'run').rglob('.*'))


def test_nan_in_an_evaluation_keeps_the_iteration(cli, tmp_path):
  code, _, err = cli(
    '--gin_file=mujoco_100k.gin',
    '--root_dir=run',
    *_bindings(*_TINY, "run.environment='train_test:Five-v0'"),
    # Its environment makes 2 x 2 x 5 steps, then up to 2 x 3 x 5.
    *_bindings('load_environment.nan_at=45'),
  )
  assert code == 1
  assert 'the observation of step 45' in err.splitlines()[-1]
  rows = _rows(tmp_path / 'run')
  assert [row['eval_return_mode'] for row in rows] == ['5.0', '']
  assert rows[1]['train_return'] == '5.0'


def test_nan_in_a_loss_names_the_column(cli, tmp_path, monkeypatch):
  build = experiment.build

  def poisoned(*arguments):
    parts = build(*arguments)

    def iterations():
      for number, (collected, scalars) in enumerate(parts.iterations):
        yield collected, scalars | {'q_mean': float('nan') if number else 0.0}

    return parts._replace(iterations=iterations())

  monkeypatch.setattr(experiment, 'build', poisoned)
  code, _, err = cli(
    '--gin_file=bitflip.gin', '--root_dir=run', *_bindings(*_TINY)
  )
  assert code == 1
  assert 'q_mean is nan after 40 interactions' in err.splitlines()[-1]
  assert [row['q_mean'] for row in _rows(tmp_path / 'run')] == ['0.0', 'nan']


# The real thing.


def _start(folder, *arguments):
  environment = {
    **os.environ,
    'PYTHONPATH': str(_ROOT),
    'MPLCONFIGDIR': str(folder / 'mpl'),  # Nothing cached, as at first use.
  }
  return subprocess.Popen(
    [sys.executable, '-m', 'qwr_tf.train', *arguments],
    cwd=folder,
    env=environment,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )


def test_command_prints_the_bar_and_the_score(tmp_path):
  process = _start(
    tmp_path, '--gin_file=mujoco_100k.gin', '--root_dir=run', *_bindings(*_TINY)
  )
  out, err = process.communicate()
  assert process.returncode == 0, err
  assert [line.split()[0] for line in out.splitlines()] == [
    'run',
    'curve',
    'policy',
    'score',
  ]
  lines = err.replace('\r', '\n').strip().splitlines()
  assert all('/40 [' in line for line in lines), err
  # The export is the real one here, and knows what run.json says.
  version = tmp_path / 'run' / 'policy' / '1'
  serve = tf.saved_model.load(str(version)).signatures['serving_default']
  assert serve(observation=tf.zeros([2, 17]))['action'].shape == (2, 6)
  metadata = json.loads((version / 'assets.extra/metadata.json').read_text())
  known = json.loads((tmp_path / 'run' / 'run.json').read_text())
  for name in ('scores', 'interactions', 'config', 'commit', 'versions'):
    assert metadata[name] == known[name]


def test_command_says_what_is_wrong_in_one_line(tmp_path):
  process = _start(tmp_path, '--gin_file=nope.gin')
  out, err = process.communicate()
  assert process.returncode == 2
  assert out == ''
  assert err.startswith("error: gin file 'nope.gin' not found")
  assert err.count('\n') == 1


def test_ctrl_c_leaves_complete_files(tmp_path):
  process = _start(
    tmp_path,
    '--gin_file=bitflip.gin',
    '--root_dir=run',
    *_bindings(*_TINY, 'run.interactions=1000000'),
  )
  deadline = time.monotonic() + 120.0
  while not (tmp_path / 'run' / 'metrics.csv').exists():
    assert process.poll() is None, process.communicate()
    assert time.monotonic() < deadline
    time.sleep(0.05)
  process.send_signal(signal.SIGINT)
  out, err = process.communicate()
  assert process.returncode == 1
  assert out == ''
  last = err.splitlines()[-1]
  assert last == 'error: interrupted (what was measured until then is in run)'
  assert 'Traceback' not in err
  assert _rows(tmp_path / 'run')
  assert _facts(tmp_path / 'run')['finished'] is False
  assert not list((tmp_path / 'run').rglob('.*'))
