"""Exports of trained policies: parity, size, time to write and to answer.

    python -m benchmarks.exports runs/<run> runs/<other run> ...

Exports the final policy of every run to each format, compares the actions with
the checkpoint's on 1000 states that the policy visits, and adds rows to
results/benchmarks/exports.csv. The bars are those of export/check_policy.py.
"""

from qwr_tf.config import startup  # noqa: F401, before TensorFlow.

# isort: split
import pathlib
import sys
import tempfile
import time
from typing import Any

import numpy as np
import tensorflow as tf

from benchmarks import raw_rows
from qwr_tf import serving
from qwr_tf.runs import provenance
from qwr_tf.runs import run_json
from qwr_tf.serving import checks
from qwr_tf.serving import conversions
from qwr_tf.training import experiment

_RESULTS = raw_rows.path_of('exports')
_STATES = 1000
_COLUMNS = (
  'preset',
  'environment',
  'interactions',
  'model',
  'seconds_to_export',
  'megabytes',
  'largest_difference',
  'mean_difference_of_range',
  'same_action',
  'milliseconds',
  'of_bare_network',
  'commit',
)


def _megabytes(paths) -> float:
  return sum(p.stat().st_size for p in paths if p.is_file()) / 1e6


def _export(root_dir, folder, kind) -> tuple[pathlib.Path, float]:
  start = time.perf_counter()
  version = serving.export_run(root_dir, folder / kind, kind)
  return version, time.perf_counter() - start


def _compared(act, agent, space, observations) -> dict[str, Any]:
  """Cells that compare actions, and the time of one."""
  expected = checks.actions(agent, space, observations)
  apart = checks.difference(expected, act(observations))
  one = observations[:1]
  cells = {
    'largest_difference': apart.largest,
    'milliseconds': 1e3 * checks.latency(lambda: act(one), 2.0),
  }
  if np.issubdtype(expected.dtype, np.integer):
    return cells | {'same_action': apart.agreement}
  share = checks.relative_to_range(apart.mean, space)
  return cells | {'mean_difference_of_range': share}


def _saved_model_row(version, agent, space, observations) -> dict[str, Any]:
  loaded = tf.saved_model.load(str(version)).signatures
  serve, network = loaded['serving_default'], checks.bare_network(agent)
  one = tf.constant(observations[:1])
  # In turns, as the machine's speed drifts.
  pairs = [
    (
      checks.latency(lambda: serve(observation=one), 0.5),
      checks.latency(lambda: network(one), 0.5),
    )
    for _ in range(5)
  ]
  outputs = checks.signature_outputs(agent, space, loaded, observations)
  cells = _compared(
    lambda batch: serve(observation=tf.constant(batch))['action'].numpy(),
    agent,
    space,
    observations,
  )
  return cells | {
    'model': 'saved_model',
    'largest_difference': max(
      checks.difference(*pair).largest for _, *pair in outputs
    ),
    'of_bare_network': float(np.median([a / b for a, b in pairs])),
    'megabytes': _megabytes(version.rglob('*')),
  }


def _rows(root_dir: pathlib.Path, folder: pathlib.Path):
  """Yields a row per model of a run."""
  facts = run_json.required(root_dir)
  for kind in ('saved_model', 'tflite', 'onnx'):
    version, seconds = _export(root_dir, folder, kind)
    agent = serving.load_agent(root_dir, facts, float32=kind != 'saved_model')
    with experiment.load_environment(facts['environment']) as env:
      space = env.env.action_space
    observations = checks.visited_observations(
      agent, facts['environment'], _STATES, seed=0
    )
    common = {'seconds_to_export': seconds} | {
      name: facts.get(name) for name in _COLUMNS[:3]
    }
    if kind == 'saved_model':
      yield common | _saved_model_row(version, agent, space, observations)
      continue
    loaders = {
      '.tflite': conversions.load_tflite,
      '.onnx': conversions.load_onnx,
    }
    for path in sorted(version.glob('policy*')):
      act = loaders[path.suffix](path)
      yield (
        common
        | _compared(act, agent, space, observations)
        | {
          'model': path.name,
          'megabytes': _megabytes([path]),
        }
      )


def main(root_dirs: list[str]) -> None:
  """Prints the rows and adds them to the file."""
  if not root_dirs:
    print('give the folders of finished runs', file=sys.stderr)
    sys.exit(2)
  for root_dir in root_dirs:
    with tempfile.TemporaryDirectory() as folder:
      for row in _rows(pathlib.Path(root_dir), pathlib.Path(folder)):
        row['commit'] = provenance.commit()
        cells = {
          k: f'{row[k]:.3g}' if isinstance(row[k], float) else row[k]
          for k in _COLUMNS
          if k in row
        }
        print(', '.join(f'{k} {v}' for k, v in cells.items()), flush=True)
        raw_rows.add(_RESULTS, [cells])


if __name__ == '__main__':
  main(sys.argv[1:])
