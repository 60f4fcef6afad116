"""Flags of `qwr_tf.sweep` and of the benchmarks that run a grid."""

import sys
from collections.abc import Sequence

from absl import flags

from qwr_tf.config.errors import ConfigError
from qwr_tf.sweeping import grid

SEEDS = flags.DEFINE_string('seeds', None, 'Such as 0-4 or 0,2,5-7.')
RESULTS = flags.DEFINE_string(
  'results', None, 'CSV of raw results; default below results/.'
)
RUNS_DIR = flags.DEFINE_string('runs_dir', 'runs', "The runs' folders.")
_PROCESSES = flags.DEFINE_integer(
  'processes', None, 'Runs at a time; default one per core.'
)


def process_count() -> int:
  """Runs at a time; raises ConfigError for less than one."""
  count = _PROCESSES.value
  if count is None:
    return len(grid.cores())
  if count < 1:
    raise ConfigError(f'--processes={count} must be 1 or more.')
  return count


def tell_failed(failed: Sequence[str]) -> None:
  """Prints the failed runs; exits with 1 where there are any."""
  if failed:
    print(f'{len(failed)} failed:', *failed, sep='\n  ', file=sys.stderr)
    sys.exit(1)
