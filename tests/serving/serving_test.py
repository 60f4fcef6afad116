"""An exported policy answers as its checkpoint does."""

import errno
import functools
import json
import os
import pathlib
import re
import signal
import subprocess
import sys

import gin
import gymnasium
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2
from tf_agents.drivers import py_driver
from tf_agents.policies import py_tf_eager_policy
from tf_agents.trajectories import time_step as ts

from qwr_tf import environments
from qwr_tf import networks
from qwr_tf import serving
from qwr_tf.config import effective
from qwr_tf.config import gin_files
from qwr_tf.config.errors import ConfigError
from qwr_tf.environments import spaces
from qwr_tf.replay import ReplayTable
from qwr_tf.serving import checks
from qwr_tf.serving import conversions
from qwr_tf.serving import exporter
from qwr_tf.serving import metadata as metadata_lib
from qwr_tf.serving import run_policy
from qwr_tf.serving import signatures
from qwr_tf.serving import versions
from tests.serving import policies

_FOLDER = pathlib.Path(__file__).resolve().parents[2] / 'gin_configs'
_V_CRITIC = (
  'make_agent.critic_network = @critics.ValueNetwork',
  'QwrAgent.baseline_fn = @critic_baseline',
  'QwrAgent.estimate_fn = @return_estimates',
)

# Continuous, discrete, images, and a critic of states.
_RUNS = {
  # Large initial weights: some means must lie beyond the action's bounds.
  'Humanoid-v4': (('mujoco_100k.gin',), ('GaussianHead.output_limit = None',)),
  'BitFlip-8': (('bitflip.gin',), ()),
  'ALE/Pong-v5': (('atari_100k_paper.gin',), ()),
  'Pendulum-v1': (('mujoco_100k_paper.gin',), _V_CRITIC),
}
_PLAYED = ('Pendulum-v1', 'BitFlip-8')  # By TF-Agents' drivers.


@pytest.fixture(autouse=True)
def _clear_gin():
  yield
  gin.clear_config()


@pytest.fixture(scope='module', name='runs')
def _runs(tmp_path_factory):
  """Runs by environment, made when they are asked for."""
  made = {}

  def run(name):
    if name not in made:
      files, bindings = _RUNS[name]
      folder = tmp_path_factory.mktemp('run')
      made[name] = policies.make_run(
        folder, *files, environment=name, bindings=bindings
      )
    return made[name]

  return run


@pytest.fixture(scope='module', name='run_of')
def _run_of(tmp_path_factory):
  """Runs by preset, made when they are asked for."""
  return functools.cache(
    lambda preset: policies.make_run(tmp_path_factory.mktemp('run'), preset)
  )


@pytest.fixture(scope='module', name='exports')
def _exports(runs):
  """(run, version) by environment, written when they are asked for."""

  @functools.cache
  def export(name):
    run = runs(name)
    if name in _PLAYED:
      return run, serving.export_run(run.folder, run.folder / 'policy')
    return run, policies.export(run)

  return export


def _load(version):
  return tf.saved_model.load(str(version)).signatures


def _expected_actions(run, observations):
  """The evaluation policy's, through the map that environments act with."""
  steps = ts.restart(tf.constant(observations), batch_size=len(observations))
  to_environment = spaces.action_map(run.space)
  actions = run.agent.policy.action(steps).action.numpy()
  return np.stack([to_environment(action) for action in actions])


# The same answers as the checkpoint


# Lines of a configuration that decide what is exported.
_ACTOR = r'\S*(actor_network|ActorNetwork|Head|policies_fn|normalizer)\S* ='
_CRITIC = r'\S*(make_agent\.critic_\w+|dtype_policy) ='


def _different(*patterns):
  """Presets that differ in lines of one of the patterns, one of each kind."""
  found = {}
  for preset in gin_files.presets():
    if preset.startswith('offline_'):
      continue  # They need a data set.
    config = gin_files.parse([preset], [])
    environment = effective.value('run', 'environment')
    discrete = environment.startswith(
      ('ALE', 'BitFlip', 'CartPole', 'LunarLander')
    )
    for pattern in patterns:
      lines = [
        line
        for line in config.splitlines()
        if re.match(pattern, line) and 'output_limit' not in line
      ]
      found.setdefault((pattern, *lines, discrete), preset)
  gin.clear_config()
  return sorted({*found.values()})


