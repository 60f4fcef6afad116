"""Critics: values of (observation, action) pairs.

A critic takes observations [...] and n actions per state [n, ...].
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import gin
import tensorflow as tf
from tf_agents.networks import utils as network_utils
from tf_agents.specs import tensor_spec
from tf_agents.trajectories import trajectory
from tf_agents.typing import types

from qwr_tf.config.ranges import PositiveFloat
from qwr_tf.config.ranges import PositiveInt
from qwr_tf.networks import categories
from qwr_tf.networks import discrete_actions
from qwr_tf.networks import encoders
from qwr_tf.networks import observations
from qwr_tf.networks import scoped
from qwr_tf.networks import torsos
from qwr_tf.ops import returns

# Observation and actions, the arguments of `Critic.outputs`.
Rows = tuple[types.NestedTensor, tf.Tensor]


class Critic(scoped.ScopedNetwork):
  """Base class of critics; subclasses define `outputs`.

  `outputs` may be values, several heads or logits of a distribution;
  `representation` turns outputs into values, targets and losses.
  """

  def __init_subclass__(cls, **kwargs: Any):
    """Constructors also take TF-Agents' one pair (observation, action spec)."""
    super().__init_subclass__(**kwargs)
    init = cls.__init__

    @functools.wraps(init)
    def init_from_specs(self, *specs, **kwargs):
      if len(specs) == 1 and 'action_spec' not in kwargs:
        (specs,) = specs
      init(self, *specs, **kwargs)

    cls.__init__ = init_from_specs  # type: ignore[method-assign]

  # Whether values depend on the action: Q(s, a) rather than V(s).
  is_action_value = True

  # The arithmetic on outputs, see `ops.returns`.
  representation = returns.Numbers()

  # Of the value head; None: one, without an axis.
  _num_outputs: int | None = None

  @functools.cached_property
  def has_batch_norm(self) -> bool:
    """True if a layer is BatchNorm: s and s' are then one batch (CrossQ)."""
    return torsos.has_batch_norm(self)

  @property
  def normalizer(self):
    """The observation normaliser, or None."""
    return getattr(getattr(self, 'encoder', None), 'normalizer', None)

  def outputs(self, observation: tf.Tensor, actions: tf.Tensor) -> tf.Tensor:
    """Outputs for n actions per state.

    Args:
      observation: [...] and the observation's own axes.
      actions: [n, ...], the action's own axes last. Also allowed: [...] (one
        action per state, as in TF-Agents) or [n, 1, ...] (the same n in every
        state).

    Returns:
      Float, [n, ...] and the critic's own axes.
    """
    raise NotImplementedError

  def _scaled(self, outputs: tf.Tensor) -> tf.Tensor:
    """The value head's outputs in units of return, [...] if it has only one."""
    scaled = self.representation.value_scale * outputs
    return scaled[..., 0] if self._num_outputs is None else scaled

  # With BatchNorm, a training step sees (s, a) and (s', a') in one batch. Both
  # then have the same statistics. Separate batches would each be centred, which
  # hides the policy's distance from the data (CrossQ, Bhatt et al. 2024).

  def taken_outputs(
    self, steps: trajectory.Trajectory, next_rows: Rows | None = None
  ) -> tf.Tensor:
    """Outputs for the actions taken at s, [1, B] and own axes.

    Args:
      steps: s and a [B].
      next_rows: s' and a' of the training step. None: running averages stand
        for the batch's statistics.
    """
    if next_rows is None or not self.has_batch_norm:
      return self.outputs(steps.observation, steps.action[tf.newaxis])
    return self._joint_outputs(steps, next_rows)[0][:1]

  def next_outputs(
    self, next_rows: Rows, steps: trajectory.Trajectory | None = None
  ) -> tf.Tensor:
    """Outputs for actions [n, ...]; under BatchNorm jointly with `steps`.

    Args:
      next_rows: observation [...] and actions [n, ...].
      steps: s and a [B] of the training step, beside s' [B, 1]. None: running
        averages.
    """
    if steps is None or not self.has_batch_norm:
      return self.outputs(*next_rows)
    return self._joint_outputs(steps, next_rows)[1][:, :, tf.newaxis]

  def _joint_outputs(self, steps, next_rows: Rows) -> list[tf.Tensor]:
    """Outputs at s and s', [n, B] each; s repeats n times."""
    observation, actions = next_rows
    observation = tf.nest.map_structure(
      lambda now, later: tf.concat([now, later[:, 0]], axis=0),
      steps.observation,
      observation,
    )
    n = tf.shape(actions)[:1]
    shape = tf.concat([n, tf.shape(steps.action)], axis=0)  # [n, B]
    taken = tf.broadcast_to(steps.action, shape)
    drawn = tf.broadcast_to(actions[:, :, 0], shape)
    inputs = observation, tf.concat([taken, drawn], axis=1)
    return tf.split(self(inputs, training=True)[0], 2, axis=1)

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
  """The output layer: one value, or num_outputs numbers per action."""
  return tf.keras.layers.Dense(
    1 if num_outputs is None else num_outputs,
    kernel_initializer=torsos.uniform_initializer(output_limit),
  )


