"""Raw rows of benchmarks in results/."""

import csv
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from qwr_tf.runs import atomic_files

_FOLDER = pathlib.Path(__file__).resolve().parents[1] / 'results'


def path_of(name: str) -> pathlib.Path:
  """Where the rows of a benchmark are by default."""
  return _FOLDER / 'benchmarks' / f'{name}.csv'


def add(path: pathlib.Path, rows: Sequence[Mapping[str, Any]]) -> None:
  """Adds rows to a CSV, which is made if need be; nothing is ever half there.

  Args:
    path: the file.
    rows: cells by column; columns that are new come last.
  """
  present: list[Mapping[str, Any]] = []
  if path.exists():
    with open(path, newline='') as f:
      present = list(csv.DictReader(f))
  rows = [*present, *rows]
  columns = dict.fromkeys(name for row in rows for name in row)
  path.parent.mkdir(parents=True, exist_ok=True)
  atomic_files.write_csv(path, columns, rows)
