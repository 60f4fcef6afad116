"""The NumPy forward pass is the TensorFlow policy, for every head and torso."""

import functools

import numpy as np
import pytest
import tensorflow as tf
from tf_agents.specs import tensor_spec
from tf_agents.trajectories import time_step as ts

from qwr_tf import networks
from qwr_tf.acting import numpy_actor
from qwr_tf.networks import torsos
from qwr_tf.policies import behavior_policy

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
  categorical = isinstance(actor.head, networks.CategoricalHead)
  return _DISCRETE if categorical else _CONTINUOUS


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


def test_clipped_observations_act_like_the_policies():
  normalizer = networks.ObservationNormalizer(_OBSERVATION, clip_value=0.5)
  actor = _actor(_CONTINUOUS, normalizer=normalizer)
  normalizer.update(_observations(_OBSERVATION))  # A deviation is beyond 0.5.
  _center(actor)
  _assert_acts_like_the_policies(numpy_actor.NumpyActor(actor), actor)


@pytest.mark.parametrize('normalized', [False, True])
@pytest.mark.parametrize(
  'head', [networks.GaussianHead, networks.TanhMeanGaussianHead]
)
def test_rows_of_a_batch_and_actions_have_their_own_noise(head, normalized):
  normalizer = networks.ObservationNormalizer(_OBSERVATION)
  actor = _actor(
    _CONTINUOUS, head_fn=head, normalizer=normalizer if normalized else None
  )
  act = numpy_actor.NumpyActor(actor)
  batch = np.repeat(_observations(_OBSERVATION)[:1], 50, axis=0)
  samples, _ = act(batch, np.random.default_rng(0))
  assert len(np.unique(samples)) == samples.size == 100


def test_rows_of_a_batch_have_their_own_discrete_actions():
  act = numpy_actor.NumpyActor(_actor(_DISCRETE))
  batch = np.repeat(_observations(_OBSERVATION)[:1], 200, axis=0)
  samples, _ = act(batch, np.random.default_rng(0))
  assert len(np.unique(samples)) > 1


def test_features_without_spread_act_like_the_policies():
  normalizer = networks.ObservationNormalizer(_OBSERVATION)
  actor = _actor(_CONTINUOUS, normalizer=normalizer)
  observations = _observations(_OBSERVATION)
  observations[:, 0] = 0.1
  observations[:, 1] += 1e5
  normalizer.update(observations)
  act = numpy_actor.NumpyActor(actor)
  observations[:, 0] += np.linspace(0.0, 20.0, len(observations))
  modes = actor(tf.constant(observations))[0].mode()
  actions, _ = act(observations, None)
  np.testing.assert_allclose(actions, modes, rtol=1e-5, atol=1e-5)


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


@pytest.mark.slow
@pytest.mark.parametrize('normalized', [False, True])
def test_the_tanh_head_acts_like_the_policies(normalized):
  normalizer = None
  if normalized:
    normalizer = networks.ObservationNormalizer(_OBSERVATION)
    normalizer.update(3.0 * _observations(_OBSERVATION) + 1.0)
  actor = _actor(
    _CONTINUOUS, head_fn=networks.TanhMeanGaussianHead, normalizer=normalizer
  )
  act = numpy_actor.NumpyActor(actor)
  observations = _observations(_OBSERVATION)
  for position in (-1.0, 2.0):
    actor.head._position.assign([position, 0.5])
    act.refresh()
    policy = actor(tf.constant(observations))[0]
    for batch in (observations, observations[0]):
      action, parameters = act(batch, None)
      means = policy.mean().numpy()
      expected = means if batch.ndim == 2 else means[0]
      np.testing.assert_allclose(action, expected, atol=1e-6)
      assert np.abs(action).max() < 1
      np.testing.assert_array_equal(parameters['loc'], action)
      np.testing.assert_allclose(
        parameters['scale_diag'],
        np.broadcast_to(actor.head.scale, action.shape),
        atol=1e-6,
      )
  info = _policies(actor)[1].info_spec['dist_params']
  assert set(info) == set(parameters)
  rng = np.random.default_rng(0)
  samples = np.stack([act(observations[0], rng)[0] for _ in range(20_000)])
  # Two and a half standard errors of a deviation of up to .5.
  np.testing.assert_allclose(
    samples.std(0), actor.head.scale, rtol=2.5 / np.sqrt(40_000)
  )


def test_the_falling_scale_is_stored_and_sampled_with():
  head = functools.partial(
    networks.FallingScaleGaussianHead,
    initial_scale=0.5,
    final_scale=0.1,
    decay_train_steps=400,
  )
  actor = _actor(_CONTINUOUS, head_fn=head)
  act = numpy_actor.NumpyActor(actor)
  actor.head.train_step_counter = tf.constant(200, tf.int64)
  act.refresh()
  _assert_acts_like_the_policies(act, actor)
  observations = np.repeat(_observations(_OBSERVATION)[:1], 20_000, axis=0)
  actions, parameters = act(observations, np.random.default_rng(0))
  np.testing.assert_allclose(parameters['scale_diag'], 0.3, rtol=1e-5)
  # Four standard errors: 4 * 0.3 / sqrt(40000).
  noise = actions - parameters['loc']
  np.testing.assert_allclose(noise.std(axis=0), 0.3, atol=0.006)


def test_epsilon_may_be_an_integer():
  steps = tf.Variable(50, dtype=tf.int64)
  epsilon = behavior_policy.LinearEpsilon(
    steps, initial=1, final=0, decay_critic_steps=100
  )
  assert epsilon() == 0.5


