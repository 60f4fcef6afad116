"""One gradient step, on one device or on replicas that stay equal."""

from collections.abc import Callable

import tensorflow as tf
from tf_agents.utils import eager_utils

from qwr_tf.agents import finite
from qwr_tf.agents import windows
from qwr_tf.ops import cross_replica


class GradientStep:
  """A step of an optimiser down the mean of a loss over a minibatch.

  Where replicas hold shares of the minibatch, loss and gradients are those of
  the whole: each replica's, times its part of the entries that count, summed.
  """

  def __init__(self, agent, loss_fn: Callable, name: str, network, optimizer):
    """Creates what the optimiser keeps for each variable, Adam's moments.

    Before the first step, so that a checkpoint knows what to restore.

    Args:
      agent: its `replicas` make the step, its step counts name a bad one.
      loss_fn: (windows, ...) -> scalars by name, means over a minibatch.
      name: of the scalar that is the loss.
      network: whose variables are trained.
      optimizer: which changes them.
    """
    self._agent = agent
    self._loss_fn = loss_fn
    self._name = name
    self._network = network
    self._optimizer = optimizer
    self._compiled = agent.replicas.compiled(self.loss_and_gradients)
    _create_slots(optimizer, network.trainable_variables)

  def loss_and_gradients(self, *arguments):
    """(scalars of the loss function, gradients of the network's variables)."""
    with tf.GradientTape() as tape:
      scalars = self._loss_fn(*arguments)
    variables = self._network.trainable_variables
    gradients = tape.gradient(scalars[self._name], variables)
    # A table's gradient comes as rows, some more than once: their norm is not
    # the gradient's, and replicas do not have them in common.
    return scalars, [tf.convert_to_tensor(g) for g in gradients]

  def __call__(self, *arguments) -> dict[str, tf.Tensor]:
    """Takes the step; arguments and scalars are those of the loss function."""
    replicas = self._agent.replicas
    return replicas.one(replicas.run(self._on_replica, *arguments))

  def _on_replica(self, *arguments) -> dict[str, tf.Tensor]:
    scalars, gradients = self._compiled(*arguments)
    mask = windows.mask_of(windows.first_step(arguments[0]))
    share = cross_replica.share(mask)
    aggregation = {}
    if share is not None:
      scalars, gradients = _of_whole(scalars, gradients, share)
      aggregation = {'experimental_aggregate_gradients': False}
    self._apply(scalars[self._name], gradients, aggregation)
    return scalars

  def _apply(self, loss, gradients, aggregation) -> None:
    agent, network = self._agent, self._network
    steps = agent.critic_steps, agent.actor_steps
    check = finite.check(loss, gradients, network.name, *steps)
    pairs = list(zip(gradients, network.trainable_variables, strict=True))
    if agent.summarize_grads_and_vars:
      eager_utils.add_gradients_summaries(pairs, agent.train_step_counter)
      eager_utils.add_variables_summaries(pairs, agent.train_step_counter)
    with tf.control_dependencies(check):
      self._optimizer.apply_gradients(pairs, **aggregation)


def summarize(agent, scalars: dict[str, tf.Tensor]) -> None:
  """Writes scalars of gradient steps as summaries, if the agent is to."""
  if agent.debug_summaries:
    for name, value in scalars.items():
      tf.summary.scalar(f'{agent.name}/{name}', value, agent.train_step_counter)


def _create_slots(optimizer, variables) -> None:
  if isinstance(optimizer, tf.keras.optimizers.legacy.Optimizer):
    optimizer._create_all_weights(variables)
  elif isinstance(optimizer, tf.keras.optimizers.Optimizer):
    optimizer.build(variables)


def _of_whole(scalars, gradients, share):
  """Loss and gradients of the whole minibatch from those of a share."""
  parts = tf.nest.map_structure(lambda x: share * x, (scalars, gradients))
  return cross_replica.total(parts)
