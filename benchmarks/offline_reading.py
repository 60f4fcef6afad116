"""Reading a data set of 1M transitions: seconds, memory, and steps after it.

    python -m benchmarks.offline_reading [--transitions=1000000]

Writes sets of HalfCheetah's shape in both layouts (D4RL's compressed, as its
files are), reads each in a process of its own, and times a training phase on
the full table beside one on a table of 50K. Adds rows to
results/benchmarks/offline_reading.csv.
"""

import pathlib
import resource
import statistics
import subprocess
import sys
import tempfile
import time

import h5py
import numpy as np
from absl import app
from absl import flags

from benchmarks import raw_rows
from qwr_tf import datasets
from qwr_tf.config import gin_files
from qwr_tf.config import startup  # noqa: F401, before TensorFlow.
from qwr_tf.runs import provenance
from qwr_tf.training import experiment

_TRANSITIONS = flags.DEFINE_integer('transitions', 1_000_000, 'Logged steps.')
_READ = flags.DEFINE_string('read', None, 'A data set to read; internal.')
_EPISODE = 1000
_STEPS = 1000  # Of a phase, for either network.
_TIMES = 5  # Phases that are timed.


def _steps(rng, count: int) -> dict[str, np.ndarray]:
  return {
    'observations': rng.normal(size=[count, 17]).astype(np.float32),
    'actions': rng.uniform(-1, 1, [count, 6]).astype(np.float32),
    'rewards': rng.normal(size=[count]).astype(np.float32),
  }


def write_flat(path: pathlib.Path, count: int) -> None:
  """D4RL's layout, gzip as there."""
  content = _steps(np.random.default_rng(0), count)
  content['terminals'] = np.zeros([count], bool)
  content['timeouts'] = np.arange(count) % _EPISODE == _EPISODE - 1
  with h5py.File(path, 'w') as file:
    for name, values in content.items():
      file.create_dataset(name, data=values, compression='gzip')


def write_groups(path: pathlib.Path, count: int) -> None:
  """Minari's layout."""
  rng = np.random.default_rng(0)

  def episodes():
    for _ in range(count // _EPISODE):
      steps = _steps(rng, _EPISODE)
      last = np.arange(_EPISODE) == _EPISODE - 1
      observations = np.concatenate(
        [steps['observations'], steps['observations'][:1]]
      )
      yield datasets.Episode(
        observations, steps['actions'], steps['rewards'], last & False, last, {}
      )

  datasets.write(path, episodes(), {'dataset_id': 'reading'})


def _peak_gib() -> float:
  return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def _seconds(iterations) -> float:
  start = time.perf_counter()
  next(iterations)
  return time.perf_counter() - start


def _read(path: str) -> None:
  """Builds a run on a data set, and times iterations."""
  gin_files.parse(
    ['offline_mujoco.gin'],
    [
      f"run.dataset = '{path}'",
      f'iterate.critic_steps = {_STEPS}',
      f'iterate.actor_steps = {_STEPS}',
    ],
  )
  before = _peak_gib()
  start = time.perf_counter()
  parts = experiment.build(experiment.settings(), seed=0)
  row: dict[str, object] = {
    'data_set': pathlib.Path(path).name,
    'transitions': parts.data.transitions,
    'seconds_to_read': f'{time.perf_counter() - start:.1f}',
    'gib_before': f'{before:.2f}',
    'peak_gib': f'{_peak_gib():.2f}',
  }
  next(parts.iterations)  # Compiles.
  row['steps_of_either_network'] = _STEPS
  seconds = statistics.median(_seconds(parts.iterations) for _ in range(_TIMES))
  row['median_seconds_of_steps'] = f'{seconds:.2f}'
  print(row, flush=True)
  raw_rows.add(
    raw_rows.path_of('offline_reading'), [{**row, **provenance.facts()}]
  )


def main(_):
  """Prints the rows and adds them to the file."""
  if _READ.value:
    _read(_READ.value)
    return
  count = _TRANSITIONS.value
  with tempfile.TemporaryDirectory() as folder:
    cases = (
      ('small.hdf5', write_flat, min(count, 50_000)),
      ('flat.hdf5', write_flat, count),
      ('groups', write_groups, count),
    )
    for name, write, number in cases:
      path = pathlib.Path(folder, name)
      write(path, number)
      subprocess.run(
        [sys.executable, '-m', 'benchmarks.offline_reading', f'--read={path}'],
        check=True,
      )


if __name__ == '__main__':
  app.run(main)
