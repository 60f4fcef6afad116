"""Critics made of others, and the Q-networks without a gate.

Projections are compared with loops over atoms, mixtures with the definition
of Agarwal et al. (2020), and what a wrapper does to a target with the scalar
target of the same critic.
"""

import functools

import numpy as np
import pytest
import tensorflow as tf
from tf_agents.specs import tensor_spec

from qwr_tf import networks
from qwr_tf.networks import torsos
from qwr_tf.ops import backups
from qwr_tf.ops import categorical
from qwr_tf.ops import regression
from qwr_tf.ops import returns

_OBSERVATION = tensor_spec.TensorSpec([3], tf.float32, 'observation')
_DISCRETE = tensor_spec.BoundedTensorSpec([], tf.int32, 0, 3, 'action')
_CONTINUOUS = tensor_spec.BoundedTensorSpec([2], tf.float32, -1, 1, 'action')
_TORSO = functools.partial(torsos.mlp_torso, (8,))
_ATOMS = np.linspace(-2, 3, 11).astype(np.float32)  # Half a unit apart.


def _built(critic, seed=0):
  critic.create_variables()
  rng = np.random.default_rng(seed)
  for variable in critic.trainable_variables:
    variable.assign(rng.normal(size=variable.shape))
  return critic


def _inputs(action_spec, batch=5, n=4, seed=1):
  rng = np.random.default_rng(seed)
  observation = rng.normal(size=[batch, 3]).astype(np.float32)
  if tensor_spec.is_discrete(action_spec):
    return observation, rng.integers(0, 4, [n, batch]).astype(np.int32)
  return observation, rng.normal(size=[n, batch, 2]).astype(np.float32)


def _probabilities(rng, shape):
  p = rng.random([*shape, len(_ATOMS)]) ** 3
  return (p / p.sum(-1, keepdims=True)).astype(np.float32)


def _seed(number=0):
  return tf.constant([number, 7], tf.int32)


# The projection


def _loop_projection(probabilities, locations, atoms):
  """C51's algorithm: each mass to the atoms below and above, one by one."""
  spacing = atoms[1] - atoms[0]
  projected = np.zeros(len(atoms))
  for mass, location in zip(probabilities, locations, strict=True):
    place = (np.clip(location, atoms[0], atoms[-1]) - atoms[0]) / spacing
    below, above = int(np.floor(place)), int(np.ceil(place))
    if below == above:
      projected[below] += mass
    else:
      projected[below] += mass * (above - place)
      projected[above] += mass * (place - below)
  return projected


def test_projection_equals_the_loop():
  rng = np.random.default_rng(0)
  probabilities = _probabilities(rng, [2, 6])
  locations = rng.normal(size=[2, 6, 11]).astype(np.float32) * 2
  locations[0, 0] = _ATOMS  # On the atoms, and beyond both ends elsewhere.
  assert (locations < -2).any() and (locations > 3).any()
  actual = categorical.project(probabilities, locations, _ATOMS).numpy()
  for i in np.ndindex(2, 6):
    expected = _loop_projection(probabilities[i], locations[i], _ATOMS)
    np.testing.assert_allclose(actual[i], expected, atol=1e-5)
  np.testing.assert_allclose(actual.sum(-1), 1.0, rtol=1e-5)
  np.testing.assert_allclose(actual[0, 0], probabilities[0, 0], atol=1e-6)


def test_projection_keeps_the_mean_inside_the_grid():
  rng = np.random.default_rng(1)
  probabilities = _probabilities(rng, [20])
  locations = rng.uniform(-2, 3, [20, 11]).astype(np.float32)
  projected = categorical.project(probabilities, locations, _ATOMS)
  np.testing.assert_allclose(
    categorical.mean(projected, _ATOMS),
    (probabilities * locations).sum(-1),
    atol=1e-5,
  )


# The distributional critic


