"""A run that is killed again and again ends as one that never was.

The processes are real, and so is SIGKILL; the runs are small and not compiled.
benchmarks/resume.py does the same with whole runs.
"""

import dataclasses
import functools
import json
import os
import pathlib
import random
import signal
import subprocess
import sys

import gin
import pytest
import tensorflow as tf

from qwr_tf import replay
from qwr_tf.config import gin_files
from qwr_tf.runs import checkpoints
from qwr_tf.training import experiment
from tests.training import killed_runs

_HERE = pathlib.Path(__file__).resolve().parent
_TINY = (
  'run.interactions=120',
  'run.replay_capacity=50',
  'run.eval_every_env_steps=40',
  'run.eval_episodes=1',
  'run.final_eval_episodes=1',
  'run.log_every_env_steps=20',
  'run.checkpoint_every_seconds=0',
  'Collector.env_steps=20',
  'iterate.critic_steps=1',
  'iterate.actor_steps=1',
  'iterate.rounds=1',
  'iterate.batch_size=4',
  # Episodes of 50 steps, iterations of 20.
  'load_environment.max_episode_steps=50',
)


def _plan(run, **kwargs):
  arguments = [f'--root_dir={run}']
  return killed_runs.Plan(
    f'{run}.json', eagerly=True, arguments=arguments, **kwargs
  )


def _killed():
  """Plans of a run that lives, of one killed in each phase, and of its end."""
  rng = random.Random(0)
  plans = [_plan('never')]
  for number, phase in enumerate(killed_runs.PHASES):
    iteration = 6 if phase == 'products' else number + 1
    killed = functools.partial(_plan, 'killed', like='never.json')
    plans.append(killed(phase=phase, iteration=iteration, moment=rng.random()))
  return [*plans, _plan('killed')]


_DISK = [
  _plan('disk/run', before='mount -t tmpfs -o size=4m tmpfs disk'),
  _plan('disk/run', before='mount -o remount,ro disk'),
  _plan('disk/run', before='mount -o remount,rw,size=64m disk'),
  _plan('disk/run', before='mount -o remount,ro disk'),
]
_UNSHARE = ('unshare', '--map-root-user', '--mount')


def _can_mount():
  command = [*_UNSHARE, 'true']
  try:
    return subprocess.run(command, capture_output=True).returncode == 0
  except OSError:
    return False


_CAN_MOUNT = _can_mount()


@pytest.fixture(name='played', scope='module')
def _played(tmp_path_factory):
  """(folder, exit codes, messages) of all plans; Python starts once."""
  folder = tmp_path_factory.mktemp('played')
  (folder / 'disk').mkdir()
  prefix, disk = (_UNSHARE, _DISK) if _CAN_MOUNT else ((), [])
  plans = [dataclasses.asdict(plan) for plan in [*_killed(), *disk]]
  process = subprocess.run(
    [
      *prefix,
      sys.executable,
      str(_HERE / 'killed_runs.py'),
      json.dumps(plans),
      '--gin_file=mujoco_100k.gin',
      *(f'--gin_bindings={binding}' for binding in _TINY),
    ],
    cwd=folder,
    env={**os.environ, 'PYTHONPATH': str(_HERE.parents[1])},
    capture_output=True,
    text=True,
  )
  assert process.returncode == 0, process.stderr
  codes = json.loads(process.stdout.splitlines()[-1])
  return folder, codes, process.stderr


@pytest.mark.slow
def test_killed_in_every_phase(played):
  folder, codes, error = played
  assert codes[:7] == [0] + [-signal.SIGKILL] * 5 + [0], error
  runs = [folder / name for name in ('never', 'killed')]
  reports = [folder / f'{run.name}.json' for run in runs]
  assert killed_runs.differences(*runs, *reports) == []
  resumed = json.loads((runs[1] / 'run.json').read_text())['resumed']
  assert len(resumed) == 5
  assert not [p for p in runs[1].rglob('*') if p.name.startswith('.')]


@pytest.mark.slow
@pytest.mark.skipif(not _CAN_MOUNT, reason='no mount namespaces here')
def test_a_full_disk_and_one_that_is_read_only(played):
  _, codes, error = played
  assert codes[7:] == [1, 2, 0, 0], error
  lines = [line for line in error.splitlines() if line.startswith('error: ')]
  assert len(lines) == 2
  assert lines[0].startswith('error: disk/run/checkpoints/0000000')
  assert 'No space left on device; what was complete is still' in lines[0]
  assert lines[1] == (
    'error: disk/run cannot be used (Read-only file system); choose another '
    '--root_dir.'
  )


# Each has something of its own to remember, or nothing, which is to be seen:
# whole episodes, a normaliser; another first call, epsilon; the whole table,
# emptied each time; rounds and a target that moves; single frames.
_RELATIVES = (
  ('mujoco_100k_iclr.gin', ("run.environment='Hopper-v4'",)),
  ('dqn_bitflip.gin', ('Collector.first_env_steps=35',)),
  ('awr_mujoco_on_policy.gin', ('run.replay_capacity=69',)),
  ('awac_bitflip.gin', ('iterate.rounds=2',)),
  (
    'atari_100k_paper.gin',
    ('Collector.env_steps=6', 'run.eval_environments=1'),
  ),
)


@pytest.mark.slow
@pytest.mark.parametrize('gin_file, bindings', _RELATIVES)
def test_relatives_go_on_exactly(tmp_path, gin_file, bindings):
  tf.config.run_functions_eagerly(True)
  try:
    gin_files.parse([gin_file], [*_TINY, *bindings])
    lived, restored = (
      experiment.build(experiment.settings(), seed=0) for _ in range(2)
    )
    for _ in range(2):
      next(lived.iterations)
    _checkpoints(tmp_path, lived).save(1)
    assert _checkpoints(tmp_path, restored).restore()
    assert killed_runs.digests(restored) == killed_runs.digests(lived)
    collected = [next(parts.iterations)[0] for parts in (lived, restored)]
    assert collected[0].episode_returns == collected[1].episode_returns
    assert killed_runs.digests(restored) == killed_runs.digests(lived)
  finally:
    tf.config.run_functions_eagerly(False)
    gin.clear_config()


def _checkpoints(path, parts):
  return checkpoints.Checkpoints(
    path,
    {'agent': parts.agent},
    replay.TableFiles(parts.table),
    {'collector': parts.collector},
  )
