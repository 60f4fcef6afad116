"""A table's files: every variable comes back bit by bit, little is written."""

import os
import shutil

import numpy as np
import pytest
import tensorflow as tf
from tf_agents.trajectories import trajectory

from qwr_tf.replay import ReplayTable
from qwr_tf.replay import TableFiles

_FIRST, _MID, _LAST = range(3)
_WHOLE, _LINKED = 2**40, 0


def _spec(observation):
  step_type = tf.TensorSpec([], tf.int32, 'step_type')
  number = tf.TensorSpec([], tf.float32, 'number')
  return trajectory.Trajectory(
    step_type=step_type,
    observation=observation,
    action=tf.TensorSpec([], tf.int32, 'action'),
    policy_info={'dist_params': {'logits': tf.TensorSpec([3], tf.float32)}},
    next_step_type=step_type,
    reward=number,
    discount=number,
  )


_SPEC = _spec(tf.TensorSpec([2], tf.float32, 'observation'))
_IMAGES = _spec(tf.TensorSpec([3, 2, 4], tf.uint8, 'observation'))


def _table(spec=_SPEC, capacity=20):
  return ReplayTable(
    spec,
    capacity,
    rows_per_interaction=1.5,
    single_frames=spec is _IMAGES,
  )


def _pieces(seed, spec, count):
  """Rows of random episodes of 4 rows, some interrupted, in random pieces."""
  rng = np.random.default_rng(seed)
  for _ in range(count):
    types = (_FIRST, _MID, _MID, _LAST) * int(rng.integers(1, 4))
    types = np.array(types[: int(rng.integers(1, len(types) + 1))], np.int32)

    def values(s, types=types):
      numbers = rng.integers(0, 255, [len(types), *s.shape])
      return tf.constant(numbers, s.dtype)

    rows = tf.nest.map_structure(values, spec)
    if spec is _IMAGES:
      rows = rows._replace(observation=_stacks(rng, types))
    yield rows._replace(
      step_type=tf.constant(types),
      next_step_type=tf.constant((types + 1) % 3),
    )


def _stacks(rng, types):
  """Random frames, each with the three before it in its episode."""
  numbers = np.arange(len(types))[:, np.newaxis]
  first = np.maximum.accumulate(numbers * (types == _FIRST)[:, np.newaxis])
  frames = rng.integers(0, 255, [len(types), 3, 2])
  stacks = frames[np.maximum(numbers - [3, 2, 1, 0], first)]
  return tf.constant(np.moveaxis(stacks, 1, -1), tf.uint8)


def _values(table):
  return [variable.numpy() for variable in table.variables]


def _same(one, other):
  for a, b in zip(_values(one), _values(other), strict=True):
    assert a.dtype == b.dtype
    np.testing.assert_array_equal(a, b)


@pytest.mark.slow
@pytest.mark.parametrize(
  'spec, shared',
  [(_SPEC, _WHOLE), (_IMAGES, _WHOLE), (_IMAGES, _LINKED)],
  ids=['vectors', 'images', 'linked images'],
)
def test_every_variable_comes_back(tmp_path, spec, shared):
  # 12 saves while the table wraps several times.
  table, restored, before = _table(spec), _table(spec), None
  for rows in _pieces(1, spec, 3):
    restored.append(rows)  # Whatever was there before.
  files = TableFiles(table, shared)
  for number, rows in enumerate(_pieces(0, spec, 24)):
    table.append(rows)
    if number % 2:
      continue
    table.get_next(4, 2)
    folder = tmp_path / str(number)
    folder.mkdir()
    files.save(folder, before)
    if before:
      shutil.rmtree(before)  # What is linked stays.
    before = folder
    TableFiles(restored).restore(folder)
    if int(table.row_range()[1]) > table.num_slots:
      _same(restored, table)
    else:  # Rows that nobody wrote are nobody's.
      _same_where_written(restored, table)


def _same_where_written(one, other):
  first, end = other.row_range()
  expected, actual = other.read(first, end), one.read(first, end)
  tf.nest.map_structure(np.testing.assert_array_equal, actual, expected)


@pytest.mark.slow
def test_a_restored_table_goes_on_as_the_saved_one(tmp_path):
  table, restored = _table(_IMAGES), _table(_IMAGES)
  pieces = list(_pieces(2, _IMAGES, 40))
  for rows in pieces[:30]:
    table.append(rows)
  TableFiles(table).save(tmp_path, None)
  TableFiles(restored).restore(tmp_path)
  for rows in pieces[30:]:
    for t in (table, restored):
      t.append(rows)
    drawn, again = (t.get_next(8, 3)[0] for t in (table, restored))
    tf.nest.map_structure(np.testing.assert_array_equal, drawn, again)
  _same(restored, table)


