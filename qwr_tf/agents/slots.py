"""Functions for the slots of lines 12 and 18-20, and their input `States`.

* An action source (lines 12 and 18) is a function States [...] -> ActionSet:
  n actions per state with log-weights whose exponentials sum to one.
* An estimate stands for Q(s, a_j) (line 20), a function (states [B], actions
  [n, B]) -> [n, B].
* A baseline stands for V(s) (line 19), a function (states, actions, estimates)
  -> [B].

Functions for other slots: `policies.behavior_policy` (line 5),
`target_updates` (lines 8-9), `minibatches` (lines 11 and 17), `ops.backups`
(line 13), `ops.regression` (the weights of line 20), `penalties` (line 21).
"""

import copy
import functools
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import gin
import tensorflow as tf
import tensorflow_probability as tfp
from tf_agents.distributions import utils as distribution_utils
from tf_agents.specs import tensor_spec
from tf_agents.trajectories import trajectory
from tf_agents.typing import types

from qwr_tf.config.ranges import PositiveInt
from qwr_tf.networks import discrete_actions
from qwr_tf.networks.discrete_actions import all_actions
from qwr_tf.ops import returns
from qwr_tf.ops.regression import ActionSet
from qwr_tf.policies import behavior_policy
from qwr_tf.replicas import replicas

Distribution: TypeAlias = tfp.distributions.Distribution


class Networks(NamedTuple):
  """The agent's networks, and the specs of mu and of an action."""

  actor: Any
  critic: Any
  target_actor: Any
  target_critic: Any
  behavior_spec: distribution_utils.DistributionSpecV2
  action_spec: types.BoundedTensorSpec


class States:
  """A batch of states [...]: the stored mu, the policy and the critics there.

  With `q_vectors` (`ExactReuse`) there are no observations: the stored mu and
  the critic `q_vectors_of` work, the policies and the other critic raise
  ValueError.

  Attributes:
    taken: the actions that were taken, [...] and the action's own axes.
    policy_info: the parameters of mu, as stored.
    behavior_spec: what they are parameters of.
    outer_rank: the number of leading axes [...].
    action_spec: of one action.
    seed: stateless seed of all draws of one slot, int [2].
  """

  def __init__(
    self,
    networks: Networks,
    steps: trajectory.Trajectory,
    seed: types.Seed,
    returns_fn: Callable[[types.Seed], tf.Tensor] | None = None,
    q_vectors: tf.Tensor | None = None,
    q_vectors_of: Any = None,
    previous: trajectory.Trajectory | None = None,
  ):
    """Wraps one time step of experience for each state.

    Args:
      steps: outer shape [...].
      returns_fn: seed -> lambda-returns of these states, [...].
      q_vectors: a critic's outputs for all discrete actions, [..., actions]
        and the critic's own axes.
      q_vectors_of: the network whose outputs they are.
      previous: see `Critic.next_outputs`.
    """
    self._networks = networks
    self._observation = steps.observation
    self._returns_fn = returns_fn
    self._q_vectors = q_vectors
    self._q_vectors_of = q_vectors_of
    self._previous = previous
    self.taken = steps.action
    self.policy_info = steps.policy_info
    self.behavior_spec = networks.behavior_spec
    self.outer_rank = steps.step_type.shape.rank
    self.action_spec = networks.action_spec
    self.seed = seed

  def split_seed(self, num: int) -> list['States']:
    """The same states `num` times, each with a seed of its own."""
    seeds = tf.random.experimental.stateless_split(self.seed, num)
    result = [copy.copy(self) for _ in range(num)]
    for states, seed in zip(result, tf.unstack(seeds), strict=True):
      states.seed = seed
    return result

  @property
  def actor_variables(self) -> list[tf.Variable]:
    """Weights of the network being regressed."""
    return self._networks.actor.trainable_variables

  def behavior(self) -> Distribution:
    """The stored mu(.|s)."""
    return restore_distribution(self.behavior_spec, self.policy_info)

  def policy(self) -> Distribution:
    """pi(.|s), the policy being trained."""
    return self._policy(self._networks.actor)

  def target_policy(self) -> Distribution:
    """The distribution of the actor's target network at s."""
    return self._policy(self._networks.target_actor)

  def target_outputs(self, actions: tf.Tensor) -> tf.Tensor:
    """Outputs of the target network for actions [n, ...]."""
    return self._outputs(self._networks.target_critic, actions, self._previous)

  def q_values(self, actions: tf.Tensor) -> tf.Tensor:
    """Q(s, a) of the critic being trained, float [n, ...], no gradient."""
    critic = self._networks.critic
    values = critic.representation.values(self._outputs(critic, actions))
    return tf.stop_gradient(values)

  def returns(self) -> tf.Tensor:
    """Returns that followed in the experience, float [...]."""
    if self._returns_fn is None:
      raise ValueError(
        'There are no returns for these states; use '
        'iterate.minibatches_fn = @WholeTable or @PerMinibatch.'
      )
    return self._returns_fn(self.seed)

  def _policy(self, actor) -> Distribution:
    if self._q_vectors is not None:
      raise ValueError(
        'A slot needs the policy at s, for which ExactReuse has no '
        'observations; use iterate.minibatches_fn = @PerMinibatch.'
      )
    return distribution(actor, self._observation)

  def _outputs(self, critic, actions: tf.Tensor, previous=None) -> tf.Tensor:
    """Outputs of a critic, [n, ...] and its own axes."""
    if self._q_vectors is None:
      return critic.next_outputs((self._observation, actions), previous)
    if critic is not self._q_vectors_of:
      raise ValueError(
        'A slot needs the critic that ExactReuse has not cached (the target '
        'network while the critic learns, the critic while the actor does); '
        'use iterate.minibatches_fn = @PerMinibatch.'
      )
    return discrete_actions.chosen_outputs(
      self._q_vectors, actions, self.action_spec, self.outer_rank
    )


