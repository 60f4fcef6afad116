"""The relatives as their gin files have them, against what they are.

Each agent here is made from a preset: TF-Agents' own agents, NumPy
transcriptions of the papers' equations and the theorems about them say what
it must compute.
"""

import functools
import types

import gin
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
from qwr_tf.agents import penalties
from qwr_tf.agents import qwr_agent
from qwr_tf.agents import slots
from qwr_tf.config import gin_files
from qwr_tf.networks import discrete_actions
from qwr_tf.ops import regression
from qwr_tf.training import experiment

_OBSERVATION = tensor_spec.TensorSpec([3], tf.float32, 'observation')
_DISCRETE = tensor_spec.BoundedTensorSpec([], tf.int32, 0, 3, 'action')
_CONTINUOUS = tensor_spec.BoundedTensorSpec([2], tf.float32, -1, 1, 'action')
_TIME_STEP = ts.time_step_spec(_OBSERVATION)
_FIRST, _MID, _LAST = 0, 1, 2
_GAMMA = 0.99


@pytest.fixture(autouse=True)
def _clear_gin():
  yield
  gin.clear_config()


def _preset(file, action_spec, *bindings):
  """The agent of a preset; small, and every variable random."""
  gin_files.parse([file], ['mlp_torso.units = (8,)', *bindings])
  agent = experiment.make_agent(_TIME_STEP, action_spec, seed=0)
  rng = np.random.default_rng(3)
  for variable in (
    *agent.critic_network.trainable_variables,
    *agent.actor_network.trainable_variables,
    *agent.target_variables,
  ):
    variable.assign(rng.normal(size=variable.shape))
  return agent


def _windows(agent, batch=32, seed=0, length=None):
  """Random windows; terminations and time limits, no boundary starts."""
  rng = np.random.default_rng(seed)
  outer = [batch, length or agent.horizon + 1]
  ends = rng.random(outer) < 0.4
  terminates = ends & (rng.random(outer) < 0.5)

  def normal(spec):
    return tf.constant(rng.normal(size=[*outer, *spec.shape]), tf.float32)

  spec = agent.collect_data_spec
  action = normal(spec.action)
  if tensor_spec.is_discrete(spec.action):
    action = tf.constant(rng.integers(0, 4, outer), tf.int32)
  return trajectory.Trajectory(
    step_type=tf.fill(outer, _MID),
    observation=normal(spec.observation),
    action=action,
    # Scales must be positive, logits may be.
    policy_info=tf.nest.map_structure(
      lambda s: tf.exp(normal(s)), spec.policy_info
    ),
    next_step_type=tf.where(tf.constant(ends), _LAST, _MID),
    reward=normal(tensor_spec.TensorSpec([], tf.float32)),
    discount=tf.constant(1.0 - terminates, tf.float32),
  )


def _first(windows):
  return tf.nest.map_structure(lambda x: x[:, 0], windows)


def _seed(number=0):
  return tf.constant([number, 7], tf.int32)


def _every_value(critic, observation):
  """Values of all four actions [4, B], one action at a time."""
  columns = []
  for action in range(4):
    outputs, _ = critic((observation, tf.fill([1, len(observation)], action)))
    columns.append(critic.representation.values(outputs)[0].numpy())
  return np.stack(columns)


# DQN


class _AllActions(network.Network):
  """Values of all actions [B, n], as TF-Agents' DqnAgent wants them."""

  def __init__(self, critic):
    super().__init__(_OBSERVATION, state_spec=(), name='AllActions')
    self.critic = critic

  def call(self, observation, step_type=None, network_state=(), training=False):
    del step_type, training
    actions = discrete_actions.all_actions(_DISCRETE, outer_rank=1)
    return tf.transpose(self.critic((observation, actions))[0]), network_state


