"""Columns of HDF5 files, checked as they are read.

Every fault is a ValueError of one line: file, episode, field, what is wrong.
"""

import contextlib
import pathlib
from collections.abc import Callable, Iterator
from typing import NamedTuple

import h5py
import numpy as np

# Kinds of numbers (`dtype.kind`) that a column of the key's kind may hold.
_KINDS = {'f': 'fiu', 'i': 'iu', 'b': 'bfiu'}

# What float32 leaves of bounds that were float64, relative to their distance.
_BOUNDS_TOLERANCE = 1e-5


class Field(NamedTuple):
  """What a column must hold.

  Attributes:
    name: path in its group.
    shape: of one step.
    dtype: it is read as; uint8 is asked for exactly, other numbers convert.
    low: least value, broadcasts to the shape; None is any.
    high: largest value.
  """

  name: str
  shape: tuple[int, ...]
  dtype: np.dtype
  low: np.ndarray | None = None
  high: np.ndarray | None = None


REWARD = Field('rewards', (), np.dtype(np.float32))


def flag(name: str) -> Field:
  """A column of booleans, whatever number stands for them."""
  return Field(name, (), np.dtype(bool), np.zeros([]), np.ones([]))


@contextlib.contextmanager
def readable(place: str) -> Iterator[None]:
  """Turns what HDF5 says of damaged files into a ValueError."""
  try:
    yield
  except (OSError, RuntimeError, KeyError) as error:
    reason = ' '.join(str(error).strip('\'"').split())
    raise ValueError(f'{place}: cannot be read ({reason}).') from error


def open_file(path: pathlib.Path) -> h5py.File:
  """Opens a file for reading.

  Raises:
    ValueError: if it is no HDF5 file, or a truncated one.
  """
  with readable(str(path)):
    return h5py.File(path, 'r')


def names(group: h5py.Group, name: str, place: str) -> set[str]:
  """Names in a group of a group; none if there is no such group.

  Raises:
    ValueError: if it is an array.
  """
  with readable(place):
    found = group.get(name)
    return set() if found is None else set(_as_group(found, f'{place}, {name}'))


def group(parent: h5py.Group, name: str, place: str) -> h5py.Group:
  """A group that is there, or ValueError."""
  with readable(place):
    return _as_group(parent[name], place)


def _as_group(found, place: str) -> h5py.Group:
  if not isinstance(found, h5py.Group):
    raise ValueError(f'{place}: is an array and must be a group.')
  return found


class Column:
  """A field of an open file, its shape and dtype checked."""

  def __init__(self, group: h5py.Group, field: Field, place: str):
    """Looks at the layout; reads nothing.

    Args:
      group: that should hold the field.
      field: what it must be.
      place: file and episode, for errors.

    Raises:
      ValueError: if the field is missing or of another dtype or shape.
    """
    self._field = field
    self.place = f'{place}, {field.name}'
    with readable(self.place):
      column = group.get(field.name)
    if column is None:
      raise ValueError(f'{self.place}: is missing.')
    if not isinstance(column, h5py.Dataset):
      raise ValueError(
        f'{self.place}: is a group ({", ".join(column)}) and must be one '
        'array; flatten it before recording (FlattenObservation).'
      )
    self._column = column
    if not self._fits(column.dtype):
      raise ValueError(
        f'{self.place}: has dtype {column.dtype} and must be '
        f'{_in_words(field.dtype)}.'
      )
    if not column.shape:
      raise ValueError(f'{self.place}: is no array of steps.')
    if column.shape[1:] != field.shape:
      raise ValueError(
        f'{self.place}: a step has shape {column.shape[1:]} and must have '
        f'{field.shape}, as in the environment.'
      )

  def _fits(self, dtype: np.dtype) -> bool:
    wanted = self._field.dtype
    if wanted == np.uint8:
      return dtype == np.uint8
    return dtype.kind in _KINDS[wanted.kind]

  def __len__(self) -> int:
    return len(self._column)

  def check_length(self, length: int, of: str) -> None:
    """Raises ValueError if there are not so many steps as others ask for."""
    if len(self) != length:
      raise ValueError(
        f'{self.place}: has length {len(self)} and must have {length}, as {of}.'
      )

  def read(
    self, first: int, end: int, locate: Callable[[int], str]
  ) -> np.ndarray:
    """Steps first ... end - 1, [end - first, ...].

    Args:
      first: step.
      end: step.
      locate: step (0 is `first`) to where it is, for errors.

    Raises:
      ValueError: for damage, NaN or Inf, values out of bounds, or too large
        for the dtype.
    """
    with readable(self.place):
      values = self._column[first:end]
    low, high = self._field.low, self._field.high
    if values.dtype.kind == 'f':
      self._refuse(~np.isfinite(values), 'NaN or Inf', locate, values)
    if low is not None and high is not None:
      slack = _BOUNDS_TOLERANCE * np.maximum(high - low, 1e-30)
      outside = (values < low - slack) | (values > high + slack)
      what = f'outside of [{_short(low)}, {_short(high)}]'
      self._refuse(outside, what, locate, values)
    with np.errstate(over='ignore'):
      converted = values.astype(self._field.dtype)
    beyond = f'more than {self._field.dtype} holds'
    self._refuse(~np.isfinite(converted), beyond, locate, values)
    return converted

  def _refuse(self, is_bad, what: str, locate, values) -> None:
    """Raises ValueError that names the first step with a bad value."""
    per_step = is_bad.reshape(len(is_bad), -1).any(axis=1)
    if per_step.any():
      step = int(np.argmax(per_step))
      value = values[step][is_bad[step]].flat[0]
      raise ValueError(
        f'{locate(step)}, {self._field.name}: {what} ({value:g}).'
      )


def _in_words(dtype: np.dtype) -> str:
  if dtype.kind == 'f':
    return 'a float'
  return 'uint8' if dtype == np.uint8 else 'an integer'


def _short(bound: np.ndarray) -> str:
  values = np.unique(bound)
  return f'{values[0]:g}' if len(values) == 1 else f'{values[0]:g}…'
