"""One row per iteration: to metrics.csv, to TensorBoard, to a picture."""

import io
import math
import pathlib
import time
from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

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

_COUNTERS = (*COLUMNS[:4], 'offline_steps')

# What only steps of one kind measure.
_OF_CRITIC = ('critic_loss', 'q_mean')
_OF_ACTOR = (
  'actor_loss',
  'q_scale',
  'weight_mean',
  'weight_max',
  'weight_clipped',
)


def check_finite(row: Mapping[str, Any]) -> None:
  """Raises FloatingPointError that names the first NaN or Inf in a row."""
  for name, value in row.items():
    if isinstance(value, float) and not math.isfinite(value):
      raise FloatingPointError(
        f'{name} is {value} after {row["interactions"]} interactions; lower '
        'the learning rates or look at the environment.'
      )


class Recorder:
  """Gathers what iterations report until the next row is due."""

  def __init__(self, log_every_env_steps: int, agent):
    """Starts the clock.

    Args:
      log_every_env_steps: interactions between rows.
      agent: its step counters are read.
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
    """Forgets what was gathered for a row."""
    self._returns: list[float] = []
    self._scalars: dict[str, list[float]] = {}
    self._collected, self._collect_seconds = 0, 0.0
    self._train_seconds = 0.0

  @property
  def wall_seconds(self) -> float:
    """Since the start."""
    return time.perf_counter() - self._start

  def add(self, collected, scalars: Mapping[str, tf.Tensor]) -> None:
    """Takes in an iteration: `collect.Collected` and the phases' means."""
    self.iteration += 1
    self._previous = self.progress
    self.interactions += collected.interactions
    if not self.interactions:
      self.offline_steps = int(self._agent.actor_steps) or int(
        self._agent.critic_steps
      )
    self._returns += collected.episode_returns
    for name, value in scalars.items():
      self._scalars.setdefault(name, []).append(float(value))
    self._collected += collected.interactions
    self._collect_seconds += collected.seconds
    now = time.perf_counter()
    self._train_seconds += now - self._mark - collected.seconds

  @property
  def progress(self) -> int:
    """What periods count: interactions; before the first, offline steps."""
    return self.offline_steps + self.interactions

  def is_due(self, every: int) -> bool:
    """Whether the last iteration reached another multiple of a period."""
    return self.progress // every > self._previous // every

  def row(
    self, evaluation: Mapping[str, Any], last: bool = False
  ) -> dict[str, Any] | None:
    """The row that is due, if one is.

    Args:
      evaluation: its columns; an evaluation always makes a row.
      last: as does the end of the run.
    """
    row = None
    if evaluation or last or self.is_due(self._log_every):
      row = self.measured(evaluation)
      for name in ('train_return', 'eval_return_mode'):
        if row.get(name) is not None:
          self._last[name] = row[name]
      self._clear()
    self._mark = time.perf_counter()  # An evaluation is no training.
    return row

  def measured(self, evaluation: Mapping[str, Any]) -> dict[str, Any]:
    """The columns of what was gathered and of an evaluation."""
    agent = self._agent
    before = self._critic_steps, self._actor_steps
    self._critic_steps = int(agent.critic_steps)
    self._actor_steps = int(agent.actor_steps)
    critic_steps = self._critic_steps - before[0]
    actor_steps = self._actor_steps - before[1]
    scalars = {name: _mean(values) for name, values in self._scalars.items()}
    for names, steps in ((_OF_CRITIC, critic_steps), (_OF_ACTOR, actor_steps)):
      scalars |= {} if steps else dict.fromkeys(names)
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

  def returns(self) -> dict[str, str]:
    """The newest returns, for a progress bar."""
    return {name: f'{value:.1f}' for name, value in self._last.items()}


def _mean(values: Sequence[float]) -> float | None:
  return sum(values) / len(values) if values else None


def _rate(count: int, seconds: float) -> float | None:
  return count / seconds if count and seconds > 0 else None


class TensorBoard:
  """Writes the rows as scalars over interactions."""

  def __init__(self, path: pathlib.Path):
    """Creates the event file in a folder."""
    self._writer = tf.summary.create_file_writer(str(path))

  def write(self, row: Mapping[str, Any]) -> None:
    """Writes one row; empty cells are left out."""
    with self._writer.as_default(step=_progress(row)):
      for name in COLUMNS:
        value = row.get(name)
        if name not in _COUNTERS and value is not None:
          tf.summary.scalar(_group(name), value)
    self._writer.flush()


def _progress(row: Mapping[str, Any]) -> int:
  """`Recorder.progress` when the row was made."""
  return row.get('offline_steps', 0) + row['interactions']


def _group(name: str) -> str:
  """The section of TensorBoard a column belongs to."""
  if 'return' in name or name == 'eval_episodes':
    return f'returns/{name}'
  if 'second' in name:
    return f'speed/{name}'
  return f'train/{name}'


def learning_curve(
  rows: Sequence[Mapping[str, Any]],
  title: str,
  data_return: float | None = None,
) -> bytes:
  """Draws returns over interactions, and where there was a data set offline.

  Args:
    rows: of metrics.csv.
    title: of the picture.
    data_return: mean return of the data set, drawn as a line.

  Returns:
    A PNG.
  """
  # Only here, as it takes a second to import and needs no screen.
  import matplotlib

  matplotlib.use('Agg')
  from matplotlib import pyplot

  figure, axes = pyplot.subplots(figsize=(7, 4.2), layout='constrained')
  curves: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ('train_return', 'while training', dict(color='0.7', lw=1, ms=3)),
    ('eval_return_sampled', 'evaluation, sampled', dict(ms=5)),
    ('eval_return_mode', 'evaluation, mode action', dict(ms=8)),
  )
  for column, label, style in curves:
    points = [
      (_progress(row), row[column])
      for row in rows
      if row.get(column) is not None
    ]
    if points:
      x, y = zip(*points, strict=True)
      axes.plot(x, y, marker='.', label=label, **style)
  _draw_data(axes, rows, data_return)
  axes.set(title=title, ylabel='return')
  axes.grid(alpha=0.3)
  if axes.lines:
    axes.legend(frameon=False)
  picture = io.BytesIO()
  figure.savefig(picture, format='png', dpi=150)
  pyplot.close(figure)
  return picture.getvalue()


def _draw_data(axes, rows, data_return: float | None) -> None:
  """The data's mean return, where collecting began, and what x counts."""
  offline = max((row.get('offline_steps', 0) for row in rows), default=0)
  online = max((row['interactions'] for row in rows), default=0)
  if data_return is not None:
    axes.axhline(data_return, color='0.3', ls=':', label='mean of the data')
  if offline and online:
    axes.axvline(offline, color='0.3', ls='--', label='collecting begins')
    axes.set(xlabel='offline gradient steps, then interactions')
  else:
    axes.set(xlabel='gradient steps' if offline else 'interactions')
