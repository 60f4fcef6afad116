"""Policies that act; the one that collects stores mu beside each action.

In training runs `acting/sources.py` writes mu (`NumpyActor` computes it); the
policies here are for TF-Agents programs and exports.
"""

import functools
from typing import Any, NamedTuple

import gin
import tensorflow as tf
from tf_agents.distributions import utils as distribution_utils
from tf_agents.policies import actor_policy
from tf_agents.policies import greedy_policy
from tf_agents.policies import tf_policy
from tf_agents.trajectories import policy_step

from qwr_tf.config.ranges import Fraction
from qwr_tf.config.ranges import PositiveInt
from qwr_tf.networks import q_actors

DIST_PARAMS = 'dist_params'


_tensors_only = functools.partial(
  distribution_utils.parameters_to_dict, tensors_only=True
)


def _check_storable(spec) -> None:
  if not isinstance(spec, distribution_utils.DistributionSpecV2):
    raise ValueError(
      'The actor network must return a tfp distribution, because the '
      f'table stores its parameters; it returns {spec}.'
    )
  if spec.parameters.type_ is distribution_utils.SquashToSpecNormal:
    # Its bounds count as parameters and come back as tensors, not as a spec.
    raise ValueError(
      'The actor network must not squash its distribution '
      '(SquashToSpecNormal cannot be made again from stored parameters): take '
      'a NormalProjectionNetwork with scale_distribution=False.'
    )


class BehaviorPolicy(actor_policy.ActorPolicy):
  """Samples from the actor, unclipped, with its parameters in policy_info.

  `behavior_spec` describes the distribution that the parameters are of.
  policy_info is {'dist_params': {...}}: the tensors that define the actor's
  distribution at the observation, for instance {'loc': [A]} or {'logits':
  [n]}. It is written on the last observation of an episode as well.
  """

  def __init__(self, time_step_spec, action_spec, actor_network, name=None):
    """Creates the policy; the actor must return an unsquashed distribution."""
    spec = actor_network.create_variables(time_step_spec.observation)
    _check_storable(spec)
    self.behavior_spec = spec
    super().__init__(
      time_step_spec=time_step_spec,
      action_spec=action_spec,
      actor_network=actor_network,
      info_spec={DIST_PARAMS: _tensors_only(spec.parameters)},
      # The clip is in the environment: the stored action is the sampled one.
      clip=False,
      name=name,
    )

  @property
  def actor_network(self):
    """The network that acts."""
    return self._actor_network

  def _distribution(self, time_step, policy_state):
    step = super()._distribution(time_step, policy_state)
    parameters = distribution_utils.get_parameters(step.action)
    info = {DIST_PARAMS: _tensors_only(parameters)}
    return policy_step.PolicyStep(step.action, step.state, info)


Policies = tuple[tf_policy.TFPolicy, tf_policy.TFPolicy]


def policies_of(time_step_spec, action_spec, actor_network) -> Policies:
  """(evaluation, collect) policies that act with a network."""
  collect_policy = BehaviorPolicy(time_step_spec, action_spec, actor_network)
  evaluation_policy = greedy_policy.GreedyPolicy(
    actor_policy.ActorPolicy(time_step_spec, action_spec, actor_network)
  )
  return evaluation_policy, collect_policy


# Slots of line 5: who acts.


class Actors(NamedTuple):
  """The networks that can act, and the critic steps made so far.

  Attributes:
    actor_network: the network of line 21.
    critic_network: the critic being trained.
    critic_steps: critic steps made so far, int64 variable.
  """

  actor_network: Any
  critic_network: Any
  critic_steps: tf.Variable


@gin.configurable
def actor_policies(actors: Actors, time_step_spec, action_spec) -> Policies:
  """Policies of the actor network.

  Raises:
    ValueError: if there is none.
  """
  if isinstance(actors.actor_network, q_actors.NoActor):
    raise ValueError(
      'There is no actor that could act: policies_fn = '
      '@epsilon_greedy_policies acts on the critic.'
    )
  return policies_of(time_step_spec, action_spec, actors.actor_network)


@gin.configurable
def epsilon_greedy_policies(
  actors: Actors,
  time_step_spec,
  action_spec,
  initial_epsilon: Fraction = 1.0,
  final_epsilon: Fraction = 0.01,
  decay_critic_steps: PositiveInt = 10_000,
) -> Policies:
  """Policies of the critic: epsilon-greedy (DQN).

  Args:
    initial_epsilon: before the first critic step.
    final_epsilon: from the end of the decay on.
    decay_critic_steps: critic steps over which epsilon falls linearly.
  """
  epsilon = LinearEpsilon(
    actors.critic_steps,
    initial=initial_epsilon,
    final=final_epsilon,
    decay_critic_steps=decay_critic_steps,
  )
  network = q_actors.EpsilonGreedyActor(
    time_step_spec.observation, action_spec, actors.critic_network, epsilon
  )
  return policies_of(time_step_spec, action_spec, network)


class LinearEpsilon(tf.Module):
  """Probability of a random action, falling with the critic's steps."""

  def __init__(
    self,
    critic_steps: tf.Variable,
    *,
    initial: float,
    final: float,
    decay_critic_steps: int,
  ):
    """Falls from initial to final over decay_critic_steps critic steps."""
    super().__init__(name='LinearEpsilon')
    self._critic_steps = critic_steps
    self._schedule = tf.keras.optimizers.schedules.PolynomialDecay(
      float(initial), decay_critic_steps, float(final)
    )

  def __call__(self) -> tf.Tensor:
    """Epsilon now, float scalar; never quite 1, so that there is a mode."""
    return tf.minimum(self._schedule(self._critic_steps), 1.0 - 1e-5)
