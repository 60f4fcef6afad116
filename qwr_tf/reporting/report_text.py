"""The text of results/README.md, and of marked sections of other pages."""

import pathlib
import re
from collections.abc import Callable, Mapping, Sequence

from qwr_tf.config.errors import ConfigError
from qwr_tf.reporting import published
from qwr_tf.reporting import report_figures
from qwr_tf.reporting import report_tables
from qwr_tf.reporting import results
from qwr_tf.reporting.report_data import Experiment

BEGIN, END = '<!-- results:begin -->', '<!-- results:end -->'

_HEAD = """# Results

Written by `qwr_tf report` from raw rows, the CSV that each section names;
changes by hand are lost.

* A score is the mean return of a run's final evaluation: the policy after the
  last interaction, never the best one on the way. *mode* acts with the mode
  of the policy, *sampled* with samples.
* **median ± ½ IQR** over seeds, as in the QWR paper: half the distance between
  the quartiles. **IQM** is the mean of the middle half of the runs
  (of fewer than four runs: the mean), over several environments of all their
  runs together. In brackets a 95 % interval of the bootstrap, stratified by
  environment; with few seeds it is too narrow.
* Versions are part of an environment's name. MuJoCo scores of the QWR paper are
  of gym's v2; v4 is the closest that runs today.
* Rows named *data* are no runs: the mean return of a data set's own episodes.
* "–" was not measured, or not published.
* Quoted lines below a heading say what was run where names do not. They are
  written by hand (`<experiment>.md`); all numbers of scores come from rows.
"""

_ABOUT_FACTORS = """\
The centre, and settings that differ from it in what the first
column says: final scores, median ± half the interquartile range (number of
seeds), and the difference to the centre's median. In brackets a 95 % interval
of the bootstrap, which draws the runs of both again; of two and two seeds it is
the range between the extremes. A difference without brackets is that of a
single run, and may be the seed's alone. P(better) is the probability of
improvement: the share of pairs, one run of the setting and one of the centre,
in which the setting's is higher.
"""

_ABOUT_OVERVIEW = (
  'Final scores, median ± half the interquartile range (number of seeds), with '
  "the policy's mode and with samples. Names in *italics*: others' numbers for "
  'the same number of interactions, medians where they are known; each row '
  'names its statistic. "–" was not measured.'
)


def report(experiments: Sequence[Experiment], notes: Mapping[str, str]) -> str:
  """The whole of results/README.md.

  Args:
    experiments: what was measured, and published.
    notes: per experiment what was run, where its settings do not say it.
  """
  parts = [_HEAD]
  for experiment in experiments:
    lines = notes.get(experiment.name, '').strip().splitlines()
    quoted = ''.join(f'> {line}'.rstrip() + '\n' for line in lines)
    parts += [
      f'## {experiment.name}\n',
      *[quoted] * bool(lines),
      _provenance(experiment),
      *_main_tables(experiment),
      *(f'![{t}]({f})\n' for t, f, _ in report_figures.pictures(experiment)),
      *_normalised(experiment),
    ]
    for environment in experiment.environments:
      parts.append(f'### {environment}\n')
      parts.append(report_tables.environment_table(experiment, environment))
  return '\n'.join(parts)


def _main_tables(experiment: Experiment) -> list[str]:
  centre = experiment.centre
  if not centre:
    return [report_tables.overview(experiment)]
  parts = [_ABOUT_FACTORS]
  for action, title in (('mode', 'Mode action'), ('sampled', 'Sampled')):
    table = report_tables.factors(experiment, centre, action)
    parts += [f'**{title}**\n', table]
  return parts


def _provenance(experiment: Experiment) -> str:
  """Runs, versions, commits and minutes."""
  runs = experiment.runs
  plural = '' if len(runs) == 1 else 's'
  parts = [f'{len(runs)} run{plural} (`{experiment.name}.csv`)']
  for column, name in results.VERSION_NAMES.items():
    if versions := sorted(set(runs[column]) - {''}):
      parts.append(f'{name} {", ".join(versions)}')
  commits = runs.commit.replace('', 'unknown').value_counts().sort_index()
  parts.append('commit ' + ', '.join(f'{c} ({n})' for c, n in commits.items()))
  minutes = runs.wall_seconds.dropna() / 60
  if len(minutes):
    threads = ', '.join(sorted(set(runs.threads.replace('', 'unknown'))))
    parts.append(
      f'{minutes.median():.1f} minutes a run in the median (threads: {threads})'
    )
  return f'{"; ".join(parts)}.\n'