@pytest.mark.parametrize(
  'dqn_class, bindings',
  [
    (dqn_agent.DqnAgent, ()),
    (dqn_agent.DdqnAgent, ('QwrAgent.backup_actions = @greedy_actions',)),
  ],
)
def test_dqn_is_that_of_tf_agents(dqn_class, bindings):
  agent = _preset('dqn_bitflip.gin', _DISCRETE, *bindings)
  theirs = dqn_class(
    _TIME_STEP,
    _DISCRETE,
    q_network=_AllActions(agent.critic_network),
    target_q_network=_AllActions(agent.target_network),
    optimizer=None,
    td_errors_loss_fn=common.element_wise_squared_loss,
    gamma=_GAMMA,
  )
  # It copies at construction: make the two differ again.
  for variable in agent.target_network.trainable_variables:
    variable.assign_add(tf.random.stateless_normal(variable.shape, _seed()))
  windows = _windows(agent)
  # Called directly, its loss forgets the gamma it was made with.
  expected = theirs.loss(windows._replace(policy_info=()), gamma=_GAMMA)
  actual = agent.loss(windows).extra.critic_loss
  np.testing.assert_allclose(actual, expected.loss, rtol=1e-5)


@pytest.mark.slow
def test_double_q_is_not_q():
  plain = _preset('dqn_bitflip.gin', _DISCRETE)
  double = _preset(
    'dqn_bitflip.gin', _DISCRETE, 'QwrAgent.backup_actions = @greedy_actions'
  )
  windows = _windows(plain)
  targets = plain.td_targets(windows, _seed())
  assert np.all(double.td_targets(windows, _seed()) <= targets + 1e-5)
  assert np.any(double.td_targets(windows, _seed()) < targets - 0.1)


@pytest.mark.slow
def test_greedy_actions_of_vectors_are_samples():
  agent = _preset(
    'mujoco.gin', _CONTINUOUS, 'QwrAgent.backup_actions = @greedy_actions'
  )
  states = agent.states(_first(_windows(agent)), _seed())
  candidates = slots.sampled_behavior_actions(states)
  values = states.q_values(candidates.actions).numpy()
  chosen = slots.greedy_actions(states)
  expected = candidates.actions.numpy()[values.argmax(0), np.arange(32)]
  np.testing.assert_allclose(chosen.actions[0], expected)
  np.testing.assert_array_equal(chosen.log_weights, [[0.0]])


def _probabilities(agent, windows):
  steps = ts.restart(windows.observation[:, 0], batch_size=32)
  logits = agent.collect_policy.distribution(steps).action.logits
  return tf.nn.softmax(logits).numpy()


def test_the_absent_actor_does_not_act():
  with pytest.raises(ValueError, match='@epsilon_greedy_policies'):
    _preset(
      'dqn_bitflip.gin', _DISCRETE, 'QwrAgent.policies_fn = @actor_policies'
    )


def test_epsilon_falls_with_the_critics_steps():
  agent = _preset(
    'dqn_bitflip.gin',
    _DISCRETE,
    'epsilon_greedy_policies.final_epsilon = 0.2',
    'epsilon_greedy_policies.decay_critic_steps = 100',
  )
  windows = _windows(agent)
  best = _every_value(agent.critic_network, windows.observation[:, 0]).argmax(0)
  assert len(set(best)) > 1
  for step, epsilon in ((0, 1.0), (50, 0.6), (100, 0.2), (500, 0.2)):
    agent.critic_steps.assign(step)
    expected = np.full([32, 4], epsilon / 4)
    expected[np.arange(32), best] += 1 - epsilon
    np.testing.assert_allclose(
      _probabilities(agent, windows), expected, atol=1e-5
    )
    # mu is stored as always; the mode is the best action.
    steps = ts.restart(windows.observation[:, 0], batch_size=32)
    info = agent.collect_policy.action(steps).info
    mu = agent.behavior_distribution(info)
    np.testing.assert_allclose(tf.nn.softmax(mu.logits), expected, atol=1e-5)
    if epsilon < 1:
      np.testing.assert_array_equal(agent.policy.action(steps).action, best)


