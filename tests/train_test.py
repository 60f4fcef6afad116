"""The training command: what it writes, says and refuses.

Most tests call it in this process, with functions run eagerly: two iterations
need no compiled graph. The subprocesses at the end are the real thing.
"""

import csv
import errno
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time
import types

import gin
import gymnasium
import numpy as np
import pytest
import tensorflow as tf
from absl import app
from absl.testing import flagsaver
from gymnasium import spaces

from qwr_tf import environments
from qwr_tf import serving
from qwr_tf import train
from qwr_tf.acting import evaluate
from qwr_tf.acting import numpy_actor
from qwr_tf.acting import stop_request
from qwr_tf.config import command
from qwr_tf.config import gin_files
from qwr_tf.runs import checkpoints
from qwr_tf.runs import run_lock
from qwr_tf.training import experiment
from qwr_tf.training import learning_curve
from qwr_tf.training import metrics
from qwr_tf.training import stop_signals
from qwr_tf.training import training_command
from qwr_tf.training import training_run
from tests.serving import policies

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
  'Collector.first_env_steps=None',
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
    frame_at=None,
    length=5,
    render_mode=None,
  ):
    self.render_mode = render_mode
    self._frame_at, self._length = frame_at, length
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
    return observation, 1.0, self._time == self._length, False, {}

  def render(self):
    """A screen; without `frame_at` there is none, from that step on either."""
    if self._frame_at is not None and self._steps < self._frame_at:
      return np.zeros([8, 8, 3], np.uint8)
    return None


def _register(name, **kwargs):
  gymnasium.register(f'{name}-v0', entry_point=_Five, kwargs=kwargs)


_register('Five')
_register('FiveText', observation_space=spaces.Text(3))
_register('FiveDict', action_space=spaces.Dict({'x': _VECTOR}))


