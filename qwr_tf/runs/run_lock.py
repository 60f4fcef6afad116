"""One process at a time in a run's folder."""

import contextlib
import fcntl
import os
import pathlib
import socket
from collections.abc import Iterator

from qwr_tf.config.errors import ConfigError

NAME = 'run.lock'


@contextlib.contextmanager
def held(folder: pathlib.Path) -> Iterator[None]:
  """Holds the lock; it ends with the process, however that ends.

  Raises:
    ConfigError: if another process holds it.
    OSError: if the folder cannot be written.
  """
  path = folder / NAME
  descriptor = _locked(path)
  try:
    os.truncate(descriptor, 0)
    os.write(descriptor, f'{os.getpid()} on {socket.gethostname()}'.encode())
    yield
  finally:
    path.unlink(missing_ok=True)
    os.close(descriptor)


def _locked(path: pathlib.Path) -> int:
  """Opens and locks the file; its descriptor."""
  while True:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
      fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
      if _is_at(path, descriptor):
        return descriptor
    except BlockingIOError as error:
      holder = os.read(descriptor, 200).decode('utf-8', 'replace')
      os.close(descriptor)
      raise ConfigError(
        f'{path.parent} is in use by process {holder or "unknown"}; wait for '
        'it, or choose another --root_dir.'
      ) from error
    except OSError:
      os.close(descriptor)
      raise
    os.close(descriptor)  # Deleted by its holder meanwhile.


def _is_at(path: pathlib.Path, descriptor: int) -> bool:
  try:
    return os.path.samestat(os.stat(path), os.fstat(descriptor))
  except FileNotFoundError:
    return False
