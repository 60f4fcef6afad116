"""Replicas of `tf.distribute` that train one agent together.

The table, the loops and the counts of Algorithm 2 stay on the host; targets,
weights and gradient steps go to the replicas, each with its share of the
minibatch. The class is for the host. The functions below it are for code that
runs in a replica; with one replica, and outside `strategy.run`, each returns
its argument.
"""

from collections.abc import Callable
from typing import Any

import tensorflow as tf
from tf_agents.typing import types

from qwr_tf.ops import reductions

_SUM = tf.distribute.ReduceOp.SUM


class Replicas:
  """The strategy in whose scope an agent was built.

  With TensorFlow's default strategy `run` calls and `split` and `one` return
  what they are given: the program is the one without them.
  """

  def __init__(self):
    """Takes the strategy of the scope it is called in."""
    self._strategy = tf.distribute.get_strategy()
    self._is_default = not tf.distribute.has_strategy()
    # Whether `compiled` compiles; to be set before the first step.
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
    """`tf.function` for a loop on the host that calls `run`."""
    compiled = tf.function(fn)
    if self._is_default:
      return compiled

    def within_scope(*arguments):
      with self._strategy.scope():
        return compiled(*arguments)

    return within_scope

  def run(self, fn: Callable, **arguments: Any) -> Any:
    """Calls fn on every replica; in a replica, and by default, just here.

    Args:
      fn: of tensors.
      **arguments: what `split` returned, or the same for all replicas.

    Returns:
      What fn returns, a value per replica; for `run` and `one`.
    """
    if self._is_default or _is_in_replica():
      return fn(**arguments)
    with self._strategy.scope():
      return self._strategy.run(fn, kwargs=arguments)

  def split(self, batch: Any, axis: int = 0) -> Any:
    """Shares of a minibatch, a nest of tensors, for `run`.

    Args:
      batch: tensors whose size is known along the axis; those of size 1 are
        the same for every row and go to all replicas.
      axis: the batch.
    """
    if self.count == 1 or _is_in_replica():
      return batch

    def share(context):
      return tf.nest.map_structure(lambda x: _share(x, axis, context), batch)

    return self._strategy.experimental_distribute_values_from_function(share)

  def one(self, values: Any) -> Any:
    """A nest whose values are the same on every replica, without the others."""
    if self._is_default or _is_in_replica():
      return values
    return tf.nest.map_structure(
      lambda x: self._strategy.experimental_local_results(x)[0], values
    )

  def map_rows(self, fn: Callable, batch: tf.Tensor, axis: int) -> tf.Tensor:
    """Fn of [B, ...], computed by the replicas of this host, a part each.

    Args:
      fn: of rows that do not know of each other.
      batch: [B, ...] with B known.
      axis: of the rows in what fn returns.

    Returns:
      What fn(batch) would return.
    """
    if self._is_default:
      return fn(batch)
    local = len(self._strategy.extended.worker_devices)
    if batch.shape[0] % local:
      return fn(batch)
    parts = iter(tf.split(batch, local))
    values = self._strategy.experimental_distribute_values_from_function(
      lambda _: next(parts)
    )
    results = self._strategy.run(fn, args=(values,))
    return tf.concat(self._strategy.experimental_local_results(results), axis)

  def compiled(self, fn: Callable) -> Callable:
    """Fn, by XLA if `jit_compile` says so.

    Args:
      fn: of tensors, which neither asks the host nor another replica.
    """
    by_xla = tf.function(fn, jit_compile=True)

    def call(*arguments, **kwargs):
      return (by_xla if self.jit_compile else fn)(*arguments, **kwargs)

    return call


def _is_in_replica() -> bool:
  """Whether this is inside `strategy.run`, of the default strategy apart."""
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


def _context() -> tf.distribute.ReplicaContext | None:
  """The context of a replica among others, else None."""
  context = tf.distribute.get_replica_context()
  if context is None or context.num_replicas_in_sync == 1:
    return None
  return context


def together(fn: Callable[[], Any]) -> Any:
  """Calls fn once for all replicas, to change variables on all of them."""
  if _is_in_replica():
    context = tf.distribute.get_replica_context()
    return context.merge_call(lambda _: fn())
  return fn()


def total(values: Any) -> Any:
  """Sums over the replicas, of a nest of tensors."""
  context = _context()
  return context.all_reduce(_SUM, values) if context else values


def batch(mask: tf.Tensor | None) -> reductions.Batch:
  """The minibatch of which this replica holds the share with this mask."""
  context = _context()
  if context is None:
    return reductions.Batch(mask)
  return reductions.Batch(
    mask,
    total,
    lambda value: context.all_gather(value[tf.newaxis], axis=0),
    context.num_replicas_in_sync,
  )


def part(value: tf.Tensor) -> tf.Tensor:
  """A value whose total over the replicas is the mean of theirs."""
  context = _context()
  return value / context.num_replicas_in_sync if context else value


def share(mask: tf.Tensor) -> tf.Tensor | None:
  """Fraction of all entries that count which this replica holds.

  A mean over the whole minibatch is the sum over replicas of the share times
  the mean over the entries of each.

  Args:
    mask: 1 for the entries that count, float [B].

  Returns:
    float scalar; None if there is one replica.
  """
  if _context() is None:
    return None
  count = tf.reduce_sum(mask)
  return tf.math.divide_no_nan(count, total(count))


def tiled(values: Any) -> Any:
  """This replica's rows [B, ...] in the place of each one's, [R * B, ...].

  Every replica draws for all these rows, with one seed, and takes its `own`:
  together they hold what one device would have drawn for the whole minibatch.
  """
  context = _context()
  if context is None:
    return values
  copies = context.num_replicas_in_sync
  return tf.nest.map_structure(lambda x: tf.concat([x] * copies, 0), values)


def own(values: tf.Tensor) -> tf.Tensor:
  """This replica's rows of [n, R * B, ...], [n, B, ...]."""
  context = _context()
  if context is None:
    return values
  of_each = tf.stack(tf.split(values, context.num_replicas_in_sync, axis=1))
  return tf.gather(of_each, context.replica_id_in_sync_group)


def own_seed(seed: types.Seed) -> types.Seed:
  """A seed for numbers that no other replica draws."""
  context = _context()
  if context is None:
    return seed
  number = tf.cast(context.replica_id_in_sync_group, tf.int32)
  return tf.random.experimental.stateless_fold_in(seed, number)