@pytest.fixture(autouse=True)
def _isolated(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  tf.config.run_functions_eagerly(True)
  yield
  tf.config.run_functions_eagerly(False)
  gin.clear_config()


def _bindings(*bindings):
  return [f'--gin_bindings={binding}' for binding in bindings]


@pytest.fixture(name='cli')
def _cli(monkeypatch, capsys):
  """Runs the command in this process: (exit code, stdout, stderr)."""
  monkeypatch.setattr(os, 'fsync', lambda _: None)
  monkeypatch.setattr(serving, 'export', policies.note_export)
  monkeypatch.setattr(learning_curve, 'draw', lambda *_: b'PNG')

  def run(*arguments, main=train.main):
    argv = ['qwr_tf.train', *arguments]
    monkeypatch.setattr(sys, 'argv', argv)
    code = 0
    with flagsaver.flagsaver():
      try:
        command.parse_flags(argv)
        command.guarded(main)
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


# One of each relative; contract_test.py trains all gin files.
@pytest.mark.slow
@pytest.mark.parametrize(
  'file',
  [
    'awac_bitflip.gin',
    'awr_bitflip.gin',
    'bc_bitflip.gin',
    'crr_bitflip.gin',
    'dqn_bitflip.gin',
    'rwr_bitflip.gin',
  ],
)
def test_every_relative_runs_two_iterations(cli, tmp_path, file):
  code, out, err = cli(
    f'--gin_file={file}', '--root_dir=run', *_bindings(*_TINY)
  )
  assert code == 0, err
  rows = _rows(tmp_path / 'run')
  assert [row['iteration'] for row in rows] == ['1', '2']
  assert int(rows[1]['interactions']) >= 40
  for name in ('critic', 'actor'):  # Empty where a network does not learn.
    loss = rows[1][f'{name}_loss']
    assert (
      np.isfinite(float(loss))
      if rows[1][f'{name}_steps'] != '0'
      else (loss == '')
    )
  assert 'score' in out


# What a run leaves behind.


@pytest.fixture(scope='module')
def _kept(tmp_path_factory):
  return tmp_path_factory.mktemp('kept'), {}


@pytest.fixture(name='cli_once')
def _cli_once(cli, tmp_path, _kept):
  """As `cli`, but runs a command once; later tests get a copy of its files."""
  folder, results = _kept

  def run(*arguments):
    files = folder / str(abs(hash(arguments)))
    if files.exists():
      shutil.copytree(files, tmp_path, dirs_exist_ok=True)
    else:
      results[arguments] = cli(*arguments)
      shutil.copytree(tmp_path, files)
    return results[arguments]

  return run


@pytest.fixture(name='bitflip')
def _bitflip(cli_once, tmp_path):
  arguments = ('--gin_file=bitflip.gin', *_bindings(*_TINY))
  code, out, err = cli_once(*arguments)
  assert code == 0, err
  (folder,) = (tmp_path / 'runs').iterdir()
  return arguments, folder, out, err


@pytest.mark.slow
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


@pytest.mark.slow
def test_a_configuration_with_the_same_values_is_the_same_run(bitflip, cli):
  """An older edition's presets bound what the code has as its default."""
  arguments, folder, _, _ = bitflip
  arguments = *arguments, f'--root_dir={folder}'
  facts = _facts(folder)
  same = f'{facts["config"]}\nQwrAgent.gamma = 0.99\n'
  (folder / 'run.json').write_text(json.dumps({**facts, 'config': same}))
  assert cli(*arguments)[1].startswith('This run is finished')
  for line in ('QwrAgent.gamma = 0.9', 'import os', 'no_such.name = 1'):
    other = f'{facts["config"]}\n{line}\n'
    (folder / 'run.json').write_text(json.dumps({**facts, 'config': other}))
    code, _, err = cli(*arguments)
    assert code == 2 and 'another run' in err and err.count('\n') == 1


@pytest.mark.slow
def test_rows_and_scores_of_a_run(bitflip):
  _, folder, out, _ = bitflip
  first, last = _rows(folder)
  # 2 of 2 critic and 2 actor steps; 20 and 40 interactions; an evaluation of
  # 2 episodes, then the final one of 3.
  counted = ('interactions', 'critic_steps', 'actor_steps', 'eval_episodes')
  assert [first[name] for name in counted] == ['20', '2', '2', '2']
  assert [last[name] for name in counted] == ['40', '4', '4', '3']
  for name in ('critic_loss', 'actor_loss'):
    assert np.isfinite(float(last[name]))
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


def test_print_config_prints_every_value_and_writes_nothing(cli, tmp_path):
  root_dir = tmp_path / 'run'
  arguments = f'--root_dir={root_dir}', *_bindings('iterate.rounds = 7')
  code, out, err = cli('--gin_file=bitflip.gin', '--print_config', *arguments)
  assert (code, err) == (0, '')
  lines = [' '.join(line.split()) for line in out.splitlines()]
  assert 'iterate.rounds = 7 # --gin_bindings' in lines
  assert 'CategoricalHead.output_limit = None' in out
  assert 'GaussianHead' not in out
  assert not root_dir.exists()


@pytest.mark.slow
def test_operative_configuration_can_be_run_again(bitflip):
  _, folder, _, _ = bitflip
  gin_files.parse([str(folder / 'config.gin')], [])
  assert gin.query_parameter('iterate.batch_size') == 4
  # Not in any gin file: a default that was used.
  assert gin.query_parameter('iterate.rounds') == 1
  assert experiment.settings().interactions == 40


@pytest.mark.slow
def test_same_command_again_says_so_and_changes_nothing(bitflip, cli):
  arguments, folder, out, _ = bitflip
  before = _contents(folder)
  # The order of the bindings is no other configuration.
  code, again, err = cli(arguments[0], *reversed(arguments[1:]))
  assert (code, err) == (0, '')
  assert again.splitlines()[0].startswith('This run is finished')
  assert again.splitlines()[1:] == out.splitlines()
  assert _contents(folder) == before


def test_another_configuration_is_another_folder():
  names = []
  for more in ([], ['--seed=1'], _bindings('iterate.batch_size=3')):
    with flagsaver.flagsaver():
      command.parse_flags(['train', '--gin_file=bitflip.gin', *more])
      config = training_command.configuration()
      path = training_command.run_path(config, experiment.settings())
      names.append(path.name.rsplit('-', 1))
  assert [name for name, _ in names] == [
    'bitflip-BitFlip-20-s0',
    'bitflip-BitFlip-20-s1',
    'bitflip-BitFlip-20-s0',
  ]
  digests = [digest for _, digest in names]
  assert digests[0] == digests[1] != digests[2]


@pytest.mark.slow
def test_root_dir_of_another_run(bitflip, cli):
  arguments, folder, _, _ = bitflip
  before = _contents(folder)
  changed = (*arguments, f'--root_dir={folder}', *_bindings('QwrAgent.gamma=1'))
  code, _, err = cli(*changed)
  assert code == 2
  assert 'QwrAgent.gamma: not set there, 1 here' in err
  assert _contents(folder) == before
  # What cannot run replaces nothing, --overwrite or not.
  broken = _bindings("ENVIRONMENT='Hopper-v4'")
  assert cli(*changed, '--overwrite', *broken)[0] == 2
  assert _contents(folder) == before
  assert cli(*changed, '--overwrite')[0] == 0
  facts = _facts(folder)
  assert 'QwrAgent.gamma = 1\n' in facts['config'] and 'resumed' not in facts
  assert len(_rows(folder)) == 2
  assert len(list((folder / 'tensorboard').iterdir())) == 1


class _Images(gymnasium.Env):
  """Episodes of five steps with images as observations."""

  action_space = spaces.Discrete(2)

  def __init__(self, shape):
    self.observation_space = spaces.Box(0, 255, shape, np.uint8)

  def reset(self, *, seed=None, options=None):
    super().reset(seed=seed)
    self._time = 0
    return np.zeros(self.observation_space.shape, np.uint8), {}

  def step(self, action):
    self._time += 1
    image = np.full(self.observation_space.shape, self._time, np.uint8)
    return image, 1.0, self._time == 5, False, {}


gymnasium.register('Images-v0', entry_point=_Images)


@pytest.mark.slow
@pytest.mark.parametrize('shape', [(3, 64, 64), (10, 10, 4)])
def test_images_of_ones_own_take_one_command(cli, tmp_path, shape):
  code, _, err = cli(
    '--env=train_test:Images-v0',
    '--root_dir=run',
    *_bindings(
      *_TINY, f'load_environment.shape={shape}', 'run.interactions=20'
    ),
  )
  assert code == 0, err
  facts = _facts(tmp_path / 'run')
  assert facts['scores']['eval_return_mode'] == 5.0
  assert facts['preset'] == 'pixels'


@pytest.mark.slow
def test_bar_does_not_flood_a_log_file(bitflip):
  _, _, _, err = bitflip
  first, last = err.strip().splitlines()
  assert ': 0 of 40 interactions, 00:00 spent' in first
  assert ': 40 of 40 interactions, 00:' in last
  assert 'eval_return_mode=' in last


# Evaluations.


_TRAINING = ('train_return', 'critic_loss', 'actor_loss', 'q_mean')


def _trained(cli, folder, *arguments):
  root_dir = f'--root_dir={folder}'
  flags = '--gin_file=bitflip.gin', root_dir, *_bindings(*_TINY), *arguments
  assert cli(*flags)[0] == 0
  rows = _rows(folder)
  return [[row[name] for name in _TRAINING] for row in rows], rows


@pytest.mark.slow
def test_a_run_bears_the_names_of_all_its_gin_files(cli, tmp_path):
  (tmp_path / 'mine.gin').write_text('QwrAgent.gamma = 0.5')
  run = tmp_path / 'run'
  _trained(cli, run, '--gin_file=mine.gin', '--interactions=20')
  assert _facts(run)['preset'] == 'bitflip+mine'


@pytest.mark.slow
def test_evaluating_does_not_change_training(cli, tmp_path):
  often, rows = _trained(cli, tmp_path / 'often')
  seldom, others = _trained(
    cli, tmp_path / 'seldom', *_bindings('run.eval_every_env_steps=1000')
  )
  assert [row['eval_episodes'] for row in rows] == ['2', '3']
  assert [row['eval_episodes'] for row in others] == ['', '3']
  assert often == seldom
  other_seed, _ = _trained(cli, tmp_path / 'seed', '--seed=1')
  assert other_seed != often


@pytest.mark.slow
def test_evaluator_plays_whole_episodes(tmp_path):
  gin_files.parse(
    ['mujoco_100k.gin'], ["run.environment='train_test:Five-v0'", *_TINY]
  )
  parts = experiment.build(experiment.settings(), seed=0)
  for sampled in (False, True):
    # Five rewards of 1, undiscounted, however the last call ended.
    assert parts.evaluator.returns(3, sampled=sampled) == [5.0, 5.0, 5.0]


@pytest.mark.slow
def test_mode_is_not_sampled():
  gin_files.parse(
    ['mujoco_100k.gin'], ["run.environment='Pendulum-v1'", *_TINY]
  )
  agent = experiment.build(experiment.settings(), seed=0).agent

  def score(seed, sampled):
    # The same start, so that only actions can make a difference.
    env = environments.load('Pendulum-v1', max_episode_steps=20)
    env.seed = lambda _: environments.GymnasiumWrapper.seed(env, 7)
    evaluator = evaluate.Evaluator(
      [env], numpy_actor.NumpyActor(agent.acting_network), seed=seed
    )
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
    ((), '--gin_file=vector.gin'),
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


@pytest.mark.slow
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
    ("run.environment='train_test:FiveText-v0'", 'FlattenObservation'),
    ("run.environment='train_test:FiveDict-v0'", 'TransformAction'),
    ('load_environment.nonsense=3', 'nonsense'),
    # Numbers that no machine holds.
    ("run.environment='BitFlip-99999999999'", 'more than 1000000 bits'),
    ('run.replay_capacity=20000000000', 'run.replay_capacity = 20000000000'),
    ('run.replay_capacity=99999999999999999999', 'less than 2**63'),
    ('mlp_torso.units=(10000000000,)', 'mlp_torso.units must be between'),
    ('iterate.critic_steps=99999999999999999999', 'iterate.critic_steps must'),
    ('Adam.learning_rate=1e400', 'Adam.learning_rate must be finite'),
    ('run.eval_environments=1000000', 'run.eval_environments must be'),
    ('actor/Adam.learning_rat=3.0', 'learning_rat'),
    ('make_agent.critic_network=@actors.ActorNetwork', 'GatedQNetwork'),
  ],
)
def test_bad_bindings(cli, tmp_path, binding, fix):
  flags = _bindings(*_TINY, binding)
  assert fix in _refused(cli, tmp_path, '--gin_file=bitflip.gin', *flags)


