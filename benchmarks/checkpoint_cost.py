"""Seconds that a checkpoint stops training.

    python -m benchmarks.checkpoint_cost [--presets=mujoco_100k,atari_100k]

Fills a preset's table (50K interactions) with rows and saves: all of it, then
what 1000 interactions and 10,000 add, then nothing new. Adds rows to
results/benchmarks/checkpoint_cost.csv. Exit code 1 if a save but the first one,
which no run makes at once, takes 2 s or more: training stops that long, by
default every 120 s.
"""

from qwr_tf.config import startup  # noqa: F401, before TensorFlow.

# isort: split
import pathlib
import sys
import tempfile
import time

import numpy as np
import tensorflow as tf
from absl import app
from absl import flags

from benchmarks import raw_rows
from qwr_tf import replay
from qwr_tf.config import gin_files
from qwr_tf.runs import checkpoints
from qwr_tf.runs import provenance
from qwr_tf.training import experiment
from qwr_tf.training import metrics

_PRESETS = flags.DEFINE_list(
  'presets', ['mujoco_100k', 'atari_100k'], 'Gin files without their ending.'
)
_FOLDER = flags.DEFINE_string(
  'folder', None, 'Where checkpoints go; default the temporary directory.'
)

_PIECE = 500
_LIMIT_SECONDS = 2.0


def append_rows(table, count: int, rng: np.random.Generator) -> None:
  """Adds rows of random numbers, one long episode."""
  for _ in range(count // _PIECE):
    rows = tf.nest.map_structure(
      lambda s: tf.constant(
        rng.integers(0, 255, [_PIECE, *s.shape]), tf.as_dtype(s.dtype)
      ),
      table.data_spec,
    )
    middle = tf.ones([_PIECE], tf.int32)
    table.append(rows._replace(step_type=middle, next_step_type=middle))


def checkpointed(folder: str, preset: str):
  """(parts, checkpoints) of a run."""
  gin_files.parse([f'{preset}.gin'], ['run.eval_environments=1'])
  settings = experiment.settings()
  parts = experiment.build(settings, 0)
  recorder = metrics.Recorder(settings.log_every_env_steps, parts.agent)
  saver = checkpoints.Checkpoints(
    pathlib.Path(folder),
    {'agent': parts.agent},
    replay.TableFiles(parts.table),
    {'collector': parts.collector, 'recorder': recorder},
  )
  return parts, saver


def measure_time(preset: str) -> list[dict]:
  """Prints a line per checkpoint; returns the rows."""
  measurements = []
  rng = np.random.default_rng(0)
  with tempfile.TemporaryDirectory(dir=_FOLDER.value) as folder:
    parts, saver = checkpointed(folder, preset)
    number = 0
    for added in (50_000, 1000, 1000, 10_000, 10_000, 0):
      append_rows(parts.table, added, rng)
      number += 1
      start = time.perf_counter()
      saver.save(number)
      seconds = time.perf_counter() - start
      newest = max(pathlib.Path(folder).iterdir())
      sizes = [f.stat() for f in newest.iterdir()]
      new = sum(s.st_size for s in sizes if s.st_nlink == 1)
      row = {
        'preset': preset,
        'rows_added': added,
        'seconds': round(seconds, 3),
        'megabytes_written': round(new / 2**20, 1),
        'megabytes': round(sum(s.st_size for s in sizes) / 2**20, 1),
        **provenance.facts(),
      }
      print(*list(row.items())[:5], flush=True)
      measurements.append(row)
    start = time.perf_counter()
    saver.restore()
    print(f'{preset} restored in {time.perf_counter() - start:.2f} s')
  return measurements


def main(_):
  """Prints a line per checkpoint and adds the rows."""
  slow = False
  for preset in _PRESETS.value:
    rows = measure_time(preset)
    raw_rows.add(raw_rows.path_of('checkpoint_cost'), rows)
    slow |= any(row['seconds'] >= _LIMIT_SECONDS for row in rows[1:])
  sys.exit(int(slow))


if __name__ == '__main__':
  app.run(main)