def _normalised(experiment: Experiment) -> list[str]:
  """The index of the MuJoCo tasks and the human-normalised Atari scores."""
  games = published.games(experiment.numbers)
  tasks, index = experiment.tasks, set(published.INDEX_TASKS)
  parts = []
  if index & set(tasks) and (experiment.of_a_preset or index <= set(tasks)):
    parts.append(_index(experiment))
  if played := [task for task in tasks if task in games]:
    table = report_tables.normalised_table(experiment, played, complete=False)
    parts.append(
      '### Human-normalised\n\n'
      'Mean over games of (score - random) / (human - random), over '
      f'{len(set(played))} of {len(games)} games.\n\n{table}'
    )
  return parts


def _index(experiment: Experiment) -> str:
  tasks = published.INDEX_TASKS
  reason, table = 'no published scores of SAC', ''
  if set(tasks) <= set(published.scales(experiment.numbers)):
    reason = 'no setting has runs of all four tasks yet'
    table = report_tables.normalised_table(experiment, tasks, complete=True)
  table = table or f'{report_tables.NOTHING} ({reason})\n'
  return (
    f'### Index\n\nMean over {", ".join(tasks)} of the score divided by the '
    f'mean of SAC after 1M interactions.\n\n{table}'
  )


def is_report(text: str) -> bool:
  """True for a page that `report` made, of any version."""
  head = r'# Results\n\nWritten by `(python -m )?qwr_tf.report\b'
  return re.match(head, text) is not None


# Pages with marked sections.


def rewritten_page(
  text: str, experiments: Sequence[Experiment], folder: str
) -> str:
  """A page with its marked sections replaced.

  Args:
    text: the page. Between `BEGIN` and `END` comes the overview, between
      <!-- scores:begin experiment --> and its end the first setting of an
      experiment beside published scores (of some algorithms alone:
      <!-- scores:begin experiment: SAC, REDQ -->), and between
      <!-- factors:begin ablation, another --> and its end the factors of
      these experiments.
    experiments: what was measured. Experiments without a published rival, and
      those not named after a preset (ablations), are left out of the overview.
    folder: of the long report, seen from the page.

  Raises:
    ConfigError: if it has no such section or half of one, or names what was
      not measured.
  """
  if not is_marked(text):
    raise ConfigError(
      f'the page has no section to write: {BEGIN} and then {END}, for instance.'
    )
  if BEGIN in text or END in text:
    overview = _overview(experiments, folder)
    text = _replace_section(text, BEGIN, END, overview)
  by_name = {e.name: e for e in experiments}
  centred = {e.name: e for e in experiments if e.centre}
  for kind, named, table_fn in (
    ('scores', by_name, lambda e, chosen: report_tables.summary(e[0], chosen)),
    ('factors', centred, lambda e, _: report_tables.factors_side_by_side(e)),
  ):
    text = _named_section(text, kind, named, table_fn)
  return text


def is_marked(text: str) -> bool:
  """True if a page has a section that `rewritten_page` writes."""
  return any(f'<!-- {k}:' in text for k in ('results', 'scores', 'factors'))


def _named_section(
  text: str,
  kind: str,
  experiments: Mapping[str, Experiment],
  table_fn: Callable[[Sequence[Experiment], list[str]], str],
) -> str:
  """The page with the section of a kind, which names its experiments."""
  if f'<!-- {kind}:' not in text:
    return text
  begin = re.search(rf'<!-- {kind}:begin (.*?) ?-->', text)
  end = f'<!-- {kind}:end -->'
  if not begin:
    raise ConfigError(
      f'the page has {end} without <!-- {kind}:begin <experiment>, … -->.'
    )
  before, _, after = begin[1].partition(':')
  names = [name.strip() for name in before.split(',')]
  for name in names:
    if name not in experiments:
      needs = ' or has no centre: settings that all vary one'
      raise ConfigError(
        f'the page wants the {kind} of {name!r}, which is not among the rows'
        f'{needs if kind == "factors" else ""}.'
      )
  table = table_fn(
    [experiments[name] for name in names], after.replace(',', ' ').split()
  )
  return _replace_section(text, begin[0], end, table)


def _overview(experiments: Sequence[Experiment], folder: str) -> str:
  parts = []
  for experiment in experiments:
    if experiment.of_a_preset and experiment.rivals:
      title, file, _ = report_figures.pictures(experiment)[0]
      parts += [
        f'**{experiment.name}**, {experiment.budget} interactions\n',
        report_tables.overview(experiment),
        f'![{title}]({folder}/{file})\n',
      ]
  if parts:
    parts.insert(0, f'{_ABOUT_OVERVIEW}\n')
  name = pathlib.PurePath(folder).name
  parts.append(
    f'Raw rows, all statistics and figures: [{name}]({folder}/README.md).\n'
  )
  return '\n'.join(parts)


def _replace_section(text: str, begin: str, end: str, section: str) -> str:
  head, _, rest = text.partition(begin)
  if text.count(begin) != 1 or text.count(end) != 1 or end not in rest:
    raise ConfigError(f'the page needs {begin} and then {end}, once each.')
  return f'{head}{begin}\n{section}{end}{rest.partition(end)[2]}'
