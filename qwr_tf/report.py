"""Makes tables and figures from raw rows.

    python -m qwr_tf.report results/*.csv

A folder stands for its CSVs. Writes README.md and figures into --output, and
the marked sections of pages (--readme). Everything comes from the rows and the
table of published numbers; <experiment>.md beside a CSV, if there is one, is
quoted and says what was run, without scores. Exit codes: 0 done, 2 bad input, 1
anything else.
"""

from qwr_tf.config import startup  # noqa: F401, before TensorFlow.

# isort: split
import os
import pathlib
from collections.abc import Sequence

from absl import flags

from qwr_tf.config import command
from qwr_tf.config.errors import ConfigError

_OUTPUT = flags.DEFINE_string(
  'output', 'results', 'Folder of README.md and figures.'
)
_PAGES = flags.DEFINE_multi_string(
  'readme',
  None,
  'Page whose sections between results:begin, scores:begin or factors:begin '
  'and their ends are rewritten; default README.md and docs/**/*.md '
  'in this folder, as far as they have some, if --output is the default.',
)
_PUBLISHED = flags.DEFINE_string(
  'published',
  None,
  "CSV of published numbers; default the project's results/published.csv.",
)
command.answer_help(__name__)

# isort: split
from qwr_tf.reporting import published
from qwr_tf.reporting import report_data
from qwr_tf.reporting import report_figures
from qwr_tf.reporting import report_text
from qwr_tf.runs.atomic_files import write_atomically


def write(
  paths: Sequence[pathlib.Path],
  output: pathlib.Path,
  pages: Sequence[pathlib.Path] = (),
  published_path: pathlib.Path | None = None,
) -> list[pathlib.Path]:
  """Writes the report.

  Args:
    paths: CSVs of raw results; others, which may lie beside them, are left
      out.
    output: folder of README.md and figures.
    pages: whose marked sections are rewritten.
    published_path: the papers' numbers; None for none.

  Returns:
    The files that were written.

  Raises:
    ConfigError: for a file that cannot be used; then nothing was written.
  """
  raw = [path for path in paths if report_data.is_raw(path)]
  numbers = published.load(published_path) if published_path else []
  experiments = report_data.load(raw, numbers)
  if not experiments:
    raise ConfigError('there are no raw rows; run qwr_tf.sweep first.')
  beside = {path.stem: path.with_suffix('.md') for path in raw}
  notes = {n: _text(path) for n, path in beside.items() if path.exists()}
  whole = output / 'README.md'
  if whole.exists() and not report_text.is_report(_text(whole)):
    raise ConfigError(
      f'{whole} is no report, and would be replaced; choose another --output.'
    )
  texts = {whole: report_text.report(experiments, notes)}
  for page in pages:
    folder = os.path.relpath(output, page.parent)
    texts[page] = report_text.rewritten_page(_text(page), experiments, folder)
  output.mkdir(parents=True, exist_ok=True)
  for path, text in texts.items():
    write_atomically(path, text)
  pictures = (report_figures.write(e, output) for e in experiments)
  return [*texts, *sum(pictures, [])]


def _text(path: pathlib.Path) -> str:
  try:
    return path.read_text('utf-8')
  except (OSError, UnicodeDecodeError) as error:
    raise ConfigError(f'{path} cannot be read: {error}') from error


def main(arguments: Sequence[str]) -> None:
  """One report from flags to files."""
  if not arguments:
    raise ConfigError('name the CSVs, for instance results/*.csv.')
  paths = []
  for path in map(pathlib.Path, arguments):
    paths += sorted(path.glob('*.csv')) if path.is_dir() else [path]
  output = pathlib.Path(_OUTPUT.value)
  _refuse_a_part(paths, output)
  pages = [pathlib.Path(page) for page in _PAGES.value or ()]
  if not pages and _OUTPUT.value == _OUTPUT.default:
    there = sorted(pathlib.Path().glob('docs/**/*.md'))
    pages = [pathlib.Path('README.md'), *there]
    pages = [p for p in pages if p.exists() and report_text.is_marked(_text(p))]
  numbers = published.DEFAULT_PATH if published.DEFAULT_PATH.exists() else None
  if _PUBLISHED.value:
    numbers = pathlib.Path(_PUBLISHED.value)
  for path in write(paths, output, pages, numbers):
    print(os.path.normpath(path))


def _refuse_a_part(paths: Sequence[pathlib.Path], output: pathlib.Path) -> None:
  """Raises ConfigError if the old report has tables the new one would lack."""
  named = {path.resolve() for path in paths}
  others = sorted(p for p in output.glob('*.csv') if p.resolve() not in named)
  if left_out := [str(path) for path in others if report_data.is_raw(path)]:
    raise ConfigError(
      f'{output / "README.md"} would lose {", ".join(left_out)}; name all of '
      f'them ({output}), or write into another --output.'
    )


if __name__ == '__main__':
  command.run(main, takes_files=True)
