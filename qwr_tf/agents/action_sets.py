"""Action sets: the actions an expectation of Algorithm 2 is taken over.

An action set is n actions per state with log-weights that sum to one in
probability. Every source below is a function (agent, steps, seed) -> ActionSet
and can fill the slots of line 12 (backup), line 18 (regression) and line 19
(baseline). `steps` is a Trajectory with outer shape [...], one time step each.
"""

from collections.abc import Callable
from typing import NamedTuple

import gin
import tensorflow as tf
from tf_agents.specs import tensor_spec
from tf_agents.trajectories import trajectory
from tf_agents.typing import types

from qwr_tf.ops import cross_replica


class ActionSet(NamedTuple):
  """n actions per state and their weights.

  Attributes:
    actions: [n, ..., *action shape], or [n, 1, ...] where every state has the
      same n actions.
    log_weights: float, [n, ...] or broadcasting to it.
  """

  actions: tf.Tensor
  log_weights: tf.Tensor


def _sampled(distribution, num_actions: int, outer_rank: int, seed):
  actions = distribution.sample(num_actions, seed=seed)
  log_weights = tf.fill(
    [num_actions] + [1] * outer_rank,
    -tf.math.log(tf.cast(num_actions, tf.float32)),
  )
  # Nothing flows back into the distribution (and tfp must not recognise its
  # own samples, or log_prob would differentiate through them).
  return ActionSet(tf.stop_gradient(actions), log_weights)


def all_actions(action_spec: types.BoundedTensorSpec, outer_rank: int):
  """Every value of a discrete action, [n, 1, ...] with outer_rank ones."""
  if not tensor_spec.is_discrete(action_spec):
    raise ValueError(
      'Only discrete actions can be enumerated; for a continuous action space '
      'use @sampled_behavior_actions or @sampled_policy_actions.'
    )
  actions = tf.range(action_spec.maximum + 1, dtype=action_spec.dtype)
  return tf.reshape(actions, [-1] + [1] * outer_rank)


def _enumerated(agent, steps: trajectory.Trajectory, distribution) -> ActionSet:
  """All actions with their probabilities."""
  # Complains about continuous actions before logits are missed.
  actions = all_actions(agent.action_spec, _outer_rank(steps))
  log_probs = tf.nn.log_softmax(distribution.logits)  # [..., n]
  return ActionSet(actions, tf.stop_gradient(_sample_axis_first(log_probs)))


def _sample_axis_first(x: tf.Tensor) -> tf.Tensor:
  rank = x.shape.rank
  return tf.transpose(x, [rank - 1, *range(rank - 1)])


def _outer_rank(steps: trajectory.Trajectory) -> int:
  return steps.step_type.shape.rank


@gin.configurable
def sampled_behavior_actions(
  agent, steps: trajectory.Trajectory, seed: types.Seed, num_actions: int = 4
) -> ActionSet:
  """N fresh samples from the stored mu(.|s); never the taken action."""
  # Replicas together draw what one device would for the whole minibatch.
  info = cross_replica.tiled(steps.policy_info)
  distribution = agent.behavior_distribution(info)
  sampled = _sampled(distribution, num_actions, _outer_rank(steps), seed)
  return sampled._replace(actions=cross_replica.own(sampled.actions))


@gin.configurable
def enumerated_behavior_actions(
  agent, steps: trajectory.Trajectory, seed: types.Seed
) -> ActionSet:
  """All discrete actions, weighted by the stored mu(a|s)."""
  del seed
  mu = agent.behavior_distribution(steps.policy_info)
  return _enumerated(agent, steps, mu)


@gin.configurable
def enumerated_uniform_actions(
  agent, steps: trajectory.Trajectory, seed: types.Seed
) -> ActionSet:
  """All discrete actions with equal weights (the authors' code on Gopher)."""
  del seed
  actions = all_actions(agent.action_spec, _outer_rank(steps))
  num_actions = tf.cast(actions.shape[0], tf.float32)
  log_weights = tf.zeros(actions.shape) - tf.math.log(num_actions)
  return ActionSet(actions, log_weights)


@gin.configurable
def sampled_policy_actions(
  agent, steps: trajectory.Trajectory, seed: types.Seed, num_actions: int = 1
) -> ActionSet:
  """N samples from the policy being trained (AWAC, CRR)."""
  distribution = agent.policy_distribution(steps.observation)
  seed = cross_replica.own_seed(seed)
  return _sampled(distribution, num_actions, _outer_rank(steps), seed)


@gin.configurable
def sampled_target_policy_actions(
  agent, steps: trajectory.Trajectory, seed: types.Seed, num_actions: int = 1
) -> ActionSet:
  """N samples from the target network of the policy (CRR's backup)."""
  distribution = agent.target_policy_distribution(steps.observation)
  seed = cross_replica.own_seed(seed)
  return _sampled(distribution, num_actions, _outer_rank(steps), seed)


@gin.configurable
def enumerated_policy_actions(
  agent, steps: trajectory.Trajectory, seed: types.Seed
) -> ActionSet:
  """All discrete actions, weighted by the policy being trained."""
  del seed
  policy = agent.policy_distribution(steps.observation)
  return _enumerated(agent, steps, policy)


@gin.configurable
def enumerated_target_policy_actions(
  agent, steps: trajectory.Trajectory, seed: types.Seed
) -> ActionSet:
  """All discrete actions, weighted by the target network of the policy."""
  del seed
  policy = agent.target_policy_distribution(steps.observation)
  return _enumerated(agent, steps, policy)


@gin.configurable
def greedy_actions(
  agent,
  steps: trajectory.Trajectory,
  seed: types.Seed,
  candidates: Callable | None = None,
) -> ActionSet:
  """The best of a set by the critic being trained, weight one (double Q).

  In the backup the target network then says what the action is worth that the
  other one chose, whatever F is (van Hasselt et al. 2016).

  Args:
    agent: its critic chooses.
    steps: the states.
    seed: of the candidates.
    candidates: source of the set; default all actions, or 4 samples from mu.
  """
  candidates = candidates or default(agent.action_spec)
  options = candidates(agent, steps, seed)
  q_values = agent.q_values(steps.observation, options.actions)  # [n, ...]
  best = tf.argmax(q_values, axis=0)[tf.newaxis]  # [1, ...]
  outer_rank = _outer_rank(steps)
  for _ in agent.action_spec.shape:
    best = best[..., tf.newaxis]
  chosen = tf.experimental.numpy.take_along_axis(options.actions, best, axis=0)
  return ActionSet(chosen, tf.zeros([1] * (1 + outer_rank)))


@gin.configurable
def stored_actions(
  agent, steps: trajectory.Trajectory, seed: types.Seed
) -> ActionSet:
  """The one action that was taken, weight one (AWR, AWAC, BC)."""
  del agent, seed
  log_weights = tf.zeros([1] * (1 + _outer_rank(steps)))
  return ActionSet(steps.action[tf.newaxis], log_weights)


def default(action_spec: types.BoundedTensorSpec):
  """The paper's source: all discrete actions, or 4 samples from mu."""
  if tensor_spec.is_discrete(action_spec):
    return enumerated_behavior_actions
  return sampled_behavior_actions
