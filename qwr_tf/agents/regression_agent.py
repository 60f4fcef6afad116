"""What a TF-Agents agent needs around Algorithm 2.

Networks, optimisers, policies, random numbers and the `train` interface; the
algorithm itself is in `qwr_agent.py`.
"""

from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf
from tf_agents.agents import tf_agent
from tf_agents.specs import tensor_spec
from tf_agents.trajectories import trajectory
from tf_agents.typing import types
from tf_agents.utils import common

from qwr_tf.agents import gradient_steps
from qwr_tf.agents import replicas
from qwr_tf.agents import windows
from qwr_tf.networks import critics
from qwr_tf.ops import cross_replica

# Streams of random numbers, folded into the agent's seed.
CHECK_STREAM, CRITIC_STREAM, ACTOR_STREAM = 0, 1, 2
CRITIC_DRAWS, ACTOR_DRAWS = 3, 4

# Names of the scalars that a phase averages over its steps.
CRITIC_SCALARS = ('critic_loss', 'q_mean')
ACTOR_SCALARS = (
  'actor_loss',
  'weight_mean',
  'weight_max',
  'weight_clipped',
  'q_scale',
)


class RegressionLossInfo(NamedTuple):
  """What `train` reports beside the total loss."""

  critic_loss: tf.Tensor
  actor_loss: tf.Tensor