@pytest.mark.slow
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


_FIVE = (
  '--gin_file=mujoco_100k.gin',
  '--root_dir=run',
  *_bindings(
    *_TINY,
    "run.environment='train_test:Five-v0'",
    'run.interactions=80',
    'run.checkpoint_every_seconds=0',
  ),
)


def _check_what_was_measured(run):
  rows, facts = _rows(run), _facts(run)
  # Steps 41-60 are the third iteration.
  assert [row['interactions'] for row in rows] == ['20', '40']
  assert [row['train_return'] for row in rows] == ['5.0', '5.0']
  assert (facts['finished'], facts['interactions']) == (False, 40)
  assert (run / 'learning_curve.png').exists()
  assert not list(run.rglob('.*'))


@pytest.mark.slow
def test_nan_while_running_keeps_what_was_measured(cli, tmp_path):
  code, out, err = cli(*_FIVE, *_bindings('load_environment.nan_at=51'))
  assert (code, out, err.count('error:')) == (1, '', 1)
  last = err.splitlines()[-1]
  assert 'NaN or Inf in the observation of step 50' in last
  assert (tmp_path / 'run' / 'offending_batch.npz').exists()
  _check_what_was_measured(tmp_path / 'run')


@pytest.mark.slow
def test_nan_in_an_evaluation_keeps_the_iteration(cli, tmp_path):
  code, _, err = cli(
    '--gin_file=mujoco_100k.gin',
    '--root_dir=run',
    *_bindings(*_TINY, "run.environment='train_test:Five-v0'"),
    # Its environment makes a step, 2 x 2 x 5, then up to 2 x 3 x 5.
    *_bindings('load_environment.nan_at=46', 'run.eval_environments=1'),
  )
  assert code == 1
  assert 'the observation of step 45' in err.splitlines()[-1]
  rows = _rows(tmp_path / 'run')
  assert [row['eval_return_mode'] for row in rows] == ['5.0', '']
  assert rows[1]['train_return'] == '5.0'


