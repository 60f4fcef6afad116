"""Metrics of a run: rows for metrics.csv and for TensorBoard."""

import math
import pathlib
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from qwr_tf.runs import atomic_files
from qwr_tf.runs import checkpoint_files

# The first columns of metrics.csv. Metrics of the agent that are not among
# them follow.
COLUMNS = (
  'iteration',
  'interactions',
  'critic_steps',
  'actor_steps',
  'wall_seconds',
  'train_return',
  'eval_return_mode',
  'eval_return_sampled',
  'eval_episodes',
  'critic_loss',
  'actor_loss',
  'q_mean',
  'q_scale',
  'weight_mean',
  'weight_max',
  'weight_clipped',
  'collect_steps_per_second',
  'train_steps_per_second',
  'offline_steps',
)
FQE_VALUE = 'fqe_value'  # Only without a simulator.

_COUNTERS = (*COLUMNS[:4], 'offline_steps')
SCORES = COLUMNS[6:9]  # Those of an evaluation.

# The attributes of a `Recorder` that a checkpoint leaves out.
_NO_STATE = {'_log_every', '_agent', '_start', '_mark'}


def check_finite(row: Mapping[str, Any]) -> None:
  """Raises FloatingPointError that names the first NaN or Inf in a row."""
  for name, value in row.items():
    if isinstance(value, float) and not math.isfinite(value):
      raise FloatingPointError(
        f'{name} is {value} after {row["interactions"]} interactions; lower '
        'the learning rates or look at the environment.'
      )


class Recorder:
  """Gathers the metrics of iterations until the next row is due."""

  def __init__(self, log_every_env_steps: int, agent):
    """Starts the clock.

    Args:
      log_every_env_steps: interactions between rows.
      agent: with step counters and the names of its metrics.
    """
    self._log_every = log_every_env_steps
    self._agent = agent
    self._start = self._mark = time.perf_counter()
    self.iteration = 0
    self._previous = 0
    self.interactions = self.offline_steps = 0
    self._critic_steps = self._actor_steps = 0
    self._last: dict[str, Any] = {}
    self._clear()

  def _clear(self) -> None:
    self._returns: list[float] = []
    self._scalars: dict[str, list[float]] = {}
    self._collected, self._collect_seconds = 0, 0.0
    self._train_seconds = 0.0

  @property
  def wall_seconds(self) -> float:
    """Since the start."""
    return time.perf_counter() - self._start

  def begin(self) -> None:
    """Begins an iteration; the time before it was no training."""
    self._mark = time.perf_counter()

  def add(self, collected, scalars: Mapping[str, tf.Tensor]) -> None:
    """Adds an iteration.

    Args:
      collected: a `collect.Collected`.
      scalars: the iteration's metrics by name: means, or maxima where the name
        ends in `_max`.
    """
    self.iteration += 1
    self._previous = self.progress
    self.interactions += collected.interactions
    if not self.interactions:
      critic_steps, actor_steps = self._gradient_steps()
      self.offline_steps = actor_steps or critic_steps
    self._returns += collected.episode_returns
    for name, value in {**scalars, **collected.metrics}.items():
      self._scalars.setdefault(name, []).append(float(value))
    self._collected += collected.interactions
    self._collect_seconds += collected.seconds
    now = time.perf_counter()
    self._train_seconds += now - self._mark - collected.seconds

  @property
  def progress(self) -> int:
    """Offline steps and interactions so far; periods are counted in these."""
    return self.offline_steps + self.interactions

  def is_due(self, every: int) -> bool:
    """True if the last iteration reached another multiple of a period."""
    return self.progress // every > self._previous // every

  def row(
    self, evaluation: Mapping[str, Any], last: bool = False
  ) -> dict[str, Any] | None:
    """The row that is due, if one is.

    Args:
      evaluation: its columns; an evaluation always makes a row.
      last: as does the end of the run.
    """
    if not (evaluation or last or self.is_due(self._log_every)):
      return None
    row = self.measured(evaluation)
    for name in ('train_return', 'eval_return_mode'):
      if row.get(name) is not None:
        self._last[name] = row[name]
    self._clear()
    return row

  def _gradient_steps(self) -> tuple[int, int]:
    """The agent's (critic, actor) steps; replicas have counts of their own."""
    counts = self._agent.critic_steps, self._agent.actor_steps
    critic, actor = (int(tf.convert_to_tensor(count)) for count in counts)
    return critic, actor

  def measured(self, evaluation: Mapping[str, Any]) -> dict[str, Any]:
    """The row of all iterations since the last row, with an evaluation."""
    before = self._critic_steps, self._actor_steps
    self._critic_steps, self._actor_steps = self._gradient_steps()
    critic_steps = self._critic_steps - before[0]
    actor_steps = self._actor_steps - before[1]
    scalars: dict[str, float | None] = {
      name: float(np.max(values)) if name.endswith('_max') else _mean(values)
      for name, values in self._scalars.items()
    }
    # A network that made no steps has no metrics, which come as zeros.
    if not critic_steps:
      scalars |= dict.fromkeys(self._agent.critic_metrics)
    if not actor_steps:
      scalars |= dict.fromkeys(self._agent.actor_metrics)
    return {
      'iteration': self.iteration,
      'interactions': self.interactions,
      'critic_steps': self._critic_steps,
      'actor_steps': self._actor_steps,
      'wall_seconds': round(self.wall_seconds, 3),
      'train_return': _mean(self._returns),
      **evaluation,
      **scalars,
      'collect_steps_per_second': _rate(self._collected, self._collect_seconds),
      'train_steps_per_second': _rate(
        critic_steps + actor_steps, self._train_seconds
      ),
      'offline_steps': self.offline_steps,
    }

  def state(self) -> dict[str, Any]:
    """Everything counted and gathered, for a checkpoint."""
    state = {n: v for n, v in vars(self).items() if n not in _NO_STATE}
    return state | {'wall_seconds': self.wall_seconds}

  def restore(self, state: Mapping[str, Any]) -> None:
    """Goes back to a state; the time since then does not count."""
    values = dict(state)
    self._start = time.perf_counter() - values.pop('wall_seconds')
    vars(self).update(values)

  def returns(self) -> dict[str, str]:
    """The newest returns, for a progress bar."""
    return {name: f'{value:.1f}' for name, value in self._last.items()}


