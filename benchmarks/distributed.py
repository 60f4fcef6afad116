"""Many environments: vectors and Ray against one process, and their limits.

    python -m benchmarks.distributed --what=sleep      # a step takes 5 ms
    python -m benchmarks.distributed --what=speed      # Ray against one process
    python -m benchmarks.distributed --what=intake     # what a learner takes in
    python -m benchmarks.distributed --what=broadcast  # bytes, seconds
    python -m benchmarks.distributed --what=faults     # kill -9 of each role
    python -m benchmarks.distributed --what=score      # 50K interactions

Adds rows to results/benchmarks/distributed.csv. `intake` drives the learner's
table with fake collectors, which send the same segments again and again.
`faults` kills a collector and the learner in turn, --kills times each, stops a
collector, with --namespaces cuts the network for 20 s, and accounts for the
interactions that were made.
"""

from qwr_tf.config import startup  # noqa: F401, before TensorFlow.

# isort: split
import contextlib
import csv
import functools
import json
import os
import pathlib
import pickle
import signal
import subprocess
import sys
import tempfile
import time

import numpy as np
import tensorflow as tf
from absl import app
from absl import flags
from tf_agents.specs import tensor_spec

from benchmarks import counted_environment
from benchmarks import raw_rows
from benchmarks import same_numbers
from qwr_tf.acting import collect
from qwr_tf.acting import segments
from qwr_tf.config import gin_files
from qwr_tf.distributed import cluster
from qwr_tf.distributed import ray_flags
from qwr_tf.distributed import tasks
from qwr_tf.replay import ReplayTable
from qwr_tf.runs import provenance
from qwr_tf.training import experiment

_WHAT = flags.DEFINE_enum(
  'what',
  'sleep',
  ['sleep', 'speed', 'intake', 'broadcast', 'faults', 'score'],
  'What to measure.',
)
_KILLS = flags.DEFINE_integer('kills', 4, 'Of each role.')
_NAMESPACES = flags.DEFINE_bool(
  'namespaces', False, 'Collectors in a network that is cut for 20 s; as root.'
)
_SEED = flags.DEFINE_integer('seed', 0, 'Of --what=score.')
_COUNTS = flags.DEFINE_list('counts', ['1', '4'], 'Collectors.')
_INTERACTIONS = flags.DEFINE_integer('interactions', 20_000, 'Of a run.')
_STEPS = flags.DEFINE_integer('steps', 1000, 'Per 1000 interactions, each.')

_ROOT = pathlib.Path(__file__).resolve().parents[1]
_STEPS_VARIABLE = 'QWR_TF_STEPS'
_COUNTED = 'benchmarks.counted_environment:CountedHalfCheetah-v4'
_SLEEPING = 'benchmarks.sleeping_environment:Sleeping-v0'


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


def _command(module: str, folder: pathlib.Path, environment: str) -> list[str]:
  bindings = (
    f"run.environment='{environment}'",
    f'run.interactions={_INTERACTIONS.value}',
    f'run.eval_every_env_steps={10 * _INTERACTIONS.value}',
    'run.final_eval_episodes=1',
    'run.log_every_env_steps=1000',
    'run.checkpoint_every_seconds=10.0',
    f'iterate.critic_steps={_STEPS.value}',
    f'iterate.actor_steps={_STEPS.value}',
  )
  return [
    *(sys.executable, '-m', module, '--gin_file=mujoco_100k.gin'),
    f'--root_dir={folder / "run"}',
    *[f'--gin_bindings={binding}' for binding in bindings],
  ]


def _environment(folder: pathlib.Path) -> dict[str, str]:
  steps = folder / 'steps'
  steps.mkdir(exist_ok=True)
  variables = {_STEPS_VARIABLE: str(steps), 'PYTHONPATH': str(_ROOT)}
  return {**os.environ, **variables}


def _start(folder: pathlib.Path, command: list[str]) -> subprocess.Popen:
  return subprocess.Popen(
    command,
    cwd=_ROOT,
    env=_environment(folder),
    stdout=open(folder / 'log', 'a'),
    stderr=subprocess.STDOUT,
  )


def _rows(folder: pathlib.Path) -> list[dict[str, str]]:
  try:
    with open(folder / 'run' / 'metrics.csv', newline='') as f:
      return list(csv.DictReader(f))
  except FileNotFoundError:
    return []


