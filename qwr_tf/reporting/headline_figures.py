"""One picture per experiment: its first setting beside published scores."""

import statistics
from collections.abc import Sequence

import numpy as np
from matplotlib import ticker
from matplotlib.figure import Figure

from qwr_tf.environments import env_names
from qwr_tf.reporting import published
from qwr_tf.reporting import score_figures
from qwr_tf.reporting.published import Number
from qwr_tf.reporting.report_data import Experiment

# Where the learning curve ends and names of others begin, in an axis' width.
_CURVE_SHARE = 0.6
_LINE = 0.058  # Least distance of two names, in an axis' height.


def headline(experiment: Experiment) -> Figure:
  """A panel per environment: learning curve, others' final scores beside it."""
  environments = experiment.environments
  columns = min(2, len(environments))  # More are too small beside text.
  rows = -(-len(environments) // columns)
  figure = Figure(
    figsize=(max(4.1 * columns, 8), 3.4 * rows + 0.5), layout='constrained'
  )
  axes = list(figure.subplots(rows, columns, squeeze=False).flat)
  for axis, environment in zip(axes, environments, strict=False):
    _panel(axis, experiment, environment)
  for axis in axes[len(environments) :]:
    axis.set_axis_off()
  figure.suptitle(
    f'{_message(experiment)}\n'
    'Median and quartiles of the seeds, mode action; on the right, scores that '
    f'others published for {experiment.budget:,} interactions',
    fontsize='medium',
  )
  return figure


def _message(experiment: Experiment) -> str:
  """In how many tasks the setting is above its paper, and above the best."""
  setting = experiment.settings[0]
  above = {'its paper': 0, 'the best of the others': 0}
  played = 0
  for environment in experiment.environments:
    task = env_names.task(environment)
    others = published.medians([n for n in experiment.rivals if n.task == task])
    finals = experiment.finals(setting, environment, 'mode')
    same = [n.score for n in others if n.algorithm == setting.algorithm]
    if finals and same:
      score = statistics.median(finals)
      played += 1
      above['its paper'] += score > max(same)
      above['the best of the others'] += score > max(n.score for n in others)
  text = ', '.join(
    f'above {k} in {n} of {played} tasks' for k, n in above.items()
  )
  return f'{setting.algorithm}, {setting.preset}: {text}'


def _panel(axis, experiment: Experiment, environment: str) -> None:
  setting, colour = experiment.settings[0], score_figures.COLOURS[0]
  curve = score_figures.band(experiment.of(setting, environment), 'mode')
  task = env_names.task(environment)
  others = published.medians([n for n in experiment.rivals if n.task == task])
  budget = max([experiment.budget, *curve.index])
  entries = [(n.score, _name(n, others), _colour(n)) for n in others]
  if len(curve):
    axis.plot(curve.index, curve[0.5], color=colour, lw=2)
    axis.fill_between(
      curve.index, curve[0.25], curve[0.75], color=colour, alpha=0.2, lw=0
    )
    entries.append((curve[0.5].iloc[-1], 'this project', colour))
  seeds = len(experiment.final(setting, environment))
  plural = '' if seeds == 1 else 's'
  axis.set(title=f'{environment} ({seeds} seed{plural})', ylabel='return')
  axis.set(xlim=(0, budget / _CURVE_SHARE))
  low, high = _range([score for score, *_ in entries] + [*curve.stack()])
  axis.set_ylim(low, high)
  axis.set_xticks(np.linspace(0, budget, 5))
  axis.xaxis.set_major_formatter(
    ticker.FuncFormatter(lambda x, _: f'{x / 1000:g}K')
  )
  axis.set_xlabel('interactions', loc='left')
  axis.grid(alpha=0.25)
  axis.spines['bottom'].set_bounds(0, budget)  # Names have no interactions.
  _write_names(axis, sorted(entries), budget, high - low)


def _name(n: Number, others: Sequence[Number]) -> str:
  """The algorithm; with its source where others have the same one."""
  same = [m for m in others if m.algorithm == n.algorithm]
  is_paper = n.source == 'QWR paper'
  source = f' ({n.source})' if len(same) > 1 or is_paper else ''
  return f'{n.algorithm}{source}'


def _colour(n: Number) -> str:
  is_ours = n.algorithm.startswith('QWR')
  return score_figures.COLOURS[1] if is_ours else score_figures.GREY


def _range(values: Sequence[float]) -> tuple[float, float]:
  low, high = min(0.0, *values), max(values)
  return low - 0.08 * (high - low), high + 0.06 * (high - low)


def _write_names(axis, entries, budget: float, height: float) -> None:
  """Names at the heights of their scores, moved apart where they overlap."""
  low = axis.get_ylim()[0]
  wanted = np.array([(score - low) / height for score, *_ in entries])
  places = wanted.copy()
  for i in range(1, len(places)):  # Upwards, then back below the top.
    places[i] = max(places[i], places[i - 1] + _LINE)
  places -= np.clip(
    places - (1 - _LINE * np.arange(len(places))[::-1]), 0, None
  )
  for (score, name, colour), place in zip(entries, places, strict=True):
    y, x = low + place * height, budget / _CURVE_SHARE
    axis.plot(
      [budget, budget + 0.02 * x, budget + 0.05 * x],
      [score, score, y],
      color=colour,
      lw=0.8,
    )
    axis.plot(budget, score, '_', color=colour, ms=7, mew=1.6)
    weight = 'bold' if name == 'this project' else 'normal'
    axis.text(
      budget + 0.06 * x,
      y,
      f'{name} {score:,.0f}' if abs(score) >= 100 else f'{name} {score:.3g}',
      color=colour,
      fontsize=7.5,
      va='center',
      weight=weight,
    )
