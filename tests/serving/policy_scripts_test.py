"""The scripts around exported policies: export, check, run."""

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

import gin
import gymnasium
import imageio
import numpy as np
import pytest
import tensorflow as tf
from gymnasium import spaces

from export import run_policy
from export.serving import grpc_client
from export.serving import rest_client
from qwr_tf import environments
from qwr_tf.config.errors import ConfigError
from qwr_tf.runs import checkpoints
from qwr_tf.serving import metadata
from qwr_tf.serving import versions
from tests.serving import policies

_ROOT = pathlib.Path(__file__).resolve().parents[2]


@pytest.fixture(scope='module', name='bitflip')
def _bitflip(tmp_path_factory):
  folder = tmp_path_factory.mktemp('run')
  run = policies.make_run(folder, 'bitflip.gin', environment='BitFlip-8')
  policies.export(run)
  gin.clear_config()
  return run


@pytest.fixture(name='play')
def _play(monkeypatch, capsys):
  """Runs run_policy in this process: (exit code, stdout, stderr)."""

  def play(*arguments):
    argv = ['run_policy.py', *map(str, arguments)]
    monkeypatch.setattr(sys, 'argv', argv)
    return run_policy.run(), *capsys.readouterr()

  return play


# Playing


_PLAY = """
import runpy, sys
for name in 'tf_agents tensorflow_probability gin reverb qwr_tf'.split():
  sys.modules[name] = None  # Importing it would fail.
script, *policies = sys.argv[1:]
for policy in policies:
  if policy == policies[-1]:
    del sys.modules['qwr_tf']  # BitFlip is its own.
  sys.argv = [script, f'--policy={policy}', '--episodes=1']
  try:
    runpy.run_path(script, run_name='__main__')
  except SystemExit as ended:
    assert ended.code == 0
"""


