"""Steps of a table: a row per step, sorted by episode and time.

Parquet, CSV and Arrow files (or folders of one format, in the order of the
numbers in their names), pandas frames, npz files and dictionaries of arrays.
`TableColumns` says what the columns are called.
"""

import contextlib
import itertools
import json
import pathlib
import re
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import gin
import numpy as np

from qwr_tf.datasets import columns
from qwr_tf.datasets import steps as steps_lib
from qwr_tf.datasets.steps import Fields
from qwr_tf.datasets.steps import Steps

# By the ending of a file, the name of its format in Arrow.
FORMATS = {
  '.parquet': 'parquet',
  '.pq': 'parquet',
  '.csv': 'csv',
  '.arrow': 'ipc',
  '.feather': 'ipc',
}
_SPACES = 'observation_space', 'action_space'
_ONE_EACH = {'episode', 'step'}
_WITHOUT_NULLS = {'episode', 'step', 'terminal', 'timeout', 'action'}

_Names = str | Sequence[str]
_NamesByEntry = _Names | Mapping[str, _Names]
# (rows of a batch, columns, those that hold floats) -> number of the file and
# arrays by column of each batch, which is of one file.
_Batches = Callable[
  [int, list[str], set[str]], Iterator[tuple[int, dict[str, np.ndarray]]]
]


@gin.configurable
class TableColumns:
  """Names of the columns of a table."""

  def __init__(
    self,
    episode: str = 'episode',
    step: str = 'step',
    observation: _NamesByEntry = 'observation',
    action: _Names = 'action',
    reward: str = 'reward',
    terminal: str = 'terminal',
    timeout: str = 'timeout',
    probability: str = 'probability',
  ):
    """Names the columns.

    A name stands for a column of this name (with or without an s). One of
    observations or actions also stands for all that begin with it and go on
    with a number or `_`, `.`, `[`: in the order of their numbers if they end in
    one, else as in the table. A name other than the default must be there.

    Args:
      episode: whose values change between episodes. Without it episodes end at
        the flags. In each file of a folder it may count anew if there are
        steps: an episode goes on in the next file if its steps do.
      step: number or time in the episode, checked to grow; need not exist.
      observation: a name or a list of columns; of Dict and Tuple spaces one of
        these for each entry, {'goal/place': ['x', 'y'], '_index_0': 'time'}.
      action: a name or a list of columns; one column of integers holds discrete
        actions.
      reward: of the action.
      terminal: whether the step ended in a terminal state. Without it every
        last step of an episode did.
      timeout: whether a time limit ended the episode after the step. Without
        it every last step that is not terminal did.
      probability: that the policy that acted gave to the action; if continuous
        a density per unit of the environment. Need not exist.
    """
    self.names: dict[str, _Names] = {
      name: value
      for name, value in locals().items()
      if name not in ('self', 'observation')
    }
    if not isinstance(observation, Mapping):
      observation = {'': observation}
    self.names |= {_kind(entry): value for entry, value in observation.items()}

  def find(self, there: Sequence[str]) -> dict[str, list[str]]:
    """The table's columns of each kind; [] if there are none.

    Raises:
      ValueError: if a name that is not the default is missing.
    """
    found = {
      kind: _matches(name, there, kind.startswith(('observation', 'action')))
      for kind, name in self.names.items()
    }
    for kind, name in self.names.items():
      if not found[kind] and name != kind:  # Defaults are the kinds' names.
        raise ValueError(f'has no column {name!r}; {_listed(there)}')
    return found


def _kind(entry: str) -> str:
  """The key of an observation entry's columns, such as observation/goal."""
  return f'observation/{entry}'.rstrip('/')


def _matches(name: _Names, there: Sequence[str], is_wide: bool) -> list[str]:
  if not isinstance(name, str):
    missing = sorted(set(name) - set(there))
    if missing:
      raise ValueError(f'has no column {missing[0]!r}; {_listed(there)}')
    return list(name)
  for exact in (name, f'{name}s'):
    if exact in there:
      return [exact]
  if not is_wide:
    return []
  begins = [c for c in there if re.match(rf'{re.escape(name)}s?[\d_.\[]', c)]
  ends = {c: re.search(r'(\d+)\]?$', c) for c in begins}
  numbers = {c: int(end[1]) for c, end in ends.items() if end}
  if len(numbers) == len(begins):
    begins.sort(key=numbers.__getitem__)
  return begins


def _listed(there: Sequence[str]) -> str:
  names = ', '.join(there[:12]) + (', …' if len(there) > 12 else '')
  return f'it has {names}; name the columns with TableColumns'


