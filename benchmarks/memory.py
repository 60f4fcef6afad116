"""Memory of a process over a whole run.

    python -m benchmarks.memory --gin_file=mujoco_100k.gin

takes the flags of `qwr_tf.train`. Runs it in a temporary folder, with a
checkpoint after each iteration, and prints the resident memory every ten
iterations once the table is full. Adds a row to results/benchmarks/memory.csv.
Exit code 1 if it grows by 50 MB or more from there to the end.
"""

from qwr_tf.config import startup  # noqa: F401, before TensorFlow.

# isort: split
import os
import pathlib
import sys
import tempfile

from benchmarks import raw_rows
from qwr_tf import serving
from qwr_tf.config import command
from qwr_tf.config.errors import ConfigError
from qwr_tf.runs import provenance
from qwr_tf.training import training_command
from qwr_tf.training import training_run

_LIMIT_MB = 50.0


def resident_mb() -> float:
  """Memory of this process in RAM, but for what is mapped from files."""
  pages = pathlib.Path('/proc/self/statm').read_text().split()
  resident, shared = int(pages[1]), int(pages[2])
  return (resident - shared) * os.sysconf('SC_PAGE_SIZE') / 2**20


class _Watch:
  """Measures after every iteration that has filled the table."""

  def __init__(self):
    self.measured: list[float] = []

  def __call__(self, phase: str, run: training_run.Run) -> None:
    """The hook of a run with a checkpoint after each iteration."""
    table = run.parts.table
    if phase != 'checkpoint' or int(table.num_frames()) < table.capacity:
      return
    self.measured.append(resident_mb())
    if len(self.measured) % 10 == 1:
      print(
        f'{run.interactions:8} interactions: {self.measured[-1]:7.1f} MB',
        flush=True,
      )


def main() -> None:
  """Trains and prints."""
  watch = _Watch()
  config = training_command.configuration()
  training_command.run(config, serving.export, hook=watch)
  if not watch.measured:
    raise ConfigError('the table never filled up; raise run.interactions.')
  first, last = watch.measured[0], watch.measured[-1]
  growth = last - first
  row = {
    'preset': pathlib.Path(command.GIN_FILE.value[0]).stem,
    'bindings': '; '.join(command.GIN_BINDINGS.value),
    'iterations_with_full_table': len(watch.measured),
    'megabytes_first': round(first, 1),
    'megabytes_last': round(last, 1),
    **provenance.facts(),
  }
  raw_rows.add(raw_rows.path_of('memory'), [row])
  print(f'growth  {growth:+.1f} MB, at most {_LIMIT_MB:.0f}')
  sys.exit(int(growth >= _LIMIT_MB))


if __name__ == '__main__':
  with tempfile.TemporaryDirectory() as folder:
    sys.argv += [
      f'--root_dir={folder}/run',
      '--gin_bindings=run.checkpoint_every_seconds=0',
    ]
    command.run(main)
