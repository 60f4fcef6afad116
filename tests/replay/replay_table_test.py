"""The replay table against a list of rows that never forgets."""

import numpy as np
import pytest
import tensorflow as tf
from tf_agents.trajectories import trajectory

from qwr_tf.ops import returns
from qwr_tf.replay import memory
from qwr_tf.replay import replay_table

_FIRST, _MID, _LAST = range(3)
_GAMMA = 0.9

# A nested observation, images' type among it, and mu's parameters.
_SPEC = trajectory.Trajectory(
  step_type=tf.TensorSpec([], tf.int32, 'step_type'),
  observation={
    'number': tf.TensorSpec([], tf.int64, 'number'),
    'pixels': tf.TensorSpec([2, 1], tf.uint8, 'pixels'),
  },
  action=tf.TensorSpec([], tf.int32, 'action'),
  policy_info={'dist_params': {'logits': tf.TensorSpec([3], tf.float32)}},
  next_step_type=tf.TensorSpec([], tf.int32, 'next_step_type'),
  reward=tf.TensorSpec([], tf.float32, 'reward'),
  discount=tf.TensorSpec([], tf.float32, 'discount'),
)


def _slice(rows, start, end):
  return tf.nest.map_structure(lambda x: x[start:end], rows)


def _stack(rows):
  """Rows, a list of Trajectories of scalars, to [N, ...]."""
  dtypes = tf.nest.map_structure(lambda s: s.dtype.as_numpy_dtype, _SPEC)
  return tf.nest.map_structure(
    lambda dtype, *values: np.stack(values).astype(dtype), dtypes, *rows
  )


_same = np.testing.assert_array_equal  # Of arrays.


def _equal(actual, expected):
  """The same, for Trajectories."""
  tf.nest.map_structure(_same, actual, expected)


class Episodes:
  """Rows of random episodes, one after the other.

  `interruptions` is the probability per row that the episode is abandoned
  after it: no final observation, the next row is the first of another one.
  """

  def __init__(self, seed, mean_length=3.0, interruptions=0.0):
    self._rng = np.random.default_rng(seed)
    self._mean_length = mean_length
    self._interruptions = interruptions
    self._number = 0
    self._left = 0
    self._step_type = _FIRST
    self._terminal = False

  def row(self, step_type, next_step_type, discount=1.0):
    """Returns a row whose contents no other row has."""
    number = self._number
    self._number += 1
    return trajectory.Trajectory(
      step_type=step_type,
      observation={
        'number': number,
        'pixels': self._rng.integers(0, 256, (2, 1)),
      },
      action=self._rng.integers(0, 3),
      policy_info={'dist_params': {'logits': self._rng.normal(size=3)}},
      next_step_type=next_step_type,
      reward=self._rng.normal(),
      discount=discount,
    )

  def _next(self):
    if self._step_type == _FIRST:
      self._left = int(self._rng.geometric(1.0 / self._mean_length))
      self._terminal = self._rng.random() < 0.5
    if self._step_type == _LAST:
      self._step_type = _FIRST
      # A final frame is followed by a new episode; it has no reward.
      return self.row(_LAST, _FIRST)
    self._left -= 1
    following = _MID if self._left else _LAST
    ends = self._terminal and following == _LAST
    row = self.row(self._step_type, following, 0.0 if ends else 1.0)
    self._step_type = following
    if self._rng.random() < self._interruptions:
      self._step_type = _FIRST
    return row

  def rows(self, count):
    """Returns the next rows [count, ...]."""
    return _stack([self._next() for _ in range(count)])

  def pieces(self, count, largest):
    """Yields `count` pieces of random sizes.

    A piece ends where an episode is abandoned: collecting starts anew with
    another call.
    """
    for _ in range(count):
      rows = [self._next()]
      for _ in range(int(self._rng.integers(0, largest))):
        if rows[-1].next_step_type != _FIRST and self._step_type == _FIRST:
          break
        rows.append(self._next())
      yield _stack(rows)


