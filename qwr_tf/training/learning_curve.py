"""The learning curve of a run, from the rows of metrics.csv."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

from qwr_tf.training import metrics

Rows = Sequence[Mapping[str, Any]]

_RETURNS: tuple[tuple[str, str, dict[str, Any]], ...] = (
  ('train_return', 'while training', dict(color='0.7', lw=1, ms=3)),
  ('eval_return_sampled', 'evaluation, sampled', dict(ms=5)),
  ('eval_return_mode', 'evaluation, mode action', dict(ms=8)),
)
# Drawn where there are no returns.
_LEARNED = (metrics.FQE_VALUE, 'q_mean', 'critic_loss', 'actor_loss')


def draw(rows: Rows, title: str, data_return: float | None = None) -> bytes:
  """Draws returns over gradient steps, if offline, and interactions.

  Args:
    rows: of metrics.csv. Without any return, losses and values are drawn.
    data_return: mean return of the data set, drawn as a line.

  Returns:
    A PNG.
  """
  # Only here, as it takes a second to import. Without pyplot, whose backend is
  # the program's: a notebook goes on to show figures.
  from matplotlib.figure import Figure

  played = any(_points(rows, column) for column, *_ in _RETURNS)
  if played or not rows:
    figure = Figure(figsize=(7, 4.2), layout='constrained')
    _draw_returns(figure.subplots(), rows, data_return)
  else:
    is_evaluated = bool(_points(rows, metrics.FQE_VALUE))
    learned = _LEARNED if is_evaluated else _LEARNED[1:]
    figure = Figure(figsize=(7, 2.1 * len(learned)), layout='constrained')
    _draw_learned(figure.subplots(len(learned), sharex=True), rows, learned)
  figure.axes[0].set(title=title)
  picture = io.BytesIO()
  figure.savefig(picture, format='png', dpi=150)
  return picture.getvalue()


def _points(rows: Rows, column: str) -> list[tuple[int, float]]:
  return [
    (metrics.progress(row), row[column])
    for row in rows
    if row.get(column) is not None
  ]


def _draw_returns(axes, rows: Rows, data_return: float | None) -> None:
  for column, label, style in _RETURNS:
    if points := _points(rows, column):
      axes.plot(*zip(*points, strict=True), marker='.', label=label, **style)
  _draw_data(axes, rows, data_return)
  axes.set(ylabel='return')
  axes.grid(alpha=0.3)
  if axes.lines:
    axes.legend(frameon=False)


def _draw_learned(panels, rows: Rows, columns: Sequence[str]) -> None:
  for axes, column in zip(panels, columns, strict=True):
    if points := _points(rows, column):
      axes.plot(*zip(*points, strict=True), marker='.')
    axes.set(ylabel=column)
    axes.grid(alpha=0.3)
  _draw_data(panels[-1], rows, None)


def _draw_data(axes, rows: Rows, data_return: float | None) -> None:
  """Draws the data's mean return and the start of collecting; labels x."""
  offline = max((row.get('offline_steps', 0) for row in rows), default=0)
  online = max((row['interactions'] for row in rows), default=0)
  if data_return is not None:
    axes.axhline(data_return, color='0.3', ls=':', label='mean of the data')
  if offline and online:
    axes.axvline(offline, color='0.3', ls='--', label='collecting begins')
    axes.set(xlabel='offline gradient steps, then interactions')
  else:
    axes.set(xlabel='gradient steps' if offline else 'interactions')
