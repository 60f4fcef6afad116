"""The learner's side of the tables: minibatches and arrivals."""

import json
import math
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import reverb
import tensorflow as tf
from absl import logging
from tf_agents.trajectories import time_step as ts
from tf_agents.trajectories import trajectory
from tf_agents.typing import types

from qwr_tf.distributed import reverb_client
from qwr_tf.distributed import reverb_server
from qwr_tf.replay import packing

_TIMEOUT_MS = 2_000
# Windows on their way, as a multiple of a minibatch; more means older windows.
_BATCHES_IN_FLIGHT = 3


class ReverbTable:
  """A table whose windows a server draws uniformly, for `PerMinibatch`.

  It has no row numbers, which `WholeTable` and `ExactReuse` need.
  """

  def __init__(
    self,
    connection: reverb_client.Connection,
    specs: dict[str, Any],
    data_spec: trajectory.Trajectory,
  ):
    """Asks nothing yet.

    Args:
      connection: to the server.
      specs: from `reverb_server.signatures`.
      data_spec: the agent's `collect_data_spec`.
    """
    self._connection = connection
    self._signature = specs[reverb_server.EXPERIENCE]
    self._data_spec = data_spec
    self._iterators: dict[int, Any] = {}
    with tf.device('/cpu:0'):
      # The windows of the newest step; a server cannot draw them again.
      self._latest = tf.nest.map_structure(
        lambda s: tf.Variable(
          tf.zeros([0, 0, *s.shape], s.dtype),
          False,
          shape=[None, None, *s.shape],
        ),
        data_spec,
      )

  def windows(
    self, shape, window_rows: int, seed: types.Seed
  ) -> Callable[[tf.Tensor], trajectory.Trajectory]:
    """As `ReplayTable.windows`; the server draws, without the seed."""
    iterator = self._iterator(int(shape[1]))

    def read(i) -> trajectory.Trajectory:
      batch = packing.unpack(iterator.get_next(), self._data_spec)
      tf.nest.map_structure(lambda v, x: v.assign(x), self._latest, batch)
      return batch

    return read

  def _iterator(self, batch_size: int):
    if batch_size in self._iterators:
      return self._iterators[batch_size]
    with tf.init_scope():  # The iterator outlives the first graph.
      dataset = _dataset(
        self._connection,
        reverb_server.EXPERIENCE,
        self._signature,
        _BATCHES_IN_FLIGHT * batch_size,
      )
      # A data set ends at the server's timeout; the next one follows, without
      # end: the learner watches the server.
      repeated = tf.data.Dataset.counter().flat_map(lambda _: dataset)
      dataset = repeated.batch(batch_size, drop_remainder=True)
      self._iterators[batch_size] = iter(dataset)
    return self._iterators[batch_size]

  def redraw(
    self, shape, window_rows: int, seed: types.Seed, i: int
  ) -> tuple[tf.Tensor, trajectory.Trajectory]:
    """(no starts, as a server has no row numbers; the newest windows)."""
    latest = tf.nest.map_structure(lambda v: v.value(), self._latest)
    return tf.zeros([0], tf.int64), latest

  def files(self) -> 'ServerFiles':
    """The table's part of a checkpoint."""
    return ServerFiles(self._connection)


class ServerFiles:
  """The server's own checkpoints, one with each of the learner's."""

  def __init__(self, connection: reverb_client.Connection):
    """Asks nothing yet."""
    self._connection = connection

  def save(
    self, folder: pathlib.Path, before: pathlib.Path | None
  ) -> list[str]:
    """As `TableFiles.save`; the file names the server's checkpoint."""
    del before
    path = self._connection.checkpoint()
    (folder / 'reverb.json').write_text(json.dumps({'checkpoint': path}))
    return []

  def restore(self, folder: pathlib.Path) -> None:
    """Does nothing: the server restores its own table."""


class Arrivals:
  """The queue of interactions, each of which the learner counts once."""

  def __init__(
    self,
    connection: reverb_client.Connection,
    specs: dict[str, Any],
    data_spec: trajectory.Trajectory,
  ):
    """Takes nothing yet; arguments as for `ReverbTable`."""
    self._connection = connection
    self._signature = specs[reverb_server.ARRIVALS]
    self._data_spec = data_spec
    self._next_numbers: dict[int, int] = {}  # By session.
    self._returns: dict[int, float] = {}  # Of the running episodes.
    self.lost = 0

  def take(self, count: int) -> tuple[np.ndarray, list[float]]:
    """Takes at most `count` of the oldest interactions.

    Returns:
      (observations [N, ...], returns of the episodes that ended, from the
      rewards that are learned from). Left out are interactions that a restored
      server repeats, and returns of episodes with lost rows.
    """
    dataset = _dataset(
      self._connection,
      reverb_server.ARRIVALS,
      self._signature,
      count,
      max_samples=count,
    )
    spec = self._data_spec.observation
    observations = [np.zeros([0, *spec.shape], spec.dtype.as_numpy_dtype)]
    returns: list[float] = []
    for batch in _up_to_its_death(dataset.batch(count)):
      rows = packing.unpack(batch.row, self._data_spec)
      is_last = rows.next_step_type == ts.StepType.LAST
      columns = (batch.session, batch.number, rows.reward, is_last)
      is_new = np.zeros(batch.session.shape, bool)
      for i, (session, number, reward, last) in enumerate(
        zip(*(column.numpy().tolist() for column in columns), strict=True)
      ):
        is_new[i] = self._is_new(session, number)
        if is_new[i]:
          returns += self._ended(session, reward, last)
      observations.append(rows.observation.numpy()[is_new])
    return np.concatenate(observations), returns

  def _is_new(self, session: int, number: int) -> bool:
    expected = self._next_numbers.get(session, 0)
    if number < expected:
      return False
    if number > expected:
      self.lost += number - expected
      self._returns[session] = math.nan  # Until its episode, or next, ends.
    self._next_numbers[session] = number + 1
    return True

  def _ended(self, session: int, reward: float, last: bool) -> list[float]:
    """[return] if an episode without lost rows ends with this row."""
    total = self._returns.pop(session, 0.0) + reward
    if not last:
      self._returns[session] = total
    return [total] if last and not math.isnan(total) else []

  def state(self) -> dict[str, Any]:
    """The counts, for a checkpoint."""
    return {
      'next_numbers': {str(s): n for s, n in self._next_numbers.items()},
      'returns': {str(s): r for s, r in self._returns.items()},
      'lost': self.lost,
    }

  def restore(self, state: dict[str, Any]) -> None:
    """Restores the counts of `state`."""
    self._next_numbers = {int(s): n for s, n in state['next_numbers'].items()}
    self._returns = {int(s): r for s, r in state['returns'].items()}
    self.lost = state['lost']


def _dataset(
  connection, table: str, spec, in_flight: int, max_samples: int = -1
) -> tf.data.Dataset:
  """Items of a table; ends at the server's timeout."""
  dataset = reverb.TrajectoryDataset(
    connection.address,
    table,
    dtypes=tf.nest.map_structure(lambda s: s.dtype, spec),
    shapes=tf.nest.map_structure(lambda s: s.shape, spec),
    max_in_flight_samples_per_worker=in_flight,
    num_workers_per_iterator=1,
    rate_limiter_timeout_ms=_TIMEOUT_MS,
    max_samples=max_samples,
  )
  return dataset.map(lambda sample: sample.data)


def _up_to_its_death(batches: tf.data.Dataset) -> Iterator[Any]:
  """Yields batches until the server goes away."""
  try:
    yield from batches
  except tf.errors.OpError as error:
    logging.warning('Reverb: %s', error.message)
