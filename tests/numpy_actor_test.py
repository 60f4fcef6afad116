"""The NumPy forward pass is the TensorFlow policy, for every head and torso."""

import functools

import numpy as np
import pytest
import tensorflow as tf
from tf_agents.specs import tensor_spec
from tf_agents.trajectories import time_step as ts

from qwr_tf import networks
from qwr_tf import numpy_actor
from qwr_tf.agents import behavior_policy
from qwr_tf.networks import torsos

_OBSERVATION = tensor_spec.TensorSpec([3], tf.float32, 'observation')
_DISCRETE = tensor_spec.BoundedTensorSpec([], tf.int32, 0, 3, 'action')
_CONTINUOUS = tensor_spec.BoundedTensorSpec([2], tf.float32, -1, 1, 'action')


def _dense(*args, **kwargs):
  layers = tf.keras.layers
  return [layers.Dense(6, *args, **kwargs), layers.Dense(5, activation='relu')]


def _sequential(make_layers):
  return lambda: tf.keras.Sequential(make_layers())


def _actor(action_spec, observation_spec=_OBSERVATION, **kwargs):
  kwargs = {'torso_fn': functools.partial(torsos.mlp_torso, (8,))} | kwargs
  actor = networks.ActorNetwork(observation_spec, action_spec, **kwargs)
  actor.create_variables()
  _randomize(actor, seed=0)
  return actor


def _randomize(actor, seed):
  rng = np.random.default_rng(seed)
  for variable in actor.trainable_variables:
    fan_in = variable.shape[0] if variable.shape.rank > 1 else 1
    variable.assign(rng.normal(size=variable.shape) / np.sqrt(fan_in))
  actor.head.projection.kernel.assign(5.0 * actor.head.projection.kernel)
  _center(actor)


def _center(actor):
  """Outputs around zero: states then differ in their mode."""
  kernel, bias = actor.head.projection.variables
  bias.assign(-tf.reduce_mean(_features(actor) @ kernel, axis=0))


def _features(actor):
  observations = _observations(actor.input_tensor_spec)
  return actor.encoder(tf.constant(observations))


def _observations(spec, count=20):
  rng = np.random.default_rng(1)
  if spec.dtype == tf.uint8:
    return rng.integers(0, 256, [count, *spec.shape]).astype(np.uint8)
  return rng.normal(size=[count, *spec.shape]).astype(np.float32)


def _policies(actor):
  return behavior_policy.policies_of(
    ts.time_step_spec(actor.input_tensor_spec), _spec_of(actor), actor
  )


def _spec_of(actor):
  gaussian = isinstance(actor.head, networks.GaussianHead)
  return _CONTINUOUS if gaussian else _DISCRETE


def _assert_close(actual, expected, actor):
  """Within 1e-6 of the size of what is added up (signs cancel)."""
  kernel, _ = actor.head.projection.variables
  size = np.max(np.abs(_features(actor)) @ np.abs(kernel))
  np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-6 * size)


def _assert_acts_like_the_policies(act, actor):
  """Mode and parameters, one observation at a time, against batches."""
  observations = _observations(actor.input_tensor_spec)
  greedy, collect = _policies(actor)
  steps = ts.restart(tf.constant(observations), batch_size=len(observations))
  info = collect.distribution(steps).info['dist_params']
  expected = greedy.action(steps).action.numpy()
  answers = [act(observation, None) for observation in observations]
  actions = np.stack([action for action, _ in answers])
  if actions.dtype == np.float32:
    # The policy that evaluates clips; here the environment does.
    assert np.abs(actions).max() > 1
    _assert_close(np.clip(actions, -1, 1), expected, actor)
  else:
    np.testing.assert_array_equal(actions, expected)
    assert len(set(actions)) > 1
  assert actions.dtype == expected.dtype
  for name, parameter in info.items():
    values = np.stack([params[name] for _, params in answers])
    assert values.dtype == np.float32
    _assert_close(values, parameter, actor)
  assert set(answers[0][1]) == set(info)
  batch, parameters = act(observations, None)
  assert batch.dtype == actions.dtype
  np.testing.assert_allclose(batch, actions, rtol=1e-4, atol=1e-5)
  for name in info:
    assert parameters[name].shape == info[name].shape


@pytest.mark.parametrize('action_spec', [_DISCRETE, _CONTINUOUS])
@pytest.mark.parametrize('normalized', [False, True])
@pytest.mark.parametrize(
  'units, layer_norm',
  [((8,), False), ((64, 32), True), ((256, 256), False), ((256, 256), True)],
)
def test_acts_like_the_policies(action_spec, normalized, units, layer_norm):
  normalizer = None
  if normalized:
    normalizer = networks.ObservationNormalizer(_OBSERVATION)
  actor = _actor(
    action_spec,
    torso_fn=functools.partial(torsos.mlp_torso, units, layer_norm),
    normalizer=normalizer,
  )
  act = numpy_actor.NumpyActor(actor)
  _assert_acts_like_the_policies(act, actor)
  if normalized:
    normalizer.update(3.0 * _observations(_OBSERVATION) + 1.0)
    _center(actor)
    act.refresh()
    _assert_acts_like_the_policies(act, actor)