# Behavioural cloning


def test_cloning_is_that_of_tf_agents():
  agent = _preset('bc_bitflip.gin', _DISCRETE)
  theirs = behavioral_cloning_agent.BehavioralCloningAgent(
    _TIME_STEP, _DISCRETE, agent.actor_network, optimizer=None
  )
  windows = _windows(agent)
  expected = theirs.loss(_first(windows)._replace(policy_info=())).loss
  info = agent.loss(windows)
  np.testing.assert_allclose(info.extra.actor_loss, expected, rtol=1e-5)
  assert info.extra.critic_loss == 0


_RELATIVES = {
  'awr_bitflip.gin': ('AwrAgent', _DISCRETE),
  'rwr_bitflip.gin': ('AwrAgent', _DISCRETE),
  'awac_bitflip.gin': ('AwacAgent', _DISCRETE),
  'crr_bitflip.gin': ('QwrAgent', _DISCRETE),
  'crr_bitflip_binary.gin': ('QwrAgent', _DISCRETE),
  'awr_mujoco.gin': ('AwrAgent', _CONTINUOUS),
  'rwr_mujoco.gin': ('AwrAgent', _CONTINUOUS),
  'crr_mujoco.gin': ('QwrAgent', _CONTINUOUS),
  'awac_mujoco.gin': ('AwacAgent', _CONTINUOUS),
}


@pytest.mark.slow
@pytest.mark.parametrize('file', _RELATIVES)
def test_equal_weights_turn_relatives_into_cloning(file):
  agent_class, action_spec = _RELATIVES[file]
  agent = _preset(
    file,
    action_spec,
    f'{agent_class}.weight_fn = @uniform_weights',
    f'{agent_class}.penalty_fn = None',
  )
  windows = _windows(agent)
  first = _first(windows)
  policy = agent.states(first, _seed()).policy()
  log_probs = policy.log_prob(first.action)
  actual = agent.loss(windows).extra.actor_loss
  np.testing.assert_allclose(actual, -np.mean(log_probs), rtol=1e-5)


@pytest.mark.slow
def test_equal_weights_turn_qwr_into_cloning_in_expectation():
  # Cloning an action drawn from mu costs, in the mean, what QWR's enumerated
  # regression costs: - sum_a mu(a|s) log pi(a|s).
  qwr = _preset(
    'bitflip.gin', _DISCRETE, 'QwrAgent.weight_fn = @uniform_weights'
  )
  cloning = _preset('bc_bitflip.gin', _DISCRETE)
  for ours, theirs in zip(
    cloning.actor_network.variables, qwr.actor_network.variables, strict=True
  ):
    ours.assign(theirs)
  windows = _windows(qwr, length=2)
  mu = qwr.behavior_distribution(_first(windows).policy_info)
  expected = 0.0
  for action in range(4):
    actions = tf.fill(windows.action.shape, action)
    elements = [
      cloning.loss(
        tf.nest.map_structure(
          lambda x, i=i: x[i : i + 1], windows._replace(action=actions)
        )
      ).extra.actor_loss
      for i in range(4)
    ]
    expected += np.mean(mu.prob(tf.fill([32], action))[:4] * elements)
  some = tf.nest.map_structure(lambda x: x[:4], windows)
  actions, weights, _ = qwr.weighted_actions(some, _seed())
  actual = qwr.actor_loss(_first(some), actions, weights)['actor_loss']
  np.testing.assert_allclose(actual, expected, rtol=1e-5)


# AWAC and CRR


def _next_states(agent, windows):
  """Those after the first steps, [B]."""
  steps = tf.nest.map_structure(lambda x: x[:, 1], windows)
  return agent.states(steps, _seed())


def _policy_probabilities(policy):
  return tf.nn.softmax(policy.logits).numpy().T  # [4, B]


