"""A critic of state and action together, BatchNorm of the current batch."""

import functools

import numpy as np
import pytest
import tensorflow as tf
from tf_agents.specs import tensor_spec

from qwr_tf import networks
from qwr_tf.networks import joint_critics
from qwr_tf.networks import torsos

_OBSERVATION = tensor_spec.TensorSpec([3], tf.float32, 'observation')
_DISCRETE = tensor_spec.BoundedTensorSpec([], tf.int32, 0, 3, 'action')
_CONTINUOUS = tensor_spec.BoundedTensorSpec([2], tf.float32, -1, 1, 'action')
_TORSO = functools.partial(torsos.mlp_torso, (6, 5))


def _critic(action_spec, **kwargs):
  kwargs = {'torso_fn': _TORSO, 'units': (7, 4)} | kwargs
  critic = networks.JointQNetwork(_OBSERVATION, action_spec, **kwargs)
  critic.create_variables()
  rng = np.random.default_rng(0)
  for variable in critic.trainable_variables:
    variable.assign(rng.normal(size=variable.shape))
  return critic


def _inputs(action_spec):
  rng = np.random.default_rng(1)
  observation = tf.constant(rng.normal(size=[5, 3]), tf.float32)
  if action_spec is _DISCRETE:
    return observation, tf.constant(rng.integers(0, 4, [4, 5]), tf.int32)
  return observation, tf.constant(rng.normal(size=[4, 5, 2]), tf.float32)


def test_batch_norm_torso_ignores_scale_and_shift():
  torso = joint_critics.batch_norm_torso((6, 5))
  rows = np.random.default_rng(0).normal(size=[64, 3]).astype(np.float32)
  before = torso(rows, training=True)
  assert before.shape == [64, 5]
  moved = rows * [100.0, 50.0, 80.0] + [7.0, -3.0, 0.0]
  after = torso(moved.astype(np.float32), training=True)
  np.testing.assert_allclose(before, after, atol=5e-3)
  np.testing.assert_allclose(np.mean(before, axis=0), np.zeros(5), atol=1e-5)
  plain = joint_critics.batch_norm_torso((6,), input_norm=False)
  assert isinstance(plain.layers[0], tf.keras.layers.Dense)


@pytest.mark.slow
def test_batch_norm_is_of_the_batch_in_training_alone():
  critic = _critic(_CONTINUOUS, layer_norm=False, batch_norm=True)
  assert critic.has_batch_norm
  observation, actions = _inputs(_CONTINUOUS)

  def first_row(rows, training):
    inputs = observation[:rows], actions[:1, :rows]
    return critic(inputs, training=training)[0][0, 0]

  # Running averages: a row's value does not depend on the other rows.
  np.testing.assert_allclose(
    first_row(5, False), first_row(2, False), rtol=1e-5
  )
  assert abs(first_row(5, True) - first_row(2, True)) > 1e-3
  before = first_row(5, False)

  @tf.function
  def train():
    for _ in tf.range(1000):  # 0.99 ** 1000 of the first averages is left.
      first_row(5, True)

  train()
  last = first_row(5, True)
  assert abs(before - last) > 1e-3
  # Keras' running variance is the unbiased one or the biased one of 5 rows.
  np.testing.assert_allclose(first_row(5, False), last, rtol=0.3, atol=0.1)


def test_residual_layers_add_their_input():
  critic = _critic(_CONTINUOUS, units=(5, 5), layer_norm=False, residual=True)
  observation, actions = _inputs(_CONTINUOUS)
  sums = critic.state_layer(critic.encoder(observation))
  sums = tf.nn.relu(sums + critic.action_layer(actions)).numpy()
  kernel, bias, gamma, beta = critic.joint_layers.get_weights()
  x = sums + np.maximum(sums @ kernel + bias, 0.0)
  x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
  expected = critic.head(x * gamma + beta)[..., 0]
  values = critic.outputs(observation, actions)
  np.testing.assert_allclose(values, expected, rtol=1e-3, atol=1e-3)
  with pytest.raises(ValueError, match='JointQNetwork.residual'):
    _critic(_CONTINUOUS, units=(5, 4), residual=True)


