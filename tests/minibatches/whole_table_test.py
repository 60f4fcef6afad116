"""Numbers made once a phase for the whole table, against slow loops."""

import functools

import numpy as np
import pytest
import tensorflow as tf
from tf_agents.specs import tensor_spec
from tf_agents.trajectories import time_step as ts
from tf_agents.trajectories import trajectory

from qwr_tf import networks
from qwr_tf.agents import awr_agent
from qwr_tf.agents import qwr_agent
from qwr_tf.agents import slots
from qwr_tf.agents import target_updates
from qwr_tf.minibatches import whole_table
from qwr_tf.networks import torsos
from qwr_tf.ops import regression
from qwr_tf.ops import returns
from qwr_tf.ops import step_counts
from qwr_tf.replay import ReplayTable

_OBSERVATION = tensor_spec.TensorSpec([3], tf.float32, 'observation')
_DISCRETE = tensor_spec.BoundedTensorSpec([], tf.int32, 0, 3, 'action')
_CONTINUOUS = tensor_spec.BoundedTensorSpec([2], tf.float32, -1, 1, 'action')
_SMALL = functools.partial(torsos.mlp_torso, (8,))
_FIRST, _MID, _LAST = 0, 1, 2
_GAMMA, _LAMBDA, _BETA = 0.9, 0.7, 0.4


# The returns of a stream


def _loop_returns(rewards, discounts, next_values, is_last, td_lambda):
  """The recursion, one row at a time."""
  found = np.zeros(len(rewards))
  following = next_values[-1]
  for j in reversed(range(len(rewards))):
    if is_last[j]:
      following = next_values[j]
    blend = (1 - td_lambda) * next_values[j] + td_lambda * following
    found[j] = rewards[j] + discounts[j] * blend
    following = found[j]
  return found


@pytest.mark.parametrize('size', [1, 2, 3, 64, 1000])
@pytest.mark.parametrize('td_lambda', [0.0, 0.95, 1.0])
def test_episode_returns_equal_the_loop(size, td_lambda):
  rng = np.random.default_rng(size)
  rewards, next_values = rng.normal(size=[2, size]).astype(np.float32)
  is_last = rng.random(size) < 0.02  # Episodes of 50 steps.
  terminal = is_last & (rng.random(size) < 0.5)
  discounts = np.where(terminal, 0, 0.99).astype(np.float32)
  arguments = rewards, discounts, next_values, is_last
  fn = tf.function(returns.episode_lambda_returns, reduce_retracing=True)
  expected = _loop_returns(*arguments, td_lambda)
  for compute in (returns.episode_lambda_returns, fn):
    actual = compute(*map(tf.constant, arguments), td_lambda)
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-4)


def test_episode_returns_are_the_windows_returns():
  rng = np.random.default_rng(0)
  rewards, next_values = rng.normal(size=[2, 12]).astype(np.float32)
  is_last = rng.random(12) < 0.3
  discounts = np.full([12], 0.9, np.float32)
  rows = [tf.constant(x) for x in (rewards, discounts, next_values, is_last)]
  np.testing.assert_allclose(
    returns.episode_lambda_returns(*rows, 0.8),
    returns.lambda_returns(*(x[tf.newaxis] for x in rows), 0.8)[0],
    rtol=1e-5,
  )


# The table


_SGD = tf.keras.optimizers.legacy.SGD


def _agent(
  action_spec=_DISCRETE,
  critic=networks.ValueNetwork,
  agent_class=awr_agent.AwrAgent,
  critic_step_size=0.1,
  **kwargs,
):
  tf.keras.utils.set_random_seed(1)
  kwargs = {'gamma': _GAMMA, 'td_lambda': _LAMBDA} | kwargs
  agent = agent_class(
    ts.time_step_spec(_OBSERVATION),
    action_spec,
    networks.ActorNetwork(_OBSERVATION, action_spec, torso_fn=_SMALL),
    critic(_OBSERVATION, action_spec, torso_fn=_SMALL),
    actor_optimizer=_SGD(0.1),
    critic_optimizer=_SGD(critic_step_size),
    train_step_counter=tf.Variable(0, dtype=tf.int64),
    **kwargs,
  )
  rng = np.random.default_rng(3)
  for variable in agent.critic_network.trainable_variables:
    variable.assign(rng.normal(size=variable.shape))
  return agent


