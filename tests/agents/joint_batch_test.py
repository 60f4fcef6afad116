"""Critics with BatchNorm: (s, a) and (s', a') in one forward pass (CrossQ)."""

import numpy as np
import pytest
import tensorflow as tf
from tf_agents.specs import tensor_spec
from tf_agents.trajectories import time_step as ts
from tf_agents.trajectories import trajectory

from qwr_tf import networks
from qwr_tf.agents import qwr_agent
from qwr_tf.agents import slots
from qwr_tf.minibatches import exact_reuse
from qwr_tf.minibatches import whole_table
from qwr_tf.networks import joint_critics
from qwr_tf.ops import backups
from qwr_tf.ops import returns
from qwr_tf.replicas import replicas
from qwr_tf.runs import checkpoints

_OBSERVATION = tensor_spec.TensorSpec([3], tf.float32, 'observation')
_CONTINUOUS = tensor_spec.BoundedTensorSpec([2], tf.float32, -1, 1, 'action')
_DISCRETE = tensor_spec.BoundedTensorSpec([], tf.int32, 0, 3, 'action')
_MID, _LAST = 1, 2
_BATCH = 6


def _torso():
  return tf.keras.Sequential([tf.keras.layers.Flatten()])


def test_replicas_are_refused(monkeypatch):
  monkeypatch.setattr(replicas.Replicas, 'count', 2)
  with pytest.raises(ValueError, match='single replica'):
    _agent()


def _agent(action_spec=_CONTINUOUS, twin=False, torso=_torso, **kwargs):
  tf.keras.utils.set_random_seed(1)

  def critic(observation_spec, action_spec, normalizer=None):
    return networks.JointQNetwork(
      observation_spec,
      action_spec,
      torso_fn=_torso,
      units=(4,),
      layer_norm=False,
      batch_norm=True,
    )

  if twin:
    network = networks.TwinCritic(_OBSERVATION, action_spec, critic_fn=critic)
  else:
    network = critic(_OBSERVATION, action_spec)
  sgd = tf.keras.optimizers.legacy.SGD
  return qwr_agent.QwrAgent(
    ts.time_step_spec(_OBSERVATION),
    action_spec,
    networks.ActorNetwork(_OBSERVATION, action_spec, torso_fn=torso),
    network,
    actor_optimizer=sgd(0.1),
    critic_optimizer=sgd(0.1),
    train_step_counter=tf.Variable(0, dtype=tf.int64),
    **{'horizon': 1, 'gamma': 0.9} | kwargs,
  )


def _windows(agent):
  """[6, 2]; row 1 ends its episode, row 2 is cut there."""
  rng = np.random.default_rng(0)
  outer = [_BATCH, 2]
  next_step_type = np.full(outer, _MID, np.int32)
  next_step_type[1:3, 0] = _LAST
  discount = np.ones(outer, np.float32)
  discount[1, 0] = 0.0

  def normal(spec):
    return tf.constant(rng.normal(size=[*outer, *spec.shape]), tf.float32)

  spec = agent.collect_data_spec
  action = (
    normal(spec.action)
    if spec.action.dtype.is_floating
    else tf.constant(rng.integers(0, 4, outer), tf.int32)
  )
  step_type = np.full(outer, _MID, np.int32)
  step_type[1:3, 1] = _LAST
  return trajectory.Trajectory(
    step_type=tf.constant(step_type),
    observation=normal(spec.observation),
    action=action,
    policy_info=tf.nest.map_structure(normal, spec.policy_info),
    next_step_type=tf.constant(next_step_type),
    reward=tf.constant(rng.normal(size=outer), tf.float32),
    discount=tf.constant(discount),
  )


def _randomize(network, seed):
  rng = np.random.default_rng(seed)
  for variable in network.trainable_variables:
    variable.assign(rng.normal(size=variable.shape))


def _values_by_numpy(critic, states, actions):
  """Q of rows whose statistics are the rows' own."""
  kernel, bias = critic.state_layer.get_weights()
  action_kernel, action_bias = critic.action_layer.get_weights()
  x = states @ kernel + bias + actions @ action_kernel + action_bias
  x = np.maximum(x, 0.0)
  x = (x - x.mean(axis=0)) / np.sqrt(x.var(axis=0) + 1e-3)
  gamma, beta, *_ = critic.joint_layers.get_weights()
  head_kernel, head_bias = critic.head.get_weights()
  return ((x * gamma + beta) @ head_kernel + head_bias)[:, 0]


