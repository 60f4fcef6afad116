"""--strategy, --tpu, --jit: what they make, and what they refuse in time."""

import itertools
import json
import os
import pathlib
import socket
import subprocess
import sys
import time

import pytest
import tensorflow as tf
from absl.testing import flagsaver

from qwr_tf import datasets
from qwr_tf import environments
from qwr_tf.acting import recording
from qwr_tf.config import command
from qwr_tf.config.errors import ConfigError
from qwr_tf.runs import run_folder
from qwr_tf.training import deadlines
from qwr_tf.training import strategies

_ROOT = pathlib.Path(__file__).resolve().parents[2]
_TINY = (
  'run.interactions=40',
  'run.replay_capacity=100',
  'run.eval_every_env_steps=40',
  'run.eval_episodes=1',
  'run.final_eval_episodes=1',
  'run.log_every_env_steps=20',
  'Collector.env_steps=20',
  'iterate.critic_steps=3',
  'iterate.actor_steps=3',
  'mlp_torso.units=(8,)',
)


def _closed_port():
  with socket.socket() as listener:
    listener.bind(('127.0.0.1', 0))
    return listener.getsockname()[1]


@pytest.mark.slow
def test_a_run_on_two_replicas_from_logged_data_ends_with_a_policy(tmp_path):
  with environments.load('BitFlip-20', seed=0) as wrapped:
    policy = recording.random_policy(wrapped.env.action_space, seed=0)
    episodes = itertools.islice(recording.play(wrapped.env, policy, 0), 4)
    datasets.write(tmp_path / 'data', episodes, {})
  run = subprocess.run(
    [
      *(sys.executable, '-m', 'qwr_tf.train', '--gin_file=bitflip.gin'),
      *('--strategy=mirrored', '--replicas=2', '--jit'),
      f'--root_dir={tmp_path / "run"}',
      *[f'--gin_bindings={binding}' for binding in _TINY],
      f'--gin_bindings=run.dataset={str(tmp_path / "data")!r}',
      '--gin_bindings=run.offline_iterations=1',
    ],
    env={**os.environ, 'PYTHONPATH': str(_ROOT)},
    capture_output=True,
    text=True,
    check=False,
    timeout=240,
  )
  assert run.returncode == 0, run.stderr
  assert 'score' in run.stdout
  # The progress bar counts what progresses.
  assert ' of 1 iterations' in run.stderr
  assert ' of 40 interactions' in run.stderr
  assert (tmp_path / 'run/policy/1/saved_model.pb').exists()
  facts = json.loads((tmp_path / 'run/run.json').read_text())
  assert facts['critic_steps'] == 9  # One iteration offline, two online.
  rows = (tmp_path / 'run/metrics.csv').read_text().splitlines()
  offline_steps = [line.split(',')[-1] for line in rows]
  assert offline_steps[0] == 'offline_steps'
  assert set(offline_steps[1:]) == {'3'}


# Several hosts. benchmarks/replicas.py starts two workers.


@pytest.fixture(name='parsed')
def _parsed():
  with flagsaver.flagsaver():
    command.parse_flags(['strategies_test'])
    yield


@pytest.fixture(name='second_worker')
def _second_worker(parsed, monkeypatch):
  cluster = {'worker': ['a:1', 'b:1']}
  task = {'type': 'worker', 'index': 1}
  text = json.dumps({'cluster': cluster, 'task': task})
  monkeypatch.setenv('TF_CONFIG', text)
  with flagsaver.flagsaver(strategy='multi_worker'):
    yield


_FACTS = {'config': '', 'environment': 'BitFlip-20', 'seed': 0}


def _folder_with_checkpoints(path):
  for number in ('00000001', '00000002'):
    (path / 'checkpoints' / number).mkdir(parents=True)
    (path / 'checkpoints' / number / 'state.json').write_text(number)
  folder = run_folder.RunFolder(path, _FACTS)
  folder.write_json({})
  return folder


def test_the_second_worker_begins_like_the_first_and_leaves_nothing(
  second_worker, tmp_path
):
  run = _folder_with_checkpoints(tmp_path / 'run')
  assert not strategies.is_first_worker()
  with strategies.folder_for(run, overwrite=False) as copy:
    assert copy.path != run.path and copy.path.name == 'run'
    state = copy.checkpoints / '00000002' / 'state.json'
    assert state.read_text() == '00000002'
    assert copy.recorded('seed') == 0
    assert copy.run_ids == run.run_ids
  assert not copy.path.exists()
  with strategies.folder_for(run, overwrite=True) as copy:
    assert not copy.path.exists()


@pytest.mark.usefixtures('parsed')
def test_one_process_writes_the_run_itself(tmp_path):
  assert strategies.is_first_worker()
  run = run_folder.RunFolder(tmp_path / 'run', _FACTS)
  with strategies.folder_for(run, overwrite=False) as folder:
    assert folder is run


class _Workers:
  """A strategy whose other worker is at iteration 7."""

  run = staticmethod(lambda fn: fn())
  gather = staticmethod(lambda own, axis: tf.concat([own, [7]], axis))


def test_workers_at_different_points_of_a_run_are_told(second_worker):
  placement = strategies.Placement(_Workers, False)
  strategies.check_agreement(placement, 7)
  with pytest.raises(ConfigError, match='iterations 5 and 7.*--root_dir'):
    strategies.check_agreement(placement, 5)


# What is refused


