"""The collector's side of the tables: a writer of windows with μ."""

import secrets
import time
from typing import Any

import numpy as np
import reverb
import tensorflow as tf
from absl import logging
from tf_agents.trajectories import time_step as ts
from tf_agents.trajectories import trajectory

from qwr_tf.distributed import reverb_client
from qwr_tf.distributed import reverb_server
from qwr_tf.replay import packing

_FLUSH_MS = 10_000
# Items on their way; Reverb warns from about 50 on.
_MOST_PENDING = 32


class WindowWriter:
  """A writer of windows of T + 1 rows, with the interface of `ReplayTable`.

  A window starts at each transition and may cross the ends of episodes. It is
  written once its last row is there: the newest T rows of a process that dies
  start none.
  """

  def __init__(
    self, connection: reverb_client.Connection, horizon: int, rows: int = 1000
  ):
    """Writes nothing yet; `rows` is the most that `append` takes."""
    self.capacity = rows
    self.session = secrets.randbits(62)
    self.interactions = 0  # Written by this process.
    self._connection = connection
    self._length = horizon + 1
    self._types: list[int] = []  # Of the newest rows, at most T + 1.
    self._writer = self._new_writer()

  def _new_writer(self) -> reverb.TrajectoryWriter:
    self._types = []
    return self._connection.client.trajectory_writer(self._length)

  def append(self, rows: trajectory.Trajectory) -> None:
    """Adds consecutive rows [N, ...] and waits until the server has them.

    Raises:
      UnreachableError: if it stays away.
    """
    rows = tf.nest.map_structure(lambda x: x.numpy(), rows)
    columns = packing.pack(rows)
    for i, step_type in enumerate(rows.step_type):
      row = {name: column[i] for name, column in columns.items()}
      self._append_row(row, int(step_type))
      self._flush(_MOST_PENDING)
    self._flush(0)

  def _append_row(self, row: dict[str, np.ndarray], step_type: int) -> None:
    session, number = np.int64(self.session), np.int64(self.interactions)
    self._writer.append({'row': row, 'session': session, 'number': number})
    history = self._writer.history
    if step_type != ts.StepType.LAST:
      self.interactions += 1
      arrival = tf.nest.map_structure(lambda column: column[-1], history)
      self._create(reverb_server.ARRIVALS, reverb_server.Arrival(**arrival))
    self._types = [*self._types[1 - self._length :], step_type]
    is_full = len(self._types) == self._length
    if is_full and self._types[0] != ts.StepType.LAST:
      window = {
        name: column[-self._length :] for name, column in history['row'].items()
      }
      self._create(reverb_server.EXPERIENCE, window)

  def _create(self, table: str, item: Any) -> None:
    self._writer.create_item(table, priority=1.0, trajectory=item)

  def _flush(self, pending: int) -> None:
    """Waits until at most `pending` items are on their way."""
    end = time.monotonic() + self._connection.seconds
    while True:
      try:
        return self._writer.flush(pending, _FLUSH_MS)
      except reverb.DeadlineExceededError:
        self._connection.tables()  # Waits for the server, or gives up.
        if time.monotonic() > end:
          raise self._connection.unreachable('it takes no windows') from None
      except RuntimeError as error:
        self._connection.tables()
        logging.warning('Reverb: %s. What was under way is lost.', error)
        self._writer = self._new_writer()
        return None

  def close(self) -> None:
    """Ends the connection; rows that are not flushed are lost."""
    self._writer.close()
