"""Atomic replacement of files and folders: the old content or the new one."""

import contextlib
import csv
import io
import os
import pathlib
import shutil
from collections.abc import Iterable, Iterator, Mapping
from typing import Any


def delete(path: pathlib.Path) -> None:
  """Deletes a file, a folder, or a symbolic link but not its target."""
  if path.is_dir() and not path.is_symlink():
    shutil.rmtree(path)
  else:
    path.unlink(missing_ok=True)


def write_atomically(path: pathlib.Path, content: str | bytes) -> None:
  """Replaces the content of a file; raises OSError for `path`."""
  with new_file(path) as temporary:
    data = content.encode() if isinstance(content, str) else content
    temporary.write_bytes(data)


def write_csv(
  path: pathlib.Path,
  columns: Iterable[str],
  rows: Iterable[Mapping[str, Any]],
) -> None:
  """Replaces a CSV by rows, cells by column; missing cells stay empty."""
  text = io.StringIO()
  writer = csv.DictWriter(text, [*columns], restval='', lineterminator='\n')
  writer.writeheader()
  writer.writerows(rows)
  write_atomically(path, text.getvalue())


@contextlib.contextmanager
def new_file(path: pathlib.Path) -> Iterator[pathlib.Path]:
  """Yields the path of a file to write, which then replaces `path`.

  Its name is the same in a temporary folder, as the ending may tell libraries
  the format.

  Raises:
    OSError: for `path`, if it cannot be written.
  """
  with _temporary_folder(path) as folder:
    yield folder / path.name
    to_disk(folder / path.name)
    os.replace(folder / path.name, path)
    to_disk(path.parent)


@contextlib.contextmanager
def new_folder(
  path: pathlib.Path, replace: bool = True
) -> Iterator[pathlib.Path]:
  """Yields a folder to fill, which then replaces `path`.

  Args:
    path: the folder; it stays as it is until the new one is full.
    replace: whether content may be deleted that is there by then.

  Raises:
    OSError: for `path`, if it cannot be written.
  """
  with _temporary_folder(path) as folder:
    yield folder
    to_disk(*folder.rglob('*'), folder)
    if replace:
      delete(path)
    os.replace(folder, path)
    to_disk(path.parent)


@contextlib.contextmanager
def _temporary_folder(path: pathlib.Path) -> Iterator[pathlib.Path]:
  """A new folder beside `path`; a link of the same name is not followed."""
  folder = path.with_name(f'.{path.name}.{os.getpid()}.tmp')
  try:
    delete(folder)
    folder.mkdir(parents=True)
    yield folder
  except OSError as error:
    raise OSError(error.errno, error.strerror, str(path)) from error
  finally:
    shutil.rmtree(folder, ignore_errors=True)


def to_disk(*paths: pathlib.Path) -> None:
  """Waits until files, or the names in folders, would survive a crash."""
  for path in paths:
    descriptor = os.open(path, os.O_RDONLY)
    try:
      os.fsync(descriptor)
    finally:
      os.close(descriptor)