@pytest.mark.slow
def test_playing_needs_tensorflow_and_gymnasium_only(bitflip, tmp_path):
  script = str(_ROOT / 'export' / 'run_policy.py')
  hopper = policies.make_run(
    tmp_path / 'hopper', 'mujoco_100k.gin', environment='Hopper-v4'
  )
  pong = policies.make_run(
    tmp_path / 'pong',
    'atari_100k_paper.gin',
    environment='ALE/Pong-v5',
    bindings=['load_environment.max_episode_steps = 30'],
  )
  exports = [*map(policies.export, (hopper, pong)), bitflip.folder / 'policy']
  done = subprocess.run(
    [sys.executable, '-c', _PLAY, script, *map(str, exports)],
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stderr
  assert done.stderr == ''
  # The same game in the wrapper that policies are trained in.
  with environments.load('BitFlip-8', seed=0) as env:
    step, total = env.reset(), 0.0
    while not step.is_last():
      batch = tf.nest.map_structure(lambda x: tf.constant(x)[tf.newaxis], step)
      step = env.step(bitflip.agent.policy.action(batch).action[0].numpy())
      total += float(step.reward)
  episode = r'episode   1  (\S+)\nmean    (\S+) \+- 0.0\n'
  match = re.fullmatch(3 * episode, done.stdout)
  assert match and match.groups()[4:] == 2 * (f'{total:.1f}',)


def test_an_error_is_one_line_unless_its_traceback_is_wanted(tmp_path, play):
  code, _, err = play(f'--policy={tmp_path}')
  assert code == 2 and err.count('\n') == 1
  code, _, traced = play(f'--policy={tmp_path}', '--traceback')
  assert code == 2 and traced.startswith('Traceback') and traced.endswith(err)


@pytest.mark.slow
def test_the_seed_decides_what_is_sampled(bitflip, play):
  def returns(seed):
    code, out, _ = play(
      f'--policy={bitflip.folder}/policy', '--sample', f'--seed={seed}'
    )
    assert code == 0
    return out

  assert returns(1) == returns(1) != returns(2)
  assert len(returns(1).splitlines()) == 11


def test_the_newest_version_is_played(tmp_path):
  for name in ('2', '10', '11.bak', 'x'):
    (tmp_path / name / 'assets.extra').mkdir(parents=True)
    (tmp_path / name / 'assets.extra' / 'metadata.json').write_text('{}')
  (tmp_path / '12').mkdir()  # Somebody else's.
  assert run_policy._version(tmp_path).name == '10'
  assert run_policy._version(tmp_path / '2').name == '2'


def _metadata(env):
  return {'environment': 'this one', **environments.describe(env)}


@pytest.mark.slow
@pytest.mark.parametrize(
  'name',
  ['ALE/Pong-v5', 'HalfCheetah-v4', 'BitFlip-7', 'CartPole-v1'],
)
def test_the_environment_is_made_again(name):
  settings = environments.score_settings(name)
  with environments.load(name, seed=3, **settings) as env:
    described = json.loads(json.dumps(_metadata(env.env)))
    again = run_policy.make_environment(described, None, None)
    if name.startswith('HalfCheetah'):  # Both cameras follow it.
      for made in (env.env, again):
        assert made.unwrapped.mujoco_renderer.camera_id == 0
    step = env.reset()
    np.testing.assert_array_equal(
      again.reset(seed=3)[0].astype(step.observation.dtype), step.observation
    )
    rng = np.random.default_rng(0)
    for _ in range(30):
      if env.action_spec().dtype == np.int32:
        action = rng.integers(0, env.action_spec().maximum + 1, dtype=np.int32)
      else:
        action = rng.uniform(-1, 1, env.action_spec().shape).astype(np.float32)
      step = env.step(action)
      observation, reward, terminated, truncated, _ = again.step(action)
      np.testing.assert_array_equal(
        observation.astype(step.observation.dtype), step.observation
      )
      assert np.float32(reward) == step.reward
      assert (terminated or truncated) == step.is_last()
      if step.is_last():
        break
    again.close()


def test_settings_of_the_run_are_part_of_it():
  name = 'ALE/Breakout-v5'
  settings = environments.score_settings(name)  # As an export has it.
  settings |= dict(noop_max=5, max_episode_steps=77)
  with environments.load(name, **settings) as env:
    described = environments.describe(env.env)
  assert [w['name'] for w in described['wrappers']] == [
    'AtariPreprocessing',
    'TimeLimit',
    'FrameStackObservation',
    'ChannelsLast',
  ]
  preprocessing, limit, *_ = (w['kwargs'] for w in described['wrappers'])
  assert preprocessing['noop_max'] == 5
  assert limit == {'max_episode_steps': 77}
  assert described['render_fps'] == 15


class _Odd(gymnasium.Env):
  observation_space = spaces.Box(-1.0, 1.0, (2,), np.float32)
  action_space = spaces.Discrete(2)

  def __init__(self, thing):
    del thing

  def reset(self, *, seed=None, options=None):
    return np.zeros(2, np.float32), {}

  def step(self, action):
    return np.zeros(2, np.float32), 1.0, True, False, {}


gymnasium.register('Odd-v0', entry_point=_Odd)


def test_what_cannot_be_described_is_said_when_it_is_played():
  wrappers = (('ClipReward', {'min_reward': 0.0, 'max_reward': 0.5}),)
  with environments.load('Odd-v0', thing=object(), wrappers=wrappers) as env:
    described = _metadata(env.env)
  assert described['gymnasium_spec'] is None
  with pytest.raises(run_policy.InputError, match='not JSON serializable.*--e'):
    run_policy.make_environment(described, None, None)
  # Its wrappers go around another one.
  gymnasium.register('Odd-v1', _Odd, kwargs={'thing': 3})
  env = run_policy.make_environment(described, 'Odd-v1', None)
  assert list(run_policy.returns(env, lambda _: np.array(0), 1, 0)) == [0.5]
  with environments.load('Odd-v0', thing=[1]) as env:
    spec = environments.describe(env.env)['gymnasium_spec']
  assert spec['entry_point'] == f'{__name__}:_Odd'


class _Doubled(gymnasium.RewardWrapper):
  def reward(self, reward):
    return 2 * reward


@pytest.mark.parametrize('name', [None, 'Odd-v0'])
def test_no_policy_is_played_without_its_wrappers(name):
  with environments.load('Odd-v0', thing=1, wrappers=(_Doubled,)) as env:
    described = _metadata(env.env)
  words = 'wrappers around this one .*_Doubled.*RecordConstructorArgs.*export'
  with pytest.raises(run_policy.InputError, match=words):
    run_policy.make_environment(described, name, None)


def test_a_policy_of_logged_data_is_played_by_name():
  described = environments.load(
    'NoSimulator', observation_shape=(2,), num_actions=2
  )
  content = _metadata(described.env) | {'environment': 'NoSimulator'}
  gymnasium.register('Odd-v2', _Odd, kwargs={'thing': 3})
  for wrappers in ([], None):  # Earlier exports have None.
    env = run_policy.make_environment(
      content | {'wrappers': wrappers}, 'Odd-v2', None
    )
    assert env.reset()
  with pytest.raises(run_policy.InputError, match='--env'):
    run_policy.make_environment(content, None, None)


def test_a_game_of_another_name_has_the_emulator_s_settings():
  name = 'ALE/Pong-v5'
  with environments.load(name, **environments.score_settings(name)) as env:
    described = _metadata(env.env)
  for given in (name, f'ale_py:{name}'):
    env = run_policy.make_environment(described, given, None)
    assert env.unwrapped.spec.kwargs['frameskip'] == 1
    assert env.unwrapped.spec.kwargs['repeat_action_probability'] == 0.0
  with pytest.raises(run_policy.InputError, match='action_space'):
    run_policy.make_environment(described, 'ALE/Assault-v5', None)


@pytest.mark.slow
@pytest.mark.parametrize('name', ['clip.mp4', 'clip.gif'])
def test_video(name, tmp_path):
  with run_policy.video(tmp_path / name, 20) as show:
    for i in range(20):
      show(np.full([33, 40, 3], 8 * i, np.uint8))
    assert not (tmp_path / name).exists()
  assert [p.name for p in tmp_path.iterdir()] == [name]
  frames = imageio.mimread(tmp_path / name)
  assert len(frames) == 20
  assert np.abs(frames[10][..., :3].mean() - 80) < 8


def test_a_video_removes_what_a_killed_process_left(tmp_path, monkeypatch):
  def film():
    with run_policy.video(tmp_path / 'x.gif', 20) as show:
      show(np.zeros([20, 30, 3], np.uint8))

  with monkeypatch.context() as patches:
    moves = []
    patches.setattr(os, 'getpid', lambda: 7)
    patches.setattr(os, 'replace', lambda *paths: moves.append(paths))
    film()
  ((left, _),) = moves
  others = {'y.gif', '.x.gif', '.y.7.tmp.gif'}
  for name in (left.name, *others):
    (tmp_path / name).touch()
  film()
  assert {p.name for p in tmp_path.iterdir()} == {'x.gif', *others}


def test_the_video_shows_an_episode(tmp_path):
  images = []
  env = gymnasium.make('ALE/Pong-v5', render_mode='rgb_array')
  env = gymnasium.wrappers.TimeLimit(env, 7)
  play = run_policy.returns(env, lambda o: np.array(0), 1, 0, images.append)
  assert next(play) == 0.0
  assert len(images) == 7
  assert images[0].shape == (210, 160, 3)


# What it refuses


@pytest.mark.slow
@pytest.mark.parametrize(
  'arguments, message',
  [
    (['--policy=nowhere'], 'nowhere holds no exported policy'),
    (['--policy={}', '--environment=CartPole-v1'], 'has the observation_space'),
    (['--policy={}', '--environment=BitFlip-9'], 'BitFlip'),
    (['--policy={}', '--environment=Nope-v0'], "doesn't exist"),
    (['--policy={}', '--environment=no_such:X-v0'], 'no_such'),
    (['--policy={}', '--video=x.mp4'], 'render_mode'),
    (['--policy={}', '--episodes=0'], 'must be 1 or more'),
    (['--policy={}', f'--seed={2**63}'], '--seed from 0 to 2**63 - 1'),
    (['--policy={}', '--nonsense'], 'unrecognized arguments: --nonsense'),
  ],
)
def test_bad_input_is_one_line(arguments, message, bitflip, play):
  policy = bitflip.folder / 'policy'
  code, out, err = play(*(a.format(policy) for a in arguments))
  assert (code, out) == (2, '')
  assert message in err
  assert err.startswith('error: ') and err.count('\n') == 1


def _without_a_screen():
  # As OpenGL's Python binding has it.
  raise AttributeError("'NoneType' object has no attribute 'glGetError'")


def _with_wrong_images():
  return np.zeros([9, 9, 1], np.uint8)


@pytest.mark.slow
@pytest.mark.parametrize(
  ('render', 'message'),
  [
    (_without_a_screen, "AttributeError: 'NoneType'.*MUJOCO_GL=egl"),
    (_with_wrong_images, 'x.gif cannot be written: .*pip install imageio'),
  ],
)
def test_what_cannot_be_drawn_or_written(
  render, message, bitflip, play, tmp_path, monkeypatch
):
  def make(metadata, name, render_mode, trusted):
    env = gymnasium.make('BitFlip-8')
    if render_mode:
      monkeypatch.setattr(env, 'render', render, raising=False)
    return env

  monkeypatch.setattr(run_policy, '_make', make)
  # A process of its own would take seconds.
  monkeypatch.setattr(run_policy, 'RemotePolicy', run_policy.Policy)
  policy = bitflip.folder / 'policy'
  film = tmp_path / 'x.gif'
  code, out, err = play(f'--policy={policy}', f'--video={film}')
  assert (code, out) == (2, '')
  assert re.search(message, err)
  assert err.startswith('error: ') and err.count('\n') == 1
  assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_damaged_export_is_one_line(bitflip, play, tmp_path):
  policy = shutil.copytree(bitflip.folder / 'policy', tmp_path / 'policy')
  (data,) = policy.glob('1/variables/variables.data*')
  data.write_bytes(data.read_bytes()[:1000])
  code, out, err = play(f'--policy={policy}')
  assert (code, out) == (2, '')
  assert 'cannot be' in err
  assert err.startswith('error: ') and err.count('\n') == 1


@pytest.mark.parametrize(
  'script', [run_policy, rest_client, grpc_client], ids=lambda s: s.__name__
)
def test_a_reader_that_went_away_is_no_error(script, monkeypatch):
  reader, writer = os.pipe()
  os.close(reader)

  def main():
    for line in range(10):
      print('a line', line, flush=True)

  monkeypatch.setattr(script, 'main', main)
  with open(writer, 'w') as gone, monkeypatch.context() as patches:
    patches.setattr(sys, 'stdout', gone)
    assert script.run() == 0
  monkeypatch.setattr(sys, 'stdout', None)  # A closed one.
  assert script.run() == 0


@pytest.mark.slow
def test_an_episode_that_does_not_end_is_one_line(bitflip, play, monkeypatch):
  def endless(self, action):
    return np.zeros(9, np.float32), 0.0, False, False, {}

  # With the time limit that gymnasium would have added.
  monkeypatch.setattr(environments.BitFlipEnv, 'step', endless)
  policy = f'--policy={bitflip.folder}/policy'
  code, out, err = play(policy, '--max_episode_steps=50')
  assert (code, out) == (2, '')
  assert err.count('\n') == 1 and '--max_episode_steps' in err

  def broken(self, action):
    return np.zeros(9, np.float32), 0.0, False, {}

  monkeypatch.setattr(environments.BitFlipEnv, 'step', broken)
  code, out, err = play(policy)
  assert (code, out) == (2, '')
  assert err.count('\n') == 1 and 'BitFlip-8: ValueError' in err


@pytest.mark.slow
def test_no_policy_acts_on_nan(bitflip, play, monkeypatch):
  def broken(self, **kwargs):
    return np.full(9, np.nan), {}

  monkeypatch.setattr(environments.BitFlipEnv, 'reset', broken)
  code, out, err = play(f'--policy={bitflip.folder}/policy')
  assert (code, out) == (1, '')
  assert err.startswith('error: ') and err.count('\n') == 1 and 'NaN' in err


@pytest.mark.slow
@pytest.mark.parametrize('text', ['[' * 200_000, '{}', 'null', '{"format": '])
def test_damaged_metadata_is_one_line(text, bitflip, play, tmp_path):
  policy = shutil.copytree(bitflip.folder / 'policy', tmp_path / 'policy')
  (policy / '1' / versions.EXTRA / versions.METADATA).write_text(text)
  code, out, err = play(f'--policy={policy}')
  assert (code, out) == (2, '')
  assert 'cannot be read' in err
  assert err.startswith('error: ') and err.count('\n') == 1
  with pytest.raises(ConfigError, match='cannot be read'):
    metadata.read(policy / '1')


@pytest.mark.parametrize('space', [None, 3, {}, {'type': 'Discrete'}, 'Box'])
def test_damaged_spaces_in_metadata_are_refused(space):
  with environments.load('BitFlip-7') as env:
    content = _metadata(env.env)
  content |= {'observation_space': space}
  with pytest.raises(run_policy.InputError):
    run_policy.make_environment(content, None, None)


def test_spaces_that_differ():
  box = {'type': 'Box', 'shape': [2], 'dtype': 'float32'}
  action = {'type': 'Discrete', 'n': 2, 'start': 0}
  metadata = {
    'environment': 'x',
    'observation_space': box,
    'action_space': action,
  }
  env = _Odd(None)
  run_policy.check_spaces(env, metadata)
  bounded = box | {'low': [-1.0, -1.0], 'high': [1.0, 2.0]}
  for name, other in [
    ('observation_space', box | {'shape': [3]}),
    ('observation_space', box | {'dtype': 'uint8'}),
    ('observation_space', action),
    ('observation_space', bounded),
    ('action_space', action | {'n': 3}),
    ('action_space', action | {'start': 1}),
    ('action_space', box),
  ]:
    with pytest.raises(run_policy.InputError, match=name):
      run_policy.check_spaces(env, metadata | {name: other})


# Exporting and checking

_EXPORT_AND_CHECK = """
import functools, json, pathlib, sys
from absl import flags
from absl.testing import flagsaver
from qwr_tf import check as check_policy, export as export_policy
from qwr_tf.config import command
from qwr_tf.serving import checks, exporter
checks.latency = functools.partial(checks.latency, seconds=0.0)
exporter.save_tf_agents_policies = lambda *_: None
command.parse_flags(['x'])
run = pathlib.Path(sys.argv[1])
for kind in ('tflite', 'onnx'):
  with flagsaver.flagsaver(root_dir=str(run), format=kind):
    export_policy.main()
with flagsaver.flagsaver(root_dir=str(run), best=True, output=f'{run}/best'):
  export_policy.main()
for kind in ('policy', 'tflite', 'onnx', 'best'):
  with flagsaver.flagsaver(policy=str(run / kind), run=str(run), states=40):
    check_policy.main()

def refused(policy, **flags):
  with flagsaver.flagsaver(policy=str(policy), states=40, **flags):
    try:
      command.guarded(check_policy.main)
    except SystemExit as ended:
      assert ended.code == 2

(run / 'tflite/1/policy_float32.tflite').write_bytes(b'TFL')
(run / 'onnx/1/policy.onnx').write_bytes(b'ONNX')
refused(run / 'tflite')
refused(run / 'onnx')
(run / 'elsewhere').mkdir()
(run / 'policy').rename(run / 'elsewhere/policy')
refused(run / 'elsewhere/policy')
facts = json.loads((run / 'run.json').read_text())
other = json.dumps(facts | {'environment': 'BitFlip-9'})
(run / 'elsewhere/run.json').write_text(other)
refused(run / 'elsewhere/policy')
(data,) = (run / 'elsewhere/policy/1/variables').glob('variables.data*')
data.write_bytes(data.read_bytes()[:1000])
refused(run / 'elsewhere/policy', run=str(run))
(run / 'elsewhere/policy/1/variables/variables.index').unlink()
refused(run / 'elsewhere/policy', run=str(run))
command.parse_flags(['x', '--states=0'])
"""


def test_the_check_has_its_first_name_too():
  done = subprocess.run(
    [sys.executable, 'export/check_policy.py', '--help'],
    capture_output=True,
    text=True,
    cwd=_ROOT,
  )
  assert (done.returncode, done.stderr) == (0, '')
  assert '--states' in done.stdout


@pytest.mark.slow
def test_exporting_and_checking(bitflip, tmp_path):
  run = tmp_path / 'run'
  shutil.copytree(bitflip.folder, run)
  # The best weights are others than the final ones.
  other = policies.make_run(
    tmp_path / 'other', 'bitflip.gin', environment='BitFlip-8', seed=4
  )
  checkpoints.save(other.agent, run / 'checkpoints' / 'best')
  done = subprocess.run(
    [sys.executable, '-c', _EXPORT_AND_CHECK, str(run)],
    capture_output=True,
    text=True,
    cwd=_ROOT,
  )
  lines = done.stdout.splitlines()
  assert lines.count('the same policy as the checkpoint') == 4, done.stderr
  assert lines[:2] == [f'policy  {run}/tflite/1', f'policy  {run}/onnx/1']
  assert f'policy  {run}/policy/1, saved_model' in lines
  for start, count in [
    ('signature  q_values: observation float32 [B, 9]', 2),
    ('latency  B = 64', 5),  # Two SavedModels, two .tflite, an .onnx.
    ('difference  serving_default action: 0.0e+00', 2),
    ('same action  100.00 %', 3),
  ]:
    assert sum(line.startswith(start) for line in lines) == count, start
  assert done.returncode == 2, done.stderr
  errors = [e for e in done.stderr.splitlines() if e.startswith('error: ')]
  for error, message in zip(
    errors,
    [
      'policy_float32.tflite cannot be loaded',
      'policy.onnx cannot be loaded',
      'does not lie in its run; give that with --run.',
      'does not come from .*elsewhere: another environment; give',
      'policy/1 cannot be loaded.*export the policy again.',
      'policy/1 cannot be loaded.*export the policy again.',
      'error: flag --states=0: ',
    ],
    strict=True,
  ):
    assert re.search(message, error), done.stderr


def test_the_first_reset_is_seeded_and_no_other():
  seeds = []

  class Env(gymnasium.Env):
    observation_space = spaces.Box(-1.0, 1.0, (1,))
    action_space = spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
      seeds.append(seed)
      return np.zeros([1]), {}

    def step(self, action):
      # Training takes an array of one number, too.
      return np.zeros([1]), np.ones([1]), True, False, {}

  found = run_policy.returns(Env(), lambda _: np.array(1), 3, 5)
  assert list(found) == [1.0] * 3
  assert seeds == [5, None, None]  # Else it would be one episode, thrice.


@pytest.mark.parametrize('reward', [np.array([2.0]), [2.0], np.float16(2)])
def test_a_reward_may_be_an_array_of_one(reward, monkeypatch):
  env = _Odd(None)
  answer = np.zeros(2, np.float32), reward, np.array([True]), False, {}
  monkeypatch.setattr(env, 'step', lambda _: answer)
  assert list(run_policy.returns(env, lambda _: np.array(1), 1, 5)) == [2.0]


@pytest.mark.parametrize('reward', [None, np.zeros(2), 'much'])
def test_a_reward_that_is_no_number_is_bad_input(reward, monkeypatch):
  env = _Odd(None)
  answer = np.zeros(2, np.float32), reward, True, False, {}
  monkeypatch.setattr(env, 'step', lambda _: answer)
  with pytest.raises(run_policy.InputError, match='_Odd'):
    list(run_policy.returns(env, lambda _: np.array(1), 1, 5))


def test_observations_have_the_space_s_form_not_their_own():
  box = spaces.Box(-1.0, 1.0, (2,))
  space = spaces.Dict({'a': spaces.Tuple([box, spaces.Discrete(3)]), 'b': box})
  described = environments.description.content_of(space)
  observation = {'a': [(0.5, 1.0), 2], 'b': [0.0, 0.25]}
  found = dict(run_policy._entries(described, observation, ''))
  flat = environments.observation_map(space)(observation)
  assert list(found) == ['a__index_0', 'a__index_1', 'b']
  for value, expected in zip(found.values(), flat.values(), strict=True):
    np.testing.assert_array_equal(value, expected)
  ((name, value),) = run_policy._entries({'type': 'Box'}, (0.5, 1.0), '')
  assert (name, value.tolist()) == ('observation', [0.5, 1.0])


@pytest.mark.parametrize(
  ('key', 'name'),
  [
    ('hand/angle', 'hand_angle'),
    ('a b.c', 'a_b_c'),
    ('_index_0', 'index_0'),
    ('höhe', 'h_he'),
    ('3d', 'observation_3d'),
    ('Seed', 'observation_Seed'),
    ('self', 'observation_self'),
    ('from', 'observation_from'),
    ('', 'observation'),
    ('高', 'observation'),
  ],
)
def test_inputs_have_names_that_python_takes(key, name):
  assert environments.input_name(key) == name
  assert run_policy._input_name(f'/{key}') == name


def test_pictures_last_as_long_as_they_should(tmp_path):
  with run_policy.video(tmp_path / 'x.gif', 20) as show:
    for i in range(3):
      show(np.full([20, 30, 3], 80 * i, np.uint8))
  assert imageio.v3.immeta(tmp_path / 'x.gif')['duration'] == 50  # ms


def test_another_environment_has_its_own_limit():
  limit = {
    'name': 'TimeLimit',
    'entry_point': 'gymnasium.wrappers:TimeLimit',
    'kwargs': {'max_episode_steps': 7},
  }
  made = {
    'gymnasium_spec': {
      'id': 'CartPole-v1',
      'entry_point': 'gymnasium.envs.classic_control.cartpole:CartPoleEnv',
      'kwargs': {},
    },
    'wrappers': [limit],
  }
  assert run_policy._make(made, None, None).spec.max_episode_steps == 7
  assert (
    run_policy._make(made, 'CartPole-v1', None).spec.max_episode_steps == 500
  )


def test_each_sample_has_a_seed_of_its_own(monkeypatch):
  monkeypatch.setattr(run_policy, 'batch_of_one', lambda _, entries: entries)
  policy = run_policy.Policy.__new__(run_policy.Policy)
  policy.metadata = {'observation_space': {'type': 'Box'}}
  pairs = []

  def sample(observation, seed):
    pairs.append(seed.numpy().tolist())
    return {'action': tf.zeros([1])}

  policy.signatures = {'sample': sample}
  act = policy.sampler(7)
  for _ in range(3):
    act(np.zeros([1]))
  assert pairs == [[7, 0], [7, 1], [7, 2]]