class Oracle:
  """What the table should be: all rows ever written, and which are kept."""

  def __init__(self, capacity, rows_per_interaction=2.0):
    self.capacity = capacity
    self.num_rows = int(capacity * rows_per_interaction) + 1
    self.rows = []

  def append(self, rows):
    count = len(rows.step_type)
    rows = [
      tf.nest.map_structure(lambda x, i=i: x[i], rows) for i in range(count)
    ]
    starts_anew = rows[0].step_type == _FIRST
    unfinished = self.rows and self.rows[-1].step_type != _LAST
    if starts_anew and unfinished and self.rows[-1].discount == 0.0:
      # A terminal step needs no more than a row after it.
      self.rows.append(
        self.rows[-1]._replace(step_type=_LAST, next_step_type=_FIRST)
      )
    elif starts_anew and unfinished:
      # Cut: the newest row only stands for its observation.
      if self.rows[-1].step_type != _FIRST:
        self.rows[-2:-1] = [
          r._replace(next_step_type=_LAST) for r in self.rows[-2:-1]
        ]
      self.rows[-1] = self.rows[-1]._replace(step_type=_LAST)
    self.rows += rows

  @property
  def newest(self):
    return len(self.rows) - 1

  def interactions(self):
    """Row numbers of the kept interactions, oldest first."""
    oldest_row = max(0, len(self.rows) - self.num_rows)
    interactions = [
      i for i, row in enumerate(self.rows) if row.step_type != _LAST
    ]
    return [i for i in interactions[-self.capacity :] if i >= oldest_row]

  def starts(self):
    """Those that have a row after them."""
    return [i for i in self.interactions() if i < self.newest]

  def window(self, start, num_steps):
    rows = []
    for number in range(start, start + num_steps):
      row = self.rows[min(number, self.newest)]
      if number >= self.newest:
        row = row._replace(step_type=_LAST)
      if number == self.newest - 1:
        row = row._replace(next_step_type=_LAST)
      rows.append(row)
    return _stack(rows)

  def windows(self, starts, num_steps):
    windows = [self.window(start, num_steps) for start in starts]
    return tf.nest.map_structure(lambda *x: np.stack(x), *windows)


def _filled(capacity, pieces, rows_per_interaction=2.0, **kwargs):
  """A table and its oracle with the same pieces."""
  table = replay_table.ReplayTable(
    _SPEC, capacity, rows_per_interaction=rows_per_interaction, **kwargs
  )
  oracle = Oracle(capacity, rows_per_interaction)
  for rows in pieces:
    table.append(rows)
    oracle.append(rows)
  return table, oracle


def _check(table, oracle, num_steps=4):
  """Everything that can be read is what the oracle says."""
  interactions, starts = oracle.interactions(), oracle.starts()
  assert int(table.num_frames()) == len(interactions)
  assert int(table.num_starts()) == len(starts)
  if starts:
    # Of 60 n draws each of n starts is missed with probability e^-60.
    drawn = table.sample_starts([60 * len(starts)], [1, 2]).numpy()
    assert sorted(set(drawn.tolist())) == starts
    _equal(
      table.gather(tf.constant(starts, tf.int64), num_steps),
      oracle.windows(starts, num_steps),
    )
  if interactions:
    first, end = (int(row) for row in table.row_range())
    assert (first, end) == (interactions[0], len(oracle.rows))
    _equal(table.read(first, end), _stack(oracle.rows[first:end]))


_SIZES = [
  # (capacity, rows_per_interaction, mean episode length)
  (1, 1.0, 1.5),
  (3, 2.0, 1.0),  # Episodes of one step: rows are just enough.
  (7, 2.0, 2.5),  # Interactions evict.
  (7, 1.0, 2.0),  # Rows evict.
  (10, 1.25, 4.0),  # Now the one, now the other.
]


@pytest.mark.slow
@pytest.mark.parametrize(('capacity', 'per_interaction', 'length'), _SIZES)
def test_table_equals_the_oracle(capacity, per_interaction, length):
  episodes = Episodes(capacity, length)
  table, oracle = _filled(capacity, [], per_interaction)
  evicting = set()
  for rows in episodes.pieces(40, largest=capacity):
    table.append(rows)
    oracle.append(rows)
    _check(table, oracle)
    evicting.add(len(oracle.interactions()) == capacity)
  assert len(oracle.rows) > 3 * oracle.num_rows or capacity == 1
  # The cases are what they say they are.
  if per_interaction == 2.0 or capacity == 10:
    assert True in evicting
  if per_interaction == 1.0 and capacity > 1:
    assert len(oracle.interactions()) < capacity


