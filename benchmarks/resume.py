"""Kills runs twenty times each and compares them with uninterrupted runs.

    python -m benchmarks.resume [--runs=bitflip,halfcheetah,pong]

SIGKILL comes at a random moment of a random iteration while the run collects,
trains, evaluates, writes a checkpoint (one each iteration) or exports its
policy, four times each; then the same command is given again. At the end
weights, table, metrics.csv, TensorBoard and the exported policy have to be
bitwise those of the run that was never killed, which is made twice; another
seed has to differ. Adds a row per run to results/benchmarks/resume.csv; exit
code 1 if any differs.
"""

import dataclasses
import json
import os
import pathlib
import random
import subprocess
import sys
import tempfile
import time

from absl import app
from absl import flags

from benchmarks import raw_rows
from qwr_tf.runs import provenance
from tests.training import killed_runs

_RUNS = flags.DEFINE_list(
  'runs', ['bitflip', 'halfcheetah', 'pong'], 'Which runs.'
)
_KILLS = flags.DEFINE_integer('kills', 20, 'Of each run.')
_SEED = flags.DEFINE_integer('seed', 0, 'Of the moments.')
_RESULTS = flags.DEFINE_string(
  'results', str(raw_rows.path_of('resume')), 'Where rows are added.'
)

_ROOT = pathlib.Path(__file__).resolve().parents[1]

# Gin file and bindings; evaluations are frequent, so that they can be hit, and
# gradient steps few, as a kill costs half an iteration.
_COMMON = ('run.checkpoint_every_seconds=0', 'run.eval_every_env_steps=1000')
RUNS = {
  'bitflip': ('bitflip.gin', ()),
  'halfcheetah': (
    'mujoco_100k.gin',
    (
      'run.interactions=10000',
      'run.eval_episodes=1',
      'iterate.critic_steps=100',
      'iterate.actor_steps=100',
    ),
  ),
  # Iterations of 250 decisions end in the middle of games.
  'pong': (
    'atari_100k_paper.gin',
    (
      'run.interactions=3000',
      'run.replay_capacity=2000',
      'run.eval_episodes=1',
      'run.final_eval_episodes=2',
      'Collector.env_steps=250',
      'iterate.critic_steps=25',
      'iterate.actor_steps=25',
      'iterate.batch_size=64',
    ),
  ),
}


@dataclasses.dataclass
class _Runner:
  """Starts processes of one run."""

  folder: pathlib.Path
  flags: list[str]

  def play(self, name: str, plan: dict, *more: str) -> int:
    """Trains in a new process until the end or SIGKILL; the exit code."""
    plan = {'report': str(self.folder / f'{name}.json'), **plan}
    process = subprocess.run(
      [
        sys.executable,
        str(_ROOT / 'tests' / 'training' / 'killed_runs.py'),
        json.dumps([plan]),
        *self.flags,
        f'--root_dir={self.folder / name}',
        *more,
      ],
      env={**os.environ, 'PYTHONPATH': str(_ROOT), 'TQDM_DISABLE': '1'},
      capture_output=True,
      text=True,
      check=True,
    )
    (code,) = json.loads(process.stdout.splitlines()[-1])
    if code > 0:
      raise RuntimeError(process.stderr)
    return code

  def differences(self, name: str, other: str) -> list[str]:
    """What is not bitwise the same in two finished runs."""
    runs = self.folder / name, self.folder / other
    reports = (self.folder / f'{n}.json' for n in (name, other))
    return killed_runs.differences(*runs, *reports)

  def last_iteration(self) -> int:
    """Of the run that was never killed."""
    rows = killed_runs.metrics_rows(self.folder / 'never')
    return int(rows[-1]['iteration'])


def plans(rng: random.Random, kills: int, last: int, like: str) -> list[dict]:
  """Moments of death, in the order of a run's life."""
  *phases, at_the_end = killed_runs.PHASES
  share = kills // len(killed_runs.PHASES)
  moments = [
    (rng.randint(1, last - 1), phase) for phase in phases for _ in range(share)
  ]
  moments = sorted(moments, key=lambda moment: moment[0])
  moments += [(last, at_the_end)] * (kills - len(moments))
  return [
    {'phase': phase, 'iteration': i, 'moment': rng.random(), 'like': like}
    for i, phase in moments
  ]


def kill(runner: _Runner, plan: dict) -> None:
  """One start of the killed run; checks what it leaves behind."""
  start = time.monotonic()
  code = runner.play('killed', plan)
  if code != -9:
    raise RuntimeError(f'{plan} came to the end with exit code {code}')
  folder = runner.folder / 'killed'
  rows = (
    killed_runs.metrics_rows(folder)
    if (folder / 'metrics.csv').exists()
    else ()
  )
  killed_runs.events(folder)
  print(
    f'  killed in {plan["phase"]:10} of iteration {plan["iteration"]:3} or '
    f'later, {time.monotonic() - start:5.0f} s, {len(rows)} rows',
    flush=True,
  )


def measure(name: str, folder: pathlib.Path) -> dict:
  """All processes of one run; returns the row."""
  gin_file, bindings = RUNS[name]
  runner = _Runner(
    folder,
    [
      f'--gin_file={gin_file}',
      *(f'--gin_bindings={b}' for b in (*_COMMON, *bindings)),
    ],
  )
  for other, more in (('never', ()), ('again', ()), ('seed', ('--seed=1',))):
    runner.play(other, {}, *more)
  rng = random.Random(_SEED.value)
  like = str(folder / 'never.json')
  for plan in plans(rng, _KILLS.value, runner.last_iteration(), like):
    kill(runner, plan)
  runner.play('killed', {})
  facts = json.loads((folder / 'killed' / 'run.json').read_text())
  return {
    'run': name,
    'interactions': facts['interactions'],
    'critic_steps': facts['critic_steps'],
    'kills': _KILLS.value,
    'resumed': len(facts['resumed']),
    'variables': len(
      json.loads((folder / 'killed.json').read_text())['digests']
    ),
    'differs_when_killed': ' '.join(runner.differences('never', 'killed')),
    'differs_when_repeated': ' '.join(runner.differences('never', 'again')),
    'differs_for_another_seed': len(runner.differences('never', 'seed')),
    **provenance.facts(),
  }


def main(_):
  """Prints what is done and adds the rows."""
  path = pathlib.Path(_RESULTS.value)
  bad = False
  for name in _RUNS.value:
    print(name, flush=True)
    with tempfile.TemporaryDirectory() as folder:
      row = measure(name, pathlib.Path(folder))
    bad |= bool(row['differs_when_killed'] or row['differs_when_repeated'])
    bad |= not row['differs_for_another_seed']
    print({k: v for k, v in row.items() if k.startswith('differs')})
    raw_rows.add(path, [row])
  sys.exit(int(bad))


if __name__ == '__main__':
  app.run(main)