@pytest.mark.slow
def test_awac_backs_up_the_smaller_value_of_the_current_policy():
  agent = _preset('awac_bitflip.gin', _DISCRETE)
  windows = _windows(agent)
  following = windows.observation[:, 1]
  twins = agent.target_network.members
  smaller = np.minimum(*(_every_value(q, following) for q in twins))
  assert np.any(smaller != _every_value(twins[0], following))
  pi = _policy_probabilities(_next_states(agent, windows).policy())
  expected = windows.reward[:, 0] + _GAMMA * windows.discount[:, 0] * (
    (pi * smaller).sum(0)
  )
  actual = agent.td_targets(windows, _seed())[:, 0]
  np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_awac_backs_up_one_sample_of_the_current_policy():
  agent = _preset('awac_mujoco.gin', _CONTINUOUS)
  windows = _windows(agent)
  following = tf.nest.map_structure(lambda x: x[:, 1:], windows)
  states = agent.states(following, _seed())
  drawn = slots.sampled_policy_actions(states)
  assert drawn.actions.shape == [1, 32, 1, 2]
  pairs = (following.observation, drawn.actions)
  smaller = np.minimum(*(q(pairs)[0] for q in agent.target_network.members))
  expected = windows.reward[:, 0] + (
    _GAMMA * windows.discount[:, 0] * smaller[0, :, 0]
  )
  actual = agent.td_targets(windows, _seed())[:, 0]
  np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-4)
  # They come from the policy: around its mean, one deviation away.
  policy = states.policy()
  noise = (drawn.actions[0] - policy.mean()) / policy.stddev()
  assert 0.7 < np.std(noise) < 1.3


def test_crr_backs_up_the_target_policy():
  agent = _preset('crr_bitflip.gin', _DISCRETE)
  windows = _windows(agent)
  following = windows.observation[:, 1]
  states = _next_states(agent, windows)
  pi = _policy_probabilities(states.target_policy())
  current = _policy_probabilities(states.policy())
  assert np.abs(pi - current).max() > 0.1
  values = (pi * _every_value(agent.target_network, following)).sum(0)
  expected = windows.reward[:, 0] + _GAMMA * windows.discount[:, 0] * values
  actual = agent.td_targets(windows, _seed())[:, 0]
  np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-4)
  agent.update_target(tf.constant(5))  # Step 0 of all: copies both.
  copied = _policy_probabilities(states.target_policy())
  np.testing.assert_allclose(copied, current, rtol=1e-5)


def test_crr_backs_up_samples_of_the_target_policy():
  agent = _preset('crr_mujoco.gin', _CONTINUOUS)
  states = agent.states(_first(_windows(agent)), _seed())
  drawn = slots.sampled_target_policy_actions(states)
  assert drawn.actions.shape == [1, 32, 2]
  expected, other = (
    policy.sample(1, seed=_seed())
    for policy in (states.target_policy(), states.policy())
  )
  np.testing.assert_array_equal(drawn.actions, expected)
  assert np.abs(expected - other).max() > 0.1


@pytest.mark.parametrize(
  'file, weights_of',
  [
    ('crr_bitflip.gin', lambda a: np.minimum(np.exp(a), 20)),
    ('crr_bitflip_binary.gin', lambda a: (a > 0).astype(float)),
  ],
)
def test_crr_weighs_what_is_better_than_the_policy(file, weights_of):
  agent = _preset(file, _DISCRETE)
  windows = _windows(agent)
  first = _first(windows)
  values = _every_value(agent.critic_network, first.observation)
  pi = _policy_probabilities(agent.states(first, _seed()).policy())
  taken = values[first.action, np.arange(32)]
  expected = weights_of(taken - (pi * values).sum(0))
  _, weights, _ = agent.weighted_actions(windows, _seed())
  np.testing.assert_allclose(weights[0], expected, rtol=1e-3, atol=1e-4)
  assert expected.min() < 1 and expected.max() > 0