def restore_distribution(
  spec: distribution_utils.DistributionSpecV2, policy_info: Any
) -> Distribution:
  """mu(.|s) from what was stored, policy_info [...] to batch shape [...]."""
  parameters = distribution_utils.merge_to_parameters_from_dict(
    spec.parameters, policy_info[behavior_policy.DIST_PARAMS]
  )
  return distribution_utils.make_from_parameters(parameters)


def distribution(network, observation) -> Distribution:
  """The distribution of an actor network at observations [...]."""
  # TF-Agents' own networks want all three arguments.
  return network(observation, step_type=None, network_state=())[0]


def check_advantages(
  estimate_fn: Callable, baseline_fn: Callable, weight_fn: Callable, critic: Any
) -> None:
  """Raises ValueError where all actions of a state have the same estimate.

  Their advantages over the mean are 0, and the actor would clone the actions.
  """
  estimate, baseline, weights = (
    getattr(f, '__name__', '') for f in (estimate_fn, baseline_fn, weight_fn)
  )
  is_constant = isinstance(critic.representation, returns.Nothing)
  ignores_action = estimate == 'return_estimates' or (
    estimate == 'critic_estimates'
    and (is_constant or not critic.is_action_value)
  )
  clones = weights == 'uniform_weights'
  if ignores_action and baseline == 'mean_estimate' and not clones:
    raise ValueError(
      f'With {estimate} of {type(critic).__name__} less their mean all '
      'advantages are 0; use a critic of (s, a), such as @GatedQNetwork, or '
      'baseline_fn = @critic_baseline.'
    )


# Action sources (lines 12 and 18).


ActionSource = Callable[[States], ActionSet]


@gin.configurable
def sampled_behavior_actions(
  states: States, num_actions: PositiveInt = 4
) -> ActionSet:
  """New samples from the stored mu(.|s); the taken action is not used.

  Args:
    num_actions: n, samples per state. With 1 and `mean_estimate` all advantages
      are 0: the actor clones mu.
  """
  mu = functools.partial(restore_distribution, states.behavior_spec)
  samples = replicas.sample(mu, states.policy_info, num_actions, states.seed)
  return _equally_weighted(samples, states)


@gin.configurable
def sampled_policy_actions(
  states: States, num_actions: PositiveInt = 1
) -> ActionSet:
  """Samples from the policy being trained (AWAC, CRR).

  Args:
    num_actions: samples per state.
  """
  seed = replicas.own_seed(states.seed)
  return _equally_weighted(states.policy().sample(num_actions, seed), states)


