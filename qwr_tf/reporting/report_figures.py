"""Pictures of an experiment: learning curves, final scores, profiles."""

import io
import pathlib
import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np

from qwr_tf.reporting import score_figures
from qwr_tf.reporting.published import Number
from qwr_tf.reporting.report_data import Experiment
from qwr_tf.reporting.report_data import Run
from qwr_tf.reporting.report_data import Setting
from qwr_tf.runs.atomic_files import write_atomically

_TITLES = {
  '': 'Learning curves',
  '_scores': 'Final scores',
  '_profile': 'Performance profile',
}

# Of horizontal lines that would else look the same: published scores of one
# algorithm from several sources.
_DOTTED = (':', (0, (4, 1.5, 1, 1.5, 1, 1.5)))

_STYLE: dict[Any, Any] = {
  'axes.spines.right': False,
  'axes.spines.top': False,
  'axes.titlesize': 'medium',
  'font.size': 9,
  'legend.frameon': False,
}


def names(
  experiment: Experiment, numbers: Sequence[Number]
) -> list[tuple[str, str]]:
  """(title, file name) of the pictures that `write` makes."""
  endings = list(_TITLES)
  strata = score_figures.profile_strata(experiment, numbers)
  # An ablation has more settings than a profile has colours.
  if experiment.centre or not strata:
    endings.remove('_profile')
  return [(f'{_TITLES[e]}', f'{experiment.name}{e}.png') for e in endings]


def write(
  experiment: Experiment, numbers: Sequence[Number], folder: pathlib.Path
) -> list[pathlib.Path]:
  """Draws the pictures named like the experiment's CSV into a folder."""
  import matplotlib  # A second to import; needs no screen.

  matplotlib.use('Agg')
  from matplotlib import pyplot

  draw = {
    '': _curves,
    '_scores': score_figures.bars,
    '_profile': score_figures.profile,
  }
  paths = []
  with matplotlib.rc_context(_STYLE):
    for (_, name), ending in zip(
      names(experiment, numbers), draw, strict=False
    ):
      figure = draw[ending](pyplot, experiment, numbers)
      picture = io.BytesIO()
      figure.savefig(picture, format='png', dpi=120)
      write_atomically(folder / name, picture.getvalue())
      pyplot.close(figure)
      paths.append(folder / name)
  return paths


def _chunks(settings: list[Setting]) -> list[list[Setting]]:
  """Of one data set, and at most as many as there are colours.

  A data set's first setting is in all of its chunks.
  """
  size = len(score_figures.COLOURS) - 1
  by_dataset: dict[str, list[Setting]] = {}
  for setting in settings:
    by_dataset.setdefault(setting.dataset, []).append(setting)
  return [
    [first, *others[start : start + size]]
    for first, *others in by_dataset.values()
    for start in range(0, max(len(others), 1), size)
  ]


# Learning curves.


def band(runs: Sequence[Run], action: str):
  """Median and quartiles over runs.

  Where runs were evaluated at different moments, each is interpolated
  between its own evaluations, never beyond them.

  Returns:
    Interactions [x] and quartiles [3, x]; None without evaluations.
  """
  curves = [curve for run in runs if (curve := run.curve(action))]
  if not curves:
    return None
  first = max(curve[0][0] for curve in curves)
  last = min(curve[-1][0] for curve in curves)
  moments = {x for curve in curves for x, _ in curve if first <= x <= last}
  x = np.array(sorted(moments), float)
  if not len(x):
    return None
  returns = [np.interp(x, *np.transpose(curve)) for curve in curves]
  return x, np.percentile(returns, [25, 50, 75], axis=0)


def _curves(pyplot, experiment, numbers):
  environments = experiment.environments
  chunks = _chunks(experiment.learned)
  rows, columns = score_figures.panel_grid(len(environments))
  width = max(4.2 * columns + 0.6, 6.4)
  figure = pyplot.figure(
    figsize=(width, (2.9 * rows + 1.1) * len(chunks)), layout='constrained'
  )
  parts = figure.subfigures(len(chunks), 1, squeeze=False)[:, 0]
  for part, settings in zip(parts, chunks, strict=True):
    axes = list(part.subplots(rows, columns, squeeze=False).flat)
    for axis, environment in zip(axes, environments, strict=False):
      _curve_panel(axis, experiment, environment, settings, numbers)
    for axis in axes[len(environments) :]:
      axis.set_axis_off()
    _curve_legend(part, axes, experiment, width)
  _share_returns(figure.axes, environments)
  return figure


