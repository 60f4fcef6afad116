"""Markdown tables of scores beside the published ones.

A cell for which there are no rows holds `NOTHING`: no number comes from
anywhere but raw rows and the table of published numbers.
"""

import functools
from collections.abc import Callable, Iterable, Sequence

from qwr_tf.environments import env_names
from qwr_tf.reporting import published
from qwr_tf.reporting import scores
from qwr_tf.reporting.published import Number
from qwr_tf.reporting.report_data import ACTIONS
from qwr_tf.reporting.report_data import Experiment

NOTHING = '–'


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
  """A markdown table; all columns but the first are numbers."""
  rule = ['---', *('---:' for _ in header[1:])]
  lines = (header, rule, *rows)
  return ''.join(f'| {" | ".join(line)} |\n' for line in lines)


def number(value: float, like: float | None = None) -> str:
  """Three digits or more, or as many decimals as another number has."""
  size = abs(value if like is None else like)
  digits = 0 if size >= 99.95 else 1 if size >= 9.995 else 2
  text = f'{value:.{digits}f}'
  return text if float(text) else text.lstrip('-')  # No -0.00.


def median_cell(finals: Sequence[float]) -> str:
  """Median ± half interquartile range; one run has no range."""
  if not finals:
    return NOTHING
  median = scores.median(finals)
  if len(finals) == 1:
    return number(median)
  return f'{number(median)} ± {number(scores.half_iqr(finals), median)}'


def counted_median_cell(finals: Sequence[float]) -> str:
  """The same with the number of runs."""
  count = f' ({len(finals)})' if finals else ''
  return median_cell(finals) + count


def _with_interval(value: float, interval: scores.Interval | None) -> str:
  if interval is None:
    return number(value)
  low, high = (number(bound, value) for bound in interval)
  return f'{number(value)} [{low}, {high}]'


def _iqm_cell(finals: Sequence[float]) -> str:
  if not finals:
    return NOTHING
  return _with_interval(scores.iqm(finals), scores.bootstrap([finals]))


def _mean_cell(finals: Sequence[float]) -> str:
  return number(scores.mean(finals)) if finals else NOTHING


# Published rows.


def _place(n: Number) -> str:
  """Where it is from and what was measured."""
  return f'{" ".join(filter(None, (n.source, n.table)))}, {n.environments}'


def _label(n: Number, statistic: bool = False) -> str:
  """Algorithm, where it is from and what was measured."""
  label = f'*{n.algorithm}*, {_place(n)}'
  if statistic:
    label += f', {n.stated_statistic}'
    label += f' of {n.seeds}' * bool(n.seeds)
  return label


def as_printed(n: Number | None) -> str:
  """The digits of the paper."""
  if n is None:
    return NOTHING
  spread = '' if n.spread is None else f' ± {n.spread:g}'
  return f'{n.score:g}{spread}'


def _by_method(numbers: Sequence[Number]) -> dict[str, dict[str, Number]]:
  """{label: {task: number}} in the order of the table of numbers."""
  methods: dict[str, dict[str, Number]] = {}
  for n in numbers:
    methods.setdefault(_label(n, statistic=True), {})[n.task] = n
  return methods


def rivals(experiment: Experiment, numbers: Sequence[Number]) -> list[Number]:
  """What was published for this budget about tasks measured here."""
  tasks = {env_names.task(e) for e in experiment.environments}
  datasets = {setting.dataset for setting in experiment.settings}
  found = [
    n
    for dataset in sorted(datasets)
    for n in published.at_budget(numbers, experiment.budget, dataset)
  ]
  methods = {_label(n) for n in found if n.task in tasks}
  return [n for n in found if _label(n) in methods]


# Tables.


def overview(experiment: Experiment, numbers: Sequence[Number]) -> str:
  """Medians per setting and environment, published ones below."""
  found = published.medians(rivals(experiment, numbers))
  environments = experiment.environments
  measured = {env_names.task(e) for e in environments}
  tasks = [env_names.task(e) for e in environments]
  missing = dict.fromkeys(n.task for n in found if n.task not in measured)
  rows = []
  for setting in experiment.settings:
    for action in ACTIONS:
      cells = []
      for environment in environments:
        finals = experiment.finals(setting, environment, action)
        cells.append(counted_median_cell(finals))
      cells += [NOTHING] * len(missing)
      rows.append([setting.markdown, action, *cells])
  for label, by_task in _by_method(found).items():
    cells = [as_printed(by_task.get(t)) for t in (*tasks, *missing)]
    rows.append([label, NOTHING, *cells])
  text = table(['', 'action', *environments, *missing], rows)
  return '\n'.join([text, *_notes(found)])


def _notes(numbers: Sequence[Number]) -> list[str]:
  """A line for all algorithms of a place that have the same note."""
  algorithms: dict[tuple[str, str], dict[str, None]] = {}
  for n in numbers:
    if n.note:
      same = algorithms.setdefault((_place(n), n.note), {})
      same[f'*{n.algorithm}*'] = None
  return [
    f'{", ".join(names)}, {place}: {note}.\n'
    for (place, note), names in algorithms.items()
  ]


