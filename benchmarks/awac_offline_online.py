"""AWAC from a data set to the environment, with BC on the same data.

    python -m benchmarks.awac_offline_online [--seeds=0-2]

Data: all interactions of a QWR run (mujoco_100k.gin) of --data_interactions,
recorded once into --runs_dir. AWAC makes 25K updates on it without collecting,
then 50K interactions with an update each into the same table; BC makes 25K
updates. Rows go to results/awac_offline_online.csv, the curves beside it.
"""

import itertools
import os

os.environ.setdefault('OPENBLAS_NUM_THREADS', '1')

import pathlib
import time
from collections.abc import Iterator

import numpy as np
import tensorflow as tf
from absl import flags
from tf_agents.trajectories import trajectory

import qwr_tf  # noqa: F401 (first: it quiets TensorFlow)
from qwr_tf import collect
from qwr_tf import command
from qwr_tf import experiment
from qwr_tf import gin_files
from qwr_tf import provenance
from qwr_tf.agents import qwr_agent
from qwr_tf.reporting import results
from qwr_tf.sweeping import sweep_plan

_ENVIRONMENT = flags.DEFINE_string('environment', 'HalfCheetah-v4', 'Name.')
_SEEDS = flags.DEFINE_string('seeds', '0-2', 'Such as 0-2.')
_DATA_INTERACTIONS = flags.DEFINE_integer(
  'data_interactions', 50_000, 'Of the run that is the data set.'
)
_DATA_SEED = flags.DEFINE_integer('data_seed', 100, 'Of that run.')
_OFFLINE = flags.DEFINE_integer(
  'offline_updates', 25_000, 'Without collecting.'
)
_ONLINE = flags.DEFINE_integer('online_interactions', 50_000, 'Thereafter.')
_EVAL_EVERY = flags.DEFINE_integer('eval_every', 5_000, 'Updates.')
_EPISODES = flags.DEFINE_integer('episodes', 10, 'Of an evaluation.')
_RUNS_DIR = flags.DEFINE_string('runs_dir', 'runs', 'Where the data set is.')
_RESULTS = flags.DEFINE_string(
  'results', 'results/awac_offline_online.csv', 'Raw results.'
)
_BINDINGS = flags.DEFINE_multi_string('bindings', [], 'For AWAC and BC.')

# An iteration: updates between two looks at the clock.
_UPDATES = 1000
_FIELDS = (
  'step_type',
  'observation',
  'action',
  'next_step_type',
  'reward',
  'discount',
)


def _name() -> str:
  return (
    f'qwr-{_ENVIRONMENT.value}-{_DATA_INTERACTIONS.value}-s{_DATA_SEED.value}'
  )


def _build(file: str, seed: int, *bindings: str):
  """The experiment of a preset in the benchmark's environment."""
  bindings = (*bindings, f"run.environment = '{_ENVIRONMENT.value}'")
  gin_files.parse([file], bindings)
  return experiment.build(experiment.settings(), seed)


def data_set() -> dict[str, np.ndarray]:
  """Rows of the recorded run; records it the first time."""
  path = pathlib.Path(_RUNS_DIR.value) / f'{_name()}.npz'
  if not path.exists():
    path.parent.mkdir(parents=True, exist_ok=True)
    _record(path)
  with np.load(path) as saved:
    return dict(saved)


def _record(path: pathlib.Path) -> None:
  total = _DATA_INTERACTIONS.value
  parts = _build(
    'mujoco_100k.gin', _DATA_SEED.value, f'run.replay_capacity = {total}'
  )
  done = 0
  while done < total:
    done += next(parts.iterations)[0].interactions
    print(f'{_name()}: {done} of {total}', flush=True)
  rows = parts.table.read(*parts.table.row_range())
  temporary = path.with_name(f'.{path.name}.tmp.npz')
  np.savez_compressed(
    temporary, **{name: getattr(rows, name).numpy() for name in _FIELDS}
  )
  temporary.replace(path)


def mean_return(data: dict[str, np.ndarray]) -> float:
  """Of the episodes that the data set holds from start to end."""
  ends = np.flatnonzero(data['step_type'] == 2)
  pieces = np.split(data['reward'], ends)
  return float(np.mean([piece.sum() for piece in pieces[:-1]]))


def fill(table, data: dict[str, np.ndarray]) -> None:
  """Appends the rows; mu was another policy's and is left out."""
  spec = table.data_spec
  size = len(data['reward'])
  rows = trajectory.Trajectory(
    policy_info=tf.nest.map_structure(
      lambda s: tf.ones([size, *s.shape], s.dtype), spec.policy_info
    ),
    **{name: tf.constant(data[name]) for name in _FIELDS},
  )
  table.append(rows)


