"""QwrAgent among TF-Agents' own drivers, buffers, learner and savers."""

import functools
import os

import numpy as np
import pytest
import tensorflow as tf
from tf_agents.agents import data_converter
from tf_agents.agents.sac import tanh_normal_projection_network
from tf_agents.drivers import dynamic_step_driver
from tf_agents.environments import tf_py_environment
from tf_agents.networks import actor_distribution_network
from tf_agents.networks import actor_distribution_rnn_network
from tf_agents.policies import policy_saver
from tf_agents.replay_buffers import tf_uniform_replay_buffer
from tf_agents.specs import tensor_spec
from tf_agents.train import learner
from tf_agents.train.utils import train_utils
from tf_agents.trajectories import time_step as ts
from tf_agents.utils import common

from qwr_tf import environments
from qwr_tf import networks
from qwr_tf.agents import qwr_agent
from qwr_tf.agents import slots
from qwr_tf.config import gin_files
from qwr_tf.networks import torsos
from qwr_tf.replay import ReplayTable
from qwr_tf.training import experiment

_ONE_OF_EACH = ['BitFlip-8', 'Pendulum-v1']
_TORSO = functools.partial(torsos.mlp_torso, (8,), layer_norm=True)


@functools.cache
def _specs(name):
  with environments.load(name) as env:
    return (
      tensor_spec.from_spec(env.time_step_spec()),
      tensor_spec.from_spec(env.action_spec()),
    )


def _agent(name, weights_seed=0, actor_network=None, **kwargs):
  tf.keras.utils.set_random_seed(weights_seed)
  time_step_spec, action_spec = _specs(name)
  observation_spec = time_step_spec.observation
  normalizer = networks.ObservationNormalizer(observation_spec)
  adam = tf.keras.optimizers.legacy.Adam
  kwargs = {'train_step_counter': tf.Variable(0, dtype=tf.int64)} | kwargs
  return qwr_agent.QwrAgent(
    time_step_spec,
    action_spec,
    actor_network
    or networks.ActorNetwork(
      observation_spec, action_spec, torso_fn=_TORSO, normalizer=normalizer
    ),
    networks.GatedQNetwork(
      observation_spec, action_spec, torso_fn=_TORSO, normalizer=normalizer
    ),
    actor_optimizer=adam(1e-2),
    critic_optimizer=adam(1e-2),
    **kwargs,
  )


def _drive(name, agent, add_batch, num_steps=40):
  """TF-Agents' loop: collects this many transitions with the agent."""
  env = tf_py_environment.TFPyEnvironment(environments.load(name, seed=0))
  driver = dynamic_step_driver.DynamicStepDriver(
    env, agent.collect_policy, observers=[add_batch], num_steps=num_steps
  )
  driver.run()
  env.close()


def _uniform_buffer(agent):
  return tf_uniform_replay_buffer.TFUniformReplayBuffer(
    agent.collect_data_spec, batch_size=1, max_length=200
  )


def _table(agent):
  return ReplayTable(agent.collect_data_spec, 200)


def _trainable(agent):
  return (
    *agent.actor_network.trainable_variables,
    *agent.critic_network.trainable_variables,
  )


def _state(agent):
  """Every variable the agent owns, as NumPy."""
  return [np.array(v) for v in agent.variables]


def _checked(agent, experience):
  """The experience; raises if it is not what the agent's spec says."""
  data_converter.AsTrajectory(
    agent.data_context, sequence_length=agent.train_sequence_length
  )(experience)
  return experience


# Drivers, buffers, learner


