"""Algorithm 2: targets, weights, gradients, fixed points, the loop.

Expected values come from slow NumPy code that follows the paper's definitions
rather than the agent's recursions, from closed forms that a comment derives,
and from TF-Agents' own agents where one of them is a special case.
"""

import functools
import itertools
import types

import numpy as np
import pytest
import tensorflow as tf
from tf_agents.agents.behavioral_cloning import behavioral_cloning_agent
from tf_agents.agents.dqn import dqn_agent
from tf_agents.networks import network
from tf_agents.specs import tensor_spec
from tf_agents.trajectories import time_step as ts
from tf_agents.trajectories import trajectory
from tf_agents.utils import common

from qwr_tf import networks
from qwr_tf.agents import qwr_agent
from qwr_tf.agents import slots
from qwr_tf.agents import target_updates
from qwr_tf.minibatches import minibatches
from qwr_tf.networks import discrete_actions
from qwr_tf.networks import torsos
from qwr_tf.ops import backups
from qwr_tf.ops import regression
from qwr_tf.ops.streams import Stream
from qwr_tf.replay import ReplayTable

_OBSERVATION = tensor_spec.TensorSpec([3], tf.float32, 'observation')
_DISCRETE = tensor_spec.BoundedTensorSpec([], tf.int32, 0, 3, 'action')
_BINARY = tensor_spec.BoundedTensorSpec([], tf.int32, 0, 1, 'action')
_CONTINUOUS = tensor_spec.BoundedTensorSpec([2], tf.float32, -1, 1, 'action')
_LINE = tensor_spec.BoundedTensorSpec([1], tf.float32, -1, 1, 'action')

_SMALL = functools.partial(torsos.mlp_torso, (8,))
_NO_TORSO = functools.partial(tf.keras.Sequential, [tf.keras.layers.Flatten()])
_KEEP = functools.partial(regression.exp_weights, normalize_fn=regression.keep)
_FIRST, _MID, _LAST = 0, 1, 2


def _agent(action_spec=_DISCRETE, *, actor=None, critic=None, **kwargs):
  """A small agent; every variable is random, biases too."""
  tf.keras.utils.set_random_seed(1)
  actor = actor or networks.ActorNetwork(
    _OBSERVATION, action_spec, torso_fn=_SMALL
  )
  critic = critic or networks.GatedQNetwork(
    _OBSERVATION, action_spec, torso_fn=_SMALL
  )
  sgd = tf.keras.optimizers.legacy.SGD
  kwargs = {'actor_optimizer': sgd(0.1), 'critic_optimizer': sgd(0.1)} | kwargs
  agent = qwr_agent.QwrAgent(
    ts.time_step_spec(actor.input_tensor_spec),
    action_spec,
    actor,
    critic,
    train_step_counter=tf.Variable(0, dtype=tf.int64),
    **kwargs,
  )
  rng = np.random.default_rng(3)
  for variable in (
    *agent.actor_network.trainable_variables,
    *agent.critic_network.trainable_variables,
    *agent.target_network.trainable_variables,
  ):
    variable.assign(rng.normal(size=variable.shape))
  return agent


def _step_types(rng, batch, length, first):
  """(step_type, next_step_type) [B, length]; two in five steps are the last."""
  rows = np.zeros([batch, length + 1], np.int32)
  rows[:, 0] = rng.choice(first, batch)
  for i in range(1, length + 1):
    following = np.where(rng.random(batch) < 0.4, _LAST, _MID)
    rows[:, i] = np.where(rows[:, i - 1] == _LAST, _FIRST, following)
  return rows[:, :-1], rows[:, 1:]


def _windows(agent, batch, seed=0, first=(_FIRST, _MID), length=None):
  """Random windows with terminations, truncations and boundary rows."""
  rng = np.random.default_rng(seed)
  outer = [batch, length or agent.horizon + 1]
  step_type, next_step_type = _step_types(rng, *outer, first)
  terminates = (next_step_type == _LAST) & (rng.random(outer) < 0.5)
  # Nothing may read the reward of a boundary row.
  reward = np.where(step_type == _LAST, 1e3, rng.normal(size=outer))

  def normal(spec):
    return tf.constant(rng.normal(size=[*outer, *spec.shape]), tf.float32)

  spec = agent.collect_data_spec
  if tensor_spec.is_discrete(spec.action):
    action = tf.constant(
      rng.integers(0, spec.action.maximum + 1, outer), tf.int32
    )
  else:
    action = normal(spec.action)
  return trajectory.Trajectory(
    step_type=tf.constant(step_type),
    observation=normal(spec.observation),
    action=action,
    policy_info=tf.nest.map_structure(normal, spec.policy_info),
    next_step_type=tf.constant(next_step_type),
    reward=tf.constant(reward, tf.float32),
    discount=tf.constant(1.0 - terminates, tf.float32),
  )


def _select(windows, rows):
  return tf.nest.map_structure(lambda x: tf.gather(x, rows), windows)


def _seed(number=0):
  return tf.constant([number, 7], tf.int32)


def _mu(windows):
  """mu(a|s), [n, ...], from the stored logits."""
  logits = windows.policy_info['dist_params']['logits'].numpy()
  mu = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
  return np.moveaxis(mu, -1, 0)


def _all_q_values(critic, observation, num_actions=4):
  """Q of every action, [n, ...], one action at a time."""
  outer = observation.shape[:-1]
  return np.stack(
    [
      critic((observation, tf.fill([1, *outer], action)))[0][0].numpy()
      for action in range(num_actions)
    ]
  )


# Lines 12-13 against a slow oracle


def _oracle_mean(q_values, mu, _):
  return (mu * q_values).sum(0)


def _oracle_max(q_values, mu, _):
  del mu
  return q_values.max(0)


def _oracle_scale(q_values, mu):
  """Mean absolute deviation of [n, N] values with weights mu / N."""
  mean = (mu * q_values).sum(0).mean()
  return (mu * np.abs(q_values - mean)).sum(0).mean() + 1e-5


def _oracle_lse(q_values, mu, scale):
  temperature = 0.3 * scale
  top = q_values.max(0)
  total = (mu * np.exp((q_values - top) / temperature)).sum(0)
  return top + temperature * np.log(total)


def _oracle_lse_per_state(q_values, mu, _):
  values = np.empty(q_values.shape[1:])
  for state in np.ndindex(*values.shape):
    q, w = q_values[(slice(None), *state)], mu[(slice(None), *state)]
    values[state] = _oracle_lse(q, w, _oracle_scale(q[:, None], w[:, None]))
  return values


