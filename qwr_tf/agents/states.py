"""States of a minibatch as the slots of Algorithm 2 see them."""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import tensorflow as tf
import tensorflow_probability as tfp
from tf_agents.specs import tensor_spec
from tf_agents.trajectories import trajectory
from tf_agents.typing import types

Distribution: TypeAlias = tfp.distributions.Distribution


class Networks(NamedTuple):
  """Everything that answers questions about a state.

  Attributes:
    actor: the network being regressed, pi.
    critic: the critic being trained.
    target_actor: follows the actor (lines 8-9).
    target_critic: the target network.
    restore_distribution: stored policy_info -> mu.
    action_spec: of one action.
  """

  actor: Any
  critic: Any
  target_actor: Any
  target_critic: Any
  restore_distribution: Callable[[Any], Distribution]
  action_spec: types.BoundedTensorSpec


class States:
  """A batch of states [...], with what was done and stored there.

  Attributes:
    taken: the actions that were taken, [...] and the action's own axes.
    outer_rank: the number of leading axes, ....
    action_spec: of one action.
    seed: stateless seed of everything a slot draws here.
  """

  def __init__(
    self,
    networks: Networks,
    steps: trajectory.Trajectory,
    seed: types.Seed,
    returns_fn: Callable[[types.Seed], tf.Tensor] | None = None,
  ):
    """Wraps one time step of experience for each state.

    Args:
      networks: answer the questions below.
      steps: outer shape [...].
      seed: int [2].
      returns_fn: seed -> returns that followed, [...].
    """
    self._networks = networks
    self._steps = steps
    self._returns_fn = returns_fn
    self.taken = steps.action
    self.outer_rank = steps.step_type.shape.rank
    self.action_spec = networks.action_spec
    self.seed = seed

  @property
  def actor_variables(self) -> list[tf.Variable]:
    """Weights of the network being regressed."""
    return self._networks.actor.trainable_variables

  def with_seed(self, seed: types.Seed) -> 'States':
    """The same states with another seed."""
    other = object.__new__(type(self))
    vars(other).update(vars(self), seed=seed)
    return other

  def cached(self, q_vectors: tf.Tensor, of_target: bool) -> 'CachedStates':
    """The same states, with one of the critics' outputs known."""
    return CachedStates(
      self._networks, self._steps, self.seed, q_vectors, of_target
    )

  def behavior(self, tile_fn: Callable = lambda info: info) -> Distribution:
    """mu(.|s) as it was stored; `tile_fn` changes the stored parameters."""
    return self._networks.restore_distribution(tile_fn(self._steps.policy_info))

  def policy(self) -> Distribution:
    """pi(.|s), the policy being trained."""
    return distribution(self._networks.actor, self._steps.observation)

  def target_policy(self) -> Distribution:
    """The policy's target network at s."""
    return distribution(self._networks.target_actor, self._steps.observation)

  def critic_outputs(self, actions: tf.Tensor) -> tf.Tensor:
    """Outputs of the critic being trained for actions [n, ...]."""
    return self._networks.critic((self._steps.observation, actions))[0]

  def target_outputs(self, actions: tf.Tensor) -> tf.Tensor:
    """Outputs of the target network for actions [n, ...]."""
    return self._networks.target_critic((self._steps.observation, actions))[0]

  def q_values(self, actions: tf.Tensor) -> tf.Tensor:
    """Q(s, a) of the critic being trained, float [n, ...], no gradient."""
    representation = self._networks.critic.representation
    return tf.stop_gradient(representation.values(self.critic_outputs(actions)))

  def returns(self) -> tf.Tensor:
    """Returns that followed in the experience, float [...].

    Raises:
      ValueError: where the experience has none.
    """
    if self._returns_fn is None:
      raise ValueError('Returns are known of the first states of windows only.')
    return self._returns_fn(self.seed)


class CachedStates(States):
  """States whose Q-values are known for all discrete actions.

  They have no observations: questions about the policy being trained, or about
  the other critic, raise ValueError.
  """

  def __init__(
    self,
    networks: Networks,
    steps: trajectory.Trajectory,
    seed: types.Seed,
    q_vectors: tf.Tensor,
    of_target: bool,
  ):
    """Wraps steps and the outputs of one of the critics there.

    Args:
      networks: whose critic the outputs are of.
      steps: outer shape [...]; observations are not read.
      seed: int [2].
      q_vectors: outputs for all actions, [..., actions] and the critic's axes.
      of_target: whether they are the target network's.
    """
    super().__init__(networks, steps, seed)
    self._q_vectors = q_vectors
    self._of_target = of_target

  def policy(self) -> Distribution:
    """Raises ValueError: there are no observations."""
    raise _no_observations()

  def target_policy(self) -> Distribution:
    """Raises ValueError: there are no observations."""
    raise _no_observations()

  def critic_outputs(self, actions: tf.Tensor) -> tf.Tensor:
    """Cached outputs of the critic being trained, [n, ...]."""
    return self._entries(actions, of_target=False)

  def target_outputs(self, actions: tf.Tensor) -> tf.Tensor:
    """Cached outputs of the target network, [n, ...]."""
    return self._entries(actions, of_target=True)

  def _entries(self, actions: tf.Tensor, of_target: bool) -> tf.Tensor:
    """Entries of the Q-vectors, [n, ...] and the critic's own axes."""
    if of_target != self._of_target:
      raise ValueError(
        'ExactReuse caches the values of the target network while the critic '
        'learns, and of the critic while the actor does; use '
        'iterate.minibatches_fn = @PerMinibatch for slots that ask the other '
        'one.'
      )
    own_axes = self._q_vectors.shape.rank - self.outer_rank - 1
    axis = -1 - own_axes
    chosen = tf.one_hot(actions, self._q_vectors.shape[axis])
    for _ in range(own_axes):
      chosen = chosen[..., tf.newaxis]
    return tf.reduce_sum(chosen * self._q_vectors, axis=axis)


def distribution(network, observation) -> Distribution:
  """The distribution of an actor network at observations [...]."""
  # TF-Agents' own networks want all three arguments.
  return network(observation, step_type=None, network_state=())[0]


def all_actions(
  action_spec: types.BoundedTensorSpec, outer_rank: int
) -> tf.Tensor:
  """Every value of a discrete action, [n, 1, ...] with outer_rank ones.

  Raises:
    ValueError: for continuous actions.
  """
  if not tensor_spec.is_discrete(action_spec):
    raise ValueError(
      'Only discrete actions can be enumerated; for a continuous action space '
      'use @sampled_behavior_actions or @sampled_policy_actions.'
    )
  actions = tf.range(action_spec.maximum + 1, dtype=action_spec.dtype)
  return tf.reshape(actions, [-1] + [1] * outer_rank)


def _no_observations() -> ValueError:
  return ValueError(
    'ExactReuse has no observations for actions of the current policy; use '
    'iterate.minibatches_fn = @PerMinibatch.'
  )
