"""Roles of a distributed run, and the launcher that keeps them alive."""

import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import time
import types

import gin
import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver

pytest.importorskip('reverb')

from qwr_tf import launch
from qwr_tf.agents import minibatches
from qwr_tf.config import command
from qwr_tf.config import gin_files
from qwr_tf.config.errors import ConfigError
from qwr_tf.distributed import __main__ as roles
from qwr_tf.distributed import collector_role
from qwr_tf.distributed import learner_role
from qwr_tf.distributed import lifeline
from qwr_tf.distributed import replay_role
from qwr_tf.distributed import reverb_client
from qwr_tf.distributed import reverb_server
from qwr_tf.distributed import role
from qwr_tf.distributed import role_flags
from qwr_tf.training import deadlines
from qwr_tf.training import experiment

_ROOT = pathlib.Path(__file__).resolve().parents[2]
_TINY = (
  'run.interactions=200',
  'run.replay_capacity=150',
  'run.eval_every_env_steps=100',
  'run.eval_episodes=1',
  'run.final_eval_episodes=1',
  'run.log_every_env_steps=50',
  'run.checkpoint_every_seconds=0.0',
  'Collector.env_steps=50',
  'iterate.critic_steps=3',
  'iterate.actor_steps=3',
  'iterate.batch_size=8',
)


@pytest.fixture(autouse=True)
def _clean():
  yield
  gin.clear_config()


def _free_port():
  with socket.socket() as listener:
    listener.bind(('127.0.0.1', 0))
    return listener.getsockname()[1]


def _start(module, *arguments, bindings=_TINY, **environment):
  return subprocess.Popen(
    [
      *(sys.executable, '-m', module, '--gin_file=bitflip.gin', *arguments),
      *[f'--gin_bindings={binding}' for binding in bindings],
    ],
    env={
      **os.environ,
      'PYTHONPATH': str(_ROOT),
      'TF_NUM_INTRAOP_THREADS': '1',
      'TF_NUM_INTEROP_THREADS': '1',
      **environment,
    },
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )


def _end(process, seconds=900):
  out, err = process.communicate(timeout=seconds)
  return process.returncode, out, err


# One run, all roles


@pytest.mark.slow
def test_a_launched_run_comes_to_its_end_though_roles_die(tmp_path):
  folder = tmp_path / 'run'
  # A learner that waits for nobody would be over before anybody has died.
  run = _start(
    'qwr_tf.launch',
    *(f'--root_dir={folder}', '--collectors=1', '--seed=3'),
    f'--server=127.0.0.1:{_free_port()}',
    bindings=[*_TINY, 'run.interactions=1000'],
  )
  killed = []
  for name in ('collector', 'replay', 'learner'):
    _wait_for_rows(folder, 1 + 2 * len(killed), run)
    killed.append(_kill(run.pid, f'--role={name}'))
  code, out, err = _end(run)
  assert code == 0, err[-3000:]
  assert all(killed)
  for name in ('collector', 'replay', 'learner'):
    assert re.search(f'{name}.* died', err), err
  facts = json.loads((folder / 'run.json').read_text())
  assert facts['finished'] and facts['interactions'] == 1000
  # Algorithm 2's ratio; a phase that was cut is made again.
  assert facts['critic_steps'] == facts['actor_steps'] == 60
  assert 'score' in out and re.search(r'lost +\d+ interactions', out)
  assert not _roles_of(str(folder))
  assert not (tmp_path / 'run-replay').exists()


@pytest.mark.slow
def test_the_roles_end_after_their_launcher_is_killed(tmp_path):
  folder = tmp_path / 'run'
  run = _start(
    'qwr_tf.launch',
    *(f'--root_dir={folder}', '--collectors=1'),
    f'--server=127.0.0.1:{_free_port()}',
    bindings=[*_TINY, 'run.interactions=1000000'],
  )
  _wait_for_rows(folder, 2, run)
  assert len(_roles_of(str(folder))) == 3
  os.kill(run.pid, signal.SIGKILL)
  end = time.monotonic() + 120
  while _roles_of(str(folder)) and time.monotonic() < end:
    time.sleep(0.1)
  assert not _roles_of(str(folder))
  # The learner has saved, and the server its experience.
  assert [*(folder / 'checkpoints').iterdir()]
  assert [*(tmp_path / 'run-replay').iterdir()]
  assert not json.loads((folder / 'run.json').read_text()).get('finished')
  _end(run, 10)


