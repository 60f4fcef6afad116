"""A connection to a Reverb server, with a timeout for every wait."""

import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import reverb
import tensorflow as tf
import tree
from absl import logging

from qwr_tf.distributed import reverb_server

_SECONDS_OF_A_CALL = 10
_SECONDS_BETWEEN_CALLS = 0.2


class UnreachableError(Exception):
  """No answer of the server, or of another role, in time."""


class MismatchError(Exception):
  """A server of another run."""


class Connection:
  """A server that may go away for a while and come back on its port."""

  def __init__(self, address: str, seconds: float):
    """Connects at the first call.

    Args:
      address: host:port.
      seconds: how long the server may be away.
    """
    self.address = address
    self.seconds = seconds
    self.client = reverb.Client(address)

  def tables(self) -> dict[str, Any]:
    """Reverb's `TableInfo` by table.

    Raises:
      UnreachableError: if the server stays away.
    """
    return self._until(self.tables_now, 'it does not answer')

  def tables_now(self) -> dict[str, Any] | None:
    """As `tables`; None if the server does not answer now."""
    try:
      return self.client.server_info(timeout=_SECONDS_OF_A_CALL)
    except (RuntimeError, reverb.ReverbError):
      return None

  def _until(self, ask: Callable[[], Any], complaint: str) -> Any:
    """Calls `ask` until it returns something else than None."""
    end = time.monotonic() + self.seconds
    has_complained = False
    while (answer := ask()) is None:
      if time.monotonic() > end:
        raise self.unreachable(complaint)
      if not has_complained:
        logging.warning(
          'Reverb server %s: %s; waiting up to %g s.',
          self.address,
          complaint,
          self.seconds,
        )
        has_complained = True
      time.sleep(_SECONDS_BETWEEN_CALLS)
    return answer

  def unreachable(self, complaint: str) -> UnreachableError:
    """The error after `seconds` of waiting."""
    return UnreachableError(
      f'Reverb server {self.address}: {complaint}, for {self.seconds:g} s.'
    )

  def check(self, specs: dict[str, Any], configuration: str) -> None:
    """Compares the server's tables and configuration with this role's.

    Raises:
      UnreachableError: if the server does not answer.
      MismatchError: if something differs.
    """
    tables = self.tables()
    for name in (*specs, reverb_server.CONFIGURATION):
      if name not in tables:
        raise MismatchError(
          f'Reverb server {self.address} has no table {name!r} but '
          f'{", ".join(sorted(tables))}: it belongs to something else.'
        )
    for name, spec in specs.items():
      if difference := _difference(tables[name].signature, spec):
        raise MismatchError(
          f'Reverb server {self.address} has another signature for table '
          f'{name!r}: {difference}. Start all roles with the same '
          'configuration.'
        )
    there = self.read(reverb_server.CONFIGURATION).tobytes().decode()
    if there != configuration:
      raise MismatchError(
        f'Reverb server {self.address} runs another configuration: '
        f'{_first_difference(there, configuration)}. Start all roles with the '
        'same --gin_file, --gin_bindings and --seed.'
      )

  def read(self, table: str) -> Any:
    """The item of a table of size 1, NumPy arrays; waits for one."""

    def now():
      tables = self.tables_now()
      if not tables or not tables[table].current_size:
        return None
      return within(_SECONDS_OF_A_CALL, self._sample, table)

    return self._until(now, f'nothing in its table {table!r} yet')

  def _sample(self, table: str) -> Any:
    (sample,) = self.client.sample(
      table, emit_timesteps=False, unpack_as_table_signature=True
    )
    return sample.data

  def write(self, table: str, item: Any) -> None:
    """Writes an item into a table of size 1.

    Raises:
      UnreachableError: if the server stays away.
    """

    def now():
      # A new writer: one that lost its server may keep the item for itself.
      writer = self.client.trajectory_writer(1, validate_items=False)
      try:
        writer.append(item)
        row = tree.map_structure(lambda column: column[-1], writer.history)
        writer.create_item(table, 1.0, row)
        writer.flush(timeout_ms=1000 * _SECONDS_OF_A_CALL)
        return True
      except (RuntimeError, reverb.ReverbError):
        return None

    self.tables()
    self._until(now, f'it takes nothing into its table {table!r}')

  def checkpoint(self) -> str | None:
    """The path of a new checkpoint of the server; None if it fails."""
    return within(self.seconds, self._checkpoint)

  def _checkpoint(self) -> str | None:
    try:
      return self.client.checkpoint()
    except RuntimeError as error:
      logging.warning('No checkpoint of the Reverb server: %s', error)
      return None


def within(seconds: float, fn: Callable, *arguments: Any) -> Any:
  """A call of Reverb with a timeout; None if it takes longer or fails.

  A call that hangs keeps its thread.
  """
  results = []

  def call():
    try:
      results.append(fn(*arguments))
    except RuntimeError as error:
      logging.warning('Reverb: %s', error)

  thread = threading.Thread(target=call, daemon=True)
  thread.start()
  thread.join(seconds)
  return results[0] if results else None


def _difference(there: Any, here: Any) -> str:
  """The first field in which two signatures differ, or ''."""
  ours, theirs = tree.flatten_with_path(here), tree.flatten(there)
  if len(ours) != len(theirs):
    return f'{len(theirs)} fields there, {len(ours)} here'
  for (path, spec), other in zip(ours, theirs, strict=True):
    if tuple(spec.shape) != tuple(other.shape) or spec.dtype != other.dtype:
      name = '.'.join(map(str, path))
      return f'{name} is {_in_words(other)} there, {_in_words(spec)} here'
  return ''


def _in_words(spec: tf.TensorSpec) -> str:
  return f'{spec.dtype.name}{list(spec.shape)}'


def _first_difference(there: str, here: str) -> str:
  theirs, ours = there.splitlines(), here.splitlines()
  only_there = next((x for x in theirs if x not in ours), 'nothing')
  only_here = next((x for x in ours if x not in theirs), 'nothing')
  return f'{only_there!r} there, {only_here!r} here'


def as_item(text: str) -> np.ndarray:
  """A text as an item of the table `configuration`."""
  return np.frombuffer(text.encode(), np.uint8)