def _rows(agent, lengths, seed=0):
  """Frames of whole episodes, then of one that goes on: [N]."""
  rng = np.random.default_rng(seed)
  step_types = []
  for length in lengths:
    step_types += [_FIRST] + [_MID] * (length - 1) + [_LAST]
  step_types += [_FIRST, _MID, _MID, _MID]
  step_type = np.array(step_types, np.int32)
  size = len(step_type) - 1
  following = step_type[1:]
  terminates = (following == _LAST) & (rng.random(size) < 0.5)

  def normal(spec):
    return tf.constant(rng.normal(size=[size, *spec.shape]), tf.float32)

  spec = agent.collect_data_spec
  action = normal(spec.action)
  if tensor_spec.is_discrete(spec.action):
    action = tf.constant(rng.integers(0, 4, size), tf.int32)
  return trajectory.Trajectory(
    step_type=tf.constant(step_type[:-1]),
    observation=normal(spec.observation),
    action=action,
    policy_info=tf.nest.map_structure(normal, spec.policy_info),
    next_step_type=tf.constant(following),
    # Nothing may read the reward of a boundary row.
    reward=tf.constant(
      np.where(step_type[:-1] == _LAST, 1e3, rng.normal(size=size)), tf.float32
    ),
    discount=tf.constant(1.0 - terminates, tf.float32),
  )


_LENGTHS = (5, 1, 7, 3)


@functools.cache
def _table(action_spec=_DISCRETE, capacity=100):
  """A table that tests share: none of them appends to it."""
  agent = _agent(action_spec)
  table = ReplayTable(agent.collect_data_spec, capacity)
  rows = _rows(agent, _LENGTHS)
  for start in range(0, len(rows.reward), 9):
    table.append(tf.nest.map_structure(lambda x, i=start: x[i : i + 9], rows))
  return table


def _shift(network, gap):
  for variable in network.trainable_variables:
    variable.assign_add(gap * tf.ones_like(variable))


def _values(agent, rows, gap=0.0):
  """V of rows by the critic with all its weights more by the gap."""
  _shift(agent.critic_network, gap)
  inputs = rows.observation, rows.action[tf.newaxis]
  values = agent.critic_network(inputs)[0][0].numpy()
  _shift(agent.critic_network, -gap)
  return values


def _oracle(agent, table, gap=0.0):
  """Returns and normalised weights of the rows that are kept, NaN else.

  The target network's weights are the critic's and the gap.
  """
  first, end = (int(x) for x in table.row_range())
  rows = table.read(first, end)
  next_values = _values(agent, rows, gap)[1:]
  is_last = (rows.next_step_type == _LAST).numpy()
  is_last[-2:] = True  # The newest row was seen, what follows it was not.
  found = _loop_returns(
    rows.reward.numpy(),
    _GAMMA * rows.discount.numpy(),
    np.append(next_values, 0.0),
    is_last,
    _LAMBDA,
  )
  counts = (rows.step_type != _LAST).numpy()
  counts[-1] = False
  advantages = found - _values(agent, rows)
  chosen = advantages[counts]
  normal = (advantages - chosen.mean()) / (chosen.std() + 1e-5)
  weights = np.minimum(np.exp(normal / _BETA), 20.0)
  return (
    np.where(counts, found, np.nan),
    np.where(counts, weights, np.nan),
    rows.observation.numpy(),
  )


def _places(minibatch, observations):
  """Which kept row each step of a minibatch is."""
  windows = minibatch['experience']
  distances = np.abs(windows.observation.numpy() - observations).sum(-1)
  assert windows.observation.shape[1] == 1
  return distances.argmin(-1)


def _weight_fn():
  return functools.partial(regression.exp_weights, beta=_BETA)


