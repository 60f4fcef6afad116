"""What every kind of space must do: a test for each kind and each ability."""

import importlib.util
import pathlib
import re
import typing

import gin
import gymnasium
import numpy as np
import pytest
import tensorflow as tf
import tree
from tf_agents.drivers import dynamic_step_driver
from tf_agents.environments import tf_py_environment
from tf_agents.specs import tensor_spec

from qwr_tf import datasets
from qwr_tf import environments
from qwr_tf import replay
from qwr_tf import serving
from qwr_tf.acting import numpy_actor
from qwr_tf.acting import observers
from qwr_tf.acting import offline
from qwr_tf.acting import recording
from qwr_tf.agents import qwr_agent
from qwr_tf.config import gin_files
from qwr_tf.runs import checkpoints
from qwr_tf.serving import checks
from qwr_tf.serving import conversions
from qwr_tf.serving import run_policy
from qwr_tf.serving import saved_policy
from qwr_tf.serving import signatures
from qwr_tf.training import experiment
from tests.training import any_space
from tests.training import killed_runs

_KINDS = pytest.mark.parametrize('kind', any_space.KINDS)
_ID = 'tests.training.any_space:AnySpace-v0'
_SMALL = (
  f"run.environment = '{_ID}'",
  'load_environment.max_episode_steps = 20',
  'run.replay_capacity = 200',
  'run.interactions = 20',
  'Collector.env_steps = 12',
  'run.eval_environments = 1',
  'iterate.batch_size = 4',
  'iterate.critic_steps = 2',
  'iterate.actor_steps = 2',
  'mlp_torso.units = (8,)',
  'QwrAgent.backup_actions = None',
  'QwrAgent.regression_actions = None',
)


def test_the_page_names_every_kind_and_every_test():
  path = pathlib.Path(__file__).parents[2] / 'docs/reference/spaces.md'
  page, _, refused = path.read_text('utf-8').partition('## Spaces that')
  rows = re.findall(r'^\| (.+?) \|( yes \|)+$', page, re.MULTILINE)
  assert [kind for kind, _ in rows] == [*any_space.KINDS]
  named = set(re.findall(r'\| `(test_\w+)` \|', page))
  present = {name for name in globals() if name.startswith('test_')}
  assert named == present - {'test_the_page_names_every_kind_and_every_test'}
  other = path.parents[2] / 'tests/environments/environments_test.py'
  for name in re.findall(r'`(test_\w+)`', refused):
    assert f'def {name}(' in other.read_text('utf-8')


@pytest.fixture(autouse=True)
def _eagerly():
  tf.config.run_functions_eagerly(True)
  yield
  tf.config.run_functions_eagerly(False)
  gin.clear_config()


def _configure(kind, *bindings):
  small = [*_SMALL, f"load_environment.kind = '{kind}'", *bindings]
  if kind == 'half-bounded':
    small.append('load_environment.action_bounds = (-1.0, 2.0)')
  gin_files.parse(['mujoco_100k.gin'], small)


def _build(kind, *bindings):
  _configure(kind, *bindings)
  return experiment.build(experiment.settings(), seed=0)


def _facts():
  return {'config': gin.config_str(), 'environment': _ID, 'seed': 0}


def _weights(network):
  return [v.numpy() for v in network.trainable_variables]


@pytest.fixture(scope='module', params=any_space.KINDS, name='trained')
def _trained(request):
  """A run of three iterations, and the weights it began with."""
  tf.config.run_functions_eagerly(True)
  parts = _build(request.param)
  agent = parts.agent
  agent.acting_network.create_variables()
  networks = agent.actor_network, agent.critic_network
  before = [_weights(network) for network in networks]
  for _ in range(3):
    _, metrics = next(parts.iterations)
    assert all(np.isfinite(x) for x in metrics.values())
  return request.param, parts, before


