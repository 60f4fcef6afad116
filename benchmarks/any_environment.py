"""General presets on tasks of every kind: scores above those of random actions.

    python -m benchmarks.any_environment [--tasks=Catch,CatchDict] [--seeds=0-2]

Each run is the one command line that is printed, in a process of one thread;
`vector.gin` and `pixels.gin` know nothing of the tasks. Adds a row per run to
results/benchmarks/any_environment.csv; exit code 1 if a score (mode action) is
not above that of random actions by the task's margin. FetchReach needs the
extra `robotics`, PointMaze gymnasium-robotics.
"""

import json
import os
import pathlib
import platform
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any, NamedTuple

from absl import app
from absl import flags

from benchmarks import raw_rows
from qwr_tf import environments
from qwr_tf.acting import recording
from qwr_tf.config import startup  # noqa: F401, before TensorFlow.
from qwr_tf.runs import provenance


class Task(NamedTuple):
  """A command line, and what it has to reach.

  Attributes:
    env: id.
    interactions: of the run.
    margin: in units of return, above random actions.
    preset: a general one.
    episodes: of the final evaluation, and of random actions.
    settings: of `load_environment`.
  """

  env: str
  interactions: int
  margin: float
  preset: str = 'vector'
  episodes: int = 20
  settings: dict[str, Any] = {}  # noqa: RUF012


TASKS = {
  'CartPole': Task('CartPole-v1', 8_000, 450),
  'FrozenLake': Task('FrozenLake-v1', 10_000, 0.4, episodes=100),
  'Taxi': Task('Taxi-v4', 10_000, 400, episodes=100),
  'CliffWalking': Task(
    'CliffWalking-v1', 3_000, 500, settings={'max_episode_steps': 200}
  ),
  'Blackjack': Task('Blackjack-v1', 3_000, 0.15, episodes=1000),
  'PointMaze': Task(
    'gymnasium_robotics:PointMaze_UMaze-v3', 60_000, 50, episodes=100
  ),
  'FetchReach': Task('gymnasium_robotics:FetchReach-v4', 20_000, 20),
  'Catch': Task('examples.small_tasks:Catch-v0', 2_000, 1, 'pixels', 100),
  'CatchDict': Task(
    'examples.small_tasks:CatchDict-v0', 3_000, 1.2, 'pixels', 100
  ),
  'Dials': Task('examples.small_tasks:Dials-v0', 6_000, 10, episodes=100),
}

_TASKS = flags.DEFINE_list('tasks', list(TASKS), 'Which tasks.')
_SEEDS = flags.DEFINE_list('seeds', ['0'], 'Of the runs.')
_RESULTS = flags.DEFINE_string(
  'results', str(raw_rows.path_of('any_environment')), 'Where rows are added.'
)


def command(task: Task, seed: int) -> list[str]:
  """The command line, without its folder."""
  bindings = {'run.final_eval_episodes': task.episodes}
  bindings |= {f'load_environment.{k}': v for k, v in task.settings.items()}
  return [
    *('-m', 'qwr_tf', 'train'),
    f'--gin_file={task.preset}',
    f'--env={task.env}',
    f'--interactions={task.interactions}',
    f'--seed={seed}',
    *(f'--gin_bindings={k}={v!r}' for k, v in bindings.items()),
  ]


def random_return(task: Task) -> float:
  """The mean return of uniformly random actions."""
  with environments.load(task.env, seed=0, **task.settings) as wrapper:
    policy = recording.random_policy(wrapper.env.action_space, 0)
    episodes = recording.play(wrapper.env, policy, 0)
    returns = [sum(next(episodes).rewards) for _ in range(task.episodes)]
  return float(statistics.fmean(returns))


def run(task: Task, seed: int) -> dict[str, Any]:
  """Trains; returns scores and times."""
  line = command(task, seed)
  print(shlex.join(['python', *line]), flush=True)
  one = dict.fromkeys(
    ('OMP_NUM_THREADS', 'TF_NUM_INTRAOP_THREADS', 'TF_NUM_INTEROP_THREADS'), '1'
  )
  with tempfile.TemporaryDirectory() as folder:
    root_dir = pathlib.Path(folder, 'run')
    start, before = time.monotonic(), os.times()
    subprocess.run(
      [sys.executable, *line, f'--root_dir={root_dir}'],
      check=True,
      env=os.environ | one,
      stdout=subprocess.DEVNULL,
    )
    after = os.times()
    facts = json.loads((root_dir / 'run.json').read_text('utf-8'))
  used = after.children_user + after.children_system
  used -= before.children_user + before.children_system
  return {
    'command': shlex.join(['python', *line]),
    'mode': facts['scores']['eval_return_mode'],
    'sampled': facts['scores']['eval_return_sampled'],
    'seconds': round(time.monotonic() - start, 1),
    'cpu_seconds': round(used, 1),
  }


def _processor() -> str:
  path = pathlib.Path('/proc/cpuinfo')
  lines = path.read_text().splitlines() if path.exists() else []
  names = [x.partition(': ')[2] for x in lines if x.startswith('model name')]
  return names[0] if names else platform.processor()


def main(_):
  """Runs the tasks; prints and adds rows."""
  failed = []
  for name in _TASKS.value:
    task = TASKS[name]
    chance = random_return(task)
    for seed in map(int, _SEEDS.value):
      result = run(task, seed)
      above = result['mode'] - chance
      if above < task.margin:
        failed.append(f'{name} {seed}')
      print(
        f'{name} seed {seed}: {result["mode"]:.2f} with the mode action, '
        f'{result["sampled"]:.2f} sampled; random {chance:.2f}; margin '
        f'{task.margin:g}; {result["cpu_seconds"]} s of CPU',
        flush=True,
      )
      row = {
        'task': name,
        'preset': task.preset,
        'interactions': task.interactions,
        'seed': seed,
        'random': round(chance, 3),
        'margin': task.margin,
        'above_margin': int(above >= task.margin),
        'episodes': task.episodes,
        **result,
        'processor': _processor(),
        'host_cores': os.cpu_count(),
        **provenance.facts(),
      }
      raw_rows.add(pathlib.Path(_RESULTS.value), [row])
  if failed:
    sys.exit(f'below the margin: {", ".join(failed)}')


if __name__ == '__main__':
  app.run(main)
