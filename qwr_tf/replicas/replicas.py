"""Replicas of `tf.distribute` that train one agent, and their gradient steps.

The table, the loops and the counts of Algorithm 2 stay on the host; targets,
weights and gradient steps go to the replicas, each with its share of the
minibatch. `Replicas` is for the host; `GradientStep` and the functions are for
code that runs in a replica. With one replica, and outside `strategy.run`,
`batch` has no reductions and `own_seed` returns its argument.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import tensorflow as tf
from tf_agents.typing import types
from tf_agents.utils import eager_utils

from qwr_tf.ops import regression

_SUM = tf.distribute.ReduceOp.SUM
_MARK = 'NaN or Inf in the gradient step of'


class Replicas:
  """Runs the steps of an agent under the strategy it was built in.

  With TensorFlow's default strategy `run` calls its function and `split`
  returns its argument.
  """

  def __init__(self):
    """Takes the strategy of the scope it is called in."""
    self._strategy = tf.distribute.get_strategy()
    self._is_default = not tf.distribute.has_strategy()
    # Whether XLA compiles losses and gradients; set before the first step.
    self.jit_compile = False

  @property
  def count(self) -> int:
    """Replicas in sync, on all hosts together."""
    return self._strategy.num_replicas_in_sync

  def check_batch_size(self, batch_size: int) -> None:
    """Raises ValueError unless all shares of a minibatch are equal."""
    if batch_size % self.count:
      raise ValueError(
        f'iterate.batch_size = {batch_size} cannot be shared equally by '
        f'{self.count} replicas; make it a multiple of {self.count}.'
      )

  def function(self, fn: Callable) -> Callable:
    """`tf.function` of a loop on the host, called in the strategy's scope."""
    compiled = tf.function(fn)
    if self._is_default:
      return compiled

    def within_scope(*arguments):
      with self._strategy.scope():
        return compiled(*arguments)

    return within_scope

  def run(self, fn: Callable, **arguments: Any) -> Any:
    """Calls fn on every replica; inside one, or without a strategy, directly.

    Args:
      fn: of tensors; must return the same on every replica.
      **arguments: what `split` returned, or the same for all replicas.

    Returns:
      The results of the first replica.
    """
    if self._is_default or _is_in_replica():
      return fn(**arguments)
    with self._strategy.scope():
      results = self._strategy.run(fn, kwargs=arguments)
    return tf.nest.map_structure(
      lambda x: self._strategy.experimental_local_results(x)[0], results
    )

  def split(self, batch: Any, axis: int = 0) -> Any:
    """Shares of a minibatch, a nest of tensors, for `run`.

    Args:
      batch: tensors whose size is known along the axis; those of size 1 are
        not split and go to all replicas.
    """
    if self.count == 1 or _is_in_replica():
      return batch

    def share(context):
      return tf.nest.map_structure(lambda x: _share(x, axis, context), batch)

    return self._strategy.experimental_distribute_values_from_function(share)

  def map_rows(self, fn: Callable, batch: Any, axis: int) -> tf.Tensor:
    """fn(batch), whose rows are divided among the devices of this host.

    Args:
      fn: must act on each row independently.
      batch: nest of [B, ...] with B known.
      axis: of the rows in what fn returns.

    Returns:
      What fn(batch) would return.
    """
    if self._is_default:
      return fn(batch)
    local = len(self._strategy.extended.worker_devices)
    if tf.nest.flatten(batch)[0].shape[0] % local:
      return fn(batch)
    split = [tf.split(x, local) for x in tf.nest.flatten(batch)]
    parts = (
      tf.nest.pack_sequence_as(batch, part) for part in zip(*split, strict=True)
    )
    values = self._strategy.experimental_distribute_values_from_function(
      lambda _: next(parts)
    )
    results = self._strategy.run(fn, args=(values,))
    return tf.concat(self._strategy.experimental_local_results(results), axis)


def _is_in_replica() -> bool:
  """True if this is inside `strategy.run`; False for the default strategy."""
  return (
    tf.distribute.has_strategy()
    and not tf.distribute.in_cross_replica_context()
  )


def _share(x: tf.Tensor, axis: int, context) -> tf.Tensor:
  size = x.shape[axis]
  if size == 1:
    return x
  parts = context.num_replicas_in_sync
  return tf.split(x, parts, axis)[context.replica_id_in_sync_group]


# For code that runs in a replica.


def together(fn: Callable[[], Any]) -> Any:
  """Calls fn once, in cross-replica context, to change variables of all."""
  if _is_in_replica():
    context = tf.distribute.get_replica_context()
    return context.merge_call(lambda _: fn())
  return fn()


def batch(mask: tf.Tensor | None) -> regression.Batch:
  """The `Batch` of this replica's share of a minibatch, with its mask."""
  context = tf.distribute.get_replica_context()
  if context is None or context.num_replicas_in_sync == 1:
    return regression.Batch(mask)
  return regression.Batch(
    mask,
    context.num_replicas_in_sync,
    lambda values: context.all_reduce(_SUM, values),
    lambda value: context.all_gather(value[tf.newaxis], axis=0),
  )


