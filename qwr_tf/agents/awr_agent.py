"""Advantage-Weighted Regression (Peng et al. 2019) as slots of QwrAgent."""

from collections.abc import Callable
from typing import Any

import gin

from qwr_tf.agents import qwr_agent
from qwr_tf.agents import slots
from qwr_tf.config.ranges import PositiveInt
from qwr_tf.ops import backups


@gin.configurable
class AwrAgent(qwr_agent.QwrAgent):
  """Regresses V onto returns, and the policy onto the actions taken.

  An action weighs exp((G - V(s)) / beta) by the return G that followed it. For
  the published algorithm, iterate with `WholeTable`, which takes G along whole
  episodes and normalises advantages over the table; `horizon` then counts only
  for `train`, on windows of a stock replay buffer. Further settings:

  * `networks.ValueNetwork` as the critic;
  * Reward-Weighted Regression: `networks.NoCritic`, no critic steps,
    `td_lambda` 1, `baseline_fn` = @no_baseline, `Collector.on_policy`;
  * AWR's ablations: `td_lambda` 1; `baseline_fn` = @no_baseline;
    `Collector.on_policy`.
  """

  # Arguments of `QwrAgent` that the constructor passes and does not take.
  fixed_parameters = frozenset(
    {'backup_actions', 'backup_fn', 'regression_actions', 'estimate_fn'}
  )

  def __init__(
    self,
    *args: Any,
    horizon: PositiveInt = 32,
    baseline_fn: Callable = slots.critic_baseline,
    name: str = 'AwrAgent',
    **kwargs: Any,
  ):
    """Fills the slots; all other arguments are `QwrAgent`'s.

    Args:
      horizon: steps after which `train` bootstraps; it neglects terms of
        size (gamma lambda)^horizon.
      baseline_fn: line 19.
    """
    super().__init__(
      *args,
      horizon=horizon,
      # Line 12: V ignores the action, any will do.
      backup_actions=slots.stored_actions,
      backup_fn=backups.mean_backup,
      # Line 18: the action taken; line 20: the return that followed.
      regression_actions=slots.stored_actions,
      estimate_fn=slots.return_estimates,
      baseline_fn=baseline_fn,
      name=name,
      **kwargs,
    )