_WATCHED = """
import os, sys, time
from qwr_tf.distributed import lifeline
lifeline.watch(float(sys.argv[1]))
if sys.argv[2] == 'deaf':
  import signal
  signal.signal(signal.SIGTERM, signal.SIG_IGN)
print('ready', flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize(('kind', 'code'), [('', -signal.SIGTERM), ('deaf', 1)])
def test_a_process_ends_with_the_pipe_of_its_launcher(kind, code):
  reader, writer = os.pipe()
  process = subprocess.Popen(
    [sys.executable, '-c', _WATCHED, '0.5', kind],
    env={
      **os.environ,
      'PYTHONPATH': str(_ROOT),
      lifeline.VARIABLE: str(reader),
    },
    pass_fds=[reader],
    stdout=subprocess.PIPE,
    stderr=subprocess.DEVNULL,
  )
  assert process.stdout.readline() == b'ready\n'
  assert process.poll() is None
  os.close(writer)
  assert process.wait(20) == code
  process.stdout.close()
  os.close(reader)


def test_the_folder_of_the_table_is_beside_any_run(tmp_path, monkeypatch):
  (tmp_path / 'run').mkdir()
  monkeypatch.chdir(tmp_path / 'run')
  monkeypatch.setattr(
    roles.training_command, 'run_path', lambda *_: pathlib.Path('.')
  )
  monkeypatch.setattr(experiment, 'settings', lambda: None)
  flags.FLAGS.mark_as_parsed()
  given = []
  role_module = types.SimpleNamespace(run=lambda *args: given.extend(args))
  roles._replay(role_module, '')
  assert tmp_path / 'run-replay' in given


def _wait_for_rows(folder, count, run):
  end = time.monotonic() + 600
  while time.monotonic() < end and run.poll() is None:
    file = folder / 'metrics.csv'
    if file.exists() and len(file.read_text().splitlines()) > count:
      return
    time.sleep(0.02)
  raise AssertionError(f'no {count} rows; {_end(run, 30)}')


def _roles_of(word):
  """Process ids whose command line has a word."""
  found = {}
  for file in pathlib.Path('/proc').glob('[0-9]*/cmdline'):
    try:
      text = file.read_bytes().replace(b'\0', b' ').decode()
    except OSError:
      continue
    if 'qwr_tf.distributed' in text and word in text:
      found[int(file.parent.name)] = text
  return found


def _kill(launcher, word):
  """kill -9 of one of the launcher's own processes; whether there was one."""
  for pid in _roles_of(word):
    parent = pathlib.Path(f'/proc/{pid}/stat').read_text().split()[3]
    if int(parent) == launcher:
      os.kill(pid, signal.SIGKILL)
      return True
  return False


# What is refused


def _refusal(*arguments):
  """What `python -m qwr_tf.distributed` says, in this process."""
  given = [f'--gin_bindings={binding}' for binding in _TINY]
  argv = ['qwr_tf.distributed', '--gin_file=bitflip.gin', *given, *arguments]
  with flagsaver.flagsaver():
    command.parse_flags(argv)
    with pytest.raises(ConfigError) as refused:
      roles.main()
  return str(refused.value)


@pytest.mark.parametrize('name', ['collector', 'learner'])
def test_a_server_that_is_not_there_is_named(name, tmp_path):
  address = f'127.0.0.1:{_free_port()}'
  folder = tmp_path / 'run'
  message = _refusal(
    *(f'--role={name}', f'--server={address}', '--server_seconds=1'),
    f'--root_dir={folder}',
  )
  assert address in message and 'for 1 s' in message
  assert not folder.exists()


