"""What stands for Q(s, a_j) and for V(s) in the advantage (lines 19-20).

An estimate is a function (agent, experience, actions, seed) -> [n, B], a
baseline a function (agent, experience, actions, estimates, seed) -> [B].
`experience` is a window [B, T + 1], `actions` the ActionSet of line 18 at its
first step.
"""

import gin
import tensorflow as tf
from tf_agents.trajectories import trajectory
from tf_agents.typing import types

from qwr_tf.agents import action_sets
from qwr_tf.agents import windows
from qwr_tf.ops import backups


@gin.configurable
def critic_estimates(
  agent,
  experience: trajectory.Trajectory,
  actions: action_sets.ActionSet,
  seed: types.Seed,
) -> tf.Tensor:
  """Q(s, a_j) from the critic being trained, [n, B]."""
  del seed
  return agent.q_values(experience.observation[:, 0], actions.actions)


@gin.configurable
def return_estimates(
  agent,
  experience: trajectory.Trajectory,
  actions: action_sets.ActionSet,
  seed: types.Seed,
) -> tf.Tensor:
  """The window's return G, the same for every action, [n, B] (AWR)."""
  targets = agent.td_targets(experience, seed)[:, 0]
  returns = agent.critic_network.means(targets)  # [B]
  n = tf.shape(actions.log_weights)[0]
  return tf.tile(returns[tf.newaxis], [n, 1])


@gin.configurable
def mean_estimate(
  agent,
  experience: trajectory.Trajectory,
  actions: action_sets.ActionSet,
  estimates: tf.Tensor,
  seed: types.Seed,
) -> tf.Tensor:
  """The weighted mean of the same n estimates, [B] (QWR, line 19)."""
  del agent, experience, seed
  return backups.mean_backup(estimates, actions.log_weights)


@gin.configurable
def critic_baseline(
  agent,
  experience: trajectory.Trajectory,
  actions: action_sets.ActionSet,
  estimates: tf.Tensor,
  seed: types.Seed,
  baseline_actions=action_sets.stored_actions,
) -> tf.Tensor:
  """The critic's mean over a set of its own, [B].

  V(s) with a critic that ignores actions (AWR); E_pi Q(s, a) with
  `baseline_actions` = @sampled_policy_actions (AWAC, CRR).
  """
  del actions, estimates
  first = windows.first_step(experience)
  own = baseline_actions(agent, first, seed)
  q_values = agent.q_values(first.observation, own.actions)
  return backups.mean_backup(q_values, own.log_weights)


@gin.configurable
def no_baseline(
  agent,
  experience: trajectory.Trajectory,
  actions: action_sets.ActionSet,
  estimates: tf.Tensor,
  seed: types.Seed,
) -> tf.Tensor:
  """Zero, [B] (RWR)."""
  del agent, experience, actions, seed
  return tf.zeros_like(estimates[0])