def _oracle_lse_minibatch(q_values, mu, counts):
  scale = _oracle_scale(q_values[:, counts], mu[:, counts])
  return _oracle_lse(q_values, mu, scale)


def _episode_length(step_ends):
  """Steps to the end of the episode, or of the window: [T] -> int."""
  ends = np.flatnonzero(step_ends)
  return ends[0] + 1 if ends.size else len(step_ends)


def _bootstrapped_states(windows):
  """Bool [B, T + 1]: states whose value the target of row 0 makes use of."""
  ends = windows.next_step_type.numpy()[:, :-1] == _LAST
  discount = windows.discount.numpy()
  counts = np.zeros(discount.shape, bool)
  for b, row in enumerate(ends):
    for j in range(_episode_length(row)):
      counts[b, j + 1] = discount[b, j] > 0
  return counts


def _oracle_targets(agent, windows, backup, gamma, td_lambda):
  """Targets by definition: n-step returns, mixed; NaN on boundary rows."""
  q_values = _all_q_values(agent.target_network, windows.observation)
  values = backup(q_values, _mu(windows), _bootstrapped_states(windows))
  reward, discount = windows.reward.numpy(), windows.discount.numpy()
  ends = windows.next_step_type.numpy()[:, :-1] == _LAST
  targets = np.full(ends.shape, np.nan)
  for b, i in np.ndindex(*ends.shape):
    if windows.step_type[b, i] == _LAST:
      continue
    length = _episode_length(ends[b, i:])
    returns = [
      sum(gamma**k * reward[b, i + k] for k in range(n))
      + gamma**n * discount[b, i + n - 1] * values[b, i + n]
      for n in range(1, length + 1)
    ]
    # (1 - lambda) lambda^(n - 1), and the rest on the longest.
    mix = [(1 - td_lambda) * td_lambda**n for n in range(length - 1)]
    mix.append(1 - sum(mix))
    targets[b, i] = np.dot(mix, returns)
  return targets


_LSE = backups.log_sum_exp_backup
_MINIBATCH_LSE = functools.partial(
  _LSE,
  scale_fn=functools.partial(backups.mean_absolute_deviation, per_state=False),
)


@pytest.mark.slow
@pytest.mark.parametrize('horizon', [1, 3])
@pytest.mark.parametrize(
  'backup_fn, oracle',
  [
    (backups.mean_backup, _oracle_mean),
    (backups.max_backup, _oracle_max),
    (_LSE, _oracle_lse_per_state),
    (_MINIBATCH_LSE, _oracle_lse_minibatch),
  ],
  ids=['mean', 'max', 'lse-state', 'lse-minibatch'],
)
def test_td_targets_equal_the_oracle(horizon, backup_fn, oracle):
  agent = _agent(horizon=horizon, backup_fn=backup_fn, gamma=0.9, td_lambda=0.7)
  windows = _windows(agent, batch=64)
  expected = _oracle_targets(agent, windows, oracle, 0.9, 0.7)
  actual = agent.td_targets(windows, _seed()).numpy()
  assert actual.shape == (64, horizon)
  counts = ~np.isnan(expected)
  assert counts[:, 0].all() and (horizon == 1 or not counts.all())
  np.testing.assert_allclose(
    actual[counts], expected[counts], rtol=1e-4, atol=1e-4
  )


def test_random_windows_hold_every_kind_of_end():
  # What the oracle tests rely on: ends in the middle, both kinds of them.
  agent = _agent()
  windows = _windows(agent, batch=64)
  ends = (windows.next_step_type.numpy() == _LAST)[:, 1]
  discount = windows.discount.numpy()[:, 1]
  assert (ends & (discount == 0)).any() and (ends & (discount == 1)).any()
  assert (windows.step_type.numpy()[:, 1:-1] == _LAST).any()


def test_one_step_max_over_all_actions_is_q_learning():
  agent = _agent(horizon=1, backup_fn=backups.max_backup, gamma=0.9)
  windows = _windows(agent, batch=16)
  best = _all_q_values(agent.target_network, windows.observation[:, 1]).max(0)
  expected = windows.reward[:, 0] + 0.9 * windows.discount[:, 0] * best
  actual = agent.td_targets(windows, _seed())[:, 0]
  np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-5)


class _AllActions(network.Network):
  """Q of all actions [B, n], as TF-Agents' DqnAgent wants it."""

  def __init__(self, critic):
    super().__init__(_OBSERVATION, state_spec=(), name='AllActions')
    self.critic = critic

  def call(self, observation, step_type=None, network_state=(), training=False):
    del step_type, training
    actions = discrete_actions.all_actions(_DISCRETE, outer_rank=1)
    q_values, _ = self.critic((observation, actions))
    return tf.transpose(q_values), network_state


@pytest.mark.slow
def test_the_critic_loss_is_that_of_tf_agents_dqn():
  agent = _agent(horizon=1, backup_fn=backups.max_backup, gamma=0.9)
  dqn = dqn_agent.DqnAgent(
    agent.time_step_spec,
    _DISCRETE,
    q_network=_AllActions(agent.critic_network),
    target_q_network=_AllActions(agent.target_network),
    optimizer=None,
    td_errors_loss_fn=common.element_wise_squared_loss,
    gamma=0.9,
  )
  # DqnAgent copies at construction: make the two differ again.
  for variable in agent.target_network.trainable_variables:
    variable.assign_add(tf.ones_like(variable))
  windows = _windows(agent, batch=16)
  # Called directly, its loss forgets the gamma it was made with.
  expected = dqn.loss(windows._replace(policy_info=()), gamma=0.9).loss
  actual = agent.loss(windows).extra.critic_loss
  np.testing.assert_allclose(actual, expected, rtol=1e-5)


# The target network


def test_critic_and_target_network_share_no_variables():
  agent = _agent()
  critic = agent.critic_network.trainable_variables
  target = agent.target_network.trainable_variables
  assert [v.shape for v in critic] == [v.shape for v in target]
  assert not {v.ref() for v in critic} & {v.ref() for v in target}


@pytest.mark.slow
def test_targets_come_from_the_target_network_only():
  agent = _agent()
  windows = _windows(agent, batch=8)
  before = agent.td_targets(windows, _seed()).numpy()
  for variable in agent.critic_network.trainable_variables:
    variable.assign_add(tf.ones_like(variable))
  np.testing.assert_array_equal(agent.td_targets(windows, _seed()), before)
  agent.update_target(tf.constant(0))
  assert np.abs(agent.td_targets(windows, _seed()) - before).max() > 0.01