def test_the_target_of_short_phases_is_copied_every_hundredth_step():
  agent = _preset('crr_bitflip.gin', _DISCRETE)
  for steps, copies in ((1, False), (99, False), (100, True), (250, False)):
    agent.critic_steps.assign(steps)
    before = int(agent.target_updates)
    agent.update_target(tf.constant(0))
    assert int(agent.target_updates) - before == copies


class _NumpyAwac:
  """AWAC's actor loss on a linear policy, in float64 (Nair et al., Eq. 13).

  Twin critics and the policy's action for the baseline are given as numbers.
  """

  def __init__(self, observation, action, advantage, beta, decay):
    self.observation, self.action = observation, action
    softmax = np.exp((advantage - advantage.max()) / beta)
    self.weights = len(advantage) * softmax / softmax.sum()
    self.decay = decay

  def __call__(self, kernel, bias, position):
    mean = np.tanh(self.observation @ kernel + bias)
    # log sigma from log 2.479e-3 to 0 on a sigmoid.
    low = np.log(2.479e-3)
    log_scale = low * (1 - 1 / (1 + np.exp(-position)))
    noise = (self.action - mean) / np.exp(log_scale)
    log_probs = (-0.5 * noise**2 - log_scale - 0.5 * np.log(2 * np.pi)).sum(-1)
    decay = sum((x**2).sum() for x in (kernel, bias, position))
    return -(self.weights * log_probs).mean() + self.decay / 2 * decay


def _numeric_gradients(function, parameters):
  gradients = []
  for parameter in parameters:
    gradient = np.zeros(parameter.shape)
    for i in np.ndindex(*parameter.shape):
      original = parameter[i]
      values = []
      for step in (1e-5, -1e-5):
        parameter[i] = original + step
        values.append(function(*parameters))
      parameter[i] = original
      gradient[i] = (values[0] - values[1]) / 2e-5
    gradients.append(gradient)
  return gradients


@pytest.mark.slow
def test_awac_actor_loss_and_gradients_equal_numpy():
  agent = _preset(
    'awac_mujoco.gin',
    _CONTINUOUS,
    'softmax_weights.beta = 2.0',
    'weight_decay.coefficient = 0.1',
    'actors.ActorNetwork.torso_fn = @actor/mlp_torso',
    'actor/mlp_torso.units = ()',
  )
  head = agent.actor_network.head
  variables = [*head.projection.variables, head._position]
  # By identity: these are all that is trained.
  assert {v.ref() for v in variables} == {
    v.ref() for v in agent.actor_network.trainable_variables
  }
  for variable in variables:
    variable.assign(0.3 * variable)
  windows = _windows(agent, batch=8)
  first = _first(windows)
  seeds = tf.random.experimental.stateless_split(_seed(), 3)
  drawn = slots.sampled_policy_actions(agent.states(first, seeds[2]))
  smaller = [
    np.minimum(
      *(q((first.observation, a))[0][0] for q in agent.critic_network.members)
    )
    for a in (first.action[tf.newaxis], drawn.actions)
  ]
  loss_of = _NumpyAwac(
    *(np.array(x, np.float64) for x in (first.observation, first.action)),
    (smaller[0] - smaller[1]).astype(np.float64),
    beta=2.0,
    decay=0.1,
  )
  parameters = [np.array(v, np.float64) for v in variables]
  with tf.GradientTape() as tape:
    actions, weights, _ = agent.weighted_actions(windows, _seed())
    loss = agent.actor_loss(first, actions, weights)['actor_loss']
  np.testing.assert_allclose(weights[0], loss_of.weights, rtol=1e-3)
  np.testing.assert_allclose(loss, loss_of(*parameters), rtol=1e-4)
  for actual, expected in zip(
    tape.gradient(loss, variables),
    _numeric_gradients(loss_of, parameters),
    strict=True,
  ):
    assert np.abs(expected).max() > 0.01
    np.testing.assert_allclose(actual, expected, rtol=2e-3, atol=2e-3)


