"""Distributed runs: interactions a second, a server's windows, and faults.

    python -m benchmarks.distributed --what=collectors   # 1, 2 and 4 of them
    python -m benchmarks.distributed --what=server       # bytes, windows/s
    python -m benchmarks.distributed --what=score        # 50K interactions
    python -m benchmarks.distributed --what=faults       # kill -9 of each role
    python -m benchmarks.distributed --what=faults --namespaces  # as root

Adds rows to results/benchmarks/distributed.csv. `faults` kills the Reverb
server, a collector and the learner in turn, --kills times each, and counts the
interactions that collectors made and the learner never saw. `score` is to be
compared with runs of one process and the same preset, at 50K. With
--namespaces the server runs in a network namespace of its own and the other
roles in another one, with a cable between them that is pulled, too; this
process makes both, and starts roles anew as `qwr_tf.launch` does.
"""

import contextlib
import csv
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import time

from absl import app
from absl import flags

from benchmarks import counted_environment
from benchmarks import raw_rows
from qwr_tf.runs import provenance

_WHAT = flags.DEFINE_enum(
  'what',
  'collectors',
  ['collectors', 'server', 'score', 'faults'],
  'What to measure.',
)
_KILLS = flags.DEFINE_integer('kills', 4, 'Of each role.')
_NAMESPACES = flags.DEFINE_bool('namespaces', False, 'Of the network.')
_SEED = flags.DEFINE_integer('seed', 0, 'Of --what=score.')
_COUNTS = flags.DEFINE_list('counts', ['1', '2', '4'], 'Collectors.')
_INTERACTIONS = flags.DEFINE_integer('interactions', 20_000, 'Of a run.')
_STEPS = flags.DEFINE_list(
  'steps', ['20', '1000'], 'Critic and actor steps per 1000 interactions.'
)

_ROOT = pathlib.Path(__file__).resolve().parents[1]
_ENVIRONMENT = 'benchmarks.counted_environment:CountedHalfCheetah-v4'
_ADDRESSES = '10.77.0.1', '10.77.0.2'


def _note(measured: str, setting: str, value: float, unit: str) -> None:
  """A row to the file and to the screen."""
  row = {
    'measured': measured,
    'setting': setting,
    'value': f'{value:.6g}',
    'unit': unit,
    'host_cores': os.cpu_count(),
  }
  print(*row.values(), flush=True)
  raw_rows.add(raw_rows.path_of('distributed'), [{**row, **provenance.facts()}])


def _free_port() -> int:
  with socket.socket() as listener:
    listener.bind(('127.0.0.1', 0))
    return listener.getsockname()[1]


def _flags(folder: pathlib.Path, host: str, steps: int, log: int) -> list[str]:
  """Flags that all roles share."""
  bindings = (
    f"run.environment='{_ENVIRONMENT}'",
    f'run.interactions={_INTERACTIONS.value}',
    f'run.eval_every_env_steps={_INTERACTIONS.value}',
    'run.final_eval_episodes=1',
    f'run.log_every_env_steps={log}',
    'run.checkpoint_every_seconds=10.0',
    f'iterate.critic_steps={steps}',
    f'iterate.actor_steps={steps}',
  )
  return [
    '--gin_file=mujoco_100k.gin',
    f'--root_dir={folder / "run"}',
    f'--server={host}:{_free_port()}',
    f'--trusted_network={_NAMESPACES.value}',
    *[f'--gin_bindings={binding}' for binding in bindings],
  ]


def _start(folder: pathlib.Path, command: list[str]) -> subprocess.Popen:
  steps = folder / 'steps'
  steps.mkdir(exist_ok=True)
  return subprocess.Popen(
    command,
    cwd=_ROOT,
    env={**os.environ, 'QWR_TF_STEPS': str(steps), 'PYTHONPATH': str(_ROOT)},
    stdout=open(folder / 'log', 'a'),
    stderr=subprocess.STDOUT,
  )


def _rows(folder: pathlib.Path) -> list[dict[str, str]]:
  try:
    return list(csv.DictReader((folder / 'run/metrics.csv').open()))
  except FileNotFoundError:
    return []


def _collectors(count: int, steps: int) -> None:
  """Interactions a second of a whole run, from its first row to its last."""
  with tempfile.TemporaryDirectory() as name:
    folder = pathlib.Path(name)
    given = _flags(folder, '127.0.0.1', steps, 1000)
    launch = [sys.executable, '-m', 'qwr_tf.launch', f'--collectors={count}']
    if _start(folder, [*launch, *given]).wait():
      raise SystemExit((folder / 'log').read_text()[-3000:])
    first, *_, last, _ = _rows(folder)  # The last one evaluates.
    seconds = float(last['wall_seconds']) - float(first['wall_seconds'])
    interactions = int(last['interactions']) - int(first['interactions'])
    setting = f'{count} collectors, {steps}+{steps} steps per 1000'
    _note('interactions', setting, interactions / seconds, '1/s')