@pytest.mark.parametrize(
  'step, copies',
  [(0, True), (1, False), (99, False), (100, True), (150, False), (200, True)],
)
def test_hard_update_copies_at_multiples_of_the_period(step, copies):
  agent = _agent()
  source = [np.array(v) for v in agent.critic_network.trainable_variables]
  target = [np.array(v) for v in agent.target_network.trainable_variables]
  agent.update_target(tf.constant(step, tf.int64))
  for variable, value in zip(
    agent.target_network.trainable_variables,
    source if copies else target,
    strict=True,
  ):
    np.testing.assert_array_equal(variable, value)


def test_polyak_moves_the_target_by_tau():
  update = functools.partial(
    target_updates.polyak_update, target_update_tau=0.25
  )
  source, target = tf.Variable([8.0, 0.0]), tf.Variable([0.0, 4.0])
  update([source], [target], tf.constant(1), tf.constant(1))
  # 3/4 of the target and 1/4 of the source; twice.
  np.testing.assert_allclose(target, [2.0, 3.0])
  update([source], [target], tf.constant(2), tf.constant(2))
  np.testing.assert_allclose(target, [3.5, 2.25])


def test_the_default_tau_is_awacs():
  source, target = tf.Variable([1.0]), tf.Variable([0.0])
  step = tf.constant(1)
  target_updates.polyak_update([source], [target], step, step)
  np.testing.assert_allclose(target, [0.005])


# Lines 18-20


def test_regression_weights_equal_the_oracle():
  weight_fn = functools.partial(regression.exp_weights, beta=0.4)
  agent = _agent(weight_fn=weight_fn)
  windows = _windows(agent, batch=64)
  first = _select_first(windows)
  mu = _mu(first)  # [n, B]
  q_values = _all_q_values(agent.critic_network, first.observation)
  advantages = q_values - (mu * q_values).sum(0)
  # Each state counts once, its actions by mu.
  mean = (mu * advantages).sum() / 64
  deviation = np.sqrt((mu * (advantages - mean) ** 2).sum() / 64)
  raw = np.exp((advantages - mean) / (deviation + 1e-5) / 0.4)
  assert (raw > 25).any() and (raw < 15).any()

  actions, weights, scalars = agent.weighted_actions(windows, _seed())
  np.testing.assert_array_equal(actions.actions, np.arange(4)[:, None])
  np.testing.assert_allclose(np.exp(actions.log_weights), mu, rtol=1e-5)
  np.testing.assert_allclose(weights, np.minimum(raw, 20.0), rtol=1e-3)
  clipped = (mu * (raw > 20)).sum() / 64
  scale = (mu * np.abs(advantages)).sum() / 64
  np.testing.assert_allclose(scalars['weight_clipped'], clipped, rtol=1e-4)
  np.testing.assert_allclose(scalars['q_scale'], scale, rtol=1e-4)


def test_weight_metrics_by_hand():
  mu = np.array([[0.25, 0.25], [0.75, 0.75]], np.float32)
  scalars = regression.weight_metrics(
    tf.constant([[-8.0, 0.0], [0.0, 4.0]]),
    tf.constant([[1.0, 2.0], [4.0, 3.0]]),
    tf.math.log(mu),
    regression.WHOLE,
    max_weight=4.0,
  )
  # Two states: (1/4 + 12/4) and (2/4 + 9/4); one weight in four, of mu 3/4, is
  # at the clip; |A| is 8/4 and 12/4.
  assert scalars['weight_mean'] == 3.0
  assert scalars['weight_max'] == 4.0
  assert scalars['weight_clipped'] == 0.375
  assert scalars['q_scale'] == 2.5


def test_weight_metrics_leave_final_observations_out():
  scalars = regression.weight_metrics(
    tf.constant([[1.0, -50.0]]),
    tf.constant([[2.0, 20.0]]),
    tf.zeros([1, 1]),
    regression.Batch(tf.constant([1.0, 0.0])),
    max_weight=20.0,
  )
  assert scalars['weight_mean'] == scalars['weight_max'] == 2.0
  assert scalars['weight_clipped'] == 0.0
  assert scalars['q_scale'] == 1.0


def _select_first(windows):
  return tf.nest.map_structure(lambda x: x[:, 0], windows)


def test_actor_loss_equals_the_oracle():
  agent = _agent()
  windows = _windows(agent, batch=16)
  first = _select_first(windows)
  actions, weights, _ = agent.weighted_actions(windows, _seed())
  logits = agent.actor_network(first.observation)[0].logits.numpy()
  log_pi = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
  expected = -(_mu(first) * weights.numpy() * log_pi.T).sum(0).mean()
  actual = agent.actor_loss(first, actions, weights)['actor_loss']
  np.testing.assert_allclose(actual, expected, rtol=1e-5)


def test_critic_loss_equals_the_oracle():
  # Line 14: mean squared error of the taken action, no factor of a half.
  agent = _agent()
  windows = _windows(agent, batch=16)
  first = _select_first(windows)
  q_values = _all_q_values(agent.critic_network, first.observation)
  taken = q_values[first.action.numpy(), np.arange(16)]
  targets = np.linspace(-1, 1, 16).astype(np.float32)
  scalars = agent.critic_loss(first, tf.constant(targets))
  np.testing.assert_allclose(
    scalars['critic_loss'], ((taken - targets) ** 2).mean(), rtol=1e-5
  )
  np.testing.assert_allclose(scalars['q_mean'], taken.mean(), rtol=1e-4)


# Gradients


def _networks_of(agent):
  return (
    agent.actor_network.trainable_variables,
    agent.critic_network.trainable_variables,
    agent.target_network.trainable_variables,
  )


def _train_critic(agent, windows, targets):
  return agent.train_critic(
    experience=windows, seed=_seed(), td_targets=targets
  )


def _train_actor(agent, windows, actions, weights):
  return agent.train_actor(
    experience=windows, seed=_seed(), weighted_actions=(actions, weights, {})
  )


def _reached(tape, value, variables):
  """How many of the variables the value has a gradient for."""
  gradients = tape.gradient(value, variables)
  return sum(g is not None for g in gradients)


_POLICY_SAMPLES = functools.partial(slots.sampled_policy_actions, num_actions=4)


