"""Markdown tables of scores, with published ones below.

A cell for which there are no rows holds `NOTHING`: no number comes from
anywhere but raw rows and the table of published numbers.
"""

import statistics
from collections.abc import Iterable, Sequence

from qwr_tf.config.errors import ConfigError
from qwr_tf.environments import env_names
from qwr_tf.reporting import published
from qwr_tf.reporting import scores
from qwr_tf.reporting.published import Number
from qwr_tf.reporting.report_data import ACTIONS
from qwr_tf.reporting.report_data import Experiment
from qwr_tf.reporting.report_data import Setting

NOTHING = '–'


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
  """A markdown table; all columns but the first are numbers."""
  rule = ['---', *('---:' for _ in header[1:])]
  return ''.join(f'| {" | ".join(x)} |\n' for x in (header, rule, *rows))


def number(value: float, like: float | None = None) -> str:
  """A number with three digits or more, or with as many decimals as `like`."""
  size = abs(value if like is None else like)
  digits = 0 if size >= 99.95 else 1 if size >= 9.995 else 2
  text = f'{value:.{digits}f}'
  return text if float(text) else text.lstrip('-')  # No -0.00.


def _signed(value: float, like: float) -> str:
  text = number(value, like)
  return f'+{text}' if float(text) > 0 else text


def _with_interval(
  value: float, interval: scores.Interval | None, like=None, text=number
) -> str:
  like = value if like is None else like
  cell = text(value, like)
  if interval is None:
    return cell
  low, high = (text(bound, like) for bound in interval)
  return f'{cell} [{low}, {high}]'


def median_cell(finals: Sequence[float]) -> str:
  """Median ± half the interquartile range; one run has no range."""
  if not finals:
    return NOTHING
  median = statistics.median(finals)
  if len(finals) == 1:
    return number(median)
  return f'{number(median)} ± {number(scores.half_iqr(finals), median)}'


def _counted_medians(
  experiment: Experiment, setting: Setting, action: str
) -> dict[str, str]:
  """{environment: median, range and number of runs}."""
  cells = {}
  for environment in experiment.environments:
    finals = experiment.finals(setting, environment, action)
    count = f' ({len(finals)})' if finals else ''
    cells[environment] = median_cell(finals) + count
  return cells


def _statistics(finals: Sequence[float]) -> list[str]:
  """Median, mean and IQM."""
  if not finals:
    return [NOTHING] * 3
  iqm = _with_interval(scores.iqm(finals), scores.bootstrap([finals]))
  return [median_cell(finals), number(statistics.fmean(finals)), iqm]


def _as_printed(n: Number | None) -> str:
  """The digits of the paper."""
  if n is None:
    return NOTHING
  spread = '' if n.spread is None else f' ± {n.spread:g}'
  return f'{n.score:g}{spread}'


def _by_method(numbers: Sequence[Number]) -> dict[str, dict[str, Number]]:
  """{method with its statistic: {task: number}}."""
  methods: dict[str, dict[str, Number]] = {}
  for n in numbers:
    label = f'{n.method}, {n.stated_statistic}'
    label += f' of {n.seeds}' * bool(n.seeds)
    methods.setdefault(label, {})[n.task] = n
  return methods


def _median_and_mean(n: Number, cell: str) -> list[str]:
  """The cell in the column of its statistic, of those two."""
  return [cell, NOTHING] if n.statistic == 'median' else [NOTHING, cell]


def overview(experiment: Experiment) -> str:
  """Medians per setting and environment, published ones below."""
  numbers = published.medians(experiment.rivals)
  tasks = experiment.tasks
  missing = list(dict.fromkeys(n.task for n in numbers if n.task not in tasks))
  rows = []
  for setting in experiment.settings:
    for action in ACTIONS:
      cells = [*_counted_medians(experiment, setting, action).values()]
      rows.append([setting.markdown, action, *cells, *[NOTHING] * len(missing)])
  for label, by_task in _by_method(numbers).items():
    cells = [_as_printed(by_task.get(task)) for task in [*tasks, *missing]]
    rows.append([label, NOTHING, *cells])
  # A line for all algorithms of a source that have the same note.
  notes: dict[tuple[str, str], dict[str, None]] = {}
  for n in numbers:
    name, _, source = n.method.partition(', ')
    notes.setdefault((source, n.note), {})[name] = None
  header = ['', 'action', *experiment.environments, *missing]
  lines = [
    f'{", ".join(names)}, {source}: {note}.\n'
    for (source, note), names in notes.items()
    if note
  ]
  return '\n'.join([table(header, rows), *lines])


