"""Entries of observations as features, and vectors of discrete actions."""

import itertools

import numpy as np
import pytest
import tensorflow as tf
from scipy import special
from tf_agents.agents.ddpg import critic_network
from tf_agents.distributions import utils as distribution_utils
from tf_agents.specs import tensor_spec
from tf_agents.trajectories import time_step as ts

from qwr_tf import networks
from qwr_tf.agents import qwr_agent
from qwr_tf.networks import actors
from qwr_tf.networks import categories
from qwr_tf.networks import discrete_actions
from qwr_tf.networks import encoders
from qwr_tf.networks import observations
from qwr_tf.networks import torsos
from qwr_tf.replay import ReplayTable

_Bounded = tensor_spec.BoundedTensorSpec
_VECTOR = tensor_spec.TensorSpec([3], tf.float32)
_IMAGE = tensor_spec.TensorSpec([8, 8, 3], tf.uint8)


@pytest.mark.parametrize(
  'spec, value, expected',
  [
    (_Bounded([], tf.int32, 2, 4), 3, [0, 1, 0]),
    (_Bounded([], tf.int32, 0, 1), 1, [0, 1]),
    (_Bounded([2], tf.int32, [1, 0], [3, 1]), [3, 0], [0, 0, 1, 1, 0]),
    (_Bounded([2, 1], tf.int64, 0, 2), [[2], [0]], [0, 0, 1, 1, 0, 0]),
    (_Bounded([3], tf.int32, 0, 1), [1, 0, 1], [1, 0, 1]),
    (_Bounded([2], tf.int32, 4, 5), [5, 4], [1, 0]),
  ],
)
def test_one_hot(spec, value, expected):
  values = np.array(value, spec.dtype.as_numpy_dtype)
  assert categories.width(spec) == len(expected)
  for batch in (values, np.stack([values] * 2), np.stack([[values] * 2] * 3)):
    outer = batch.shape[: batch.ndim - values.ndim]
    wanted = np.broadcast_to(np.float32(expected), (*outer, len(expected)))
    for given in (batch, tf.constant(batch)):
      vectors = categories.one_hot(given, spec)
      assert vectors.dtype == np.float32
      np.testing.assert_array_equal(vectors, wanted)


_NEST = {
  'a': _VECTOR,
  'b': {'image': _IMAGE, 'kind': _Bounded([], tf.int32, 0, 2)},
  'c': tensor_spec.TensorSpec([], tf.float32),
}


def _sample(spec, count):
  rng = np.random.default_rng(0)

  def random(s):
    if s.dtype.is_integer:
      high = 255 if s.dtype == tf.uint8 else int(np.max(s.maximum))
      values = rng.integers(0, high + 1, [count, *s.shape])
    else:
      values = rng.normal(size=[count, *s.shape])
    return tf.constant(values, s.dtype)

  return tf.nest.map_structure(random, spec)


def test_features_are_numbers_then_categories():
  features = observations.Features(_NEST)
  sample = _sample(_NEST, 2)
  normalize = lambda numbers: 10.0 * numbers  # noqa: E731
  expected = np.concatenate(
    [
      10.0 * sample['a'].numpy(),
      10.0 * sample['c'].numpy()[:, None],
      np.eye(3)[sample['b']['kind'].numpy()],
    ],
    axis=-1,
  )
  assert (features.num_numbers, features.size) == (4, 7)
  for given in (sample, tf.nest.map_structure(lambda x: x.numpy(), sample)):
    np.testing.assert_allclose(
      features.vector(given, normalize), expected, rtol=1e-6
    )
  (image,) = features.image_entries(sample)
  assert image is sample['b']['image']


@pytest.mark.slow
def test_entries_are_normalised_as_their_concatenation():
  nest = {'a': _VECTOR, 'c': _NEST['c'], 'kind': _NEST['b']['kind']}
  sample = _sample(nest, 50)
  whole = tf.concat([sample['a'], sample['c'][:, None]], axis=-1)
  of_nest = networks.ObservationNormalizer(nest)
  of_whole = networks.ObservationNormalizer(tensor_spec.TensorSpec([4]))
  of_nest.update(sample)
  of_whole.update(whole)
  vector = observations.Features(nest).vector(sample, of_nest)
  np.testing.assert_allclose(vector[:, :4], of_whole(whole), rtol=1e-6)
  assert set(np.unique(vector[:, 4:])) == {0, 1}


@pytest.mark.parametrize('torso_fn', [torsos.mlp_torso, torsos.image_torso])
def test_every_entry_reaches_the_features(torso_fn):
  if torso_fn is torsos.image_torso:
    torso_fn = lambda: torsos.image_torso(_IMAGE.shape)  # noqa: E731
  encoder = encoders.Encoder(_NEST, torso_fn, None)
  sample = _sample(_NEST, 3)
  with tf.GradientTape() as tape:
    features = encoder(sample)
    loss = tf.reduce_sum(features**2)
  assert features.shape == [3, encoder.width]
  variables = encoder.trainable_variables
  assert len(variables) == 2 * (2 + 2)  # Two convolutions, two layers.
  for gradient in tape.gradient(loss, variables):
    assert np.abs(gradient).max() > 0
  for path in (('a',), ('c',), ('b', 'image'), ('b', 'kind')):
    other = tf.nest.map_structure(tf.identity, sample)
    inner = other['b'] if len(path) == 2 else other
    inner[path[-1]] = tf.roll(inner[path[-1]], 1, axis=0)
    assert np.any(encoder(other) != features), path