def test_awac_does_not_clip_its_weights():
  agent = _preset('awac_bitflip.gin', _DISCRETE)
  # One of 32 advantages has all of the softmax.
  weights, _ = agent.weigh(
    1e3 * tf.eye(1, 32), tf.zeros([1, 1]), regression.WHOLE
  )
  np.testing.assert_allclose(weights, 32.0 * np.eye(1, 32), rtol=1e-5)


# AWR


# The weights are then the advantages.
_AWR = (
  'AwrAgent.horizon = 3',
  'AwrAgent.weight_fn = @keep',
  'AwrAgent.max_weight = 1e30',
)


def test_awr_advantage_is_the_return_minus_the_value():
  agent = _preset('awr_bitflip.gin', _DISCRETE, *_AWR)
  windows = _windows(agent)
  first = _first(windows)
  returns = agent.td_targets(windows, _seed())[:, 0]
  values = _every_value(agent.critic_network, first.observation)
  np.testing.assert_allclose(values, np.tile(values[:1], [4, 1]))
  actions, found, _ = agent.weighted_actions(windows, _seed())
  np.testing.assert_array_equal(actions.actions[0], first.action)
  np.testing.assert_allclose(found[0], returns - values[0], rtol=1e-4)


def test_rwr_has_no_baseline_and_nothing_to_bootstrap_from():
  agent = _preset('rwr_bitflip.gin', _DISCRETE, *_AWR)
  windows = _windows(agent)
  _, found, _ = agent.weighted_actions(windows, _seed())
  alive, expected = np.ones(32), np.zeros(32)
  for j in range(3):
    expected += alive * _GAMMA**j * windows.reward[:, j]
    alive *= (windows.next_step_type[:, j] != _LAST).numpy()
  np.testing.assert_allclose(found[0], expected, rtol=1e-4, atol=1e-5)


# Theorems 1 and 2: one action in every state


class _Slope(networks.Critic):
  """Q(s, a) = 2 a: nothing to learn."""

  def __init__(self, name='Slope'):
    super().__init__((_OBSERVATION, _LINE), state_spec=(), name=name)

  def outputs(self, observation, actions):
    del observation
    return 2.0 * actions[..., 0]


_LINE = tensor_spec.BoundedTensorSpec([1], tf.float32, -1, 1, 'action')
_ACTIONS = np.array([[0.5], [-0.3], [0.1]], np.float32)
_MEANS = np.array([[0.2], [0.0], [0.4]], np.float32)


def _optimum(**slots):
  """The means a linear policy converges to on three one-hot states."""
  flat = tf.keras.layers.Flatten
  agent = qwr_agent.QwrAgent(
    _TIME_STEP,
    _LINE,
    networks.ActorNetwork(
      _OBSERVATION, _LINE, torso_fn=lambda: tf.keras.Sequential([flat()])
    ),
    _Slope(),
    actor_optimizer=tf.keras.optimizers.legacy.SGD(0.05),
    critic_optimizer=None,
    horizon=1,
    max_weight=1e30,
    weight_fn=functools.partial(
      regression.exp_weights, beta=1.6, normalize_fn=regression.keep
    ),
    **slots,
  )
  repeats = 400  # So that samples of mu average out.
  zeros = tensor_spec.zero_spec_nest(
    agent.collect_data_spec, outer_dims=[3 * repeats, 2]
  )

  def filled(values):
    return tf.repeat(tf.constant(np.repeat(values, repeats, 0))[:, None], 2, 1)

  windows = zeros._replace(
    observation=filled(np.eye(3, dtype=np.float32)),
    action=filled(_ACTIONS),
    policy_info={'dist_params': {'loc': filled(_MEANS)}},
    step_type=tf.ones_like(zeros.step_type),
    next_step_type=tf.ones_like(zeros.next_step_type),
    # Some actions paid more than others.
    reward=filled(np.array([3.0, -1.0, 0.5], np.float32)),
  )

  @tf.function
  def train():
    for i in tf.range(200):
      seed = tf.stack([i, 7])
      agent.train_actor(experience=windows, seed=seed)

  train()
  return agent.actor_network(tf.eye(3))[0].mean().numpy()


