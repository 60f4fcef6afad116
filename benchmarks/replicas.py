"""Replicas against one device for 200 steps, and two workers for 50.

Two workers, also as `qwr_tf.train --strategy=multi_worker` starts them.

    python -m benchmarks.replicas [--cases=gaussian,discrete,images,awr,awac]

Adds rows to results/benchmarks/replicas.csv; exit code 1 if replicas or
workers differ in a bit, if the first step's gradients are further apart than
1e-6 of their norm, or a loss than 1 %. AWAC draws actions of its policy on
each replica, so its numbers are other draws, and only replicas are compared.
"""

import json
import os
import pathlib
import socket
import subprocess
import sys
import tempfile

from absl import app
from absl import flags

from benchmarks import raw_rows
from qwr_tf.runs import provenance

_CASES = flags.DEFINE_list(
  'cases', ['gaussian', 'discrete', 'images', 'awr', 'awac'], 'Which.'
)
_STEPS = flags.DEFINE_integer('steps', 200, 'Of critic and actor each.')
_WORKER_STEPS = flags.DEFINE_integer('worker_steps', 50, 'Of two workers.')

_ROOT = pathlib.Path(__file__).resolve().parents[1]
_PHASES = 'critic', 'actor'


def _start(
  what: str, case: str, steps: int, **environment: str
) -> subprocess.Popen:
  return subprocess.Popen(
    [sys.executable, 'tests/agents/replica_checks.py', what, case, str(steps)],
    cwd=_ROOT,
    env={**os.environ, 'PYTHONPATH': str(_ROOT), **environment},
    stdout=subprocess.PIPE,
    text=True,
  )


def _result(run: subprocess.Popen):
  out, _ = run.communicate()
  if run.returncode:
    raise SystemExit(run.returncode)
  return json.loads(out.splitlines()[-1])


def _apart(one, two, name: str) -> float:
  return abs(one[name] - two[name]) / max(abs(one[name]), 1e-12)


def _mirrored(case: str) -> dict:
  measured = _result(_start('main', case, _STEPS.value))[case]
  one, two = measured['scalars']
  return {
    'case': case,
    'strategy': 'mirrored',
    'replicas': measured['replicas'],
    'steps': _STEPS.value,
    'variables_that_differ': len(measured['differ']),
    'gradients_apart': measured['gradients'],
    'critic_loss_apart': _apart(one, two, 'critic_loss'),
    'actor_loss_apart': _apart(one, two, 'actor_loss'),
  }


def _cluster() -> list[str]:
  """TF_CONFIG of two workers."""
  ports = []
  for _ in range(2):
    with socket.socket() as listener:
      listener.bind(('127.0.0.1', 0))
      ports.append(listener.getsockname()[1])
  cluster = {'worker': [f'127.0.0.1:{port}' for port in ports]}
  tasks = [{'type': 'worker', 'index': i} for i in range(2)]
  return [json.dumps({'cluster': cluster, 'task': task}) for task in tasks]


def _workers(case: str) -> dict:
  steps = _WORKER_STEPS.value
  runs = [_start('worker', case, steps, TF_CONFIG=c) for c in _cluster()]
  first, second = map(_result, runs)
  return {
    'case': case,
    'strategy': 'multi_worker',
    'replicas': first['replicas'],
    'steps': _WORKER_STEPS.value,
    'variables_that_differ': int(first['weights'] != second['weights']),
  }


def _train() -> None:
  """A run of two workers: the first one writes it, both end well."""
  bindings = (
    'run.interactions=100',
    'Collector.env_steps=50',
    'run.final_eval_episodes=2',
    *[f'iterate.{name}_steps={_WORKER_STEPS.value}' for name in _PHASES],
  )
  with tempfile.TemporaryDirectory() as folder:
    command = [
      *(sys.executable, '-m', 'qwr_tf.train', '--gin_file=bitflip.gin'),
      *('--strategy=multi_worker', f'--root_dir={folder}/run'),
      *[f'--gin_bindings={binding}' for binding in bindings],
    ]
    runs = [
      subprocess.Popen(
        command,
        cwd=_ROOT,
        env={**os.environ, 'PYTHONPATH': str(_ROOT), 'TF_CONFIG': c},
        stdout=subprocess.PIPE,
        text=True,
      )
      for c in _cluster()
    ]
    scored = ['score' in run.communicate()[0] for run in runs]
    facts = json.loads(pathlib.Path(folder, 'run/run.json').read_text())
  print('train', scored, facts['critic_steps'], flush=True)
  if any(run.returncode for run in runs) or scored != [True, False]:
    raise SystemExit('two workers did not make one run')


def _is_bad(row: dict) -> bool:
  if row['variables_that_differ']:
    return True
  if row['case'] == 'awac' or row['strategy'] == 'multi_worker':
    return False
  losses = row['critic_loss_apart'], row['actor_loss_apart']
  return row['gradients_apart'] > 1e-6 or max(losses) > 0.01


def main(_) -> None:
  """Prints the rows and adds them to the file."""
  bad = 0
  for case in _CASES.value:
    for row in (_mirrored(case), _workers(case)):
      print(row, flush=True)
      raw_rows.add(
        raw_rows.path_of('replicas'), [{**row, **provenance.facts()}]
      )
      bad += _is_bad(row)
  _train()
  sys.exit(bad > 0)


if __name__ == '__main__':
  app.run(main)