def _mean(values: Sequence[float]) -> float | None:
  return sum(values) / len(values) if values else None


def _rate(count: int, seconds: float) -> float | None:
  return count / seconds if count and seconds > 0 else None


class TensorBoard:
  """Writer of the rows as scalars over their `progress`."""

  def __init__(self, path: pathlib.Path, last_step: int = 0):
    """Creates an event file in a folder.

    Args:
      path: the folder.
      last_step: later steps are dropped from older files there.
    """
    self._path = path
    with checkpoint_files.tensorflow_errors(path):
      for file in path.glob('events.out.tfevents.*'):
        _drop_after(last_step, file)
      self._writer = tf.summary.create_file_writer(str(path))

  def write(self, row: Mapping[str, Any]) -> None:
    """Writes one row; empty cells are left out."""
    with checkpoint_files.tensorflow_errors(self._path):
      with self._writer.as_default(step=progress(row)):
        for name, value in row.items():
          if name not in _COUNTERS and value is not None:
            tf.summary.scalar(_group(name), value)
      self._writer.flush()


def _drop_after(last_step: int, file: pathlib.Path) -> None:
  """Rewrites an event file without later steps and without half an event."""
  with (
    atomic_files.new_file(file) as temporary,
    tf.io.TFRecordWriter(str(temporary)) as writer,
  ):
    try:
      for record in tf.data.TFRecordDataset(str(file)).as_numpy_iterator():
        if tf.compat.v1.Event.FromString(record).step <= last_step:
          writer.write(record)
    except tf.errors.DataLossError:
      pass  # The process was killed while it wrote.


def progress(row: Mapping[str, Any]) -> int:
  """`Recorder.progress` when the row was made."""
  return row.get('offline_steps', 0) + row['interactions']


def _group(name: str) -> str:
  """The section of TensorBoard a column belongs to."""
  if 'return' in name or name == 'eval_episodes':
    return f'returns/{name}'
  if 'second' in name:
    return f'speed/{name}'
  return f'train/{name}'