def _distributional(action_spec=_CONTINUOUS, **kwargs):
  kwargs = {'min_value': -2.0, 'max_value': 3.0, 'num_atoms': 11} | kwargs
  critic = networks.DistributionalCritic(
    _OBSERVATION,
    action_spec,
    critic_fn=functools.partial(networks.GatedQNetwork, torso_fn=_TORSO),
    **kwargs,
  )
  return _built(critic)


def _points(critic, values):
  """Logits of (nearly) certain returns, which must be atoms."""
  return 50.0 * tf.one_hot(np.searchsorted(_ATOMS, values - 1e-3), 11)


@pytest.mark.parametrize(
  'backup_fn',
  [backups.mean_backup, backups.max_backup, backups.log_sum_exp_backup],
)
def test_a_point_mass_gives_the_scalar_target(backup_fn):
  # One action with a certain value: every F returns it, and the target is a
  # point at r + discount V, split between two atoms.
  critic = _distributional()
  next_values = np.array([[0.5, -1.0, 2.0]], np.float32)  # [n, B]
  log_weights = np.zeros([1, 1], np.float32)
  values = critic.representation.backup(
    backup_fn,
    _points(critic, next_values),
    log_weights,
    regression.WHOLE,
    _seed(),
  )
  np.testing.assert_allclose(
    critic.representation.means(values), next_values[0], atol=1e-3
  )
  rewards, discounts = np.array([[0.3, 0.1, -0.4], [0.9, 0.0, 0.5]], np.float32)
  target = critic.representation.bellman(rewards, discounts, values)
  expected = rewards + discounts * next_values[0]
  np.testing.assert_allclose(
    critic.representation.means(target), expected, atol=1e-3
  )
  assert (np.sum(target.numpy() > 1e-3, axis=-1) <= 2).all()
  # The loss of that target is the loss of the number.
  outputs = tf.random.stateless_normal([1, 3, 11], _seed())
  np.testing.assert_allclose(
    critic.representation.losses(outputs, target[tf.newaxis]),
    critic.representation.losses(outputs, tf.constant(expected[np.newaxis])),
    rtol=1e-3,
  )


@pytest.mark.parametrize('td_lambda', [0.0, 0.7, 1.0])
def test_returns_of_distributions_have_the_scalar_returns_as_means(td_lambda):
  critic = _distributional(min_value=-40.0, max_value=40.0, num_atoms=801)
  rng = np.random.default_rng(2)
  rewards, next_values = tf.unstack(
    rng.normal(size=[2, 4, 3]).astype(np.float32)
  )
  discounts = np.where(rng.random([4, 3]) < 0.3, 0.0, 0.9).astype(np.float32)
  is_last = (discounts == 0) | (rng.random([4, 3]) < 0.2)
  laws = categorical.project(
    np.ones([4, 3, 1], np.float32),
    next_values[..., None],
    critic.representation.atoms,
  )
  actual = returns.lambda_returns(
    rewards,
    discounts,
    laws,
    tf.constant(is_last),
    td_lambda,
    critic.representation.bellman,
  )
  expected = returns.lambda_returns(
    rewards, discounts, next_values, tf.constant(is_last), td_lambda
  )
  np.testing.assert_allclose(
    critic.representation.means(actual), expected, atol=1e-3
  )


def test_the_mean_backup_is_the_mixture_and_the_maximum_the_best():
  critic = _distributional()
  rng = np.random.default_rng(3)
  probabilities = _probabilities(rng, [4, 6])  # [n, B, atoms]
  mu = rng.dirichlet(np.ones(4), 6).T.astype(np.float32)  # [n, B]
  outputs, log_mu = np.log(probabilities), np.log(mu)

  mean = critic.representation.backup(
    backups.mean_backup, outputs, log_mu, regression.WHOLE, _seed()
  )
  mixture = (mu[..., None] * probabilities).sum(0)
  np.testing.assert_allclose(mean, mixture, atol=1e-4)

  best = critic.representation.backup(
    backups.max_backup, outputs, log_mu, regression.WHOLE, _seed()
  )
  choice = (probabilities @ _ATOMS).argmax(0)
  np.testing.assert_allclose(
    best, probabilities[choice, np.arange(6)], atol=1e-4
  )