@pytest.mark.parametrize(
  ('arguments', 'message'),
  [
    ((), '--role is missing'),
    (('--role=replay', '--server=192.0.2.7:12889'), '--trusted_network'),
    (('--role=collector', '--server=replay-host:12889'), '--trusted_network'),
    (('--role=learner', '--server=[fd00::7]:12889'), '--trusted_network'),
    (('--role=learner', '--server=nowhere'), 'nowhere is not host:port'),
    (('--role=learner', '--strategy=multi_worker'), 'qwr_tf.train'),
    (
      ('--role=replay', '--gin_bindings=iterate.minibatches_fn=@WholeTable'),
      '@PerMinibatch',
    ),
  ],
)
def test_wrong_flags_are_told(arguments, message, tmp_path):
  assert message in _refusal(*arguments, f'--root_dir={tmp_path}/run')


def test_what_needs_the_whole_table_is_refused():
  gin_files.parse(['awr_bitflip.gin'], [])
  with pytest.raises(ConfigError, match='@WholeTable .*qwr_tf.train'):
    role.adapt(experiment.settings())


def test_what_only_saves_time_gives_way():
  gin_files.parse(['atari.gin'], ["run.environment='ALE/Pong-v5'"])
  role.adapt(experiment.settings())
  source = gin.query_parameter('iterate.minibatches_fn')
  assert source.configurable.wrapped is minibatches.PerMinibatch


def test_n_step_minibatches_give_way_with_their_augmentation():
  bindings = ["run.environment='ALE/Pong-v5'"]
  gin_files.parse(['dqn_atari_100k.gin'], bindings)
  role.adapt(experiment.settings())
  source = gin.query_parameter('iterate.minibatches_fn')
  assert source.configurable.wrapped is minibatches.PerMinibatch
  augment_fn = gin.query_parameter('PerMinibatch.augment_fn')
  assert str(augment_fn) == '@random_shifts'


def test_a_data_set_is_refused():
  bindings = ["run.dataset='x'", 'run.offline_iterations=1']
  gin_files.parse(['bitflip.gin'], bindings)
  with pytest.raises(ConfigError, match='run.dataset .*qwr_tf.train'):
    role.adapt(experiment.settings())


def test_roles_of_one_configuration_fit_and_of_another_do_not(tmp_path):
  config = gin_files.parse(['bitflip.gin'], _TINY)
  settings = experiment.settings()
  made = role.build(settings, seed=0, env_seed=1)
  port = _free_port()
  server = reverb_server.serve(made.specs, 100, port, tmp_path / 'server')
  connection = reverb_client.Connection(f'127.0.0.1:{port}', 10.0)
  connection.write(reverb_server.CONFIGURATION, reverb_client.as_item(config))
  learner = learner_role.Learner(connection, config, 1.0)
  learner.experience(settings, made.env, made.agent, 0)
  another = gin_files.parse(['bitflip.gin'], [*_TINY, 'QwrAgent.gamma=0.5'])
  learner = learner_role.Learner(connection, another, 1.0)
  with pytest.raises(ConfigError, match=r'QwrAgent.gamma.*same --gin_file'):
    learner.experience(settings, made.env, made.agent, 0)
  server.stop()


@pytest.mark.parametrize(
  ('server', 'trusted'),
  [
    ('127.0.0.1:77', False),
    ('localhost:77', False),
    ('[::1]:77', False),
    ('replay-host:77', True),
  ],
)
def test_addresses_that_may_be_used(server, trusted):
  with flagsaver.flagsaver(server=server, trusted_network=trusted):
    assert role_flags.port() == 77


def test_the_launcher_says_first_who_may_connect(capsys, monkeypatch):

  def stop():
    raise KeyError

  monkeypatch.setattr(launch.training_command, 'configuration', stop)
  for arguments, words in [
    (['--server=127.0.0.1:77'], 'to this machine only'),
    (['--server=host:77', '--trusted_network'], 'all interfaces'),
    (['--server=host:77'], None),
  ]:
    with flagsaver.flagsaver():
      command.parse_flags(['launch', *arguments])
      with pytest.raises(KeyError if words else ConfigError):
        launch.main()
    first_line = capsys.readouterr().err.partition('\n')[0]
    assert first_line == '' if words is None else words in first_line