def test_images_with_the_channels_first_are_refused():
  spec = {'a': _VECTOR, 'image': tensor_spec.TensorSpec([3, 64, 64], tf.uint8)}
  with pytest.raises(ValueError, match='wrappers.TransformObservation'):
    encoders.Encoder(spec, torsos.mlp_torso, None)


# Vectors of discrete actions.

_ACTION = _Bounded([2], tf.int32, 0, [1, 2])


def test_all_combinations_in_order():
  actions = discrete_actions.all_actions(_ACTION, 1)
  expected = [*itertools.product(range(2), range(3))]
  np.testing.assert_array_equal(actions[:, 0], expected)
  np.testing.assert_array_equal(
    discrete_actions.indices(actions, _ACTION)[:, 0], range(6)
  )


@pytest.mark.parametrize('last, is_listed', [(7, True), (8, False)])
def test_up_to_64_combinations_are_listed(last, is_listed):
  spec = _Bounded([2], tf.int32, 0, [7, last])
  assert discrete_actions.is_enumerable(spec) == is_listed
  if not is_listed:
    with pytest.raises(ValueError, match='72 .*@sampled_behavior_actions'):
      discrete_actions.all_actions(spec, 1)


def test_numbers_of_an_action_are_independent_categoricals():
  head = networks.CategoricalHead(_ACTION)
  features = tf.random.stateless_normal([4, 5], [1, 2])
  policy = head(features)
  outputs = head.projection(features).numpy().reshape(4, 2, 3)
  logs = (
    special.log_softmax(outputs[:, 0, :2], axis=-1),
    special.log_softmax(outputs[:, 1], axis=-1),
  )
  actions = discrete_actions.all_actions(_ACTION, 1)
  expected = np.array([logs[0][:, i] + logs[1][:, j] for i, j in actions[:, 0]])
  log_probs = policy.log_prob(actions)
  np.testing.assert_allclose(log_probs, expected, rtol=1e-4, atol=1e-5)
  np.testing.assert_allclose(np.exp(log_probs).sum(0), 1, rtol=1e-5)
  entropy = -np.sum(np.exp(expected) * expected, axis=0)
  np.testing.assert_allclose(policy.entropy(), entropy, rtol=1e-4)
  best = np.array([x.argmax(-1) for x in logs]).T
  np.testing.assert_array_equal(policy.mode(), best)
  samples = policy.sample(500, seed=1)
  assert samples.dtype == tf.int32
  assert np.max(samples[..., 0]) == 1 and np.max(samples[..., 1]) == 2


def test_the_distribution_comes_back_from_its_parameters():
  policy = networks.CategoricalHead(_ACTION)(tf.ones([4, 5]))
  assert isinstance(policy, actors.MultiCategorical)
  again = distribution_utils.make_from_parameters(
    distribution_utils.get_parameters(policy)
  )
  action = policy.mode()
  np.testing.assert_array_equal(again.log_prob(action), policy.log_prob(action))


# Critics of TF-Agents.

_CONTINUOUS = _Bounded([2], tf.float32, -1, 1)


def _tf_agents_critic():
  return critic_network.CriticNetwork(
    (_VECTOR, _CONTINUOUS), joint_fc_layer_params=(8,)
  )


def test_a_critic_of_tf_agents_gives_its_own_values():
  network = _tf_agents_critic()
  critic = networks.critic_wrappers.as_critic(network)
  states, actions = tf.random.normal([4, 3]), tf.random.normal([5, 4, 2])
  expected = [network((states, action), ())[0] for action in actions]
  values = critic.outputs(states, actions)
  np.testing.assert_allclose(values, expected, rtol=1e-5)
  same = critic.outputs(states, actions[:, :1])
  assert same.shape == [5, 4]
  copy = critic.copy(name='Copy')
  for each in (critic, copy):
    each.create_variables()
  assert not {v.ref() for v in copy.variables} & {
    v.ref() for v in critic.variables
  }


@pytest.mark.slow
def test_an_agent_learns_with_a_critic_of_tf_agents():
  adam = tf.keras.optimizers.legacy.Adam
  agent = qwr_agent.QwrAgent(
    ts.time_step_spec(_VECTOR),
    _CONTINUOUS,
    networks.ActorNetwork(_VECTOR, _CONTINUOUS),
    _tf_agents_critic(),
    actor_optimizer=adam(1e-3),
    critic_optimizer=adam(1e-3),
  )
  table = ReplayTable(agent.collect_data_spec, 20)
  rows = tensor_spec.sample_spec_nest(
    agent.collect_data_spec, seed=0, outer_dims=[20]
  )
  table.append(
    tf.nest.map_structure(tf.zeros_like, rows)._replace(
      step_type=tf.ones([20], tf.int32),
      next_step_type=tf.ones([20], tf.int32),
      discount=tf.ones([20]),
      reward=tf.ones([20]),
    )
  )
  before = [v.numpy() for v in agent.critic_network.trainable_variables]
  losses = [float(agent.train(table.sample(8, 4, [0, i])).loss) for i in (0, 1)]
  assert np.all(np.isfinite(losses))
  after = agent.critic_network.trainable_variables
  assert any(np.any(a != b) for a, b in zip(before, after, strict=True))


@pytest.mark.parametrize(
  'make', [networks.GatedQNetwork, networks.ValueNetwork, networks.TwinCritic]
)
def test_critics_take_one_pair_of_specs(make):
  critic = make((_VECTOR, _CONTINUOUS))
  inputs = tf.ones([4, 3]), tf.ones([4, 2])
  values = critic(inputs)[0]
  assert values.shape[:1] == [4]
  critic.copy(name='Copy').create_variables()
