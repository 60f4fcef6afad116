"""AWAC's own task: Adroit's pen with a sparse reward, from demonstrations.

    pip install "qwr_tf[robotics]"
    python -m benchmarks.adroit --work_dir=runs/adroit

1. Trains an expert on the dense reward, 1M interactions: the paper's human
demonstrations cannot be had. 2. Records 25 of its episodes that succeed, under
the sparse reward, clones them and records 500 episodes of the clone, as in the
paper (Nair et al. 2020). 3. AWAC, QWR and BC learn from both, offline; AWAC and
QWR go on online; two seeds. 4. Plays the policies along the runs:
results/adroit.csv, the share of episodes in which the pen was where it should
be for a step, over interactions; draws results/adroit.png. The same command
goes on where it was cut, the same numbers. An expert below --min_success ends
it after the first stage. --bindings are for a quick look.
"""

from qwr_tf.config import startup  # noqa: F401, before TensorFlow.

# isort: split
import csv
import itertools
import pathlib
import subprocess
import sys
from collections.abc import Iterator

import numpy as np
from absl import flags

from benchmarks import raw_rows
from qwr_tf import datasets
from qwr_tf import environments
from qwr_tf import serving
from qwr_tf.acting import recording
from qwr_tf.config import command
from qwr_tf.config import gin_files
from qwr_tf.config.errors import ConfigError
from qwr_tf.runs import provenance
from qwr_tf.serving import saved_policy
from qwr_tf.training import experiment
from qwr_tf.training import training_command

_WORK_DIR = flags.DEFINE_string('work_dir', 'runs/adroit', 'Of runs and data.')
_RESULTS = flags.DEFINE_string(
  'results', str(raw_rows.path_of('adroit').parents[1] / 'adroit.csv'), 'CSV.'
)
_EXPERT_INTERACTIONS = flags.DEFINE_integer(
  'expert_interactions', 1_000_000, 'Of the expert.'
)
_INTERACTIONS = flags.DEFINE_integer(
  'online_interactions', 100_000, 'Of learners.'
)
_EPISODES = flags.DEFINE_integer('episodes', 50, 'Behind a success rate.')
_DEMONSTRATIONS = flags.DEFINE_integer('demonstrations', 25, 'Of the expert.')
_CLONED = flags.DEFINE_integer('cloned', 500, 'Episodes of the clone.')
_MIN_SUCCESS = flags.DEFINE_float('min_success', 0.2, 'Of the expert.')
_BINDINGS = flags.DEFINE_multi_string('bindings', [], 'Of all runs.')
_RUN = flags.DEFINE_string('run', None, 'Of the process that trains.')

_DENSE = 'gymnasium_robotics:AdroitHandPen-v1'
_SPARSE = 'gymnasium_robotics:AdroitHandPenSparse-v1'
# With the default's 0.4 the hand drops the pen in its first steps.
_SCALE = 'GaussianHead.scale = 0.15'
_EXPERT = (
  _SCALE,
  'run.eval_every_env_steps = 50000',
  'run.eval_episodes = 10',
  'GatedQNetwork.value_scale = 300.0',  # A step is worth up to 60.
  'mlp_torso.units = (128, 128)',
  'iterate.batch_size = 128',
)
_ONLINE = (
  'run.eval_every_env_steps = 5000',
  'run.eval_episodes = 1',
)
_AWAC = ('mlp_torso.units = (256, 256)', 'iterate.batch_size = 256')
_LEARNERS = {
  'AWAC': ('offline_online_awac_mujoco.gin', (*_ONLINE, *_AWAC)),
  'QWR': ('offline_online_mujoco.gin', (*_ONLINE, _SCALE)),
  'BC': ('offline_bc_mujoco.gin', (_SCALE,)),
}  # BC has no online part.
_SEEDS = 0, 1


def _work(*parts: str) -> pathlib.Path:
  return pathlib.Path(_WORK_DIR.value, *parts)


def _train(
  name: str,
  preset: str,
  environment: str,
  interactions: int,
  seed: int,
  bindings,
) -> None:
  """A run in its own process; its policies go to policies/<name>."""
  bindings = (f'run.interactions = {interactions}', *bindings)
  subprocess.run(
    [
      *(sys.executable, '-m', 'benchmarks.adroit'),
      f'--run={_work("policies", name)}',
      f'--gin_file={preset}',
      f"--gin_bindings=run.environment = '{environment}'",
      *(f'--gin_bindings={x}' for x in (*bindings, *_BINDINGS.value)),
      f'--seed={seed}',
      f'--root_dir={_work(name)}',
    ],
    check=True,
  )


def _train_here() -> None:
  """A run that exports its policy before every evaluation."""

  def export(phase: str, run) -> None:
    name = f'{run.interactions:07d}-{run.iteration:05d}'
    folder = pathlib.Path(_RUN.value, name)
    if phase == 'evaluation' and not folder.exists():
      serving.export(run.parts.agent, run.facts(), folder)

  training_command.run(
    training_command.configuration(), serving.export, hook=export
  )


def _policies(name: str) -> dict[int, pathlib.Path]:
  """The last after each number of interactions."""
  folders = sorted(_work('policies', name).glob('[0-9]*'))
  return {int(folder.name.partition('-')[0]): folder for folder in folders}