def _share_returns(panels, environments) -> None:
  """An environment's panels have one axis of returns."""
  for environment in environments:
    same = [panel for panel in panels if panel.get_title() == environment]
    for panel in same[1:]:
      panel.sharey(same[0])
    same[0].autoscale(axis='y')


def _curve_panel(axis, experiment, environment, settings, numbers) -> None:
  colours = dict(zip(settings, score_figures.COLOURS, strict=False))
  for setting, colour in colours.items():
    runs = experiment.of(setting, environment)
    if drawn := band(runs, 'sampled'):
      axis.plot(drawn[0], drawn[1][1], '--', color=colour, lw=1, alpha=0.7)
    if drawn := band(runs, 'mode'):
      x, (low, middle, high) = drawn
      label = experiment.labels[setting]
      marker = 'o' if len(x) == 1 else None
      axis.plot(x, middle, color=colour, lw=1.8, label=label, marker=marker)
      axis.fill_between(x, low, high, color=colour, alpha=0.18, lw=0)
  _draw_published(axis, experiment, environment, colours, numbers)
  _draw_data(axis, experiment, environment, colours)
  axis.set(title=environment, xlabel='interactions', ylabel='return')
  if any(setting.dataset for setting in settings):
    axis.set(xlabel='gradient steps')
  axis.ticklabel_format(axis='x', style='plain')
  axis.xaxis.set_major_locator(_few_ticks())
  axis.xaxis.set_major_formatter(_thousands)
  axis.grid(alpha=0.25)


def _draw_published(axis, experiment, environment, colours, numbers) -> None:
  """Published final scores, in the colours of their algorithms."""
  by_algorithm = {s.algorithm: c for s, c in reversed(colours.items())}
  drawn: list[str] = []
  for n in score_figures.same_algorithms(experiment, numbers, environment):
    if colour := by_algorithm.get(n.algorithm):
      style = _DOTTED[drawn.count(n.algorithm) % len(_DOTTED)]
      drawn.append(n.algorithm)
      label = f'{score_figures.place(n)}, final score'
      axis.axhline(n.score, color=colour, ls=style, lw=1.4, label=label)


def _draw_data(axis, experiment, environment, colours) -> None:
  """The data set's mean return, and where its runs began to collect."""
  for dataset in {setting.dataset for setting in colours}:  # One of them.
    mean = experiment.data_return(dataset, environment)
    if mean is not None:
      label = f'{dataset}, mean return of the data'
      axis.axhline(mean, color='0.2', ls='-.', lw=1.2, label=label)
  for setting, colour in colours.items():
    runs = experiment.of(setting, environment)
    for moment in sorted({r.switch for r in runs if r.switch}):
      axis.axvline(moment, color=colour, ls='--', lw=1, alpha=0.6)


def _few_ticks():
  from matplotlib import ticker

  return ticker.MaxNLocator(6)


def _thousands(value: float, _: int) -> str:
  return f'{value / 1000:g}K' if value >= 1000 else f'{value:g}'


def _curve_legend(part, axes, experiment, width) -> None:
  from matplotlib import lines

  entries = {
    label: handle
    for axis in axes
    for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)
  }
  solid = lines.Line2D([], [], color='0.2', lw=1.8)
  dashed = lines.Line2D([], [], color='0.2', lw=1, ls='--')
  if any(run.switch for run in experiment.learning_runs):
    entries['collecting begins'] = lines.Line2D(
      [], [], color='0.5', marker='|', ms=12, ls=''
    )
  entries['mode action: median and quartiles'] = solid
  entries['sampled: median'] = dashed
  columns = 2 if len(axes) > 1 else 1
  characters = min(70, int((width / columns - 0.7) / 0.072))  # Of 9 points.
  labels = [textwrap.fill(label, characters) for label in entries]
  part.legend(
    entries.values(), labels, loc='outside lower center', ncols=columns
  )
