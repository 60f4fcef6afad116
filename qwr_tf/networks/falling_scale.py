"""A Gaussian head whose scale falls while the agent learns."""

import gin
import tensorflow as tf
import tensorflow_probability as tfp
from tf_agents.typing import types

from qwr_tf.config.ranges import PositiveFloat
from qwr_tf.config.ranges import PositiveInt
from qwr_tf.networks import actors
from qwr_tf.networks import torsos


@gin.configurable
class FallingScaleGaussianHead(tf.Module):
  """Features to a diagonal Gaussian whose scale falls linearly, then stays.

  Wide at first, to explore, and narrow at last, so that sampled actions play
  nearly as well as the mean (MR.Q and FlashSAC act with 0.15 to 0.2). The mean
  has no bound, as in `GaussianHead`. All copies of an agent's actor have the
  same scale at a time, that of the agent's `train_step_counter`.

  Attributes:
    train_step_counter: int64 variable, which `QwrAgent` puts there; until then
      a constant 0.
  """

  def __init__(
    self,
    action_spec: types.BoundedTensorSpec,
    *,
    initial_scale: PositiveFloat = 0.4,
    final_scale: PositiveFloat = 0.2,
    decay_train_steps: PositiveInt = 200_000,
    output_limit: PositiveFloat | None = None,
    name: str = 'FallingScaleGaussianHead',
  ):
    """Creates the projection; see `GaussianHead`.

    Args:
      initial_scale: first standard deviation, in units where the action bounds
        are +-1.
      final_scale: the last one.
      decay_train_steps: gradient steps between both, of critic and actor
        together.
    """
    super().__init__(name=name)
    self._size = actors.vector_size(action_spec, type(self).__name__)
    self.train_step_counter = tf.constant(0, tf.int64)
    self._initial, self._final = initial_scale, final_scale
    self._decay_train_steps = decay_train_steps
    self.projection = tf.keras.layers.Dense(
      self._size, kernel_initializer=torsos.uniform_initializer(output_limit)
    )

  @property
  def scale(self) -> tf.Tensor:
    """Standard deviations now, float [A]."""
    steps = tf.cast(self.train_step_counter, tf.float32)
    share = steps / self._decay_train_steps
    change = (self._final - self._initial) * tf.minimum(share, 1.0)
    return tf.fill([self._size], self._initial + change)

  def __call__(self, features: tf.Tensor) -> tfp.distributions.Distribution:
    """Features [..., d] to a distribution of batch shape [...]."""
    mean = self.projection(features)
    # Stored with mu, state by state, because it changes.
    scale = tf.broadcast_to(self.scale, tf.shape(mean))
    return tfp.distributions.MultivariateNormalDiag(mean, scale_diag=scale)