@pytest.mark.slow
@pytest.mark.parametrize(
  'action_spec, slots',
  [
    (_DISCRETE, {}),
    (_CONTINUOUS, {}),
    (
      _CONTINUOUS,
      {
        'backup_actions': _POLICY_SAMPLES,
        'regression_actions': _POLICY_SAMPLES,
      },
    ),
  ],
  ids=['enumerated', 'sampled from mu', 'sampled from pi'],
)
def test_each_loss_reaches_its_own_network_only(action_spec, slots):
  agent = _agent(action_spec, **slots)
  windows = _windows(agent, batch=8)
  first = _select_first(windows)
  with tf.GradientTape(persistent=True) as tape:
    targets = agent.td_targets(windows, _seed())
    critic_loss = agent.critic_loss(first, targets[:, 0])['critic_loss']
    actions, weights, _ = agent.weighted_actions(windows, _seed())
    actor_loss = agent.actor_loss(first, actions, weights)['actor_loss']
  actor, critic, target = _networks_of(agent)
  everything = actor + critic + target
  assert _reached(tape, critic_loss, critic) == len(critic)
  assert _reached(tape, critic_loss, actor + target) == 0
  assert _reached(tape, actor_loss, actor) == len(actor)
  assert _reached(tape, actor_loss, critic + target) == 0
  assert _reached(tape, targets, everything) == 0
  assert _reached(tape, weights, everything) == 0
  if tensor_spec.is_continuous(action_spec):
    assert _reached(tape, actions.actions, everything) == 0


@pytest.mark.slow
def test_samples_of_the_policy_are_constants_of_the_actor_loss():
  # With reparameterised samples log pi would not depend on the mean at all.
  agent = _agent(_CONTINUOUS, regression_actions=_POLICY_SAMPLES)
  windows = _windows(agent, batch=8)
  variables = agent.actor_network.trainable_variables

  def gradients(actions_of):
    with tf.GradientTape() as tape:
      actions, weights, _ = agent.weighted_actions(windows, _seed())
      actions = actions_of(actions)
      first = _select_first(windows)
      loss = agent.actor_loss(first, actions, weights)['actor_loss']
    return tape.gradient(loss, variables)

  def constant(actions):
    return slots.ActionSet(*(tf.constant(x.numpy()) for x in actions))

  for actual, expected in zip(
    gradients(lambda a: a), gradients(constant), strict=True
  ):
    assert np.abs(expected).max() > 1e-3
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)


def test_weights_of_enumerated_actions_are_constants():
  # Else the actor could lower its loss by moving what the loss is weighed by.
  agent = _agent()
  states = agent.states(_select_first(_windows(agent, batch=8)), _seed())
  with tf.GradientTape() as tape:
    actions = slots.enumerated_policy_actions(states)
  actor = agent.actor_network.trainable_variables
  assert _reached(tape, actions.log_weights, actor) == 0


@pytest.mark.slow
def test_steps_change_their_own_network_only():
  agent = _agent(_CONTINUOUS)
  windows = _windows(agent, batch=8)
  actor, critic, target = _networks_of(agent)

  def changed(step):
    before = [[np.array(v) for v in group] for group in (actor, critic, target)]
    step()
    return tuple(
      any(np.any(v.numpy() != old) for v, old in zip(group, olds, strict=True))
      for group, olds in zip((actor, critic, target), before, strict=True)
    )

  targets = agent.td_targets(windows, _seed())[:, 0]
  actions, weights, _ = agent.weighted_actions(windows, _seed())
  assert changed(lambda: _train_critic(agent, windows, targets)) == (
    (False, True, False)
  )
  assert changed(lambda: _train_actor(agent, windows, actions, weights)) == (
    (True, False, False)
  )
  assert (agent.critic_steps.numpy(), agent.actor_steps.numpy()) == (1, 1)


# Fixed points of line 21 (algorithms.md, section 5)


class _FixedCritic(networks.Critic):
  """Q(s, a) = q_fn(s, a): nothing to learn."""

  def __init__(self, observation_spec, action_spec, q_fn, name='FixedCritic'):
    super().__init__((observation_spec, action_spec), state_spec=(), name=name)
    self._q_fn = q_fn

  def outputs(self, observation, actions):
    return self._q_fn(observation, actions)


def _table_of_q(table):
  """Q(s, a) of a table [states, actions], for one-hot observations."""
  table = tf.constant(table, tf.float32)

  def q_fn(observation, actions):
    one_hot = tf.one_hot(actions, table.shape[1])
    return tf.reduce_sum(one_hot * tf.matmul(observation, table), axis=-1)

  return q_fn


def _bandit_agent(action_spec, observation_spec, q_fn, **kwargs):
  """A linear actor over a fixed critic, no normalisation and no clip."""
  actor = networks.ActorNetwork(
    observation_spec, action_spec, torso_fn=_NO_TORSO
  )
  critic = _FixedCritic(observation_spec, action_spec, q_fn)
  return _agent(
    action_spec, actor=actor, critic=critic, max_weight=1e30, **kwargs
  )


def _bandit_windows(agent, observation, params):
  """Windows [B, T + 1] with given observations and parameters of mu, [B]."""
  zeros = tensor_spec.zero_spec_nest(
    agent.collect_data_spec, outer_dims=[len(observation), agent.horizon + 1]
  )

  def repeat(x):
    return tf.repeat(
      tf.constant(x, tf.float32)[:, tf.newaxis], agent.horizon + 1, axis=1
    )

  return zeros._replace(
    observation=repeat(observation),
    policy_info={'dist_params': tf.nest.map_structure(repeat, params)},
    step_type=tf.ones_like(zeros.step_type),
    next_step_type=tf.ones_like(zeros.next_step_type),
  )


@pytest.mark.slow
def test_enumerating_converges_to_mu_times_exp_of_the_advantage():
  # Theorem 3: pi(a|s) = mu(a|s) exp(A(s, a) / beta) / Z(s), in every state.
  mu = np.array([[0.7, 0.2, 0.1], [0.1, 0.1, 0.8], [0.3, 0.4, 0.3]])
  q_values = np.array([[0.0, 1.0, 2.0], [-1.0, 0.5, 0.0], [3.0, 1.0, 2.5]])
  optimum = mu * np.exp(q_values / 0.7)
  optimum /= optimum.sum(-1, keepdims=True)

  agent = _bandit_agent(
    tensor_spec.BoundedTensorSpec([], tf.int32, 0, 2),
    _OBSERVATION,
    _table_of_q(q_values),
    weight_fn=functools.partial(_KEEP, beta=0.7),
    actor_optimizer=tf.keras.optimizers.legacy.SGD(1.0),
  )
  # The three states are the one-hot observations.
  windows = _bandit_windows(agent, np.eye(3), {'logits': np.log(mu)})
  actions, weights, _ = agent.weighted_actions(windows, _seed())

  @tf.function
  def train():
    for _ in tf.range(1000):
      _train_actor(agent, windows, actions, weights)

  train()
  logits = agent.actor_network(tf.eye(3))[0].logits
  np.testing.assert_allclose(tf.nn.softmax(logits), optimum, atol=1e-4)


