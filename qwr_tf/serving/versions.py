"""Folders of exports, whose versions are increasing integers.

TensorFlow Serving watches such a folder, serves the largest version and
ignores other names.
"""

import errno
import os
import pathlib
import re
import shutil
from collections.abc import Callable

from qwr_tf.config.errors import ConfigError
from qwr_tf.runs import atomic_files
from qwr_tf.runs import checkpoint_files

# The folder of a SavedModel for files of its users.
EXTRA = 'assets.extra'
METADATA = 'metadata.json'

# Faults of the disk, not of --output.
_OF_THE_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EIO)


def versions(folder: pathlib.Path) -> list[pathlib.Path]:
  """The exports in a folder, oldest first."""
  exports = [p for p in _numbered(folder) if (p / EXTRA / METADATA).is_file()]
  return sorted(exports, key=lambda p: int(p.name))


def newest(path: pathlib.Path) -> pathlib.Path:
  """The export at a path: the path itself, or the newest version in it.

  Raises:
    ConfigError: if there is none.
  """
  if (path / EXTRA / METADATA).is_file():
    return path
  exports = versions(path)
  if not exports:
    raise ConfigError(
      f'{path} holds no exported policy; give <run>/policy, or make one with '
      '`qwr_tf export`.'
    )
  return exports[-1]


def write_new(
  folder: pathlib.Path, write: Callable[[pathlib.Path], None]
) -> pathlib.Path:
  """Adds the next version, complete or not at all.

  Args:
    folder: of the versions; created if needed.
    write: creates and fills the folder that it gets.

  Returns:
    The new version.

  Raises:
    ConfigError: if the folder holds other files, or cannot be written.
    OSError: if the disk is full or broken.
  """
  check(folder)
  temporary = folder / f'.export.{os.getpid()}.tmp'
  try:
    folder.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(temporary, ignore_errors=True)
    with checkpoint_files.tensorflow_errors(folder):
      write(temporary)
    atomic_files.to_disk(*temporary.rglob('*'), temporary)
    return _publish(temporary, folder)
  except OSError as error:
    if error.errno in _OF_THE_DISK:
      raise OSError(error.errno, error.strerror, str(folder)) from error
    raise ConfigError(
      f'{folder} cannot be written ({error.strerror or error}); choose '
      'another --output.'
    ) from error
  finally:
    shutil.rmtree(temporary, ignore_errors=True)


def check(folder: pathlib.Path) -> None:
  """Raises ConfigError for a folder that holds other files."""
  if folder.is_dir():
    others = [p for p in folder.iterdir() if not p.name.startswith('.')]
    if not others or versions(folder):
      return
    problem = 'is not empty and holds no exported policy'
  elif folder.exists():
    problem = 'is a file'
  else:
    return
  raise ConfigError(f'{folder} {problem}; choose another --output.')


def _publish(temporary: pathlib.Path, folder: pathlib.Path) -> pathlib.Path:
  """Renames to the next version; another process may take it first."""
  while True:
    taken = [int(path.name) for path in _numbered(folder)]
    version = folder / str(max(taken, default=0) + 1)
    try:
      os.rename(temporary, version)
      atomic_files.to_disk(folder)
      return version
    except OSError as error:
      if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
        raise


def _numbered(folder: pathlib.Path) -> list[pathlib.Path]:
  return [p for p in folder.glob('*') if re.fullmatch('[0-9]+', p.name)]