@pytest.mark.slow
@pytest.mark.parametrize(
  'name, buffer_fn',
  [('Pendulum-v1', _uniform_buffer), ('BitFlip-8', _table)],
)
def test_the_stock_learner_trains_the_agent(name, buffer_fn, tmp_path):
  train_step = train_utils.create_train_step()
  agent = _agent(name, train_step_counter=train_step)
  agent.initialize()
  buffer = buffer_fn(agent)
  _drive(name, agent, buffer.add_batch)

  def dataset():
    return buffer.as_dataset(
      sample_batch_size=16, num_steps=agent.train_sequence_length
    )

  experience, _ = next(iter(dataset()))
  _checked(agent, experience)
  before = [np.array(v) for v in _trainable(agent)]
  stock = learner.Learner(
    str(tmp_path),
    train_step,
    agent,
    experience_dataset_fn=dataset,
    checkpoint_interval=1000,
  )
  for i in range(1, 3):
    loss = stock.run(iterations=2)
    assert np.isfinite(loss.loss)
    np.testing.assert_allclose(
      loss.loss, loss.extra.critic_loss + loss.extra.actor_loss, rtol=1e-5
    )
    assert train_step == agent.critic_steps == agent.actor_steps == 2 * i
  for variable, old in zip(_trainable(agent), before, strict=True):
    assert np.isfinite(variable.numpy()).all()
    assert np.any(variable != old), variable.name


@pytest.mark.slow
@pytest.mark.parametrize('name', _ONE_OF_EACH)
def test_train_counts_one_step_and_takes_the_collect_data_spec(name):
  agent = _agent(name)
  # Samples of the spec are as large as floats get: no gradient is finite.
  experience = tensor_spec.zero_spec_nest(
    agent.collect_data_spec, outer_dims=[4, agent.train_sequence_length]
  )
  agent.train(experience)
  assert agent.train_step_counter == 1
  agent.loss(experience)
  assert agent.train_step_counter == 1
  common.function(agent.train)(experience)
  assert agent.train_step_counter == 2


@pytest.mark.slow
@pytest.mark.parametrize('method', ['train', 'loss'])
def test_windows_of_another_length_are_refused(method):
  # As TF-Agents' own agents do: `num_steps=2` of a habit would otherwise
  # train with a horizon of 1 and not say so.
  agent = _agent('BitFlip-8', horizon=3)
  for length in (2, 5):
    experience = tensor_spec.sample_spec_nest(
      agent.collect_data_spec, outer_dims=[4, length]
    )
    with pytest.raises(ValueError, match='num_steps=4'):
      getattr(agent, method)(experience)


@pytest.mark.slow
@pytest.mark.parametrize('method', ['train', 'loss'])
def test_experience_without_mu_is_refused(method):
  agent = _agent('BitFlip-8')
  experience = tensor_spec.zero_spec_nest(
    agent.collect_data_spec._replace(policy_info=()), outer_dims=[4, 4]
  )
  with pytest.raises(ValueError, match='policy_info'):
    getattr(agent, method)(experience)


def _stock_actor(name, network, **kwargs):
  time_step_spec, action_spec = _specs(name)
  return network(time_step_spec.observation, action_spec, **kwargs)


@pytest.mark.slow
@pytest.mark.parametrize('name', ['CartPole-v1', 'Pendulum-v1'])
def test_an_actor_network_of_tf_agents(name):
  stock = _stock_actor(
    name,
    actor_distribution_network.ActorDistributionNetwork,
    fc_layer_params=(8,),
  )
  agent = _agent(name, actor_network=stock)
  buffer = _uniform_buffer(agent)
  _drive(name, agent, buffer.add_batch)
  experience, _ = buffer.get_next(16, num_steps=agent.train_sequence_length)
  first = tf.nest.map_structure(lambda x: x[:, 0], _checked(agent, experience))
  pi, _ = stock(first.observation, step_type=first.step_type, network_state=())
  # It acted, and its parameters are stored.
  mu = agent.behavior_distribution(first.policy_info)
  np.testing.assert_allclose(
    mu.log_prob(first.action), pi.log_prob(first.action), rtol=1e-4, atol=1e-5
  )
  # It is regressed upon, and followed by its target.
  actions, weights, _ = agent.weighted_actions(experience, [0, 1])
  share = tf.exp(actions.log_weights)
  expected = -tf.reduce_sum(share * weights * pi.log_prob(actions.actions), 0)
  mask = tf.cast(~first.is_boundary(), tf.float32)
  expected = tf.reduce_sum(mask * expected) / tf.reduce_sum(mask)
  loss = agent.actor_loss(first, actions, weights)['actor_loss']
  np.testing.assert_allclose(loss, expected, rtol=1e-4)
  before = [np.array(v) for v in stock.trainable_variables]
  common.function(agent.train)(experience)
  for variable, old in zip(stock.trainable_variables, before, strict=True):
    assert np.any(variable != old), variable.name