# What the critic of a family tells of; the others have Q(s, a).
_CRITICS = {'awr': 'values', 'bc': None, 'rwr': None}


@pytest.mark.slow
@pytest.mark.parametrize('preset', _different(_ACTOR, _CRITIC))
def test_every_preset_exports_its_policy(preset, run_of, tmp_path, monkeypatch):
  run = run_of(preset)
  observations = policies.observations(run.agent)
  functions = signatures.signatures(run.agent, run.space)
  exporter.save_signatures(functions, tmp_path / 'saved_model')
  loaded = _load(tmp_path / 'saved_model')
  # Traced once, not again for each comparison.
  monkeypatch.setattr(signatures, 'signatures', lambda *_: functions)
  critic = _CRITICS.get(preset.split('_')[0], 'q_values')
  names = {'serving_default', 'sample', 'distribution', critic}
  assert set(loaded) == names - {None}
  assert signatures.critic_signature(run.agent) == critic
  serve = loaded['serving_default']
  actions = serve(observation=tf.constant(observations))['action']
  expected = _expected_actions(run, observations)
  np.testing.assert_allclose(actions, expected, atol=1e-6)
  for name, *pair in checks.signature_outputs(
    run.agent, run.space, loaded, observations
  ):
    assert checks.difference(*pair).largest <= 1e-6, name
  unusual = checks.unusual_observations(observations)
  alone = {
    name: theirs
    for name, _, theirs in checks.signature_outputs(
      run.agent, run.space, loaded, observations[:1]
    )
  }
  for name, ours, theirs in checks.signature_outputs(
    run.agent, run.space, loaded, unusual
  ):
    assert checks.answers_alike(ours, theirs, 1e-6), name
    # The rows beside them are answered as they are alone.
    if 'sample' not in name:
      np.testing.assert_allclose(theirs[-1:], alone[name], 1e-5, 1e-5)
    if observations.dtype != np.uint8:
      assert _missing(theirs).tolist() == 3 * [False] + 3 * [True] + [False]


def _missing(answers):
  """Of each row [B, ...], whether all of it says that there is no answer."""
  if answers.dtype.kind == 'f':
    missing = np.isnan(answers)
  else:
    missing = answers == np.iinfo(answers.dtype).min
  rows = missing.reshape(len(missing), -1)
  assert (rows.any(axis=1) == rows.all(axis=1)).all()
  return rows.all(axis=1)


def test_nothing_is_close_to_nan():
  apart = checks.difference(np.array([0.0, np.nan]), np.zeros(2))
  assert not apart.largest <= 1e9


@pytest.mark.slow
@pytest.mark.parametrize('preset', _different(_ACTOR))
def test_every_actor_runs_on_other_runtimes(preset, run_of, tmp_path):
  run = run_of(preset)
  observations = policies.observations(run.agent)
  # They calculate with float32, whatever the preset does.
  facts = json.loads((run.folder / 'run.json').read_text())
  agent = serving.load_agent(run.folder, facts, float32=True)
  expected = _expected_actions(run._replace(agent=agent), observations)
  visited = policies.observations(agent, 100, seed=1)
  conversions.write_tflite(agent, run.space, tmp_path, visited)
  conversions.write_onnx(agent, run.space, tmp_path)
  for act in (
    conversions.load_tflite(tmp_path / conversions.FLOAT32),
    conversions.load_onnx(tmp_path / conversions.ONNX),
  ):
    np.testing.assert_allclose(act(observations), expected, atol=1e-5)
    np.testing.assert_allclose(act(observations[:1]), expected[:1], atol=1e-5)
    unusual = checks.unusual_observations(observations)
    ours = checks.actions(agent, run.space, unusual)
    assert checks.answers_alike(ours, act(unusual), 1e-5)
  quantized = conversions.load_tflite(tmp_path / conversions.INT8)
  assert checks.answers_alike(ours, quantized(unusual), np.inf)
  if observations.dtype != np.uint8:
    for answers in (act(unusual), quantized(unusual)):
      assert _missing(answers).tolist() == 3 * [False] + 3 * [True] + [False]
  apart = np.abs(quantized(observations) - expected)
  if expected.dtype.kind == 'f':
    assert apart.mean() <= 0.02 * (run.space.high - run.space.low).min()
  sizes = [
    (tmp_path / name).stat().st_size
    for name in (conversions.INT8, conversions.FLOAT32)
  ]
  assert sizes[0] < 0.5 * sizes[1], 'nothing was quantised'


