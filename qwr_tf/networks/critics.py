"""Critics: values of (observation, action) pairs.

A critic is called with an observation batch [...] and n actions per state
[n, ...]; the torso runs once per state and only gate and head run n times.
"""

from collections.abc import Callable, Sequence

import gin
import tensorflow as tf
from tf_agents.networks import network
from tf_agents.networks import utils as network_utils
from tf_agents.specs import tensor_spec
from tf_agents.typing import types

from qwr_tf.networks import torsos


class Critic(network.Network):
  """What the agent asks of a critic; most need only `call`.

  `call` may return whatever the critic learns from (several heads, logits of
  a distribution); `values` turns that into one number per action.
  """

  # Whether the values are Q(s, a); V(s) otherwise.
  is_action_value = True

  def values(self, outputs: tf.Tensor) -> tf.Tensor:
    """Outputs of `call` to values, float [n, ...]."""
    return outputs

  def losses(self, outputs: tf.Tensor, td_targets: tf.Tensor) -> tf.Tensor:
    """Loss per element of td_targets [n, ...] (line 14)."""
    return tf.math.squared_difference(outputs, td_targets)


def _action_embedding(action_spec: types.BoundedTensorSpec, width: int):
  """The linear action embedding: a table for a discrete action."""
  if tensor_spec.is_discrete(action_spec):
    num_actions = int(action_spec.maximum - action_spec.minimum) + 1
    # As a linear layer on one-hot actions would be initialised.
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
    gate_units: int | None = None,
    post_gate_units: int | None = None,
    post_gate_layer_norm: bool = False,
    output_limit: float | None = None,
    value_scale: float = 1.0,
    normalizer: Callable[[tf.Tensor], tf.Tensor] | None = None,
    name: str = 'GatedQNetwork',
  ):
    """Builds the critic.

    Args:
      observation_spec: a single tensor spec.
      action_spec: a single bounded spec.
      torso_fn: makes the stack of layers over the observation.
      gate_units: adds a linear layer of this width between torso and gate
        (the authors' code); None gates the torso's output.
      post_gate_units: adds a ReLU layer of this width before the value head
        (the authors' code).
      post_gate_layer_norm: LayerNorm right after the gate (the authors' code).
      output_limit: initialise the value head uniformly within +- this.
      value_scale: Q is this times the head's output, and the loss is measured
        in the head's units; 1 / (1 - gamma) lets the network predict
        (1 - gamma) Q (the authors' code).
      normalizer: applied to observations first; shared by copies.
      name: of the network.
    """
    super().__init__((observation_spec, action_spec), state_spec=(), name=name)
    self.encoder = torsos.Encoder(observation_spec, torso_fn, normalizer)
    # A linear layer after the torso's own, or the torso's width itself.
    self._gate_layer = tf.keras.layers.Dense(gate_units) if gate_units else None
    width = gate_units or self.encoder.width
    self._embedding = _action_embedding(action_spec, width)
    self._post_gate = []
    if post_gate_layer_norm:
      self._post_gate.append(tf.keras.layers.LayerNormalization())
    if post_gate_units:
      self._post_gate.append(
        tf.keras.layers.Dense(post_gate_units, activation='relu')
      )
    self._head = tf.keras.layers.Dense(
      1, kernel_initializer=torsos.uniform_initializer(output_limit)
    )
    self._value_scale = value_scale

  def call(
    self,
    inputs,
    step_type: tf.Tensor | None = None,
    network_state: Sequence = (),
    training: bool = False,
  ):
    """Values of ([...] observations, [n, ...] actions): float [n, ...].

    Actions may also have the observation's own outer shape [...], as in
    TF-Agents' critics, or [n, 1, ...] for the same n actions in every state.
    """
    del step_type, training
    observation, actions = inputs
    features = self.encoder(observation)  # [..., d]
    if self._gate_layer is not None:
      features = self._gate_layer(features)
    gated = features * tf.tanh(self._embedding(actions))  # [n, ..., d]
    # Keras' LayerNormalization wants one batch axis.
    squash = network_utils.BatchSquash(gated.shape.rank - 1)
    hidden = squash.flatten(gated)
    for layer in self._post_gate:
      hidden = layer(hidden)
    values = squash.unflatten(self._head(hidden)[..., 0])  # [n, ...]
    return self._value_scale * values, network_state

  def losses(self, outputs: tf.Tensor, td_targets: tf.Tensor) -> tf.Tensor:
    """Squared errors in the head's units, float [n, ...]."""
    errors = super().losses(outputs, td_targets)
    return errors / self._value_scale**2


@gin.configurable
class ValueNetwork(Critic):
  """V(s): a critic that ignores the action."""

  is_action_value = False

  def __init__(
    self,
    observation_spec: types.TensorSpec,
    action_spec: types.BoundedTensorSpec,
    *,
    torso_fn: torsos.TorsoFn = torsos.mlp_torso,
    output_limit: float | None = None,
    normalizer: Callable[[tf.Tensor], tf.Tensor] | None = None,
    name: str = 'ValueNetwork',
  ):
    """Builds the critic; arguments as in `GatedQNetwork`."""
    super().__init__((observation_spec, action_spec), state_spec=(), name=name)
    self.encoder = torsos.Encoder(observation_spec, torso_fn, normalizer)
    self._head = tf.keras.layers.Dense(
      1, kernel_initializer=torsos.uniform_initializer(output_limit)
    )
    self._action_rank = action_spec.shape.rank

  def call(
    self,
    inputs,
    step_type: tf.Tensor | None = None,
    network_state: Sequence = (),
    training: bool = False,
  ):
    """V(s) for each of the n actions: float [n, ...]."""
    del step_type, training
    observation, actions = inputs
    values = tf.squeeze(self._head(self.encoder(observation)), axis=-1)
    outer = tf.shape(actions)[: tf.rank(actions) - self._action_rank]
    shape = tf.broadcast_dynamic_shape(outer, tf.shape(values))
    return tf.broadcast_to(values, shape), network_state
