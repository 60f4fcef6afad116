"""The lock of a run's folder: one process at a time."""

import contextlib
import os
import pathlib
import socket
from collections.abc import Iterator

import filelock

from qwr_tf.config.errors import ConfigError
from qwr_tf.runs import regular_files

NAME = 'run.lock'

# More than one try: the holder deletes the file before it releases the lock.
_TIMEOUT_SECONDS = 0.1


@contextlib.contextmanager
def held(folder: pathlib.Path) -> Iterator[None]:
  """Holds the lock; the system releases it when the process dies.

  Raises:
    ConfigError: if another process holds it, or its file is a link.
    OSError: if the folder cannot be written.
  """
  path = folder / NAME
  if path.is_symlink():
    raise ConfigError(f'{path} is a symbolic link; delete it.')
  lock = filelock.FileLock(path, timeout=_TIMEOUT_SECONDS, poll_interval=0.02)
  try:
    lock.acquire()
  except filelock.Timeout as error:
    raise ConfigError(
      f'{folder} is in use by process {_holder(path)}; wait for it, or choose '
      'another --root_dir.'
    ) from error
  try:
    _write_holder(path)
    yield
  finally:
    path.unlink(missing_ok=True)
    lock.release()


def _holder(path: pathlib.Path) -> str:
  try:
    return regular_files.read_text(path)[:200] or 'unknown'
  except (OSError, ValueError):
    return 'unknown'


def _write_holder(path: pathlib.Path) -> None:
  flags = os.O_WRONLY | os.O_TRUNC | getattr(os, 'O_NOFOLLOW', 0)
  with open(os.open(path, flags), 'w', encoding='utf-8') as f:
    f.write(f'{os.getpid()} on {socket.gethostname()}')
