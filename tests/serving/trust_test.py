"""Stored files that name code: nothing is imported, called or written."""

import json
import pathlib
import shlex
import sys

import gin
import pytest
from absl.testing import flagsaver

from export import run_policy
from qwr_tf import environments
from qwr_tf import record
from qwr_tf import serving
from qwr_tf.config import command
from qwr_tf.config.errors import ConfigError
from qwr_tf.serving import saved_policy
from qwr_tf.serving import trust
from tests.serving import policies

_DYNAMIC = 'from __gin__ import dynamic_registration\n'


@pytest.fixture(autouse=True)
def _clear_gin():
  yield
  gin.clear_config()


@pytest.fixture(name='trace')
def _trace(tmp_path, monkeypatch):
  """A file that is there once an attack has had its way.

  The module `my_envs` makes it when it is imported, and has an environment and
  a wrapper.
  """
  trace = tmp_path / 'trace'
  (tmp_path / 'my_envs.py').write_text(f"""
import pathlib
import gymnasium
from qwr_tf.environments import BitFlipEnv
pathlib.Path({str(trace)!r}).touch()
class Wrapper(gymnasium.Wrapper): pass
def make_env(): return BitFlipEnv(5)
gymnasium.register('Mine-v0', entry_point=make_env)
""")
  monkeypatch.syspath_prepend(tmp_path)
  yield trace
  sys.modules.pop('my_envs', None)


def _touch(trace):
  return f'touch {shlex.quote(str(trace))}'


# export/run_policy.py


def _metadata(**changes):
  with environments.load('BitFlip-5') as env:
    content = {'environment': 'BitFlip-5', **environments.describe(env.env)}
  return json.loads(json.dumps(content | changes))


def _spec(entry_point, **kwargs):
  return {'id': 'X-v0', 'entry_point': entry_point, 'kwargs': kwargs}


def _wrapper(entry_point, **kwargs):
  return {'name': 'X', 'entry_point': entry_point, 'kwargs': kwargs}


@pytest.mark.parametrize(
  ('entry_point', 'argument'),
  [
    ('subprocess:getoutput', 'cmd'),
    ('os:system', 'command'),
    ('my_envs:make_env', None),
    # Functions and classes that a listed module has imported.
    ('gymnasium.envs.registration:load_env_creator', 'name'),
    ('gymnasium.utils.record_constructor:Any', 'x'),
    ('gymnasium.envs.registration:importlib', 'x'),
    ('gymnasium_evil:Env', None),
  ],
)
def test_an_environment_in_metadata_is_a_listed_class(
  entry_point, argument, trace
):
  kwargs = {argument: _touch(trace)} if argument else {}
  content = _metadata(gymnasium_spec=_spec(entry_point, **kwargs))
  with pytest.raises(run_policy.InputError, match='metadata.json names'):
    run_policy.make_environment(content, None, None)
  assert not trace.exists()


@pytest.mark.parametrize(
  ('entry_point', 'kwargs'),
  [
    ('subprocess:Popen', {}),
    ('my_envs:Wrapper', {}),
    ('gymnasium.wrappers:RecordVideo', {'video_folder': '{}'}),
  ],
)
def test_a_wrapper_in_metadata_is_a_listed_class(entry_point, kwargs, trace):
  kwargs = {name: value.format(trace) for name, value in kwargs.items()}
  content = _metadata(wrappers=[_wrapper(entry_point, **kwargs)])
  with pytest.raises(run_policy.InputError, match='metadata.json'):
    run_policy.make_environment(content, None, None)
  assert not trace.exists()


def test_other_modules_are_played_after_a_flag_that_names_them(trace):
  content = _metadata(
    gymnasium_spec=_spec('my_envs:make_env'),
    wrappers=[_wrapper('my_envs:Wrapper')],
  )
  env = run_policy.make_environment(content, None, None, ['my_envs'])
  assert type(env).__name__ == 'Wrapper'
  assert trace.exists()


# Configurations


def _configs(trace):
  command = _touch(trace)
  yield 'import my_envs'
  yield 'from my_envs import Wrapper'
  yield 'import subprocess'
  yield "include '{}'".format(trace.with_name('evil.gin'))
  yield f'{_DYNAMIC}import subprocess\nsubprocess.getoutput.cmd = {command!r}'
  # By way of what a listed module has imported.
  yield (
    f'{_DYNAMIC}import qwr_tf.serving.versions\n'
    'make_agent.actor_network = @qwr_tf.serving.versions.os.system()\n'
    f'qwr_tf.serving.versions.os.system.command = {command!r}'
  )
  # Configurables that another library has registered write files, too.
  yield (
    'make_agent.normalizer = @tf_agents.train.learner.Learner()\n'
    f"tf_agents.train.learner.Learner.root_dir = '{trace}'"
  )

  # By way of the environment's wrappers.
  yield "load_environment.wrappers = ('my_envs:Wrapper',)"
  yield "WRAPPER = 'my_envs:Wrapper'\nload_environment.wrappers = (%WRAPPER,)"
  yield f"load_environment.wrappers = (('RecordVideo', {{'x': '{trace}'}}),)"