@pytest.mark.slow
def test_targets_and_loss_by_numpy():
  agent = _agent(backup_fn=backups.mean_backup)
  _randomize(agent.critic_network, 1)
  _randomize(agent.target_network, 2)
  windows, seed = _windows(agent), tf.constant([1, 2])
  following = agent.states(returns.next_steps(windows), seed)
  drawn = slots.sampled_behavior_actions(following).actions  # [4, 6, 1, 2]
  # Every row of the batch: s once for each of the 4 actions at s'.
  states = np.concatenate(
    [windows.observation[:, 0], windows.observation[:, 1]]
  )
  taken = [windows.action[:, 0]] * 4
  actions = np.concatenate([np.stack(taken), drawn[:, :, 0]], axis=1)
  rows = np.concatenate([states] * 4), np.concatenate(actions)
  next_q = _values_by_numpy(agent.target_network, *rows)
  next_q = next_q.reshape(4, 2, _BATCH)[:, 1].mean(axis=0)
  discounts = 0.9 * windows.discount[:, 0].numpy()
  expected = windows.reward[:, 0] + discounts * next_q
  q = _values_by_numpy(agent.critic_network, *rows)[:_BATCH]
  scalars = agent.critic_update(windows, seed)
  np.testing.assert_allclose(
    scalars['critic_loss'], np.mean((q - expected) ** 2), rtol=1e-4
  )
  np.testing.assert_allclose(
    scalars['q_mean'], np.mean(q), rtol=1e-4, atol=1e-5
  )


@pytest.mark.slow
@pytest.mark.parametrize('twin', [False, True])
@pytest.mark.parametrize('num_actions', [1, 3])
@pytest.mark.parametrize(
  'backup_fn', [backups.mean_backup, backups.log_sum_exp_backup]
)
def test_with_fixed_statistics_it_is_the_usual_step(
  twin, num_actions, backup_fn
):
  def sample(states):
    return slots.sampled_target_policy_actions(states, num_actions)

  agent = _agent(twin=twin, backup_fn=backup_fn, backup_actions=sample)
  _randomize(agent.target_network, 2)
  windows, seed = _windows(agent), tf.constant([1, 2])
  for network in (agent.critic_network, agent.target_network):
    layers = [m for m in network.submodules if 'BatchNorm' in type(m).__name__]
    assert len(layers) == (2 if twin else 1)
    for layer in layers:
      layer.trainable = False  # Keras then ignores `training`.
  targets = agent.td_targets(windows, seed)[:, 0]
  usual = agent.critic_loss(returns.first_steps(windows), targets)
  joint = agent.critic_update(windows, seed)
  np.testing.assert_allclose(
    joint['critic_loss'], usual['critic_loss'], rtol=1e-4
  )


@pytest.mark.slow
def test_a_step_moves_the_running_averages_and_a_checkpoint_has_them(tmp_path):
  agent, other = _agent(twin=True), _agent(twin=True)
  windows = _windows(agent)
  observation, action = windows.observation[:, 0], windows.action[:, 0]

  def values(agent):
    return agent.q_values(observation, action[tf.newaxis]).numpy()

  before = values(agent)
  for _ in range(3):
    agent.train(windows)
  assert np.all(values(agent) != before)
  checkpoints.save(agent, tmp_path / 'checkpoint')
  checkpoints.restore(other, tmp_path / 'checkpoint')
  np.testing.assert_array_equal(values(other), values(agent))
  losses = [a.train(windows).loss for a in (agent, other)]
  np.testing.assert_array_equal(*losses)
  # The loss alone changes nothing.
  before = values(agent)
  agent.loss(windows)
  np.testing.assert_array_equal(values(agent), before)


def test_the_torso_counts_and_an_actor_has_none():
  torso = joint_critics.batch_norm_torso
  critic = networks.GatedQNetwork(_OBSERVATION, _CONTINUOUS, torso_fn=torso)
  assert critic.has_batch_norm
  assert not networks.GatedQNetwork(_OBSERVATION, _CONTINUOUS).has_batch_norm
  with pytest.raises(ValueError, match='BatchNorm is for critics'):
    _agent(torso=torso)


@pytest.mark.slow
def test_discrete_actions():
  agent = _agent(_DISCRETE)
  assert np.isfinite(agent.train(_windows(agent)).loss)


@pytest.mark.slow
def test_it_looks_one_step_ahead_and_makes_its_own_targets():
  with pytest.raises(ValueError, match='horizon 1'):
    _agent(horizon=3)
  for kind in (whole_table.WholeTable, exact_reuse.ExactReuse):
    with pytest.raises(ValueError, match='@PerMinibatch'):
      kind(_agent(), None, _BATCH)