class TableSource:
  """An open table; see `arrow_source` and `array_source`."""

  def __init__(
    self,
    place: str,
    there: Sequence[str],
    num_rows: int,
    batches: _Batches,
    metadata: Mapping[str, Any],
  ):
    """Finds the columns.

    Args:
      place: of the table, for errors.
      there: names of its columns.
      num_rows: of it.
      batches: reads them.
      metadata: with `observation_space` and `action_space`, if known.

    Raises:
      ValueError: if a column that is needed is missing.
    """
    self.path = pathlib.Path(place)
    self.metadata = dict(metadata)
    self._num_rows, self._batches = num_rows, batches
    try:
      self._columns = TableColumns().find(there)
    except ValueError as error:
      raise ValueError(f'{place} {error}.') from error
    self._observations = [c for c in self._columns if c[:11] == 'observation']
    needed = [*self._observations, 'action', 'reward']
    if not self._columns['episode'] and not self._columns['timeout']:
      needed.append('episode')
    for kind in needed:
      if not self._columns[kind]:
        raise ValueError(
          f'{place} has no column for the {kind}: {_listed(there)}.'
        )

  def close(self) -> None:
    """Nothing stays open between batches."""

  def num_steps(self) -> int:
    """Rows."""
    return self._num_rows

  def recorded(self) -> set[str]:
    """{'probability'}, or nothing."""
    return {steps_lib.PROBABILITY} if self._columns['probability'] else set()

  def first_step(self) -> dict[str, np.ndarray]:
    """As in `sources.Source`."""
    batch = next(self._arrays(1, ()))
    return {kind: batch[kind][0] for kind in (*self._observations, 'action')}

  def _arrays(
    self, num_rows: int, floats: Iterable[str]
  ) -> Iterator[dict[str, np.ndarray]]:
    """Batches by kind; several columns are one array [n, columns].

    `file` is the number of each row's file.

    Args:
      floats: kinds that hold floats, even if a CSV begins with integers.
    """
    names = [name for group in self._columns.values() for name in group]
    wide = {name for kind in floats for name in self._columns[kind]}
    for file, batch in self._batches(num_rows, [*dict.fromkeys(names)], wide):
      arrays = {
        kind: batch[group[0]]
        if len(group) == 1
        else np.stack([_flat(batch[name]) for name in group], axis=-1)
        for kind, group in self._columns.items()
        if group
      }
      for kind in _ONE_EACH & arrays.keys():
        arrays[kind] = _flat(arrays[kind])
        if arrays[kind].ndim > 1:
          raise ValueError(
            f'{self.path}, {kind}: a step has shape {arrays[kind].shape[1:]} '
            'and must have (); name one column of numbers or texts.'
          )
      yield arrays | {'file': np.full(len(arrays['reward']), file)}

  def chunks(self, fields: Fields, num_steps: int) -> Iterator[Steps]:
    """Yields chunks of `num_steps` steps.

    Raises:
      ValueError: for columns that do not fit, and for the first bad row.
    """
    kinds = {entry: _kind(entry) for entry in fields.observation}
    if {*kinds.values()} != {*self._observations}:
      of_entries = dict.fromkeys(kinds, 'column')
      raise ValueError(
        f'{self.path}: the observations have other entries; set '
        f'TableColumns.observation = {of_entries}, with names of columns.'
      )
    wanted = {
      **{kinds[entry]: field for entry, field in fields.observation.items()},
      'action': fields.action,
      'reward': columns.REWARD,
      **fields.dist_params,
    }
    first, complete = 0, dict[Any, Any]()
    floats = [kind for kind in wanted if wanted[kind].dtype.kind == 'f']
    checked = _without_nulls(self.path, self._arrays(num_steps, floats))
    # The end of a batch is known with the next one.
    batches = itertools.chain(checked, [None])
    batch = next(batches)
    for following in batches:
      assert batch is not None
      count = len(batch['reward'])

      def locate(row: int, first=first) -> str:
        return f'{self.path}: row {first + row}'

      terminal, timeout, is_cut = self._ends(batch, following, complete, locate)
      arrays = {
        name: self._read(batch, locate, field, name)
        for name, field in wanted.items()
      }
      observation: Any = {e: arrays[kind] for e, kind in kinds.items()}
      if '' in observation:
        observation = observation['']
      yield Steps(
        observation,
        arrays['action'],
        arrays['reward'],
        terminal,
        timeout,
        is_cut,
        steps_lib.selected(observation, terminal),
        {name: arrays[name] for name in fields.dist_params},
      )
      first, batch = first + count, following

  def _ends(
    self, batch, following, complete: dict, locate: Callable[[int], str]
  ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where episodes end, bool [n] each: (terminal, timeout, cut)."""

    def flags(name: str, missing: np.ndarray) -> np.ndarray:
      if name not in batch:
        return missing
      field = columns.Field(name, (), np.dtype(bool))
      return self._read(batch, locate, field, name)

    ends = _ends_of_episodes(batch, following, complete, locate)
    timeout = flags('timeout', np.zeros_like(ends))
    terminal = flags('terminal', ends & ~timeout)
    for name, flag in (('terminal', terminal), ('timeout', timeout)):
      misplaced = flag & ~ends
      if 'episode' in batch and misplaced.any():
        raise ValueError(
          f'{locate(int(np.argmax(misplaced)))}, {name}: the episode goes on; '
          'sort the rows by episode and step.'
        )
    if 'step' in batch:
      over = ends if 'episode' in batch else terminal | timeout
      _check_order(batch, following, over, locate)
    timeout = (timeout if 'timeout' in batch else ends) & ~terminal
    is_cut = ends.copy()
    is_cut[-1] |= following is None
    return terminal, timeout, is_cut & ~terminal & ~timeout

  def _read(
    self,
    batch: dict[str, np.ndarray],
    locate: Callable[[int], str],
    field: columns.Field,
    name: str,
  ) -> np.ndarray:
    """A column of a batch as its field wants it."""
    values = batch[name]
    if not field.shape:
      values = _flat(values)
    if values.ndim == 1 and field.shape == (1,):
      values = values[:, np.newaxis]
    group, field = {name: values}, field._replace(name=name)
    column = columns.Column(group, field, str(self.path))
    return column.read(0, len(values), locate)


def _flat(values: np.ndarray) -> np.ndarray:
  """An array [n] of one that is [n, 1]; others as they are."""
  return values[:, 0] if values.shape[1:] == (1,) else values


def _without_nulls(
  place: pathlib.Path, batches: Iterator[dict[str, np.ndarray]]
) -> Iterator[dict[str, np.ndarray]]:
  """The batches; ValueError for a null that could pass for a value."""
  import pandas

  first = 0
  for batch in batches:
    for kind in _WITHOUT_NULLS & batch.keys():
      is_null = pandas.isna(batch[kind]).reshape(len(batch['reward']), -1)
      rows = np.flatnonzero(is_null.any(axis=1))
      if len(rows):
        raise ValueError(
          f'{place}: row {first + rows[0]}, {kind}: null; leave this episode '
          'out of the data set.'
        )
    yield batch
    first += len(batch['reward'])


def _check_order(batch, following, over: np.ndarray, locate) -> None:
  """Raises ValueError for a step that is not later than the one before.

  Args:
    over: whether a row is the last of its episode, bool [n].
  """
  step = batch['step']
  if following is not None:
    step = np.concatenate([step, following['step'][:1]])
  wrong = ~over[: len(step) - 1] & (step[1:] <= step[:-1])
  if wrong.any():
    raise ValueError(
      f'{locate(int(np.argmax(wrong)) + 1)}, step: not later than the row '
      'before; sort the rows by episode and step.'
    )


def _ends_of_episodes(batch, following, complete: dict, locate) -> np.ndarray:
  """True for rows that are the last of their episode, bool [n].

  A new file begins a new episode unless its steps go on.

  Args:
    complete: file and step of the last row of the episodes before; those that
      end here are added.

  Raises:
    ValueError: for an episode that comes twice, or may be two.
  """
  count = len(batch['reward'])
  if 'episode' not in batch:
    return np.zeros(count, bool)

  def at(kind: str, row: int) -> Any:
    rows, row = (batch, row) if row < count else (following, row - count)
    return rows[kind][row] if kind in rows else None

  episode = batch['episode']
  ends = np.append(episode[1:] != episode[:-1], True)
  if following is not None and episode[-1] == at('episode', count):
    step, before = at('step', count), at('step', count - 1)
    is_later = step is not None and step > before
    ends[-1] = at('file', count) != at('file', count - 1) and not is_later
  for row in map(int, np.flatnonzero(ends)):
    complete[episode[row]] = int(at('file', row)), at('step', row)
    if row + 1 == count and following is None:
      break
    name, step = at('episode', row + 1), at('step', row + 1)
    if name not in complete:
      continue
    file, before = complete[name]
    problem = ''
    if file == at('file', row + 1) or (step is not None and step > before):
      problem = 'was complete before; sort the rows by episode and step'
    elif step is None:
      problem = (
        'is in an earlier file, too; number the episodes over all files, or '
        'add a column of steps (TableColumns.step)'
      )
    if problem:
      raise ValueError(f'{locate(row + 1)}: episode {name} {problem}.')
  return ends


def array_source(arrays: Mapping[str, Any], place: str) -> TableSource:
  """A dictionary of arrays [N, ...], or a pandas frame."""
  values = {str(name): np.asarray(arrays[name]) for name in arrays}
  lengths = {name: len(x) if x.ndim else -1 for name, x in values.items()}
  if len(set(lengths.values())) != 1 or -1 in lengths.values():
    raise ValueError(
      f'{place}: the arrays have the lengths {lengths}; they must have one '
      'entry per step each.'
    )
  num_rows = next(iter(lengths.values()))

  def batches(rows: int, names: list[str], floats: set[str]):
    del floats
    for first in range(0, num_rows, rows):
      yield 0, {name: values[name][first : first + rows] for name in names}

  return TableSource(place, list(values), num_rows, batches, {})


def npz_source(path: pathlib.Path) -> TableSource:
  """A file of `numpy.savez`; objects are refused."""
  try:
    with np.load(path, allow_pickle=False) as file:
      arrays = {name: file[name] for name in file.files}
  except (
    OSError, EOFError, KeyError, ValueError, TypeError, RuntimeError,
    zipfile.BadZipFile, zlib.error,
  ) as error:  # fmt: skip
    reason = ' '.join(str(error).split())
    raise ValueError(f'{path}: cannot be read ({reason}).') from error
  return array_source(arrays, str(path))


def arrow_source(
  path: pathlib.Path, files: Sequence[pathlib.Path], kind: str
) -> TableSource:
  """Files of a format among the values of `FORMATS`, one after the other.

  Args:
    path: of the file, or of their folder.
    files: in their order.
    kind: the format.
  """
  arrow = import_arrow(path)
  import pyarrow
  from pyarrow import types

  with readable(path):
    table = arrow.dataset([str(file) for file in files], format=kind)
    fragments = [*table.get_fragments()]
    schema = pyarrow.unify_schemas(
      [fragment.physical_schema for fragment in fragments],
      promote_options='permissive',
    )
    there, num_rows = schema.names, table.count_rows()

  def typed(field, is_float: bool):
    """A field of a CSV, whose type Arrow takes from the first block."""
    if is_float and (types.is_integer(field.type) or types.is_null(field.type)):
      return field.with_type(pyarrow.float64())
    if types.is_binary(field.type):  # It is not UTF-8, which Arrow then says.
      return field.with_type(pyarrow.string())
    return field

  def batches(rows: int, names: list[str], floats: set[str]):
    wanted = schema
    if kind == 'csv':
      wanted = pyarrow.schema([typed(f, f.name in floats) for f in schema])
    with readable(path):
      for number, fragment in enumerate(fragments):
        for batch in fragment.to_batches(
          schema=wanted, columns=names, batch_size=rows, batch_readahead=1
        ):
          if batch.num_rows:
            arrays = {name: to_numpy(batch.column(name)) for name in names}
            yield number, arrays

  metadata = {
    key.decode(): value.decode()
    for key, value in (schema.metadata or {}).items()
    if key.decode(errors='ignore') in _SPACES
  }
  return TableSource(str(path), there, num_rows, batches, metadata)


def import_arrow(path: pathlib.Path):
  """pyarrow.dataset; ValueError if it is not installed."""
  try:
    from pyarrow import dataset
  except ImportError as error:
    raise ValueError(
      f'{path} needs pyarrow, which is not installed; run '
      '`pip install "qwr_tf[data]"`.'
    ) from error
  return dataset


@contextlib.contextmanager
def readable(path: pathlib.Path) -> Iterator[None]:
  """Turns errors of Arrow and `to_numpy` into a ValueError of one line."""
  from pyarrow import lib

  try:
    yield
  except (lib.ArrowException, OSError, ValueError) as error:
    reason = ' '.join(str(error).split())[:200]
    raise ValueError(
      f'{path}: cannot be read ({reason}); write it anew.'
    ) from error


def to_numpy(column) -> np.ndarray:
  """An Arrow array [N, ...]; lists of one length are axes, nulls NaN."""
  from pyarrow import types

  kind = column.type
  if types.is_fixed_size_list(kind):
    inner = to_numpy(column.flatten())
    return inner.reshape([len(column), kind.list_size, *inner.shape[1:]])
  if types.is_list(kind) or types.is_large_list(kind):
    inner = to_numpy(column.flatten())
    size, rest = divmod(len(inner), max(len(column), 1))
    lengths = np.asarray(column.value_lengths())
    if rest or (lengths != size).any():
      raise ValueError('a column of lists has lists of several lengths')
    return inner.reshape([len(column), size, *inner.shape[1:]])
  if types.is_struct(kind):
    raise ValueError('a column of structs must be one column for each entry')
  if types.is_binary(kind) or types.is_large_binary(kind):  # JPEG files.
    return np.stack(columns.decoded(x.as_py() for x in column))
  return column.to_numpy(zero_copy_only=False)


def space_entry(metadata: Mapping[str, Any], name: str) -> Any:
  """A space in metadata, from JSON; None if there is none."""
  value = metadata.get(name)
  try:
    return json.loads(value) if isinstance(value, str) else value
  except ValueError as error:
    raise ValueError(f'{name} in the metadata is no JSON ({error}).') from error
