"""Many environments: vectors and Ray against one process, and their limits.

    python -m benchmarks.distributed --what=sleep      # a step takes 5 ms
    python -m benchmarks.distributed --what=speed      # Ray against one process
    python -m benchmarks.distributed --what=intake     # what a learner takes in
    python -m benchmarks.distributed --what=broadcast  # bytes, seconds
    python -m benchmarks.distributed --what=faults     # kill -9 of each role
    python -m benchmarks.distributed --what=score      # 50K interactions

Adds rows to results/benchmarks/distributed.csv. `intake` drives the learner's
table with fake collectors, which send the same segments again and again.
`faults` kills a collector and the learner in turn, --kills times each, and
counts the interactions that were made and those the learner counted.
"""

from qwr_tf.config import startup  # noqa: F401, before TensorFlow.

# isort: split
import csv
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
_SEED = flags.DEFINE_integer('seed', 0, 'Of --what=score.')
_COUNTS = flags.DEFINE_list('counts', ['1', '4'], 'Collectors.')
_INTERACTIONS = flags.DEFINE_integer('interactions', 20_000, 'Of a run.')
_STEPS = flags.DEFINE_integer('steps', 1000, 'Per 1000 interactions, each.')

_ROOT = pathlib.Path(__file__).resolve().parents[1]
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
    with open(folder / 'run' / 'metrics.csv', newline='') as f:
      return list(csv.DictReader(f))
  except FileNotFoundError:
    return []


def _launch(count: int) -> list[str]:
  return [
    f'--collectors={count}',
    f'--asynchronous={ray_flags.ASYNCHRONOUS.value}',
  ]


def _speed() -> None:
  """Interactions a second of whole iterations, after the first ones."""
  for setting, module, extra in [
    ('one process', 'qwr_tf.train', []),
    *((f'Ray, {c}', 'qwr_tf.launch', _launch(int(c))) for c in _COUNTS.value),
  ]:
    with tempfile.TemporaryDirectory() as temporary:
      folder = pathlib.Path(temporary)
      command = _command(module, folder, 'HalfCheetah-v4') + extra
      if _start(folder, command).wait():
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


def _fake_rows(agent, has_frames: bool, interactions: int):
  """A segment of one environment: an episode that goes on and is cut."""
  older = 3 if has_frames else 0
  count = older + interactions + 1
  rows = tf.nest.map_structure(
    lambda x: x.numpy(),
    tensor_spec.zero_spec_nest(agent.collect_data_spec, outer_dims=[count]),
  )
  step_type = np.ones(count, np.int32)
  step_type[:older] = step_type[-1] = 2
  shape = rows.observation.shape[: 3 if has_frames else None]
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
    rows = _fake_rows(agent, any(table.has_frames), 125)
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


def _processes(pattern: str) -> list[int]:
  """Processes whose command line holds a text."""
  found = []
  for path in pathlib.Path('/proc').glob('[0-9]*/cmdline'):
    try:
      text = path.read_bytes().replace(b'\0', b' ').decode()
    except OSError:
      continue
    if pattern in text:
      found.append(int(path.parent.name))
  return found


def _faults() -> None:
  """Kills a collector and the learner in turn."""
  with tempfile.TemporaryDirectory() as temporary:
    folder = pathlib.Path(temporary)
    command = _command('qwr_tf.launch', folder, _COUNTED) + _launch(2)
    launcher = _start(folder, command)
    patterns = {
      'collector': 'ray::CollectorActor',
      'learner': f'qwr_tf.distributed --gin_file=mujoco_100k.gin '
      f'--root_dir={folder / "run"}',
    }
    kills = 0
    seen = 0
    while launcher.poll() is None:
      time.sleep(0.5)
      rows = _rows(folder)
      made = int(rows[-1]['interactions']) if rows else 0
      if made > seen and kills < 2 * _KILLS.value:
        role = list(patterns)[kills % 2]
        if processes := _processes(patterns[role]):
          os.kill(processes[0], signal.SIGKILL)
          kills += 1
          seen = made + 1000
          print('killed a', role, 'at', made, flush=True)
    facts = json.loads((folder / 'run' / 'run.json').read_text())
    made = counted_environment.counted(folder / 'steps')
  _note('ray: kills', 'learner and collectors in turn', kills, '')
  _note('ray: interactions made', 'two collectors', made, '')
  _note('ray: interactions counted', '', facts['interactions'], '')
  if not facts['finished']:
    raise SystemExit('the run is not finished')


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
