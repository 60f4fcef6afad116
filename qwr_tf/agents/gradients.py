"""Gradient steps of a network, on one device or on replicas that stay equal.

A step with NaN or Inf is not taken: it stops training with an error that names
the network and its step.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import tensorflow as tf
from tf_agents.utils import eager_utils

from qwr_tf.agents import replicas as replicas_lib

_MARK = 'NaN or Inf in the gradient step of'


class BadStep(NamedTuple):
  """The gradient step that was not taken.

  Attributes:
    network: name of the network whose step it was.
    critic_steps: critic steps made before.
    actor_steps: actor steps made before.
  """

  network: str
  critic_steps: int
  actor_steps: int


class GradientStep:
  """Steps of an optimiser down the mean of a loss over a minibatch.

  Where replicas hold shares of the minibatch, loss and gradients are those of
  the whole: each replica's, times its share of the entries that count, summed.
  """

  def __init__(
    self,
    loss_fn: Callable[..., dict[str, tf.Tensor]],
    name: str,
    network,
    optimizer,
    replicas: replicas_lib.Replicas,
    counts: Sequence[tf.Variable],
    summary_step: tf.Variable | None = None,
  ):
    """Creates the optimiser's variables, such as Adam's moments.

    They are there before the first step, so that a checkpoint can restore
    them.

    Args:
      loss_fn: (...) -> scalars by name, means over this replica's share.
      name: of the scalar that is the loss.
      network: whose variables are trained.
      optimizer: changes them.
      replicas: compile loss and gradients if they are told to.
      counts: critic steps and actor steps, which name a bad step.
      summary_step: of summaries of gradients and variables; None writes none.
    """
    self._loss_fn = loss_fn
    self._name = name
    self._network = network
    self._optimizer = optimizer
    self._compiled = replicas.compiled(self.loss_and_gradients)
    self._counts = counts
    self._summary_step = summary_step
    _create_slots(optimizer, network.trainable_variables)

  def loss_and_gradients(self, *arguments: Any):
    """(scalars of the loss function, gradients of the network's variables)."""
    with tf.GradientTape() as tape:
      scalars = self._loss_fn(*arguments)
    variables = self._network.trainable_variables
    gradients = tape.gradient(scalars[self._name], variables)
    # The gradient of an embedding is a list of rows, in which a row may occur
    # more than once: its norm is not the gradient's.
    return scalars, list(map(tf.convert_to_tensor, gradients))

  def __call__(self, mask: tf.Tensor, *arguments: Any) -> dict[str, tf.Tensor]:
    """Takes a step.

    Args:
      mask: 1 for the entries that count, float [B].
      *arguments: of the loss function.

    Returns:
      The loss function's scalars, of the whole minibatch.
    """
    scalars, gradients = self._compiled(*arguments)
    share = replicas_lib.share(mask)
    aggregation = {}
    if share is not None:
      scalars, gradients = replicas_lib.total(
        tf.nest.map_structure(lambda x: share * x, (scalars, gradients))
      )
      aggregation = {'experimental_aggregate_gradients': False}
    pairs = list(zip(gradients, self._network.trainable_variables, strict=True))
    if self._summary_step is not None:
      eager_utils.add_gradients_summaries(pairs, self._summary_step)
      eager_utils.add_variables_summaries(pairs, self._summary_step)
    name = self._network.name
    with check(scalars[self._name], gradients, name, *self._counts):
      self._optimizer.apply_gradients(pairs, **aggregation)
    return scalars


def check(
  loss: tf.Tensor,
  gradients: Sequence[tf.Tensor],
  network: str,
  critic_steps: tf.Variable,
  actor_steps: tf.Variable,
):
  """A context whose operations wait until the gradients are known to be finite.

  In place of the operations there is an InvalidArgumentError for `bad_step`
  if the loss or the norm of the gradients is NaN or Inf. On a TPU, whose
  programs cannot stop, nothing is checked; the means of the iteration tell.
  """
  if isinstance(tf.distribute.get_strategy(), tf.distribute.TPUStrategy):
    return tf.control_dependencies([])
  norm = tf.linalg.global_norm(gradients)
  is_finite = tf.math.is_finite(loss) & tf.math.is_finite(norm)
  data = [_MARK, network, critic_steps.read_value(), actor_steps.read_value()]
  operation = tf.debugging.Assert(is_finite, data)
  return tf.control_dependencies([] if operation is None else [operation])


def bad_step(error: Exception) -> BadStep | None:
  """The step that `check` stopped at, or None for any other error."""
  # Eagerly, texts are printed as b'...'.
  match = re.search(rf"{_MARK}\W+(?:b')?(\w+)\W+(\d+)\W+(\d+)", str(error))
  return BadStep(match[1], int(match[2]), int(match[3])) if match else None


def _create_slots(optimizer, variables) -> None:
  if isinstance(optimizer, tf.keras.optimizers.legacy.Optimizer):
    optimizer._create_all_weights(variables)
  elif isinstance(optimizer, tf.keras.optimizers.Optimizer):
    optimizer.build(variables)