def _greedy_actor(critic_fn, epsilon):
  observation = _OBSERVATION
  critic = critic_fn(observation, _DISCRETE)
  critic.create_variables()
  rng = np.random.default_rng(0)
  for variable in critic.trainable_variables:
    variable.assign(rng.normal(size=variable.shape))
  steps = tf.Variable(0, dtype=tf.int64, trainable=False)
  schedule = behavior_policy.LinearEpsilon(
    steps, initial=epsilon, final=0.0, decay_critic_steps=100
  )
  actor = networks.EpsilonGreedyActor(observation, _DISCRETE, critic, schedule)
  actor.create_variables()
  return actor, steps


_TORSO = functools.partial(torsos.mlp_torso, (8,), layer_norm=True)


@pytest.mark.slow
@pytest.mark.parametrize(
  'critic_fn, in_numpy',
  [
    (functools.partial(networks.DiscreteQNetwork, torso_fn=_TORSO), True),
    (functools.partial(networks.GatedQNetwork, torso_fn=_TORSO), False),
    (
      functools.partial(
        networks.TwinCritic,
        critic_fn=functools.partial(networks.DiscreteQNetwork, torso_fn=_TORSO),
      ),
      False,
    ),
  ],
  ids=['discrete', 'gated', 'twin'],
)
def test_epsilon_greedy_acts_like_the_policies(critic_fn, in_numpy):
  actor, steps = _greedy_actor(critic_fn, 0.5)
  act = numpy_actor.NumpyActor(actor)
  assert (actor.chain is not None) == in_numpy
  observations = _observations(_OBSERVATION)
  for step in (0, 60, 100):
    steps.assign(step)
    act.refresh()
    policy = actor(tf.constant(observations))[0]
    actions, parameters = act(observations, None)
    np.testing.assert_array_equal(actions, policy.mode())
    assert actions.dtype == np.int32 and len(set(actions)) > 1
    assert parameters['logits'].dtype == np.float32
    np.testing.assert_allclose(
      parameters['logits'], policy.logits, rtol=1e-5, atol=1e-6
    )
    single, mu = act(observations[3], None)
    assert single == actions[3]
    np.testing.assert_array_equal(mu['logits'], parameters['logits'][3])
  rng = np.random.default_rng(0)
  steps.assign(0)
  act.refresh()
  drawn, _ = act(np.repeat(observations[3:4], 4000, axis=0), rng)
  # .5 + .5 / 4, four standard errors.
  assert abs(np.mean(drawn == actions[3]) - 0.625) < 0.031
  assert len({int(act(observations[3], rng)[0]) for _ in range(50)}) > 1


def test_epsilon_greedy_acts_on_normalised_observations():
  normalizer = networks.ObservationNormalizer(_OBSERVATION)
  critic_fn = functools.partial(
    networks.DiscreteQNetwork, torso_fn=_TORSO, normalizer=normalizer
  )
  actor, _ = _greedy_actor(critic_fn, 0.5)
  observations = _observations(_OBSERVATION)
  before = numpy_actor.NumpyActor(actor)(observations, None)[0]
  normalizer.update(3.0 * observations + 1.0)
  actions, _ = numpy_actor.NumpyActor(actor)(observations, None)
  np.testing.assert_array_equal(actions, actor(observations)[0].mode())
  assert np.any(actions != before)
  assert actor.normalizer is normalizer  # Which a collector updates.


class _ShiftedHead(networks.GaussianHead):
  """Means other than the head's that it inherits from."""

  def __call__(self, features):
    return super().__call__(features + 5.0)


class _ShiftedActor(networks.ActorNetwork):
  """The same, an actor."""

  def distribution(self, observation):
    return super().distribution(observation + 5.0)


class _ShiftedOutputs(networks.ActorNetwork):
  """Outputs that are not those of its layers alone."""

  def outputs(self, observation):
    return super().outputs(observation) + 5.0


def test_an_unknown_head_names_the_module_to_extend():
  with pytest.raises(
    NotImplementedError, match='_ShiftedHead cannot act.*numpy'
  ):
    numpy_actor.NumpyActor(_actor(_CONTINUOUS, head_fn=_ShiftedHead))


@pytest.mark.parametrize('actor_class', [_ShiftedActor, _ShiftedOutputs])
def test_an_unknown_actor_names_the_module_to_extend(actor_class):
  actor = actor_class(_OBSERVATION, _CONTINUOUS)
  with pytest.raises(NotImplementedError, match='_Shifted.* cannot act in Num'):
    numpy_actor.NumpyActor(actor)


class _ClippedNormalizer(networks.ObservationNormalizer):
  """A normaliser that does more."""

  def __call__(self, observation):
    return tf.clip_by_value(super().__call__(observation), -0.1, 0.1)


def test_tensorflow_applies_a_normalizer_that_numpy_does_not_know():
  actor = _actor(_CONTINUOUS, normalizer=_ClippedNormalizer(_OBSERVATION))
  observations = _observations(_OBSERVATION)
  actions, _ = numpy_actor.NumpyActor(actor)(observations, None)
  modes = actor(observations)[0].mode()
  np.testing.assert_allclose(actions, modes, rtol=1e-5)


def test_epsilon_of_one_still_has_the_critics_mode():
  critic_fn = functools.partial(networks.DiscreteQNetwork, torso_fn=_TORSO)
  actor, _ = _greedy_actor(critic_fn, 1.0)
  observations = _observations(_OBSERVATION)
  best = np.argmax(actor.outputs(tf.constant(observations)), axis=-1)
  assert len(set(best)) > 1
  np.testing.assert_array_equal(actor(observations)[0].mode(), best)
  modes, _ = numpy_actor.NumpyActor(actor)(observations, None)
  np.testing.assert_array_equal(modes, best)
