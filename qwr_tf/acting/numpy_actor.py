"""The actor's forward pass in NumPy, for fast single steps.

Calling a compiled TensorFlow function for one observation takes longer than a
MuJoCo step. So the networks' arithmetic is implemented a second time; tests
compare it with the TensorFlow policy for every head.
"""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from qwr_tf.networks import actors
from qwr_tf.networks import encoders
from qwr_tf.networks import falling_scale
from qwr_tf.networks import observations
from qwr_tf.networks import q_actors

# (observation, generator or None for the mode) -> (action, dist_params).
Act = Callable[[Any, np.random.Generator | None], tuple[Any, dict]]


class NumpyActor:
  """A policy with a copy of an actor's weights."""

  def __init__(self, actor_network):
    """Copies the weights.

    Args:
      actor_network: an `ActorNetwork` or an `EpsilonGreedyActor`. For layers
        that NumPy has not (convolutions), a compiled TensorFlow function
        computes the outputs.

    Raises:
      NotImplementedError: for other actors and heads, and subclasses that
        override what is copied here.
    """
    self._network = actor_network
    self._features = observations.Features(actor_network.input_tensor_spec)
    self._outputs: Callable[[np.ndarray], np.ndarray] = self._compiled()
    chain = actor_network.chain
    self._supported = (
      chain is not None
      and all(map(_is_supported, chain))
      and type(actor_network.normalizer) in _NORMALIZERS
    )
    self.refresh()

  def refresh(self) -> None:
    """Copies the weights again, to be called after they were trained."""
    network = self._network
    self._head = _head(network)
    if not self._supported:
      return
    layers = [_LAYERS[type(layer)](layer) for layer in network.chain]
    normalizer = network.normalizer and _normalizer(network.normalizer)
    if not self._features.is_vector:
      vector = functools.partial(self._features.vector, normalizer=normalizer)
      layers.insert(0, vector)
    elif normalizer is not None:
      layers.insert(0, normalizer)
    self._outputs = functools.partial(_chain, layers)

  def __call__(
    self, observation: Any, rng: np.random.Generator | None
  ) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Actions, and the parameters of mu, with or without [B].

    Args:
      observation: one observation, or a batch [B, ...]; an array or a nest.
      rng: of samples; None takes the distribution's mode.
    """
    return self._head(self._outputs(observation), rng)

  def _compiled(self) -> Callable[[np.ndarray], np.ndarray]:
    network = self._network
    spec = network.input_tensor_spec

    signature = tf.nest.map_structure(
      lambda s: tf.TensorSpec([None, *s.shape], s.dtype), spec
    )

    @tf.function(input_signature=[signature])
    def outputs(observation):
      return network.outputs(observation)

    def act(observation):
      is_batch = observations.outer_rank(observation, spec) > 0
      batch = tf.nest.map_structure(
        lambda x: tf.constant(x if is_batch else x[np.newaxis]), observation
      )
      values = outputs(batch).numpy()
      return values if is_batch else values[0]

    return act


def _chain(layers, x: np.ndarray) -> np.ndarray:
  for layer in layers:
    x = layer(x)
  return x


def _dense(layer: tf.keras.layers.Dense):
  kernel, bias = (np.array(w) for w in layer.get_weights())
  if layer.activation is tf.keras.activations.relu:
    return lambda x: np.maximum(x @ kernel + bias, 0.0)
  return lambda x: x @ kernel + bias


def _layer_norm(layer: tf.keras.layers.LayerNormalization):
  gamma, beta = (np.array(w) for w in layer.get_weights())

  def normalize(x):
    centered = x - x.mean(-1, keepdims=True)
    variance = np.mean(centered**2, -1, keepdims=True)
    deviation = np.sqrt(variance + layer.epsilon)
    return (centered / deviation * gamma + beta).astype(np.float32)

  return normalize


def _normalizer(normalizer):
  mean, inverse_deviation = (x.numpy() for x in normalizer.parameters)
  bound = normalizer.clip_value
  if bound is None:
    return lambda x: (x - mean) * inverse_deviation
  return lambda x: ((x - mean) * inverse_deviation).clip(-bound, bound)


def _is_supported(layer: tf.keras.layers.Layer) -> bool:
  """True if the functions above compute exactly this layer."""
  if type(layer) is tf.keras.layers.Dense:
    activations = (tf.keras.activations.relu, tf.keras.activations.linear)
    return layer.use_bias and layer.activation in activations
  if type(layer) is tf.keras.layers.LayerNormalization:
    return layer.center and layer.scale
  return False


_LAYERS = {
  tf.keras.layers.Dense: _dense,
  tf.keras.layers.LayerNormalization: _layer_norm,
}


def _gaussian(
  scale: np.ndarray, mean_fn: Callable = lambda x: x, is_stored: bool = True
):
  def act(outputs, rng):
    action = loc = mean_fn(outputs)
    parameters = {'loc': loc}
    if rng is not None:
      action = loc + scale * rng.standard_normal(loc.shape, np.float32)
    if is_stored:
      parameters['scale_diag'] = np.broadcast_to(scale, loc.shape)
    return action, parameters

  return act


def _epsilon_greedy(epsilon: float):
  def act(q_values, rng):
    num_actions = q_values.shape[-1]
    best = np.argmax(q_values, axis=-1)[..., np.newaxis]
    greedy = (1.0 - epsilon) * (best == np.arange(num_actions))
    probabilities = greedy + epsilon / num_actions
    logits = np.log(np.maximum(probabilities, q_actors.MIN_PROBABILITY))
    return _categorical(logits.astype(np.float32), rng)

  return act


def _categorical(logits, rng):
  # Gumbel-max: the argmax of logits + Gumbel noise is a sample.
  noisy = logits if rng is None else logits + rng.gumbel(size=logits.shape)
  return np.argmax(noisy, axis=-1).astype(np.int32), {'logits': logits}


_NORMALIZERS = (type(None), encoders.ObservationNormalizer)

_HEADS: dict[type, Callable] = {
  actors.TanhMeanGaussianHead: lambda head: _gaussian(
    head.scale.numpy(), np.tanh
  ),
  falling_scale.FallingScaleGaussianHead: lambda head: _gaussian(
    head.scale.numpy()
  ),
  actors.GaussianHead: lambda head: _gaussian(head.scale, is_stored=False),
  actors.CategoricalHead: lambda head: (
    lambda outputs, rng: _categorical(head.logits(outputs), rng)
  ),
}


def _head(network) -> Act:
  """From an actor's outputs to actions and mu."""
  unknown = network
  if _acts_as(network, q_actors.EpsilonGreedyActor):
    return _epsilon_greedy(float(network.epsilon()))
  if _acts_as(network, actors.ActorNetwork):
    unknown = network.head
    if type(unknown) in _HEADS:
      return _HEADS[type(unknown)](unknown)
  raise NotImplementedError(
    f'{type(unknown).__name__} cannot act in NumPy yet: add it to {__name__}.'
  )


def _acts_as(network, base: type) -> bool:
  """True if it is of this class and overrides none of its arithmetic."""
  return isinstance(network, base) and all(
    getattr(type(network), name) is getattr(base, name)
    for name in ('chain', 'outputs', 'distribution')
  )