def _last(name: str) -> pathlib.Path:
  return [*_policies(name).values()][-1]


def _played(policy: pathlib.Path, seed: int) -> Iterator[datasets.Episode]:
  """Episodes under the sparse reward, without mu, like demonstrations."""
  with experiment.load_environment(_SPARSE) as wrapped:
    acts = saved_policy.SavedPolicy(policy).sampler(seed)
    for episode in recording.play(wrapped.env, acts, seed):
      yield episode._replace(dist_params={})


def _succeeds(episode: datasets.Episode) -> bool:
  return bool((episode.rewards > 0).any())


def _write(name: str, episodes: Iterator[datasets.Episode]) -> None:
  with experiment.load_environment(_SPARSE) as wrapped:
    metadata = environments.minari_metadata(wrapped.env)
  datasets.write(_work(name), episodes, metadata)


def _demonstrations() -> None:
  """Of the expert, and with the clone's episodes."""
  if not _work('demonstrations').exists():
    expert = _last('expert')
    tries = list(itertools.islice(_played(expert, 0), _EPISODES.value))
    share = float(np.mean([_succeeds(episode) for episode in tries]))
    print(f'expert: {share:.0%} of {len(tries)} episodes succeed')
    if share < _MIN_SUCCESS.value:
      raise ConfigError(
        f'the expert succeeds in {share:.0%} of its episodes, not in '
        f'{_MIN_SUCCESS.value:.0%}; raise its run.interactions.'
      )
    kept = (e for e in _played(expert, 10_000) if _succeeds(e) or not share)
    _write('demonstrations', itertools.islice(kept, _DEMONSTRATIONS.value))
  if not _work('data').exists():
    _learn('clone', 'BC', 0, 'demonstrations')
    clone = _played(_last('clone'), 20_000)
    specs = _specs()
    demonstrated = datasets.DataSet(str(_work('demonstrations')))
    _write(
      'data',
      itertools.chain(
        demonstrated.episodes(*specs), itertools.islice(clone, _CLONED.value)
      ),
    )


def _specs():
  with experiment.load_environment(_SPARSE) as wrapped:
    spaces = wrapped.env.observation_space, wrapped.env.action_space
  time_step_spec, action_spec = environments.specs_of(*spaces)
  bounds = environments.action_bounds(spaces[1])
  return time_step_spec.observation, action_spec, bounds


def _learn(name: str, learner: str, seed: int, data: str) -> None:
  preset, bindings = _LEARNERS[learner]
  dataset = f"run.dataset = '{_work(data)}'"
  interactions = 0 if learner == 'BC' else _INTERACTIONS.value
  _train(name, preset, _SPARSE, interactions, seed, (dataset, *bindings))


def _rows() -> list[dict[str, str]]:
  path = pathlib.Path(_RESULTS.value)
  if not path.exists():
    return []
  with open(path, newline='') as f:
    return list(csv.DictReader(f))


def _measure(learner: str, seed: int, name: str) -> None:
  done = {(r['algorithm'], r['seed'], int(r['interactions'])) for r in _rows()}
  for interactions, policy in _policies(name).items():
    if (learner, str(seed), interactions) in done:
      continue
    episodes = list(itertools.islice(_played(policy, 2**20), _EPISODES.value))
    row = {
      'commit': provenance.commit(),
      'algorithm': learner,
      'seed': seed,
      'interactions': interactions,
      'success': np.mean([_succeeds(episode) for episode in episodes]),
      'return': np.mean([episode.rewards.sum() for episode in episodes]),
      'episodes': len(episodes),
    }
    raw_rows.add(pathlib.Path(_RESULTS.value), [row])
    print(learner, seed, interactions, f'{row["success"]:.0%}', flush=True)


def _draw() -> None:
  import matplotlib

  matplotlib.use('Agg')
  from matplotlib import pyplot

  figure, panel = pyplot.subplots(figsize=(5, 3.4), layout='constrained')
  for number, learner in enumerate(_LEARNERS):
    rows = [row for row in _rows() if row['algorithm'] == learner]
    for seed in _SEEDS:
      line = sorted(
        (int(row['interactions']), float(row['success']))
        for row in rows
        if row['seed'] == str(seed)
      )
      if len(line) == 1:  # Offline alone.
        panel.axhline(line[0][1], color=f'C{number}', ls=':', label=learner)
      elif line:
        label = learner if not seed else None
        panel.plot(*zip(*line, strict=True), color=f'C{number}', label=label)
  panel.set(xlabel='interactions', ylabel='success rate', ylim=(-0.02, 1.02))
  panel.legend(frameon=False)
  figure.savefig(pathlib.Path(_RESULTS.value).with_suffix('.png'), dpi=150)


def main() -> None:
  """The stages, one after the other."""
  if _RUN.value:
    _train_here()
    return
  gin_files.parse([], [])
  interactions = _EXPERT_INTERACTIONS.value
  _train('expert', 'mujoco_100k.gin', _DENSE, interactions, 0, _EXPERT)
  _demonstrations()
  for seed, learner in itertools.product(_SEEDS, _LEARNERS):
    name = f'{learner}-{seed}'
    _learn(name, learner, seed, 'data')
    _measure(learner, seed, name)
  _draw()


if __name__ == '__main__':
  command.run(main)
