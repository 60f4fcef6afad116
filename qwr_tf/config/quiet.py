"""Messages of libraries in C++, hidden."""

import contextlib
import os
from collections.abc import Iterator


@contextlib.contextmanager
def quiet_stderr() -> Iterator[None]:
  """Drops what the process writes to file descriptor 2."""
  try:
    stderr = os.dup(2)
  except OSError:  # It is closed.
    yield
    return
  try:
    with open(os.devnull, 'wb') as nowhere:
      os.dup2(nowhere.fileno(), 2)
    yield
  finally:
    os.dup2(stderr, 2)
    os.close(stderr)