@pytest.mark.slow
@pytest.mark.parametrize(
  'action_spec, capacity, chunk_rows',
  [(_DISCRETE, 100, 7), (_CONTINUOUS, 9, 1000)],
)
def test_numbers_equal_the_oracle(action_spec, capacity, chunk_rows):
  agent = _agent(action_spec, weight_fn=_weight_fn())
  table = _table(action_spec, capacity)
  source = whole_table.WholeTable(agent, table, 40, chunk_rows)
  expected_returns, expected_weights, observations = _oracle(agent, table)
  assert np.nanmax(expected_weights) == 20.0  # Clipped.

  minibatch = source.critic_phase(2)(1)
  places = _places(minibatch, observations)
  targets = minibatch['td_targets']
  assert len(set(places)) > 4
  np.testing.assert_allclose(targets, expected_returns[places], rtol=1e-4)

  minibatch = source.actor_phase(2)(1)
  places = _places(minibatch, observations)
  actions, weights, scalars = minibatch['weighted_actions']
  np.testing.assert_allclose(weights[0], expected_weights[places], rtol=1e-3)
  taken = minibatch['experience'].action[:, 0]
  np.testing.assert_array_equal(actions.actions[0], taken)
  np.testing.assert_array_equal(actions.log_weights, np.zeros([1, 40]))
  np.testing.assert_allclose(
    scalars['weight_mean'], np.nanmean(expected_weights), rtol=1e-3
  )


def _polyak(tau):
  return functools.partial(target_updates.polyak_update, target_update_tau=tau)


def _copy_with_gap(agent, gap):
  """Makes the target network the critic with all weights more by the gap."""
  for source, target in _pairs(agent):
    target.assign(source + gap)


def _polyak_agent(**kwargs):
  """Its target network is not the critic."""
  agent = _agent(target_update_fn=_polyak(0.25), **kwargs)
  _copy_with_gap(agent, 1.0)
  return agent


def _assert_gap(agent, gap):
  for source, target in _pairs(agent):
    np.testing.assert_allclose(
      target - source, np.full(source.shape, gap), atol=1e-5
    )


def _pairs(agent):
  return zip(
    agent.critic_network.trainable_variables,
    agent.target_network.trainable_variables,
    strict=True,
  )


@pytest.mark.slow
def test_values_are_those_at_the_start_of_the_phase():
  agent = _agent()
  table = _table()
  source = whole_table.WholeTable(agent, table, 8)
  draw = source.critic_phase(2)
  before = draw(1)['td_targets'].numpy()
  variables = agent.critic_network.trainable_variables
  for variable in variables:
    variable.assign_add(tf.ones_like(variable))
  # Computed already; the next phase, with the same draws, has the new V.
  np.testing.assert_array_equal(draw(1)['td_targets'], before)
  after = source.critic_phase(2)(1)['td_targets'].numpy()
  assert np.abs(after - before).max() > 0.01


@pytest.mark.slow
@pytest.mark.parametrize(
  'update_fn, critic_steps, gap',
  [
    # Lines 8-9 at step 0 of a phase, by hand: the gap was 1.
    (target_updates.hard_update, 7, 0.0),
    (_polyak(0.25), 7, 0.75),
    (target_updates.periodic_update, 200, 0.0),
    (target_updates.periodic_update, 207, 1.0),  # Every 100 steps.
  ],
)
def test_numbers_are_those_of_the_target_at_step_0(
  update_fn, critic_steps, gap
):
  agent = _agent(weight_fn=_weight_fn(), target_update_fn=update_fn)
  agent.critic_steps.assign(critic_steps)
  _copy_with_gap(agent, 1.0)
  table = _table()
  source = whole_table.WholeTable(agent, table, 40)
  expected_returns, expected_weights, observations = _oracle(agent, table, gap)

  minibatch = source.critic_phase(2)(1)
  places = _places(minibatch, observations)
  targets = minibatch['td_targets']
  np.testing.assert_allclose(targets, expected_returns[places], rtol=1e-3)
  minibatch = source.actor_phase(2)(1)
  places = _places(minibatch, observations)
  _, weights, _ = minibatch['weighted_actions']
  np.testing.assert_allclose(weights[0], expected_weights[places], rtol=1e-3)
  # Making numbers moves nothing: that is the critic steps'.
  _assert_gap(agent, 1.0)


@pytest.mark.slow
@pytest.mark.usefixtures('eagerly')
def test_a_polyak_target_moves_once_per_critic_step():
  agent = _polyak_agent(critic_step_size=0.0)
  iterations = qwr_agent.iterate(
    agent,
    _table(),
    lambda: _Collected(0),
    minibatches_fn=whole_table.WholeTable,
    critic_steps=3,
    actor_steps=2,
    batch_size=8,
  )
  next(iterations)
  _assert_gap(agent, 0.75**3)
  next(iterations)
  _assert_gap(agent, 0.75**6)