def test_log_sum_exp_of_distributions_has_its_value_as_mean():
  critic = _distributional()
  rng = np.random.default_rng(4)
  outputs = rng.normal(size=[4, 6, 11]).astype(np.float32)
  outputs[..., [0, 1, -2, -1]] = -30.0  # Or the ends would cut what moves.
  log_weights = np.full([4, 1], -np.log(4), np.float32)
  lse = functools.partial(backups.log_sum_exp_backup, backup_temperature=0.5)
  law = critic.representation.backup(
    lse, outputs, log_weights, regression.WHOLE, _seed()
  )
  expected = lse(critic.representation.values(outputs), log_weights)
  np.testing.assert_allclose(
    critic.representation.means(law), expected, atol=1e-4
  )
  assert (law.numpy() >= -1e-6).all()
  np.testing.assert_allclose(law.numpy().sum(-1), 1.0, rtol=1e-4)


def test_values_and_cross_entropy_by_hand():
  critic = _distributional(min_value=0.0, max_value=2.0, num_atoms=3)
  # p = (1/4, 1/4, 1/2): mean 1.25; -log p at a target of half 1 and half 2.
  outputs = tf.math.log([[[0.25, 0.25, 0.5]]])
  np.testing.assert_allclose(
    critic.representation.values(outputs), [[1.25]], rtol=1e-6
  )
  expected = 0.5 * np.log(4) + 0.5 * np.log(2)
  target = tf.constant([[[0.0, 0.5, 0.5]]])
  np.testing.assert_allclose(
    critic.representation.losses(outputs, target), [[expected]]
  )
  number = tf.constant([[1.5]])
  np.testing.assert_allclose(
    critic.representation.losses(outputs, number), [[expected]]
  )


def test_logits_of_atoms_have_no_scale():
  scaled = networks.DistributionalCritic(
    _OBSERVATION,
    _CONTINUOUS,
    critic_fn=functools.partial(
      networks.GatedQNetwork, torso_fn=_TORSO, value_scale=100.0
    ),
    min_value=-2.0,
    max_value=3.0,
    num_atoms=11,
  )
  inputs = _inputs(_CONTINUOUS)
  plain = _distributional()  # The same weights.
  np.testing.assert_allclose(_built(scaled)(inputs)[0], plain(inputs)[0])


@pytest.mark.parametrize(
  'kwargs, part',
  [
    ({'min_value': None}, 'Set DistributionalCritic.min_value'),
    ({'max_value': -2.0}, 'min_value below'),
    ({'num_atoms': 1}, '2 atoms'),
  ],
)
def test_atoms_that_cannot_be(kwargs, part):
  with pytest.raises(ValueError, match=part):
    _distributional(**kwargs)


# The random ensemble mixture


def _rem(**kwargs):
  kwargs = {'torso_fn': _TORSO} | kwargs
  return _built(
    networks.RemCritic(
      _OBSERVATION,
      _CONTINUOUS,
      critic_fn=functools.partial(networks.GatedQNetwork, **kwargs),
      num_heads=3,
    )
  )


def test_mixtures_are_random_and_convex():
  critic = _rem()
  draws = np.stack(
    [critic.representation.mixture(_seed(i)) for i in range(200)]
  )
  assert (draws >= 0).all()
  np.testing.assert_allclose(draws.sum(-1), 1.0, rtol=1e-5)
  np.testing.assert_allclose(draws.mean(0), 1 / 3, atol=0.03)
  assert draws.std(0).min() > 0.1
  np.testing.assert_array_equal(
    critic.representation.mixture(_seed(5)), draws[5]
  )