def test_clipped_gradients_have_the_norm_asked_for():
  # The action's table of embeddings gets gradients by rows, many of them twice.
  sgd = tf.keras.optimizers.legacy.SGD(1.0, global_clipnorm=0.5)
  agent = _agent(critic_optimizer=sgd)
  windows = _windows(agent, 64)
  before = [v.numpy() for v in agent.critic_network.trainable_variables]
  _train_critic(agent, windows, 100.0 * tf.ones([64]))
  after = agent.critic_network.trainable_variables
  moved = [a.numpy() - b for a, b in zip(after, before, strict=True)]
  norm = np.sqrt(sum(np.sum(m.astype(np.float64) ** 2) for m in moved))
  np.testing.assert_allclose(norm, 0.5, rtol=1e-5)


def _set_bias(agent, value):
  """Makes the actor's output this constant (observations are zero)."""
  agent.actor_network.head.projection.bias.assign(value)


def _mean_actor_losses(agent, windows, biases, seeds=20):
  """The actor loss at each setting of the bias, averaged over seeds."""
  losses = np.zeros(len(biases))
  first = _select_first(windows)

  @tf.function
  def loss(actions, log_weights, weights):
    actions = slots.ActionSet(actions, log_weights)
    return agent.actor_loss(first, actions, weights)['actor_loss']

  for seed in range(seeds):
    actions, weights, _ = agent.weighted_actions(windows, _seed(seed))
    for i, bias in enumerate(biases):
      _set_bias(agent, bias)
      losses[i] += loss(*actions, weights) / seeds
  return losses


def _exact_share(n, beta):
  """The optimum's pi(1): weighted counts over all 2^n equally likely draws."""
  mass = np.zeros(2)
  for draw in itertools.product([0, 1], repeat=n):
    for action in draw:
      mass[action] += np.exp((action - np.mean(draw)) / beta)
  return mass[1] / mass.sum()


@pytest.mark.slow
@pytest.mark.parametrize('n, printed', [(1, 0.5), (4, 0.818), (8, 0.852)])
def test_n_samples_take_part_of_the_step_on_two_actions(n, printed):
  # mu = (1/2, 1/2), Q = (0, 1), beta = 1/2; all actions would give .881.
  exact = _exact_share(n, beta=0.5)
  assert abs(exact - printed) < 5e-4
  agent = _bandit_agent(
    _BINARY,
    _OBSERVATION,
    _table_of_q(np.tile([[0.0, 1.0]], [3, 1])),
    regression_actions=functools.partial(
      slots.sampled_behavior_actions, num_actions=n
    ),
    weight_fn=functools.partial(_KEEP, beta=0.5),
  )
  # Q reads a one-hot observation; the actor is to ignore it.
  agent.actor_network.head.projection.kernel.assign(np.zeros([3, 2]))
  observation = np.tile([[1.0, 0.0, 0.0]], [4000, 1])
  windows = _bandit_windows(agent, observation, {'logits': np.zeros([4000, 2])})
  # L = -m_0 log pi(0) - m_1 log pi(1): two settings of pi give both masses,
  # and the minimum is at pi(1) = m_1 / (m_0 + m_1).
  pi = np.array([[0.3, 0.7], [0.6, 0.4]])
  losses = _mean_actor_losses(agent, windows, np.log(pi))
  mass = np.linalg.solve(-np.log(pi), losses)
  assert abs(mass[1] / mass.sum() - exact) < 0.005  # 80K states: 3 sigma


@pytest.mark.slow
@pytest.mark.parametrize('n, part', [(1, 0.0), (4, 0.75), (16, 15 / 16)])
def test_n_samples_take_part_of_the_step_on_a_line(n, part):
  # mu = N(m, s^2), Q = g a. With V the mean of the same n actions, a_j and
  # a_j - V are jointly Gaussian with covariance s^2 (1 - 1/n), therefore
  # E[w a] / E[w] = m + (1 - 1/n) s^2 g / beta for w = exp(g (a - V) / beta):
  # exact in expectation as long as nothing is clipped or normalised.
  m, g, beta, scale = 0.3, 2.0, 1.6, 0.4
  agent = _bandit_agent(
    _LINE,
    _OBSERVATION,
    lambda observation, actions: g * actions[..., 0],
    regression_actions=functools.partial(
      slots.sampled_behavior_actions, num_actions=n
    ),
    weight_fn=functools.partial(_KEEP, beta=beta),
  )
  batch = 4000
  windows = _bandit_windows(
    agent, np.zeros([batch, 3]), {'loc': np.full([batch, 1], m)}
  )
  # The loss is a parabola in the policy's mean: three points give its vertex.
  low, middle, high = _mean_actor_losses(agent, windows, [[-1.0], [0.0], [1.0]])
  vertex = (low - high) / (low + high - 2 * middle) / 2
  step = scale**2 * g / beta  # 0.2
  # 80K states: s / sqrt(80000) = .0014 for n = 1, less for more samples.
  assert abs(vertex - (m + part * step)) < 0.006


@pytest.mark.slow
def test_enumerating_is_the_limit_of_sampling():
  sampled = functools.partial(
    slots.sampled_behavior_actions, num_actions=40_000
  )
  enumerated = slots.enumerated_behavior_actions
  numbers = []
  for source in (sampled, enumerated):
    agent = _agent(
      backup_actions=source, regression_actions=source, backup_fn=_LSE
    )
    windows = _windows(agent, batch=4)
    info = agent.loss(windows)
    numbers.append([agent.td_targets(windows, _seed())[:, 0], info.extra])
  (targets, losses), (exact_targets, exact_losses) = numbers
  np.testing.assert_allclose(targets, exact_targets, atol=0.02)
  np.testing.assert_allclose(losses, exact_losses, rtol=0.02)


def test_enumerating_with_equal_weights_ignores_mu():
  agent = _agent(
    regression_actions=slots.enumerated_uniform_actions,
    weight_fn=regression.uniform_weights,
  )
  windows = _windows(agent, batch=8)
  first = _select_first(windows)
  log_pi = tf.nn.log_softmax(agent.actor_network(first.observation)[0].logits)
  expected = -tf.reduce_mean(log_pi)
  actual = agent.loss(windows).extra.actor_loss
  np.testing.assert_allclose(actual, expected, rtol=1e-5)


# Behavioural cloning is the special case of stored actions, equal weights


