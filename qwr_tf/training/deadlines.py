"""Timeouts that end the process with a message."""

import contextlib
import os
import socket
import sys
import threading
from collections.abc import Iterator

from qwr_tf.config.errors import ConfigError


@contextlib.contextmanager
def deadline(seconds: float, message: str) -> Iterator[None]:
  """Ends the process with exit code 2 if the context takes longer.

  For calls into libraries that wait for ever. Nothing is cleaned up: use it
  where nothing has been written yet.

  Args:
    seconds: from entering to leaving.
    message: names the missing answer and the fix.
  """
  timer = threading.Timer(seconds, end_process, [message, 2])
  timer.daemon = True
  timer.start()
  try:
    yield
  finally:
    timer.cancel()


def end_process(message: str, code: int) -> None:
  """Ends the process at once, from any thread, with an error message."""
  with contextlib.suppress(OSError):  # Of a terminal that is gone.
    print(f'error: {message}', file=sys.stderr, flush=True)
  os._exit(code)


def check_reachable(address: str, seconds: float, name: str) -> None:
  """Checks that a server listens at an address.

  Args:
    address: host:port.
    name: of the server, for the message.

  Raises:
    ConfigError: if none does.
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