def test_target_and_loss_are_of_the_same_mixture():
  critic = _rem()
  outputs, _ = critic(_inputs(_CONTINUOUS))  # [n, B, heads]
  assert outputs.shape == [4, 5, 3]
  alpha = critic.representation.mixture(_seed(3)).numpy()
  log_weights = np.full([4, 1], -np.log(4), np.float32)
  values = critic.representation.backup(
    backups.max_backup, outputs, log_weights, regression.WHOLE, _seed(3)
  )
  target = critic.representation.bellman(
    np.ones([5], 'f'), np.full([5], 0.5, 'f'), values
  )
  expected = 1.0 + 0.5 * (outputs.numpy() @ alpha).max(0)
  np.testing.assert_allclose(
    critic.representation.means(target), expected, rtol=1e-4
  )
  # What the taken action's heads make of it.
  loss = critic.representation.losses(outputs[:1], target[tf.newaxis])
  mixed = outputs.numpy()[:1] @ alpha
  np.testing.assert_allclose(loss, (mixed - expected) ** 2, rtol=1e-3)


def test_the_lambda_return_keeps_the_mixture():
  critic = _rem()
  outputs, _ = critic(_inputs(_CONTINUOUS, batch=6))
  log_weights = np.full([4, 1, 1], -np.log(4), np.float32)
  values = critic.representation.backup(
    backups.mean_backup,
    tf.reshape(outputs, [4, 2, 3, 3]),
    log_weights,
    regression.WHOLE,
    _seed(),
  )  # [2, 3, 1 + heads]
  ones = np.ones([2, 3], np.float32)
  is_last = tf.constant([[False, True, False], [False, False, False]])
  targets = returns.lambda_returns(
    ones, 0.9 * ones, values, is_last, 0.8, critic.representation.bellman
  )
  np.testing.assert_allclose(
    critic.representation.means(targets),
    returns.lambda_returns(ones, 0.9 * ones, values[..., 0], is_last, 0.8),
    rtol=1e-4,
  )
  alpha = np.broadcast_to(critic.representation.mixture(_seed()), [2, 3, 3])
  np.testing.assert_allclose(targets[..., 1:], alpha, rtol=1e-5)


def test_fixed_weights_give_the_mean(monkeypatch):
  critic = _rem()
  outputs, _ = critic(_inputs(_CONTINUOUS))
  mean = outputs.numpy().mean(-1)
  np.testing.assert_allclose(
    critic.representation.values(outputs), mean, rtol=1e-4
  )
  monkeypatch.setattr(
    type(critic.representation), 'mixture', lambda *_: tf.fill([3], 1 / 3)
  )
  log_weights = np.full([4, 1], -np.log(4), np.float32)
  values = critic.representation.backup(
    backups.mean_backup, outputs, log_weights, regression.WHOLE, _seed()
  )
  np.testing.assert_allclose(
    critic.representation.means(values), mean.mean(0), rtol=1e-4
  )
  loss = critic.representation.losses(outputs[:1], values[tf.newaxis])
  np.testing.assert_allclose(
    loss,
    critic.representation.losses(outputs[:1], tf.constant(mean.mean(0)[None])),
    rtol=1e-3,
  )


def test_heads_keep_the_scale_of_values():
  plain, scaled = _rem(), _rem(value_scale=100.0)  # The same weights.
  inputs = _inputs(_CONTINUOUS)
  values = plain.representation.values(plain(inputs)[0])
  np.testing.assert_allclose(
    scaled.representation.values(scaled(inputs)[0]), 100.0 * values, rtol=1e-4
  )
  targets = tf.reshape(tf.linspace(-1.0, 1.0, 20), [4, 5])
  np.testing.assert_allclose(
    scaled.representation.losses(scaled(inputs)[0], 100.0 * targets),
    plain.representation.losses(plain(inputs)[0], targets),
    rtol=1e-3,
  )


# Twins


