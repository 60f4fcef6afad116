"""The policy that collects and writes what it was (mu) beside each action."""

from typing import Any

from tf_agents.distributions import utils as distribution_utils
from tf_agents.policies import actor_policy
from tf_agents.policies import greedy_policy
from tf_agents.policies import tf_policy
from tf_agents.trajectories import policy_step

DIST_PARAMS = 'dist_params'


def _dist_params(distribution) -> Any:
  parameters = distribution_utils.get_parameters(distribution)
  return distribution_utils.parameters_to_dict(parameters, tensors_only=True)


def _tensors_only(spec: distribution_utils.DistributionSpecV2) -> Any:
  return distribution_utils.parameters_to_dict(
    spec.parameters, tensors_only=True
  )


class BehaviorPolicy(actor_policy.ActorPolicy):
  """Samples from the actor, unclipped, with its parameters in policy_info.

  policy_info is {'dist_params': {...}}: the tensors that define the actor's
  distribution at the observation, for instance {'loc': [A]} or {'logits':
  [n]}. It is written on the last observation of an episode as well.
  """

  def __init__(self, time_step_spec, action_spec, actor_network, name=None):
    """Creates the policy; the actor must return a tfp distribution."""
    spec = actor_network.create_variables(time_step_spec.observation)
    if not isinstance(spec, distribution_utils.DistributionSpecV2):
      raise ValueError(
        'The actor network must return a tfp distribution, because the '
        f'table stores its parameters; it returns {spec}.'
      )
    self._output_spec = spec
    super().__init__(
      time_step_spec=time_step_spec,
      action_spec=action_spec,
      actor_network=actor_network,
      info_spec={DIST_PARAMS: _tensors_only(spec)},
      # The clip is in the environment: the stored action is the sampled one.
      clip=False,
      name=name,
    )

  def _distribution(self, time_step, policy_state):
    step = super()._distribution(time_step, policy_state)
    info = {DIST_PARAMS: _dist_params(step.action)}
    return policy_step.PolicyStep(step.action, step.state, info)

  def restore_distribution(self, policy_info):
    """mu(.|s) from what was stored, policy_info [...] to batch shape [...]."""
    parameters = distribution_utils.merge_to_parameters_from_dict(
      self._output_spec.parameters, policy_info[DIST_PARAMS]
    )
    return distribution_utils.make_from_parameters(parameters)


def actor_policies(
  time_step_spec, action_spec, actor_network, critic_network
) -> tuple[tf_policy.TFPolicy, tf_policy.TFPolicy]:
  """(evaluation, collect) policies that act with the actor."""
  del critic_network
  collect_policy = BehaviorPolicy(time_step_spec, action_spec, actor_network)
  evaluation_policy = greedy_policy.GreedyPolicy(
    actor_policy.ActorPolicy(time_step_spec, action_spec, actor_network)
  )
  return evaluation_policy, collect_policy