def action_embedding(action_spec: types.BoundedTensorSpec, width: int):
  """A linear embedding of actions; a table for one discrete action."""
  if not tensor_spec.is_discrete(action_spec):
    return tf.keras.layers.Dense(width)
  if action_spec.shape.rank:
    return _OneHotDense(action_spec, width)
  num_actions = discrete_actions.number_of_actions(
    action_spec,
    'This critic',
    'For such actions write your own actor and critic.',
  )
  # Initialised like a Dense layer on one-hot actions.
  return tf.keras.layers.Embedding(
    num_actions, width, embeddings_initializer='glorot_uniform'
  )


class _OneHotDense(tf.Module):
  """A linear layer over vectors of discrete actions."""

  def __init__(self, action_spec: types.BoundedTensorSpec, width: int):
    super().__init__()
    discrete_actions.check_start(action_spec)
    self._spec = action_spec
    self.layer = tf.keras.layers.Dense(width)

  def __call__(self, actions: tf.Tensor) -> tf.Tensor:
    return self.layer(categories.one_hot(actions, self._spec))


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
      gate_units: width of an optional linear layer between torso and gate
        (the authors' code); without it the torso's output is gated.
      post_gate_units: adds a ReLU layer of this width before the value head
        (the authors' code).
      post_gate_layer_norm: LayerNorm right after the gate (the authors' code).
      output_limit: bound of the value head's uniform initial weights.
      value_scale: Q is the head's output times this; the loss divides errors
        by it. With 1 / (1 - gamma) the head predicts (1 - gamma) Q (the
        authors' code).
      num_outputs: numbers per action on a last axis, for `critic_wrappers`; if
        None, one value without such an axis.
      normalizer: applied to observations first; shared by copies.
    """
    super().__init__((observation_spec, action_spec), state_spec=(), name=name)
    self.encoder = encoders.Encoder(observation_spec, torso_fn, normalizer)
    self._gate_layer = None
    width = self.encoder.width
    if gate_units is not None:
      self._gate_layer = tf.keras.layers.Dense(gate_units)
      width = gate_units
    self._embedding = action_embedding(action_spec, width)
    self._post_gate = []
    if post_gate_layer_norm:  # Epsilon is that of the authors' Trax.
      self._post_gate.append(tf.keras.layers.LayerNormalization(epsilon=1e-6))
    if post_gate_units is not None:
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
    return squash.unflatten(self._scaled(self._head(hidden)))


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
    raw = self._head(self.encoder(observation))
    outer = tf.shape(actions)[: tf.rank(actions) - self._action_rank]
    shape = tf.broadcast_dynamic_shape(outer, tf.shape(raw)[:-1])
    shape = tf.concat([shape, tf.shape(raw)[-1:]], axis=0)
    return self._scaled(tf.broadcast_to(raw, shape))


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
    """Takes the arguments that all critics take, and ignores them.

    Raises:
      ValueError: if a wrapper asks for several outputs.
    """
    if num_outputs is not None:
      raise ValueError(
        'NoCritic has nothing to learn; remove make_agent.critic_wrapper.'
      )
    super().__init__((observation_spec, action_spec), state_spec=(), name=name)
    self._observation_spec = observation_spec
    self._action_rank = action_spec.shape.rank

  def outputs(self, observation: tf.Tensor, actions: tf.Tensor) -> tf.Tensor:
    """Zeros [n, ...]."""
    state_shape = observations.outer_shape(observation, self._observation_spec)
    action_shape = tf.shape(actions)[: tf.rank(actions) - self._action_rank]
    return tf.zeros(tf.broadcast_dynamic_shape(action_shape, state_shape))