def test_an_actor_network_with_a_state_is_refused():
  stock = _stock_actor(
    'CartPole-v1',
    actor_distribution_rnn_network.ActorDistributionRnnNetwork,
    lstm_size=(4,),
  )
  with pytest.raises(ValueError, match='must not have a state.*RnnNetwork'):
    _agent('CartPole-v1', actor_network=stock)


def test_a_squashed_actor_network_is_refused():
  stock = _stock_actor(
    'Pendulum-v1',
    actor_distribution_network.ActorDistributionNetwork,
    continuous_projection_net=(
      tanh_normal_projection_network.TanhNormalProjectionNetwork
    ),
  )
  with pytest.raises(ValueError, match='must not squash.*SquashToSpecNormal'):
    _agent('Pendulum-v1', actor_network=stock)


@pytest.mark.slow
@pytest.mark.parametrize('name', _ONE_OF_EACH)
def test_the_driver_stores_mu_with_every_frame(name):
  agent = _agent(name)
  table = _table(agent)
  _drive(name, agent, table.add_batch, num_steps=12)
  assert table.num_frames() == 12
  rows = tf.nest.map_structure(lambda x: x[0], table.gather_all())
  if name == 'BitFlip-8':  # Two episodes of five and the next two steps.
    np.testing.assert_array_equal(
      rows.step_type, [*[0, 1, 1, 1, 1, 2] * 2, 0, 1]
    )
  (stored,) = rows.policy_info['dist_params'].values()
  policy = slots.distribution(agent.actor_network, rows.observation)
  expected = policy.logits if name == 'BitFlip-8' else policy.mean()
  np.testing.assert_allclose(stored, expected, rtol=1e-5, atol=1e-6)
  # What is stored rebuilds the distribution that acted.
  mu = agent.behavior_distribution(rows.policy_info)
  np.testing.assert_allclose(
    mu.log_prob(rows.action), policy.log_prob(rows.action), rtol=1e-4
  )


@pytest.mark.slow
def test_the_collect_policy_does_not_clip_and_the_policy_does():
  agent = _agent('Pendulum-v1')
  projection = agent.actor_network.head.projection
  projection.kernel.assign(tf.zeros_like(projection.kernel))
  projection.bias.assign([5.0])
  steps = ts.restart(tf.zeros([50, 3]), batch_size=50)
  collected = agent.collect_policy.action(steps)
  assert tf.reduce_min(collected.action) > 1
  assert collected.action.numpy().std() > 0.1  # Samples, not the mode.
  np.testing.assert_array_equal(
    collected.info['dist_params']['loc'], np.full([50, 1], 5.0)
  )
  np.testing.assert_array_equal(agent.policy.action(steps).action, [[1.0]] * 50)


# Saving


@pytest.mark.slow
@pytest.mark.filterwarnings('ignore:Encoding a StructuredValue')
@pytest.mark.parametrize('name', _ONE_OF_EACH)
def test_policies_can_be_saved(name, tmp_path):
  agent = _agent(name)
  for kind, policy in (
    ('collect', agent.collect_policy),
    ('greedy', agent.policy),
  ):
    path = os.path.join(tmp_path, kind)
    policy_saver.PolicySaver(policy, batch_size=None).save(path)
  observation = tf.random.stateless_normal(
    [6, *_specs(name)[0].observation.shape], [1, 2]
  )
  steps = ts.restart(observation, batch_size=6)
  greedy = tf.saved_model.load(os.path.join(tmp_path, 'greedy'))
  np.testing.assert_allclose(
    greedy.action(steps).action, agent.policy.action(steps).action, rtol=1e-5
  )
  collect = tf.saved_model.load(os.path.join(tmp_path, 'collect'))
  step = collect.action(steps)
  expected = agent.collect_policy.distribution(steps).info
  tf.nest.assert_same_structure(step.info, expected)
  tf.nest.map_structure(
    functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6),
    step.info,
    expected,
  )
  assert step.action.dtype == _specs(name)[1].dtype