def _launch(count: int) -> list[str]:
  return [
    f'--collectors={count}',
    f'--asynchronous={ray_flags.ASYNCHRONOUS.value}',
  ]


def _cpu_seconds(pattern: str, folder: pathlib.Path) -> float:
  """CPU time so far of a run's processes whose command line holds a text."""
  seconds = 0.0
  for number in _processes(pattern, folder):
    with contextlib.suppress(OSError):
      text = pathlib.Path(f'/proc/{number}/stat').read_text()
      ticks = text.rpartition(')')[2].split()[11:13]  # utime, stime
      seconds += sum(map(int, ticks)) / os.sysconf('SC_CLK_TCK')
  return seconds


_ROLES = {
  'learner': '--root_dir=',  # Its launcher sleeps.
  'collectors': 'ray::CollectorActor',
  'Ray': '/ray/core/src/ray/',
}


def _speed() -> None:
  """Wall clock and CPU time an interaction, after the first iteration.

  Also whether one synchronous collector gives the numbers of one process.
  """
  with tempfile.TemporaryDirectory() as temporary:
    runs = []
    for setting, module, extra in [
      ('one process', 'qwr_tf.train', []),
      *((f'Ray, {c}', 'qwr_tf.launch', _launch(int(c))) for c in _COUNTS.value),
    ]:
      folder = pathlib.Path(temporary, setting)
      folder.mkdir()
      runs.append(folder / 'run')
      command = _command(module, folder, 'HalfCheetah-v4') + extra
      running = _start(folder, command)
      samples: list[dict[str, float]] = []  # The first and the newest.
      while running.poll() is None:
        time.sleep(0.5)
        if rows := _rows(folder):
          used = {r: _cpu_seconds(p, folder) for r, p in _ROLES.items()}
          used['interactions'] = int(rows[-1]['interactions'])
          if used['learner'] and (
            not samples or used['interactions'] > samples[-1]['interactions']
          ):
            samples = [*samples[:1], used]
      if running.returncode:
        raise SystemExit((folder / 'log').read_text())
      rows = _rows(folder)
      spans = [
        float(rows[-1][name]) - float(rows[0][name])
        for name in ('interactions', 'wall_seconds')
      ]
      where = f'{setting}, {_STEPS.value}+{_STEPS.value} steps per 1000'
      _note('ray: interactions', where, spans[0] / spans[1], '1/s')
      rates = [float(row['train_steps_per_second']) for row in rows[1:]]
      _note('ray: gradient steps', where, float(np.median(rates)), '1/s')
      first, last = samples[0], samples[-1]
      count = last['interactions'] - first['interactions']
      for role in _ROLES:
        if last[role]:
          cost = 1e3 * (last[role] - first[role]) / count
          _note(f'ray: CPU of {role}', where, cost, 'ms/interaction')
    if '1' in _COUNTS.value and not ray_flags.ASYNCHRONOUS.value:
      other = runs[1 + _COUNTS.value.index('1')]
      problem = same_numbers.difference(runs[0], other)
      print('one collector:', problem or 'the numbers of one process')
      where = f'HalfCheetah, {_INTERACTIONS.value} interactions, seed 0'
      _note(
        'ray: one collector is bit for bit one process', where, not problem, ''
      )


def _collectors(count: int):
  """A Ray source of `count` collectors for the configuration gin holds."""
  from qwr_tf.distributed import ray_source

  settings = experiment.settings()
  env = experiment.load_environment(settings.environment, seed=0)
  agent = experiment.agent_for(env, seed=0)
  config = gin_files.parse(['mujoco_100k.gin'], _bindings(1))
  task = tasks.Task(config, 0, count, count == 1, 600.0)
  source = ray_source.RaySource(agent.acting_network, task, f'sleep-{count}')
  return source


def _bindings(num_environments: int) -> list[str]:
  return [
    f"run.environment='{_SLEEPING}'",
    f'Collector.num_environments={num_environments}',
    'Collector.env_steps=1600',
  ]


