"""A table of single frames against the same table of whole stacks."""

import numpy as np
import pytest
import tensorflow as tf
from tf_agents.trajectories import trajectory

from qwr_tf.config.errors import ConfigError
from qwr_tf.replay import frame_stacks
from qwr_tf.replay import replay_table

_FIRST, _MID, _LAST = range(3)
_STACK = 4


def _spec(dtype=tf.uint8, shape=(3, 2, _STACK)):
  scalar = tf.TensorSpec([], tf.float32)
  step_type = tf.TensorSpec([], tf.int32)
  return trajectory.Trajectory(
    step_type=step_type,
    observation=tf.TensorSpec(shape, dtype, 'observation'),
    action=tf.TensorSpec([], tf.int32),
    policy_info=(),
    next_step_type=step_type,
    reward=scalar,
    discount=scalar,
  )


def _stream(rng, num_rows, mean_length, interruptions):
  """Rows of episodes with stacks made the slow way: a list of frames.

  The first frame of an episode is repeated (gymnasium's 'reset' padding).
  """
  rows, frames, left = [], [], 0
  step_type = _FIRST
  for number in range(num_rows):
    frame = rng.integers(0, 256, (3, 2))
    if step_type == _FIRST:
      frames = [frame] * _STACK
      left = int(rng.geometric(1 / mean_length))
    else:
      frames = [*frames[1:], frame]
    following = _LAST if left == 1 else _MID
    if step_type == _LAST:
      following = _FIRST
    left -= 1
    stack = np.stack(frames, axis=-1).astype(np.uint8)
    rows.append((step_type, stack, number, following))
    step_type = following
    if step_type == _MID and rng.random() < interruptions:
      step_type = _FIRST
  return rows


def _trajectory(rows):
  step_type, stack, number, following = zip(*rows, strict=True)
  count = len(rows)
  return trajectory.Trajectory(
    step_type=tf.constant(step_type, tf.int32),
    observation=tf.constant(np.stack(stack)),
    action=tf.constant(number, tf.int32),
    policy_info=(),
    next_step_type=tf.constant(following, tf.int32),
    reward=tf.zeros([count]),
    discount=tf.ones([count]),
  )


def _pieces(rng, rows, largest):
  """Cuts rows at random places, and where an episode was abandoned."""
  first = 0
  while first < len(rows):
    end = min(first + int(rng.integers(1, largest + 1)), len(rows))
    for i in range(first + 1, end):
      if rows[i][0] == _FIRST and rows[i - 1][0] != _LAST:
        end = i
        break
    yield rows[first:end]
    first = end


def _starts(table):
  """All rows that can be drawn."""
  drawn = table.sample_starts([4000], seed=(1, 2)).numpy()
  return np.unique(drawn)


@pytest.mark.slow
@pytest.mark.usefixtures('eagerly')
@pytest.mark.parametrize(
  'capacity, rows_per_interaction, mean_length, interruptions',
  [
    (20, 2.0, 3.0, 0.0),  # Many short episodes; both rings wrap.
    (20, 2.0, 30.0, 0.0),  # Stacks across appends and across the wrap.
    (20, 1.0, 2.0, 0.0),  # Rows run out before interactions do.
    (20, 2.0, 8.0, 0.1),  # Episodes abandoned between appends.
  ],
)
def test_windows_equal_those_of_whole_stacks(
  capacity, rows_per_interaction, mean_length, interruptions
):
  rng = np.random.default_rng(0)
  options = dict(rows_per_interaction=rows_per_interaction)
  frames = replay_table.ReplayTable(
    _spec(), capacity, single_frames=True, **options
  )
  # Nothing is ever evicted here: row numbers name the same rows in both.
  whole = replay_table.ReplayTable(_spec(), 1000)
  rows = _stream(rng, 150, mean_length, interruptions)
  for piece in _pieces(rng, rows, largest=9):
    frames.append(_trajectory(piece))
    whole.append(_trajectory(piece))
    if int(frames.num_starts()):
      starts = tf.constant(_starts(frames))
      actual = frames.gather(starts, 3)
      expected = whole.gather(starts, 3)
      tf.nest.map_structure(np.testing.assert_array_equal, actual, expected)


@pytest.mark.slow
@pytest.mark.parametrize('largest', [60, 5])
def test_segments_of_two_environments_keep_their_stacks(largest):
  rng = np.random.default_rng(5)
  table = replay_table.ReplayTable(_spec(), 60, single_frames=True)
  streams = [_stream(rng, 120, 9.0, 0.0) for _ in range(2)]
  stacks = {}
  for first in range(0, 112, 7):
    batch = []
    for i, stream in enumerate(streams):
      rows = [(t, s, n + 1000 * i, f) for t, s, n, f in stream[first:][:7]]
      stacks |= {row[2]: row[1] for row in rows}
      step_type, stack, *_ = stream[first + 7]
      if step_type != _FIRST:  # The episode is cut, or its final row comes.
        rows.append((_LAST, stack, -1, _FIRST))
      # A final row that is there already does not begin the next segment.
      rows = rows[1:] if rows[0][0] == _LAST else rows
      if rows[0][0] == _MID:
        older = np.moveaxis(rows[0][1], -1, 0)[:-1, ..., np.newaxis]
        batch += [(_LAST, frame, -1, _FIRST) for frame in older]
      batch += [(t, s[..., -1:], n, f) for t, s, n, f in rows]
    for piece in range(0, len(batch), largest):
      rows = _trajectory(batch[piece : piece + largest])
      frames = rows.observation[..., 0]
      table.append_frames(rows._replace(observation=frames))
    windows = table.gather(tf.constant(_starts(table)), 1)
    for number, stack in zip(
      windows.action[:, 0].numpy(), windows.observation[:, 0], strict=True
    ):
      np.testing.assert_array_equal(stack, stacks[number])
  # Old rows are gone, and the newest of both are there.
  numbers = set(windows.action[:, 0].numpy())
  assert {110, 1110} & numbers and not {1, 1001} & numbers
  assert len(numbers) == 60


