"""Critics: values of (observation, action) pairs.

A critic takes observations [...] and n actions per state [n, ...]. The torso
runs once per state; only gate and head run n times.
"""

from collections.abc import Callable, Sequence

import gin
import tensorflow as tf
from tf_agents.networks import network
from tf_agents.networks import utils as network_utils
from tf_agents.specs import tensor_spec
from tf_agents.typing import types

from qwr_tf.config.ranges import PositiveFloat
from qwr_tf.config.ranges import PositiveInt
from qwr_tf.networks import discrete_actions
from qwr_tf.networks import encoders
from qwr_tf.networks import torsos
from qwr_tf.ops import returns


class Critic(network.Network):
  """A network of values; subclasses define `outputs`.

  `outputs` may be values, several heads or logits of a distribution;
  `representation` turns them into values, targets and losses.
  """

  # Whether the values are Q(s, a); V(s) otherwise.
  is_action_value = True

  # The arithmetic on outputs, see `ops.returns`.
  representation = returns.Numbers()

  @property
  def normalizer(self):
    """The normaliser of observations, or None."""
    encoder = getattr(self, 'encoder', None)
    return encoder and encoder.normalizer

  def outputs(self, observation: tf.Tensor, actions: tf.Tensor) -> tf.Tensor:
    """Outputs for n actions per state.

    Args:
      observation: [...] and the observation's own axes.
      actions: [n, ...] and the action's own axes. They may also have the
        observation's outer shape [...], as in TF-Agents' critics, or [n, 1,
        ...] for the same n actions in every state.

    Returns:
      Float, [n, ...] and the critic's own axes.
    """
    raise NotImplementedError

  def call(
    self,
    inputs: tuple[tf.Tensor, tf.Tensor],
    step_type: tf.Tensor | None = None,
    network_state: Sequence = (),
    training: bool = False,
  ):
    """Returns (`outputs` of (observation, actions), network_state)."""
    return self.outputs(*inputs), network_state


def value_head(
  num_outputs: int | None, output_limit: float | None
) -> tf.keras.layers.Dense:
  """The last layer: one value, or num_outputs numbers."""
  return tf.keras.layers.Dense(
    num_outputs or 1,
    kernel_initializer=torsos.uniform_initializer(output_limit),
  )


def _action_embedding(action_spec: types.BoundedTensorSpec, width: int):
  """A linear embedding of actions; a table for discrete actions."""
  if tensor_spec.is_discrete(action_spec):
    num_actions = discrete_actions.number_of_actions(
      action_spec, 'A critic', 'Write an Actor and a Critic for them.'
    )
    # The initial values of a linear layer on one-hot actions.
    return tf.keras.layers.Embedding(
      num_actions, width, embeddings_initializer='glorot_uniform'
    )
  return tf.keras.layers.Dense(width)


@gin.configurable
class GatedQNetwork(Critic):
  """Q(s, a) = head(torso(s) * tanh(embed(a))) (QWR paper, section 6.5)."""

  def __init__(
    self,
    observation_spec: types.TensorSpec,
    action_spec: types.BoundedTensorSpec,
    *,
    torso_fn: torsos.TorsoFn = torsos.mlp_torso,
    gate_units: PositiveInt | None = None,
    post_gate_units: PositiveInt | None = None,
    post_gate_layer_norm: bool = False,
    output_limit: PositiveFloat | None = None,
    value_scale: PositiveFloat = 1.0,
    num_outputs: int | None = None,
    normalizer: Callable[[tf.Tensor], tf.Tensor] | None = None,
    name: str = 'GatedQNetwork',
  ):
    """Builds the critic.

    Args:
      torso_fn: makes the layers over the observation.
      gate_units: adds a linear layer of this width between torso and gate
        (the authors' code); None gates the torso's output.
      post_gate_units: adds a ReLU layer of this width before the value head
        (the authors' code).
      post_gate_layer_norm: LayerNorm right after the gate (the authors' code).
      output_limit: bound of the value head's uniform initial weights.
      value_scale: Q is this times the head's output, and the loss has the
        head's units; with 1 / (1 - gamma) the network predicts (1 - gamma) Q
        (the authors' code).
      num_outputs: numbers per action, on a last axis (`critic_wrappers`); None
        is one value without that axis.
      normalizer: applied to observations first; shared by copies.
    """
    super().__init__((observation_spec, action_spec), state_spec=(), name=name)
    self.encoder = encoders.Encoder(observation_spec, torso_fn, normalizer)
    self._gate_layer = tf.keras.layers.Dense(gate_units) if gate_units else None
    width = gate_units or self.encoder.width
    self._embedding = _action_embedding(action_spec, width)
    self._post_gate = []
    if post_gate_layer_norm:  # Epsilon is that of the authors' Trax.
      self._post_gate.append(tf.keras.layers.LayerNormalization(epsilon=1e-6))
    if post_gate_units:
      self._post_gate.append(
        tf.keras.layers.Dense(post_gate_units, activation='relu')
      )
    self._head = value_head(num_outputs, output_limit)
    self._num_outputs = num_outputs
    self.representation = returns.Numbers(value_scale)

  def outputs(self, observation: tf.Tensor, actions: tf.Tensor) -> tf.Tensor:
    """Values, float [n, ...]."""
    features = self.encoder(observation)  # [..., d]
    if self._gate_layer is not None:
      features = self._gate_layer(features)
    gated = features * tf.tanh(self._embedding(actions))  # [n, ..., d]
    # Keras' LayerNormalization wants one batch axis.
    squash = network_utils.BatchSquash(gated.shape.rank - 1)
    hidden = squash.flatten(gated)
    for layer in self._post_gate:
      hidden = layer(hidden)
    outputs = self._head(hidden)
    if self._num_outputs is None:
      outputs = outputs[..., 0]
    return self.representation.value_scale * squash.unflatten(outputs)


