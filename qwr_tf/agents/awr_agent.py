"""Advantage-Weighted Regression (Peng et al. 2019) as slots of QwrAgent."""

from collections.abc import Callable
from typing import Any

import gin
from tf_agents.typing import types

from qwr_tf.agents import action_sets
from qwr_tf.agents import advantages
from qwr_tf.agents import qwr_agent
from qwr_tf.ops import backups


@gin.configurable
class AwrAgent(qwr_agent.QwrAgent):
  """Regresses V onto returns, and the policy onto what was done.

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

  def __init__(
    self,
    time_step_spec: types.TimeStep,
    action_spec: types.NestedTensorSpec,
    actor_network,
    critic_network,
    *,
    td_lambda: float = 0.95,
    horizon: int = 32,
    baseline_fn: Callable = advantages.critic_baseline,
    name: str = 'AwrAgent',
    **kwargs: Any,
  ):
    """Fills the slots; everything else is `QwrAgent`'s.

    Args:
      time_step_spec: of the environment.
      action_spec: one bounded spec, an integer or a float vector.
      actor_network: observation -> tfp distribution.
      critic_network: of V(s), a `networks.ValueNetwork`.
      td_lambda: weight of longer returns; 1 is Monte Carlo.
      horizon: steps after which `train` bootstraps; gamma lambda to this power
        is what it leaves out.
      baseline_fn: line 19.
      name: of the agent.
      **kwargs: of `QwrAgent`.
    """
    super().__init__(
      time_step_spec,
      action_spec,
      actor_network,
      critic_network,
      td_lambda=td_lambda,
      horizon=horizon,
      # Line 12: V ignores the action, any will do.
      backup_actions=action_sets.stored_actions,
      backup_fn=backups.mean_backup,
      # Line 18: what was done; line 20: the return that followed.
      regression_actions=action_sets.stored_actions,
      estimate_fn=advantages.return_estimates,
      baseline_fn=baseline_fn,
      name=name,
      **kwargs,
    )
