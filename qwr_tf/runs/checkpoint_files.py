"""Folders that are complete or absent, with checksums to prove it."""

import contextlib
import errno
import hashlib
import pathlib
import re
from collections.abc import Iterator, Mapping

import tensorflow as tf

# As `sha256sum` writes and checks it.
_SUMS = 'SHA256SUMS'
_CHUNK_BYTES = 2**20


@contextlib.contextmanager
def tensorflow_errors(path: pathlib.Path) -> Iterator[None]:
  """Turns what TensorFlow cannot write to a path into an OSError."""
  try:
    yield
  except tf.errors.OpError as error:
    reason = re.sub(r'^.*; | \[Op:\w+\]$', '', error.message.split('\n')[0])
    raise OSError(errno.EIO, reason, str(path)) from error


def write_sums(folder: pathlib.Path, known: Mapping[str, str]) -> None:
  """Writes the checksums of a folder's files.

  Args:
    folder: without folders in it.
    known: checksums by name, where they need not be computed again.
  """
  names = sorted(file.name for file in folder.iterdir())
  lines = (f'{known.get(n) or _sha256(folder / n)}  {n}\n' for n in names)
  (folder / _SUMS).write_text(''.join(lines))


def read_sums(folder: pathlib.Path) -> dict[str, str]:
  """The checksums that `write_sums` wrote, by name.

  Raises:
    OSError: if the file cannot be read.
    ValueError: if it is damaged.
  """
  text = (folder / _SUMS).read_text('utf-8')
  pairs = [line.split('  ') for line in text.splitlines()]
  if not text.endswith('\n') or any(len(pair) != 2 for pair in pairs):
    raise ValueError(f'{_SUMS} is damaged')
  return {name: digest for digest, name in pairs}


def verify(folder: pathlib.Path) -> None:
  """Holds all files to their checksums.

  Raises:
    OSError: if a file is missing or cannot be read.
    ValueError: if one is not what was written; names it.
  """
  sums = read_sums(folder)
  if sums.keys() != {f.name for f in folder.iterdir()} - {_SUMS}:
    raise ValueError('files are missing, or there are others')
  for name, digest in sums.items():
    if _sha256(folder / name) != digest:
      raise ValueError(f'{name} is damaged')


def _sha256(path: pathlib.Path) -> str:
  digest = hashlib.sha256()
  with open(path, 'rb') as f:
    while chunk := f.read(_CHUNK_BYTES):
      digest.update(chunk)
  return digest.hexdigest()