@pytest.mark.slow
@pytest.mark.parametrize('name', _ONE_OF_EACH)
def test_a_checkpoint_holds_the_whole_agent(name, tmp_path):
  agent = _agent(name, horizon=1)
  experience = tensor_spec.sample_spec_nest(
    agent.collect_data_spec, seed=1, outer_dims=[8, agent.horizon + 1]
  )
  # Samples of the spec are of any size; observations and rewards are not.
  experience = experience._replace(
    observation=tf.random.stateless_normal(
      experience.observation.shape, [1, 2]
    ),
    reward=tf.random.stateless_normal(experience.reward.shape, [3, 4]),
    policy_info=tf.nest.map_structure(
      lambda x: tf.random.stateless_normal(x.shape, [5, 6]),
      experience.policy_info,
    ),
  )
  agent.actor_network.encoder.normalizer.update(experience.observation[:, 0])
  for _ in range(3):
    agent.train(experience)
  common.Checkpointer(str(tmp_path), agent=agent).save(agent.train_step_counter)
  saved = _state(agent)

  restored = _agent(name, weights_seed=1, horizon=1)
  assert any(
    np.any(a != b) for a, b in zip(_state(restored), saved, strict=False)
  )
  checkpointer = common.Checkpointer(str(tmp_path), agent=restored)
  assert checkpointer.checkpoint_exists
  checkpointer.initialize_or_restore().assert_existing_objects_matched()
  for ours, theirs in zip(_trainable(agent), _trainable(restored), strict=True):
    np.testing.assert_array_equal(ours, theirs)
  # Optimisers, counters and the target are in it: both go on alike.
  for _ in range(2):
    loss, again = (a.train(experience).loss for a in (agent, restored))
    assert np.isfinite(loss)
    np.testing.assert_array_equal(loss, again)
  assert restored.train_step_counter == 5
  assert len(_state(agent)) == len(_state(restored))
  for ours, theirs in zip(_state(agent), _state(restored), strict=True):
    np.testing.assert_array_equal(ours, theirs)


# What a run builds


@pytest.mark.slow
def test_the_seed_of_a_run_decides_its_initial_weights():
  def weights(seed):
    agent = experiment.make_agent(*_specs('Pendulum-v1'), seed=seed)
    return [np.array(v) for v in _trainable(agent)]

  first, again, other = weights(0), weights(0), weights(1)
  for a, b in zip(first, again, strict=True):
    np.testing.assert_array_equal(a, b)
  assert any(np.any(a != b) for a, b in zip(first, other, strict=True))


def test_each_network_has_the_optimizer_that_was_named_for_it():
  sgd = tf.keras.optimizers.legacy.SGD
  named = {'actor_optimizer': sgd(0.125), 'critic_optimizer': sgd(0.25)}
  # Table 4's, where nothing is named.
  for kwargs, expected in ((named, [0.125, 0.25]), ({}, [1e-4, 5e-4])):
    given = experiment.make_agent(
      *_specs('BitFlip-8'),
      seed=0,
      agent_class=lambda *_, **kwargs: kwargs,
      **kwargs,
    )
    rates = [
      float(given[name].learning_rate)
      for name in ('actor_optimizer', 'critic_optimizer')
    ]
    assert rates == pytest.approx(expected)


@pytest.mark.slow
def test_train_warns_of_a_normalizer_that_nobody_updates(caplog):
  gin_files.parse(['mujoco_100k.gin'], ["run.environment = 'Pendulum-v1'"])
  env = experiment.load_environment('Pendulum-v1', seed=0)
  agent = experiment.agent_for(env, seed=0)
  experience = tensor_spec.sample_spec_nest(
    agent.collect_data_spec, seed=0, outer_dims=[2, agent.horizon + 1]
  )
  experience = tf.nest.map_structure(tf.zeros_like, experience)
  agent.train(experience)
  assert sum('normalizer_observer' in m for m in caplog.messages) == 1
  caplog.clear()
  agent.acting_network.normalizer.update(experience.observation[:, 0])
  agent.train(experience)
  assert not any('normalizer_observer' in m for m in caplog.messages)
