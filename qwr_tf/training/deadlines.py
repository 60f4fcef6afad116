"""Waits that end: with a message instead of in silence."""

import contextlib
import os
import socket
import sys
import threading
from collections.abc import Iterator

from qwr_tf.config.errors import ConfigError


@contextlib.contextmanager
def deadline(seconds: float, message: str) -> Iterator[None]:
  """Ends the process if what is inside takes longer.

  For calls into libraries that wait without end and listen to nobody. Nothing
  is cleaned up: use it where nothing has been written yet.

  Args:
    seconds: from entering to leaving.
    message: what was waited for, and what to do about it.
  """
  timer = threading.Timer(seconds, end_process, [message, 2])
  timer.daemon = True
  timer.start()
  try:
    yield
  finally:
    timer.cancel()


def end_process(message: str, code: int) -> None:
  """Ends it at once, from whatever thread, with a line that says why."""
  print(f'error: {message}', file=sys.stderr, flush=True)
  os._exit(code)


def check_reachable(address: str, seconds: float, name: str) -> None:
  """Looks whether somebody listens at an address.

  Args:
    address: host:port.
    seconds: to wait for an answer.
    name: what the address is, for the message.

  Raises:
    ConfigError: if nobody does.
  """
  host, _, port = address.rpartition(':')
  try:
    if not port.isdigit():
      raise ValueError('not host:port')
    with socket.create_connection((host.strip('[]'), int(port)), seconds):
      pass
  except (OSError, ValueError, OverflowError) as error:
    reason = getattr(error, 'strerror', None) or error
    raise ConfigError(f'{name} cannot be reached ({reason}).') from error