@pytest.mark.slow
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


# Going on. tests/training/resume_test.py kills real processes.

_INTERRUPTED = (*_FIVE, *_bindings('load_environment.interrupt_at=55'))


@pytest.fixture(name='interrupted')
def _interrupted(cli_once, tmp_path):
  """An unfinished run of 40 interactions; the next start makes 40 more."""
  code, out, err = cli_once(*_INTERRUPTED)
  assert (code, out, err.count('error:')) == (1, '', 1)
  last = err.splitlines()[-1]
  assert last.startswith('error: interrupted')
  assert last.endswith('goes on from the last checkpoint)')
  return tmp_path / 'run'


def _measured(folder):
  return [
    {k: v for k, v in row.items() if 'second' not in k} for row in _rows(folder)
  ]


@pytest.mark.slow
def test_an_interruption_keeps_what_was_measured(interrupted):
  _check_what_was_measured(interrupted)
  assert not (interrupted / 'offending_batch.npz').exists()


@pytest.mark.slow
def test_the_same_command_goes_on(cli, interrupted, tmp_path):
  code, out, err = cli(*_INTERRUPTED)
  assert code == 0, err
  facts = _facts(interrupted)
  assert (facts['finished'], facts['interactions']) == (True, 80)
  assert facts['resumed'] == [{'interactions': 40}]
  assert ': 40 of 80 ' in err.splitlines()[0]  # Where the bar begins.
  names = {p.name for p in (interrupted / 'checkpoints').iterdir()}
  assert names == {'00000004', 'best', 'final'}
  # As if nothing had been.
  assert cli(*_FIVE, '--root_dir=never')[0] == 0
  assert _measured(interrupted) == _measured(tmp_path / 'never')
  assert cli(*_INTERRUPTED)[1].startswith('This run is finished')


_BITFLIP = ('--gin_file=bitflip.gin', '--root_dir=run', *_bindings(*_TINY))


