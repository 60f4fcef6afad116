"""Files and folders that are complete or as they were before."""

import contextlib
import os
import pathlib
import shutil
from collections.abc import Iterator


def write_atomically(path: pathlib.Path, content: str | bytes) -> None:
  """Writes a file that is either the old one or the new one, never half."""
  temporary = path.with_name(f'.{path.name}.{os.getpid()}.tmp')
  data = content.encode() if isinstance(content, str) else content
  try:
    with open(temporary, 'wb') as f:
      f.write(data)
      f.flush()
      os.fsync(f.fileno())
    os.replace(temporary, path)
    to_disk(path.parent)
  except OSError as error:
    raise OSError(error.errno, error.strerror, str(path)) from error
  finally:
    temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def new_folder(
  path: pathlib.Path, replace: bool = True
) -> Iterator[pathlib.Path]:
  """Yields a folder to fill, which then takes the place of `path`.

  Whatever happens while it is filled, `path` is what it was before; what was
  there goes just before the new folder takes its place.

  Args:
    path: of the folder.
    replace: whether files may go that are there when the new folder is full.

  Raises:
    OSError: for `path`, if it cannot be written.
  """
  temporary = path.with_name(f'.{path.name}.{os.getpid()}.tmp')
  shutil.rmtree(temporary, ignore_errors=True)
  try:
    temporary.mkdir(parents=True)
    yield temporary
    to_disk(*temporary.rglob('*'), temporary)
    if replace:
      shutil.rmtree(path, ignore_errors=True)
    os.replace(temporary, path)
    to_disk(path.parent)
  except OSError as error:
    raise OSError(error.errno, error.strerror, str(path)) from error
  finally:
    shutil.rmtree(temporary, ignore_errors=True)


def to_disk(*paths: pathlib.Path) -> None:
  """Waits until files, or the names in folders, would survive a crash."""
  for path in paths:
    descriptor = os.open(path, os.O_RDONLY)
    try:
      os.fsync(descriptor)
    finally:
      os.close(descriptor)