@pytest.mark.slow
def test_int8_keeps_small_observations_beside_large_ones(tmp_path):
  run = policies.make_run(
    tmp_path, 'mujoco_100k.gin', environment='Humanoid-v4'
  )
  scales = np.geomspace(1e-2, 1e2, 376, dtype=np.float32)
  (normalizer,) = {
    module
    for module in run.agent.actor_network.submodules
    if isinstance(module, networks.ObservationNormalizer)
  }
  observations = scales * policies.observations(run.agent, 200)
  for _ in range(200):  # Forget the statistics it has.
    normalizer.update(tf.constant(observations))
  expected = _expected_actions(run, observations)
  conversions.write_tflite(run.agent, run.space, tmp_path, observations[100:])
  act = conversions.load_tflite(tmp_path / conversions.INT8)
  apart = np.abs(act(observations[:100]) - expected[:100])
  assert apart.mean() <= 0.002 * 0.8  # The range: bounds are +-0.4.


_SERVE = """
import sys
for name in ('tf_agents', 'tensorflow_probability', 'qwr_tf', 'gymnasium'):
  sys.modules[name] = None  # Importing it would fail.
import numpy as np, tensorflow as tf
for version, file in zip(sys.argv[1::2], sys.argv[2::2]):
  signatures = tf.saved_model.load(version).signatures
  given = {k: tf.constant(v) for k, v in np.load(file).items()}
  for name, function in signatures.items():
    wanted = function.structured_input_signature[1]
    outputs = function(**{key: given[key] for key in wanted})
    np.savez(f'{file}.{name}.npz', **outputs)
"""


def _answers(exports, folder):
  """Inputs and what every signature says of them, by environment.

  They are asked in a process that can import TensorFlow alone.
  """
  inputs, arguments = {}, []
  for i, name in enumerate(_RUNS):
    run, version = exports(name)
    observations = policies.observations(run.agent)
    inputs[name] = {
      'observation': observations,
      'action': _expected_actions(run, observations),
      'seed': np.array([1, 2**40]),
    }
    np.savez(folder / f'{i}.npz', **inputs[name])
    arguments += [str(version), str(folder / f'{i}.npz')]
  command = [sys.executable, '-c', _SERVE, *arguments]
  subprocess.run(command, check=True, cwd=folder)
  for i, name in enumerate(_RUNS):
    files = {p.suffixes[-2][1:]: p for p in folder.glob(f'{i}.npz.*')}
    yield name, inputs[name], {k: dict(np.load(p)) for k, p in files.items()}


@pytest.mark.slow
def test_tensorflow_alone_gets_the_checkpoints_answers(runs, exports, tmp_path):
  for name, given, found in _answers(exports, tmp_path):
    agent, observations = runs(name).agent, given['observation']
    critic = 'values' if name == 'Pendulum-v1' else 'q_values'
    assert set(found) == {'serving_default', 'sample', 'distribution', critic}
    assert_close = functools.partial(
      np.testing.assert_allclose, rtol=1e-6, atol=1e-6, err_msg=name
    )
    assert_close(found['serving_default']['action'], given['action'])
    policy = agent.actor_network(tf.constant(observations))[0]
    if name in ('BitFlip-8', 'ALE/Pong-v5'):
      expected = {'logits': policy.logits}
      actions = tf.range(int(runs(name).space.n))[:, tf.newaxis]
      q_values = tf.transpose(agent.q_values(observations, actions))
    else:
      expected = {'loc': policy.mean(), 'scale_diag': policy.stddev()}
      bound = runs(name).space.high[0]
      actions = given['action'][np.newaxis] / bound
      q_values = agent.q_values(observations, actions)[0]
    assert set(found['distribution']) == set(expected)
    for parameter, value in expected.items():
      assert_close(found['distribution'][parameter], value)
    assert_close(found[critic][critic], q_values, rtol=1e-5)
    if name == 'Humanoid-v4':
      # Its bounds are +-0.4; the agent's are +-1.
      mean = policy.mean().numpy()
      assert (np.abs(mean) > 1).any(), 'the clip is not tested'
      assert_close(given['action'], 0.4 * np.clip(mean, -1, 1))