@pytest.mark.slow
def test_a_finished_run_is_prolonged(cli, cli_once, tmp_path):
  assert cli_once(*_BITFLIP)[0] == 0
  run = tmp_path / 'run'
  scores = _facts(run)['scores']
  code, _, err = cli(*_BITFLIP, '--interactions=80', '--seed=1')
  assert code == 2 and 'seed: 0 there, 1 here' in err
  code, _, err = cli(*_BITFLIP, '--interactions=80')
  assert code == 0, err
  facts = _facts(run)
  assert (facts['finished'], facts['interactions']) == (True, 80)
  (earlier,) = facts['prolonged']
  assert (earlier['interactions'], earlier['scores']) == (40, scores)
  # As if its budget had been larger at once: its step sizes are constant.
  never = (*_BITFLIP, '--root_dir=never', '--interactions=80')
  assert cli(*never)[0] == 0
  assert _measured(run) == _measured(tmp_path / 'never')
  assert cli(*_BITFLIP, '--interactions=80')[1].startswith('This run is fin')
  code, _, err = cli(*_BITFLIP)
  assert code == 2 and 'run.interactions: 80 there, 40 here' in err
  assert cli(*_BITFLIP, '--interactions=100')[0] == 0
  assert [e['interactions'] for e in _facts(run)['prolonged']] == [40, 80]


@pytest.mark.slow
def test_a_run_whose_checkpoint_was_not_kept_is_not_prolonged(cli, tmp_path):
  run = (*_BITFLIP, *_bindings('run.keep_checkpoint=False'))
  assert cli(*run)[0] == 0
  before = _contents(tmp_path / 'run')
  code, _, err = cli(*run, '--interactions=80')
  assert code == 2 and 'run.warm_start' in err
  assert _contents(tmp_path / 'run') == before
  # Which --overwrite does not mean.
  assert cli(*run, '--interactions=80', '--overwrite')[0] == 0
  facts = _facts(tmp_path / 'run')
  assert facts['interactions'] == 80 and 'prolonged' not in facts


@pytest.mark.slow
def test_a_warm_start_that_fails_changes_nothing(cli, tmp_path):
  wrong = _bindings("run.warm_start='nowhere'")
  code, _, err = cli(*_BITFLIP, *wrong)
  assert code == 2 and 'run.warm_start: nowhere' in err
  assert cli(*_BITFLIP)[0] == 0  # The command without the error.
  before = _contents(tmp_path / 'run')
  assert cli(*_BITFLIP, *wrong, '--overwrite')[0] == 2
  assert _contents(tmp_path / 'run') == before
  # The run that is replaced is there to begin with.
  own = _bindings("run.warm_start='run'")
  assert cli(*_BITFLIP, *own, '--overwrite')[0] == 0


@pytest.mark.slow
def test_the_best_policy_is_kept(cli, tmp_path, monkeypatch):
  scores = iter([1.0, 5.0, 5.0, 2.0])

  def evaluation(*_):
    score = next(scores)
    return {
      'eval_return_mode': score,
      'eval_return_sampled': 0.0,
      'eval_episodes': 1,
    }

  monkeypatch.setattr(training_run, 'evaluation', evaluation)
  weights = {}

  def hook(phase, run):
    if phase == 'iterated':
      weights[run.interactions] = run.parts.agent.actor_network.get_weights()

  config = training_command.configuration
  code, _, err = cli(
    *_BITFLIP,
    '--interactions=80',
    main=lambda: training_command.run(config(), serving.export, hook=hook),
  )
  assert code == 0, err
  facts = _facts(tmp_path / 'run')
  assert facts['best']['interactions'] == 60
  assert facts['best']['eval_return_mode'] == 5.0
  for best, interactions in ((True, 60), (False, 80)):
    agent = serving.load_agent(tmp_path / 'run', facts, best=best)
    for there, here in zip(
      agent.actor_network.get_weights(), weights[interactions], strict=True
    ):
      np.testing.assert_array_equal(there, here)


@pytest.mark.slow
def test_an_unfinished_run_is_exported(cli, interrupted, tmp_path):
  facts = _facts(interrupted)
  agent = serving.load_agent(interrupted, facts, trusted=['train_test'])
  assert int(agent.critic_steps.numpy()) == 4


@pytest.mark.slow
def test_checkpoints_are_made_by_time(cli, tmp_path):
  # None within 1000 seconds but the one before the first iteration.
  often = _bindings('run.checkpoint_every_seconds=1000')
  code, _, _ = cli(*_INTERRUPTED, *often)
  folder = tmp_path / 'run'
  assert code == 1 and len(_rows(folder)) == 2
  (only,) = (folder / 'checkpoints').glob('0*')
  assert only.name == '00000000'


@pytest.mark.slow
def test_an_unfinished_run_of_another_configuration_is_kept(cli, interrupted):
  before = _contents(interrupted)
  code, _, err = cli(*_INTERRUPTED, *_bindings('QwrAgent.gamma=0.5'))
  assert code == 2
  assert 'QwrAgent.gamma: not set there, 0.5 here' in err
  assert _contents(interrupted) == before


