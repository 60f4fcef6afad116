"""The text of results/README.md."""

import collections
from collections.abc import Mapping, Sequence

from qwr_tf.environments import env_names
from qwr_tf.reporting import factor_tables
from qwr_tf.reporting import published
from qwr_tf.reporting import report_tables
from qwr_tf.reporting import scores
from qwr_tf.reporting.published import Number
from qwr_tf.reporting.report_data import Experiment

_HEAD = """# Results

Written by `python -m qwr_tf.report results/*.csv` from the raw rows beside
this file; changes by hand are lost.

* A score is the mean return of a run's final evaluation: the policy after the
  last interaction, never the best one on the way. *mode* acts with the mode
  of the policy, *sampled* with samples.
* **median ± ½ IQR** over seeds is the paper's statistic, half the distance
  between the quartiles. **IQM** is the mean of the middle half of the runs
  (of fewer than four runs: the mean), over several environments of all their
  runs together. In brackets a 95 % interval of the bootstrap, stratified by
  environment; with few seeds it is too narrow.
* Versions are part of an environment's name. The paper's MuJoCo scores are of
  gym's v2; v4 is the closest that runs today.
* Rows named *data* are no runs: the mean return of a data set's own episodes.
* "–" was not measured, or not published.
* Quoted lines below a heading say what was run where names do not. They are
  written by hand (`<experiment>.md`); all numbers of scores come from rows.
"""

_VERSION_NAMES = {
  'python': 'Python',
  'tensorflow': 'TensorFlow',
  'tf_agents': 'TF-Agents',
  'gymnasium': 'gymnasium',
  'mujoco': 'MuJoCo',
  'ale_py': 'ale-py',
}


def report(
  experiments: Sequence[Experiment],
  numbers: Sequence[Number],
  figures: Mapping[str, Sequence[tuple[str, str]]],
  notes: Mapping[str, str] | None = None,
) -> str:
  """The whole of results/README.md.

  Args:
    experiments: what was measured.
    numbers: what was published.
    figures: per experiment (title, file name beside the text).
    notes: per experiment what was run, where its settings do not say it.
  """
  parts = [_HEAD]
  for experiment in experiments:
    parts += [
      f'## {experiment.name}\n',
      *_note((notes or {}).get(experiment.name, '')),
      _provenance(experiment),
      _main_tables(experiment, numbers),
      *(f'![{title}]({file})\n' for title, file in figures[experiment.name]),
      *_normalised(experiment, numbers),
    ]
    for environment in experiment.environments:
      parts.append(f'### {environment}\n')
      parts.append(
        report_tables.environment_table(experiment, environment, numbers)
      )
  return '\n'.join(parts)


def _note(text: str) -> list[str]:
  lines = text.strip().splitlines()
  return [''.join(f'> {line}'.rstrip() + '\n' for line in lines)] * bool(lines)


def _main_tables(experiment: Experiment, numbers: Sequence[Number]) -> str:
  if centre := experiment.centre:
    return factor_tables.factors(experiment, centre)
  return report_tables.overview(experiment, numbers)


def _provenance(experiment: Experiment) -> str:
  """Rows, versions and commits, from the rows alone."""
  runs = experiment.learning_runs
  plural = '' if len(runs) == 1 else 's'
  parts = [f'{len(runs)} run{plural} (`{experiment.name}.csv`)']
  for column, name in _VERSION_NAMES.items():
    found = sorted({r.facts[column] for r in runs} - {''})
    if found:
      parts.append(f'{name} {", ".join(found)}')
  commits = collections.Counter(r.facts['commit'] or 'unknown' for r in runs)
  parts.append(
    'commit ' + ', '.join(f'{c} ({n})' for c, n in sorted(commits.items()))
  )
  seconds = [r.final.wall_seconds for r in runs]
  measured = [s for s in seconds if s is not None]
  if measured:
    threads = sorted({r.facts['threads'] or 'unknown' for r in runs})
    parts.append(
      f'{scores.median(measured) / 60:.1f} minutes a run in the median '
      f'(threads: {", ".join(threads)})'
    )
  return f'{"; ".join(parts)}.\n'


def _normalised(experiment: Experiment, numbers: Sequence[Number]) -> list[str]:
  """The index of the MuJoCo tasks and the human-normalised Atari scores."""
  games = published.games(numbers)
  played = [env_names.task(e) for e in experiment.environments]
  parts = []
  if set(played) & set(published.INDEX_TASKS) and (
    experiment.of_a_preset or set(played) >= set(published.INDEX_TASKS)
  ):
    parts.append(_index(experiment, numbers))
  if set(played) & games:
    atari = report_tables.normalised_table(
      experiment, [t for t in played if t in games], numbers, complete=False
    )
    parts.append(
      '### Human-normalised\n\n'
      'Mean over games of (score - random) / (human - random), over '
      f'{len(set(played) & games)} of {len(games)} games.\n\n{atari}'
    )
  return parts


def _index(experiment: Experiment, numbers: Sequence[Number]) -> str:
  tasks = published.INDEX_TASKS
  text = (
    '### Index\n\n'
    f'Mean over {", ".join(tasks)} of the score divided by the mean of SAC '
    'after 1M interactions.\n\n'
  )
  known = published.scales(numbers)
  if not all(task in known for task in tasks):
    return f'{text}{report_tables.NOTHING} (no published scores of SAC)\n'
  index = report_tables.normalised_table(
    experiment, tasks, numbers, complete=True
  )
  return text + (
    index
    or f'{report_tables.NOTHING} (no setting has runs of all four tasks yet)\n'
  )
