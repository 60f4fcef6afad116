"""Critics around other critics: twins, ensembles, distributions.

Any preset can bind one to `make_agent.critic_wrapper`; it is built of the
preset's `make_agent.critic_network`.
"""

from collections.abc import Callable
from typing import Any

import gin
import tensorflow as tf
from tf_agents.networks import network
from tf_agents.typing import types

from qwr_tf.config.ranges import PositiveInt
from qwr_tf.config.ranges import SignedFloat
from qwr_tf.networks import critics
from qwr_tf.networks import observations
from qwr_tf.ops import returns


class _Wrapper(critics.Critic):
  """A critic around one or more others."""

  def __init__(self, observation_spec, action_spec, members, name):
    super().__init__((observation_spec, action_spec), state_spec=(), name=name)
    self.members = members
    self.is_action_value = members[0].is_action_value

  @property
  def normalizer(self):
    """The observation normaliser that the members share, or None."""
    return self.members[0].normalizer

  def outputs(self, observation: tf.Tensor, actions: tf.Tensor) -> tf.Tensor:
    """Outputs of the first member, float [n, ..., num_outputs]."""
    return self.members[0]((observation, actions))[0]


@gin.configurable
class TwinCritic(_Wrapper):
  """The smaller of two critics' values (clipped double Q; TD3, AWAC)."""

  def __init__(
    self,
    observation_spec: types.TensorSpec,
    action_spec: types.BoundedTensorSpec,
    *,
    critic_fn: Callable = critics.GatedQNetwork,
    num_critics: PositiveInt = 2,
    normalizer: Callable[[tf.Tensor], tf.Tensor] | None = None,
    name: str = 'TwinCritic',
  ):
    """Builds the critics; other arguments as in `GatedQNetwork`.

    Args:
      critic_fn: makes each critic.
      num_critics: more critics are more pessimistic.
    """
    members = [
      critic_fn(observation_spec, action_spec, normalizer=normalizer)
      for _ in range(num_critics)
    ]
    super().__init__(observation_spec, action_spec, members, name)
    value_scale = members[0].representation.value_scale
    self.representation = returns.Minimum(value_scale)

  def outputs(self, observation: tf.Tensor, actions: tf.Tensor) -> tf.Tensor:
    """Values of each critic, float [n, ..., critics]."""
    outputs = [member((observation, actions))[0] for member in self.members]
    return tf.stack(outputs, axis=-1)


@gin.configurable
class RemCritic(_Wrapper):
  """A random ensemble mixture of Q-heads (Agarwal et al. 2020).

  K heads share a torso; `ops.returns.RandomMixture` says what they stand for.
  """

  def __init__(
    self,
    observation_spec: types.TensorSpec,
    action_spec: types.BoundedTensorSpec,
    *,
    critic_fn: Callable = critics.GatedQNetwork,
    num_heads: PositiveInt = 4,
    normalizer: Callable[[tf.Tensor], tf.Tensor] | None = None,
    name: str = 'RemCritic',
  ):
    """Builds the critic; other arguments as in `GatedQNetwork`.

    Args:
      critic_fn: makes the critic with the heads.
      num_heads: K.
    """
    members = [
      critic_fn(
        observation_spec,
        action_spec,
        num_outputs=num_heads,
        normalizer=normalizer,
      )
    ]
    super().__init__(observation_spec, action_spec, members, name)
    self.representation = returns.RandomMixture(
      members[0].representation.value_scale, num_heads
    )


@gin.configurable
class DistributionalCritic(_Wrapper):
  """The distribution of returns on a grid of atoms (C51; CRR).

  How F combines the distributions of n actions: `ops.returns.Categorical`.
  """

  def __init__(
    self,
    observation_spec: types.TensorSpec,
    action_spec: types.BoundedTensorSpec,
    *,
    critic_fn: Callable = critics.GatedQNetwork,
    min_value: SignedFloat | None = None,
    max_value: SignedFloat | None = None,
    num_atoms: PositiveInt = 51,
    normalizer: Callable[[tf.Tensor], tf.Tensor] | None = None,
    name: str = 'DistributionalCritic',
  ):
    """Builds the critic; other arguments as in `GatedQNetwork`.

    Args:
      critic_fn: makes the critic with the logits.
      min_value: lowest atom, a discounted return; lower ones are clipped to it.
        Required, as max_value is: the range depends on the rewards.
      max_value: highest atom.
      num_atoms: evenly spaced.

    Raises:
      ValueError: without two different atoms.
    """
    if min_value is None or max_value is None:
      raise ValueError(
        'Set DistributionalCritic.min_value and .max_value, bounds of the '
        'discounted returns.'
      )
    if num_atoms < 2 or min_value >= max_value:
      raise ValueError(
        'DistributionalCritic needs 2 atoms or more and min_value below '
        f'max_value, not {num_atoms} from {min_value} to {max_value}.'
      )
    members = [
      critic_fn(
        observation_spec,
        action_spec,
        num_outputs=num_atoms,
        value_scale=1.0,  # Logits have no units.
        normalizer=normalizer,
      )
    ]
    super().__init__(observation_spec, action_spec, members, name)
    atoms = tf.linspace(float(min_value), float(max_value), num_atoms)
    self.representation = returns.Categorical(atoms=atoms)


class TfAgentsCritic(critics.Critic):
  """A critic network of TF-Agents, whose input is (observation, action)."""

  def __init__(
    self,
    observation_spec: types.NestedTensorSpec,
    action_spec: types.BoundedTensorSpec,
    *,
    critic_network: network.Network,
    name: str = 'TfAgentsCritic',
  ):
    """Wraps a network from (observation [N], action [N]) to values [N]."""
    super().__init__((observation_spec, action_spec), state_spec=(), name=name)
    self._network = critic_network

  def copy(self, **kwargs: Any) -> 'TfAgentsCritic':
    """A critic with weights of its own."""
    network = self._network.copy(name=f'{self._network.name}Copy')
    return super().copy(**{'critic_network': network, **kwargs})

  def outputs(
    self, observation: types.NestedTensor, actions: tf.Tensor
  ) -> tf.Tensor:
    """Values, float [n, ...]; the whole network runs once per action."""
    specs = observation_spec, action_spec = self.input_tensor_spec
    outer = tf.broadcast_dynamic_shape(
      observations.outer_shape(observation, observation_spec),
      observations.outer_shape(actions, action_spec),
    )

    def rows(x: tf.Tensor, spec: types.TensorSpec) -> tf.Tensor:
      x = tf.broadcast_to(x, tf.concat([outer, spec.shape], axis=0))
      return tf.reshape(x, [-1, *spec.shape])

    inputs = tf.nest.map_structure(rows, (observation, actions), specs)
    values = self._network(inputs, step_type=(), network_state=())[0]
    return tf.reshape(values, outer)


def as_critic(critic_network: network.Network) -> critics.Critic:
  """Returns a `Critic` as it is, and wraps a critic network of TF-Agents.

  Raises:
    ValueError: for a network without (observation, action) as its input.
  """
  if isinstance(critic_network, critics.Critic):
    return critic_network
  specs = getattr(critic_network, 'input_tensor_spec', None)
  if not isinstance(specs, tuple) or len(specs) != 2:
    raise ValueError(
      'critic_network must be a qwr_tf.networks.Critic, for instance '
      'GatedQNetwork, or a network of TF-Agents that was made with '
      '(observation_spec, action_spec) and takes (observation, action), not '
      f'{type(critic_network).__name__}.'
    )
  return TfAgentsCritic(*specs, critic_network=critic_network)
