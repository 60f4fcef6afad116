"""Q-networks without the gate: of AWAC and CRR, and of DQN."""

from collections.abc import Callable

import gin
import tensorflow as tf
from tf_agents.networks import utils as network_utils
from tf_agents.specs import tensor_spec
from tf_agents.typing import types

from qwr_tf.config.ranges import PositiveFloat
from qwr_tf.networks import categories
from qwr_tf.networks import critics
from qwr_tf.networks import discrete_actions
from qwr_tf.networks import encoders
from qwr_tf.networks import observations
from qwr_tf.networks import torsos
from qwr_tf.ops import returns


@gin.configurable
class ConcatQNetwork(critics.Critic):
  """Q(s, a): layers over observation and action together (AWAC, CRR)."""

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
    name: str = 'ConcatQNetwork',
  ):
    """Builds the critic; arguments as in `GatedQNetwork`.

    Raises:
      ValueError: for images.
    """
    self._observations = observations.Features(observation_spec)
    if self._observations.images:
      raise ValueError(
        'ConcatQNetwork is for vectors; this environment has images '
        f'{self._observations.images[0].shape}. Use GatedQNetwork.'
      )
    super().__init__((observation_spec, action_spec), state_spec=(), name=name)
    self._discrete_spec = None
    if tensor_spec.is_discrete(action_spec):
      discrete_actions.check_start(action_spec)
      self._discrete_spec = action_spec
    self._normalizer = normalizer
    self._torso = torso_fn()
    self._head = critics.value_head(num_outputs, output_limit)
    self._num_outputs = num_outputs
    self.representation = returns.Numbers(value_scale)

  @property
  def normalizer(self):
    """The normaliser of observations, or None."""
    return self._normalizer

  def outputs(self, observation: tf.Tensor, actions: tf.Tensor) -> tf.Tensor:
    """Values, float [n, ...]; the layers run once per action."""
    features = self._observations.vector(observation, self._normalizer)
    features = tf.cast(features, tf.float32)
    if self._discrete_spec is not None:
      actions = categories.one_hot(actions, self._discrete_spec)
    outer = tf.broadcast_dynamic_shape(
      tf.shape(features)[:-1], tf.shape(actions)[:-1]
    )
    together = tf.concat(
      [
        tf.broadcast_to(x, tf.concat([outer, x.shape[-1:]], axis=0))
        for x in (features, actions)
      ],
      axis=-1,
    )  # [n, ..., d + a]
    flat = tf.reshape(together, [-1, together.shape[-1]])
    outputs = self._head(self._torso(flat))
    shape = tf.concat([outer, outputs.shape[-1:]], axis=0)
    return self._scaled(tf.reshape(outputs, shape))


@gin.configurable
class DiscreteQNetwork(critics.Critic):
  """Q(s, .) with one output per discrete action (DQN)."""

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
    name: str = 'DiscreteQNetwork',
  ):
    """Builds the critic; arguments as in `GatedQNetwork`.

    Raises:
      ValueError: for continuous actions.
    """
    super().__init__((observation_spec, action_spec), state_spec=(), name=name)
    self.encoder = encoders.Encoder(observation_spec, torso_fn, normalizer)
    self.num_actions = discrete_actions.number_of_actions(
      action_spec, 'DiscreteQNetwork', 'Use GatedQNetwork or ConcatQNetwork.'
    )
    self.head = critics.value_head(
      self.num_actions * (num_outputs or 1), output_limit
    )
    self._num_outputs = num_outputs
    self.representation = returns.Numbers(value_scale)

  @property
  def is_plain(self) -> bool:
    """True if the head's outputs are the values of the actions."""
    return not self._num_outputs and self.representation.value_scale == 1.0

  def outputs(self, observation: tf.Tensor, actions: tf.Tensor) -> tf.Tensor:
    """Values, float [n, ...]; the layers run once per state."""
    outputs = self._all_outputs(self.encoder(observation))
    chosen = tf.one_hot(actions, self.num_actions)[..., tf.newaxis]
    outputs = tf.reduce_sum(chosen * outputs, axis=-2)  # [n, ..., outputs]
    return outputs if self._num_outputs else outputs[..., 0]

  def _all_outputs(self, features: tf.Tensor) -> tf.Tensor:
    """Outputs of all actions, [..., actions, outputs or 1]."""
    outputs = self.representation.value_scale * self.head(features)
    squash = network_utils.BatchSquash(outputs.shape.rank - 1)
    return squash.unflatten(
      tf.reshape(
        squash.flatten(outputs), [-1, self.num_actions, self._num_outputs or 1]
      )
    )


@gin.configurable
class DuelingQNetwork(DiscreteQNetwork):
  """Q(s, a) = V(s) + A(s, a) - mean of A(s, .) (Wang et al. 2016).

  Every step of experience teaches V, whatever the action.
  """

  def __init__(
    self,
    observation_spec: types.TensorSpec,
    action_spec: types.BoundedTensorSpec,
    *,
    torso_fn: torsos.TorsoFn = torsos.mlp_torso,
    advantage_limit: PositiveFloat | None = None,
    output_limit: PositiveFloat | None = None,
    value_scale: PositiveFloat = 1.0,
    num_outputs: int | None = None,
    normalizer: Callable[[tf.Tensor], tf.Tensor] | None = None,
    name: str = 'DuelingQNetwork',
  ):
    """Builds the critic; other arguments as in `GatedQNetwork`.

    Args:
      torso_fn: torso below both heads.
      advantage_limit: initial weights of A's head are uniform within +- this;
        None is Keras' default. With 1e-3 all actions start out alike.
      output_limit: the same for V's head.
      value_scale: factor of Q.

    Raises:
      ValueError: for continuous actions.
    """
    super().__init__(
      observation_spec,
      action_spec,
      torso_fn=torso_fn,
      output_limit=advantage_limit,
      value_scale=value_scale,
      num_outputs=num_outputs,
      normalizer=normalizer,
      name=name,
    )
    self.value_head = critics.value_head(num_outputs, output_limit)

  @property
  def is_plain(self) -> bool:
    """False: values are sums of two heads' outputs."""
    return False

  def _all_outputs(self, features: tf.Tensor) -> tf.Tensor:
    advantages = super()._all_outputs(features)
    mean = tf.reduce_mean(advantages, axis=-2, keepdims=True)
    value = self.representation.value_scale * self.value_head(features)
    return value[..., tf.newaxis, :] + advantages - mean
