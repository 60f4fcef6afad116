"""Bar charts of final scores, and performance profiles."""

import textwrap
from collections.abc import Iterator, Sequence

import numpy as np

from qwr_tf.environments import env_names
from qwr_tf.reporting import published
from qwr_tf.reporting import report_tables
from qwr_tf.reporting import scores
from qwr_tf.reporting.published import Number
from qwr_tf.reporting.report_data import Experiment
from qwr_tf.reporting.report_data import Setting

# Okabe and Ito's colours, which colour-blind readers can tell apart. The first
# belongs to the setting that others are compared with.
COLOURS = ('#0072B2', '#D55E00', '#009E73', '#CC79A7', '#E69F00', '#56B4E9')
GREY, DATA_COLOUR = '0.45', '#CC3311'


def panel_grid(count: int) -> tuple[int, int]:
  """Rows and columns for a number of panels."""
  columns = count if count <= 3 else 2 if count == 4 else 3
  return -(-count // columns), columns


def place(n: Number) -> str:
  """What a legend calls a published score."""
  statistic = '' if n.statistic == 'median' else f', {n.stated_statistic}'
  return f'{n.algorithm}, {n.source} ({n.environments}{statistic})'


def same_algorithms(experiment, numbers, environment) -> list[Number]:
  """Published scores to draw beside the medians of the same algorithms."""
  return published.medians(
    report_tables.same_algorithms(experiment, numbers, environment)
  )


# Final scores.


def bars(pyplot, experiment: Experiment, numbers: Sequence[Number]):
  """A row per setting and published score, a panel per environment."""
  environments = experiment.environments
  methods = _methods(experiment, numbers)
  rows, columns = panel_grid(len(environments))
  names = _names(experiment, methods)
  lines = max(name.count('\n') for name in names) + 1
  height = max(0.42, 0.16 * lines + 0.08) * len(methods) + 1.0
  figure, grid = pyplot.subplots(
    rows,
    columns,
    figsize=(3.4 * columns + 2.6, height * rows + 0.9),
    squeeze=False,
    sharey=True,
    layout='constrained',
  )
  for axis, environment in zip(grid.flat, environments, strict=False):
    _bar_panel(axis, experiment, environment, methods, numbers)
    axis.set_yticks(range(len(methods)), names)
  for axis in list(grid.flat)[len(environments) :]:
    axis.set_axis_off()
  _bar_legend(figure, columns, experiment, methods)
  return figure


def _methods(experiment, numbers) -> list[Setting | str]:
  """What has a row: settings, then published methods by name."""
  found: dict[Setting | str, None] = dict.fromkeys(experiment.learned)
  for environment in experiment.environments:
    for n in same_algorithms(experiment, numbers, environment):
      found[place(n)] = None
  return list(found)


def _names(experiment, methods) -> list[str]:
  """Labels of the rows, a line per binding."""
  labels = [
    method if isinstance(method, str) else experiment.labels[method]
    for method in methods
  ]
  return [
    '\n'.join(
      textwrap.fill(part, 48, break_on_hyphens=False)
      for part in label.split('; ')
    )
    for label in labels
  ]


def _bar_panel(axis, experiment, environment, methods, numbers) -> None:
  known = {
    place(n): n for n in same_algorithms(experiment, numbers, environment)
  }
  for y, method in enumerate(methods):
    if isinstance(method, str):
      if n := known.get(method):
        _bar(axis, y, n.score, n.spread, GREY)
    else:
      finals = experiment.finals(method, environment, 'mode')
      if finals:
        _own_bar(axis, y, finals)
      if finals and method == experiment.centre:
        axis.axvline(scores.median(finals), color=COLOURS[0], lw=1, ls='--')
      mean = experiment.data_return(method.dataset, environment)
      if mean is not None:
        axis.plot([mean] * 2, [y - 0.5, y + 0.5], color=DATA_COLOUR, lw=2)
  axis.axvline(0, color='0.2', lw=0.8)
  axis.set(title=environment, xlabel='final return, mode action')
  axis.set_ylim(len(methods) - 0.4, -0.6)
  axis.grid(alpha=0.25, axis='x')


def _bar(axis, y, score, spread, colour) -> None:
  axis.barh(
    y, score, 0.62, color=colour, alpha=0.45, xerr=spread,
    error_kw=dict(lw=1.2, capsize=3, ecolor='0.2'),
  )  # fmt: skip


def _own_bar(axis, y, finals) -> None:
  low, middle, high = np.percentile(finals, [25, 50, 75])
  spread = [[middle - low], [high - middle]] if len(finals) > 1 else None
  _bar(axis, y, middle, spread, COLOURS[0])
  (dots,) = axis.plot(finals, [y - 0.2] * len(finals), '.', color='0.1', ms=5)
  dots.set(zorder=3, clip_on=False)  # A score of 0 may lie on the frame.
  if interval := scores.bootstrap([finals]):
    axis.plot(interval, [y + 0.2] * 2, color=COLOURS[1], lw=1.6, zorder=3)
    middle = scores.iqm(finals)
    axis.plot(middle, y + 0.2, 'D', color=COLOURS[1], ms=4.5, zorder=4)


_INTERVAL = 'IQM, 95 % bootstrap interval'
_PUBLISHED = 'published, ± half the interquartile range'
_CENTRE = "the centre's median"
_DATA = 'mean return of the data'


def _bar_legend(figure, columns, experiment, methods) -> None:
  """Explains what is drawn, and nothing else."""
  from matplotlib import lines
  from matplotlib import patches

  line = lines.Line2D
  has_seeds = any(
    len(experiment.of(setting, environment)) > 1
    for setting in experiment.learned
    for environment in experiment.environments
  )
  has_centre = experiment.centre is not None
  has_published = any(isinstance(method, str) for method in methods)
  has_data = any(setting.dataset for setting in experiment.learned)
  entries = [
    (True, patches.Patch(color=COLOURS[0], alpha=0.45), 'median of the seeds'),
    (True, line([], [], color='0.1', marker='.', ls=''), 'a seed'),
    (has_seeds, line([], [], color='0.2', marker='|', ms=7), 'quartiles'),
    (has_seeds, line([], [], color=COLOURS[1], marker='D'), _INTERVAL),
    (has_centre, line([], [], color=COLOURS[0], ls='--'), _CENTRE),
    (has_published, patches.Patch(color=GREY, alpha=0.45), _PUBLISHED),
    (has_data, line([], [], color=DATA_COLOUR, lw=2), _DATA),
  ]
  drawn = [(handle, label) for there, handle, label in entries if there]
  figure.legend(
    *zip(*drawn, strict=True),
    loc='outside lower center',
    ncols=min(columns + 1, 3),
  )


# Performance profile.


def profile_strata(experiment, numbers) -> dict[Setting, list[list[float]]]:
  """Normalised final scores of the settings that have all scaled tasks."""
  scale = published.scales(numbers)
  scaled = [e for e in experiment.environments if env_names.task(e) in scale]
  found = {}
  for setting in experiment.learned:
    strata = [
      [
        published.normalised(score, scale[env_names.task(environment)])
        for score in experiment.finals(setting, environment, 'mode')
      ]
      for environment in scaled
    ]
    if strata and all(strata):
      found[setting] = strata
  return found


def profile(pyplot, experiment: Experiment, numbers: Sequence[Number]):
  """Share of runs above each normalised score."""
  every = profile_strata(experiment, numbers)
  found = dict(list(every.items())[: len(COLOURS)])
  thresholds = _thresholds(found)
  figure, axis = pyplot.subplots(figsize=(6.4, 4.4), layout='constrained')
  for colour, label, shares, bounds in _profile_lines(
    found, experiment.labels, thresholds
  ):
    axis.step(thresholds, shares, where='post', color=colour, label=label)
    if bounds is not None:
      axis.fill_between(
        thresholds, *bounds, step='post', color=colour, alpha=0.15, lw=0
      )
  tasks = ', '.join(
    e
    for e in experiment.environments
    if env_names.task(e) in published.scales(numbers)
  )
  left_out = ''
  if len(found) < len(every):
    left_out = f' (the first {len(found)} of {len(every)} settings)'
  axis.set(
    title=textwrap.fill(f'{tasks}{left_out}', 70),
    xlabel='normalised score (MuJoCo: 1 is SAC at 1M; Atari: 1 is human)',
    ylabel='share of runs above it, mode action',
    ylim=(-0.02, 1.02),
  )
  axis.grid(alpha=0.25)
  figure.legend(loc='outside lower center')
  return figure


def _thresholds(found) -> np.ndarray:
  """From a little below the lowest score, or 0, to as much above the highest.

  So that every line begins at 1, but for scores of 0, and ends at 0.
  """
  known = np.concatenate([np.concatenate(strata) for strata in found.values()])
  top, low = max(0.0, known.max()), min(0.0, known.min())
  below = 1.1 * low - 0.02 if low else 0.0
  return np.linspace(below, 1.1 * top + 0.02, 201)


def _profile_lines(found, labels, thresholds) -> Iterator[tuple]:
  for (setting, strata), colour in zip(found.items(), COLOURS, strict=False):
    runs = sum(map(len, strata))
    plural = '' if runs == 1 else 's'
    label = textwrap.fill(f'{labels[setting]} ({runs} run{plural})', 70)
    shares = scores.profile(strata, thresholds)
    yield colour, label, shares, scores.profile_band(strata, thresholds)
