"""Arrays of HDF5 files, checked as they are read.

Every fault is a ValueError of one line: file, episode, field, what is wrong,
what to do. Nothing outside the file is read: links and storage in other files
are refused.
"""

import contextlib
import io
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import h5py
import numpy as np

# By the `dtype.kind` to read: kinds that a column may hold, and its name.
_KINDS = {
  'f': ('fiu', 'a float'),
  'i': ('iu', 'an integer'),
  'b': ('bfiu', 'an integer'),
  'u': ('u', 'uint8'),
}

# What float32 leaves of bounds that were float64, relative to their distance.
_BOUNDS_TOLERANCE = 1e-5

_MAX_SOFT_LINKS = 16  # As in HDF5.


class Field(NamedTuple):
  """What a column must hold.

  Attributes:
    name: path in its group.
    shape: of one step.
    dtype: bool must be 0 and 1, uint8 images or JPEG files; other numbers are
      converted.
    low: least value, broadcasts to the shape; None is any.
    high: largest value.
    is_exact: whether floats are returned as float64 or float32 of the file,
      once it is known that `dtype` can hold them.
    if_missing: what to do about a missing column.
  """

  name: str
  shape: tuple[int, ...]
  dtype: np.dtype
  low: np.ndarray | None = None
  high: np.ndarray | None = None
  is_exact: bool = False
  if_missing: str = 'write this array, too'


REWARD = Field('rewards', (), np.dtype(np.float32))


@contextlib.contextmanager
def readable(place: str) -> Iterator[None]:
  """Turns HDF5's errors for damaged or locked files into a ValueError."""
  try:
    yield
  except (OSError, RuntimeError, KeyError) as error:
    reason = ' '.join(str(error).strip('\'"').split())
    fix = 'copy or record the file anew'
    if re.search(r'\block', reason):
      fix = (
        'close it in the other process, or set the environment variable '
        'HDF5_USE_FILE_LOCKING=FALSE'
      )
    elif isinstance(error, PermissionError):
      fix = 'make it readable (chmod +r)'
    raise ValueError(f'{place}: cannot be read ({reason}); {fix}.') from error


def member(
  group: h5py.Group, name: str, place: str, links: int = _MAX_SOFT_LINKS
) -> Any:
  """An object of the same file by its path from a group; None if missing.

  Args:
    place: of the object, for errors.
    links: soft links that may be followed.

  Raises:
    ValueError: for a link to another file.
  """
  for part in filter(None, name.split('/')):
    if not isinstance(group, h5py.Group):
      return None
    with readable(place):
      link = group.get(part, getlink=True)
    if isinstance(link, h5py.ExternalLink) or not links:
      raise ValueError(
        f'{place}: is a link to another file; copy the data into this one '
        '(h5repack).'
      )
    if isinstance(link, h5py.SoftLink):
      start = group.file if link.path.startswith('/') else group
      group = member(start, link.path, place, links - 1)
    elif link is None:
      return None
    else:
      with readable(place):
        group = group[part]
  return group


def first_step(arrays: h5py.Group | dict, place: str) -> dict[str, np.ndarray]:
  """The first observation, entry by entry, and the first action.

  Args:
    arrays: `observations` and `actions`, or entries such as `observations/x`.
    place: of the group, for errors.

  Returns:
    {'observation' or 'observation/<entry>': [...], 'action': [...]}, without
    what has no shape: scalars, images stored as JPEG files.

  Raises:
    ValueError: for a link to another file.
  """
  step = {}
  for name, array in _leaves(arrays, '', place):
    kind, *entry = name.split('/')
    if kind in ('observations', 'actions') and len(array):
      with readable(f'{place}, {name}'):
        value = np.asarray(array[0])
      # One axis of uint8 is a JPEG file, not an image.
      is_file = value.dtype == np.uint8 and value.ndim == 1
      if value.ndim and value.dtype.kind in 'biuf' and not is_file:
        step['/'.join([kind[:-1], *entry])] = value
  return step


def _leaves(node: Any, name: str, place: str) -> Iterator[tuple[str, Any]]:
  """Name and array of each data set below a group, or in a dictionary."""
  if isinstance(node, dict):
    yield from node.items()
  elif isinstance(node, h5py.Group):
    for key in node:
      path = f'{name}/{key}'.lstrip('/')
      yield from _leaves(member(node, key, f'{place}, {path}'), path, place)
  elif isinstance(node, h5py.Dataset) and node.shape:
    if not _is_elsewhere(node):
      yield name, node


def group(parent: h5py.Group, name: str, place: str) -> h5py.Group | None:
  """A group of a group; None if there is none.

  Raises:
    ValueError: if it is an array.
  """
  value = member(parent, name, place)
  if value is not None and not isinstance(value, h5py.Group):
    raise ValueError(f'{place}: is an array and must be a group; rename it.')
  return value


def _is_elsewhere(column: h5py.Dataset) -> bool:
  return bool(column.external) or (
    column.is_virtual
    and any(source.file_name != '.' for source in column.virtual_sources())
  )


