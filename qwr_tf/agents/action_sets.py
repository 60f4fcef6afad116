"""Action sets: the actions an expectation of Algorithm 2 is taken over.

An action set is n actions per state with log-weights whose exponentials sum to
one. An action source is a function States [...] -> ActionSet. It fills line 12
(backup), line 18 (regression) or line 19 (baseline).
"""

from collections.abc import Callable
from typing import NamedTuple

import gin
import tensorflow as tf
from tf_agents.specs import tensor_spec
from tf_agents.typing import types

from qwr_tf.agents import replicas
from qwr_tf.agents.states import States
from qwr_tf.agents.states import all_actions


class ActionSet(NamedTuple):
  """n actions per state and their weights.

  Attributes:
    actions: [n, ..., *action shape], or [n, 1, ...] where every state has the
      same n actions.
    log_weights: float, [n, ...] or broadcasting to it.
  """

  actions: tf.Tensor
  log_weights: tf.Tensor


ActionSource = Callable[[States], ActionSet]


@gin.configurable
def sampled_behavior_actions(states: States, num_actions: int = 4) -> ActionSet:
  """N fresh samples from the stored mu(.|s); never the taken action."""
  # Replicas together draw what one device would for the whole minibatch.
  mu = states.behavior(replicas.tiled)
  samples = _samples(mu, num_actions, states, states.seed)
  return samples._replace(actions=replicas.own(samples.actions))


@gin.configurable
def sampled_policy_actions(states: States, num_actions: int = 1) -> ActionSet:
  """N samples from the policy being trained (AWAC, CRR)."""
  seed = replicas.own_seed(states.seed)
  return _samples(states.policy(), num_actions, states, seed)


@gin.configurable
def sampled_target_policy_actions(
  states: States, num_actions: int = 1
) -> ActionSet:
  """N samples from the target network of the policy (CRR's backup)."""
  seed = replicas.own_seed(states.seed)
  return _samples(states.target_policy(), num_actions, states, seed)


def _samples(distribution, num_actions: int, states: States, seed) -> ActionSet:
  actions = distribution.sample(num_actions, seed=seed)
  log_weights = tf.fill(
    [num_actions] + [1] * states.outer_rank,
    -tf.math.log(tf.cast(num_actions, tf.float32)),
  )
  # Nothing flows back into the distribution (and tfp must not recognise its
  # own samples, or log_prob would differentiate through them).
  return ActionSet(tf.stop_gradient(actions), log_weights)


@gin.configurable
def enumerated_behavior_actions(states: States) -> ActionSet:
  """All discrete actions, weighted by the stored mu(a|s)."""
  return _enumerated(states, states.behavior)


@gin.configurable
def enumerated_policy_actions(states: States) -> ActionSet:
  """All discrete actions, weighted by the policy being trained."""
  return _enumerated(states, states.policy)


@gin.configurable
def enumerated_target_policy_actions(states: States) -> ActionSet:
  """All discrete actions, weighted by the target network of the policy."""
  return _enumerated(states, states.target_policy)


def _enumerated(states: States, distribution_fn: Callable) -> ActionSet:
  # Complains about continuous actions before logits are missed.
  actions = all_actions(states.action_spec, states.outer_rank)
  log_probs = tf.nn.log_softmax(distribution_fn().logits)  # [..., n]
  rank = log_probs.shape.rank
  log_probs = tf.transpose(log_probs, [rank - 1, *range(rank - 1)])
  return ActionSet(actions, tf.stop_gradient(log_probs))


@gin.configurable
def enumerated_uniform_actions(states: States) -> ActionSet:
  """All discrete actions with equal weights (the authors' code on Gopher)."""
  actions = all_actions(states.action_spec, states.outer_rank)
  num_actions = tf.cast(actions.shape[0], tf.float32)
  log_weights = tf.zeros(actions.shape) - tf.math.log(num_actions)
  return ActionSet(actions, log_weights)


@gin.configurable
def greedy_actions(
  states: States, candidates: ActionSource | None = None
) -> ActionSet:
  """The best of a set by the critic being trained, weight one (double Q).

  In the backup the target network then evaluates the action that the critic
  chose, whatever F is (van Hasselt et al. 2016).

  Args:
    states: [...].
    candidates: source of the set; default all actions, or 4 samples from mu.
  """
  options = (candidates or default(states.action_spec))(states)
  best = tf.argmax(states.q_values(options.actions), axis=0)[tf.newaxis]
  for _ in states.action_spec.shape:
    best = best[..., tf.newaxis]
  chosen = tf.experimental.numpy.take_along_axis(options.actions, best, axis=0)
  return ActionSet(chosen, tf.zeros([1] * (1 + states.outer_rank)))


@gin.configurable
def stored_actions(states: States) -> ActionSet:
  """The one action that was taken, weight one (AWR, AWAC, BC)."""
  log_weights = tf.zeros([1] * (1 + states.outer_rank))
  return ActionSet(states.taken[tf.newaxis], log_weights)


def default(action_spec: types.BoundedTensorSpec) -> ActionSource:
  """The paper's source: all discrete actions, or 4 samples from mu."""
  if tensor_spec.is_discrete(action_spec):
    return enumerated_behavior_actions
  return sampled_behavior_actions
