"""An in-graph replay table that stores mu with every step.

Rows are TF-Agents trajectory frames in time order. An episode of L steps takes
L + 1 rows: the last one, of step type LAST, holds the final observation and mu
there; targets bootstrap from it.
"""

import itertools
import operator
from typing import Any

import gin
import tensorflow as tf
from tf_agents.trajectories import time_step as ts
from tf_agents.trajectories import trajectory
from tf_agents.typing import types

from qwr_tf.replay import frame_stacks
from qwr_tf.replay import memory
from qwr_tf.replay import stock_interface

# Of one row: its entries in the two index variables, and in the stacks' ages.
_INDEX_BYTES = 16
_AGE_BYTES = 8


@gin.configurable
class ReplayTable(stock_interface.StockInterface):
  """The newest `capacity` interactions, sampled as windows of T + 1 rows.

  A row number counts rows as they are written, since the table was made or
  cleared; a slot is where a row is kept, number % num_slots. A transition is a
  row that is not LAST; a start is the row number of a transition.

  A window begins at a uniformly drawn start and may cross episode ends
  (`step_type` says where). A window past the newest row is cut there as by a
  time limit: the newest row reads as LAST, the one before keeps its discount.

  Attributes:
    is_single_frame: for each entry of an observation, whether it is an image of
      which `append_frames` takes single frames.
  """

  def __init__(
    self,
    data_spec: types.NestedTensorSpec,
    capacity: int,
    *,
    rows_per_interaction: float = 2.0,
    single_frames: bool = False,
    seed: int = 0,
  ):
    """Allocates the table.

    Args:
      data_spec: a Trajectory of specs, the agent's `collect_data_spec`.
      capacity: interactions kept, first in first out, not counting final
        observations.
      rows_per_interaction: rows allocated per interaction. 2 always suffices
        (episodes of one step); with less, short episodes push out older
        interactions early.
      single_frames: keep one frame of each image stack [height, width, S] of
        an observation and rebuild stacks when they are read; see
        `frame_stacks`.
      seed: of `get_next` and `as_dataset`; `sample` is given its own.

    Raises:
      ValueError: if a number is below 1, the table exceeds memory, or
        single_frames is set for observations that are not image stacks.
    """
    if capacity < 1 or rows_per_interaction < 1.0:
      raise ValueError(
        'capacity and rows_per_interaction must be 1 or more, not '
        f'{capacity} and {rows_per_interaction}.'
      )
    super().__init__(data_spec, capacity, seed=seed)
    self._observation_spec = data_spec.observation
    entries = tf.nest.flatten(data_spec.observation)
    # Of each entry of an observation, whether single frames are kept.
    is_nested = tf.nest.is_nested(data_spec.observation)
    self._is_stack = [
      single_frames
      and s.shape.rank == 3
      and (s.dtype == tf.uint8 or not is_nested)
      for s in entries
    ]
    self.is_single_frame = frame_stacks.is_single_frame(
      data_spec.observation, single_frames
    )
    images = [s for s, x in zip(entries, self._is_stack, strict=True) if x]
    if single_frames and not images:
      raise ValueError(
        'Only images [height, width, frames] can be kept as single '
        f'frames, not observations {data_spec.observation}; leave '
        'single_frames off.'
      )
    # Rows that a stack reaches back.
    self._history = max([s.shape[-1] - 1 for s in images], default=0)
    self._num_rows = int(capacity * rows_per_interaction) + 1 + self._history
    # Whether `clear` was called since the process started.
    self.was_cleared = False
    stored, _ = self._split(data_spec)
    frames = [tf.TensorSpec(s.shape[:-1], s.dtype) for s in images]
    size = memory.row_size((stored, frames)) + _INDEX_BYTES
    size += _AGE_BYTES * len(images)
    memory.check(self._num_rows * size, capacity)
    with tf.device('/cpu:0'):
      self._stacks = [
        frame_stacks.FrameStacks(spec, self._num_rows) for spec in images
      ]
      self._allocate(stored)

  def _split(self, rows: trajectory.Trajectory) -> tuple[Any, list]:
    """(rows without images of which single frames are kept, these images)."""
    entries = zip(
      tf.nest.flatten(rows.observation), self._is_stack, strict=True
    )
    split: tuple[list, list] = ([], [])
    for entry, is_stack in entries:
      split[is_stack].append(entry)
    return rows._replace(observation=split[False]), split[True]

  def _allocate(self, data_spec: types.NestedTensorSpec) -> None:
    rows = self._num_rows
    self._rows = tf.nest.map_structure(
      lambda s: _variable([rows, *s.shape], s.dtype, s.name), data_spec
    )
    self._rows_written = _variable([], tf.int64, 'rows_written')
    self._transitions_written = _variable([], tf.int64, 'transitions')
    # _transition_rows[t % capacity] is the row of transition t;
    # _transitions_before[slot] counts the transitions before that row.
    self._transition_rows = _variable([self.capacity], tf.int64, 'starts')
    self._transitions_before = _variable([rows], tf.int64, 'before')

  # Writing.

  @tf.function(reduce_retracing=True)
  def append(self, rows: trajectory.Trajectory) -> None:
    """Adds consecutive rows [N, ...], N at most the capacity.

    Raises:
      InvalidArgumentError: for more rows, or stacks that single frames cannot
        rebuild; nothing is added then.
    """
    self._append(rows, are_frames=False)

  @tf.function(reduce_retracing=True)
  def append_frames(self, rows: trajectory.Trajectory) -> None:
    """As `append`, for images that are single frames already.

    Images are frames [N, height, width] where `is_single_frame` is true. Rows
    of step type LAST before a row that goes on in an episode hold the S - 1
    older frames of its stack.
    """
    self._append(rows, are_frames=True)

  def _append(self, rows: trajectory.Trajectory, are_frames: bool) -> None:
    count = tf.shape(rows.step_type, out_type=tf.int64)[0]
    message = ['Append in smaller pieces.']
    checks = [tf.debugging.Assert(count <= self.capacity, message)]
    rows, images = self._split(rows)
    for i, is_frame in enumerate(
      itertools.compress(self.is_single_frame, self._is_stack)
    ):
      if not (is_frame and are_frames):
        checks.append(frame_stacks.check(rows, images[i]))
        images[i] = images[i][..., -1]
    with tf.control_dependencies(checks):
      count = tf.identity(count)
    if count > 0:
      self._close_interrupted_episode(rows.step_type[0])
      self._write(rows, images, count)

  def _write(
    self, rows: trajectory.Trajectory, frames: list, count: tf.Tensor
  ) -> None:
    row_numbers = self._rows_written + tf.range(count, dtype=tf.int64)
    slots = row_numbers % self._num_rows
    is_new = self._newest_is(is_last=True)[tf.newaxis]
    before = tf.where(is_new, ts.StepType.LAST, ts.StepType.MID)
    step_types = tf.concat([before, rows.step_type], axis=0)
    for stacks, values in zip(self._stacks, frames, strict=True):
      stacks.write(slots, values, step_types)
    tf.nest.map_structure(
      lambda variable, new: _scatter(variable, slots, new), self._rows, rows
    )
    is_transition = tf.cast(rows.step_type != ts.StepType.LAST, tf.int64)
    earlier = tf.cumsum(is_transition, exclusive=True)
    before = self._transitions_written + earlier
    _scatter(self._transitions_before, slots, before)
    starts = tf.where(is_transition > 0)[:, 0]
    places = tf.gather(before, starts) % self.capacity
    _scatter(self._transition_rows, places, tf.gather(row_numbers, starts))
    self._rows_written.assign_add(count)
    self._transitions_written.assign_add(tf.reduce_sum(is_transition))

  def _close_interrupted_episode(self, next_step_type: tf.Tensor) -> None:
    """Ends the newest episode if the next row begins another one.

    That happens if collecting was interrupted. The newest row becomes the final
    observation. After a terminal step a copy of it is added as the final row,
    whose observation nobody uses.
    """
    newest = (self._rows_written - 1)[tf.newaxis]
    open_ended = self._newest_is(is_last=False)
    if tf.logical_and(open_ended, next_step_type == ts.StepType.FIRST):
      row = self._read(tf.maximum(newest, 0) % self._num_rows)
      last = tf.fill([1], ts.StepType.LAST)
      if row.discount[0] == 0.0:
        first = tf.fill([1], ts.StepType.FIRST)
        row, images = self._split(
          row._replace(step_type=last, next_step_type=first)
        )
        self._write(row, [stacks[..., -1] for stacks in images], 1)
      else:
        _scatter(self._rows.step_type, newest % self._num_rows, last)
        self._transitions_written.assign_sub(1)
        if newest[0] > 0 and row.step_type[0] != ts.StepType.FIRST:
          before = (newest - 1) % self._num_rows
          _scatter(self._rows.next_step_type, before, last)

  # Reading.

  def _newest_is(self, is_last: bool) -> tf.Tensor:
    """True if there is a newest row whose step type is LAST, or is not."""
    slot = tf.maximum(self._rows_written - 1, 0) % self._num_rows
    same = tf.equal(self._rows.step_type.sparse_read(slot), ts.StepType.LAST)
    return tf.logical_and(self._rows_written > 0, tf.equal(same, is_last))

  def _oldest_transition(self) -> tf.Tensor:
    """Number of the oldest transition that is kept, int64 scalar."""
    by_interactions = self._transitions_written - self.capacity
    next_slot = (self._rows_written + self._history) % self._num_rows
    # Still zero while no row has been overwritten yet.
    by_rows = self._transitions_before.sparse_read(next_slot)
    return tf.maximum(by_interactions, by_rows)

  def num_starts(self) -> tf.Tensor:
    """Transitions that can be drawn: those with a row after them."""
    without_successor = tf.cast(self._newest_is(is_last=False), tf.int64)
    newest = self._transitions_written - without_successor
    return newest - self._oldest_transition()

  def sample_starts(self, shape, seed: types.Seed) -> tf.Tensor:
    """Draws window starts uniformly, with replacement.

    Args:
      shape: of the draw, for instance [steps, B] for a whole phase.
      seed: stateless seed, int [2].

    Returns:
      Row numbers, int64 of the given shape.

    Raises:
      InvalidArgumentError: if there is no transition to draw.
    """
    num_starts = self.num_starts()
    with tf.control_dependencies(
      [tf.debugging.assert_positive(num_starts, 'The replay table is empty.')]
    ):
      draws = tf.random.stateless_uniform(
        shape, seed, maxval=num_starts, minval=0, dtype=tf.int64
      )
    transitions = (self._oldest_transition() + draws) % self.capacity
    return self._transition_rows.sparse_read(transitions)

  def gather(
    self, starts: tf.Tensor, window_rows: int, observations: bool = True
  ) -> trajectory.Trajectory:
    """Windows of consecutive rows, cut at the newest one.

    Args:
      starts: row numbers, int64 [B].
      window_rows: rows in a window, T + 1.
      observations: whether to read them; else the observation is ().

    Returns:
      A Trajectory [B, window_rows, ...]. Past the newest row it is repeated,
      with step type LAST.
    """
    newest = self._rows_written - 1
    row_numbers = _windows(starts, window_rows)
    slots = self.window_slots(starts, window_rows)
    window = self._read(slots, observations)
    last = tf.constant(ts.StepType.LAST)
    return window._replace(
      step_type=tf.where(row_numbers >= newest, last, window.step_type),
      next_step_type=tf.where(
        row_numbers == newest - 1, last, window.next_step_type
      ),
    )

  def window_slots(self, starts: tf.Tensor, window_rows: int) -> tf.Tensor:
    """Where the rows of `gather` are, int64 [*starts, window_rows].

    A slot, 0 ... num_slots - 1, holds the same row until the next `append`.
    """
    newest = self._rows_written - 1
    return tf.minimum(_windows(starts, window_rows), newest) % self._num_rows

  @property
  def num_slots(self) -> int:
    """Rows the table has room for."""
    return self._num_rows

  def observations(self, slots: tf.Tensor) -> types.NestedTensor:
    """Observations [*slots, ...]."""
    images = iter([stacks.read(slots) for stacks in self._stacks])
    others = iter(_read_slots(self._rows.observation, slots))
    entries = [next(images if x else others) for x in self._is_stack]
    return tf.nest.pack_sequence_as(self._observation_spec, entries)

  def sample(
    self, batch_size: int, window_rows: int, seed: types.Seed
  ) -> trajectory.Trajectory:
    """`gather` at `sample_starts`: a Trajectory [B, window_rows, ...]."""
    return self.gather(self.sample_starts([batch_size], seed), window_rows)

  def row_range(self) -> tuple[tf.Tensor, tf.Tensor]:
    """(first, end) row numbers of what is kept, end exclusive."""
    slot = self._oldest_transition() % self.capacity
    return self._transition_rows.sparse_read(slot), self._rows_written.value()

  def read(self, first: tf.Tensor, end: tf.Tensor) -> trajectory.Trajectory:
    """Rows first ... end - 1 in time order, [N, ...], as written."""
    return self._read(tf.range(first, end) % self._num_rows)

  def _read(
    self, slots: tf.Tensor, observations: bool = True
  ) -> trajectory.Trajectory:
    rows = _read_slots(self._rows._replace(observation=()), slots)
    if not observations:
      return rows
    return rows._replace(observation=self.observations(slots))

  def _num_frames(self) -> tf.Tensor:
    """Interactions kept."""
    return self._transitions_written - self._oldest_transition()

  def _clear(self) -> None:
    self.was_cleared = True
    counts = self._rows_written, self._transitions_written
    for variable in (*counts, self._transitions_before, self._transition_rows):
      variable.assign(tf.zeros_like(variable))
    for stacks in self._stacks:
      stacks.clear()


def _variable(shape, dtype, name: str) -> tf.Variable:
  return tf.Variable(tf.zeros(shape, dtype), trainable=False, name=name)


def _windows(starts: tf.Tensor, window_rows: int) -> tf.Tensor:
  """Row numbers from each start on, [*starts, window_rows]."""
  return starts[..., tf.newaxis] + tf.range(window_rows, dtype=tf.int64)


def _read_slots(variables, slots: tf.Tensor):
  read = operator.methodcaller('sparse_read', slots)
  return tf.nest.map_structure(read, variables)


def _scatter(variable: tf.Variable, slots: tf.Tensor, values: tf.Tensor):
  variable.scatter_nd_update(slots[:, tf.newaxis], values)