def test_units_of_a_discrete_space_that_starts_elsewhere():
  space = environments.spaces.spaces.Discrete(3, start=-1)
  units = signatures.ActionUnits(space)
  np.testing.assert_array_equal(units.to_environment(tf.range(3)), [-1, 0, 1])
  np.testing.assert_array_equal(units.to_agent(tf.range(-1, 2)), [0, 1, 2])


def test_units_of_bounds_that_are_not_symmetric():
  space = environments.spaces.spaces.Box(
    np.array([0.0, -4.0], np.float32), np.array([1.0, 8.0], np.float32)
  )
  units = signatures.ActionUnits(space)
  given = tf.constant([[-1.0, 1.0], [0.0, 0.5], [9.0, -9.0]])
  expected = [[0.0, 8.0], [0.5, 5.0], [1.0, -4.0]]
  np.testing.assert_allclose(units.to_environment(given), expected)
  np.testing.assert_allclose(units.to_agent(expected[:2]), given[:2])


def test_units_of_bounds_without_a_choice():
  # An action that is held: gymnasium allows it, data sets have it as 0.
  space = environments.spaces.spaces.Box(
    np.array([0.5, -1.0], np.float32), np.array([0.5, 1.0], np.float32)
  )
  units = signatures.ActionUnits(space)
  held = units.to_environment(tf.constant([[0.7, 0.7]]))
  np.testing.assert_allclose(held, [[0.5, 0.7]])
  np.testing.assert_allclose(units.to_agent(held), [[0.0, 0.7]])


def test_units_of_bounds_that_float32_cannot_hold():
  low, high = np.array([-0.1, -1 / 3, -1.0]), np.array([0.3, 1 / 7, 1.0])
  space = environments.spaces.spaces.Box(low, high, dtype=np.float64)
  units = signatures.ActionUnits(space)
  ends = units.to_environment(tf.constant([[-9.0] * 3, [9.0] * 3])).numpy()
  assert ends.dtype == np.float32
  for action in ends.astype(np.float64):
    assert space.contains(action)
  np.testing.assert_allclose(ends, [low, high], rtol=1e-6)


@pytest.mark.slow
def test_the_seed_decides_the_samples(exports):
  run, version = exports('Pendulum-v1')
  sample = _load(version)['sample']
  observation = tf.zeros([4000, 3])

  def actions(*seed):
    seed = tf.constant(seed, tf.int64)
    return sample(observation=observation, seed=seed)['action'].numpy()

  first = actions(1, 2)
  np.testing.assert_array_equal(first, actions(1, 2))
  for other in [(2, 1), (1, 3), (1 + 2**40, 2), (1, 2 - 2**40)]:
    assert np.mean(first == actions(*other)) < 0.01, other
  # Pendulum's bounds are +-2, sigma is 0.4 of them.
  policy = run.agent.actor_network(observation[:1])[0]
  assert np.abs(2 * policy.mean()[0, 0] - first.mean()) < 0.05
  assert np.abs(0.8 - first.std()) < 0.05


@pytest.mark.slow
def test_samples_of_discrete_actions_have_the_policys_frequencies(exports):
  run, version = exports('BitFlip-8')
  observation = tf.zeros([8000, 9])
  actions = _load(version)['sample'](
    observation=observation, seed=tf.constant([5, 6], tf.int64)
  )['action']
  found = np.bincount(actions, minlength=8) / 8000
  policy = run.agent.actor_network(observation[:1])[0]
  probabilities = policy.probs_parameter()
  np.testing.assert_allclose(found, probabilities[0], atol=0.02)


# What it refuses