def test_training_changes_all_weights(trained):
  _, parts, before = trained
  networks = parts.agent.actor_network, parts.agent.critic_network
  for old, network in zip(before, networks, strict=True):
    pairs = zip(old, _weights(network), strict=True)
    assert all(np.any(a != b) for a, b in pairs)
  returns = parts.evaluator.returns(2, sampled=True)
  assert len(returns) == 2 and all(0 <= x <= 5 for x in returns)


@pytest.mark.slow
def test_a_restored_run_goes_on_bit_for_bit(trained, tmp_path):
  kind, lived, _ = trained
  restored = _build(kind)

  def files(parts):
    return checkpoints.Checkpoints(
      tmp_path,
      {'agent': parts.agent},
      replay.TableFiles(parts.table),
      {'collector': parts.collector},
    )

  files(lived).save(1)
  assert files(restored).restore()
  returns = [next(p.iterations)[0].episode_returns for p in (lived, restored)]
  assert returns[0] == returns[1]
  assert killed_runs.digests(restored) == killed_runs.digests(lived)


def test_numpy_acts_as_the_network_does(trained):
  kind, parts, _ = trained
  _configure(kind)
  network = parts.agent.acting_network
  observations = checks.visited_observations(parts.agent, _ID, 5, 1)
  act = numpy_actor.NumpyActor(network)
  actions, params = act(observations, None)
  policy = network(tree.map_structure(tf.constant, observations))[0]
  np.testing.assert_allclose(actions, policy.mode(), atol=1e-5)
  (name,) = params
  np.testing.assert_allclose(
    params[name], policy.parameters[name], rtol=1e-5, atol=1e-5
  )
  one = tree.map_structure(lambda x: x[0], observations)
  np.testing.assert_allclose(act(one, None)[0], actions[0], atol=1e-5)
  sample, _ = act(one, np.random.default_rng(0))
  assert sample.shape == actions[0].shape


class _Subject(typing.NamedTuple):
  """An agent of a kind, and the versions of its export."""

  agent: qwr_agent.QwrAgent
  space: gymnasium.Space
  observations: typing.Any
  path: pathlib.Path


@pytest.fixture(scope='module')
def _exported_once(trained, tmp_path_factory):
  kind, parts, _ = trained
  tf.config.run_functions_eagerly(False)
  _configure(kind)
  agent, path = parts.agent, tmp_path_factory.mktemp('policy')
  serving.export(agent, _facts(), path)
  with experiment.load_environment(_ID) as env:
    space = env.env.action_space
  observations = checks.visited_observations(agent, _ID, 4, 1)
  return kind, _Subject(agent, space, observations, path)


@pytest.fixture(name='subject')
def _subject(_exported_once):
  kind, subject = _exported_once
  tf.config.run_functions_eagerly(False)
  _configure(kind)
  return subject


@pytest.mark.slow
def test_an_export_answers_as_the_agent(subject):
  agent, space, observations, path = subject
  exported = tf.saved_model.load(str(path / '1')).signatures
  _, inputs = exported['serving_default'].structured_input_signature
  with experiment.load_environment(_ID) as env:
    entries = environments.entries(env.env.observation_space)
  assert {k: (*s.shape[1:],) for k, s in inputs.items()} == {
    environments.input_name(e.name): e.space.shape for e in entries
  }
  found = {
    name: checks.difference(*pair).largest
    for name, *pair in checks.signature_outputs(
      agent, space, exported, observations
    )
  }
  assert {name.split()[0] for name in found} >= {'sample', 'distribution'}
  assert all(x <= checks.TOLERANCE for x in found.values())
  feed = {k: tf.constant(x) for k, x in signatures.feed(observations).items()}
  for action in exported['serving_default'](**feed)['action'].numpy():
    assert space.contains(action.astype(space.dtype))


@pytest.mark.slow
def test_a_lite_model_answers_as_the_agent(subject, tmp_path):
  agent, space, observations, _ = subject
  folder = serving.export(agent, _facts(), tmp_path, 'tflite')
  act = conversions.load_tflite(folder / conversions.FLOAT32)
  expected = checks.actions(agent, space, observations)
  np.testing.assert_allclose(act(observations), expected, atol=1e-5)


