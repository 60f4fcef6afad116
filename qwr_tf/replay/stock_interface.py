"""TF-Agents' interface of the replay table, for stock drivers and learners."""

import tensorflow as tf
from tf_agents.replay_buffers import replay_buffer
from tf_agents.trajectories import trajectory
from tf_agents.typing import types


class StockInterface(replay_buffer.ReplayBuffer):
  """What TF-Agents calls, in terms of `append`, `sample` and `read`."""

  def __init__(
    self, data_spec: types.NestedTensorSpec, capacity: int, seed: int
  ):
    """As in `ReplayTable`."""
    super().__init__(data_spec, capacity, stateful_dataset=True)
    self._seed = seed
    with tf.device('/cpu:0'):
      zero = tf.zeros([], tf.int64)
      self._draws = tf.Variable(zero, trainable=False, name='draws')

  def _add_batch(self, items: trajectory.Trajectory) -> None:
    batch_size = items.step_type.shape[0]
    if batch_size != 1:
      raise ValueError(
        f'ReplayTable takes frames of one environment, not {batch_size}: '
        'frames of several would interleave. Use one table for each.'
      )
    self.append(items)

  def _get_next(
    self,
    sample_batch_size: int | None = None,
    num_steps: int | None = None,
    time_stacked: bool = True,
  ):
    seed = tf.stack([tf.constant(self._seed, tf.int64), self._draws])
    self._draws.assign_add(1)
    items = self.sample(sample_batch_size or 1, num_steps or 1, seed)
    if num_steps is None:
      items = _step(items, 0)
    elif not time_stacked:
      items = tuple(_step(items, t) for t in range(num_steps))
    if sample_batch_size is None:
      items = tf.nest.map_structure(lambda x: x[0], items)
    return items, ()

  def _as_dataset(
    self,
    sample_batch_size: int | None = None,
    num_steps: int | None = None,
    sequence_preprocess_fn=None,
    num_parallel_calls: int | None = None,
  ) -> tf.data.Dataset:
    del num_parallel_calls  # Draws are counted, so they come one by one.
    if sequence_preprocess_fn is not None:
      raise NotImplementedError('Preprocess after sampling instead.')
    dataset = tf.data.Dataset.counter()
    return dataset.map(lambda _: self._get_next(sample_batch_size, num_steps))

  def _single_deterministic_pass_dataset(self, *_, **__):
    raise NotImplementedError(
      'A pass over the table in order is `ReplayTable.read`.'
    )

  def _gather_all(self) -> trajectory.Trajectory:
    rows = self.read(*self.row_range())
    return tf.nest.map_structure(lambda x: x[tf.newaxis], rows)


def _step(window: trajectory.Trajectory, t: int) -> trajectory.Trajectory:
  """Step t of windows, [B, T + 1, ...] -> [B, ...]."""
  return tf.nest.map_structure(lambda x: x[:, t], window)
