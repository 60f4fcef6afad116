"""Readers of regular files, with errors for whatever else has the name."""

import errno
import hashlib
import json
import pathlib
from typing import Any

_CHUNK_BYTES = 2**20


def check(path: pathlib.Path) -> None:
  """Raises OSError for a pipe or a device, whose reading might never end."""
  if path.exists() and not path.is_file():
    raise OSError(errno.EINVAL, 'not a regular file', str(path))


def read_text(path: pathlib.Path) -> str:
  """The content of a text file; raises OSError, or ValueError if not UTF-8."""
  check(path)
  return path.read_text('utf-8')


def read_json(path: pathlib.Path) -> Any:
  """The content of a JSON file.

  Raises:
    OSError: if the file cannot be read.
    ValueError: if it is not JSON, or is nested too deeply.
  """
  try:
    return json.loads(read_text(path))
  except RecursionError as error:
    raise ValueError('JSON that is nested too deeply') from error


def sha256(path: pathlib.Path) -> str:
  """The checksum of a file; raises OSError."""
  check(path)
  digest = hashlib.sha256()
  with open(path, 'rb') as f:
    while chunk := f.read(_CHUNK_BYTES):
      digest.update(chunk)
  return digest.hexdigest()
