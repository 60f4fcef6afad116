"""Actors: observation to action distribution."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import gin
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp
from tf_agents.specs import tensor_spec
from tf_agents.typing import types

from qwr_tf.config.ranges import PositiveFloat
from qwr_tf.networks import categories
from qwr_tf.networks import discrete_actions
from qwr_tf.networks import encoders
from qwr_tf.networks import scoped
from qwr_tf.networks import torsos

# Logits of values that a component of an action cannot have are at most this.
NO_LOGIT = -1e8


def missing_logits(action_spec: types.BoundedTensorSpec) -> np.ndarray:
  """Mask to add to logits: 10 * NO_LOGIT at values out of range, else 0.

  Args:
    action_spec: a vector of integers, whose components may have different
      numbers of values.

  Returns:
    float32 [components, values].
  """
  sizes = categories.sizes(action_spec)[:, np.newaxis]
  is_missing = np.arange(sizes.max()) >= sizes
  return np.where(is_missing, 10 * NO_LOGIT, 0.0).astype(np.float32)


class MultiCategorical(tfp.distributions.Independent):
  """Independent categorical distributions of the components of a vector."""

  def __init__(
    self,
    logits: tf.Tensor,
    dtype: tf.DType = tf.int32,
    name: str = 'MultiCategorical',
  ):
    """Takes logits [..., numbers, values].

    Args:
      logits: `NO_LOGIT` or less for values that a number has not.
      dtype: of samples.
      name: of the distribution.
    """
    parameters = {'logits': logits, 'dtype': dtype, 'name': name}
    self.logits = logits
    super().__init__(
      tfp.distributions.Categorical(logits=logits, dtype=dtype),
      reinterpreted_batch_ndims=1,
      name=name,
    )
    self._parameters = self._no_dependency(parameters)


@gin.configurable
class CategoricalHead(tf.Module):
  """Features to a distribution over one or several discrete actions."""

  def __init__(
    self,
    action_spec: types.BoundedTensorSpec,
    *,
    output_limit: PositiveFloat | None = None,
    name: str = 'CategoricalHead',
  ):
    """Creates the projection.

    Args:
      action_spec: an integer spec with minimum 0, a scalar or a vector. The
        numbers of a vector are independent.
      output_limit: bound of the uniform initial weights.

    Raises:
      ValueError: for any other action spec.
    """
    super().__init__(name=name)
    self._dtype = action_spec.dtype
    self._missing: np.ndarray | None = None
    if tensor_spec.is_discrete(action_spec) and action_spec.shape.rank == 1:
      discrete_actions.check_start(action_spec)
      self._missing = missing_logits(action_spec)
      num_outputs = self._missing.size
    else:
      num_outputs = discrete_actions.number_of_actions(
        action_spec, type(self).__name__, 'Use GaussianHead.'
      )
    self.projection = tf.keras.layers.Dense(
      num_outputs, kernel_initializer=torsos.uniform_initializer(output_limit)
    )

  def logits(self, outputs: Any) -> Any:
    """The projection's outputs [..., d] as logits; also NumPy's arrays."""
    if self._missing is None:
      return outputs
    reshape = tf.reshape if tf.is_tensor(outputs) else np.reshape
    outer = [-1 if n is None else n for n in outputs.shape[:-1]]
    if outer.count(-1) > 1:
      outer = tf.unstack(tf.shape(outputs)[:-1])
    return reshape(outputs, [*outer, *self._missing.shape]) + self._missing

  def __call__(self, features: tf.Tensor) -> tfp.distributions.Distribution:
    """Features [..., d] to a distribution of batch shape [...]."""
    logits = self.logits(self.projection(features))
    if self._missing is None:
      return tfp.distributions.Categorical(logits=logits, dtype=self._dtype)
    return MultiCategorical(logits, self._dtype)


def vector_size(action_spec: types.BoundedTensorSpec, head: str) -> int:
  """Length of actions; ValueError if they are no float vectors in [-1, 1]."""
  if not tensor_spec.is_continuous(action_spec) or action_spec.shape.rank != 1:
    discrete = tensor_spec.is_discrete(action_spec)
    fix = 'Use CategoricalHead' if discrete else 'Flatten it in the environment'
    raise ValueError(
      f'{head} is for one continuous action vector; this environment has '
      f'{action_spec}. {fix}.'
    )
  low, high = action_spec.minimum, action_spec.maximum
  if np.any(low != -1.0) or np.any(high != 1.0):
    raise ValueError(
      f'{head}: the bounds of actions must be -1 and 1, not {low} and {high}. '
      'Scale them in the environment, as `environments.load` and '
      'gymnasium.wrappers.RescaleAction do.'
    )
  return action_spec.shape[0]


@gin.configurable
class GaussianHead(tf.Module):
  """Features to a diagonal Gaussian with constant scale.

  The mean has no bound and no tanh. Only the environment clips actions, so that
  log-probabilities are of the samples themselves.
  """

  def __init__(
    self,
    action_spec: types.BoundedTensorSpec,
    *,
    scale: PositiveFloat = 0.4,
    output_limit: PositiveFloat | None = None,
    name: str = 'GaussianHead',
  ):
    """Creates the projection.

    Args:
      action_spec: a float vector spec, bounds of +-1 expected.
      scale: standard deviation, in units where the action bounds are +-1.
      output_limit: bound of the uniform initial weights.

    Raises:
      ValueError: for discrete actions or anything but a vector.
    """
    super().__init__(name=name)
    size = vector_size(action_spec, type(self).__name__)
    # A NumPy constant: only tensors are stored as parameters of mu.
    self.scale = np.full([size], scale, np.float32)
    self.projection = tf.keras.layers.Dense(
      size, kernel_initializer=torsos.uniform_initializer(output_limit)
    )

  def __call__(self, features: tf.Tensor) -> tfp.distributions.Distribution:
    """Features [..., d] to a distribution of batch shape [...]."""
    return tfp.distributions.MultivariateNormalDiag(
      loc=self.projection(features), scale_diag=self.scale
    )


@gin.configurable
class TanhMeanGaussianHead(tf.Module):
  """Features to a diagonal Gaussian with tanh on its mean (AWAC).

  The scale is learned and the same in every state. Samples are not squashed,
  so they may lie outside the bounds +-1. The mean may not, so that logged
  actions need `DataSet.unclipped_actions = False`.
  """

  def __init__(
    self,
    action_spec: types.BoundedTensorSpec,
    *,
    min_scale: PositiveFloat = math.exp(-6.0),  # noqa: B008
    max_scale: PositiveFloat = 1.0,
    output_limit: PositiveFloat | None = None,
    name: str = 'TanhMeanGaussianHead',
  ):
    """Creates the projection and the scale; see `GaussianHead`.

    Args:
      min_scale: standard deviation, in units where the action bounds are +-1.
      max_scale: likewise. log sigma moves between the logarithms of both on a
        sigmoid and starts half-way, at -3 by default.
    """
    super().__init__(name=name)
    size = vector_size(action_spec, type(self).__name__)
    self._low, self._high = math.log(min_scale), math.log(max_scale)
    self._position = tf.Variable(tf.zeros([size]), name='scale_position')
    self.projection = tf.keras.layers.Dense(
      size, kernel_initializer=torsos.uniform_initializer(output_limit)
    )

  @property
  def scale(self) -> tf.Tensor:
    """Standard deviations, float [A]."""
    share = tf.sigmoid(self._position)
    return tf.exp(self._low + (self._high - self._low) * share)

  def __call__(self, features: tf.Tensor) -> tfp.distributions.Distribution:
    """Features [..., d] to a distribution of batch shape [...]."""
    mean = tf.tanh(self.projection(features))
    # Stored with mu, state by state, because it changes.
    scale = tf.broadcast_to(self.scale, tf.shape(mean))
    return tfp.distributions.MultivariateNormalDiag(mean, scale_diag=scale)


HeadFn = Callable[[types.BoundedTensorSpec], tf.Module]


class Actor(scoped.ScopedNetwork):
  """A network from observations to action distributions."""

  @property
  def normalizer(self):
    """The normaliser of observations, or None."""
    return getattr(getattr(self, 'encoder', None), 'normalizer', None)

  @property
  def chain(self) -> Sequence[tf.keras.layers.Layer] | None:
    """The layers of `outputs`, in order; None if it is no plain sequence."""
    return None

  def outputs(self, observation: tf.Tensor) -> tf.Tensor:
    """Outputs of the head's projection, such as logits, float [..., d]."""
    raise NotImplementedError

  def distribution(
    self, observation: tf.Tensor
  ) -> tfp.distributions.Distribution:
    """A distribution of batch shape [...] for observations [...]."""
    raise NotImplementedError

  def call(
    self,
    observation: tf.Tensor,
    step_type: tf.Tensor | None = None,
    network_state: Sequence = (),
    training: bool = False,
  ):
    """Returns (`distribution` of the observation, network_state)."""
    del step_type, training
    return self.distribution(observation), network_state