def _sleep() -> None:
  """Collecting from simulators that sleep: 1, 8 in a vector, 8 of Ray."""
  speeds = {}
  for count in (1, 8):
    gin_files.parse(['mujoco_100k.gin'], _bindings(count))
    parts = experiment.build(experiment.settings(), 0)
    parts.collector()
    collected = [parts.collector() for _ in range(2)]
    speeds[f'vector of {count}'] = sum(c.interactions for c in collected) / sum(
      c.seconds for c in collected
    )
  cluster.start_local(8)
  for count in (1, 8):
    gin_files.parse(['mujoco_100k.gin'], _bindings(1))
    source = _collectors(count)
    source.collect(1600, lambda *_: None)
    start = time.perf_counter()
    source.collect(1600, lambda *_: None)
    speeds[f'Ray, {count} collectors'] = 1600 / (time.perf_counter() - start)
    source.finish()
  for setting, speed in speeds.items():
    _note('collecting, 5 ms a step', setting, speed, 'interactions/s')


class _Replaying:
  """A collector that sends the same segments again and again."""

  def __init__(self, task, number):
    del number
    self._rows = pickle.loads(bytes.fromhex(task.config))

  def ready(self):
    """Built."""

  def collect(self, weights, version, env_steps):
    """As many segments as hold the interactions."""
    count = sum(self._rows.step_type != 2)
    return version, _segments_of(self._rows, count, env_steps // count)

  def state(self):
    """None."""


def _segments_of(rows, interactions: int, count: int) -> segments.Experience:
  """A segment, `count` times."""
  part = segments.Experience(
    rows, np.zeros(len(rows.step_type), bool), interactions, []
  )
  return segments.join([part] * count)


class _Prepared:
  """A source in this process, whose segments are there already."""

  def __init__(self, experience):
    self._experience = experience

  def collect(self, env_steps, check_fn):
    """The segments."""
    del env_steps, check_fn
    return self._experience


def _fake_rows(agent, is_single_frame: bool, interactions: int):
  """A segment of one environment: an episode that goes on and is cut."""
  older = 3 if is_single_frame else 0
  count = older + interactions + 1
  rows = tf.nest.map_structure(
    lambda x: x.numpy(),
    tensor_spec.zero_spec_nest(agent.collect_data_spec, outer_dims=[count]),
  )
  step_type = np.ones(count, np.int32)
  step_type[:older] = step_type[-1] = 2
  shape = rows.observation.shape[: 3 if is_single_frame else None]
  observation = np.random.default_rng(0).integers(0, 255, shape)
  return rows._replace(
    step_type=step_type,
    observation=observation.astype(rows.observation.dtype),
  )


def _intake() -> None:
  """Rate and CPU time of the learner's intake of segments."""
  from qwr_tf.distributed import ray_source

  cluster.start_local(4)
  for setting, preset, bindings, env_steps in [
    ('HalfCheetah', 'mujoco_100k.gin', [], 20_000),
    ('Atari', 'atari_100k.gin', ["GAME='Pong'"], 5_000),
  ]:
    gin_files.parse([preset], bindings)
    settings = experiment.settings()
    env = experiment.load_environment(settings.environment, seed=0)
    agent = experiment.agent_for(env, seed=0)
    table = ReplayTable(agent.collect_data_spec, 2 * env_steps)
    rows = _fake_rows(agent, any(table.is_single_frame), 125)
    task = tasks.Task(pickle.dumps(rows).hex(), 0, 4, False, 600.0)
    ray_collectors = ray_source.RaySource(
      agent.acting_network,
      task,
      f'intake-{setting}',
      asynchronous=True,
      actor_class=_Replaying,
    )
    size = sum(f.nbytes for f in tf.nest.flatten(rows)) / 125
    _note('segment of 125', setting, size, 'bytes/interaction')
    prepared = _Prepared(_segments_of(rows, 125, env_steps // 125))
    for way, source in (
      ('into the table', prepared),
      ('4 collectors of Ray', ray_collectors),
    ):
      collector = collect.Collector(
        *(None, agent, table), seed=0, source=source, env_steps=env_steps
      )
      collector()
      wall, cpu, count = time.perf_counter(), time.process_time(), 0
      for _ in range(8):
        count += collector().interactions
      wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
      where = f'{setting}, {way}'
      _note('intake', where, count / wall, 'interactions/s')
      _note('intake', where, count / cpu, 'interactions/CPU s of the learner')
    cpu = time.process_time()
    for _ in range(50):  # Of 4 calls each, for a segment each.
      ray_collectors.collect(500, lambda *_: None)
    cost = 1e3 * (time.process_time() - cpu) / 200
    _note('call of a collector', setting, cost, 'CPU ms of the learner')
    ray_collectors.finish()


def _broadcast() -> None:
  """Bytes and seconds of the weights' way into and out of the object store."""
  import ray

  from qwr_tf.distributed import collector_actor

  cluster.start_local(1)
  for setting, preset, bindings in [
    ('HalfCheetah', 'mujoco_100k.gin', ["run.environment='HalfCheetah-v4'"]),
    ('Atari', 'atari_100k.gin', ["GAME='Pong'"]),
  ]:
    gin_files.parse([preset], bindings)
    settings = experiment.settings()
    env = experiment.load_environment(settings.environment, seed=0)
    network = experiment.agent_for(env, seed=0).acting_network
    variables = collector_actor.acting_variables(network)
    times = []
    for _ in range(30):
      start = time.perf_counter()
      reference = ray.put([v.numpy() for v in variables])
      middle = time.perf_counter()
      ray.get(reference)
      times.append((middle - start, time.perf_counter() - middle))
    size = sum(v.numpy().nbytes for v in variables)
    put, get = np.median(times, axis=0)
    _note('weights', setting, size, 'bytes/broadcast')
    _note('weights', setting, put * 1e3, 'ms/broadcast, put')
    _note('weights', setting, get * 1e3, 'ms/broadcast, get')


def _processes(pattern: str, folder: pathlib.Path) -> list[int]:
  """Processes of a run whose command line holds a text."""
  mark = f'{_STEPS_VARIABLE}={folder / "steps"}'.encode()
  numbers = []
  for path in pathlib.Path('/proc').glob('[0-9]*'):
    with contextlib.suppress(OSError):
      command = (path / 'cmdline').read_bytes().replace(b'\0', b' ').decode()
      if pattern in command and _is_marked(int(path.name), mark):
        numbers.append(int(path.name))
  return numbers


def _is_marked(number: int, mark: bytes) -> bool:
  """True if its environment has the mark; Ray's workers overwrite theirs."""
  while number > 1:
    path = pathlib.Path('/proc', str(number))
    if mark in (path / 'environ').read_bytes().split(b'\0'):
      return True
    number = int((path / 'stat').read_text().rpartition(')')[2].split()[1])
  return False


@contextlib.contextmanager
def _two_nodes(folder: pathlib.Path):
  """A cluster of two network namespaces: commands' prefix, address, cut.

  The head is beside the learner; collectors have the other node.
  """
  names = [f'qwr{os.getpid()}{letter}' for letter in 'ab']
  ip = functools.partial(_call, 'ip')
  prefixes = [['ip', 'netns', 'exec', name] for name in names]
  for variable in cluster.LOCAL:
    os.environ.pop(variable, None)
  os.environ['RAY_AUTH_MODE'] = 'disabled'  # Nobody else is in this network.
  environment = _environment(folder)
  ray_command = [sys.executable, '-m', 'ray.scripts.scripts']
  start = [*ray_command, 'start', '--disable-usage-stats']
  start += ['--object-store-memory=200000000']
  try:
    for name in names:
      ip('netns', 'add', name)
    pair = f'va netns {names[0]} type veth peer vb netns {names[1]}'
    ip('link', 'add', *pair.split())
    for name, link, address in zip(
      names, ('va', 'vb'), ('10.77.0.1', '10.77.0.2'), strict=True
    ):
      ip('-n', name, 'address', 'add', f'{address}/24', 'dev', link)
      for device in (link, 'lo'):
        ip('-n', name, 'link', 'set', device, 'up')
    head = '--head --port=6399 --num-cpus=0 --node-ip-address=10.77.0.1'
    head += ' --include-dashboard=false'
    other = '--address=10.77.0.1:6399 --num-cpus=4 --node-ip-address=10.77.0.2'
    for prefix, options in zip(prefixes, (head, other), strict=True):
      _call(*prefix, *start, *options.split(), env=environment)

    def cut(seconds):
      ip('-n', names[0], 'link', 'set', 'va', 'down')
      time.sleep(seconds)
      ip('-n', names[0], 'link', 'set', 'va', 'up')

    yield prefixes[0], '10.77.0.1:6399', cut
  finally:
    for number in _processes('', folder):
      os.kill(number, signal.SIGKILL)
    for name in names:
      subprocess.run(['ip', 'netns', 'delete', name], check=False)


def _call(*command: str, **kwargs) -> None:
  done = subprocess.run(command, capture_output=True, text=True, **kwargs)
  if done.returncode:
    raise SystemExit(f'{" ".join(command)}\n{done.stdout}{done.stderr}')


def _faults() -> None:
  """Kills a collector and the learner in turn, then hangs one, then cuts."""
  with contextlib.ExitStack() as stack:
    folder = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
    command = _command('qwr_tf.launch', folder, _COUNTED) + _launch(2)
    command.append('--collector_seconds=60')
    where = 'two collectors'
    faults = ['collector', 'learner'] * _KILLS.value
    faults += ['hang'] * bool(_KILLS.value)
    if _NAMESPACES.value:
      prefix, address, cut = stack.enter_context(_two_nodes(folder))
      command = [*prefix, *command, f'--address={address}']
      where += ' on another node'
      faults.append('cut')
    launcher = _start(folder, command)
    patterns = {
      'collector': 'ray::CollectorActor',
      'hang': 'ray::CollectorActor',
      'learner': '-m qwr_tf.distributed',
    }
    done: list[str] = []
    due, newest, repeated = 0, 0, 0
    while launcher.poll() is None:
      time.sleep(0.5)
      rows = _rows(folder)
      made = int(rows[-1]['interactions']) if rows else 0
      repeated += max(newest - made, 0)  # A checkpoint was older.
      newest = made
      if made > due and len(done) < len(faults):
        fault = faults[len(done)]
        if fault == 'cut':
          cut(20.0)
        else:
          running = _processes(patterns[fault], folder)
          if not running:
            continue
          number = signal.SIGSTOP if fault == 'hang' else signal.SIGKILL
          os.kill(running[0], number)
        done.append(fault)
        due = made + 1000
        print(fault, 'at', made, flush=True)
    log = (folder / 'log').read_text()
    rows = _rows(folder)
    facts = json.loads((folder / 'run' / 'run.json').read_text())
    made = counted_environment.counted(folder / 'steps')
  if 'interactions' not in facts:
    raise SystemExit(f'The run ended early:\n{log[-6000:]}')
  lost = sum(float(row['lost_interactions']) for row in rows)
  for kind in dict.fromkeys(faults):
    _note(f'ray: fault, {kind}', where, done.count(kind), 'times')
  _note('ray: interactions made', where, made, '')
  _note('ray: interactions counted', where, facts['interactions'], '')
  _note('ray: asked for, and lost with a collector', where, lost, '')
  _note('ray: made again after a checkpoint', where, repeated, '')
  # An iteration that a learner did not live to count.
  unseen = 1000 * done.count('learner')
  counted = facts['interactions']
  accounted = counted <= made <= counted + lost + repeated + unseen
  if not (facts['finished'] and done == faults and accounted):
    raise SystemExit(f'not finished, or not accounted for:\n{log[-3000:]}')


def _score() -> None:
  """Scores of 50K interactions with Ray."""
  for count in _COUNTS.value:
    with tempfile.TemporaryDirectory() as temporary:
      folder = pathlib.Path(temporary)
      command = [
        *(sys.executable, '-m', 'qwr_tf.launch', '--gin_file=mujoco_100k.gin'),
        f'--root_dir={folder / "run"}',
        f'--seed={_SEED.value}',
        '--gin_bindings=run.interactions=50000',
        *_launch(int(count)),
      ]
      if _start(folder, command).wait():
        raise SystemExit((folder / 'log').read_text())
      scores = json.loads((folder / 'run' / 'run.json').read_text())['scores']
    for name in ('mode', 'sampled'):
      _note(
        'ray: return after 50K interactions',
        f'seed {_SEED.value}, {count} collectors, {name}',
        scores[f'eval_return_{name}'],
        '',
      )


def main(_) -> None:
  """Measures."""
  os.environ |= cluster.LOCAL
  measure = {
    'sleep': _sleep,
    'speed': _speed,
    'intake': _intake,
    'broadcast': _broadcast,
    'faults': _faults,
    'score': _score,
  }
  measure[_WHAT.value]()


if __name__ == '__main__':
  app.run(main)
