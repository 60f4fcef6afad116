"""Networks: gated critic, value critic, heads, normaliser, copies."""

import functools

import numpy as np
import pytest
import tensorflow as tf
from tf_agents.specs import tensor_spec

from qwr_tf import networks
from qwr_tf.networks import torsos

_OBSERVATION = tensor_spec.TensorSpec([3], tf.float32, 'observation')
_DISCRETE = tensor_spec.BoundedTensorSpec([], tf.int32, 0, 3, 'action')
_CONTINUOUS = tensor_spec.BoundedTensorSpec([2], tf.float32, -1, 1, 'action')
_TORSO = functools.partial(torsos.mlp_torso, (6, 5))
_NORM_TORSO = functools.partial(torsos.mlp_torso, (6, 5), layer_norm=True)


def _randomize(network):
  """Gives every variable, biases and LayerNorm's too, a random value."""
  rng = np.random.default_rng(0)
  for variable in network.trainable_variables:
    variable.assign(rng.normal(size=variable.shape))


def _critic(action_spec, **kwargs):
  kwargs = {'torso_fn': _TORSO} | kwargs
  critic = networks.GatedQNetwork(_OBSERVATION, action_spec, **kwargs)
  critic.create_variables()
  _randomize(critic)
  return critic


def _inputs(action_spec, observation_outer, action_outer):
  rng = np.random.default_rng(1)
  observation = rng.normal(size=[*observation_outer, 3]).astype(np.float32)
  if action_spec is _DISCRETE:
    actions = rng.integers(0, 4, action_outer).astype(np.int32)
  else:
    actions = rng.normal(size=[*action_outer, 2]).astype(np.float32)
  return observation, actions


def _call(network, observation, actions):
  inputs = (tf.constant(observation), tf.constant(actions))
  return network(inputs)[0].numpy()


# The gated critic against NumPy, one state and one action at a time


def _apply(layer, x):
  """A Keras layer on a vector."""
  if isinstance(layer, tf.keras.layers.LayerNormalization):
    scale, offset = layer.get_weights()
    return (x - x.mean()) / np.sqrt(x.var() + layer.epsilon) * scale + offset
  kernel, bias = layer.get_weights()
  y = x @ kernel + bias
  return np.maximum(y, 0) if layer.activation.__name__ == 'relu' else y


def _oracle_q(critic, observation, action):
  """head(after(torso(s) * tanh(embed(a))))."""
  features = observation
  for layer in critic.encoder.torso.layers:
    features = _apply(layer, features)
  if critic._gate_layer is not None:
    features = _apply(critic._gate_layer, features)
  if np.issubdtype(action.dtype, np.integer):
    embedded = critic._embedding.get_weights()[0][action]
  else:
    embedded = _apply(critic._embedding, action)
  hidden = features * np.tanh(embedded)
  for layer in critic._post_gate:
    hidden = _apply(layer, hidden)
  return _apply(critic._head, hidden)[0]


def _assert_equals_the_oracle(critic, observation, actions):
  values = _call(critic, observation, actions)
  outer = actions.shape[: values.ndim]
  observation = np.broadcast_to(observation, [*values.shape, 3])
  assert np.broadcast_shapes(outer, values.shape) == values.shape
  actions = np.broadcast_to(
    actions, [*values.shape, *actions.shape[values.ndim :]]
  )
  expected = np.empty(values.shape)
  for i in np.ndindex(*values.shape):
    expected[i] = _oracle_q(critic, observation[i], np.asarray(actions[i]))
  np.testing.assert_allclose(values, expected, rtol=1e-4, atol=1e-4)


_AUTHORS = {
  'gate_units': 7,
  'post_gate_units': 4,
  'post_gate_layer_norm': True,
}


@pytest.mark.parametrize('action_spec', [_DISCRETE, _CONTINUOUS])
@pytest.mark.parametrize(
  'layers',
  [
    {},
    _AUTHORS,
    {'gate_units': 7},
    {'post_gate_units': 4},
    {'post_gate_layer_norm': True},
    {'torso_fn': _NORM_TORSO},
  ],
  ids=['paper', 'authors', 'gate', 'dense', 'norm', 'torso norm'],
)
def test_gated_critic_equals_the_oracle(action_spec, layers):
  critic = _critic(action_spec, **layers)
  observation, actions = _inputs(action_spec, [5], [4, 5])
  _assert_equals_the_oracle(critic, observation, actions)
  assert len(critic._post_gate) == sum('post' in name for name in layers)