@pytest.mark.slow
def test_phases_draw_anew():
  agent = _agent()
  source = whole_table.WholeTable(agent, _table(), 8)

  def drawn(phase):
    return phase(2)(0)['experience'].observation.numpy()

  first = drawn(source.critic_phase)
  np.testing.assert_array_equal(first, drawn(source.critic_phase))
  assert np.any(first != drawn(source.actor_phase))
  agent.critic_steps.assign_add(1)
  assert np.any(first != drawn(source.critic_phase))
  # Without critic steps, as RWR.
  before = drawn(source.actor_phase)
  agent.actor_steps.assign_add(1)
  assert np.any(before != drawn(source.actor_phase))


@pytest.mark.slow
def test_each_row_draws_actions_of_its_own():
  agent = _agent(
    _CONTINUOUS,
    critic=networks.GatedQNetwork,
    agent_class=qwr_agent.QwrAgent,
    regression_actions=slots.sampled_behavior_actions,
  )
  table = _table(_CONTINUOUS)
  source = whole_table.WholeTable(agent, table, 40, chunk_rows=3)
  minibatch = source.actor_phase(1)(0)
  steps, (actions, _, _) = (
    minibatch['experience'],
    minibatch['weighted_actions'],
  )
  means = steps.policy_info['dist_params']['loc'][:, 0]
  noise = np.round(actions.actions[0] - means, 4)
  rows = np.unique(steps.observation[:, 0], axis=0)
  assert len(np.unique(noise, axis=0)) == len(rows) > 6


# The loop


class _Collected:
  def __init__(self, interactions):
    self.interactions = interactions


def test_steps_follow_the_collected_data():
  steps = functools.partial(step_counts.proportional_steps, env_steps=100)
  assert steps(100, 7) == 7
  assert steps(150, 7) == 11  # 10.5, rounded up.
  assert steps(1, 7) == 1
  assert steps(1000, 0) == 0
  assert steps(0, 7) == 7  # Offline.
  assert step_counts.fixed_steps(1000, 7) == 7


@pytest.mark.slow
def test_the_loop_runs_as_many_steps_as_the_data_ask_for():
  agent = _polyak_agent()
  table = _table()
  amounts = iter([10, 25])
  iterations = qwr_agent.iterate(
    agent,
    table,
    lambda: _Collected(next(amounts)),
    minibatches_fn=whole_table.WholeTable,
    steps_fn=functools.partial(step_counts.proportional_steps, env_steps=10),
    critic_steps=2,
    actor_steps=4,
    batch_size=8,
  )
  expected_loss = _eager_losses(2, 4)
  _, scalars = next(iterations)
  assert (agent.critic_steps, agent.actor_steps) == (2, 4)
  assert agent.train_step_counter == 6
  np.testing.assert_allclose(
    [scalars['critic_loss'], scalars['actor_loss']], expected_loss, rtol=1e-4
  )
  next(iterations)
  assert (agent.critic_steps, agent.actor_steps) == (2 + 5, 4 + 10)


def _eager_losses(critic_steps, actor_steps):
  """Mean losses of the phases, one eager step after the other."""
  agent = _polyak_agent()
  source = whole_table.WholeTable(agent, _table(), 8)
  draw = source.critic_phase(critic_steps)
  critic = []
  for i in range(critic_steps):
    agent.update_target(tf.constant(i))
    critic.append(agent.train_critic(**draw(i))['critic_loss'])
  draw = source.actor_phase(actor_steps)
  actor = [
    agent.train_actor(**draw(i))['actor_loss'] for i in range(actor_steps)
  ]
  return np.mean(critic), np.mean(actor)


@pytest.mark.slow
def test_a_distributional_value_takes_returns_as_point_masses():
  critic = functools.partial(
    networks.DistributionalCritic,
    min_value=-10.0,
    max_value=10.0,
    num_atoms=201,
  )

  def build(observation_spec, action_spec, torso_fn):
    return critic(
      observation_spec,
      action_spec,
      critic_fn=functools.partial(networks.ValueNetwork, torso_fn=torso_fn),
    )

  agent = _agent(critic=build, td_lambda=1.0)
  table = _table()
  source = whole_table.WholeTable(agent, table, 8)
  minibatch = source.critic_phase(1)(0)
  loss = agent.train_critic(**minibatch)['critic_loss']
  assert minibatch['td_targets'].shape == [8] and np.isfinite(loss)
