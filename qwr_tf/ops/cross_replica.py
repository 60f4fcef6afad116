"""What a minibatch is as a whole, where each replica holds a share of it.

Under a strategy of `tf.distribute` the functions below say in every replica
what belongs to all of them. With one replica, and outside `strategy.run`, each
returns what it was given.
"""

from collections.abc import Callable
from typing import Any

import tensorflow as tf
from tf_agents.typing import types

_SUM = tf.distribute.ReduceOp.SUM


def _context() -> tf.distribute.ReplicaContext | None:
  """Of a replica among others; else None."""
  context = tf.distribute.get_replica_context()
  if context is None or context.num_replicas_in_sync == 1:
    return None
  return context


def total(values: Any) -> Any:
  """Sums over the replicas, of a nest of tensors."""
  context = _context()
  return context.all_reduce(_SUM, values) if context else values


def mean(value: tf.Tensor) -> tf.Tensor:
  """Mean over the replicas; shares have the same size."""
  return total(part(value))


def masked_mean(values: tf.Tensor, mask: tf.Tensor | None) -> tf.Tensor:
  """Mean over all replicas' entries that count.

  Args:
    values: float [...].
    mask: [...], not zero for the entries that count; None counts all.

  Returns:
    float scalar, 0 where nothing counts.
  """
  if mask is None:
    return mean(tf.reduce_mean(values))
  counts = tf.cast(mask, tf.bool)
  sum_of_values, count = total(
    (
      tf.reduce_sum(tf.where(counts, values, 0.0)),
      tf.reduce_sum(tf.cast(counts, values.dtype)),
    )
  )
  return tf.math.divide_no_nan(sum_of_values, count)


def part(value: tf.Tensor) -> tf.Tensor:
  """A value whose total over the replicas is the mean of theirs."""
  context = _context()
  return value / context.num_replicas_in_sync if context else value


def maximum(value: tf.Tensor) -> tf.Tensor:
  """The largest over the replicas, of a scalar."""
  return _over_each(tf.reduce_max, value)


def log_sum_exp(value: tf.Tensor) -> tf.Tensor:
  """Log sum exp over the replicas, of a scalar."""
  return _over_each(tf.reduce_logsumexp, value)


def _over_each(fn: Callable, value: tf.Tensor) -> tf.Tensor:
  """Fn of the values of all replicas, [R]."""
  context = _context()
  if context is None:
    return value
  return fn(context.all_gather(value[tf.newaxis], axis=0))


def share(mask: tf.Tensor) -> tf.Tensor | None:
  """Part of all entries that count which this replica holds.

  A mean over the whole minibatch is the sum over replicas of share times the
  mean over what each holds.

  Args:
    mask: 1 for the entries that count, float [B].

  Returns:
    float scalar; None if there is one replica.
  """
  if _context() is None:
    return None
  count = tf.reduce_sum(mask)
  return tf.math.divide_no_nan(count, total(count))


# Random numbers.


def tiled(values: Any) -> Any:
  """The own rows [B, ...] in the place of each replica's, [R * B, ...].

  Every replica draws for all these rows, with one seed, and takes its `own`:
  together they hold what one device would have drawn for the whole minibatch.
  """
  context = _context()
  if context is None:
    return values
  copies = context.num_replicas_in_sync
  return tf.nest.map_structure(lambda x: tf.concat([x] * copies, 0), values)


def own(values: tf.Tensor) -> tf.Tensor:
  """The own rows of [n, R * B, ...], [n, B, ...]."""
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
