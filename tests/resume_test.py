"""A run that is killed again and again ends as one that never was.

The processes are real, and so is SIGKILL; the runs are small and not compiled.
benchmarks/resume.py does the same with whole runs.
"""

import dataclasses
import json
import os
import pathlib
import random
import signal
import subprocess
import sys

import killed_runs

_HERE = pathlib.Path(__file__).resolve().parent
_TINY = (
  'run.interactions=120',
  'run.replay_capacity=50',
  'run.eval_every_env_steps=40',
  'run.eval_episodes=2',
  'run.final_eval_episodes=2',
  'run.log_every_env_steps=20',
  'run.checkpoint_every_seconds=0',
  'Collector.env_steps=20',
  'iterate.critic_steps=2',
  'iterate.actor_steps=2',
  'iterate.rounds=1',
  'iterate.batch_size=4',
)


def _play(tmp_path, folder, plans, *arguments, bindings=_TINY):
  """Plays plans on one run; returns the exit codes."""
  plans = [dataclasses.asdict(plan) for plan in plans]
  flags = [f'--gin_bindings={binding}' for binding in bindings]
  process = subprocess.run(
    [
      sys.executable,
      str(_HERE / 'killed_runs.py'),
      json.dumps(plans),
      f'--root_dir={folder}',
      *arguments,
      *flags,
    ],
    cwd=tmp_path,
    env={**os.environ, 'PYTHONPATH': str(_HERE.parent)},
    capture_output=True,
    text=True,
  )
  assert process.returncode == 0, process.stderr
  return json.loads(process.stdout.splitlines()[-1]), process.stderr


def _plan(report, *args):
  return killed_runs.Plan(str(report), *args, eagerly=True)


def test_killed_in_every_phase(tmp_path):
  # Episodes of 50 steps, iterations of 20.
  arguments = (
    '--gin_file=mujoco_100k.gin',
    '--gin_bindings=load_environment.max_episode_steps=50',
  )
  never, killed = tmp_path / 'never', tmp_path / 'killed'
  reports = [tmp_path / name for name in ('never.json', 'killed.json')]
  codes, error = _play(tmp_path, never, [_plan(reports[0])], *arguments)
  assert codes == [0], error
  rng = random.Random(0)
  plans = []
  for number, phase in enumerate(killed_runs.PHASES):
    seconds = json.loads(reports[0].read_text())['seconds'][phase]
    delay = rng.uniform(0, max(seconds))
    iteration = 6 if phase == 'export' else number + 1
    plans.append(_plan(reports[1], phase, iteration, delay))
  codes, error = _play(
    tmp_path, killed, [*plans, _plan(reports[1])], *arguments
  )
  # A phase may be over before the signal comes; it always does come.
  assert codes == [-signal.SIGKILL] * len(plans) + [0], error
  assert not killed_runs.differences(never, killed, *reports)
  resumed = json.loads((killed / 'run.json').read_text())['resumed']
  assert len(resumed) == len(plans)
  assert not [p for p in killed.rglob('*') if p.name.startswith('.')]
