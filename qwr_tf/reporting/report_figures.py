"""Pictures of an experiment: learning curves, final scores, profiles."""

import pathlib
import textwrap
from collections.abc import Callable, Sequence
from typing import Any

import matplotlib
from matplotlib import lines
from matplotlib import ticker
from matplotlib.figure import Figure

from qwr_tf.reporting import headline_figures
from qwr_tf.reporting import published
from qwr_tf.reporting import score_figures
from qwr_tf.reporting.report_data import Experiment
from qwr_tf.reporting.report_data import Setting
from qwr_tf.runs import atomic_files

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


def pictures(
  experiment: Experiment,
) -> list[tuple[str, str, Callable[[Experiment], Figure]]]:
  """(title, file name, drawing function) of each picture of an experiment."""
  drawn: list[tuple[str, str, Callable]] = [
    ('Learning curves', '', curves),
    ('Final scores', '_scores', score_figures.bars),
  ]
  if experiment.of_a_preset and experiment.rivals:
    headline = headline_figures.headline
    drawn[:1] = [
      ('Learning curve, and final scores of others', '', headline),
      ('Learning curves of all settings', '_curves', curves),
    ]
  # An ablation has more settings than a profile has colours.
  if not experiment.centre and score_figures.profile_scores(experiment):
    drawn.append(('Performance profile', '_profile', score_figures.profile))
  return [(t, f'{experiment.name}{end}.png', draw) for t, end, draw in drawn]


def write(experiment: Experiment, folder: pathlib.Path) -> list[pathlib.Path]:
  """Draws the pictures named like the experiment's CSV into a folder."""
  paths = []
  with matplotlib.rc_context(_STYLE):
    for _, name, draw in pictures(experiment):
      with atomic_files.new_file(folder / name) as path:
        draw(experiment).savefig(path, dpi=120)
      paths.append(folder / name)
  return paths


def chunks(settings: Sequence[Setting]) -> list[list[Setting]]:
  """Settings of one data set, at most as many as there are colours.

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


def curves(experiment: Experiment) -> Figure:
  """Returns over progress: a panel per environment and chunk of settings."""
  environments = experiment.environments
  parts = chunks(experiment.learned)
  rows, columns = score_figures.panel_grid(len(environments))
  width = max(4.2 * columns + 0.6, 6.4)
  size = width, (2.9 * rows + 1.1) * len(parts)
  figure = Figure(figsize=size, layout='constrained')
  first: dict[str, Any] = {}
  subfigures = figure.subfigures(len(parts), 1, squeeze=False)[:, 0]
  for number, (subfigure, settings) in enumerate(
    zip(subfigures, parts, strict=True), start=1
  ):
    if len(parts) > 1:
      subfigure.suptitle(f'{experiment.name}, part {number} of {len(parts)}')
    axes = list(subfigure.subplots(rows, columns, squeeze=False).flat)
    for axis, environment in zip(axes, environments, strict=False):
      colours = dict(zip(settings, score_figures.COLOURS, strict=False))
      _curve_panel(axis, experiment, environment, colours)
      _draw_published(axis, experiment, environment, colours)
      _draw_data(axis, experiment, environment, colours)
      # An environment's panels have one axis of returns.
      if environment in first:
        axis.sharey(first[environment])
      first.setdefault(environment, axis).autoscale(axis='y')
    for axis in axes[len(environments) :]:
      axis.set_axis_off()
    _curve_legend(subfigure, axes, experiment, width)
  return figure


def _curve_panel(axis, experiment, environment, colours) -> None:
  for setting, colour in colours.items():
    evaluations = experiment.of(setting, environment)
    sampled, mode = (
      score_figures.band(evaluations, x) for x in ('sampled', 'mode')
    )
    if len(sampled):
      axis.plot(
        sampled.index, sampled[0.5], '--', color=colour, lw=1, alpha=0.7
      )
    if len(mode):
      label = experiment.labels[setting]
      marker = 'o' if len(mode) == 1 else None
      axis.plot(
        mode.index, mode[0.5], color=colour, lw=1.8, label=label, marker=marker
      )
      axis.fill_between(
        mode.index, mode[0.25], mode[0.75], color=colour, alpha=0.18, lw=0
      )
  offline = any(setting.dataset for setting in colours)
  axis.set(title=environment, ylabel='return')
  axis.set(xlabel='gradient steps' if offline else 'interactions')
  axis.ticklabel_format(axis='x', style='plain')
  axis.xaxis.set_major_locator(ticker.MaxNLocator(6))
  axis.xaxis.set_major_formatter(
    lambda x, _: f'{x / 1000:g}K' if x >= 1000 else f'{x:g}'
  )
  axis.grid(alpha=0.25)


def _draw_published(axis, experiment, environment, colours) -> None:
  """Published final scores, in the colours of their algorithms."""
  by_algorithm = {s.algorithm: c for s, c in reversed(colours.items())}
  drawn: list[str] = []
  for n in published.medians(experiment.same_algorithms(environment)):
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
    for moment in experiment.switches(setting, environment):
      axis.axvline(moment, color=colour, ls='--', lw=1, alpha=0.6)


def _curve_legend(subfigure, axes, experiment, width) -> None:
  entries = {
    label: handle
    for axis in axes
    for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)
  }
  if any(
    experiment.switches(setting, environment)
    for setting in experiment.learned
    for environment in experiment.environments
  ):
    entries['collecting begins'] = lines.Line2D(
      [], [], color='0.5', marker='|', ms=12, ls=''
    )
  solid = lines.Line2D([], [], color='0.2', lw=1.8)
  dashed = lines.Line2D([], [], color='0.2', lw=1, ls='--')
  entries['mode action: median and quartiles'] = solid
  entries['sampled: median'] = dashed
  columns = 2 if len(axes) > 1 else 1
  characters = min(70, int((width / columns - 0.7) / 0.072))  # Of 9 points.
  labels = [textwrap.fill(label, characters) for label in entries]
  subfigure.legend(
    entries.values(), labels, loc='outside lower center', ncols=columns
  )