def summary(experiment: Experiment, algorithms: Sequence[str] = ()) -> str:
  """Medians of the first setting, and published scores below.

  Of a paper that has the same algorithm, its other algorithms are left out but
  for those that are asked for and stand nowhere else.

  Args:
    experiment: what was measured.
    algorithms: others' to show; () for all.

  Raises:
    ConfigError: if nobody published one of them for this budget.
  """
  setting = experiment.settings[0]
  rows = [
    [
      f'**{setting.markdown}**, {action}',
      *_counted_medians(experiment, setting, action).values(),
    ]
    for action in ('mode', 'sampled')
  ]
  numbers = published.medians(experiment.rivals)
  if missing := {*algorithms} - {n.algorithm for n in numbers}:
    raise ConfigError(
      f'published.csv has no {", ".join(sorted(missing))} at '
      f'{experiment.budget} interactions.'
    )
  same = [n for n in numbers if n.algorithm == setting.algorithm]
  papers = {n.source for n in same}
  others = [n for n in numbers if n.source not in papers]
  if algorithms:
    elsewhere = {n.algorithm for n in [*same, *others]}
    variants = [n for n in numbers if n.algorithm not in elsewhere]
    others = [n for n in variants + others if n.algorithm in algorithms]
  for label, by_task in _by_method([*same, *others]).items():
    cells = [_as_printed(by_task.get(task)) for task in experiment.tasks]
    rows.append([label, *cells])
  about = (
    f'Final return after {experiment.budget:,} interactions, with the mode of '
    'the policy and with samples: median ± half the interquartile range '
    '(number of seeds). In *italics*: published scores for the same number of '
    'interactions, with source and statistic.'
  )
  return f'{about}\n\n{table(["", *experiment.environments], rows)}'


_STATISTICS_HEADER = (
  '', 'interactions', 'seeds', 'episodes',
  'mode: median ± ½ IQR', 'mean', 'IQM [95 %]',
  'sampled: median ± ½ IQR', 'mean', 'IQM [95 %]',
)  # fmt: skip


def environment_table(experiment: Experiment, environment: str) -> str:
  """All statistics of one environment.

  Below them the published scores of the algorithms that were run; the overview
  has the others.
  """
  rows = []
  for setting in experiment.settings:
    runs = experiment.final(setting, environment)
    if len(runs):
      interactions, episodes = map(_range, (runs.interactions, runs.episodes))
      row = [setting.markdown, interactions, str(len(runs)), episodes]
      for action in ACTIONS:
        row += _statistics(experiment.finals(setting, environment, action))
      rows.append(row)
  for n in experiment.same_algorithms(environment):
    unstated = '' if n.statistic else f', {n.stated_statistic}'
    row = [f'{n.method}{unstated}', str(n.interactions), n.seeds or NOTHING]
    row += [NOTHING, *_median_and_mean(n, _as_printed(n)), *[NOTHING] * 4]
    rows.append(row)
  return table(_STATISTICS_HEADER, rows)


def _range(values: Iterable[int]) -> str:
  """'10', or '5-10' where runs differ."""
  low, high = min(values), max(values)
  return f'{low}-{high}' if low < high else str(low)