@pytest.mark.slow
@pytest.mark.parametrize(
  'observation, message',
  [
    (np.zeros([2, 8], np.float32), r'observation \[2,8\].*expected .*\?,9'),
    (np.zeros([2, 9]), 'expected to be a float tensor but is a double'),
  ],
)
def test_bad_observations_are_refused(observation, message, exports):
  serve = _load(exports('BitFlip-8')[1])['serving_default']
  with pytest.raises(tf.errors.InvalidArgumentError, match=message):
    serve(observation=tf.constant(observation))


@pytest.mark.slow
def test_actions_that_are_not_as_many_as_observations_are_refused(exports):
  # Neither may be broadcast: the answer would be of other pairs.
  q_values = _load(exports('Humanoid-v4')[1])['q_values']
  for observations, actions in [(3, 1), (1, 3), (3, 2)]:
    with pytest.raises(tf.errors.InvalidArgumentError, match='as many actions'):
      q_values(
        observation=tf.zeros([observations, 376]),
        action=tf.zeros([actions, 17]),
      )


@pytest.mark.slow
@pytest.mark.parametrize('preset', ['mujoco_100k.gin', 'bitflip.gin'])
def test_an_agent_begins_with_the_weights_of_a_run_or_an_export(
  preset, tmp_path
):
  run = policies.make_run(tmp_path, preset)
  policies.export(run)
  other = policies.make_run(tmp_path / 'other', preset, seed=4)
  observations = policies.observations(run.agent)

  def outputs(agent):
    network = agent.acting_network
    return network.outputs(tf.constant(observations)).numpy()

  for source in (run.folder, run.folder / 'policy'):
    for network in (
      other.agent.actor_network,
      other.agent.critic_network,
      other.agent.target_network,
    ):
      for variable in network.trainable_variables:
        variable.assign(variable + 0.1)
    assert not np.allclose(outputs(other.agent), outputs(run.agent))
    gin_files.parse([preset], [])
    serving.warm_start(other.agent, source, run.environment)
    np.testing.assert_array_equal(outputs(other.agent), outputs(run.agent))
    for mine, target in zip(
      other.agent.critic_network.trainable_variables,
      other.agent.target_network.trainable_variables,
      strict=True,
    ):
      np.testing.assert_array_equal(mine, target)


def test_a_warm_start_leaves_the_schedule_of_a_head_as_it_is(tmp_path):
  bindings = [
    'actors.ActorNetwork.head_fn = @FallingScaleGaussianHead',
    'mlp_torso.units = (8,)',
  ]
  run, other = (
    policies.make_run(tmp_path / name, 'mujoco_100k.gin', bindings=bindings)
    for name in ('run', 'other')
  )
  other.agent.train_step_counter.assign(7)
  gin_files.parse(['mujoco_100k.gin'], bindings)
  serving.warm_start(other.agent, run.folder, run.environment)
  assert other.agent.train_step_counter == 7


@pytest.mark.slow
def test_weights_of_other_networks_are_one_line(tmp_path):
  run = policies.make_run(tmp_path, 'bitflip.gin')
  other = policies.make_run(tmp_path / 'other', 'mujoco_100k.gin')
  for source in (run.folder, tmp_path / 'nothing'):
    with pytest.raises(ConfigError) as error:
      serving.warm_start(other.agent, source, other.environment)
    assert '\n' not in str(error.value)


def test_a_folder_without_a_run_is_bad_input(tmp_path):
  with pytest.raises(ConfigError, match='no run folder'):
    serving.export_run(tmp_path, tmp_path / 'policy')
  assert not (tmp_path / 'policy').exists()


@pytest.mark.slow
def test_a_run_without_a_checkpoint_is_bad_input(tmp_path):
  policies.make_run(tmp_path, 'bitflip.gin', environment='BitFlip-8')
  (tmp_path / 'checkpoints').rename(tmp_path / 'elsewhere')
  with pytest.raises(ConfigError, match='no checkpoint'):
    serving.export_run(tmp_path, tmp_path / 'policy')
  assert not (tmp_path / 'policy').exists()