@gin.configurable
class ActorNetwork(Actor):
  """pi(a|s): normaliser, torso, head."""

  def __init__(
    self,
    observation_spec: types.TensorSpec,
    action_spec: types.BoundedTensorSpec,
    *,
    torso_fn: torsos.TorsoFn = torsos.mlp_torso,
    head_fn: HeadFn | None = None,
    normalizer: Callable[[tf.Tensor], tf.Tensor] | None = None,
    name: str = 'ActorNetwork',
  ):
    """Builds the actor.

    Args:
      torso_fn: makes the layers below the head.
      head_fn: action spec -> module from features to a distribution; default
        Categorical or Gaussian, by the action spec.
      normalizer: applied to observations first; not copied by `copy()`.
    """
    super().__init__(observation_spec, state_spec=(), name=name)
    if head_fn is None:
      discrete = tensor_spec.is_discrete(action_spec)
      head_fn = CategoricalHead if discrete else GaussianHead
    self.encoder = encoders.Encoder(observation_spec, torso_fn, normalizer)
    self.head = head_fn(action_spec)

  @property
  def chain(self) -> list[tf.keras.layers.Layer] | None:
    """The layers of `outputs`, in order; None if it is no plain sequence."""
    return self.encoder.chain_to(self.head.projection)

  def outputs(self, observation: tf.Tensor) -> tf.Tensor:
    """The head's projection of the features, float [..., d]."""
    return self.head.projection(self.encoder(observation))

  def distribution(
    self, observation: tf.Tensor
  ) -> tfp.distributions.Distribution:
    """The head's distribution."""
    return self.head(self.encoder(observation))
