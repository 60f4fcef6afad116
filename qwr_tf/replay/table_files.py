"""Checkpoints of a replay table.

`cursors.npz` holds the counters; `rows-<first>-<end>.npz` the rows of these
numbers. Rows never change once two others follow them, so a large table
writes only its new rows and links to the files of the previous checkpoint for
the rest: every checkpoint's folder is complete.
"""

import os
import pathlib
import re
import shutil
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

_CURSORS = 'cursors.npz'
_NUM_CHANGING_ROWS = 2  # The newest: an interrupted episode is cut there.
_BYTES_PER_FILE = 64 * 2**20
_MAX_FILES = 1000
# Smaller tables are written whole, so that no two checkpoints share a file.
SHARED_FROM_BYTES = 64 * 2**20


class TableFiles:
  """Writes a table's variables to files and reads them back, bit for bit."""

  def __init__(self, table, shared_from_bytes: int = SHARED_FROM_BYTES):
    """Finds the table's variables: those of a row each, and the cursors.

    Args:
      table: a `ReplayTable`.
      shared_from_bytes: size from which files are linked.
    """
    self._table = table
    self._num_rows = table.num_slots
    named = {
      f'{number:02d}_{variable.name.partition(":")[0]}': variable
      for number, variable in enumerate(table.variables)
    }
    self._cursors = {n: v for n, v in named.items() if not self._is_row(v)}
    self._rows = {n: v for n, v in named.items() if self._is_row(v)}
    self._row_bytes = sum(
      v.dtype.size * v.shape[1:].num_elements() for v in self._rows.values()
    )
    self._is_shared = self._row_bytes * self._num_rows >= shared_from_bytes

  def _rows_written(self) -> int:
    return int(self._table.row_range()[1])

  def _is_row(self, variable: tf.Variable) -> bool:
    return variable.shape.rank > 0 and variable.shape[0] == self._num_rows

  def save(
    self, folder: pathlib.Path, before: pathlib.Path | None
  ) -> list[str]:
    """Writes the table.

    Args:
      before: folder of the checkpoint before.

    Returns:
      Names of the files that are the same as in `before`.
    """
    end = self._rows_written()
    first = max(0, end - self._num_rows)
    linked = []
    # After `clear`, the same row numbers stand for other rows.
    is_shared = self._is_shared and not self._table.was_cleared
    if before is not None and is_shared:
      linked = _reusable(before, first)
      for name in linked:
        _link(before / name, folder / name)
        first = max(first, _range(name)[1] - _NUM_CHANGING_ROWS)
    cursors = {name: v.numpy() for name, v in self._cursors.items()}
    np.savez(folder / _CURSORS, **cursors)
    step = max(1, _BYTES_PER_FILE // self._row_bytes)
    for start in range(first, end, step):
      self._save_rows(folder, start, min(start + step, end))
    return linked

  def _save_rows(self, folder: pathlib.Path, first: int, end: int) -> None:
    slots = np.arange(first, end) % self._num_rows
    rows = {n: v.sparse_read(slots).numpy() for n, v in self._rows.items()}
    np.savez(folder / f'rows-{first:012d}-{end:012d}.npz', **rows)

  def restore(self, folder: pathlib.Path) -> None:
    """Reads what `save` wrote into a table of the same configuration.

    Raises:
      ValueError: if it is another table's, or rows are missing.
      OSError: if a file cannot be read.
    """
    _assign(self._cursors, folder / _CURSORS)
    end = self._rows_written()
    next_row = max(0, end - self._num_rows)
    for name in _row_files(folder):
      first, last = _range(name)
      if first > next_row:
        break
      slots = np.arange(first, last) % self._num_rows
      _assign(self._rows, folder / name, slots)
      next_row = last
    if next_row != end:
      raise ValueError(f"{folder} lacks the table's rows from {next_row} on")


def _reusable(before: pathlib.Path, first: int) -> list[str]:
  """Names of the files in `before` that have rows from `first` on."""
  names = [name for name in _row_files(before) if _range(name)[1] > first]
  newest = max([_range(name)[1] for name in names], default=0)
  if len(names) >= _MAX_FILES:
    return []
  # Not a file of changing rows alone: its name is needed for their new values.
  return [n for n in names if _range(n)[0] < newest - _NUM_CHANGING_ROWS]


def _assign(
  variables: dict[str, tf.Variable],
  path: pathlib.Path,
  slots: Sequence[int] | None = None,
) -> None:
  with np.load(path, allow_pickle=False) as values:
    # Tables of version 0.1 have `_latest_starts`, too.
    names = {name for name in values if not name.endswith('_latest_starts')}
    if names != set(variables):
      raise ValueError(f'{path} is of a table with other columns')
    for name, variable in variables.items():
      if slots is None:
        variable.assign(values[name])
      else:
        variable.scatter_nd_update(np.asarray(slots)[:, None], values[name])


def _range(name: str) -> tuple[int, int]:
  """(first, end) in the name of a file of rows."""
  first, end = re.findall(r'\d+', name)
  return int(first), int(end)


def _row_files(folder: pathlib.Path) -> list[str]:
  """Names in the order of their rows."""
  return sorted(path.name for path in folder.glob('rows-*.npz'))


def _link(source: pathlib.Path, target: pathlib.Path) -> None:
  try:
    os.link(source, target)
  except OSError:  # Not on every file system.
    shutil.copyfile(source, target)
