"""The sections of the README that a report rewrites."""

import re
from collections.abc import Mapping, Sequence

from qwr_tf.config.errors import ConfigError
from qwr_tf.reporting import factor_tables
from qwr_tf.reporting import report_tables
from qwr_tf.reporting.published import Number
from qwr_tf.reporting.report_data import Experiment

BEGIN, END = '<!-- results:begin -->', '<!-- results:end -->'

# Names the experiments that stand side by side.
_FACTORS_BEGIN = re.compile(r'<!-- factors:begin (.*?) ?-->')
_FACTORS_END = '<!-- factors:end -->'

_OVERVIEW = (
  'Final scores, median ± half the interquartile range (number of seeds), with '
  "the policy's mode and with samples. Names in *italics*: others' numbers for "
  'the same number of interactions, medians where they are known; each row '
  'names its statistic. "–" was not measured.'
)


def rewritten(
  text: str,
  experiments: Sequence[Experiment],
  numbers: Sequence[Number],
  figures: Mapping[str, Sequence[tuple[str, str]]],
  folder: str,
) -> str:
  """The README with its marked sections replaced.

  Args:
    text: the README. What is between `BEGIN` and `END` becomes the overview;
      between <!-- factors:begin ablation, another --> and its end, if there
      is such a section, stand the factors of these experiments.
    experiments: what was measured.
    numbers: what was published. Experiments without a published rival, and
      those not named after a preset (ablations), are left to the long report.
    figures: per experiment (title, file name in the folder).
    folder: of the long report, seen from the README.

  Raises:
    ConfigError: if it is not marked so, or names what was not measured.
  """
  overview = _overview(experiments, numbers, figures, folder)
  text = _replace_section(text, BEGIN, END, overview)
  if '<!-- factors:' not in text:
    return text
  begin = _FACTORS_BEGIN.search(text)
  if not begin:
    raise ConfigError(
      f'the README has {_FACTORS_END} without '
      '<!-- factors:begin <experiment>, … -->.'
    )
  factors = factor_tables.side_by_side(
    [_centred(name.strip(), experiments) for name in begin[1].split(',')]
  )
  return _replace_section(text, begin[0], _FACTORS_END, factors)


def _overview(experiments, numbers, figures, folder) -> str:
  parts = []
  for experiment in experiments:
    if experiment.of_a_preset and report_tables.rivals(experiment, numbers):
      parts += [
        f'**{experiment.name}**, {experiment.budget} interactions\n',
        report_tables.overview(experiment, numbers),
      ]
      for title, file in figures[experiment.name][:1]:
        parts.append(f'![{title}]({folder}/{file})\n')
  if parts:
    parts.insert(0, f'{_OVERVIEW}\n')
  parts.append(
    f'Raw rows, all statistics and figures: [{folder}]({folder}/README.md).\n'
  )
  return '\n'.join(parts)


def _centred(name: str, experiments: Sequence[Experiment]) -> Experiment:
  """The experiment of this name, which has a centre."""
  for experiment in experiments:
    if experiment.name == name:
      if experiment.centre:
        return experiment
      raise ConfigError(
        f'the README wants the factors of {name!r}, which has no centre: '
        'settings that all vary one.'
      )
  raise ConfigError(
    f'the README wants the factors of {name!r}, which is not among the rows.'
  )


def _replace_section(text: str, begin: str, end: str, section: str) -> str:
  if text.count(begin) != 1 or text.count(end) != 1:
    raise ConfigError(f'the README needs {begin} and {end}, once each.')
  head, _, rest = text.partition(begin)
  if end not in rest:
    raise ConfigError(f'the README has {end} before {begin}.')
  return f'{head}{begin}\n{section}{end}{rest.partition(end)[2]}'