def test_small_gated_features_are_normalised_too():
  """As by the authors' Trax, whose epsilon is 1e-6."""
  critic = _critic(_CONTINUOUS, post_gate_layer_norm=True)
  norm = critic._post_gate[0]
  scale, offset = norm.get_weights()
  signs = np.resize(np.float32([1, -1]), scale.shape)
  expected = (signs - signs.mean()) / signs.std() * scale + offset
  np.testing.assert_allclose(
    norm(0.02 * signs[np.newaxis])[0], expected, rtol=0.02
  )


def test_a_torso_normalises_after_its_relu():
  torso = torsos.mlp_torso((6,), layer_norm=True)
  x = 0.01 * np.random.default_rng(0).normal(size=[4, 3]).astype('f')
  actual = torso(x)
  kernel, _ = torso.layers[0].get_weights()
  hidden = np.maximum(x @ kernel, 0.0)
  centered = hidden - hidden.mean(-1, keepdims=True)
  deviation = np.sqrt(hidden.var(-1, keepdims=True) + 1e-5)
  np.testing.assert_allclose(actual, centered / deviation, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize('action_spec', [_DISCRETE, _CONTINUOUS])
@pytest.mark.parametrize(
  'observation_outer, action_outer, value_outer',
  [
    ([5], [4, 5], [4, 5]),  # n actions per state
    ([5], [4, 1], [4, 5]),  # the same n actions in every state
    ([5], [5], [5]),  # one action, as in TF-Agents' critics
    ([5, 2], [4, 5, 2], [4, 5, 2]),  # windows
    ([5, 2], [4, 1, 1], [4, 5, 2]),
    ([5, 2], [5, 2], [5, 2]),
  ],
)
@pytest.mark.parametrize('kind', ['gated', 'authors', 'value'])
def test_critics_broadcast_actions(
  action_spec, observation_outer, action_outer, value_outer, kind
):
  observation, actions = _inputs(action_spec, observation_outer, action_outer)
  if kind == 'value':
    critic = networks.ValueNetwork(_OBSERVATION, action_spec, torso_fn=_TORSO)
    assert list(_call(critic, observation, actions).shape) == value_outer
    return
  critic = _critic(action_spec, **(_AUTHORS if kind == 'authors' else {}))
  assert list(_call(critic, observation, actions).shape) == value_outer
  _assert_equals_the_oracle(critic, observation, actions)


def test_the_torso_runs_once_per_state():
  calls = []

  class Counting(tf.keras.layers.Layer):
    def call(self, x):
      calls.append(x.shape[0])
      return x

  critic = networks.GatedQNetwork(
    _OBSERVATION,
    _CONTINUOUS,
    torso_fn=lambda: tf.keras.Sequential([Counting()]),
  )
  critic.create_variables()
  calls.clear()
  _call(critic, *_inputs(_CONTINUOUS, [5], [9, 5]))
  # Keras may trace the layer first, with a batch of None.
  assert calls[-1] == 5 and 45 not in calls


def test_value_scale_multiplies_values_and_divides_the_loss():
  plain = _critic(_CONTINUOUS)
  scaled = _critic(_CONTINUOUS, value_scale=100.0)  # The same weights.
  inputs = _inputs(_CONTINUOUS, [5], [1, 5])
  values, scaled_values = _call(plain, *inputs), _call(scaled, *inputs)
  np.testing.assert_allclose(scaled_values, 100.0 * values, rtol=1e-5)
  # In the head's units a target of 100 y is a target of y.
  targets = np.linspace(-1, 1, 5, dtype=np.float32)[None]
  np.testing.assert_allclose(
    scaled.representation.losses(scaled_values, 100.0 * targets),
    plain.representation.losses(values, targets),
    rtol=1e-4,
  )
  np.testing.assert_allclose(
    plain.representation.losses(values, targets),
    (values - targets) ** 2,
    rtol=1e-5,
  )


@pytest.mark.parametrize('action_spec', [_DISCRETE, _CONTINUOUS])
def test_value_network_ignores_the_action(action_spec):
  critic = networks.ValueNetwork(_OBSERVATION, action_spec, torso_fn=_TORSO)
  critic.create_variables()
  _randomize(critic)
  observation, actions = _inputs(action_spec, [5], [4, 5])
  values = _call(critic, observation, actions)
  for n, b in np.ndindex(4, 5):
    hidden = observation[b]
    for layer in (*critic.encoder.torso.layers, critic._head):
      hidden = _apply(layer, hidden)
    np.testing.assert_allclose(values[n, b], hidden[0], rtol=1e-4)


@pytest.mark.slow
def test_networks_take_a_batch_size_known_only_when_they_run():
  for network in (
    _critic(_CONTINUOUS, **_AUTHORS),
    networks.ValueNetwork(_OBSERVATION, _CONTINUOUS, torso_fn=_TORSO),
  ):

    @tf.function(
      input_signature=[
        tf.TensorSpec([None, 3]),
        tf.TensorSpec([None, None, 2]),
      ]
    )
    def values(observation, actions, network=network):
      return network((observation, actions))[0]

    inputs = _inputs(_CONTINUOUS, [5], [4, 5])
    np.testing.assert_allclose(
      values(*inputs), _call(network, *inputs), rtol=1e-5, atol=1e-6
    )


@pytest.mark.slow
@pytest.mark.parametrize(
  'critic_class',
  [
    networks.ValueNetwork,
    networks.ConcatQNetwork,
    networks.JointQNetwork,
    networks.DiscreteQNetwork,
  ],
)
def test_other_critics_have_the_scale_and_the_normaliser(critic_class):
  normalizer = networks.ObservationNormalizer(_OBSERVATION)
  normalizer.update(tf.constant([[0.0, 4.0, 1.0], [2.0, 8.0, 1.5]]))
  plain, scaled, whitened = (
    critic_class(_OBSERVATION, _DISCRETE, torso_fn=_TORSO, **kwargs)
    for kwargs in ({}, {'value_scale': 100.0}, {'normalizer': normalizer})
  )
  for critic in (plain, scaled, whitened):  # The same weights.
    critic.create_variables()
    _randomize(critic)
  x, actions = _inputs(_DISCRETE, [5], [4, 5])
  np.testing.assert_allclose(
    _call(scaled, x, actions), 100.0 * _call(plain, x, actions), rtol=1e-5
  )
  np.testing.assert_allclose(
    _call(whitened, x, actions),
    _call(plain, normalizer(x).numpy(), actions),
    rtol=1e-5,
  )


# Copies


def _copies():
  normalizer = networks.ObservationNormalizer(_OBSERVATION)
  kwargs = {'torso_fn': _TORSO, 'normalizer': normalizer}
  authors = kwargs | _AUTHORS
  yield networks.GatedQNetwork(_OBSERVATION, _CONTINUOUS, **authors)
  yield networks.GatedQNetwork(_OBSERVATION, _DISCRETE, **kwargs)
  yield networks.ValueNetwork(_OBSERVATION, _DISCRETE, **kwargs)
  yield networks.ActorNetwork(_OBSERVATION, _CONTINUOUS, **kwargs)
  yield networks.ActorNetwork(_OBSERVATION, _DISCRETE, **kwargs)
  yield networks.ActorNetwork(
    _OBSERVATION,
    _CONTINUOUS,
    head_fn=networks.TanhMeanGaussianHead,
    name='TanhMean',
    **kwargs,
  )


@pytest.mark.parametrize('network', _copies(), ids=lambda n: n.name)
def test_copies_share_the_normaliser_and_nothing_else(network):
  copy = network.copy(name='Copy')
  network.create_variables()
  copy.create_variables()
  own = {v.ref() for v in network.trainable_variables}
  theirs = {v.ref() for v in copy.trainable_variables}
  assert len(own) == len(theirs) > 0 and not own & theirs
  assert copy.encoder.normalizer is network.encoder.normalizer
  # The statistics are kept with the network, but never trained.
  statistics = {v.ref() for v in network.encoder.normalizer.variables}
  assert statistics and not statistics & (own | theirs)


def test_the_normaliser_comes_first():
  normalizer = networks.ObservationNormalizer(_OBSERVATION)
  normalizer.update(tf.constant([[0.0, 4.0, 1.0], [2.0, 8.0, 1.5]]))
  mean, deviation = np.array([1, 6, 1.25]), np.array([1, 2, 0.25])
  plain = _critic(_CONTINUOUS)
  whitened = _critic(_CONTINUOUS, normalizer=normalizer)
  observation, actions = _inputs(_CONTINUOUS, [5], [4, 5])
  expected = _call(
    plain, ((observation - mean) / deviation).astype(np.float32), actions
  )
  np.testing.assert_allclose(
    _call(whitened, observation, actions), expected, rtol=1e-3, atol=1e-3
  )


# The normaliser


def _observations(seed, size):
  rng = np.random.default_rng(seed)
  return (rng.normal(size=[size, 3]) * [0.5, 3, 20] + [2, -1, 50]).astype('f')


@pytest.mark.parametrize('clip_value', [10.0, None])
def test_the_normaliser_begins_as_the_identity(clip_value):
  normalizer = networks.ObservationNormalizer(
    _OBSERVATION, clip_value=clip_value
  )
  x = _observations(0, 4)
  expected = x if clip_value is None else np.clip(x, -10, 10)
  np.testing.assert_array_equal(normalizer(x), expected)
  normalizer.update(tf.zeros([0, 3]))  # Nothing collected, nothing learned.
  np.testing.assert_array_equal(normalizer(x), expected)


def test_the_normaliser_equals_numpy_over_all_updates():
  normalizer = networks.ObservationNormalizer(_OBSERVATION)
  pieces = [_observations(seed, size) for seed, size in enumerate([1, 7, 50])]
  x = _observations(9, 6).reshape(2, 3, 3)  # Windows have two outer axes.
  for i, piece in enumerate(pieces):
    normalizer.update(tf.constant(piece))
    seen = np.concatenate(pieces[: i + 1]).astype(np.float64)
    mean, deviation = seen.mean(0), seen.std(0) + 1e-5
    if i == 0:  # One observation has no deviation.
      deviation = 1 + 1e-5
    np.testing.assert_allclose(
      normalizer(x),
      np.clip((x - mean) / deviation, -10, 10),
      rtol=1e-5,
      atol=1e-5,
    )
    np.testing.assert_allclose(normalizer.parameters[0], mean, rtol=1e-6)
    np.testing.assert_allclose(
      normalizer.parameters[1], 1 / deviation * np.ones(3), rtol=1e-6
    )


@pytest.mark.parametrize('dtype', [np.float32, np.float64])
def test_the_normaliser_survives_a_large_offset(dtype):
  # Unix time over 20,000 s, a constant, and N(1e5, 1), in 200 pieces.
  normalizer = networks.ObservationNormalizer(
    _OBSERVATION, freeze_after_env_steps=None
  )
  rng = np.random.default_rng(0)
  rows = 20_000
  x = np.stack(
    [
      1.7e9 + np.arange(rows),
      np.full(rows, 1000.3),
      rng.normal(1e5, 1.0, rows),
    ],
    axis=1,
  ).astype(dtype)
  for piece in np.split(x, 200):
    normalizer.update(tf.constant(piece))
  exact = x.astype(np.float64)
  deviation = np.where([1, 0, 1], exact.std(0), 1.0) + 1e-5
  np.testing.assert_allclose(normalizer.parameters[1], 1 / deviation, rtol=1e-6)
  np.testing.assert_array_equal(
    normalizer.parameters[0], exact.mean(0).astype(np.float32)
  )
  normalized = normalizer(x.astype(np.float32)).numpy()
  expected = (exact - exact.mean(0)) / deviation
  # float32 holds this time in steps of 128 s.
  np.testing.assert_allclose(normalized[:, 0], expected[:, 0], atol=0.03)
  np.testing.assert_array_equal(normalized[:, 1], 0.0)
  np.testing.assert_allclose(normalized[:, 2], expected[:, 2], atol=0.01)


@pytest.mark.parametrize('value', [0.0, 0.1, -1000.3, 1e9])
@pytest.mark.parametrize('noise', [0.0, 1e-16, 1e-8])
def test_a_feature_without_spread_is_scaled_by_one(value, noise):
  normalizer = networks.ObservationNormalizer(_OBSERVATION, clip_value=None)
  rng = np.random.default_rng(0)
  x = rng.normal(size=[500, 3])
  x[:, 1] = value + noise * value * rng.choice([-1, 1], 500)
  for piece in np.split(x.astype(np.float32), 5):
    normalizer.update(tf.constant(piece))
  assert normalizer.constant_features().tolist() == [1]
  seen = normalizer(tf.constant([[0.0, value, 0.0]])).numpy()[0, 1]
  assert abs(seen) <= 1e-7 * abs(value)
  if abs(value) < 1e6:
    moved = normalizer(tf.constant([[0.0, value + 0.1, 0.0]])).numpy()[0, 1]
    np.testing.assert_allclose(moved, 0.1, rtol=1e-2)


def test_a_small_spread_is_no_rounding():
  normalizer = networks.ObservationNormalizer(_OBSERVATION)
  x = np.random.default_rng(0).normal([100.0, 0, 0], [1e-3, 1e-6, 1], [500, 3])
  normalizer.update(tf.constant(x.astype(np.float32)))
  assert not len(normalizer.constant_features())
  np.testing.assert_allclose(
    normalizer.parameters[1], 1 / (x.std(0) + 1e-5), rtol=1e-2
  )


def test_noise_that_float32_drops_is_no_large_observation():
  # In float64 the deviation is 1; float32 moves in steps of 64 there.
  normalizer = networks.ObservationNormalizer(_OBSERVATION)
  x = np.random.default_rng(0).normal(1e9, 1.0, [500, 3])
  normalizer.fit(tf.constant(x))
  seen = normalizer(tf.constant(x.astype(np.float32)))
  assert np.abs(seen).max() < 1


def test_the_normaliser_freezes():
  normalizer = networks.ObservationNormalizer(
    _OBSERVATION, freeze_after_env_steps=20
  )
  for seed in (0, 1):  # 12 + 12 observations: the second still counts.
    normalizer.update(tf.constant(_observations(seed, 12)))
  seen = np.concatenate([_observations(0, 12), _observations(1, 12)])
  before = [np.array(x) for x in normalizer.parameters]
  np.testing.assert_allclose(before[0], seen.mean(0), rtol=1e-4)
  normalizer.update(tf.constant(_observations(2, 12)))
  for value, old in zip(normalizer.parameters, before, strict=True):
    np.testing.assert_array_equal(value, old)


def test_the_normaliser_freezes_at_the_very_number():
  normalizer = networks.ObservationNormalizer(
    _OBSERVATION, freeze_after_env_steps=12
  )
  for seed in (0, 1):
    normalizer.update(tf.constant(_observations(seed, 12)))
  mean, _ = normalizer.parameters
  np.testing.assert_allclose(mean, _observations(0, 12).mean(0), rtol=1e-4)


def test_the_normaliser_may_never_freeze():
  normalizer = networks.ObservationNormalizer(
    _OBSERVATION, freeze_after_env_steps=None
  )
  normalizer.update(tf.constant(_observations(0, 12)))
  before = np.array(normalizer.parameters[0])
  normalizer.update(tf.constant(_observations(1, 12)))
  assert np.any(normalizer.parameters[0] != before)


def test_the_deviation_has_a_floor():
  normalizer = networks.ObservationNormalizer(_OBSERVATION, min_deviation=0.01)
  # Deviations 0, 0.001 and 2.
  normalizer.update(tf.constant([[5.0, 0.0, 0.0], [5.0, 0.002, 4.0]]))
  expected = 1 / (np.array([0.01, 0.01, 2.0]) + 1e-5)
  np.testing.assert_allclose(normalizer.parameters[1], expected, rtol=1e-4)


def test_what_hardly_ever_moves_is_clipped():
  # As some of Humanoid's: a move of 1 would be 1e5 deviations of 0 + 1e-5.
  normalizer = networks.ObservationNormalizer(_OBSERVATION, min_deviation=0.0)
  normalizer.update(tf.constant([[0.0, 0.0, 1.0], [0.0, 4.0, -1.0]]))
  x = tf.constant([[1.0, 2.0, 3.0], [-1.0, 1e4, -9.0]])
  expected = [[10.0, 0.0, 3.0], [-10.0, 10.0, -9.0]]
  np.testing.assert_allclose(normalizer(x), expected, atol=1e-4)


@pytest.mark.parametrize('clip_value', [0.0, -1.0])
def test_a_clip_of_everything_is_refused(clip_value):
  with pytest.raises(ValueError, match='clip_value must be positive'):
    networks.ObservationNormalizer(_OBSERVATION, clip_value=clip_value)


@pytest.mark.parametrize('dtype', [tf.uint8, tf.int32])
def test_images_are_not_for_the_normaliser(dtype):
  spec = tensor_spec.TensorSpec([84, 84, 4], dtype)
  with pytest.raises(ValueError, match=f'not {dtype.name}'):
    networks.ObservationNormalizer(spec)


# Heads


def _actor(action_spec, **kwargs):
  kwargs = {'torso_fn': _TORSO} | kwargs
  actor = networks.ActorNetwork(_OBSERVATION, action_spec, **kwargs)
  actor.create_variables()
  _randomize(actor)
  return actor


def _projected(actor, observation):
  x = observation
  for layer in (*actor.encoder.torso.layers, actor.head.projection):
    x = _apply(layer, x)
  return x


@pytest.mark.parametrize('outer', [[5], [5, 2]])
def test_the_gaussian_has_a_free_mean_and_a_constant_scale(outer):
  actor = _actor(
    _CONTINUOUS, head_fn=functools.partial(networks.GaussianHead, scale=0.3)
  )
  observation = _inputs(_CONTINUOUS, outer, outer)[0]
  distribution, state = actor(observation)
  assert state == () and distribution.batch_shape == outer
  mean = np.stack([_projected(actor, o) for o in observation.reshape(-1, 3)])
  assert np.abs(mean).max() > 1  # Out of the action's bounds: no tanh.
  np.testing.assert_allclose(
    distribution.mode(), mean.reshape([*outer, 2]), rtol=1e-4, atol=1e-5
  )
  np.testing.assert_allclose(distribution.stddev(), np.full([*outer, 2], 0.3))
  # At the mean the density is 1 / (2 pi 0.3^2).
  np.testing.assert_allclose(
    distribution.log_prob(distribution.mode()),
    np.full(outer, -np.log(2 * np.pi * 0.09)),
    rtol=1e-5,
  )


@pytest.mark.parametrize('outer', [[5], [5, 2]])
def test_the_tanh_mean_gaussian_learns_one_scale(outer):
  actor = _actor(_CONTINUOUS, head_fn=networks.TanhMeanGaussianHead)
  observation = _inputs(_CONTINUOUS, outer, outer)[0]
  mean = np.stack([_projected(actor, o) for o in observation.reshape(-1, 3)])
  # log sigma lies in [-6, 0] on a sigmoid: at -ln 2 a third of the way.
  actor.head._position.assign([0.0, -np.log(2.0)])
  distribution, _ = actor(observation)
  assert distribution.batch_shape == outer
  np.testing.assert_allclose(
    distribution.mode(),
    np.tanh(mean).reshape([*outer, 2]),
    rtol=1e-4,
    atol=1e-5,
  )
  scale = np.exp([-3.0, -4.0])
  np.testing.assert_allclose(
    distribution.stddev(), np.broadcast_to(scale, [*outer, 2]), rtol=1e-5
  )
  assert any(v is actor.head._position for v in actor.trainable_variables)


@pytest.mark.parametrize('outer', [[5], [5, 2]])
def test_the_categorical_has_a_logit_per_action(outer):
  actor = _actor(_DISCRETE)
  observation = _inputs(_DISCRETE, outer, outer)[0]
  distribution, _ = actor(observation)
  logits = np.stack([_projected(actor, o) for o in observation.reshape(-1, 3)])
  assert distribution.batch_shape == outer and distribution.dtype == tf.int32
  np.testing.assert_allclose(
    distribution.logits, logits.reshape([*outer, 4]), rtol=1e-4, atol=1e-4
  )


def test_the_action_space_picks_the_head():
  assert isinstance(_actor(_DISCRETE).head, networks.CategoricalHead)
  assert isinstance(_actor(_CONTINUOUS).head, networks.GaussianHead)


def test_the_default_scale_is_the_papers():
  np.testing.assert_array_equal(
    _actor(_CONTINUOUS)(np.zeros([1, 3], 'f'))[0].stddev(),
    np.full([1, 2], 0.4, 'f'),
  )


_INTEGERS = tensor_spec.BoundedTensorSpec([2], tf.int32, 0, 3)
_FROM_ONE = tensor_spec.BoundedTensorSpec([], tf.int32, 1, 3)
_WIDE = tensor_spec.BoundedTensorSpec([2], tf.float32, -1, [1, 2])
_NUMBER = tensor_spec.BoundedTensorSpec([], tf.float32, -1, 1)
_MATRIX = tensor_spec.BoundedTensorSpec([2, 2], tf.float32, -1, 1)


@pytest.mark.parametrize(
  'head, action_spec, fix',
  [
    (networks.CategoricalHead, _CONTINUOUS, 'Use GaussianHead'),
    # "A scalar integer spec with minimum 0", "ValueError for any other".
    (networks.CategoricalHead, _FROM_ONE, 'must start at 0'),
    (networks.GaussianHead, _DISCRETE, 'Use CategoricalHead'),
    (networks.TanhMeanGaussianHead, _DISCRETE, 'Use CategoricalHead'),
    (networks.GaussianHead, _WIDE, 'must be -1 and 1, not .*RescaleAction'),
    (networks.TanhMeanGaussianHead, _WIDE, 'must be -1 and 1, not'),
    (networks.GaussianHead, _NUMBER, 'Flatten it'),
    (networks.GaussianHead, _MATRIX, 'Flatten it'),
  ],
)
def test_heads_refuse_what_does_not_fit(head, action_spec, fix):
  with pytest.raises(ValueError, match=fix):
    head(action_spec)


@pytest.mark.parametrize(
  'critic',
  [
    networks.GatedQNetwork,
    networks.ConcatQNetwork,
    networks.JointQNetwork,
    networks.DiscreteQNetwork,
    networks.DuelingQNetwork,
  ],
)
def test_critics_need_actions_from_0_on(critic):
  # Otherwise the last one is worth 0, or has the features of none.
  spec = tensor_spec.BoundedTensorSpec([], tf.int32, 1, 3)
  with pytest.raises(ValueError, match='must start at 0, not at 1; shift'):
    critic(_OBSERVATION, spec)


def test_acting_on_values_needs_actions_from_0_on():
  # Samples and modes of a categorical distribution start there.
  with pytest.raises(ValueError, match='must start at 0, not at 1; shift'):
    networks.NoActor(
      _OBSERVATION, tensor_spec.BoundedTensorSpec([], tf.int32, 1, 3)
    )


@pytest.mark.parametrize('network_fn', [networks.ActorNetwork, _critic])
def test_output_limit_bounds_the_initial_output_layer(network_fn):
  if network_fn is _critic:
    critic = networks.GatedQNetwork(
      _OBSERVATION, _CONTINUOUS, torso_fn=_TORSO, output_limit=1e-6
    )
    critic.create_variables()
    kernel, limit = critic._head.kernel.numpy(), 1e-6
  else:
    head = functools.partial(networks.GaussianHead, output_limit=0.01)
    actor = networks.ActorNetwork(
      _OBSERVATION, _CONTINUOUS, torso_fn=_TORSO, head_fn=head
    )
    actor.create_variables()
    kernel, limit = actor.head.projection.kernel.numpy(), 0.01
  assert 0 < np.abs(kernel).max() <= limit


_WIDE = functools.partial(torsos.mlp_torso, (50,))


@pytest.mark.parametrize(
  'make',
  [
    lambda: networks.CategoricalHead(_DISCRETE, output_limit=0.01),
    lambda: networks.GaussianHead(_CONTINUOUS, output_limit=0.01),
    lambda: networks.TanhMeanGaussianHead(_CONTINUOUS, output_limit=0.01),
    lambda: networks.FallingScaleGaussianHead(_CONTINUOUS, output_limit=0.01),
    *[
      functools.partial(
        critic, _OBSERVATION, _DISCRETE, torso_fn=_WIDE, output_limit=0.01
      )
      for critic in (
        networks.GatedQNetwork,
        networks.ValueNetwork,
        networks.ConcatQNetwork,
        networks.JointQNetwork,
        networks.DiscreteQNetwork,
      )
    ],
  ],
)
def test_every_output_layer_begins_on_both_sides_of_zero(make):
  # 50 or more numbers, uniform: some in each outer half.
  tf.keras.utils.set_random_seed(0)
  made = make()
  if isinstance(made, networks.Critic):
    made.create_variables()
    layer = made.head if hasattr(made, 'head') else made._head
  else:
    made(tf.ones([1, 50]))
    layer = made.projection
  kernel = layer.kernel.numpy()
  assert -0.01 <= kernel.min() < -0.005 and 0.005 < kernel.max() <= 0.01