@pytest.mark.slow
def test_a_run_of_another_version_is_told(tmp_path):
  run = policies.make_run(tmp_path, 'bitflip.gin', environment='BitFlip-8')
  facts = json.loads((run.folder / 'run.json').read_text())
  config = facts['config']
  for changed, message in [
    (config + 'QwrAgent.old_name = 1\n', "doesn't have a parameter named 'old"),
    (config + 'mlp_torso.units = (32,)\n', 'no checkpoint of this config'),
  ]:
    assert changed != config
    (run.folder / 'run.json').write_text(
      json.dumps(facts | {'config': changed})
    )
    with pytest.raises(ConfigError, match=message) as caught:
      serving.export_run(run.folder, tmp_path / 'policy')
    assert 'its run.json has the commit' in str(caught.value)
  assert not (tmp_path / 'policy').exists()


@pytest.mark.slow
def test_formats_do_not_mix(exports):
  run, version = exports('BitFlip-8')
  with pytest.raises(ConfigError, match='format saved_model'):
    serving.export_run(run.folder, version.parent, 'tflite')


# Versions


def _fake_export(folder):
  (folder / 'assets.extra').mkdir(parents=True)
  (folder / 'assets.extra' / 'metadata.json').write_text('{}')


def test_versions_grow_and_no_temporary_folder_stays(tmp_path):
  _fake_export(tmp_path / '7')
  (tmp_path / '9').mkdir()  # Somebody else's.
  assert versions.write_new(tmp_path, _fake_export).name == '10'
  assert {p.name for p in tmp_path.iterdir()} == {'7', '9', '10'}
  assert [p.name for p in versions.versions(tmp_path)] == ['7', '10']
  assert versions.newest(tmp_path).name == '10'
  assert versions.newest(tmp_path / '7').name == '7'


def test_a_version_that_another_process_takes_is_left_to_it(tmp_path):
  def write(folder):
    _fake_export(folder)
    _fake_export(tmp_path / '1')  # It was quicker.

  assert versions.write_new(tmp_path, write).name == '2'


@pytest.mark.parametrize('error', [KeyboardInterrupt, ValueError])
def test_an_export_that_fails_leaves_nothing(error, tmp_path):
  def write(folder):
    _fake_export(folder)
    raise error

  with pytest.raises(error):
    versions.write_new(tmp_path, write)
  assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize(
  'error, raised, message',
  [
    (OSError(errno.ENOSPC, 'No space left'), OSError, 'No space left: .*new'),
    (
      tf.errors.ResourceExhaustedError(None, None, '/x; No space left'),
      OSError,
      'No space left: .*new',
    ),
    # What another --output mends is bad input.
    (OSError(errno.EROFS, 'Read-only'), ConfigError, '--output'),
  ],
)
def test_a_disk_that_takes_nothing_is_told(error, raised, message, tmp_path):
  def write(folder):
    _fake_export(folder)
    raise error

  with pytest.raises(raised, match=message) as caught:
    versions.write_new(tmp_path / 'new', write)
  assert caught.type is raised
  assert not [*(tmp_path / 'new').iterdir()]


def test_a_version_without_its_metadata_is_bad_input(tmp_path):
  _fake_export(tmp_path / '1')
  for text in ('{}', '[]', '3', 'no JSON'):
    (tmp_path / '1/assets.extra/metadata.json').write_text(text)
    with pytest.raises(ConfigError, match='export the policy again'):
      metadata_lib.read(tmp_path / '1')


def test_a_killed_export_leaves_no_version(tmp_path):
  def write(folder):
    _fake_export(folder)
    os.kill(os.getpid(), signal.SIGKILL)

  child = os.fork()
  if not child:
    versions.write_new(tmp_path, write)
  assert os.waitpid(child, 0)[1] == signal.SIGKILL
  assert [*tmp_path.iterdir()], 'it did not come to writing'
  assert not versions.versions(tmp_path)
  assert versions.write_new(tmp_path, _fake_export).name == '1'