def sample(
  distribution_fn: Callable, parameters: Any, num_samples: int, seed: types.Seed
) -> tf.Tensor:
  """Samples for this replica's rows, equal to those of a single device.

  Each of R replicas samples for R times its rows with the same seed and keeps
  its own block: together the blocks are what one device would draw for the
  whole minibatch.

  Args:
    distribution_fn: parameters -> distribution.
    parameters: of this replica's rows, a nest of [B, ...].
    num_samples: n.
    seed: int [2], the same in all replicas.

  Returns:
    [n, B, ...].
  """
  context = tf.distribute.get_replica_context()
  if context is None or context.num_replicas_in_sync == 1:
    return distribution_fn(parameters).sample(num_samples, seed=seed)
  copies = context.num_replicas_in_sync
  tiled = tf.nest.map_structure(
    lambda x: tf.concat([x] * copies, 0), parameters
  )
  samples = distribution_fn(tiled).sample(num_samples, seed=seed)
  blocks = tf.stack(tf.split(samples, copies, axis=1))
  return tf.gather(blocks, context.replica_id_in_sync_group)


def own_seed(seed: types.Seed) -> types.Seed:
  """A seed for numbers that no other replica draws."""
  context = tf.distribute.get_replica_context()
  if context is None or context.num_replicas_in_sync == 1:
    return seed
  number = tf.cast(context.replica_id_in_sync_group, tf.int32)
  return tf.random.experimental.stateless_fold_in(seed, number)


# Gradient steps.


class BadStep(NamedTuple):
  """The gradient step that was rejected for NaN or Inf.

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

  With several replicas, metrics and gradients are means over the replicas,
  weighted by the number of unmasked entries of each. Metrics must therefore be
  means over the local entries.
  """

  def __init__(
    self,
    loss_fn: Callable[..., dict[str, tf.Tensor]],
    name: str,
    network,
    optimizer,
    replicas: Replicas,
    counts: Sequence[tf.Variable],
    summary_step: tf.Variable | None = None,
  ):
    """Creates the optimiser's variables, such as Adam's moments.

    They are there before the first step, so that a checkpoint can restore
    them.

    Args:
      loss_fn: (...) -> metrics, means over this replica's share.
      name: of the scalar that is the loss.
      network: whose variables are trained.
      optimizer: changes them.
      replicas: its `jit_compile` says whether XLA compiles the loss.
      counts: critic and actor steps, which the error of a bad step contains.
      summary_step: of summaries of gradients and variables; None writes none.
    """
    self._loss_fn = loss_fn
    self._name = name
    self._network = network
    self._optimizer = optimizer
    self._replicas = replicas
    self._by_xla = tf.function(self.loss_and_gradients, jit_compile=True)
    self._counts = counts
    self._summary_step = summary_step
    _create_slots(optimizer, network.trainable_variables)

  def loss_and_gradients(self, *arguments: Any):
    """(scalars of the loss function, gradients of the network's variables)."""
    with tf.GradientTape() as tape:
      scalars = self._loss_fn(*arguments)
    variables = self._network.trainable_variables
    gradients = tape.gradient(scalars[self._name], variables)
    # Dense, because the gradient of an embedding is a list of rows that may
    # repeat, so that its norm would be wrong.
    return scalars, list(map(tf.convert_to_tensor, gradients))

  def __call__(
    self, batch: regression.Batch, *arguments: Any
  ) -> dict[str, tf.Tensor]:
    """Takes a step.

    Args:
      batch: its mask is 1 for the entries that count, float [B].

    Returns:
      The loss function's scalars, of the whole minibatch.
    """
    jit_compile = self._replicas.jit_compile
    function = self._by_xla if jit_compile else self.loss_and_gradients
    scalars, gradients = function(*arguments)
    aggregation = {}
    if batch.num_replicas > 1:
      count = tf.reduce_sum(batch.mask)
      share = tf.math.divide_no_nan(count, batch.sum(count))
      scalars, gradients = batch.sum(
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
  """A context of control dependencies: raises unless the step is finite.

  InvalidArgumentError, which `bad_step` parses, if the loss or the norm of the
  gradients is NaN or Inf. On a TPU, whose programs cannot stop, nothing is
  checked: NaN shows in the metrics of the iteration only.
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
  match = re.search(rf"{_MARK}\W+(?:b')?([\w./-]+)\W+(\d+)\W+(\d+)", str(error))
  return BadStep(match[1], int(match[2]), int(match[3])) if match else None


def _create_slots(optimizer, variables) -> None:
  if isinstance(optimizer, tf.keras.optimizers.legacy.Optimizer):
    optimizer._create_all_weights(variables)
  elif isinstance(optimizer, tf.keras.optimizers.Optimizer):
    optimizer.build(variables)