@pytest.mark.parametrize('layer_norm', [False, True])
@pytest.mark.parametrize('action_spec', [_CONTINUOUS, _DISCRETE])
def test_it_is_layers_over_features_and_action_concatenated(
  action_spec, layer_norm
):
  critic = _critic(action_spec, layer_norm=layer_norm, value_scale=10.0)
  observation, actions = _inputs(action_spec)
  features = tf.broadcast_to(critic.encoder(observation), [4, 5, 5])
  vectors = actions if actions.shape.rank == 3 else tf.one_hot(actions, 4)
  rows = tf.reshape(tf.concat([features, vectors], axis=-1), [20, -1])
  layers = torsos.mlp_torso((7, 4), layer_norm)
  layers(rows)  # Creates the weights.
  kernel, bias = critic.state_layer.get_weights()
  action_kernel, *action_bias = critic.action_layer.get_weights()
  layers.set_weights(
    [
      np.concatenate([kernel, action_kernel]),
      sum(action_bias, bias),
      *critic.joint_layers.get_weights(),
    ]
  )
  expected = 10.0 * tf.reshape(critic.head(layers(rows)), [4, 5])
  values, _ = critic((observation, actions))
  np.testing.assert_allclose(values, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_clipped_actions_count_as_the_bounds():
  observation, actions = _inputs(_CONTINUOUS)
  critic = _critic(_CONTINUOUS, clip_actions=True)
  outside = critic.outputs(observation, 5.0 * tf.sign(actions))
  bounds = critic.outputs(observation, tf.sign(actions))
  np.testing.assert_array_equal(outside, bounds)
  unclipped = _critic(_CONTINUOUS)
  different = unclipped.outputs(observation, 5.0 * tf.sign(actions))
  assert not np.allclose(different, bounds)
  discrete = _critic(_DISCRETE, clip_actions=True)
  np.testing.assert_array_equal(
    discrete.outputs(*_inputs(_DISCRETE)),
    _critic(_DISCRETE).outputs(*_inputs(_DISCRETE)),
  )


def test_other_shapes_of_actions():
  critic = _critic(_CONTINUOUS)
  observation, actions = _inputs(_CONTINUOUS)
  values = critic.outputs(observation, actions)
  # One action per state, the same ones in every state, windows.
  np.testing.assert_allclose(
    critic.outputs(observation, actions[1]), values[1], rtol=1e-4, atol=1e-5
  )
  everywhere = critic.outputs(observation, actions[:, :1])
  assert everywhere.shape == [4, 5]
  np.testing.assert_allclose(
    everywhere[:, 0], values[:, 0], rtol=1e-4, atol=1e-5
  )
  windows = critic.outputs(
    observation[:, tf.newaxis], actions[:, :, tf.newaxis]
  )
  np.testing.assert_allclose(windows[..., 0], values, rtol=1e-4, atol=1e-5)


def test_copies_share_only_the_normaliser():
  normalizer = networks.ObservationNormalizer(_OBSERVATION)
  critic = _critic(
    _CONTINUOUS, normalizer=normalizer, torso_fn=joint_critics.batch_norm_torso
  )
  copy = critic.copy(name='Copy')
  copy.create_variables()
  assert critic.normalizer is copy.normalizer is normalizer
  variables = {v.ref() for v in critic.trainable_variables}
  copied = {v.ref() for v in copy.trainable_variables}
  assert variables and not variables & copied
  assert len(variables) == len(copied)


def test_it_needs_a_layer():
  with pytest.raises(ValueError, match='JointQNetwork.units'):
    networks.JointQNetwork(_OBSERVATION, _CONTINUOUS, units=())