@pytest.mark.slow
def test_without_an_intact_checkpoint_nothing_is_touched(cli, interrupted):
  for file in interrupted.glob('checkpoints/*/state.json'):
    file.write_text(file.read_text()[:-1])
  before = _contents(interrupted)
  code, out, err = cli(*_INTERRUPTED)
  assert (code, out) == (2, '')
  assert err.startswith('error: run/checkpoints/00000002 cannot be used: state')
  assert '--overwrite' in err
  assert _contents(interrupted) == before


@pytest.mark.slow
def test_a_run_without_its_checkpoints_is_refused(cli, interrupted):
  shutil.rmtree(interrupted / 'checkpoints')
  metrics_before = (interrupted / 'metrics.csv').read_bytes()
  code, _, err = cli(*_INTERRUPTED)
  assert code == 2
  assert 'no checkpoint; start it anew with --overwrite' in err
  assert (interrupted / 'metrics.csv').read_bytes() == metrics_before


@pytest.mark.slow
def test_two_processes_do_not_share_a_folder(cli, interrupted):
  before = _contents(interrupted)
  with run_lock.held(interrupted):
    code, _, err = cli(*_INTERRUPTED)
  assert code == 2
  assert f'in use by process {os.getpid()} on ' in err
  assert _contents(interrupted) == before


@pytest.mark.slow
def test_a_full_disk_leaves_what_was_complete(cli, tmp_path, monkeypatch):
  arguments, replace = (*_FIVE, *_bindings('run.interactions=40')), os.replace

  def full(source, target):
    if pathlib.Path(target).name == 'metrics.csv':
      raise OSError(errno.ENOSPC, 'No space left on device')
    replace(source, target)

  with monkeypatch.context() as patch:
    patch.setattr(os, 'replace', full)
    code, _, err = cli(*arguments)
  assert code == 1
  last = err.splitlines()[-1]
  assert last.startswith('error: run/')
  assert 'metrics.csv: No space left on device; what was complete' in last
  assert not list((tmp_path / 'run').rglob('.*'))
  assert cli(*arguments)[0] == 0
  rows = _rows(tmp_path / 'run')
  assert [row['interactions'] for row in rows] == ['20', '40']


# The real thing.


def _start(folder, *arguments, **environment):
  return subprocess.Popen(
    [sys.executable, '-m', 'qwr_tf.train', *arguments],
    cwd=folder,
    env={**os.environ, 'PYTHONPATH': str(_ROOT), **environment},
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )


@pytest.mark.slow
def test_command_prints_the_bar_and_the_score(tmp_path):
  process = _start(
    tmp_path,
    '--gin_file=mujoco_100k.gin',
    '--root_dir=run',
    *_bindings(*_TINY, 'mlp_torso.units=(8,)'),
    MPLCONFIGDIR=str(tmp_path / 'mpl'),  # Nothing cached, as at first use.
  )
  out, err = process.communicate()
  assert process.returncode == 0, err
  assert [line.split()[0] for line in out.splitlines()] == [
    'run',
    'curve',
    'policy',
    'score',
  ]
  assert all(' of 40 ' in line for line in err.splitlines()), err
  # The export is the real one here, and knows what run.json says.
  version = tmp_path / 'run' / 'policy' / '1'
  serve = tf.saved_model.load(str(version)).signatures['serving_default']
  assert serve(observation=tf.zeros([2, 17]))['action'].shape == (2, 6)
  metadata = json.loads((version / 'assets.extra/metadata.json').read_text())
  known = json.loads((tmp_path / 'run' / 'run.json').read_text())
  for name in ('scores', 'interactions', 'config', 'commit', 'versions'):
    assert metadata[name] == known[name]


@pytest.mark.slow
def test_command_says_what_is_wrong_in_one_line(tmp_path):
  process = _start(tmp_path, '--gin_file=nope.gin')
  out, err = process.communicate()
  assert process.returncode == 2
  assert out == ''
  assert err.startswith("error: gin file 'nope.gin' not found")
  assert err.count('\n') == 1