@pytest.mark.slow
def test_one_action_per_state_awr_clones():
  means = _optimum(
    regression_actions=slots.stored_actions,
    backup_actions=slots.stored_actions,
    estimate_fn=slots.return_estimates,
    baseline_fn=slots.no_baseline,
  )
  np.testing.assert_allclose(means, _ACTIONS, atol=1e-3)


@pytest.mark.slow
def test_one_action_per_state_qwr_improves():
  # m + (1 - 1/n) sigma^2 g / beta: the step of .15 up, whatever was done.
  means = _optimum()
  np.testing.assert_allclose(means, _MEANS + 0.15, atol=0.02)


# Penalties, by hand


def test_action_bound_penalty():
  policy = _normal([[0.5, 1.5], [-3.0, 1.0]])
  # Half of .5^2, half of 2^2, times 10.
  np.testing.assert_allclose(
    penalties.action_bound_penalty(policy, None), [1.25, 20.0], rtol=1e-5
  )


def _normal(means):
  return networks.actors.tfp.distributions.MultivariateNormalDiag(
    tf.constant(means), scale_diag=[0.4, 0.4]
  )


def _categorical(logits):
  return networks.actors.tfp.distributions.Categorical(
    logits=tf.constant(logits)
  )


def test_logits_penalty():
  policy = _categorical([[3.0, 4.0], [0.0, 2.0]])
  np.testing.assert_allclose(
    penalties.logits_penalty(policy, None, 0.1), [1.25, 0.2], rtol=1e-5
  )


def test_weight_decay():
  variables = [tf.Variable([3.0, 4.0]), tf.Variable([[1.0]])]
  states = types.SimpleNamespace(actor_variables=variables)
  # Half of 25 + 1, times a half.
  assert penalties.weight_decay(None, states, coefficient=0.5) == 6.5


def test_the_penalty_is_added_to_the_actors_loss():
  # In AWAC's loss above, of some hundreds, a small one hides.
  agent = _preset('bitflip.gin', _DISCRETE)
  windows = _windows(agent)
  actions, weights, _ = agent.weighted_actions(windows, _seed())
  steps = _first(windows)
  before = agent.actor_loss(steps, actions, weights)['actor_loss']
  agent._penalty_fn = lambda *_: tf.range(32.0)  # 15.5 in the mean.
  after = agent.actor_loss(steps, actions, weights)['actor_loss']
  np.testing.assert_allclose(after - before, 15.5, rtol=1e-4)


def test_penalties_for_other_actions_name_the_right_one():
  with pytest.raises(ValueError, match='use @logits_penalty'):
    penalties.action_bound_penalty(_categorical([[3.0, 4.0]]), None)
  with pytest.raises(ValueError, match='use @action_bound_penalty'):
    penalties.logits_penalty(_normal([[0.5, 1.5]]), None)


def test_an_agent_is_made_with_the_seed_and_the_paper_s_step_sizes():
  spec = tf.TensorSpec([2], tf.float32)
  made = experiment.make_agent(
    ts.time_step_spec(spec),
    spec,
    seed=5,
    agent_class=lambda *_, **kwargs: kwargs,
    actor_network=lambda *_, **__: None,
    critic_network=lambda *_, **__: None,
  )
  assert made['seed'] == 5
  rates = [
    float(made[n].learning_rate)
    for n in ('actor_optimizer', 'critic_optimizer')
  ]
  assert rates == pytest.approx([1e-4, 5e-4])