def _cloning_agent(action_spec, network_fn):
  agent = _agent(
    action_spec,
    regression_actions=slots.stored_actions,
    weight_fn=regression.uniform_weights,
  )
  cloning = behavioral_cloning_agent.BehavioralCloningAgent(
    agent.time_step_spec, action_spec, network_fn(agent), optimizer=None
  )
  windows = _windows(agent, batch=8)
  weights = tf.linspace(0.5, 2.0, 8)
  first = _select_first(windows)._replace(policy_info=())
  actual = agent.loss(windows, weights=weights).extra.actor_loss
  return actual, cloning.loss(first, weights=weights).loss, weights


def test_cloning_is_tf_agents_cloning_for_discrete_actions():
  actual, expected, _ = _cloning_agent(
    _DISCRETE, lambda agent: agent.actor_network
  )
  np.testing.assert_allclose(actual, expected, rtol=1e-5)


class _MeanOf(network.Network):
  """The mean of an actor's distribution."""

  def __init__(self, actor):
    super().__init__(_OBSERVATION, state_spec=(), name='MeanOf')
    self.actor = actor

  def call(self, observation, step_type=None, network_state=(), training=False):
    del step_type, training
    return self.actor(observation)[0].mean(), network_state


@pytest.mark.slow
def test_cloning_is_tf_agents_cloning_for_continuous_actions():
  # TF-Agents has the mean over d = 2 dimensions of (a - mean)^2; here it is
  # - log N(a; mean, 0.4^2) = d MSE / (2 * 0.16) + d / 2 log(2 pi 0.16).
  actual, mse, weights = _cloning_agent(
    _CONTINUOUS, lambda agent: _MeanOf(agent.actor_network)
  )
  constant = np.log(2 * np.pi * 0.16) * np.mean(weights)
  np.testing.assert_allclose(actual, mse / 0.16 + constant, rtol=1e-5)


# Masks, weights, seeds


@pytest.mark.slow
@pytest.mark.parametrize('backup_fn', [_LSE, _MINIBATCH_LSE])
def test_windows_that_start_at_a_boundary_change_nothing(backup_fn):
  agent = _agent(backup_fn=backup_fn)
  real = _windows(agent, batch=6, seed=1)
  boundary = _windows(agent, batch=3, seed=2, first=(_LAST,))
  # Far away, so that they would be seen in any mean or scale.
  boundary = boundary._replace(observation=10.0 * boundary.observation)
  together = tf.nest.map_structure(
    lambda a, b: tf.concat([a[:3], b, a[3:]], axis=0), real, boundary
  )
  expected, actual = agent.loss(real), agent.loss(together)
  np.testing.assert_allclose(
    actual.extra.critic_loss, expected.extra.critic_loss, rtol=1e-4
  )
  np.testing.assert_allclose(
    actual.extra.actor_loss, expected.extra.actor_loss, rtol=1e-4
  )


def test_the_mean_value_is_that_of_steps_that_count():
  agent = _agent()
  windows = _windows(agent, batch=4, seed=1)
  first = _select_first(windows)
  q_values = _all_q_values(agent.critic_network, first.observation)
  taken = q_values[first.action.numpy(), np.arange(4)]
  assert np.ptp(taken) > 0.1
  # The last two are boundaries.
  step_types = tf.concat(
    [windows.step_type[:2], tf.fill([2, 4], _LAST)], axis=0
  )
  first = _select_first(windows._replace(step_type=step_types))
  scalars = agent.critic_loss(first, tf.zeros([4]))
  np.testing.assert_allclose(scalars['q_mean'], taken[:2].mean(), rtol=1e-4)


@pytest.mark.slow
def test_a_batch_of_boundaries_has_no_loss():
  agent = _agent()
  windows = _windows(agent, batch=3, first=(_LAST,))
  assert agent.loss(windows).loss == 0
  before = [np.array(v) for v in agent.critic_network.trainable_variables]
  assert agent.train(windows).loss == 0
  for variable, old in zip(
    agent.critic_network.trainable_variables, before, strict=True
  ):
    np.testing.assert_array_equal(variable, old)


@pytest.mark.slow
def test_weights_scale_the_elements_of_both_losses():
  agent = _agent(weight_fn=_KEEP)  # So that no element changes another's.
  windows = _windows(agent, batch=4)
  elements = [agent.loss(_select(windows, [b])).extra for b in range(4)]
  weights = np.array([0.0, 1.0, 2.0, 5.0], np.float32)
  actual = agent.loss(windows, weights=tf.constant(weights)).extra
  for name in ('critic_loss', 'actor_loss'):
    each = np.array([getattr(e, name) for e in elements])
    np.testing.assert_allclose(
      getattr(actual, name), (weights * each).mean(), rtol=1e-4
    )


def test_weights_of_zero_train_nothing():
  agent = _agent()
  windows = _windows(agent, batch=4)
  actor, critic, _ = _networks_of(agent)
  before = [np.array(v) for v in (*actor, *critic)]
  assert agent.train(windows, weights=tf.zeros([4])).loss == 0
  for variable, old in zip((*actor, *critic), before, strict=True):
    np.testing.assert_array_equal(variable, old)


@pytest.mark.slow
@pytest.mark.parametrize('shape', [(4, 1), (1, 4)])
def test_weights_that_would_broadcast_are_refused(shape):
  agent = _agent()
  windows, weights = _windows(agent, batch=4), tf.ones(shape)
  for function in (agent.train, tf.function(agent.train), agent.loss):
    with pytest.raises(ValueError, match='weights'):
      function(windows, weights=weights)


@pytest.mark.slow
def test_only_seed_stream_and_step_decide_what_is_drawn():
  agent, twin, other = (_agent(_CONTINUOUS, seed=s) for s in (5, 5, 6))
  windows = _windows(agent, batch=8)

  def targets(agent, step):
    return agent.td_targets(
      windows, agent.seed_for(Stream.CRITIC, step)
    ).numpy()

  np.testing.assert_array_equal(targets(agent, 3), targets(agent, 3))
  np.testing.assert_array_equal(targets(agent, 3), targets(twin, 3))
  assert np.abs(targets(agent, 3) - targets(agent, 4)).max() > 0
  assert np.abs(targets(agent, 3) - targets(other, 3)).max() > 0
  assert np.any(
    agent.seed_for(Stream.ACTOR, 3) != agent.seed_for(Stream.CRITIC, 3)
  )


@pytest.mark.slow
def test_each_training_step_draws_anew():
  agent = _agent(_CONTINUOUS)
  windows = _windows(agent, batch=8)
  before = agent.loss(windows).extra
  assert agent.loss(windows).extra == before
  agent.critic_steps.assign_add(1)
  assert agent.loss(windows).extra.critic_loss != before.critic_loss


