"""Folders of exports: versions are whole numbers that only grow.

TensorFlow Serving watches such a folder, serves the largest number and ignores
everything that is not one.
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

# TensorFlow leaves this folder of a SavedModel to its users.
EXTRA = 'assets.extra'
METADATA = 'metadata.json'

# Nobody's input.
_OF_THE_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EIO)


def versions(folder: pathlib.Path) -> list[pathlib.Path]:
  """The exports in a folder, oldest first."""
  found = [p for p in _numbered(folder) if (p / EXTRA / METADATA).is_file()]
  return sorted(found, key=lambda p: int(p.name))


def newest(path: pathlib.Path) -> pathlib.Path:
  """The export that a path means: itself, or the newest in it.

  Raises:
    ConfigError: if it is neither.
  """
  if (path / EXTRA / METADATA).is_file():
    return path
  found = versions(path)
  if not found:
    raise ConfigError(
      f'{path} holds no exported policy; give the folder that '
      'export/export_policy.py has written.'
    )
  return found[-1]


def write_new(
  folder: pathlib.Path, write: Callable[[pathlib.Path], None]
) -> pathlib.Path:
  """Adds the next version, complete or not at all.

  Args:
    folder: of the versions; made if it does not exist.
    write: fills the folder it is given, which is not there yet.

  Returns:
    The new version.

  Raises:
    ConfigError: if the folder holds something else, or cannot be written.
    OSError: for the folder, if the disk is full or broken.
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
  """Raises ConfigError for a folder that holds something else."""
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
  """Renames to the next number; another process may have taken it."""
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