def test_the_smaller_value_counts_and_both_learn():
  critic = _built(
    networks.TwinCritic(
      _OBSERVATION,
      _CONTINUOUS,
      critic_fn=functools.partial(networks.GatedQNetwork, torso_fn=_TORSO),
    )
  )
  inputs = _inputs(_CONTINUOUS)
  both = np.stack([m(inputs)[0] for m in critic.members], axis=-1)
  assert (both.argmin(-1) == 0).any() and (both.argmin(-1) == 1).any()
  outputs, _ = critic(inputs)
  np.testing.assert_allclose(
    critic.representation.values(outputs), both.min(-1), rtol=1e-5
  )
  targets = np.linspace(-1, 1, 20, dtype='f').reshape(4, 5)
  expected = ((both - targets[..., None]) ** 2).sum(-1)
  np.testing.assert_allclose(
    critic.representation.losses(outputs, targets), expected, rtol=1e-4
  )


# What all of them share


_WRAPPERS = {
  'twin': networks.TwinCritic,
  'rem': networks.RemCritic,
  'distributional': functools.partial(
    networks.DistributionalCritic, min_value=-1, max_value=1, num_atoms=5
  ),
}
_CRITICS = (
  (networks.GatedQNetwork, _CONTINUOUS),
  (networks.GatedQNetwork, _DISCRETE),
  (networks.ValueNetwork, _CONTINUOUS),
  (networks.ConcatQNetwork, _CONTINUOUS),
  (networks.ConcatQNetwork, _DISCRETE),
  (networks.JointQNetwork, _CONTINUOUS),
  (networks.JointQNetwork, _DISCRETE),
  (networks.DiscreteQNetwork, _DISCRETE),
  (networks.DuelingQNetwork, _DISCRETE),
)


@pytest.mark.slow
@pytest.mark.parametrize('wrapper', _WRAPPERS)
@pytest.mark.parametrize('critic_class, action_spec', _CRITICS)
def test_wrappers_fit_every_critic(wrapper, critic_class, action_spec):
  normalizer = networks.ObservationNormalizer(_OBSERVATION)
  critic = _WRAPPERS[wrapper](
    _OBSERVATION,
    action_spec,
    critic_fn=functools.partial(critic_class, torso_fn=_TORSO),
    normalizer=normalizer,
  )
  copy = critic.copy(name='Copy')
  critic.create_variables()
  copy.create_variables()
  assert critic.normalizer is copy.normalizer is normalizer
  # What an export calls q_values, not values.
  takes_actions = critic_class is not networks.ValueNetwork
  assert critic.is_action_value is copy.is_action_value is takes_actions
  own = {v.ref() for v in critic.trainable_variables}
  assert own and not own & {v.ref() for v in copy.trainable_variables}
  assert len(own) == len(copy.trainable_variables)
  inputs = _inputs(action_spec)
  with tf.GradientTape() as tape:
    outputs, _ = critic(inputs)
    values = critic.representation.values(outputs)
    loss = tf.reduce_sum(critic.representation.losses(outputs, tf.ones([4, 5])))
  assert values.shape == [4, 5]
  gradients = tape.gradient(loss, critic.trainable_variables)
  assert all(g is not None for g in gradients)


@pytest.mark.parametrize('wrapper', ['rem', 'distributional'])
def test_nothing_can_be_made_of_no_critic(wrapper):
  with pytest.raises(ValueError, match='remove make_agent.critic_wrapper'):
    _WRAPPERS[wrapper](_OBSERVATION, _DISCRETE, critic_fn=networks.NoCritic)


def test_no_critic_is_zero_everywhere():
  critic = networks.NoCritic(_OBSERVATION, _CONTINUOUS)
  critic.create_variables()
  outputs, _ = critic(_inputs(_CONTINUOUS))
  np.testing.assert_array_equal(outputs, np.zeros([4, 5]))
  np.testing.assert_array_equal(
    critic.representation.losses(outputs, np.ones([4, 5], 'f')),
    np.zeros([4, 5]),
  )
  assert not critic.trainable_variables
  assert critic.normalizer is None


# Q-networks without a gate


def _dense(layer, x):
  kernel, bias = layer.get_weights()
  y = x @ kernel + bias
  return np.maximum(y, 0) if layer.activation.__name__ == 'relu' else y