@pytest.mark.slow
def test_train_is_a_critic_step_and_an_actor_step():
  # Twin agents: one calls train, the other makes the steps of lines 8-21.
  trained, stepped = _agent(_CONTINUOUS), _agent(_CONTINUOUS)
  windows = _windows(trained, batch=8)
  for i in range(2):
    info = trained.train(windows)
    stepped.update_target(tf.constant(i))
    seed = stepped.seed_for(Stream.CRITIC, i)
    targets = stepped.td_targets(windows, seed)[:, 0]
    critic = _train_critic(stepped, windows, targets)['critic_loss']
    seed = stepped.seed_for(Stream.ACTOR, i)
    actions, weights, _ = stepped.weighted_actions(windows, seed)
    actor = _train_actor(stepped, windows, actions, weights)['actor_loss']
    np.testing.assert_allclose(info.extra, [critic, actor], rtol=1e-5)
    np.testing.assert_allclose(info.loss, critic + actor, rtol=1e-5)
    assert trained.train_step_counter == i + 1
  for ours, theirs in zip(
    itertools.chain(*_networks_of(trained)),
    itertools.chain(*_networks_of(stepped)),
    strict=True,
  ):
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


# Construction


@pytest.mark.parametrize(
  'slot',
  [
    {'backup_actions': slots.enumerated_behavior_actions},
    {'regression_actions': slots.enumerated_behavior_actions},
    {'backup_actions': slots.enumerated_uniform_actions},
  ],
)
def test_continuous_actions_cannot_be_enumerated(slot):
  with pytest.raises(ValueError, match='@sampled_behavior_actions'):
    _agent(_CONTINUOUS, **slot)


@pytest.mark.parametrize(
  'head, action_spec, fix',
  [
    (networks.GaussianHead, _DISCRETE, 'Use CategoricalHead'),
    (networks.CategoricalHead, _CONTINUOUS, 'Use GaussianHead'),
  ],
)
def test_a_head_that_does_not_fit_the_actions(head, action_spec, fix):
  with pytest.raises(ValueError, match=fix):
    networks.ActorNetwork(
      _OBSERVATION, action_spec, torso_fn=_SMALL, head_fn=head
    )


def test_a_window_needs_a_step():
  with pytest.raises(ValueError, match='horizon'):
    _agent(horizon=0)


def test_a_critic_must_be_a_critic():
  actor = networks.ActorNetwork(_OBSERVATION, _DISCRETE, torso_fn=_SMALL)
  with pytest.raises(ValueError, match='critic_network .*ActorNetwork'):
    _agent(actor=actor, critic=actor)


def test_an_actor_must_return_a_distribution():
  actor = _MeanOf(networks.ActorNetwork(_OBSERVATION, _CONTINUOUS))
  with pytest.raises(ValueError, match='must return a tfp distribution'):
    _agent(_CONTINUOUS, actor=actor)


@pytest.mark.slow
@pytest.mark.parametrize('summaries', [False, True])
def test_train_writes_the_summaries_that_are_asked_for(tmp_path, summaries):
  agent = _agent(debug_summaries=summaries, summarize_grads_and_vars=summaries)
  with tf.summary.create_file_writer(str(tmp_path)).as_default() as writer:
    info = agent.train(_windows(agent, 4))
    writer.flush()
  (file,) = tmp_path.iterdir()
  found = {
    value.tag: float(tf.make_ndarray(value.tensor))
    for event in tf.compat.v1.train.summary_iterator(str(file))
    for value in event.summary.value
    if not value.tensor.tensor_shape.dim  # Histograms are tables.
  }
  names = agent.critic_metrics + agent.actor_metrics
  expected = {f'QwrAgent/{name}' for name in names} if summaries else set()
  assert {tag for tag in found if tag.startswith('QwrAgent/')} == expected
  trained = (agent.actor_network, agent.critic_network)
  count = sum(len(network.trainable_variables) for network in trained)
  for what in ('gradient_norm', 'value_norm'):
    norms = [tag for tag in found if tag.endswith(what)]
    assert len(norms) == count * summaries
  if summaries:
    loss = info.extra.critic_loss.numpy()
    assert found['QwrAgent/critic_loss'] == pytest.approx(loss)


@pytest.mark.parametrize('action_spec', [_DISCRETE, _CONTINUOUS])
def test_construction_changes_no_step_counter(action_spec):
  agent = _agent(action_spec)
  assert agent.critic_steps == 0 and agent.actor_steps == 0
  assert agent.train_step_counter == 0
  assert agent.train_sequence_length == agent.horizon + 1 == 4


def test_the_defaults_are_the_papers():
  agent = _agent()
  assert (agent.gamma, agent.td_lambda, agent.horizon) == (0.99, 0.95, 3)


# The loop, lines 4-22


def _stream(agent, length, seed):
  """Rows of consecutive episodes, [N]."""
  rows = _windows(agent, 1, seed, first=(_FIRST,), length=length)
  return tf.nest.map_structure(lambda x: x[0], rows)


class _Loop:
  """`iterate` on a table that a fake collector fills."""

  def __init__(self, seed=0, slots=None, **kwargs):
    adam = tf.keras.optimizers.legacy.Adam
    self.agent = _agent(
      _CONTINUOUS,
      seed=seed,
      horizon=1,
      actor_optimizer=adam(1e-2),
      critic_optimizer=adam(1e-2),
      **(slots or {}),
    )
    self.table = ReplayTable(self.agent.collect_data_spec, 100)
    self.seen = []
    self.iterations = qwr_agent.iterate(
      self.agent, self.table, self._collect, batch_size=8, **kwargs
    )

  def counters(self):
    agent = self.agent
    return tuple(
      int(v)
      for v in (agent.critic_steps, agent.actor_steps, agent.train_step_counter)
    )

  def weights(self):
    return [np.array(v) for v in itertools.chain(*_networks_of(self.agent))]

  def _collect(self):
    self.seen.append(self.counters())
    self.table.append(_stream(self.agent, 20, seed=len(self.seen)))
    return types.SimpleNamespace(interactions=20, call=len(self.seen))