@pytest.mark.slow
@pytest.mark.parametrize(('capacity', 'per_interaction', 'length'), _SIZES)
def test_interrupted_table_equals_the_oracle(capacity, per_interaction, length):
  episodes = Episodes(capacity + 100, length, interruptions=0.3)
  table, oracle = _filled(capacity, [], per_interaction)
  for rows in episodes.pieces(30, largest=capacity):
    table.append(rows)
    oracle.append(rows)
    _check(table, oracle)


def _episode(episodes, length, terminal):
  """Rows [length + 1] of one whole episode."""
  types = [_FIRST] + [_MID] * (length - 1) + [_LAST]
  discounts = [1.0] * (length - 1) + [0.0 if terminal else 1.0]
  rows = [
    episodes.row(types[i], types[i + 1], discounts[i]) for i in range(length)
  ]
  return _stack([*rows, episodes.row(_LAST, _FIRST)])


@pytest.mark.slow
def test_capacity_counts_interactions_by_hand():
  # Episodes of 2 and 1 and 3 steps are rows 0-2, 3-4, 5-8; final observations
  # are 2, 4, 8. The newest four interactions are 3, 5, 6, 7.
  episodes = Episodes(0)
  pieces = [_episode(episodes, length, False) for length in (2, 1, 3)]
  table, _ = _filled(4, pieces)
  assert int(table.num_frames()) == 4
  assert int(table.num_starts()) == 4
  drawn = table.sample_starts([500], [0, 1]).numpy()
  assert set(drawn.tolist()) == {3, 5, 6, 7}
  assert [int(row) for row in table.row_range()] == [3, 9]


@pytest.mark.slow
def test_rows_evict_by_hand():
  # The same in int(4 * 1.25) + 1 = 6 rows: 3-8 are left, all four of them. One
  # more row, 9, evicts 3 (by number as well, as it is an interaction) and has
  # no successor. Then 10 ends its episode and takes row 4's place.
  episodes = Episodes(0)
  pieces = [_episode(episodes, length, False) for length in (2, 1, 3)]
  table, _ = _filled(4, pieces, 1.25)
  assert set(table.sample_starts([500], [0, 1]).numpy()) == {3, 5, 6, 7}
  table.append(_stack([episodes.row(_FIRST, _LAST)]))
  assert int(table.num_frames()) == 4
  assert set(table.sample_starts([500], [0, 1]).numpy()) == {5, 6, 7}
  table.append(_stack([episodes.row(_LAST, _FIRST)]))
  assert set(table.sample_starts([500], [0, 1]).numpy()) == {5, 6, 7, 9}
  # Rows 11-12 evict 5 and 6, rows alone: 5 - 10 were all six.
  table.append(_episode(episodes, 1, False))
  assert set(table.sample_starts([500], [0, 1]).numpy()) == {7, 9, 11}
  assert int(table.num_frames()) == 3


# Drawing


@pytest.fixture(name='wrapped', scope='module')
def _wrapped():
  """A table that is only read, wrapped in both rings, and its oracle."""
  table, oracle = _filled(20, Episodes(3).pieces(30, largest=20), 1.25)
  assert len(oracle.rows) > 2 * oracle.num_rows
  return table, oracle