def _score() -> None:
  """Of a run of 50K interactions with two collectors."""
  bindings = 'run.interactions=50000', "run.environment='HalfCheetah-v4'"
  with tempfile.TemporaryDirectory() as name:
    folder = pathlib.Path(name)
    command = [
      *(sys.executable, '-m', 'qwr_tf.launch', '--collectors=2'),
      *('--gin_file=mujoco_100k.gin', f'--root_dir={folder / "run"}'),
      *[f'--gin_bindings={binding}' for binding in bindings],
      f'--seed={_SEED.value}',
    ]
    if _start(folder, command).wait():
      raise SystemExit((folder / 'log').read_text()[-3000:])
    facts = json.loads((folder / 'run/run.json').read_text())
  for action in ('mode', 'sampled'):
    score = facts['scores'][f'eval_return_{action}']
    setting = f'seed {_SEED.value}, {action}'
    _note('return after 50K interactions', setting, score, '')


# Faults.


class _Roles:
  """Processes of this benchmark, by role; those that die start anew."""

  def __init__(self, folder, commands):
    self._folder = folder
    self._commands = commands
    self.running = {role: _start(folder, c) for role, c in commands.items()}

  def revive(self) -> None:
    """Starts anew whatever died."""
    for role, process in self.running.items():
      if process.poll() not in (None, 0):
        self.running[role] = _start(self._folder, self._commands[role])

  def kill(self, role: str) -> None:
    """kill -9."""
    self.running[role].send_signal(signal.SIGKILL)
    self.running[role].wait()

  def end(self) -> None:
    """Of whatever is left."""
    for process in self.running.values():
      if process.poll() is None:
        process.kill()


@contextlib.contextmanager
def _network():
  """Yields what to put before (the server's, the others') commands."""
  if not _NAMESPACES.value:
    yield [], []
    return
  names = [f'qwr{os.getpid()}{side}' for side in 'ab']

  def ip(*arguments):
    subprocess.run(['ip', *arguments], check=True)

  try:
    for name in names:
      ip('netns', 'add', name)
    ip(
      *('link', 'add', 'va', 'netns', names[0], 'type', 'veth'),
      *('peer', 'name', 'vb', 'netns', names[1]),
    )
    for name, end, address in zip(names, ('va', 'vb'), _ADDRESSES, strict=True):
      ip('-n', name, 'address', 'add', f'{address}/24', 'dev', end)
      ip('-n', name, 'link', 'set', end, 'up')
      ip('-n', name, 'link', 'set', 'lo', 'up')
    yield tuple(['ip', 'netns', 'exec', name] for name in names)
  finally:
    for name in names:
      subprocess.run(['ip', 'netns', 'delete', name], check=False)


def _pull_cable(prefix, seconds: float) -> None:
  if prefix:
    for state in ('down', 'up'):
      subprocess.run([*prefix, 'ip', 'link', 'set', 'va', state], check=True)
      time.sleep(seconds)


def _faults() -> None:
  """A run in which every role dies again and again."""
  with tempfile.TemporaryDirectory() as name, _network() as prefixes:
    folder = pathlib.Path(name)
    host = _ADDRESSES[0] if _NAMESPACES.value else '127.0.0.1'
    given = _flags(folder, host, 100, 1000)
    base = [sys.executable, '-m', 'qwr_tf.distributed', *given]
    names = ('replay', 'collector', 'collector 2', 'learner')
    commands = {
      role: [*prefixes[role != 'replay'], *base, f'--role={role.split()[0]}']
      for role in names
    }
    roles = _Roles(folder, commands)
    try:
      kills = _kill_in_turn(folder, roles, prefixes[0])
    finally:
      roles.end()
    _count_lost(folder, kills)


def _kill_in_turn(folder, roles, prefix) -> int:
  order = ['collector', 'replay', 'learner'] * _KILLS.value
  done = 0
  step = _INTERACTIONS.value / (len(order) + 2)
  while roles.running['learner'].poll() != 0:
    time.sleep(0.2)
    roles.revive()
    rows = _rows(folder)
    reached = int(rows[-1]['interactions']) if rows else 0
    if done < len(order) and reached > (done + 1) * step:
      roles.kill(order[done])
      done += 1
      if done == len(order) // 2:
        _pull_cable(prefix, 3.0)
  for role, process in roles.running.items():
    if process.wait(120):
      raise SystemExit(f'{role} did not end: {process.returncode}')
  return done


def _count_lost(folder: pathlib.Path, kills: int) -> None:
  interactions = counted_environment.counted(folder / 'steps')
  facts = json.loads((folder / 'run/run.json').read_text())
  lines = (folder / 'log').read_text().splitlines()
  gaps = [int(x.split()[1]) for x in lines if x.startswith('lost ')][-1]
  setting = 'namespaces' if _NAMESPACES.value else 'loopback'
  for measured, value in (
    ('kills', kills),
    ('interactions made', interactions),
    ('interactions counted', facts['interactions']),
    (
      'made and not counted, the last backlog included',
      interactions - facts['interactions'],
    ),
    ('of these: gaps the learner saw', gaps),
  ):
    _note(measured, setting, value, '')
  if not facts['finished']:
    raise SystemExit('the run is not finished')


def _server() -> None:
  """Bytes of a window, and how many a second go in and out."""
  from benchmarks import reverb_speed

  for setting, measured in reverb_speed.measure().items():
    for unit, value in measured.items():
      _note('server', setting, value, unit)


def main(_) -> None:
  """Measures."""
  if _WHAT.value == 'server':
    _server()
  elif _WHAT.value == 'score':
    _score()
  elif _WHAT.value == 'faults':
    _faults()
  else:
    for steps in _STEPS.value:
      for count in _COUNTS.value:
        _collectors(int(count), int(steps))


if __name__ == '__main__':
  app.run(main)