@pytest.mark.slow
@pytest.mark.skipif(
  importlib.util.find_spec('tf2onnx') is None, reason='needs the extra onnx'
)
def test_an_onnx_model_answers_as_the_agent(subject, tmp_path):
  agent, space, observations, _ = subject
  folder = serving.export(agent, _facts(), tmp_path, 'onnx')
  act = conversions.load_onnx(folder / conversions.ONNX)
  expected = checks.actions(agent, space, observations)
  np.testing.assert_allclose(act(observations), expected, atol=1e-5)


@pytest.mark.slow
def test_an_export_plays_and_is_recorded(subject):
  policy = run_policy.Policy(subject.path)
  env = run_policy.make_environment(policy.metadata, None, None, ['tests'])
  act = policy.sampler(0)
  assert len([*run_policy.returns(env, act, 2, 0)]) == 2
  saved = saved_policy.SavedPolicy(subject.path)
  saved.check_spaces(env)
  episode = next(recording.play(env, saved.sampler(0), 0))
  assert len(episode.actions) == 5
  assert all(subject.space.contains(action) for action in episode.actions)


@pytest.mark.slow
@_KINDS
def test_recorded_steps_are_learned_from(kind, tmp_path):
  parts = _build(kind)
  with experiment.load_environment(_ID, seed=0) as env:
    policy = recording.random_policy(env.env.action_space, 0)
    episodes = recording.play(env.env, policy, 0)
    recorded = [next(episodes) for _ in range(4)]
    metadata = environments.minari_metadata(env.env)
    datasets.write(tmp_path / 'data', recorded, metadata)
    data = offline.open_data_set(str(tmp_path / 'data'), _ID)
    split = datasets.Split(0.0)
    summary = offline.fill(data, parts.table, parts.agent, env, split)
    assert (summary.steps, summary.transitions) == (20, 20)
    first, end = parts.table.row_range()
    rows = parts.table.read(first, end)
    # The table's rows are what a collector would have written.
    expected = env.reset().observation
    tree.map_structure(
      lambda x, y: np.testing.assert_array_equal(x[0], y),
      rows.observation,
      expected,
    )
    units = signatures.ActionUnits(env.env.action_space)
    played = np.stack([x.actions for x in recorded])[0, :5]
    np.testing.assert_allclose(
      units.to_environment(rows.action[:5]), played, atol=1e-6
    )
  next(parts.iterations)
  behavior = parts.agent.behavior_distribution(rows.policy_info)
  assert np.all(np.isfinite(behavior.log_prob(rows.action)))


@pytest.mark.slow
@_KINDS
def test_tf_agents_driver_collects_for_the_agent(kind):
  # Compiling takes seconds, and is alike for all kinds.
  tf.config.run_functions_eagerly(kind != 'image and vector')
  agent = _build(kind).agent
  env = tf_py_environment.TFPyEnvironment(experiment.load_environment(_ID))
  table = replay.ReplayTable(agent.collect_data_spec, 50)
  driver = dynamic_step_driver.DynamicStepDriver(
    env,
    agent.collect_policy,
    [table.add_batch, observers.normalizer_observer(agent)],
    num_steps=12,
  )
  driver.run()
  assert np.isfinite(agent.train(table.sample(4, 2, [0, 1])).loss)
  action = agent.policy.action(env.reset()).action
  assert tensor_spec.is_bounded(agent.action_spec)
  assert action.shape == [1, *agent.action_spec.shape]


@pytest.mark.slow
@_KINDS
def test_environments_are_stepped_together(kind):
  parts = _build(
    kind,
    'Collector.num_environments = 2',
    "Collector.vectorization_mode = 'sync'",
  )
  collected, metrics = next(parts.iterations)
  assert collected.interactions == 12
  assert all(np.isfinite(x) for x in metrics.values())
