"""Checksums of the files in a checkpoint's folder."""

import contextlib
import errno
import pathlib
import re
from collections.abc import Iterator, Mapping

import tensorflow as tf

from qwr_tf.runs import regular_files

# As `sha256sum` writes and checks it.
_SUMS = 'SHA256SUMS'


@contextlib.contextmanager
def tensorflow_errors(path: pathlib.Path) -> Iterator[None]:
  """Turns TensorFlow's errors in writing to a path into OSError."""
  try:
    yield
  except tf.errors.OpError as error:
    reason = re.sub(r'^.*; | \[Op:\w+\]$', '', error.message.split('\n')[0])
    raise OSError(errno.EIO, reason, str(path)) from error


def write_sums(folder: pathlib.Path, sums: Mapping[str, str]) -> None:
  """Writes the checksums of a folder's files.

  Args:
    folder: without folders in it.
    sums: checksums by name that need not be computed again.
  """
  names = sorted(file.name for file in folder.iterdir())
  lines = (
    f'{sums.get(n) or regular_files.sha256(folder / n)}  {n}\n' for n in names
  )
  (folder / _SUMS).write_text(''.join(lines))


def read_sums(folder: pathlib.Path) -> dict[str, str]:
  """The checksums that `write_sums` wrote, by name.

  Raises:
    OSError: if the file cannot be read.
    ValueError: if it is damaged.
  """
  text = regular_files.read_text(folder / _SUMS)
  pairs = [line.split('  ') for line in text.splitlines()]
  if not text.endswith('\n') or any(len(pair) != 2 for pair in pairs):
    raise ValueError(f'{_SUMS} is damaged')
  return {name: digest for digest, name in pairs}


def verify(folder: pathlib.Path) -> None:
  """Compares all files with their checksums.

  Raises:
    OSError: if a file is missing or cannot be read.
    ValueError: if a file was changed, is missing or was added.
  """
  sums = read_sums(folder)
  if sums.keys() != {f.name for f in folder.iterdir()} - {_SUMS}:
    raise ValueError('files are missing, or there are others')
  for name, digest in sums.items():
    if regular_files.sha256(folder / name) != digest:
      raise ValueError(f'{name} is damaged')