@gin.configurable
def sampled_target_policy_actions(
  states: States, num_actions: PositiveInt = 1
) -> ActionSet:
  """Samples from the target network of the policy (CRR's backup).

  Args:
    num_actions: samples per state.
  """
  seed = replicas.own_seed(states.seed)
  samples = states.target_policy().sample(num_actions, seed)
  return _equally_weighted(samples, states)


@gin.configurable
def mirrored_target_policy_actions(
  states: States, num_actions: PositiveInt = 4
) -> ActionSet:
  """Samples of the policy's target network, each with its mirror image.

  Beside a sample m + e there is m - e, so the mean of the set is the policy's
  mean m. With equal weights line 21 then leaves the mean where it is, whereas
  independent samples move it by sigma / sqrt(n) at random (antithetic sampling,
  Hammersley and Morton 1956; in evolution strategies, Salimans et al. 2017).

  Args:
    num_actions: n, an even number.

  Raises:
    ValueError: for an odd number, or discrete actions.
  """
  if num_actions % 2:
    raise ValueError(
      'mirrored_target_policy_actions.num_actions must be even, not '
      f'{num_actions}.'
    )
  if tensor_spec.is_discrete(states.action_spec):
    raise ValueError(
      'mirrored_target_policy_actions is for continuous actions; use '
      '@enumerated_target_policy_actions.'
    )
  policy = states.target_policy()
  samples = policy.sample(num_actions // 2, replicas.own_seed(states.seed))
  mirrored = 2.0 * policy.mean() - samples
  return _equally_weighted(tf.concat([samples, mirrored], axis=0), states)


def _equally_weighted(actions: tf.Tensor, states: States) -> ActionSet:
  n = actions.shape[0]
  log_weights = tf.fill(
    [n] + [1] * states.outer_rank, -tf.math.log(tf.cast(n, tf.float32))
  )
  # Stops gradients to the distribution, also those of log_prob through tfp's
  # cache of samples.
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
  # First, so that continuous actions raise this function's ValueError.
  actions = all_actions(states.action_spec, states.outer_rank)
  policy = distribution_fn()
  if states.action_spec.shape.rank:
    log_probs = policy.log_prob(actions)
  else:
    log_probs = tf.nn.log_softmax(policy.logits)  # [..., n]
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
  """The candidate with the highest Q of the critic, weight one (double Q).

  In the backup the target network then evaluates this action; with one action
  every F returns its value (van Hasselt et al. 2016).

  Args:
    candidates: source of the set; default all actions, or 4 samples from mu.
  """
  options = (candidates or default_actions(states.action_spec))(states)
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


def default_actions(action_spec: types.BoundedTensorSpec) -> ActionSource:
  """All discrete actions (vectors: up to 64); else 4 samples from mu."""
  if discrete_actions.is_enumerable(action_spec):
    return enumerated_behavior_actions
  return sampled_behavior_actions


# Estimates and baselines (lines 19-20).


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
  """The weighted mean of the n estimates at a state, [B] (QWR, line 19)."""
  return tf.reduce_sum(tf.exp(actions.log_weights) * estimates, axis=0)


@gin.configurable
def critic_baseline(
  states: States,
  actions: ActionSet,
  estimates: tf.Tensor,
  baseline_actions: ActionSource = stored_actions,
) -> tf.Tensor:
  """The critic's mean over the actions of `baseline_actions`, [B].

  V(s) with a critic that ignores actions (AWR); E_pi Q(s, a) with
  `baseline_actions` = @sampled_policy_actions (AWAC, CRR).

  Args:
    baseline_actions: the actions whose values are averaged.
  """
  baseline_set = baseline_actions(states)
  q_values = states.q_values(baseline_set.actions)
  return tf.reduce_sum(tf.exp(baseline_set.log_weights) * q_values, axis=0)


@gin.configurable
def no_baseline(
  states: States, actions: ActionSet, estimates: tf.Tensor
) -> tf.Tensor:
  """Zero, [B] (RWR)."""
  return tf.zeros_like(estimates[0])