class RegressionAgent(tf_agent.TFAgent):
  """A critic regression and an actor regression on windows of experience."""

  def __init__(
    self,
    time_step_spec: types.TimeStep,
    action_spec: types.NestedTensorSpec,
    actor_network,
    critic_network,
    *,
    actor_optimizer: types.Optimizer,
    critic_optimizer: types.Optimizer,
    policies_fn: Callable,
    horizon: int,
    seed: int,
    debug_summaries: bool,
    summarize_grads_and_vars: bool,
    train_step_counter: tf.Variable | None,
    name: str,
  ):
    """Creates variables and policies; arguments as in `QwrAgent`."""
    tf.Module.__init__(self, name=name)
    self.replicas = replicas.Replicas()
    observation_spec = time_step_spec.observation
    self._make_networks(actor_network, critic_network, observation_spec)
    self._actor_optimizer = actor_optimizer
    self._critic_optimizer = critic_optimizer
    self._take_critic_step = gradient_steps.GradientStep(
      self, self.critic_loss, 'critic_loss', critic_network, critic_optimizer
    )
    self._take_actor_step = gradient_steps.GradientStep(
      self, self.actor_loss, 'actor_loss', actor_network, actor_optimizer
    )
    self._horizon = horizon
    self._seed = tf.constant([seed, 0], tf.int32)
    self.critic_steps = _counter('critic_steps')
    self.actor_steps = _counter('actor_steps')
    self.target_updates = _counter('target_updates')
    policy, collect_policy = policies_fn(self, time_step_spec, action_spec)
    self._make_target_actor(observation_spec)
    super().__init__(
      time_step_spec,
      action_spec,
      policy,
      collect_policy,
      train_sequence_length=horizon + 1,
      debug_summaries=debug_summaries,
      summarize_grads_and_vars=summarize_grads_and_vars,
      train_step_counter=train_step_counter,
    )

  def _make_networks(self, actor_network, critic_network, spec) -> None:
    if not isinstance(critic_network, critics.Critic):
      raise ValueError(
        'critic_network must be a qwr_tf.networks.Critic, for instance '
        f'GatedQNetwork, not {type(critic_network).__name__}.'
      )
    if actor_network.state_spec:
      raise ValueError(
        'actor_network must not have a state; use a network without '
        f'recurrent layers, not {type(actor_network).__name__}.'
      )
    self._actor_network = actor_network
    self._critic_network = critic_network
    self._target_network = critic_network.copy(name='TargetCritic')
    actor_network.create_variables(spec)
    critic_network.create_variables()
    self._target_network.create_variables()

  def _make_target_actor(self, spec) -> None:
    self._target_actor = self._actor_network.copy(name='TargetActor')
    self._target_actor.create_variables(spec)
    common.soft_variables_update(*self._online_and_target_variables())

  def _check_slots(self) -> None:
    """Fills every slot once, so that what does not fit fails here."""
    experience = tensor_spec.zero_spec_nest(
      self.collect_data_spec, outer_dims=[1, self.horizon + 1]
    )
    seed = self.seed_for(CHECK_STREAM, 0)
    self.td_targets(experience, seed)
    actions, weights, _ = self.regression(experience, seed)
    self.actor_loss(experience, actions, weights)

  # What the slots ask for.

  def q_values(self, observation, actions) -> tf.Tensor:
    """Values of the critic being trained, float [n, ...], no gradient."""
    outputs = self.critic_outputs(observation, actions)
    return tf.stop_gradient(self._critic_network.values(outputs))

  def critic_outputs(self, observation, actions) -> tf.Tensor:
    """What the critic learns from, [n, ...] and its own axes."""
    return self._critic_network((observation, actions))[0]

  def target_outputs(self, observation, actions) -> tf.Tensor:
    """The same of the target network."""
    return self._target_network((observation, actions))[0]

  def behavior_distribution(self, policy_info):
    """The stored mu(.|s)."""
    return self._collect_policy.restore_distribution(policy_info)

  def policy_distribution(self, observation):
    """The policy being trained, pi(.|s)."""
    return _distribution(self._actor_network, observation)

  def target_policy_distribution(self, observation):
    """The policy that follows `policy_distribution` as a target network."""
    return _distribution(self._target_actor, observation)

  def seed_for(self, stream: int, step: tf.Tensor) -> tf.Tensor:
    """A stateless seed that only (seed, stream, step) decide, int32 [2]."""
    fold_in = tf.random.experimental.stateless_fold_in
    step = tf.cast(step, tf.int32)  # tfp takes no other seeds.
    return fold_in(fold_in(self._seed, stream), step)

  @property
  def horizon(self) -> int:
    """T, the steps in a window."""
    return self._horizon

  @property
  def actor_network(self):
    """The network of line 21."""
    return self._actor_network

  @property
  def acting_network(self):
    """The network that acts: the one of line 21, or one made of the critic."""
    return self._collect_policy.actor_network

  @property
  def critic_network(self):
    """The critic being trained."""
    return self._critic_network

  @property
  def gamma(self) -> float:
    """Discount per step."""
    return self._gamma

  @property
  def td_lambda(self) -> float:
    """Weight of longer returns in the critic's target."""
    return self._td_lambda

  @property
  def target_variables(self) -> list[tf.Variable]:
    """What lines 8-9 change: the target networks of critic and actor."""
    return self._online_and_target_variables()[1]

  def _online_and_target_variables(self):
    """Variables of critic and actor, and of their targets."""
    online = self._critic_network, self._actor_network
    targets = self._target_network, self._target_actor
    return tuple(
      sum([list(n.trainable_variables) for n in networks], [])
      for networks in (online, targets)
    )

  # Gradient steps.

  def critic_step(self, *arguments) -> dict[str, tf.Tensor]:
    """Line 14: one gradient step; arguments and scalars of `critic_loss`."""
    scalars = self._take_critic_step(*arguments)
    self.critic_steps.assign_add(1)
    return scalars

  def actor_step(self, *arguments) -> dict[str, tf.Tensor]:
    """Line 21: one gradient step; arguments and scalars of `actor_loss`."""
    scalars = self._take_actor_step(*arguments)
    self.actor_steps.assign_add(1)
    return scalars

  def count_train_steps(self, steps: tf.Tensor) -> None:
    """Adds to TF-Agents' own counter."""
    self.train_step_counter.assign_add(tf.cast(steps, tf.int64))

  # TF-Agents' interface.

  def _train(
    self,
    experience: trajectory.Trajectory,
    weights: tf.Tensor | None = None,
  ) -> tf_agent.LossInfo:
    windows.check(experience, self.horizon + 1, weights)
    step = self.critic_steps.read_value()
    self.update_target(step)
    targets = self.td_targets(experience, self.seed_for(CRITIC_STREAM, step))
    critic = self.critic_step(experience, targets[:, 0], weights)
    seed = self.seed_for(ACTOR_STREAM, self.actor_steps)
    actions, regression_weights, found = self.regression(experience, seed)
    actor = self.actor_step(experience, actions, regression_weights, weights)
    gradient_steps.summarize(self, {**critic, **actor, **found})
    self.train_step_counter.assign_add(1)
    return _loss_info(critic['critic_loss'], actor['actor_loss'])

  def _loss(
    self,
    experience: trajectory.Trajectory,
    weights: tf.Tensor | None = None,
    training: bool = False,
  ) -> tf_agent.LossInfo:
    del training
    windows.check(experience, self.horizon + 1, weights)
    seed = self.seed_for(CRITIC_STREAM, self.critic_steps)
    targets = self.td_targets(experience, seed)
    critic = self.critic_loss(experience, targets[:, 0], weights)
    actions, regression_weights, _ = self.regression(experience, seed)
    actor = self.actor_loss(experience, actions, regression_weights, weights)
    return _loss_info(critic['critic_loss'], actor['actor_loss'])


def _distribution(network, observation):
  # TF-Agents' own networks want all three.
  return network(observation, step_type=None, network_state=())[0]


def _counter(name: str) -> tf.Variable:
  """A count of steps, which replicas make together."""
  once = tf.VariableAggregation.ONLY_FIRST_REPLICA
  return tf.Variable(
    0, trainable=False, dtype=tf.int64, aggregation=once, name=name
  )


def _loss_info(critic_loss, actor_loss) -> tf_agent.LossInfo:
  # A stock Learner adds up what the replicas return.
  critic_loss, actor_loss = map(cross_replica.part, (critic_loss, actor_loss))
  return tf_agent.LossInfo(
    critic_loss + actor_loss, RegressionLossInfo(critic_loss, actor_loss)
  )