def normalised_table(
  experiment: Experiment, tasks: Sequence[str], complete: bool
) -> str:
  """Normalised scores of several tasks as one, with bootstrap intervals.

  Args:
    experiment: its final scores.
    tasks: those that count.
    complete: whether a setting must have all tasks.

  Returns:
    The table; '' if no row would hold a measured number. A setting that played
    a task in two versions has no row.
  """
  rows = []
  for setting in experiment.settings:
    for action in ACTIONS:
      scores_of = experiment.normalised(setting, action)
      by_task = {e: env_names.task(e) for e in scores_of}
      by_task = {e: task for e, task in by_task.items() if task in tasks}
      count = len(set(by_task.values()))
      if count == len(by_task) and count >= (len(tasks) if complete else 1):
        cells = aggregates([scores_of[e] for e in by_task])
        rows.append([setting.markdown, action, str(count), *cells])
  if not rows:
    return ''
  scales = published.scales(experiment.numbers)
  for label, numbers in _by_method(experiment.rivals).items():
    if set(tasks) <= set(numbers):
      mean = statistics.fmean(
        published.normalised(numbers[t].score, scales[t]) for t in tasks
      )
      cells = _median_and_mean(numbers[tasks[0]], number(mean))
      rows.append([label, NOTHING, str(len(tasks)), *cells, NOTHING])
  header = ['', 'action', 'tasks', 'of medians', 'of means', 'IQM of runs']
  return table(header, rows)


def aggregates(strata: Sequence) -> list[str]:
  """Mean of medians, mean of means and IQM, with bootstrap intervals."""
  statistics = scores.mean_of_medians, scores.mean_of_means, scores.pooled_iqm
  return [
    _with_interval(float(f(strata)), scores.bootstrap(strata, f))
    for f in statistics
  ]


def factors(experiment: Experiment, centre: Setting, action: str) -> str:
  """What each setting changes: scores, differences, P(better).

  Args:
    experiment: its final scores.
    centre: the setting that all others vary; the first row.
    action: 'mode' or 'sampled'.
  """
  header = ['']
  for environment in experiment.environments:
    header += [environment, 'difference', 'P(better)']
  rows = []
  for setting in experiment.learned:
    is_centre = setting == centre
    row = [f'{centre.markdown} (centre)' if is_centre else _bound(setting)]
    medians = _counted_medians(experiment, setting, action)
    for environment, median in medians.items():
      finals, centre_finals = (
        experiment.finals(s, environment, action) for s in (setting, centre)
      )
      comparison = ['', ''] if is_centre else _comparison(finals, centre_finals)
      row += [median, *comparison]
    rows.append(row)
  return table(header, rows)


def _bound(setting: Setting) -> str:
  parts = [f'`{part}`' for part in setting.bindings.split('; ') if part]
  return ' '.join(parts).replace('|', '\\|') or 'no change'


def _comparison(finals: Sequence[float], centre: Sequence[float]) -> list[str]:
  """Difference of the medians and probability of improvement."""
  if not finals or not centre:
    return [NOTHING] * 2
  # One run says nothing about other seeds, neither here nor there.
  several = min(len(finals), len(centre)) > 1
  of = scores.difference_of_medians
  median = statistics.median(centre)
  difference = _with_interval(
    statistics.median(finals) - median,
    scores.bootstrap([finals, centre], of) if several else None,
    median,
    _signed,
  )
  better = scores.probability_of_improvement(finals, centre)
  return [difference, f'{better:.2f}']


def factors_side_by_side(experiments: Sequence[Experiment]) -> str:
  """The factors of experiments with a centre, mode action.

  A column per environment and experiment, a row for what is bound.
  """
  environments = dict.fromkeys(e for x in experiments for e in x.environments)
  columns = [(x, e) for e in environments for x in experiments]
  rows: dict[str, dict] = {}
  for experiment in experiments:
    for setting in experiment.learned:
      row = rows.setdefault(setting.bindings, {'': _bound(setting)})
      medians = _counted_medians(experiment, setting, 'mode')
      for environment, cell in medians.items():
        row.setdefault((experiment.name, environment), cell)
  return table(
    ['', *(f'{e}, `{x.name}`' for x, e in columns)],
    [
      [row[''], *(row.get((x.name, e), NOTHING) for x, e in columns)]
      for _, row in sorted(rows.items())
    ],
  )