@pytest.mark.parametrize(
  'make, message',
  [
    (lambda p: p.write_text('x'), 'is a file'),
    (lambda p: (p / 'x').mkdir(parents=True), 'holds no exported policy'),
    (lambda p: (p / '1').mkdir(parents=True), 'holds no exported policy'),
  ],
)
def test_an_output_that_is_no_export_is_left_alone(make, message, tmp_path):
  output = tmp_path / 'output'
  make(output)
  before = sorted(tmp_path.rglob('*'))
  with pytest.raises(ConfigError, match=message):
    versions.write_new(output, _fake_export)
  assert sorted(tmp_path.rglob('*')) == before


# Beside the signatures


@pytest.mark.slow
def test_metadata_says_where_the_policy_comes_from(exports):
  run, version = exports('Pendulum-v1')
  path = version / 'assets.extra' / 'metadata.json'
  metadata = json.loads(path.read_text())
  facts = json.loads((run.folder / 'run.json').read_text())
  for name in ('config', 'seed', 'scores', 'interactions', 'commit', 'preset'):
    assert metadata[name] == facts[name]
  assert metadata['versions']['gymnasium']
  assert metadata['algorithm'] == 'QWR-LSE'
  assert metadata['gamma'] == run.agent.gamma
  assert metadata['format'] == 'saved_model'
  assert metadata['environment'] == 'Pendulum-v1'
  assert metadata['observation_space']['shape'] == [3]
  assert metadata['action_space']['high'] == [2.0]
  assert metadata['signatures'] == {
    'critic': 'values',
    'distribution': 'MultivariateNormalDiag',
  }


@pytest.mark.slow
@pytest.mark.parametrize('name', ['Pendulum-v1', 'BitFlip-8'])
def test_the_server_can_warm_up(name, exports):
  _check_warm_up(exports(name)[1])


def _check_warm_up(version):
  loaded = _load(version)
  path = version / 'assets.extra' / 'tf_serving_warmup_requests'
  asked = set()
  for record in tf.data.TFRecordDataset(str(path)):
    log = prediction_log_pb2.PredictionLog.FromString(record.numpy())
    request = log.predict_log.request
    inputs = {k: tf.make_ndarray(v) for k, v in request.inputs.items()}
    assert len({len(value) for value in inputs.values()}) == 1  # For batching.
    signature = request.model_spec.signature_name
    outputs = loaded[signature](
      **{k: tf.constant(v) for k, v in inputs.items()}
    )
    assert all(np.isfinite(value).all() for value in outputs.values())
    asked.add(signature)
  assert asked == set(loaded) - {'sample'}


@pytest.mark.slow
@pytest.mark.parametrize('name', _PLAYED)
def test_tf_agents_drivers_play_the_exported_policies(name, exports):
  run, version = exports(name)
  agent = run.agent
  table = ReplayTable(agent.collect_data_spec, 100)
  for folder in ('greedy_policy', 'collect_policy'):
    policy = py_tf_eager_policy.SavedModelPyTFEagerPolicy(
      str(version / folder), load_specs_from_pbtxt=True
    )
    rows = []
    with environments.load(name, seed=0) as env:
      driver = py_driver.PyDriver(env, policy, [rows.append], max_steps=12)
      driver.run(env.reset())
    steps = ts.restart(
      tf.stack([row.observation for row in rows]), batch_size=len(rows)
    )
    if folder == 'greedy_policy':
      np.testing.assert_allclose(
        [row.action for row in rows],
        agent.policy.action(steps).action,
        atol=1e-6,
      )
  expected = agent.collect_policy.distribution(steps).info
  for row in rows:
    table.add_batch(tf.nest.map_structure(lambda x: x[np.newaxis], row))
  stored = tf.nest.map_structure(lambda x: x[0], table.gather_all())
  tf.nest.map_structure(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6),
    stored.policy_info,
    expected,
  )
  assert len(set(np.ravel([row.action for row in rows]))) > 1


@pytest.mark.slow
def test_a_loaded_collect_policy_draws_actions_of_its_own(exports):
  _, version = exports('BitFlip-8')
  step = ts.restart(tf.zeros([64, 9]), batch_size=64)
  one, other = (
    tf.saved_model.load(str(version / 'collect_policy')) for _ in range(2)
  )
  assert np.any(one.action(step).action != other.action(step).action)


