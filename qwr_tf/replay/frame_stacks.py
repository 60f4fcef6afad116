"""Stacked images kept as single frames, and rebuilt exactly."""

import itertools

import numpy as np
import tensorflow as tf
from tf_agents.trajectories import time_step as ts
from tf_agents.trajectories import trajectory
from tf_agents.typing import types

from qwr_tf.config.errors import ConfigError

# Error of `check`: these stacks cannot be rebuilt exactly.
OTHER_STACKS = (
  'not image stacks, newest last, that begin an episode with its first frame '
  'repeated and go on by one frame a step; set ReplayTable.single_frames = '
  'False.'
)


class FrameStacks(tf.Module):
  """Observations [..., S] of a table as frames [...], newest last.

  A stack is the frames of its own row and of the S - 1 rows before it in the
  same episode; where the episode is younger, its first frame is repeated, as
  gymnasium's FrameStackObservation does with `padding_type='reset'`. A row that
  goes on in an episode right after a row of step type LAST begins a segment:
  the S - 1 rows before it hold the older frames of its stack.
  """

  def __init__(self, observation_spec: types.TensorSpec, num_rows: int):
    """Allocates; slots are row numbers modulo num_rows.

    Args:
      observation_spec: of images [height, width, S].
      num_rows: rows kept.
    """
    super().__init__(name='FrameStacks')
    self._num_rows = num_rows
    self.history = observation_spec.shape[-1] - 1
    shape = [num_rows, *observation_spec.shape[:-1]]
    self.frames = tf.Variable(
      tf.zeros(shape, observation_spec.dtype), trainable=False, name='frames'
    )
    # Rows of the same episode before a row, at most `history`. -1: not written
    # yet, so that the first row written has an age of 0.
    self.ages = tf.Variable(
      -tf.ones([num_rows], tf.int64), trainable=False, name='ages'
    )

  def write(
    self, slots: tf.Tensor, frames: tf.Tensor, step_types: tf.Tensor
  ) -> None:
    """Keeps the newest frames of consecutive rows.

    Args:
      slots: int64 [N], they follow the last ones written.
      frames: [N, ...].
      step_types: int32 [1 + N], that of the row before first.
    """
    ages = self._ages_of(slots, step_types)
    indices = slots[:, tf.newaxis]
    self.frames.scatter_nd_update(indices, frames)
    self.ages.scatter_nd_update(indices, ages)

  def _ages_of(self, slots: tf.Tensor, step_types: tf.Tensor) -> tf.Tensor:
    is_first = tf.equal(step_types[1:], ts.StepType.FIRST)
    begins = is_first | tf.equal(step_types[:-1], ts.StepType.LAST)
    segment = tf.cumsum(tf.cast(begins, tf.int64))  # 0: began before.
    before = self.ages.sparse_read((slots[0] - 1) % self._num_rows)
    numbers = tf.range(tf.size(slots, tf.int64))
    # The rows from which ages count.
    starts = numbers - tf.where(is_first, tf.zeros_like(numbers), self.history)
    starts = tf.concat([[-1 - before], starts[begins]], axis=0)
    return tf.minimum(numbers - tf.gather(starts, segment), self.history)

  def clear(self) -> None:
    """Forgets which episode the last row was in."""
    self.ages.assign(-tf.ones_like(self.ages))

  def read(self, slots: tf.Tensor) -> tf.Tensor:
    """Stacks [*slots, ..., S] of rows."""
    slots = tf.cast(slots, tf.int64)[..., tf.newaxis]
    back = tf.range(self.history, -1, -1, dtype=tf.int64)  # [S]
    steps = tf.minimum(self.ages.sparse_read(slots), back)
    frames = self.frames.sparse_read((slots - steps) % self._num_rows)
    is_static = frames.shape.is_fully_defined()
    return (_compiled_last if is_static else _frames_last)(frames)


def is_single_frame(
  observation_spec: types.NestedTensorSpec, single_frames: bool
) -> list[bool]:
  """For each entry of the observation, whether single frames are stored."""
  return [
    single_frames and s.shape.rank == 3 and s.dtype == tf.uint8
    for s in tf.nest.flatten(observation_spec)
  ]


def newest(
  stacks: np.ndarray, step_types: np.ndarray, discounts: np.ndarray
) -> np.ndarray:
  """Single frames [S - 1 + T, ...] of consecutive rows' stacks [T, ..., S].

  The older frames of the first stack, and then each row's newest one.

  Args:
    stacks: uint8 [T, *batch, height, width, S].
    step_types: int32 [T, *batch].
    discounts: float32 [T, *batch].

  Raises:
    ConfigError: as `check`, with `OTHER_STACKS`.
  """
  depth = stacks.shape[-1]
  frames = np.moveaxis(stacks, -1, 0)  # [S, T, ...]
  terminal = (discounts[:-1] == 0.0) & (step_types[1:] == ts.StepType.LAST)
  is_first = step_types == ts.StepType.FIRST
  for older, newer in itertools.pairwise(range(depth)):
    same = (frames[older, 1:] == frames[newer, :-1]).all(axis=(-2, -1))
    starts = frames[:, is_first]
    if not (
      (same | terminal | is_first[1:]).all()
      and np.array_equal(starts[older], starts[-1])
    ):
      raise ConfigError(f'Images are {OTHER_STACKS}')
  return np.concatenate([frames[:-1, 0], frames[-1]])


def check(
  rows: trajectory.Trajectory, stacks: tf.Tensor
) -> tf.Operation | None:
  """Asserts that single frames rebuild these stacks; an op in graphs.

  Args:
    rows: consecutive rows [N, ...]. The older frames of the first one are not
      checked, nor a row after a terminal step.
    stacks: of the rows' observations, [N, ..., S].

  Raises:
    InvalidArgumentError: with `OTHER_STACKS`.
  """
  older, newest = stacks[..., :-1], stacks[..., -1:]
  going_on = tf.concat([older[:1], stacks[:-1, ..., 1:]], axis=0)
  is_first = tf.equal(rows.step_type, ts.StepType.FIRST)
  is_first = tf.reshape(is_first, [-1] + [1] * (older.shape.rank - 1))
  same = tf.where(is_first, newest, going_on) == older
  terminal = tf.concat([[False], rows.discount[:-1] == 0.0], axis=0)
  is_over = tf.logical_and(terminal, rows.step_type == ts.StepType.LAST)
  fit = tf.reduce_all(same, axis=[1, 2, 3]) | is_over  # [N]
  return tf.debugging.Assert(tf.reduce_all(fit), [OTHER_STACKS])


def _frames_last(frames: tf.Tensor) -> tf.Tensor:
  """[..., S, height, width] to [..., height, width, S]."""
  outer = frames.shape.rank - 3
  return tf.transpose(frames, [*range(outer), outer + 1, outer + 2, outer])


# Faster; XLA compiles it for each shape.
_compiled_last = tf.function(_frames_last, jit_compile=True)