def _iterations(parts, data, seed: int) -> Iterator:
  """The algorithm on the data set, then with the environment."""
  fill(parts.table, data)
  env = experiment.load_environment(_ENVIRONMENT.value, seed=seed)
  collector = collect.Collector(
    env, parts.agent, parts.table, seed=seed + 20_000, env_steps=_UPDATES
  )
  nothing = collect.Collected(0, [], 0.0)
  offline = itertools.repeat(nothing, _OFFLINE.value // _UPDATES)
  online = iter(collector, None)
  source = itertools.chain(offline, online)
  return qwr_agent.iterate(parts.agent, parts.table, lambda: next(source))


def run(file: str, algorithm: str, seed: int, interactions: int, data) -> None:
  """One run: its rows, when it is over."""
  parts = _build(
    file,
    seed,
    f'run.replay_capacity = {len(data["reward"]) + interactions}',
    *_BINDINGS.value,
  )
  common = {
    'experiment': pathlib.Path(_RESULTS.value).stem,
    'algorithm': algorithm,
    'preset': pathlib.Path(file).stem,
    'bindings': '; '.join(_BINDINGS.value),
    'dataset': _name(),
    'environment': _ENVIRONMENT.value,
    'seed': seed,
    'commit': provenance.commit(),
    'host_cores': os.cpu_count(),
    'threads': provenance.threads(),
    **provenance.versions(),
  }
  known = {results.identity(r) for r in results.read(_path())}
  if results.identity({k: str(v) for k, v in common.items()}) in known:
    print(f'{algorithm} seed {seed}: has its rows')
    return
  rows, done, start = [], 0, time.perf_counter()
  for collected, _ in _iterations(parts, data, seed):
    done += collected.interactions
    agent = parts.agent
    if int(agent.actor_steps) % _EVAL_EVERY.value == 0:
      rows.append(common | _evaluation(parts, done, start))
      print(algorithm, seed, rows[-1]['actor_steps'], rows[-1]['return_mode'])
    if agent.actor_steps >= _OFFLINE.value + interactions:
      break
  results.add(
    _path(), [{c: str(row.get(c, '')) for c in results.COLUMNS} for row in rows]
  )


def _path() -> pathlib.Path:
  return pathlib.Path(_RESULTS.value)


def _evaluation(parts, interactions: int, start: float) -> dict:
  episodes = _EPISODES.value
  scores = {
    f'return_{name}': round(
      float(np.mean(parts.evaluator.returns(episodes, sampled=sampled))), 4
    )
    for name, sampled in (('mode', False), ('sampled', True))
  }
  return {
    'interactions': interactions,
    'critic_steps': int(parts.agent.critic_steps),
    'actor_steps': int(parts.agent.actor_steps),
    'episodes': episodes,
    'wall_seconds': round(time.perf_counter() - start, 1),
    **scores,
  }


def draw(mean: float) -> pathlib.Path:
  """Returns over updates, one line per run."""
  import matplotlib  # A second to import; needs no screen.

  matplotlib.use('Agg')
  from matplotlib import pyplot

  figure, axes = pyplot.subplots(figsize=(7, 4.2), layout='constrained')
  runs: dict[tuple[str, ...], list[results.Row]] = {}
  for row in results.read(_path()):
    runs.setdefault(results.identity(row), []).append(row)
  colours = {'AWAC': 'C0', 'BC': 'C1'}
  for rows in runs.values():
    axes.plot(
      [int(row['actor_steps']) for row in rows],
      [float(row['return_mode']) for row in rows],
      color=colours[rows[0]['algorithm']],
      label=f'{rows[0]["algorithm"]} seed {rows[0]["seed"]}',
    )
  axes.axhline(mean, color='0.5', ls='--', label='mean of the data')
  axes.axvline(_OFFLINE.value, color='0.5', lw=0.8)
  axes.set(
    title=f'{_ENVIRONMENT.value}: data set, then environment',
    xlabel='updates; each is an interaction right of the line',
    ylabel='return, mode action',
  )
  axes.legend(frameon=False, fontsize=8)
  picture = _path().with_suffix('.png')
  temporary = picture.with_name(f'.{picture.name}.tmp.png')
  figure.savefig(temporary, dpi=120)
  temporary.replace(picture)
  return picture


def main() -> None:
  """Records, trains, draws."""
  data = data_set()
  mean = mean_return(data)
  print(f'{_name()}: mean return {mean:.1f}', flush=True)
  for seed in sweep_plan.parse_seeds(_SEEDS.value):
    run('bc_mujoco.gin', 'BC', seed, 0, data)
    run('awac_mujoco.gin', 'AWAC', seed, _ONLINE.value, data)
  print(f'{_path()}\n{draw(mean)}')


if __name__ == '__main__':
  command.run(main)