class Column:
  """A field of an open file, its shape and dtype checked."""

  def __init__(
    self,
    group: h5py.Group | Mapping[str, np.ndarray],
    field: Field,
    place: str,
  ):
    """Checks the layout; reads nothing.

    Args:
      group: of the file; or arrays in memory.
      field: of the group.
      place: file and episode, for errors.

    Raises:
      ValueError: if the field is missing or of another dtype or shape.
    """
    self._field = field
    self.place = f'{place}, {field.name}'
    column: Any
    if isinstance(group, h5py.Group):
      column = member(group, field.name, self.place)
    else:
      column = group.get(field.name)
    if column is None:
      self._refuse(f'is missing; {field.if_missing}')
    if isinstance(column, h5py.Group):
      self._refuse(
        f'is a group ({", ".join(column)}) and must be one array; flatten it '
        'before recording (FlattenObservation)'
      )
    if not isinstance(column, h5py.Dataset | np.ndarray):
      self._refuse('is a data type and must be an array; write one')
    if isinstance(column, h5py.Dataset) and _is_elsewhere(column):
      self._refuse(
        'is stored in another file; copy the data into this one (h5repack)'
      )
    self._column = column
    images = field.dtype == np.uint8 and len(field.shape) > 1
    self._is_jpeg = images and (
      h5py.check_vlen_dtype(column.dtype) == np.uint8
      or (column.dtype == np.uint8 and column.ndim == 2)
    )
    if self._is_jpeg:
      return
    kinds, name = _KINDS[field.dtype.kind]
    if column.dtype.kind not in kinds or (
      field.dtype == np.uint8 and column.dtype != np.uint8
    ):
      self._refuse(
        f'has dtype {column.dtype} and must be {name}; convert it, or choose '
        'another run.environment'
      )
    if not column.shape:
      self._refuse('is no array of steps; write one value per step')
    self._check_shape(column.shape[1:])

  def _check_shape(self, shape: tuple[int, ...]) -> None:
    if shape != self._field.shape:
      self._refuse(
        f'a step has shape {shape} and must have {self._field.shape}, as in '
        'the environment; choose another run.environment, or reshape the array'
      )

  def _refuse(self, problem: str) -> None:
    raise ValueError(f'{self.place}: {problem}.')

  def __len__(self) -> int:
    return len(self._column)

  def check_length(self, length: int, of: str) -> None:
    """Raises ValueError if the column has another length."""
    if len(self) != length:
      self._refuse(
        f'has length {len(self)} and must have {length}, as {of}; write all '
        'arrays anew'
      )

  def read(
    self, first: int, end: int, locate: Callable[[int], str]
  ) -> np.ndarray:
    """Steps first ... end - 1, [end - first, ...].

    Args:
      first: step.
      end: step.
      locate: step (0 is `first`) to its place in words, for errors.

    Raises:
      ValueError: for damage, NaN or Inf, flags other than 0 and 1, values out
        of bounds, or too large for the dtype.
    """
    field = self._field
    with readable(self.place):
      values = self._column[first:end]
      if self._is_jpeg:
        images = decoded(map(bytes, values))
        for image in images:
          self._check_shape(image.shape)
        values = np.stack(images)

    def refuse(is_bad: np.ndarray, problem: str, fix: str) -> None:
      per_step = is_bad.reshape(len(is_bad), -1).any(axis=1)
      if per_step.any():
        step = int(np.argmax(per_step))
        value = values[step][is_bad[step]].flat[0]
        raise ValueError(
          f'{locate(step)}, {field.name}: {problem} ({value:g}); {fix}.'
        )

    if values.dtype.kind == 'f':
      is_bad = ~np.isfinite(values)
      refuse(is_bad, 'NaN or Inf', 'leave this episode out of the data set')
    if field.dtype == bool:
      is_bad = (values != 0) & (values != 1)
      refuse(is_bad, 'neither 0 nor 1', 'write booleans')
    if field.low is not None and field.high is not None:
      slack = _BOUNDS_TOLERANCE * np.maximum(field.high - field.low, 1e-30)
      is_bad = (values < field.low - slack) | (values > field.high + slack)
      bounds = f'[{_short(field.low)}, {_short(field.high)}]'
      clip = (
        '' if field.dtype.kind == 'i' else 'DataSet.clip_actions = True, or '
      )
      fix = f'set {clip}run.environment to the one that was recorded'
      refuse(is_bad, f'outside of {bounds}', fix)
    with np.errstate(over='ignore'):
      converted = values.astype(field.dtype)
    is_bad = ~np.isfinite(converted)
    refuse(is_bad, f'more than {field.dtype} holds', 'scale the values')
    if field.is_exact and values.dtype.kind in 'fiu':
      return values.astype(np.promote_types(values.dtype, field.dtype))
    return converted


def decoded(files: Iterable[bytes]) -> list[np.ndarray]:
  """Images of JPEG files, as Minari writes images."""
  from PIL import Image

  return [np.array(Image.open(io.BytesIO(file))) for file in files]


def _short(bound: np.ndarray) -> str:
  values = np.unique(bound)
  return f'{values[0]:g}' if len(values) == 1 else f'{values[0]:g}…'