def test_starts_are_uniform(wrapped):
  table, oracle = wrapped
  starts, draws = oracle.starts(), 20_000
  assert len(starts) > 8
  drawn = table.sample_starts([100, draws // 100], [5, 6])
  assert drawn.shape == (100, draws // 100) and drawn.dtype == tf.int64
  counts = np.bincount(drawn.numpy().ravel(), minlength=len(oracle.rows))
  assert counts.sum() == counts[starts].sum() == draws
  expected = draws / len(starts)
  chi_square = np.sum((counts[starts] - expected) ** 2) / expected
  # Mean df and variance 2 df; four deviations above, and not suspiciously even.
  df = len(starts) - 1
  assert df - 3 * np.sqrt(2 * df) < chi_square < df + 4 * np.sqrt(2 * df)


def test_draws_depend_on_the_stateless_seed_alone(wrapped):
  table, _ = wrapped
  tf.random.set_seed(1)
  first = table.sample_starts([50], [7, 8])
  table.sample_starts([3], [0, 0])
  tf.random.set_seed(2)
  _same(table.sample_starts([50], [7, 8]), first)
  in_graph = tf.function(lambda: table.sample_starts([50], [7, 8]))
  _same(in_graph(), first)
  for seed in ([7, 9], [8, 8]):
    assert np.any(table.sample_starts([50], seed) != first)


def test_sample_gathers_what_sample_starts_draws(wrapped):
  table, oracle = wrapped
  starts = table.sample_starts([16], [3, 4]).numpy()
  _equal(table.sample(16, 3, [3, 4]), oracle.windows(starts, 3))


@pytest.mark.slow
def test_nothing_can_be_drawn_from_an_empty_table():
  table, _ = _filled(4, [])
  assert int(table.num_starts()) == 0
  with pytest.raises(tf.errors.InvalidArgumentError, match='is empty'):
    table.sample(2, 2, [0, 0])
  # One row has no successor yet.
  table.append(Episodes(0, 1e9).rows(1))
  assert int(table.num_starts()) == 0 and int(table.num_frames()) == 1
  with pytest.raises(tf.errors.InvalidArgumentError, match='is empty'):
    tf.function(lambda: table.sample(2, 2, [0, 0]))()


# The newest row


@pytest.mark.slow
def test_a_window_cut_at_the_newest_row_reads_as_a_time_limit():
  # Three rows of an unfinished episode.
  table, oracle = _filled(8, [Episodes(6, 1e9).rows(3)])
  window = table.gather(tf.constant([0, 1], tf.int64), 4)
  _same(
    window.step_type,
    [[_FIRST, _MID, _LAST, _LAST], [_MID, _LAST, _LAST, _LAST]],
  )
  # Row 1 is the one before the newest.
  _same(window.next_step_type[:, :2], [[_MID, _LAST], [_LAST, _MID]])
  _same(window.is_last()[:, :2], [[False, True], [True, False]])
  _same(window.discount, np.ones((2, 4)))
  # The newest row itself is repeated, with its own mu.
  _same(window.observation['number'], [[0, 1, 2, 2], [1, 2, 2, 2]])
  newest_mu = oracle.rows[2].policy_info['dist_params']['logits']
  logits = window.policy_info['dist_params']['logits']
  _same(logits[0, 2:], np.stack([newest_mu] * 2))
  # What is stored is not changed by that: it goes on.
  table.append(Episodes(6, 1e9).rows(4)._replace(step_type=np.int32([1] * 4)))
  window = table.gather(tf.constant([0], tf.int64), 4)
  _same(window.step_type, [[_FIRST, _MID, _MID, _MID]])
  _same(window.next_step_type, [[_MID, _MID, _MID, _MID]])


def test_an_interrupted_episode_ends_at_its_last_row():
  # Rows 0-2 of an episode that is never finished, then another one, 3-5.
  episodes = Episodes(7, 1e9)
  before = episodes.rows(3)
  table, _ = _filled(8, [before, _episode(episodes, 2, True)])
  window = table.gather(tf.constant([0], tf.int64), 6)
  _same(window.step_type, [[_FIRST, _MID, _LAST, _FIRST, _MID, _LAST]])
  _same(window.is_last()[0, :5], [False, True, False, False, True])
  # Row 1 keeps its discount and its reward, row 2 its observation and its mu.
  _same(window.discount[0, :2], [1.0, 1.0])
  for name in ('reward', 'observation', 'policy_info'):
    actual = tf.nest.map_structure(lambda x: x[0, :3], getattr(window, name))
    _equal(actual, getattr(before, name))


@pytest.mark.slow
def test_an_episode_interrupted_at_its_first_row_leaves_the_one_before():
  # Rows 0-2 are an episode, row 3 begins one that is never acted in.
  episodes = Episodes(7, 1e9)
  reset = _stack([episodes.row(_FIRST, _MID, 1.0)])
  pieces = [_episode(episodes, 2, False), reset, _episode(episodes, 2, False)]
  table, _ = _filled(8, pieces)
  rows = table.read(0, 7)
  _same(rows.step_type, [_FIRST, _MID, _LAST, _LAST, _FIRST, _MID, _LAST])
  _same(rows.next_step_type[:3], [_MID, _LAST, _FIRST])


@pytest.mark.slow
def test_a_terminal_step_needs_no_final_observation():
  # Drivers that begin with env.reset() never show that one.
  episodes = Episodes(7)
  first, second = (_episode(episodes, 2, True) for _ in range(2))
  before = tf.nest.map_structure(lambda x: x[:-1], first)
  table, _ = _filled(8, [before, second])
  assert int(table.num_frames()) == 4
  window = table.gather(tf.constant([0], tf.int64), 6)
  _same(window.step_type, [[_FIRST, _MID, _LAST, _FIRST, _MID, _LAST]])
  _same(window.discount[0, :2], [1.0, 0.0])
  for name in ('reward', 'action', 'observation', 'next_step_type'):
    actual = tf.nest.map_structure(lambda x: x[0, :2], getattr(window, name))
    _equal(actual, getattr(before, name))


def test_an_interrupted_row_cannot_be_drawn():
  # Row 2 gave up its action: of rows 0-5 only 0, 1, 3, 4 are transitions.
  episodes = Episodes(7, 1e9)
  table, _ = _filled(8, [episodes.rows(3), _episode(episodes, 2, True)])
  drawn = table.sample_starts([500], [0, 1]).numpy()
  assert set(drawn.tolist()) == {0, 1, 3, 4}
  assert int(table.num_frames()) == 4


@pytest.mark.slow
def test_an_interrupted_row_does_not_count_as_an_interaction():
  # Three interactions: 1, 3, 4.
  episodes = Episodes(7, 1e9)
  table, _ = _filled(3, [episodes.rows(3), _episode(episodes, 2, True)])
  drawn = table.sample_starts([500], [0, 1]).numpy()
  assert set(drawn.tolist()) == {1, 3, 4}


def test_a_finished_episode_is_not_cut():
  # The newest row is a final observation, so the next FIRST is no interruption.
  episodes = Episodes(8)
  pieces = [_episode(episodes, 2, True), _episode(episodes, 2, True)]
  table, _ = _filled(8, pieces)
  window = table.gather(tf.constant([0], tf.int64), 6)
  _same(window.step_type, [[_FIRST, _MID, _LAST] * 2])
  _same(window.next_step_type[0, :3], [_MID, _LAST, _FIRST])


# Reading the whole table


def test_all_rows_are_the_whole_table_in_time_order(wrapped):
  table, oracle = wrapped
  kept = oracle.rows[oracle.interactions()[0] :]
  batched = tf.nest.map_structure(lambda x: x[None], _stack(kept))
  _equal(table.gather_all(), batched)


def test_read_is_what_was_written():
  # Unlike a window, the newest row is as it was.
  rows = Episodes(10, 1e9).rows(3)
  table, _ = _filled(8, [rows])
  _equal(table.read(*table.row_range()), rows)
  _equal(table.read(1, 2), _slice(rows, 1, 2))


def test_an_empty_table_has_no_rows():
  table, _ = _filled(8, [])
  assert len(table.gather_all().step_type[0]) == 0
  assert int(table.num_frames()) == 0


# Clearing


@pytest.mark.slow
def test_a_cleared_table_starts_anew():
  table, _ = _filled(5, Episodes(11).pieces(25, largest=5), 1.25)
  table.clear()
  assert int(table.num_frames()) == int(table.num_starts()) == 0
  with pytest.raises(tf.errors.InvalidArgumentError, match='is empty'):
    table.sample(1, 2, [0, 0])
  oracle = Oracle(5, 1.25)
  for rows in Episodes(12).pieces(25, largest=5):
    table.append(rows)
    oracle.append(rows)
    _check(table, oracle)


@pytest.mark.slow
def test_a_cleared_table_has_no_rows():
  table, _ = _filled(5, Episodes(11).pieces(25, largest=5), 1.25)
  table.clear()
  assert [int(row) for row in table.row_range()] == [0, 0]
  assert len(table.gather_all().step_type[0]) == 0


@pytest.mark.slow
def test_a_cleared_table_forgets_that_it_was_open_ended():
  table, _ = _filled(5, [Episodes(13, 1e9).rows(3)])
  table.clear()
  rows = Episodes(14, 1e9).rows(2)
  table.append(rows)
  _equal(table.read(*table.row_range()), rows)


# Errors


@pytest.mark.parametrize(
  ('capacity', 'rows_per_interaction'), [(0, 2.0), (-3, 2.0), (4, 0.99)]
)
def test_sizes_below_one_are_refused(capacity, rows_per_interaction):
  with pytest.raises(ValueError, match=f'not {capacity} and'):
    replay_table.ReplayTable(
      _SPEC, capacity, rows_per_interaction=rows_per_interaction
    )


@pytest.mark.slow
@pytest.mark.parametrize('in_function', [False, True])
def test_an_append_larger_than_the_capacity_is_refused(in_function):
  # And leaves the table as it was. The pieces of other sizes come first: by
  # then the graph does not know the size beforehand.
  episodes = Episodes(15)
  table, oracle = _filled(4, episodes.pieces(9, largest=4))
  append = tf.function(table.append) if in_function else table.append
  with pytest.raises(tf.errors.InvalidArgumentError, match='smaller pieces'):
    append(Episodes(16, 1e9).rows(5))
  _check(table, oracle)
  rows = episodes.rows(4)
  table.append(rows)
  oracle.append(rows)
  _check(table, oracle)


@pytest.mark.slow
def test_appending_nothing_changes_nothing():
  table, oracle = _filled(4, [Episodes(17, 1e9).rows(3)])
  table.append(_slice(Episodes(17).rows(1), 0, 0))
  _check(table, oracle)


# TF-Agents' own interface


def test_add_batch_takes_frames_of_one_environment():
  table, oracle = _filled(4, [])
  for rows in Episodes(18).pieces(14, largest=1):
    table.add_batch(rows)
    oracle.append(rows)
  _check(table, oracle)
  with pytest.raises(ValueError, match='not 2'):
    table.add_batch(Episodes(18).rows(2))
  _check(table, oracle)


@pytest.mark.slow
def test_get_next_counts_its_draws():
  pieces = [Episodes(19).rows(30)]
  one, oracle = _filled(30, pieces, seed=3)
  other, _ = _filled(30, pieces, seed=3)
  another, _ = _filled(30, pieces, seed=4)

  def draws(table):
    result = []
    for _ in range(4):
      window, info = table.get_next(sample_batch_size=32, num_steps=3)
      assert info == ()
      result.append(window)
    return result

  drawn = draws(one)
  for window, again in zip(drawn, draws(other), strict=True):
    _equal(window, again)
    _equal(window, oracle.windows(_starts_of(window, oracle), 3))
  keys = [tuple(_starts_of(w, oracle)) for w in drawn + draws(another)]
  assert len(set(keys)) == 8  # No draw comes twice.


def _starts_of(window, oracle):
  """Row numbers of a batch of windows, which must be drawable."""
  numbers = [int(row.observation['number']) for row in oracle.rows]
  starts = [numbers.index(n) for n in window.observation['number'][:, 0]]
  assert set(starts) <= set(oracle.starts())
  return starts


def _at(window, *index):
  return tf.nest.map_structure(lambda x: x[index], window)


_ALL = slice(None)


@pytest.mark.slow
def test_get_next_has_the_axes_it_is_asked_for():
  # The table of shapes in `ReplayBuffer.get_next`.
  (table, _), (other, _) = (_filled(30, [Episodes(20).rows(30)]) for _ in 'ab')

  def same_draw(batch_size, num_steps=None, **kwargs):
    """Of both: as it is asked for, and as a batch of windows."""
    items, info = table.get_next(batch_size, num_steps, **kwargs)
    assert info == ()
    return items, other.get_next(batch_size or 1, num_steps or 1)[0]

  for batch_size, index in ((None, 0), (8, _ALL)):
    items, window = same_draw(batch_size, 3)
    _equal(items, _at(window, index))
    item, window = same_draw(batch_size)
    _equal(item, _at(window, index, 0))
    items, window = same_draw(batch_size, 3, time_stacked=False)
    assert isinstance(items, tuple) and len(items) == 3
    for t, item in enumerate(items):
      _equal(item, _at(window, index, t))
  one, _ = table.get_next()
  tf.nest.map_structure(
    lambda s, x: s.shape.assert_is_compatible_with(x.shape),
    table.data_spec,
    one,
  )
  item, _ = next(iter(table.as_dataset(sample_batch_size=8)))
  assert item.reward.shape == (8,)


@pytest.mark.slow
def test_as_dataset_draws_as_get_next_does():
  episodes = Episodes(21)
  pieces = [episodes.rows(30)]
  (table, oracle), (other, _) = _filled(30, pieces), _filled(30, pieces)
  iterator = iter(table.as_dataset(sample_batch_size=32, num_steps=3))
  for _ in range(3):
    window, _ = next(iterator)
    _equal(window, other.get_next(sample_batch_size=32, num_steps=3)[0])
  # It sees what is added later, but for what tf.data made ahead.
  rows = episodes.rows(30)
  table.append(rows)
  oracle.append(rows)
  for _ in range(20):
    window, _ = next(iterator)
  _equal(window, oracle.windows(_starts_of(window, oracle), 3))


def test_what_is_not_offered_says_so():
  table, _ = _filled(8, [Episodes(23).rows(8)])
  with pytest.raises(NotImplementedError, match='Preprocess'):
    table.as_dataset(2, 3, sequence_preprocess_fn=lambda x: x)
  with pytest.raises(NotImplementedError, match='ReplayTable.read'):
    table.as_dataset(2, 3, single_deterministic_pass=True)


# In a graph


@pytest.mark.slow
def test_table_works_inside_a_graph_loop():
  rows = Episodes(24).rows(60)
  table, oracle = _filled(7, [], 1.25)
  eager, _ = _filled(7, [], 1.25)

  @tf.function
  def loop(rows):
    sampled = tf.TensorArray(tf.int64, 20)
    for i in tf.range(20):
      piece = _slice(rows, 3 * i, 3 * i + 3)
      table.append(piece)
      window = table.sample(8, 4, tf.stack([9, i]))
      sampled = sampled.write(i, window.observation['number'])
    return sampled.stack(), table.num_frames(), table.num_starts()

  sampled, num_frames, num_starts = loop(rows)
  for i in range(20):
    piece = _slice(rows, 3 * i, 3 * i + 3)
    eager.append(piece)
    oracle.append(piece)
    window = eager.sample(8, 4, [9, i])
    _same(sampled[i], window.observation['number'])
  assert int(num_frames) == len(oracle.interactions())
  assert int(num_starts) == len(oracle.starts())
  _check(table, oracle)


@pytest.mark.slow
def test_a_restored_table_goes_on_as_the_saved_one(tmp_path):
  # Its draws are counted, too.
  episodes = Episodes(25)
  table, oracle = _filled(7, episodes.pieces(25, largest=7), 1.25)
  table.get_next(4, 3)
  path = tf.train.Checkpoint(table=table).write(str(tmp_path / 'table'))
  restored, _ = _filled(7, Episodes(26).pieces(9, largest=7), 1.25)
  tf.train.Checkpoint(table=restored).read(path).assert_consumed()
  _check(restored, oracle)
  _equal(table.get_next(32, 3)[0], restored.get_next(32, 3)[0])
  rows = episodes.rows(5)
  restored.append(rows)
  oracle.append(rows)
  _check(restored, oracle)


# With lambda_returns: targets of line 13 on raw episodes


def _value(numbers):
  """Something that stands for V, different at each observation."""
  return np.sin(1.7 * np.asarray(numbers, np.float64)) * 10


def _slow_target(episode, j, horizon, td_lambda):
  """The mixture of n-step returns from step j, on a raw episode."""
  available = min(horizon, len(episode['rewards']) - j)
  n_step_returns, rewarded, discount = [], 0.0, 1.0
  for k in range(available):
    rewarded += discount * episode['rewards'][j + k]
    discount *= _GAMMA
    ended = j + k + 1 == len(episode['rewards'])
    terminal = ended and episode['terminal']
    value = 0.0 if terminal else episode['values'][j + k + 1]
    n_step_returns.append(rewarded + discount * value)
  n_weights = [(1 - td_lambda) * td_lambda**k for k in range(available - 1)]
  n_weights.append(td_lambda ** (available - 1))
  return np.dot(n_weights, n_step_returns)


def _raw(rows, length, terminal):
  """An episode as an environment tells it: what a target is made of."""
  return {
    'rewards': rows.reward[:length],
    'values': _value(rows.observation['number']),
    'numbers': rows.observation['number'].tolist(),
    'terminal': terminal,
  }


def _raw_episodes(rng, episodes, count):
  """Raw episodes and their rows, the middle and the last one unfinished."""
  raw, pieces = [], []
  for i in range(count):
    length = 1 if i % 5 == 0 else int(rng.integers(1, 7))
    terminal = bool(rng.random() < 0.5)
    if i in (count // 2, count - 1):
      # One more step was taken, to an observation that was never stored.
      length, terminal = 4, False
      rows = _slice(_episode(episodes, length + 1, False), 0, length + 1)
    else:
      rows = _episode(episodes, length, terminal)
    raw.append(_raw(rows, length, terminal))
    pieces.append(rows)
  return raw, pieces


def _targets(window, td_lambda):
  """As the agent does, with the fake value function."""
  values = tf.constant(_value(window.observation['number']), tf.float32)
  return returns.lambda_returns(
    window.reward[:, :-1],
    _GAMMA * window.discount[:, :-1],
    values[:, 1:],
    window.is_last()[:, :-1],
    td_lambda,
  )[:, 0]


@pytest.mark.slow
def test_targets_equal_those_on_raw_episodes():
  rng = np.random.default_rng(28)
  raw, pieces = _raw_episodes(rng, Episodes(28), 40)
  table, _ = _filled(100, pieces)
  for horizon in (1, 3, 5):
    window = table.sample(3000, horizon + 1, [4, 2])
    # Whether the row where an episode was abandoned can be drawn is another
    # test's question; it has no target.
    window = tf.nest.map_structure(
      lambda x, first=window.step_type[:, 0]: x[first != _LAST], window
    )
    numbers = window.observation['number'][:, 0].numpy().tolist()
    for td_lambda in (0.0, 0.95, 1.0):
      expected = {
        number: _slow_target(episode, j, horizon, td_lambda)
        for episode in raw
        for j, number in enumerate(
          episode['numbers'][: len(episode['rewards'])]
        )
      }
      np.testing.assert_allclose(
        _targets(window, td_lambda),
        [expected[number] for number in numbers],
        rtol=1e-4,
        atol=1e-4,
      )
      # All of the newest were there, both unfinished episodes among them.
      drawn = sorted(set(numbers))
      assert 95 < len(drawn) < len(expected)
      assert drawn == sorted(expected)[-len(drawn) :]
      assert {raw[20]['numbers'][3], raw[-1]['numbers'][3]} <= set(drawn)


@pytest.mark.parametrize('single_frames', [False, True])
def test_a_table_larger_than_memory_is_refused_before_it_is_made(single_frames):
  spec = _SPEC
  if single_frames:
    stack = tf.TensorSpec([84, 84, 4], tf.uint8)
    spec = _SPEC._replace(observation=stack)
  with pytest.raises(ValueError, match='run.replay_capacity = 20000000000 '):
    replay_table.ReplayTable(spec, 20_000_000_000, single_frames=single_frames)


def test_the_size_of_a_row():
  # int32 and float32 numbers: 5 of a step, an int64, 2 pixels, 3 logits.
  assert memory.row_size(_SPEC) == 5 * 4 + 8 + 2 + 3 * 4


def test_memory_is_compared_with_that_of_the_machine():
  there = memory.total_memory()
  assert 2**28 < there < 2**50
  memory.check(there, capacity=100)
  with pytest.raises(ValueError, match='set it to 25 or less'):
    memory.check(2 * there, capacity=100)