@pytest.mark.slow
def test_ctrl_c_leaves_complete_files(tmp_path):
  process = _start(
    tmp_path,
    '--gin_file=bitflip.gin',
    '--root_dir=run',
    *_bindings(*_TINY, 'run.interactions=1000000', 'mlp_torso.units=(8,)'),
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
  assert last == (
    'error: interrupted (results so far are in run; the same '
    'command goes on from the last checkpoint)'
  )
  assert 'Traceback' not in err
  assert 'once more ends it at once' in err
  assert _rows(tmp_path / 'run')
  facts = _facts(tmp_path / 'run')
  assert facts['finished'] is False
  assert not list((tmp_path / 'run').rglob('.*'))
  # The iteration that was running came to its end, and was saved.
  *_, newest = sorted((tmp_path / 'run' / 'checkpoints').glob('0*'))
  assert int(newest.name) == facts['interactions'] // 20


@pytest.mark.slow
def test_a_stop_within_the_last_iteration_leaves_the_evaluation(
  cli, tmp_path, monkeypatch
):
  class Stopped(stop_signals.Interruption):
    def __enter__(self):
      super().__enter__().requested = True
      stop_request.request()
      return self

  arguments = (
    '--gin_file=bitflip.gin',
    '--root_dir=run',
    *_bindings(*_TINY, 'run.interactions=20'),
  )
  with monkeypatch.context() as patch:
    patch.setattr(stop_signals, 'Interruption', Stopped)
    code, _, err = cli(*arguments)
  assert code == 1 and 'interrupted' in err
  assert _facts(tmp_path / 'run')['finished'] is False
  assert not (tmp_path / 'run' / 'metrics.csv').exists()
  assert cli(*arguments)[0] == 0
  facts = _facts(tmp_path / 'run')
  assert facts['finished'] and facts['interactions'] == 20
  assert [row['iteration'] for row in _rows(tmp_path / 'run')] == ['1']


# Evaluations that do not end, and products that fail.


@pytest.mark.slow
def test_an_interrupted_evaluation_is_played_by_the_next_start(cli, tmp_path):
  five = _bindings(*_TINY, "run.environment='train_test:Five-v0'")
  arguments = (
    '--gin_file=mujoco_100k.gin',
    *five,
    # The evaluations' environment: 2 x 2 x 5 steps, then up to 2 x 3 x 5.
    *_bindings('load_environment.interrupt_at=45', 'run.eval_environments=1'),
  )
  code, _, err = cli(*arguments, '--root_dir=run')
  assert code == 1 and 'interrupted' in err
  run = tmp_path / 'run'
  # Both iterations are saved, the first also by its row.
  assert (run / 'checkpoints' / '00000002').exists()
  assert [row['interactions'] for row in _rows(run)] == ['20']
  code, _, err = cli(*arguments, '--root_dir=run')
  assert code == 0, err
  assert _facts(run)['resumed'] == [{'interactions': 40}]
  assert cli('--gin_file=mujoco_100k.gin', *five, '--root_dir=never')[0] == 0
  rows, others = _measured(run), _measured(tmp_path / 'never')
  assert rows == others
  assert [row['eval_episodes'] for row in rows] == ['2', '3']


@pytest.mark.slow
def test_ctrl_c_ends_an_evaluation_without_end(cli, tmp_path):
  def hook(phase, _):
    if phase == 'evaluation':
      os.kill(os.getpid(), signal.SIGINT)

  config = training_command.configuration
  code, _, err = cli(
    '--gin_file=mujoco_100k.gin',
    '--root_dir=run',
    *_bindings(*_TINY, "run.environment='train_test:Five-v0'"),
    *_bindings(
      'load_environment.length=1000000000',
      'load_environment.max_episode_steps=1000000000',
    ),
    main=lambda: training_command.run(config(), serving.export, hook=hook),
  )
  assert code == 1
  assert 'interrupted (results so far are in run;' in err
  assert (tmp_path / 'run' / 'checkpoints' / '00000001').exists()


@pytest.mark.slow
def test_the_checkpoint_comes_before_the_evaluation(cli, tmp_path):
  phases = []

  def hook(phase, run):
    phases.append((phase, run.iteration))

  config = training_command.configuration
  code, _, err = cli(
    '--gin_file=bitflip.gin',
    '--root_dir=run',
    *_bindings(*_TINY, 'run.checkpoint_every_seconds=0'),
    main=lambda: training_command.run(config(), serving.export, hook=hook),
  )
  assert code == 0, err
  assert phases == [
    ('checkpoint', 0),
    ('iteration', 0),
    ('checkpoint', 1),
    ('evaluation', 1),
    ('iterated', 1),
    ('iteration', 1),
    ('checkpoint', 2),
    ('evaluation', 2),
    ('iterated', 2),
    ('products', 2),
    ('finish', 2),
    ('end', 2),
  ]


@pytest.mark.slow
def test_an_interruption_after_the_checkpoint_is_saved_as_well(cli, tmp_path):
  def hook(phase, run):
    if (phase, run.iteration) == ('iterated', 1):
      signal.raise_signal(signal.SIGINT)

  config = training_command.configuration
  code, _, err = cli(
    '--gin_file=bitflip.gin',
    '--root_dir=run',
    *_bindings(*_TINY),
    main=lambda: training_command.run(config(), serving.export, hook=hook),
  )
  assert code == 1, err
  assert 'interrupted' in err
  *_, newest = sorted((tmp_path / 'run' / 'checkpoints').glob('0*'))
  assert int(newest.name) == 1


def _filmed(cli, *bindings):
  return cli(
    '--gin_file=mujoco_100k.gin',
    '--root_dir=run',
    '--video',
    *_bindings(*_TINY, "run.environment='train_test:Five-v0'", *bindings),
  )


@pytest.mark.slow
def test_an_environment_without_frames_is_refused_before_the_run(cli, tmp_path):
  code, out, err = _filmed(cli)
  assert (code, out) == (2, '')
  assert err.startswith('error: --video: ') and err.count('\n') == 1
  assert 'render() returns' in err
  assert not (tmp_path / 'run').exists()


@pytest.mark.slow
def test_a_video_that_fails_costs_a_warning(cli, tmp_path, caplog):
  code, out, err = _filmed(cli, 'load_environment.frame_at=3')
  assert code == 0, err
  assert 'score   5.0' in out and 'video' not in out
  (message,) = [m for m in caplog.messages if 'video.mp4' in m]
  assert 'video.mp4 is missing (ValueError: render() returns' in message
  assert _facts(tmp_path / 'run')['finished'] is True
  assert not list((tmp_path / 'run').rglob('.*'))


@pytest.mark.slow
def test_a_learning_curve_that_fails_costs_a_warning(
  cli, tmp_path, monkeypatch, caplog
):
  def fail(*_):
    raise RuntimeError('no fonts')

  monkeypatch.setattr(learning_curve, 'draw', fail)
  code, _, err = cli(
    '--gin_file=bitflip.gin', '--root_dir=run', *_bindings(*_TINY)
  )
  assert code == 0, err
  assert 'learning_curve.png is missing (RuntimeError: no fonts' in caplog.text
  assert _facts(tmp_path / 'run')['finished'] is True


@pytest.mark.slow
def test_a_checkpoint_of_another_seed_is_refused(cli, interrupted):
  facts = _facts(interrupted) | {'seed': 1}
  (interrupted / 'run.json').write_text(json.dumps(facts))
  before = _contents(interrupted / 'checkpoints')
  code, _, err = cli(*_INTERRUPTED, '--seed=1')
  assert code == 2
  assert 'is a checkpoint of another run' in err and err.count('\n') == 1
  assert _contents(interrupted / 'checkpoints') == before


def test_scores_have_the_names_of_how_the_policy_acted():
  def returns(episodes, *, sampled, number):
    assert (episodes, number) == (2, 7)
    return [1.0, 2.0] if sampled else [30.0, 40.0]

  evaluator = types.SimpleNamespace(returns=returns)
  assert training_run.evaluation(evaluator, episodes=2, number=7) == {
    'eval_return_mode': 35.0,
    'eval_return_sampled': 1.5,
    'eval_episodes': 2,
  }


@pytest.mark.slow
def test_a_binding_that_changes_nothing_is_told_once(cli, tmp_path, caplog):
  bindings = _bindings(*_TINY, 'polyak_update.target_update_tau=0.5')
  cli('--gin_file=bitflip.gin', f'--root_dir={tmp_path / "run"}', *bindings)
  told = [r.getMessage() for r in caplog.records if 'nothing' in r.getMessage()]
  assert told == [
    'polyak_update.target_update_tau changes nothing in this run.'
  ]


@pytest.mark.slow
def test_what_run_json_and_evaluations_count(cli, tmp_path, monkeypatch):
  numbers, finished = [], []
  returns, retire = evaluate.Evaluator.returns, checkpoints.Checkpoints.retire

  def counted(self, episodes, *, sampled, number=0):
    numbers.append(number)
    return returns(self, episodes, sampled=sampled, number=number)

  def retired(self, keep):
    finished.append(_facts(tmp_path / 'run').get('finished'))
    retire(self, keep)

  monkeypatch.setattr(evaluate.Evaluator, 'returns', counted)
  monkeypatch.setattr(checkpoints.Checkpoints, 'retire', retired)
  code, _, err = cli(
    '--gin_file=bitflip.gin',
    '--root_dir=run',
    *_bindings(*_TINY, 'iterate.critic_steps=3'),
  )
  assert code == 0, err
  assert numbers == [20, 20, 40, 40]  # Interactions; the mode, then samples.
  assert finished == [True]  # Else a kill here would leave no way on.
  facts, last = _facts(tmp_path / 'run'), _rows(tmp_path / 'run')[-1]
  for name in ('critic_steps', 'actor_steps'):
    assert facts[name] == int(last[name])
  assert facts['critic_steps'] != facts['actor_steps']