_SCORE_HEADER = (
  '',
  'interactions',
  'seeds',
  'episodes',
  'mode: median ± ½ IQR',
  'mean',
  'IQM [95 %]',
  'sampled: median ± ½ IQR',
  'mean',
  'IQM [95 %]',
)


def environment_table(
  experiment: Experiment, environment: str, numbers: Sequence[Number]
) -> str:
  """All statistics of one environment.

  Below them the published scores of the algorithms that were run; the overview
  has the others.
  """
  rows = []
  for setting in experiment.settings:
    runs = experiment.of(setting, environment)
    if not runs:
      continue
    cells = [
      setting.markdown,
      _range(run.final.interactions for run in runs),
      str(len(runs)),
      _range(run.final.episodes for run in runs),
    ]
    for action in ACTIONS:
      finals = experiment.finals(setting, environment, action)
      cells += [median_cell(finals), _mean_cell(finals), _iqm_cell(finals)]
    rows.append(cells)
  rows += map(_published_row, same_algorithms(experiment, numbers, environment))
  return table(_SCORE_HEADER, rows)


def same_algorithms(
  experiment: Experiment, numbers: Sequence[Number], environment: str
) -> list[Number]:
  """Published scores of the algorithms that were run here."""
  run_here = {setting.algorithm for setting in experiment.settings}
  return [
    n
    for n in rivals(experiment, numbers)
    if n.task == env_names.task(environment) and n.algorithm in run_here
  ]


def _published_row(n: Number) -> list[str]:
  median = as_printed(n) if n.statistic == 'median' else NOTHING
  mean = as_printed(n) if n.statistic != 'median' else NOTHING
  unstated = '' if n.statistic else ', statistic not stated'
  return [
    f'{_label(n)}{unstated}',
    str(n.interactions),
    n.seeds or NOTHING,
    NOTHING,
    median,
    mean,
    *[NOTHING] * 4,
  ]


def _range(values: Iterable[int]) -> str:
  """'10', or '5-10' where runs differ."""
  found = sorted(set(values))
  return f'{found[0]}-{found[-1]}' if len(found) > 1 else str(found[0])


def normalised_table(
  experiment: Experiment,
  tasks: Sequence[str],
  numbers: Sequence[Number],
  complete: bool,
) -> str:
  """Scores of several tasks as one, on the scale of `published.scales`.

  Args:
    experiment: its final scores.
    tasks: those that count.
    numbers: published ones; the scale comes from them.
    complete: whether a setting must have all tasks.

  Returns:
    A table with stratified bootstrap intervals; '' if no row would hold a
    measured number.
  """
  scale = published.scales(numbers)
  rows = []
  for setting in experiment.settings:
    for action in ACTIONS:
      strata = _strata(experiment, setting, action, tasks, scale)
      if strata and (len(strata) == len(tasks) or not complete):
        name = [setting.markdown, action, str(len(strata))]
        rows.append([*name, *_aggregates(strata)])
  if not rows:
    return ''
  for label, by_task in _by_method(rivals(experiment, numbers)).items():
    if all(task in by_task for task in tasks):
      rows.append(_published_aggregate(label, tasks, by_task, scale))
  header = ['', 'action', 'tasks', 'of medians', 'of means', 'IQM of runs']
  return table(header, rows)


def _strata(experiment, setting, action, tasks, scale) -> list[list[float]]:
  """Normalised final scores, one list per task that has any.

  None at all where a task was run in two versions: that makes two indexes.
  """
  strata: dict[str, list[float]] = {}
  for environment in experiment.environments:
    task = env_names.task(environment)
    finals = experiment.finals(setting, environment, action)
    if task in strata and finals:
      return []
    if task in tasks and finals:
      to_scale = functools.partial(published.normalised, scale=scale[task])
      strata[task] = [to_scale(score) for score in finals]
  return list(strata.values())


def _aggregates(strata: Sequence[Sequence[float]]) -> list[str]:
  statistics: tuple[Callable, ...] = (
    scores.mean_of_medians,
    scores.mean_of_means,
    scores.pooled_iqm,
  )
  return [
    _with_interval(float(f(strata)), scores.bootstrap(strata, f))
    for f in statistics
  ]


def _published_aggregate(label, tasks, by_task, scale) -> list[str]:
  """The mean over tasks, in the column of the statistic it is made of."""
  values = [published.normalised(by_task[t].score, scale[t]) for t in tasks]
  cell = number(scores.mean(values))
  of_medians = by_task[tasks[0]].statistic == 'median'
  cells = [cell, NOTHING] if of_medians else [NOTHING, cell]
  return [label, NOTHING, str(len(tasks)), *cells, NOTHING]