@pytest.mark.slow
def test_a_large_table_writes_what_is_new(tmp_path):
  table = _table(capacity=1000)
  files = TableFiles(table, _LINKED)
  written = []
  before = None
  for number, rows in enumerate(_pieces(3, _SPEC, 30)):
    table.append(rows)
    folder = tmp_path / str(number)
    folder.mkdir()
    linked = files.save(folder, before)
    new = {p.name for p in folder.glob('rows-*')} - set(linked)
    spans = [name[5:-4].split('-') for name in new]
    written.append(sum(int(end) - int(first) for first, end in spans))
    assert sum(written) <= int(table.row_range()[1]) + 2 * number
    for name in linked:
      assert (folder / name).samefile(before / name)
    before = folder
  assert written[0] and all(written[1:])


@pytest.mark.slow
def test_a_file_is_never_changed_after_it_was_linked(tmp_path):
  # Offline, no rows are added; an interrupted episode changes the newest two.
  table, before, seen = _table(capacity=12), None, {}
  files = TableFiles(table, _LINKED)
  for number, rows in enumerate(_pieces(7, _SPEC, 20)):
    for again in ('a', 'b', 'c'):
      if again == 'a':
        table.append(rows)
      folder = tmp_path / f'{number}{again}'
      folder.mkdir()
      files.save(folder, before)
      seen |= {file: file.read_bytes() for file in folder.iterdir()}
      before = folder
  assert seen == {file: file.read_bytes() for file in seen}


@pytest.mark.slow
def test_what_no_row_needs_is_not_linked(tmp_path):
  table, before = _table(capacity=12), None
  files = TableFiles(table, _LINKED)
  for number, rows in enumerate(_pieces(4, _SPEC, 60)):
    table.append(rows)
    folder = tmp_path / str(number)
    folder.mkdir()
    files.save(folder, before)
    before = folder
  assert len(list(before.glob('rows-*'))) <= table.num_slots + 2


@pytest.mark.slow
def test_a_cleared_table_shares_nothing_with_what_it_held(tmp_path):
  # Rows are numbered from 0 again: a file's name says nothing of its rows.
  table, restored, before = _table(), _table(), None
  files = TableFiles(table, _LINKED)
  for number, rows in enumerate(_pieces(8, _SPEC, 12)):
    if number % 3 == 0:
      table.clear()
    table.append(rows)
    folder = tmp_path / str(number)
    folder.mkdir()
    files.save(folder, before)
    before = folder
    TableFiles(restored).restore(folder)
    _same_where_written(restored, table)


@pytest.mark.slow
def test_without_hard_links_files_are_copied(tmp_path, monkeypatch):
  def refuse(*_):
    raise OSError(1, 'Operation not permitted')

  monkeypatch.setattr(os, 'link', refuse)
  table = _table()
  files = TableFiles(table, _LINKED)
  for number, rows in enumerate(_pieces(5, _SPEC, 2)):
    table.append(rows)
    folder = tmp_path / str(number)
    folder.mkdir()
    files.save(folder, tmp_path / '0' if number else None)
  restored = _table()
  TableFiles(restored).restore(folder)
  _same_where_written(restored, table)


@pytest.mark.slow
def test_cursors_of_version_0_1_are_read(tmp_path):
  table, restored = _table(), _table()
  for rows in _pieces(0, _SPEC, 3):
    table.append(rows)
  TableFiles(table).save(tmp_path, None)
  with np.load(tmp_path / 'cursors.npz') as cursors:
    old = {**cursors, '99_latest_starts': np.arange(3)}
  np.savez(tmp_path / 'cursors.npz', **old)
  TableFiles(restored).restore(tmp_path)
  _same_where_written(restored, table)


@pytest.mark.slow
def test_another_table_is_refused(tmp_path):
  table = _table()
  for rows in _pieces(6, _SPEC, 3):
    table.append(rows)
  TableFiles(table).save(tmp_path, None)
  with pytest.raises(ValueError, match='other columns'):
    TableFiles(_table(_IMAGES)).restore(tmp_path)
  (file,) = tmp_path.glob('rows-*')
  file.unlink()
  with pytest.raises(ValueError, match="lacks the table's rows from 0 on"):
    TableFiles(_table()).restore(tmp_path)
