"""Advantage-Weighted Actor-Critic (Nair et al. 2020) as slots of QwrAgent."""

import functools
from collections.abc import Callable
from typing import Any

import gin
from tf_agents.typing import types

from qwr_tf.agents import action_sets
from qwr_tf.agents import advantages
from qwr_tf.agents import qwr_agent
from qwr_tf.agents import target_updates
from qwr_tf.ops import backups
from qwr_tf.ops import weights


@gin.configurable
class AwacAgent(qwr_agent.QwrAgent):
  """Off-policy Q-learning for the policy, and regression onto what was done.

  The backup asks for one action of the current policy, and so does the
  baseline; an action from the table weighs exp((Q(s, a) - Q(s, a~pi)) / beta).
  Give it a `networks.TwinCritic`, and iterate in rounds of one critic and one
  actor step, as many as there are interactions.
  """

  def __init__(
    self,
    time_step_spec: types.TimeStep,
    action_spec: types.NestedTensorSpec,
    actor_network,
    critic_network,
    *,
    backup_actions: Callable = action_sets.sampled_policy_actions,
    baseline_actions: Callable = action_sets.sampled_policy_actions,
    target_update_fn: Callable = target_updates.polyak_update,
    weight_fn: Callable = weights.softmax_weights,
    max_weight: float = 1e30,
    name: str = 'AwacAgent',
    **kwargs: Any,
  ):
    """Fills the slots; everything else is `QwrAgent`'s.

    Args:
      time_step_spec: of the environment.
      action_spec: one bounded spec, an integer or a float vector.
      actor_network: observation -> tfp distribution.
      critic_network: of Q(s, a).
      backup_actions: line 12, of the policy.
      baseline_actions: line 19, likewise.
      target_update_fn: lines 8-9.
      weight_fn: line 20; the published code's softmax over the batch, or
        @exp_weights, the paper's.
      max_weight: clips the weights; neither paper nor code does.
      name: of the agent.
      **kwargs: of `QwrAgent`.
    """
    super().__init__(
      time_step_spec,
      action_spec,
      actor_network,
      critic_network,
      # Line 13: one step, the critic's mean.
      horizon=1,
      backup_actions=backup_actions,
      backup_fn=backups.mean_backup,
      target_update_fn=target_update_fn,
      # Line 18: what was done.
      regression_actions=action_sets.stored_actions,
      baseline_fn=functools.partial(
        advantages.critic_baseline, baseline_actions=baseline_actions
      ),
      weight_fn=weight_fn,
      max_weight=max_weight,
      name=name,
      **kwargs,
    )