def test_a_server_that_nobody_uses_ends(tmp_path):
  config = gin_files.parse(['bitflip.gin'], _TINY)
  port = _free_port()
  with pytest.raises(reverb_client.UnreachableError, match=f'{port} for 1 s'):
    replay_role.run(
      *(experiment.settings(), config, 0, port, False, tmp_path / 'server'),
      *(False, 1.0, types.SimpleNamespace(requested=False)),
    )
  assert [*(tmp_path / 'server').iterdir()]  # Its checkpoint.


# Learner and collector in one process


@pytest.fixture(name='pair')
def _pair(tmp_path):
  """A collector and a learner's side of a server, without TensorFlow steps."""
  gin_files.parse(['bitflip.gin'], _TINY)
  settings = experiment.settings()
  there = role.build(settings, seed=0, env_seed=1)
  here = role.build(settings, seed=5, env_seed=2)  # Other weights.
  port = _free_port()
  server = reverb_server.serve(there.specs, 100, port, tmp_path / 'server')
  connection = reverb_client.Connection(f'127.0.0.1:{port}', 10.0)
  collecting = collector_role.Collecting(here, connection, 7, 60.0)
  remote = learner_role.RemoteCollector(
    there.agent, connection, there.specs, 60.0
  )
  yield types.SimpleNamespace(
    there=there,
    here=here,
    collecting=collecting,
    remote=remote,
    connection=connection,
  )
  server.stop()


def _weights(made):
  network = made.agent.acting_network
  return [v.numpy() for v in reverb_server.acting_variables(network)]


@pytest.mark.slow
def test_collectors_act_with_the_learners_policy(pair):
  assert any(
    (a != b).any()
    for a, b in zip(_weights(pair.here), _weights(pair.there), strict=True)
  )
  assert pair.collecting.step()  # Nobody has published: nothing happens.
  assert pair.collecting.writer.interactions == 0
  pair.remote.publish()
  assert pair.collecting.step()
  for a, b in zip(_weights(pair.here), _weights(pair.there), strict=True):
    np.testing.assert_array_equal(a, b)
  assert pair.collecting.writer.interactions == 50


@pytest.mark.slow
def test_collectors_are_at_most_an_iteration_ahead(pair):
  pair.remote.publish()
  for _ in range(3):
    assert pair.collecting.step()
  assert pair.collecting.writer.interactions == 50
  collected = pair.remote()
  assert collected.interactions == 50
  assert len(collected.episode_returns) == 10  # BitFlip: five steps each.
  assert pair.collecting.step()
  assert pair.collecting.writer.interactions == 100
  assert pair.remote.lost == 0


@pytest.mark.slow
def test_a_server_without_a_policy_gets_one(pair):
  pair.remote.publish()
  pair.remote._writes += 1  # As if the server had come back without it.
  before = pair.connection.tables()[reverb_server.VARIABLES]
  assert pair.collecting.step()
  assert pair.remote._waiting() == 50
  after = pair.connection.tables()[reverb_server.VARIABLES]
  writes = [t.rate_limiter_info.insert_stats.completed for t in (before, after)]
  assert writes == [1, 2]
  assert pair.remote._waiting() == 50
  last = pair.connection.tables()[reverb_server.VARIABLES]
  assert last.rate_limiter_info.insert_stats.completed == 2


@pytest.mark.slow
def test_a_learner_watches_what_its_phases_wait_for(pair, monkeypatch):
  learner = learner_role.Learner(pair.connection, '', 5.0)
  assert learner._complaint() == ('', 0.0)
  learner._collector = pair.remote
  pair.remote.publish()
  assert learner._complaint() == ('', 0.0)  # It waits itself, and says so.
  pair.remote.is_learning = True
  complaint, seconds = learner._complaint()
  assert 'no windows' in complaint and seconds == 5.0
  assert pair.collecting.step()
  assert learner._complaint() == ('', 0.0)
  monkeypatch.setattr(pair.connection, 'tables_now', lambda: None)
  complaint, seconds = learner._complaint()
  assert 'away' in complaint and seconds == pair.connection.seconds


