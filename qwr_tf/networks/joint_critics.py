"""A critic whose layers see state and action together, at a low cost.

Most of a critic's time goes into the n actions of a state. Here a torso sees
the state once; a linear layer of its features is added to a linear layer of
each action, which equals a layer over both concatenated.
"""

import functools
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

_batch_norm = functools.partial(
  tf.keras.layers.BatchNormalization, epsilon=1e-3, momentum=0.99
)


@gin.configurable
def batch_norm_torso(
  units: Sequence[torsos.Width] = (256,), input_norm: bool = True
) -> tf.keras.Sequential:
  """ReLU layers over flat observations, BatchNorm after each (CrossQ).

  For critics: an actor plays one observation at a time.

  Args:
    units: width of each layer.
    input_norm: normalise the observations too.

  Returns:
    A stack of layers, float [N, d] -> float [N, units[-1]].
  """
  layers: list[tf.keras.layers.Layer] = [_batch_norm()] if input_norm else []
  for width in units:
    layers.append(tf.keras.layers.Dense(width, activation='relu'))
    layers.append(_batch_norm())
  return tf.keras.Sequential(layers)


class _Residual(tf.keras.layers.Layer):
  """x + layers(x)."""

  def __init__(self, layers: Sequence[tf.keras.layers.Layer]):
    super().__init__()
    self.stack = tf.keras.Sequential(layers)

  def call(self, inputs: tf.Tensor) -> tf.Tensor:
    return inputs + self.stack(inputs)

  def compute_output_shape(self, input_shape):
    return input_shape


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
    batch_norm: bool = False,
    residual: bool = False,
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
      batch_norm: likewise with BatchNorm: the batch's statistics while the
        critic learns, from s and s' in one batch (`Critic.taken_outputs`),
        running averages elsewhere.
      residual: add its input to each layer but the first, and normalise the
        last output with LayerNorm.
      clip_actions: clip continuous actions to the bounds +-1, as the
        environment does.

    Raises:
      ValueError: if there are no units, or different ones with `residual`.
    """
    if not units:
      raise ValueError('JointQNetwork.units must have one width or more.')
    if residual and len(set(units)) > 1:
      raise ValueError(
        f'JointQNetwork.residual needs units of one width, not {units}.'
      )
    super().__init__((observation_spec, action_spec), state_spec=(), name=name)
    self.encoder = encoders.Encoder(observation_spec, torso_fn, normalizer)
    self.state_layer = tf.keras.layers.Dense(units[0])
    self.action_layer = critics.action_embedding(action_spec, units[0])
    norms: list[Callable] = []
    if layer_norm:
      norms.append(
        functools.partial(tf.keras.layers.LayerNormalization, epsilon=1e-5)
      )
    if batch_norm:
      norms.append(_batch_norm)
    layers: list = [tf.keras.layers.ReLU(), *(norm() for norm in norms)]
    for width in units[1:]:
      block = [
        tf.keras.layers.Dense(width, activation='relu'),
        *(norm() for norm in norms),
      ]
      layers.extend([_Residual(block)] if residual else block)
    if residual:
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
    return squash.unflatten(self._scaled(outputs))