@pytest.mark.parametrize('action_spec', [_DISCRETE, _CONTINUOUS])
@pytest.mark.parametrize(
  'layers',
  [
    lambda: _dense(),
    lambda: _dense('relu'),
    lambda: _dense(tf.nn.relu),
    lambda: _dense('tanh'),
    lambda: _dense('elu'),
    lambda: _dense('relu', use_bias=False),
    lambda: [*_dense('relu'), tf.keras.layers.LayerNormalization()],
    lambda: [*_dense('relu'), tf.keras.layers.LayerNormalization(scale=False)],
    lambda: [*_dense('relu'), tf.keras.layers.LayerNormalization(center=False)],
    lambda: [*_dense(), tf.keras.layers.Activation('tanh')],
    lambda: [tf.keras.layers.Flatten(), *_dense('relu')],
  ],
  ids=[
    'linear',
    'relu',
    'tf.nn.relu',
    'tanh',
    'elu',
    'no bias',
    'norm',
    'norm, no scale',
    'norm, no center',
    'activation layer',
    'flatten',
  ],
)
def test_acts_like_the_policies_with_any_layers(action_spec, layers):
  # What NumPy cannot do must be done by TensorFlow, not left out.
  actor = _actor(action_spec, torso_fn=_sequential(layers))
  _assert_acts_like_the_policies(numpy_actor.NumpyActor(actor), actor)


def _conv_layers():
  layers = tf.keras.layers
  return [
    layers.Rescaling(1 / 255),
    layers.Conv2D(4, 3, strides=2, activation='relu'),
    layers.Flatten(),
    layers.Dense(16, activation='relu'),
  ]


@pytest.mark.parametrize('action_spec', [_DISCRETE, _CONTINUOUS])
def test_images_are_for_tensorflow(action_spec):
  image = tensor_spec.TensorSpec([9, 9, 2], tf.uint8, 'observation')
  actor = _actor(action_spec, image, torso_fn=_sequential(_conv_layers))
  act = numpy_actor.NumpyActor(actor)
  _assert_acts_like_the_policies(act, actor)
  _randomize(actor, seed=2)
  act.refresh()
  _assert_acts_like_the_policies(act, actor)


def test_a_normaliser_works_before_layers_that_numpy_lacks():
  normalizer = networks.ObservationNormalizer(_OBSERVATION)
  actor = _actor(
    _CONTINUOUS,
    torso_fn=_sequential(lambda: [tf.keras.layers.Flatten(), *_dense('relu')]),
    normalizer=normalizer,
  )
  act = numpy_actor.NumpyActor(actor)
  normalizer.update(3.0 * _observations(_OBSERVATION) + 1.0)
  _center(actor)
  act.refresh()
  _assert_acts_like_the_policies(act, actor)


@pytest.mark.parametrize('action_spec', [_DISCRETE, _CONTINUOUS])
def test_new_weights_count_after_a_refresh(action_spec):
  actor = _actor(action_spec)
  act = numpy_actor.NumpyActor(actor)
  observation = _observations(_OBSERVATION)[0]
  (before,) = act(observation, None)[1].values()
  before = before.copy()
  _randomize(actor, seed=2)
  # The copy is no view of the variables, whatever TensorFlow's allocator does.
  (same,) = act(observation, None)[1].values()
  np.testing.assert_array_equal(same, before)
  act.refresh()
  (after,) = act(observation, None)[1].values()
  assert np.abs(after - before).max() > 0.01
  _assert_acts_like_the_policies(act, actor)


def test_gaussian_samples_have_the_mean_and_the_deviation():
  head = functools.partial(networks.GaussianHead, scale=0.3)
  actor = _actor(_CONTINUOUS, head_fn=head)
  act = numpy_actor.NumpyActor(actor)
  observation, rng = _observations(_OBSERVATION)[0], np.random.default_rng(0)
  mean, _ = act(observation, None)
  answers = [act(observation, rng) for _ in range(20_000)]
  samples = np.stack([action for action, _ in answers])
  assert samples.dtype == np.float32
  # Four standard errors: 4 * 0.3 / sqrt(20000) and 4 * 0.3 / sqrt(40000).
  np.testing.assert_allclose(samples.mean(0), mean, atol=0.0085)
  np.testing.assert_allclose(samples.std(0), 0.3, atol=0.006)
  assert abs(np.corrcoef(samples.T)[0, 1]) < 0.03
  # mu is the distribution, not the sample.
  np.testing.assert_array_equal(answers[0][1]['loc'], mean)


def test_categorical_samples_have_the_probabilities():
  actor = _actor(_DISCRETE)
  act = numpy_actor.NumpyActor(actor)
  observation, rng = _observations(_OBSERVATION)[0], np.random.default_rng(0)
  logits = act(observation, None)[1]['logits']
  probabilities = np.exp(logits) / np.exp(logits).sum()
  assert probabilities.max() < 0.9
  actions = [act(observation, rng)[0] for _ in range(20_000)]
  assert actions[0].dtype == np.int32
  frequencies = np.bincount(actions, minlength=4) / len(actions)
  # Four standard errors of a half: 4 * 0.5 / sqrt(20000).
  np.testing.assert_allclose(frequencies, probabilities, atol=0.014)


@pytest.mark.parametrize('action_spec', [_DISCRETE, _CONTINUOUS])
def test_samples_are_a_function_of_the_generator(action_spec):
  act = numpy_actor.NumpyActor(_actor(action_spec))
  observation = _observations(_OBSERVATION)[0]

  def samples(seed):
    rng = np.random.default_rng(seed)
    return np.stack([act(observation, rng)[0] for _ in range(30)])

  np.testing.assert_array_equal(samples(0), samples(0))
  assert np.any(samples(0) != samples(1))
  state = np.random.get_state()[1].copy()
  samples(0)
  np.testing.assert_array_equal(np.random.get_state()[1], state)


def test_an_unknown_head_names_the_module_to_extend():
  class Head(networks.GaussianHead.__mro__[1]):
    projection = tf.keras.layers.Dense(2)

  actor = _actor(_CONTINUOUS)
  actor.head = Head()
  with pytest.raises(NotImplementedError, match='Head cannot act.*numpy_actor'):
    numpy_actor.NumpyActor(actor)