@pytest.mark.slow
def test_a_learner_that_waits_too_long_ends(pair, monkeypatch):
  learner = learner_role.Learner(pair.connection, '', 0.1)
  learner._collector = pair.remote
  pair.remote.is_learning = True
  monkeypatch.setattr(learner_role, '_SECONDS_BETWEEN_WATCHES', 0.05)
  said = []
  monkeypatch.setattr(
    deadlines, 'end_process', lambda message, code: said.append((message, code))
  )
  with learner.watched():
    end = time.monotonic() + 20
    while not said and time.monotonic() < end:
      time.sleep(0.05)
  message, code = said[0]
  assert code == 1 and pair.connection.address in message


@pytest.mark.slow
def test_the_end_of_training_ends_collectors(pair):
  pair.remote.publish()
  assert pair.collecting.step()
  learner = learner_role.Learner(pair.connection, '', 1.0)
  learner._collector = pair.remote
  learner.finish()
  assert not pair.collecting.step()


@pytest.mark.slow
def test_a_run_that_was_finished_before_ends_no_other_run(pair):
  own = reverb_client.as_item('gamma = 0.9\nseed = 0\n')
  pair.connection.write(reverb_server.CONFIGURATION, own)
  pair.remote.publish()
  other = 'gamma = 0.9\nseed = 1\n'
  learner_role.Learner(pair.connection, other, 1.0).finish()
  assert pair.collecting.step()
  same = 'gamma = 0.9\nseed = 0\n'
  learner_role.Learner(pair.connection, same, 1.0).finish()
  assert not pair.collecting.step()


@pytest.mark.slow
def test_roles_of_another_seed_are_told(pair):
  texts = []
  for seed in (3, 4):
    with flagsaver.flagsaver():
      command.parse_flags(['distributed_test', f'--seed={seed}'])
      texts.append(roles._shared('a = 1\n'))
  item = reverb_client.as_item(texts[0])
  pair.connection.write(reverb_server.CONFIGURATION, item)
  pair.connection.check({}, texts[0])
  told = "'seed = 3' there, 'seed = 4' here.* --seed"
  with pytest.raises(reverb_client.MismatchError, match=told):
    pair.connection.check({}, texts[1])


@pytest.mark.slow
def test_collectors_that_nobody_takes_from_give_up(pair):
  pair.collecting._wait_seconds = 0.2
  pair.remote.publish()
  pair.collecting.step()
  with pytest.raises(reverb_client.UnreachableError, match='No learner'):
    for _ in range(100):
      pair.collecting.step()


@pytest.mark.slow
def test_a_learner_without_collectors_gives_up(pair):
  pair.remote._wait_seconds = 0.5
  with pytest.raises(
    reverb_client.UnreachableError, match='a collector running'
  ):
    pair.remote()


@pytest.mark.slow
def test_the_learners_count_goes_on_from_a_checkpoint(pair):
  pair.remote.publish()
  pair.collecting.step()
  pair.remote()
  state = json.loads(json.dumps(pair.remote.state()))
  again = learner_role.RemoteCollector(
    pair.there.agent, pair.connection, pair.there.specs, 60.0
  )
  again.restore(state)
  pair.collecting.step()
  assert again().interactions == 50
  assert again.lost == 0


# The launcher


def _process(name, code, argv=()):
  return launch.Process(name, [sys.executable, '-c', code, *argv], {})


_FOREVER = 'import time\nwhile True: time.sleep(0.1)'
_RUNNING = types.SimpleNamespace(requested=False)


def _launched(replay=_FOREVER, collector=_FOREVER, learner=_FOREVER, argv=()):
  lines = []
  processes = [
    _process('replay', replay),
    _process('collector 0', collector, argv),
    _process('learner', learner),
  ]
  launcher = launch.Launcher(
    processes[0], [processes[1]], processes[2], lines.append
  )
  return launcher, processes, lines