@pytest.mark.slow
@pytest.mark.usefixtures('eagerly')
@pytest.mark.parametrize('mean_length', [2.0, 30.0])
def test_as_many_interactions_are_kept_as_with_whole_stacks(mean_length):
  rows = _stream(np.random.default_rng(1), 120, mean_length, 0.0)
  tables = [
    replay_table.ReplayTable(_spec(), 20, single_frames=single)
    for single in (False, True)
  ]
  for first in range(0, len(rows), 7):
    for table in tables:
      table.append(_trajectory(rows[first : first + 7]))
    np.testing.assert_array_equal(_starts(tables[0]), _starts(tables[1]))


@pytest.mark.slow
def test_the_whole_table_reads_back_in_time_order():
  rows = _stream(np.random.default_rng(2), 60, 5.0, 0.0)
  table = replay_table.ReplayTable(_spec(), 30, single_frames=True)
  for first in range(0, 60, 6):
    table.append(_trajectory(rows[first : first + 6]))
  first, end = (int(x) for x in table.row_range())
  read = table.read(first, end)
  expected = np.stack([row[1] for row in rows[first:end]])
  np.testing.assert_array_equal(read.observation, expected)


@pytest.mark.slow
def test_a_cleared_table_does_not_continue_the_old_episode():
  table = replay_table.ReplayTable(_spec(), 10, single_frames=True)
  rows = _stream(np.random.default_rng(3), 5, 50.0, 0.0)
  table.append(_trajectory(rows))
  table.clear()
  middle = [(_MID, *row[1:]) for row in rows[1:4]]
  table.append(_trajectory(middle))
  # What was before the first row is unknown, so its own frame is repeated.
  first = table.read(0, 1).observation[0].numpy()
  newest = rows[1][1][..., -1]
  np.testing.assert_array_equal(first, np.stack([newest] * _STACK, axis=-1))


def _zero_padded(rows):
  rows[0][1][..., :-1] = 0  # As wrappers do that fill up with zeros.
  return rows


def _without_its_beginning(rows):
  return [(_FIRST, *rows[2][1:]), *rows[3:]]


def _with_a_frame_left_out(rows):
  return [*rows[:4], *rows[5:]]


@pytest.mark.slow
@pytest.mark.parametrize(
  'changed', [_zero_padded, _without_its_beginning, _with_a_frame_left_out]
)
def test_stacks_that_would_be_rebuilt_as_others_are_refused(changed):
  table = replay_table.ReplayTable(_spec(), 20, single_frames=True)
  rows = _stream(np.random.default_rng(4), 8, 1e9, 0.0)
  rows[4] = (_MID, *rows[4][1:])
  table.append(_trajectory(rows))
  table.clear()
  rows = _trajectory(changed(rows))
  with pytest.raises(
    tf.errors.InvalidArgumentError, match='single_frames = False'
  ):
    table.append(rows)
  assert int(table.num_starts()) == 0
  with pytest.raises(ConfigError, match='single_frames = False'):
    frame_stacks.newest(
      rows.observation.numpy(), rows.step_type.numpy(), rows.discount.numpy()
    )


@pytest.mark.slow
def test_only_a_terminal_step_may_be_followed_by_any_stack():
  rows = _stream(np.random.default_rng(5), 4, 1e9, 0.0)
  rows[2] = (*rows[2][:3], _LAST)
  rows[3] = (_LAST, 255 - rows[3][1], 3, _FIRST)
  table = replay_table.ReplayTable(_spec(), 20, single_frames=True)
  cut = _trajectory(rows)  # By a time limit, which bootstraps from it.
  with pytest.raises(tf.errors.InvalidArgumentError, match='= False'):
    table.append(cut)
  table.append(cut._replace(discount=tf.constant([1.0, 1.0, 0.0, 1.0])))
  assert int(table.num_starts()) == 3


def test_observations_that_are_no_images_are_refused():
  spec = _spec(tf.float32, (17,))
  with pytest.raises(ValueError, match='leave single_frames off'):
    replay_table.ReplayTable(spec, 10, single_frames=True)


@pytest.mark.slow
@pytest.mark.usefixtures('eagerly')
def test_images_beside_others_are_kept_as_frames():
  rng = np.random.default_rng(3)
  entries = {
    'camera': tf.TensorSpec((3, 2, _STACK), tf.uint8),
    'number': tf.TensorSpec([], tf.float32),
    'picture': tf.TensorSpec((3, 2, 1), tf.uint8),
  }
  spec = _spec()._replace(observation=entries)

  def rows(piece):
    whole = _trajectory(piece)
    observation = {
      'camera': whole.observation,
      'number': tf.cast(whole.action, tf.float32),
      'picture': whole.observation[..., -1:],
    }
    return whole._replace(observation=observation)

  frames = replay_table.ReplayTable(spec, 20, single_frames=True)
  whole = replay_table.ReplayTable(spec, 1000)
  sizes = [v.shape.num_elements() for v in frames.variables]
  assert max(sizes) == frames.num_slots * 3 * 2
  for piece in _pieces(rng, _stream(rng, 60, 5.0, 0.0), largest=9):
    frames.append(rows(piece))
    whole.append(rows(piece))
  starts = tf.constant(_starts(frames))
  tf.nest.map_structure(
    np.testing.assert_array_equal,
    frames.gather(starts, 3),
    whole.gather(starts, 3),
  )