def test_the_global_seed_is_as_before():
  tf.random.set_seed(7)
  expected = tf.random.uniform([3])
  tf.random.set_seed(7)
  with exporter._no_global_seed():
    tf.random.uniform([1])
  np.testing.assert_array_equal(tf.random.uniform([3]), expected)


class _AnyKeys(gymnasium.Env):
  """Entries with names that Python, signatures or TensorFlow do not take."""

  action_space = gymnasium.spaces.Box(-1.0, 1.0, (2,))
  observation_space = gymnasium.spaces.Dict(
    {
      key: gymnasium.spaces.Box(-1.0, 1.0, (2,))
      for key in ('seed', 'Action', 'self', 'from', '3d', 'höhe', 'a b', 'd/')
    }
    | {'': gymnasium.spaces.Tuple([gymnasium.spaces.Discrete(2)])}
  )

  def reset(self, *, seed=None, options=None):
    return self.observation_space.sample(), {}

  def step(self, action):
    return self.observation_space.sample(), 1.0, True, False, {}


@pytest.mark.slow
def test_entries_may_have_any_name(tmp_path, monkeypatch):
  spec = gymnasium.envs.registration.EnvSpec('AnyKeys-v0', _AnyKeys)
  monkeypatch.setitem(gymnasium.registry, 'AnyKeys-v0', spec)
  run = policies.make_run(
    tmp_path,
    'vector.gin',
    environment='AnyKeys-v0',
    bindings=['make_agent.normalizer = None', 'mlp_torso.units = (8, 8)'],
  )
  facts = json.loads((tmp_path / 'run.json').read_text())
  version = serving.export(run.agent, facts, tmp_path / 'policy')
  policy = run_policy.Policy(version)
  _, inputs = policy.signatures['sample'].structured_input_signature
  assert set(inputs) == {
    *('observation_seed', 'observation_Action', 'observation_self', 'seed'),
    *('observation_from', 'observation_3d', 'h_he', 'a_b', 'd', 'index_0'),
  }
  env = run_policy.make_environment(policy.metadata, None, None, [__name__])
  for act in (policy.mode, policy.sampler(0)):
    assert list(run_policy.returns(env, act, 2, 0)) == [1.0, 1.0]
  _check_warm_up(version)
  step = run.agent.time_step_spec
  step = tf.nest.map_structure(lambda s: tf.zeros([1, *s.shape], s.dtype), step)
  loaded = tf.saved_model.load(str(version / 'greedy_policy'))
  np.testing.assert_allclose(
    loaded.action(step).action, run.agent.policy.action(step).action, atol=1e-6
  )


@pytest.mark.slow
def test_actions_that_are_not_finite_have_no_value(exports):
  q_values = _load(exports('Humanoid-v4')[1])['q_values']
  action = np.zeros([3, 17], np.float32)
  action[1, 4] = np.nan
  values = q_values(observation=tf.zeros([3, 376]), action=tf.constant(action))
  assert np.isnan(values['q_values']).tolist() == [False, True, False]


def test_answers_that_are_alike():
  nan, least = np.nan, np.iinfo(np.int32).min
  for expected, answers, tolerance, alike in [
    ([nan, 1e30], [nan, 1.000001e30], 1e-5, True),
    ([nan, 1e30], [nan, 1.001e30], 1e-5, False),
    ([nan, 0.5], [0.5, 0.5], 1e-5, False),
    ([nan, 0.5], [nan, 0.6], np.inf, True),
    ([nan, 0.5], [0.5, nan], np.inf, False),
    ([least, 3], [least, 2], np.inf, True),
    ([least, 3], [3, 3], np.inf, False),
  ]:
    pair = np.array(expected), np.array(answers)
    if least in expected:
      pair = [x.astype(np.int32) for x in pair]
    assert checks.answers_alike(*pair, tolerance) == alike


def test_an_element_without_a_choice_has_no_range():
  bounds = np.array([-1.0, 0.0], 'f'), np.array([1.0, 0.0], 'f')
  space = gymnasium.spaces.Box(*bounds)
  assert checks.relative_to_range(0.5, space) == 0.25
  nothing = gymnasium.spaces.Box(bounds[0][1:], bounds[1][1:])
  assert checks.relative_to_range(0.0, nothing) == 0.0
