"""Actors without weights of their own: epsilon-greedy on a critic (DQN)."""

from collections.abc import Callable

import gin
import tensorflow as tf
import tensorflow_probability as tfp
from tf_agents.typing import types

from qwr_tf.networks import actors
from qwr_tf.networks import critics
from qwr_tf.networks import discrete_actions
from qwr_tf.networks import observations
from qwr_tf.networks import q_networks

# Floor of stored probabilities, so that mu has a logarithm.
MIN_PROBABILITY = 1e-8

_INSTEAD = 'Use a preset with an actor.'


class EpsilonGreedyActor(actors.Actor):
  """The critic's best action, or with probability epsilon a uniform one."""

  def __init__(
    self,
    observation_spec: types.TensorSpec,
    action_spec: types.BoundedTensorSpec,
    critic_network: critics.Critic,
    epsilon: Callable[[], tf.Tensor],
    name: str = 'EpsilonGreedyActor',
  ):
    """Builds the actor around a critic, which it does not copy.

    Raises:
      ValueError: for continuous actions, and discrete ones not from 0 on.
    """
    super().__init__(observation_spec, state_spec=(), name=name)
    self._num_actions = discrete_actions.number_of_actions(
      action_spec, type(self).__name__, _INSTEAD
    )
    self._action_spec = action_spec
    self._observation_spec = observation_spec
    self._critic = critic_network
    self.epsilon = epsilon

  @property
  def normalizer(self):
    """The normaliser of observations, or None."""
    return self._critic.normalizer

  @property
  def chain(self) -> list[tf.keras.layers.Layer] | None:
    """The layers of `outputs`, in order; None if it is no plain sequence."""
    critic = self._critic
    if type(critic) is q_networks.DiscreteQNetwork and critic.is_plain:
      return critic.encoder.chain_to(critic.head)
    return None

  def outputs(self, observation: tf.Tensor) -> tf.Tensor:
    """Values of all actions, float [..., actions]."""
    outer_rank = observations.outer_rank(observation, self._observation_spec)
    actions = discrete_actions.all_actions(self._action_spec, outer_rank)
    outputs = self._critic((observation, actions))[0]
    values = self._critic.representation.values(outputs)
    return tf.transpose(values, [*range(1, outer_rank + 1), 0])

  def distribution(
    self, observation: tf.Tensor
  ) -> tfp.distributions.Distribution:
    """The categorical distribution of epsilon-greedy actions."""
    best = tf.argmax(self.outputs(observation), axis=-1)
    epsilon = self.epsilon()
    greedy = (1.0 - epsilon) * tf.one_hot(best, self._num_actions)
    probabilities = greedy + epsilon / self._num_actions
    logits = tf.math.log(tf.maximum(probabilities, MIN_PROBABILITY))
    return tfp.distributions.Categorical(
      logits=logits, dtype=self._action_spec.dtype
    )


@gin.configurable
class NoActor(actors.Actor):
  """A uniform policy without weights, in the place of an actor (DQN)."""

  def __init__(
    self,
    observation_spec: types.TensorSpec,
    action_spec: types.BoundedTensorSpec,
    *,
    normalizer=None,
    name: str = 'NoActor',
  ):
    """Takes the arguments of all actors.

    Raises:
      ValueError: for continuous actions, and discrete ones not from 0 on.
    """
    super().__init__(observation_spec, state_spec=(), name=name)
    self._num_actions = discrete_actions.number_of_actions(
      action_spec, 'DQN', _INSTEAD
    )
    self._dtype_of_actions = action_spec.dtype
    self._observation_spec = observation_spec

  def distribution(
    self, observation: tf.Tensor
  ) -> tfp.distributions.Distribution:
    """A uniform categorical distribution."""
    outer = observations.outer_shape(observation, self._observation_spec)
    return tfp.distributions.Categorical(
      logits=tf.zeros(tf.concat([outer, [self._num_actions]], axis=0)),
      dtype=self._dtype_of_actions,
    )