@gin.configurable
class ValueNetwork(Critic):
  """V(s), a critic that ignores the action."""

  is_action_value = False

  def __init__(
    self,
    observation_spec: types.TensorSpec,
    action_spec: types.BoundedTensorSpec,
    *,
    torso_fn: torsos.TorsoFn = torsos.mlp_torso,
    output_limit: PositiveFloat | None = None,
    value_scale: PositiveFloat = 1.0,
    num_outputs: int | None = None,
    normalizer: Callable[[tf.Tensor], tf.Tensor] | None = None,
    name: str = 'ValueNetwork',
  ):
    """Builds the critic; arguments as in `GatedQNetwork`."""
    super().__init__((observation_spec, action_spec), state_spec=(), name=name)
    self.encoder = encoders.Encoder(observation_spec, torso_fn, normalizer)
    self._head = value_head(num_outputs, output_limit)
    self._num_outputs = num_outputs
    self.representation = returns.Numbers(value_scale)
    self._action_rank = action_spec.shape.rank

  def outputs(self, observation: tf.Tensor, actions: tf.Tensor) -> tf.Tensor:
    """V(s) for each of the n actions: float [n, ...]."""
    raw = self.representation.value_scale * self._head(
      self.encoder(observation)
    )
    outer = tf.shape(actions)[: tf.rank(actions) - self._action_rank]
    shape = tf.broadcast_dynamic_shape(outer, tf.shape(raw)[:-1])
    outputs = tf.broadcast_to(raw, tf.concat([shape, tf.shape(raw)[-1:]], 0))
    return outputs if self._num_outputs else outputs[..., 0]


@gin.configurable
class NoCritic(Critic):
  """A critic of zeros, which learns nothing (RWR, BC)."""

  representation = returns.Nothing()

  def __init__(
    self,
    observation_spec: types.TensorSpec,
    action_spec: types.BoundedTensorSpec,
    *,
    num_outputs: int | None = None,
    value_scale: PositiveFloat = 1.0,
    normalizer: Callable[[tf.Tensor], tf.Tensor] | None = None,
    name: str = 'NoCritic',
  ):
    """Takes the arguments of all critics.

    Raises:
      ValueError: for num_outputs, which wrappers set.
    """
    if num_outputs:
      raise ValueError(
        'NoCritic has nothing to learn; remove make_agent.critic_wrapper.'
      )
    super().__init__((observation_spec, action_spec), state_spec=(), name=name)
    self._observation_rank = observation_spec.shape.rank
    self._action_rank = action_spec.shape.rank

  def outputs(self, observation: tf.Tensor, actions: tf.Tensor) -> tf.Tensor:
    """Zeros [n, ...]."""
    outer_rank = tf.rank(observation) - self._observation_rank
    states = tf.shape(observation)[:outer_rank]
    outer = tf.shape(actions)[: tf.rank(actions) - self._action_rank]
    return tf.zeros(tf.broadcast_dynamic_shape(outer, states))