@pytest.mark.parametrize('number', range(10))
def test_a_stored_configuration_imports_nothing(number, trace):
  trace.with_name('evil.gin').write_text('import my_envs\n')
  config = [*_configs(trace)][number]
  with pytest.raises(ConfigError, match='run.json'):
    trust.parse(config, 'run.json', [])
  assert not trace.exists()
  assert 'my_envs' not in sys.modules


@pytest.mark.parametrize(
  'config', ['x = ', 'a.b = [', 'nothing.such = 1', 'a.b = @', '[' * 20_000]
)
def test_what_is_no_configuration_is_one_error(config):
  with pytest.raises(ConfigError, match='run.json'):
    trust.parse(config, 'run.json', [])


def test_a_module_that_is_named_may_be_imported(tmp_path, monkeypatch):
  (tmp_path / 'my_nets.py').write_text(
    'import gin\n@gin.configurable\ndef my_torso(units=1): pass\n'
  )
  monkeypatch.syspath_prepend(tmp_path)
  config = (
    'import my_nets\nmy_torso.units = 3\nx = 1\nmlp_torso.units = (%x,)\n'
    'make_agent.normalizer = @my_torso'
  )
  trust.parse(config, 'run.json', ['my_nets'])
  assert gin.query_parameter('my_torso.units') == 3
  with pytest.raises(ConfigError, match='my_nets'):
    trust.parse('my_torso.units = 3', 'run.json', [])


@pytest.mark.parametrize(
  ('environment', 'is_refused'),
  [
    ('my_envs:Mine-v0', True),
    ('gymnasium_evil:X-v0', True),
    ('gymnasium.envs.mujoco:Ant-v4', False),
    ('ale_py:ALE/Pong-v5', False),
    ('HalfCheetah-v4', False),
  ],
)
def test_a_stored_environment_names_listed_modules(environment, is_refused):
  if not is_refused:
    return trust.check_environment(environment, 'run.json', [])
  with pytest.raises(ConfigError, match='--trust_module='):
    trust.check_environment(environment, 'run.json', [])
  return trust.check_environment(
    environment, 'run.json', ['my_envs', 'gymnasium_evil']
  )


# The commands


@pytest.fixture(scope='module', name='run')
def _run(tmp_path_factory):
  folder = tmp_path_factory.mktemp('run')
  return policies.make_run(folder, 'bitflip.gin', environment='BitFlip-5')


def _cli(main, monkeypatch, capsys, *arguments):
  argv = ['command', *arguments]
  monkeypatch.setattr(sys, 'argv', argv)
  code = 0
  with flagsaver.flagsaver():
    try:
      command.parse_flags(argv)
      command.guarded(main)
    except SystemExit as ended:
      code = ended.code
  return code, capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize(
  'change',
  [
    {'config': f'{_DYNAMIC}import os\nos.system.command = "{{}}"'},
    {'config': 'import my_envs'},
    {'environment': 'my_envs:Mine-v0'},
  ],
)
def test_a_run_folder_is_exported_as_data(change, run, trace, tmp_path):
  facts = json.loads((run.folder / 'run.json').read_text())
  facts |= {name: text.format(_touch(trace)) for name, text in change.items()}
  folder = tmp_path / 'run'
  folder.mkdir()
  (folder / 'checkpoints').symlink_to(run.folder / 'checkpoints')
  (folder / 'run.json').write_text(json.dumps(facts))
  # The script's flags would clash with those of qwr_tf.train.
  with pytest.raises(ConfigError, match='--trust_module='):
    serving.export_run(folder, folder / 'policy', 'saved_model', [])
  assert not trace.exists()
  assert not (folder / 'policy').exists()


@pytest.mark.slow
def test_a_run_with_a_module_of_its_own_is_exported_after_the_flag(
  run, trace, tmp_path
):
  facts = json.loads((run.folder / 'run.json').read_text())
  facts['config'] += '\nimport my_envs\n'
  facts['environment'] = 'my_envs:Mine-v0'
  agent = serving.load_agent(run.folder, facts, trusted=['my_envs'])
  assert trace.exists()
  assert agent.action_spec.maximum == 4


@pytest.mark.parametrize(
  'change',
  [{'config': 'import my_envs'}, {'environment': 'my_envs:Mine-v0'}],
)
def test_recording_takes_metadata_as_data(
  change, trace, tmp_path, monkeypatch, capsys
):
  class Saved:
    path = pathlib.Path('policy', '1')
    metadata = {'environment': 'BitFlip-5', 'config': '', **change}

  monkeypatch.setattr(saved_policy, 'SavedPolicy', lambda path: Saved)
  monkeypatch.chdir(tmp_path)
  code, err = _cli(record.main, monkeypatch, capsys, '--policy=policy')
  assert code == 2
  assert err.count('\n') == 1 and '--trust_module=my_envs' in err
  assert not trace.exists()
  assert not (tmp_path / 'datasets').exists()
