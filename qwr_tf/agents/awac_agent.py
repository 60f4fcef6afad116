"""Advantage-Weighted Actor-Critic (Nair et al. 2020) as slots of QwrAgent."""

import functools
from collections.abc import Callable
from typing import Any

import gin

from qwr_tf.agents import qwr_agent
from qwr_tf.agents import slots
from qwr_tf.agents import target_updates
from qwr_tf.config.ranges import PositiveFloat
from qwr_tf.ops import backups
from qwr_tf.ops import regression


@gin.configurable
class AwacAgent(qwr_agent.QwrAgent):
  """Q of the current policy, and weighted regression onto the taken actions.

  The backup uses one action of the current policy, and so does the baseline;
  an action from the table weighs exp((Q(s, a) - Q(s, a~pi)) / beta). Give it a
  `networks.TwinCritic`, and iterate in rounds of one critic and one actor step,
  as many as there are interactions.
  """

  # Arguments of `QwrAgent` that the constructor passes and does not take.
  fixed_parameters = frozenset(
    {'horizon', 'backup_fn', 'regression_actions', 'baseline_fn'}
  )

  def __init__(
    self,
    *args: Any,
    backup_actions: slots.ActionSource = slots.sampled_policy_actions,
    baseline_actions: slots.ActionSource = slots.sampled_policy_actions,
    target_update_fn: Callable = target_updates.polyak_update,
    weight_fn: regression.WeightFn = regression.softmax_weights,
    max_weight: PositiveFloat = 1e30,
    name: str = 'AwacAgent',
    **kwargs: Any,
  ):
    """Fills the slots; all other arguments are `QwrAgent`'s.

    Args:
      backup_actions: line 12, of the policy.
      baseline_actions: line 19, likewise.
      target_update_fn: lines 8-9.
      weight_fn: line 20; the published code's softmax over the batch, or
        @exp_weights, the paper's.
      max_weight: clips the weights; neither paper nor code does.
    """
    super().__init__(
      *args,
      horizon=1,  # Line 13: one step, the critic's mean.
      backup_actions=backup_actions,
      backup_fn=backups.mean_backup,
      target_update_fn=target_update_fn,
      regression_actions=slots.stored_actions,  # Line 18
      baseline_fn=functools.partial(
        slots.critic_baseline, baseline_actions=baseline_actions
      ),
      weight_fn=weight_fn,
      max_weight=max_weight,
      name=name,
      **kwargs,
    )