@pytest.mark.parametrize('action_spec', [_DISCRETE, _CONTINUOUS])
def test_concat_network_equals_numpy(action_spec):
  critic = _built(
    networks.ConcatQNetwork(_OBSERVATION, action_spec, torso_fn=_TORSO)
  )
  observation, actions = _inputs(action_spec)
  values, _ = critic((observation, actions))
  vectors = np.eye(4)[actions] if actions.ndim == 2 else actions
  states = np.broadcast_to(observation, [4, 5, 3])
  hidden = np.concatenate([states, vectors], axis=-1)
  for layer in (*critic._torso.layers, critic._head):
    hidden = _dense(layer, hidden)
  np.testing.assert_allclose(values, hidden[..., 0], rtol=1e-4, atol=1e-5)


def test_concat_network_takes_whole_numbers():
  counts = tensor_spec.TensorSpec([3], tf.uint8)
  critic = _built(networks.ConcatQNetwork(counts, _CONTINUOUS, torso_fn=_TORSO))
  _, actions = _inputs(_CONTINUOUS)
  observation = np.arange(15).reshape(5, 3)
  values, _ = critic((observation.astype(np.uint8), actions))
  floats = observation.astype(np.float32)
  np.testing.assert_array_equal(values, critic.outputs(floats, actions))


def test_discrete_network_picks_the_outputs_of_the_actions():
  critic = _built(
    networks.DiscreteQNetwork(_OBSERVATION, _DISCRETE, torso_fn=_TORSO)
  )
  observation, actions = _inputs(_DISCRETE)
  hidden = observation
  for layer in (*critic.encoder.torso.layers, critic.head):
    hidden = _dense(layer, hidden)  # [B, 4]
  expected = hidden[np.arange(5), actions]
  values, _ = critic((observation, actions))
  np.testing.assert_allclose(values, expected, rtol=1e-4)
  # The same actions in every state, windows, one action per state.
  everywhere, _ = critic((observation, np.arange(4, dtype='i')[:, None]))
  np.testing.assert_allclose(everywhere, hidden.T, rtol=1e-4)
  windows, _ = critic((observation[:, None], actions[:, :, None]))
  np.testing.assert_allclose(windows[..., 0], expected, rtol=1e-4)
  single, _ = critic((observation, actions[0]))
  np.testing.assert_allclose(single, expected[0], rtol=1e-4)


def test_networks_for_other_spaces_say_what_to_use():
  with pytest.raises(ValueError, match='Use GatedQNetwork or ConcatQNetwork'):
    networks.DiscreteQNetwork(_OBSERVATION, _CONTINUOUS)
  image = tensor_spec.TensorSpec([9, 9, 2], tf.uint8)
  with pytest.raises(ValueError, match='Use GatedQNetwork'):
    networks.ConcatQNetwork(image, _DISCRETE)


def test_dueling_network_by_hand():
  # The features are 1, 2. A = 1, 2, 3, 6 with the mean 3; V = 10 - 2 = 8.
  critic = networks.DuelingQNetwork(
    tensor_spec.TensorSpec([2], tf.float32),
    _DISCRETE,
    torso_fn=lambda: tf.keras.Sequential([tf.keras.layers.Flatten()]),
    value_scale=10.0,
  )
  critic.create_variables()
  critic.head.kernel.assign([[1.0, 0.0, 1.0, 2.0], [0.0, 1.0, 1.0, 2.0]])
  critic.value_head.kernel.assign([[10.0], [-1.0]])
  observation = np.array([[1.0, 2.0]], np.float32)
  values, _ = critic((observation, np.arange(4, dtype='i')[:, None]))
  np.testing.assert_allclose(values[:, 0], [60, 70, 80, 110])


def test_dueling_actions_can_begin_alike():
  critic = networks.DuelingQNetwork(
    _OBSERVATION, _DISCRETE, torso_fn=_TORSO, advantage_limit=1e-6
  )
  critic.create_variables()
  observation, _ = _inputs(_DISCRETE)
  values, _ = critic((observation, np.arange(4, dtype='i')[:, None]))
  assert np.ptp(values, axis=0).max() < 1e-4 < np.abs(values).max()
