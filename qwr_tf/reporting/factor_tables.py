"""Ablations: what each setting that differs from the centre changes."""

from collections.abc import Sequence

from qwr_tf.reporting import report_tables
from qwr_tf.reporting import scores
from qwr_tf.reporting.report_data import ACTIONS
from qwr_tf.reporting.report_data import Experiment
from qwr_tf.reporting.report_data import Setting

_ABOUT = """The centre, and settings that differ from it in what the first
column says: final scores, median ± half the interquartile range (number of
seeds), and the difference to the centre's median. In brackets a 95 % interval
of the bootstrap, which draws the runs of both again; of two and two seeds it is
the range between the extremes. A difference without brackets is that of a
single run, and may be the seed's alone. P(better) is the probability of
improvement: the share of pairs, one run of the setting and one of the centre,
in which the setting's is higher.
"""

_TITLES = {'mode': 'Mode action', 'sampled': 'Sampled'}


def factors(experiment: Experiment, centre: Setting) -> str:
  """A table for each way of acting, the centre first.

  Args:
    experiment: its final scores.
    centre: the setting that all others vary.
  """
  parts = [_ABOUT]
  for action in ACTIONS:
    header = ['']
    for environment in experiment.environments:
      header += [environment, 'difference', 'P(better)']
    rows = [
      _row(experiment, setting, centre, action)
      for setting in experiment.learned
    ]
    parts += [f'**{_TITLES[action]}**\n', report_tables.table(header, rows)]
  return '\n'.join(parts)


def side_by_side(experiments: Sequence[Experiment]) -> str:
  """What experiments with a centre have of the same factors, mode action.

  A column per environment and experiment, a row for what is bound.
  """
  environments = dict.fromkeys(e for x in experiments for e in x.environments)
  columns = [(x, e) for e in environments for x in experiments]
  factors = {s.bindings for x in experiments for s in x.learned}
  return report_tables.table(
    ['', *(f'{e}, `{x.name}`' for x, e in columns)],
    [
      [_bound(f), *(_score(x, f, e) for x, e in columns)]
      for f in sorted(factors)
    ],
  )


def _score(experiment: Experiment, bindings: str, environment: str) -> str:
  for setting in experiment.learned:
    if setting.bindings == bindings:
      finals = experiment.finals(setting, environment, 'mode')
      return report_tables.counted_median_cell(finals)
  return report_tables.NOTHING


def _row(experiment, setting, centre, action) -> list[str]:
  cells = [_name(setting, centre)]
  for environment in experiment.environments:
    finals = experiment.finals(setting, environment, action)
    cells.append(report_tables.counted_median_cell(finals))
    if setting == centre:
      cells += ['', '']
    else:
      cells += _comparison(
        finals, experiment.finals(centre, environment, action)
      )
  return cells


def _name(setting: Setting, centre: Setting) -> str:
  """The centre's whole name; of the others what they bind."""
  if setting == centre:
    return f'{setting.markdown} (centre)'
  return _bound(setting.bindings)


def _bound(bindings: str) -> str:
  parts = [f'`{part}`' for part in bindings.split('; ') if part]
  return ' '.join(parts).replace('|', '\\|') or 'no change'


def _comparison(finals: Sequence[float], centre: Sequence[float]) -> list[str]:
  """Difference and probability of improvement."""
  if not finals or not centre:
    return [report_tables.NOTHING] * 2
  better = scores.probability_of_improvement(finals, centre)
  return [_difference_cell(finals, centre), f'{better:.2f}']


def _difference_cell(finals: Sequence[float], centre: Sequence[float]) -> str:
  of = scores.difference_of_medians
  like = scores.median(centre)
  # One run says nothing about other seeds, neither here nor there.
  interval = (
    scores.bootstrap([finals, centre], of)
    if min(len(finals), len(centre)) > 1
    else None
  )
  difference = scores.median(finals) - scores.median(centre)
  cell = _signed(difference, like)
  if interval is None:
    return cell
  low, high = (_signed(bound, like) for bound in interval)
  return f'{cell} [{low}, {high}]'


def _signed(value: float, like: float) -> str:
  text = report_tables.number(value, like)
  return f'+{text}' if float(text) > 0 else text