def test_a_tpu_that_does_not_answer_is_named():
  port = _closed_port()
  start = time.monotonic()
  with pytest.raises(ConfigError, match=f'grpc://127.0.0.1:{port}'):
    strategies.tpu(f'grpc://127.0.0.1:{port}', 5.0)
  assert time.monotonic() - start < 10.0


def test_the_name_of_a_tpu_is_resolved_and_its_address_tried(monkeypatch):
  port = _closed_port()

  class _Resolver:
    def __init__(self, name):
      assert name == 'my-tpu'

    def master(self):
      return f'grpc://127.0.0.1:{port}'

  resolvers = tf.distribute.cluster_resolver
  monkeypatch.setattr(resolvers, 'TPUClusterResolver', _Resolver)
  with pytest.raises(ConfigError, match=f'my-tpu at 127.0.0.1:{port}'):
    strategies.tpu('my-tpu', 5.0)


def test_a_name_that_nobody_resolves_is_named(monkeypatch):
  def resolver(name):
    raise RuntimeError(f'no project has {name}')

  resolvers = tf.distribute.cluster_resolver
  monkeypatch.setattr(resolvers, 'TPUClusterResolver', resolver)
  with pytest.raises(ConfigError, match='--tpu=my-tpu: no TPU .*no project'):
    strategies.tpu('my-tpu', 5.0)


@pytest.mark.parametrize(
  'text',
  [
    '',
    'not JSON',
    '{"cluster": {}}',
    '{"cluster": {"worker": ["a:1"]}, "task": {"type": "ps", "index": 0}}',
    '{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 1}}',
  ],
)
def test_a_cluster_that_is_not_described_is_refused(text, monkeypatch):
  monkeypatch.setenv('TF_CONFIG', text)
  with pytest.raises(ConfigError, match='TF_CONFIG'):
    strategies.workers_of_environment()


@pytest.mark.parametrize(
  ('flag', 'value', 'owner'), [('tpu', 'local', 'tpu'), ('replicas', 2, 'mir')]
)
@pytest.mark.usefixtures('parsed')
def test_flags_of_another_strategy_are_refused(flag, value, owner):
  with flagsaver.flagsaver(**{flag: value}):
    with pytest.raises(ConfigError, match=f'--{flag} needs --strategy={owner}'):
      strategies.from_flags()


@pytest.mark.usefixtures('parsed')
def test_the_default_is_tensorflows_own():
  with flagsaver.flagsaver(jit=True):
    strategy, jit = strategies.from_flags()
  assert strategy is tf.distribute.get_strategy()
  assert jit


@pytest.mark.usefixtures('parsed')
def test_on_a_tpu_all_is_compiled_without_a_word_of_ours(monkeypatch):
  monkeypatch.setattr(strategies, 'tpu', lambda name, seconds: name)
  with flagsaver.flagsaver(strategy='tpu', jit=True):
    assert strategies.from_flags() == ('local', False)


@pytest.mark.parametrize(
  ('replicas', 'devices'),
  [(None, ['GPU:0', 'GPU:1']), (1, ['GPU:0']), (2, ['GPU:0', 'GPU:1'])],
)
def test_replicas_are_gpus_where_there_are_some(monkeypatch, replicas, devices):
  monkeypatch.setattr(tf.config, 'list_physical_devices', lambda kind: 'ab')
  monkeypatch.setattr(tf.distribute, 'MirroredStrategy', list)
  assert strategies.mirrored(replicas) == devices


def test_more_replicas_than_gpus_are_refused(monkeypatch):
  monkeypatch.setattr(tf.config, 'list_physical_devices', lambda kind: 'ab')
  with pytest.raises(ConfigError, match='--replicas=3, but there are 2 GPUs'):
    strategies.mirrored(3)


# Deadlines


@pytest.mark.slow
def test_a_wait_that_takes_too_long_ends_the_process_with_a_message():
  code = (
    'import time; from qwr_tf.training import deadlines\n'
    'with deadlines.deadline(0.1, "nobody came."): time.sleep(60)'
  )
  ended = subprocess.run(
    [sys.executable, '-c', code],
    env={**os.environ, 'PYTHONPATH': str(_ROOT)},
    capture_output=True,
    text=True,
    check=False,
    timeout=50,
  )
  assert ended.returncode == 2
  assert ended.stderr == 'error: nobody came.\n'


def test_a_wait_that_ends_in_time_does_nothing():
  with deadlines.deadline(0.05, 'never said'):
    pass
  time.sleep(0.1)


@pytest.mark.parametrize('address', ['127.0.0.1', 'nowhere:x', '127.0.0.1:0'])
def test_an_address_that_is_none_is_named(address):
  with pytest.raises(ConfigError, match='server X cannot be reached'):
    deadlines.check_reachable(address, 1.0, 'server X')


def test_an_address_where_somebody_listens_is_fine():
  with socket.create_server(('127.0.0.1', 0)) as listener:
    port = listener.getsockname()[1]
    deadlines.check_reachable(f'127.0.0.1:{port}', 1.0, 'server X')


@pytest.mark.parametrize(('index', 'is_first'), [(0, True), (1, False)])
def test_only_the_first_worker_writes(parsed, monkeypatch, index, is_first):
  cluster = {'worker': ['a:1', 'b:1']}
  task = {'type': 'worker', 'index': index}
  monkeypatch.setenv(
    'TF_CONFIG', json.dumps({'cluster': cluster, 'task': task})
  )
  with flagsaver.flagsaver(strategy='multi_worker'):
    assert strategies.is_first_worker() == is_first
