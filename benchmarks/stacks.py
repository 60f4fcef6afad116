"""CPU time per gradient step on several installations, and their ratio.

    python -m benchmarks.stacks [--pythons=PYTHON,...] [--turns=3]

Each interpreter times critic and actor steps of a MuJoCo preset and of an Atari
preset (float32 and bfloat16), and the arithmetic floor of each, in processes of
one thread that take turns. CPU time does not count other programs on the
machine; medians over the turns. Ratios are to the first interpreter.
"""

from qwr_tf.config import startup  # noqa: F401, before TensorFlow.

# isort: split
import functools
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import tensorflow as tf
from absl import app
from absl import flags

from benchmarks import raw_rows
from qwr_tf.config import effective
from qwr_tf.config import gin_files
from qwr_tf.minibatches import minibatches
from qwr_tf.runs import provenance

_PYTHONS = flags.DEFINE_list(
  'pythons',
  ['.venv-reverb/bin/python', '.venv/bin/python'],
  'Interpreters with their installations.',
)
_TURNS = flags.DEFINE_integer('turns', 3, 'Processes of each interpreter.')
_ATARI_STEPS = flags.DEFINE_integer('atari_steps', 10, 'Steps of each kind.')
_STEPS = flags.DEFINE_integer('mujoco_steps', 200, 'Steps of each kind.')
_MEASURE = flags.DEFINE_enum(
  'measure', None, ['mujoco', 'atari'], 'Times one of them and prints JSON.'
)

_ONE_THREAD = {
  'OMP_NUM_THREADS': '1',
  'TF_NUM_INTRAOP_THREADS': '1',
  'TF_NUM_INTEROP_THREADS': '1',
}


def _mujoco() -> Iterator[tuple[str, float]]:
  from benchmarks import train_step  # Its flags have atari_step's names.

  train_step.CLOCK = time.process_time
  flags.FLAGS.steps = _STEPS.value
  gin_files.parse(['mujoco_100k_paper.gin'], [])
  agent, *phases = train_step.phases('HalfCheetah-v4')
  num_actions = effective.value('sampled_behavior_actions', 'num_actions')
  floors = train_step.floors(17, 6, num_actions, agent.horizon)
  steps = tf.constant(_STEPS.value)
  for name, phase, floor in zip(
    ('critic', 'actor'), phases, floors, strict=True
  ):
    for kind, call in (
      ('step', phase),
      ('floor', functools.partial(floor, steps)),
    ):
      call()  # Compiles.
      times = [train_step.milliseconds(call) for _ in range(3)]
      yield f'MuJoCo {name} {kind}', statistics.median(times)


def _atari() -> Iterator[tuple[str, float]]:
  from benchmarks import atari_step

  atari_step.CLOCK = time.process_time
  flags.FLAGS.rows = 2000
  count = _ATARI_STEPS.value
  for dtype_policy in ('float32', 'mixed_bfloat16'):
    atari_step.configure(dtype_policy)
    agent = atari_step.make_agent()
    times = atari_step.phase_times(
      agent, atari_step.full_table(agent), minibatches.PerMinibatch, [count] * 2
    )
    names = ('critic step', 'actor step', 'floor')
    floor = atari_step.floor_times(count)[1]
    for name, value in zip(names, (*times, floor), strict=True):
      yield f'Atari {dtype_policy} {name}', value


def _measured_by(python: str) -> dict[str, Any]:
  results: dict[str, Any] = {}
  for kind in ('mujoco', 'atari'):
    done = subprocess.run(
      [python, '-m', 'benchmarks.stacks', f'--measure={kind}', *sys.argv[1:]],
      env={**os.environ, **_ONE_THREAD},
      stdout=subprocess.PIPE,
      check=True,
      text=True,
    )
    results |= json.loads(done.stdout.splitlines()[-1])
  return results


def main(_):
  """Prints the table."""
  if _MEASURE.value:
    measured = {'mujoco': _mujoco, 'atari': _atari}[_MEASURE.value]()
    print(json.dumps(dict(measured) | {'versions': provenance.versions()}))
    return
  turns = [
    [_measured_by(python) for python in _PYTHONS.value]
    for _ in range(_TURNS.value)
  ]
  versions = [result['versions'] for result in turns[0]]
  print(
    'CPU ms per step'.ljust(30), *(v['tensorflow'].rjust(8) for v in versions)
  )
  rows = []
  for name in [name for name in turns[0][0] if name != 'versions']:
    medians = [
      statistics.median(results[name] for results in column)
      for column in zip(*turns, strict=True)
    ]
    ratio = statistics.median(turn[-1][name] / turn[0][name] for turn in turns)
    cells = ' '.join(f'{value:8.2f}' for value in medians)
    print(f'{name:30} {cells}  ratio {ratio:.2f}')
    for value, version in zip(medians, versions, strict=True):
      rows.append(
        {'phase': name, 'cpu_milliseconds': round(value, 3), **version}
      )
  raw_rows.add(raw_rows.path_of('stacks'), rows)


if __name__ == '__main__':
  app.run(main)