@pytest.mark.slow
def test_the_launcher_ends_all_when_the_learner_has_ended(monkeypatch):
  monkeypatch.setattr(launch, '_SECONDS_TO_END', 0.5)
  launcher, processes, lines = _launched(learner='')
  assert launcher.run(_RUNNING) == 0
  assert all(p.code() is not None for p in processes)
  assert lines == []


@pytest.mark.slow
def test_the_launcher_starts_a_role_anew_five_times(tmp_path):
  note = tmp_path / 'note'
  code = f'import sys; open({str(note)!r}, "a").write("x" + str(sys.argv[1:]));'
  launcher, processes, lines = _launched(
    collector=code + 'sys.exit(9)', argv=['--overwrite', '--a']
  )
  assert launcher.run(_RUNNING) == 1
  written = note.read_text()
  assert written.count('x') == 6
  assert written.count('--overwrite') == 1 and written.count('--a') == 6
  assert all(p.code() is not None for p in processes)
  assert len(lines) == 6 and 'after 5 restarts' in lines[-1]


@pytest.mark.slow
def test_the_launcher_does_not_repeat_bad_input():
  launcher, processes, lines = _launched(learner='import sys; sys.exit(2)')
  assert launcher.run(_RUNNING) == 2
  assert lines == ['learner refuses its input.']
  assert all(p.code() is not None for p in processes)


@pytest.mark.slow
def test_the_launcher_ends_all_when_interrupted():
  launcher, processes, _ = _launched()
  assert launcher.run(types.SimpleNamespace(requested=True)) == 1
  assert all(p.code() == -signal.SIGTERM for p in processes)


@pytest.mark.slow
def test_the_learner_has_time_to_save(tmp_path, monkeypatch):
  monkeypatch.setattr(launch, '_SECONDS_TO_END', 0.1)
  ready = tmp_path / 'ready'
  launcher, (*_, learner), _ = _launched(
    learner='import signal, sys, time\n'
    'save = lambda *_: (time.sleep(1.0), sys.exit(7))\n'
    'signal.signal(signal.SIGTERM, save)\n'
    f'open({str(ready)!r}, "w").close()\n{_FOREVER}'
  )

  class Interrupted:
    requested = property(lambda self: ready.exists())

  assert launcher.run(Interrupted()) == 1
  assert learner.code() == 7


@pytest.mark.slow
def test_a_second_interruption_ends_all_roles_at_once(monkeypatch):
  codes = []
  monkeypatch.setattr(os, '_exit', codes.append)
  launcher, processes, _ = _launched()
  for process in processes[1:]:  # One that has not begun is no fault.
    process.start()
  launcher.stop_at_once(1)
  for process in processes[1:]:
    process.running.wait(10.0)
  assert [p.code() for p in processes] == [None, *[-signal.SIGKILL] * 2]
  assert codes == [1]


def test_flags_go_to_the_roles_they_are_for():
  given = {
    'gin_file': ['bitflip.gin', 'x.gin'],
    'gin_bindings': ["run.environment='BitFlip-5'"],
    'seed': 4,
    'strategy': 'mirrored',
    'server': '127.0.0.1:77',
  }
  with flagsaver.flagsaver(**given):
    for name in given:
      flags.FLAGS[name].present = 1
    try:
      replay, collectors, learner = launch.processes(2)
    finally:
      for name in given:
        flags.FLAGS[name].present = 0
  assert len(collectors) == 2
  for process in (replay, *collectors, learner):
    for flag in (
      '--gin_file=bitflip.gin',
      '--gin_file=x.gin',
      "--gin_bindings=run.environment='BitFlip-5'",
      '--seed=4',
      '--server=127.0.0.1:77',
    ):
      assert flag in process.argv
  assert '--strategy=mirrored' in learner.argv
  assert '--strategy=mirrored' not in [*replay.argv, *collectors[0].argv]
  roles = [p.argv[-1] for p in (replay, *collectors)]
  assert roles == ['--role=replay', '--role=collector', '--role=collector']
  assert '--role=learner' in learner.argv
