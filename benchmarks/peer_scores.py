"""Returns of peers after 100K interactions, from runs on this machine.

    python -m benchmarks.peer_scores [--peers=sbx_crossq,sbx_sac] \\
      [--environments=HalfCheetah-v4,Hopper-v4] [--seeds=0,1]

Adds a row per evaluation to results/benchmarks/peer_scores.csv; a run whose
last row is there is not repeated. Evaluations are those of this project's runs:
mean undiscounted return of ten episodes with the deterministic and with the
sampled action, in an environment of its own, every 10K interactions. Settings
are the library's defaults. The peers' virtual environments are those of
`benchmarks.peers`.
"""

import csv
import itertools
import json
import os
import subprocess
from typing import Any

from absl import app
from absl import flags

from benchmarks import peers
from benchmarks import raw_rows
from qwr_tf.runs import provenance

_ENVIRONMENTS = flags.DEFINE_list(
  'environments', ['HalfCheetah-v4', 'Hopper-v4'], 'MuJoCo environments.'
)
_SEEDS = flags.DEFINE_list('seeds', ['0', '1'], 'Of each run.')
_INTERACTIONS = flags.DEFINE_integer('interactions', 100_000, 'Of a run.')
_EVAL_EVERY = flags.DEFINE_integer('eval_every', 10_000, 'Interactions.')

flags.FLAGS.set_default('peers', ['sbx_crossq', 'sbx_sac'])

_AGENTS = {
  'sb3_sac': ('stable_baselines3', 'SAC'),
  'sbx_sac': ('sbx', 'SAC'),
  'sbx_crossq': ('sbx', 'CrossQ'),
}

_PROGRAM = """
import json, time
import gymnasium
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from {module} import {agent}

model = {agent}('MlpPolicy', gymnasium.make('{environment}'), seed={seed})
test = Monitor(gymnasium.make('{environment}'))
test.reset(seed={seed} + 1000)
seconds = 0.0
for done in range({every}, {interactions} + 1, {every}):
  start = time.perf_counter()
  model.learn({every}, reset_num_timesteps=False)
  seconds += time.perf_counter() - start
  mode, sampled = (
    evaluate_policy(model, test, 10, deterministic=x)[0] for x in (True, False)
  )
  print(json.dumps(dict(
    interactions=done, return_mode=round(float(mode), 2),
    return_sampled=round(float(sampled), 2), training_seconds=round(seconds),
  )), flush=True)
"""
# Any rate: the report of `peers` wants one.
_REPORT = 'rate = 0\n' + peers.REPORT


def _rows_of(peer: str, environment: str, seed: str) -> list[dict[str, Any]]:
  module, agent = _AGENTS[peer]
  program = _PROGRAM.format(
    module=module,
    agent=agent,
    environment=environment,
    seed=seed,
    every=_EVAL_EVERY.value,
    interactions=_INTERACTIONS.value,
  )
  done = subprocess.run(
    [peers.interpreter(peer), '-W', 'ignore', '-c', program + _REPORT],
    stdout=subprocess.PIPE,
    text=True,
    check=True,
  )
  *rows, report = map(json.loads, done.stdout.strip().splitlines())
  about = {
    'libraries': report['libraries'],
    'commit': provenance.commit(),
    'host_cores': os.cpu_count(),
  }
  run = {'peer': peer, 'environment': environment, 'seed': seed}
  return [{**run, **row, **about} for row in rows]


def _finished() -> set[tuple[str, ...]]:
  path = raw_rows.path_of('peer_scores')
  if not path.exists():
    return set()
  with open(path, newline='') as f:
    return {
      (row['peer'], row['environment'], row['seed'])
      for row in csv.DictReader(f)
      if int(row['interactions']) >= _INTERACTIONS.value
    }


def main(_):
  """Runs what is missing."""
  chosen = flags.FLAGS.peers
  unknown = [peer for peer in chosen if peer not in _AGENTS]
  if unknown:
    raise app.UsageError(f'--peers={unknown[0]}: not one of {list(_AGENTS)}')
  runs = itertools.product(chosen, _ENVIRONMENTS.value, _SEEDS.value)
  for run in runs:
    if run in _finished():
      continue
    rows = _rows_of(*run)
    raw_rows.add(raw_rows.path_of('peer_scores'), rows)
    last = rows[-1]
    print(*run, last['return_mode'], last['return_sampled'], flush=True)


if __name__ == '__main__':
  app.run(main)
