"""Bar charts of final scores, and performance profiles."""

import textwrap

import numpy as np
import pandas as pd
from matplotlib import lines
from matplotlib import patches
from matplotlib.figure import Figure

from qwr_tf.reporting import published
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


def band(evaluations: pd.DataFrame, action: str) -> pd.DataFrame:
  """Quartiles over runs.

  Where runs were evaluated at different moments, each is interpolated
  between its own evaluations, never beyond them.

  Args:
    evaluations: rows of `Experiment.of`.
    action: 'mode' or 'sampled'.

  Returns:
    Columns 0.25, 0.5 and 0.75 over progress; no rows where nothing was
    measured.
  """
  # A final evaluation replaces its row.
  points = evaluations.drop_duplicates(['seed', 'progress'], keep='last')
  returns = points.pivot(index='progress', columns='seed', values=action)
  returns = returns.dropna(axis=1, how='all').dropna(how='all')
  returns = returns.interpolate('index', limit_area='inside').dropna()
  return returns.T.quantile([0.25, 0.5, 0.75]).T


def bars(experiment: Experiment) -> Figure:
  """A row per setting and published score, a panel per environment."""
  environments, labels = experiment.environments, experiment.labels
  theirs = [
    published.medians(experiment.same_algorithms(e)) for e in environments
  ]
  methods = [place(n) for in_panel in theirs for n in in_panel]
  methods = list(dict.fromkeys(methods))
  names = [_broken(labels[s]) for s in experiment.learned]
  names += [_broken(method) for method in methods]
  rows, columns = panel_grid(len(environments))
  most = max(name.count('\n') for name in names) + 1
  height = max(0.42, 0.16 * most + 0.08) * len(names) + 1.0
  size = 3.4 * columns + 2.6, height * rows + 0.9
  figure = Figure(figsize=size, layout='constrained')
  axes = figure.subplots(rows, columns, squeeze=False, sharey=True).flat
  for axis, environment, in_panel in zip(
    axes, environments, theirs, strict=False
  ):
    _own_bars(axis, experiment, environment)
    for n in in_panel:
      y = len(experiment.learned) + methods.index(place(n))
      _bar(axis, y, n.score, n.spread, GREY)
    axis.axvline(0, color='0.2', lw=0.8)
    axis.set(title=environment, xlabel='final return, mode action')
    axis.set(ylim=(len(names) - 0.4, -0.6))
    axis.set_yticks(range(len(names)), names)
    axis.grid(alpha=0.25, axis='x')
  for axis in axes[len(environments) :]:
    axis.set_axis_off()
  _bar_legend(figure, columns, experiment, bool(methods))
  return figure


def _broken(label: str) -> str:
  """A line per binding."""
  return '\n'.join(
    textwrap.fill(part, 48, break_on_hyphens=False)
    for part in label.split('; ')
  )


def _own_bars(axis, experiment: Experiment, environment: str) -> None:
  for y, setting in enumerate(experiment.learned):
    if finals := experiment.finals(setting, environment, 'mode'):
      low, middle, high = np.percentile(finals, [25, 50, 75])
      spread = [[middle - low], [high - middle]] if len(finals) > 1 else None
      _bar(axis, y, middle, spread, COLOURS[0])
      # A score of 0 may lie on the frame.
      axis.plot(
        finals, [y - 0.2] * len(finals), '.', color='0.1', ms=5, zorder=3,
        clip_on=False,
      )  # fmt: skip
      if interval := scores.bootstrap([finals]):
        iqm, height = scores.iqm(finals), y + 0.2
        style = dict(color=COLOURS[1], zorder=3)
        axis.plot(interval, [height] * 2, lw=1.6, **style)
        axis.plot(iqm, height, 'D', ms=4.5, **(style | {'zorder': 4}))
      if setting == experiment.centre:
        axis.axvline(middle, color=COLOURS[0], lw=1, ls='--')
    mean = experiment.data_return(setting.dataset, environment)
    if mean is not None:
      axis.plot([mean] * 2, [y - 0.5, y + 0.5], color=DATA_COLOUR, lw=2)


def _bar(axis, y, score, spread, colour) -> None:
  axis.barh(
    y, score, 0.62, color=colour, alpha=0.45, xerr=spread,
    error_kw=dict(lw=1.2, capsize=3, ecolor='0.2'),
  )  # fmt: skip


def _bar_legend(figure, columns, experiment, has_published) -> None:
  """Explains what is drawn, and nothing else."""

  def line(**style):
    return lines.Line2D([], [], **style)

  def bar(colour):
    return patches.Patch(color=colour, alpha=0.45)

  has_seeds = any(
    len(experiment.final(setting, environment)) > 1
    for setting in experiment.learned
    for environment in experiment.environments
  )
  entries = {
    'median of the seeds': bar(COLOURS[0]),
    'a seed': line(color='0.1', marker='.', ls=''),
  }
  if has_seeds:
    diamond = line(color=COLOURS[1], marker='D')
    entries['quartiles'] = line(color='0.2', marker='|', ms=7)
    entries['IQM, 95 % bootstrap interval'] = diamond
  if experiment.centre:
    entries["the centre's median"] = line(color=COLOURS[0], ls='--')
  if has_published:
    entries['published, ± half the interquartile range'] = bar(GREY)
  if any(setting.dataset for setting in experiment.learned):
    entries['mean return of the data'] = line(color=DATA_COLOUR, lw=2)
  figure.legend(
    entries.values(),
    entries.keys(),
    loc='outside lower center',
    ncols=min(columns + 1, 3),
  )


def profile_scores(
  experiment: Experiment,
) -> dict[Setting, dict[str, list[float]]]:
  """Normalised scores, mode action, of settings that have all scaled tasks."""
  every = {s: experiment.normalised(s, 'mode') for s in experiment.learned}
  scales = experiment.scales
  return {s: x for s, x in every.items() if scales and set(x) == set(scales)}


def profile(experiment: Experiment) -> Figure:
  """Share of runs above each normalised score."""
  normalised = profile_scores(experiment)
  drawn = dict(zip(normalised, COLOURS, strict=False))
  every = [
    x for s in drawn for stratum in normalised[s].values() for x in stratum
  ]
  # So that every line begins at 1, but for scores of 0, and ends at 0.
  low, high = min(0.0, *every), max(0.0, *every)
  thresholds = np.linspace(1.1 * low - 0.02 * (low < 0), 1.1 * high + 0.02, 201)
  figure = Figure(figsize=(6.4, 4.4), layout='constrained')
  axis = figure.subplots()
  for setting, colour in drawn.items():
    strata = list(normalised[setting].values())
    runs = sum(map(len, strata))
    plural = '' if runs == 1 else 's'
    label = f'{experiment.labels[setting]} ({runs} run{plural})'
    axis.step(
      thresholds, scores.profile(strata, thresholds), where='post',
      color=colour, label=textwrap.fill(label, 70),
    )  # fmt: skip
    band = scores.profile_band(strata, thresholds)
    if band is not None:
      low, high = band
      axis.fill_between(
        thresholds, low, high, step='post', color=colour, alpha=0.15, lw=0
      )
  title = ', '.join(next(iter(normalised.values())))
  if len(drawn) < len(normalised):
    title += f' (the first {len(drawn)} of {len(normalised)} settings)'
  axis.set(
    title=textwrap.fill(title, 70),
    xlabel='normalised score (MuJoCo: 1 is SAC at 1M; Atari: 1 is human)',
    ylabel='share of runs above it, mode action',
    ylim=(-0.02, 1.02),
  )
  axis.grid(alpha=0.25)
  figure.legend(loc='outside lower center')
  return figure
