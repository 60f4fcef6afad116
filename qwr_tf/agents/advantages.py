"""Stand-ins for Q(s, a_j) and V(s) in the advantage (lines 19-20).

An estimate is a function (states [B], actions [n, B]) -> [n, B]; a baseline a
function (states, actions, estimates) -> [B].
"""

import gin
import tensorflow as tf

from qwr_tf.agents import action_sets
from qwr_tf.agents.action_sets import ActionSet
from qwr_tf.agents.states import States
from qwr_tf.ops import backups


@gin.configurable
def critic_estimates(states: States, actions: ActionSet) -> tf.Tensor:
  """Q(s, a_j) from the critic being trained, [n, B]."""
  return states.q_values(actions.actions)


@gin.configurable
def return_estimates(states: States, actions: ActionSet) -> tf.Tensor:
  """The return G that followed, the same for every action, [n, B] (AWR)."""
  n = tf.shape(actions.log_weights)[0]
  return tf.tile(states.returns()[tf.newaxis], [n, 1])


@gin.configurable
def mean_estimate(
  states: States, actions: ActionSet, estimates: tf.Tensor
) -> tf.Tensor:
  """The weighted mean of the same n estimates, [B] (QWR, line 19)."""
  return backups.mean_backup(estimates, actions.log_weights)


@gin.configurable
def critic_baseline(
  states: States,
  actions: ActionSet,
  estimates: tf.Tensor,
  baseline_actions: action_sets.ActionSource = action_sets.stored_actions,
) -> tf.Tensor:
  """The critic's mean over an action set of its own, [B].

  V(s) with a critic that ignores actions (AWR); E_pi Q(s, a) with
  `baseline_actions` = @sampled_policy_actions (AWAC, CRR).
  """
  baseline_set = baseline_actions(states)
  q_values = states.q_values(baseline_set.actions)
  return backups.mean_backup(q_values, baseline_set.log_weights)


@gin.configurable
def no_baseline(
  states: States, actions: ActionSet, estimates: tf.Tensor
) -> tf.Tensor:
  """Zero, [B] (RWR)."""
  return tf.zeros_like(estimates[0])