@pytest.mark.slow
@pytest.mark.usefixtures('eagerly')
def test_an_iteration_collects_and_then_trains():
  loop = _Loop(critic_steps=3, actor_steps=2, rounds=2)
  assert loop.seen == []  # Nothing happens before it is asked for.
  collected, scalars = next(loop.iterations)
  assert collected.call == 1
  # Two rounds of 3 + 2 steps.
  assert loop.counters() == (6, 4, 10)
  assert next(loop.iterations)[0].call == 2
  assert loop.counters() == (12, 8, 20)
  assert loop.seen == [(0, 0, 0), (6, 4, 10)]
  assert set(scalars) == {
    *loop.agent.critic_metrics,
    *loop.agent.actor_metrics,
  }
  assert all(np.isfinite(v) for v in scalars.values())


@pytest.mark.slow
@pytest.mark.usefixtures('eagerly')
def test_the_loop_is_a_function_of_the_seed():
  runs = [_Loop(seed, critic_steps=3, actor_steps=2) for seed in (0, 0, 1)]
  for loop in runs:
    next(loop.iterations)
    next(loop.iterations)
  first, again, other = (loop.weights() for loop in runs)
  for a, b in zip(first, again, strict=True):
    np.testing.assert_array_equal(a, b)
  assert any(np.any(a != b) for a, b in zip(first, other, strict=True))


def _same_windows(a, b):
  return np.array_equal(
    a['experience'].observation, b['experience'].observation
  )


@pytest.mark.slow
def test_minibatches_differ_between_steps_and_phases():
  loop = _Loop()
  loop._collect()
  agent = loop.agent
  source = minibatches.PerMinibatch(agent, loop.table, 8)
  draw, again = source.critic_phase(2), source.critic_phase(2)
  first = draw(0)
  assert _same_windows(first, again(0))
  assert not _same_windows(first, draw(1))
  assert not _same_windows(first, source.actor_phase(2)(0))
  targets = agent.td_targets(**first)
  agent.critic_steps.assign_add(1)
  # In the same phase the windows are drawn already, their actions are not.
  later = draw(0)
  assert _same_windows(first, later)
  assert np.any(targets != agent.td_targets(**later))
  # The next phase has windows of its own.
  assert not _same_windows(first, source.critic_phase(2)(0))

  draw = source.actor_phase(2)
  first = draw(0)
  actions, _, _ = agent.weighted_actions(**first)
  agent.actor_steps.assign_add(1)
  later = draw(0)
  assert _same_windows(first, later)
  assert np.any(actions.actions != agent.weighted_actions(**later)[0].actions)
  assert not _same_windows(first, source.actor_phase(2)(0))


def _phases_by_hand(loop, critic_steps, actor_steps, rounds):
  """Lines 6-21 in the paper's order, one eager step after the other."""
  agent = loop.agent
  source = minibatches.PerMinibatch(agent, loop.table, 8)
  losses = []
  for _ in range(rounds):
    draw = source.critic_phase(critic_steps)
    for i in range(critic_steps):
      if i % 100 == 0:
        for critic, target in zip(*_networks_of(agent)[1:], strict=True):
          target.assign(critic)
      losses.append(agent.train_critic(**draw(i))['critic_loss'])
    draw = source.actor_phase(actor_steps)
    for i in range(actor_steps):
      agent.train_actor(**draw(i))
  return np.mean(losses)


@pytest.mark.slow
def test_the_compiled_phases_are_the_papers_steps():
  settings = {'critic_steps': 3, 'actor_steps': 2, 'rounds': 2}
  compiled, by_hand = _Loop(**settings), _Loop()
  _, scalars = next(compiled.iterations)
  by_hand._collect()
  loss = _phases_by_hand(by_hand, **settings)
  np.testing.assert_allclose(scalars['critic_loss'], loss, rtol=1e-4)
  for ours, theirs in zip(compiled.weights(), by_hand.weights(), strict=True):
    np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
@pytest.mark.usefixtures('eagerly')
def test_the_target_is_copied_when_each_phase_begins():
  # Fewer steps than the period: only step 0 of the phase copies, and the
  # target is what the critic was before it.
  loop = _Loop(critic_steps=3, actor_steps=0)
  for _ in range(2):
    _, critic, target = _networks_of(loop.agent)
    before = [np.array(v) for v in critic]
    _, scalars = next(loop.iterations)
    for variable, old in zip(target, before, strict=True):
      np.testing.assert_array_equal(variable, old)
    assert scalars['actor_loss'] == 0  # No steps, no loss.


@pytest.mark.slow
@pytest.mark.usefixtures('eagerly')
def test_means_and_maxima_are_those_of_all_rounds():
  # One weight for all actions of a step: two rounds of two actor steps.
  of_step, count = tf.constant([1.0, 5.0, 2.0, 3.0]), tf.Variable(0)

  def weight_fn(advantages, log_weights, batch):
    del log_weights, batch
    weight = of_step[count.assign_add(1) - 1]
    return tf.fill(tf.shape(advantages), weight)

  loop = _Loop(
    slots={'weight_fn': weight_fn}, critic_steps=1, actor_steps=2, rounds=2
  )
  count.assign(0)  # Construction tries the slots.
  _, metrics = next(loop.iterations)
  assert count == 4
  assert metrics['weight_mean'] == 2.75
  assert metrics['weight_max'] == 5.0


@pytest.mark.slow
@pytest.mark.usefixtures('eagerly')
def test_no_critic_steps_leave_the_critic_alone():
  loop = _Loop(critic_steps=0, actor_steps=2)
  actor, critic, target = _networks_of(loop.agent)
  before = [np.array(v) for v in (*critic, *target)]
  next(loop.iterations)
  for variable, old in zip((*critic, *target), before, strict=True):
    np.testing.assert_array_equal(variable, old)
  assert loop.counters() == (0, 2, 2)


def test_the_target_begins_as_a_copy():
  # A Polyak average never forgets what it began with; a random one would.
  agent = qwr_agent.QwrAgent(
    ts.time_step_spec(_OBSERVATION),
    _DISCRETE,
    networks.ActorNetwork(_OBSERVATION, _DISCRETE, torso_fn=_SMALL),
    networks.GatedQNetwork(_OBSERVATION, _DISCRETE, torso_fn=_SMALL),
    actor_optimizer=None,
    critic_optimizer=None,
  )
  actor, critic, _ = _networks_of(agent)
  online, target = [*critic, *actor], agent.target_variables
  assert any(np.ptp(variable) for variable in online)
  for one, other in zip(online, target, strict=True):
    assert one is not other
    np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize('horizon', [1, 3])
def test_a_backup_that_mixes_states_is_refused(horizon):
  def transposed(q_values, log_weights, batch=None):
    return tf.reduce_mean(tf.transpose(q_values), axis=-1)  # [T, B]

  with pytest.raises(ValueError, match='backup'):
    _agent(horizon=horizon, backup_fn=transposed)
