"""A critic whose layers see state and action together, at a low cost.

Most of a critic's time goes into the n actions of a state. Here a torso sees
the state once; a linear layer of its features is added to a linear layer of
each action, which equals a layer over both concatenated.
"""

from collections.abc import Callable, Sequence

import gin
import tensorflow as tf
from tf_agents.networks import utils as network_utils
from tf_agents.typing import types

from qwr_tf.config.ranges import PositiveFloat
from qwr_tf.networks import critics
from qwr_tf.networks import encoders
from qwr_tf.networks import torsos
from qwr_tf.ops import returns


class MinibatchNorm(tf.keras.layers.Layer):
  """BatchNorm with the statistics of the current batch, always.

  Mean and deviation are over the first axis of [N, d], outside of training too,
  so there are no running averages that lag behind: as CrossQ trains (Bhatt et
  al. 2024). The output of a row depends on the other rows.
  """

  def __init__(self, epsilon: float = 1e-3):
    """Creates the layer; epsilon is added to the variance."""
    super().__init__()
    self._epsilon = epsilon

  def build(self, input_shape):
    """Creates a factor and an offset for each feature."""
    width = input_shape[-1:]
    self.gamma = self.add_weight(name='gamma', shape=width, initializer='ones')
    self.beta = self.add_weight(name='beta', shape=width, initializer='zeros')
    super().build(input_shape)

  def call(self, inputs: tf.Tensor) -> tf.Tensor:
    """Zero mean and unit deviation over the rows; [N, d] to [N, d]."""
    mean, variance = tf.nn.moments(inputs, axes=[0])
    factor = self.gamma * tf.math.rsqrt(variance + self._epsilon)
    return inputs * factor + (self.beta - mean * factor)

  def compute_output_shape(self, input_shape):
    """The input's shape."""
    return input_shape


@gin.configurable
def batch_norm_torso(
  units: Sequence[torsos.Width] = (256, 256), input_norm: bool = True
) -> tf.keras.Sequential:
  """ReLU layers over flat observations, `MinibatchNorm` after each (CrossQ).

  For critics only: an actor plays one observation at a time. Use it with slots
  that ask for values of whole minibatches.

  Args:
    units: width of each layer.
    input_norm: normalise the observations too.

  Returns:
    A stack of layers, float [N, d] -> float [N, units[-1]].
  """
  layers: list[tf.keras.layers.Layer] = [MinibatchNorm()] if input_norm else []
  for width in units:
    layers.append(tf.keras.layers.Dense(width, activation='relu'))
    layers.append(MinibatchNorm())
  return tf.keras.Sequential(layers)


@gin.configurable
class JointQNetwork(critics.Critic):
  """Q(s, a) = head(layers(linear(torso(s)) + linear(a)))."""

  def __init__(
    self,
    observation_spec: types.TensorSpec,
    action_spec: types.BoundedTensorSpec,
    *,
    torso_fn: torsos.TorsoFn = torsos.mlp_torso,
    units: Sequence[torsos.Width] = (256, 256),
    layer_norm: bool = True,
    clip_actions: bool = False,
    output_limit: PositiveFloat | None = None,
    value_scale: PositiveFloat = 1.0,
    num_outputs: int | None = None,
    normalizer: Callable[[tf.Tensor], tf.Tensor] | None = None,
    name: str = 'JointQNetwork',
  ):
    """Builds the critic; other arguments as in `critics.GatedQNetwork`.

    Args:
      units: widths of the ReLU layers over state and action together. The
        first is the sum of the two linear ones.
      layer_norm: normalise the output of each of these after its ReLU.
      clip_actions: clip continuous actions to the bounds +-1, as the
        environment does.

    Raises:
      ValueError: if there are no units.
    """
    if not units:
      raise ValueError('JointQNetwork.units must have one width or more.')
    super().__init__((observation_spec, action_spec), state_spec=(), name=name)
    self.encoder = encoders.Encoder(observation_spec, torso_fn, normalizer)
    self.state_layer = tf.keras.layers.Dense(units[0])
    self.action_layer = critics.action_embedding(action_spec, units[0])
    layers: list[tf.keras.layers.Layer] = [tf.keras.layers.ReLU()]
    for i, width in enumerate(units):
      if i:
        layers.append(tf.keras.layers.Dense(width, activation='relu'))
      if layer_norm:
        layers.append(tf.keras.layers.LayerNormalization(epsilon=1e-5))
    self.joint_layers = tf.keras.Sequential(layers)
    self.head = critics.value_head(num_outputs, output_limit)
    self._clips = clip_actions and action_spec.dtype.is_floating
    self._num_outputs = num_outputs
    self.representation = returns.Numbers(value_scale)

  def outputs(self, observation: tf.Tensor, actions: tf.Tensor) -> tf.Tensor:
    """Values, float [n, ...]; the torso runs once per state."""
    if self._clips:
      actions = tf.clip_by_value(actions, -1.0, 1.0)
    features = self.state_layer(self.encoder(observation))  # [..., d]
    sums = features + self.action_layer(actions)  # [n, ..., d]
    # Keras' LayerNormalization wants one batch axis.
    squash = network_utils.BatchSquash(sums.shape.rank - 1)
    outputs = self.head(self.joint_layers(squash.flatten(sums)))
    if self._num_outputs is None:
      outputs = outputs[..., 0]
    return self.representation.value_scale * squash.unflatten(outputs)
