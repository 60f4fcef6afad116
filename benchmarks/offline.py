"""Offline learning from this project's own policies, and going online.

    python -m benchmarks.offline [--environments=HalfCheetah-v4,Hopper-v4,…]

1. Trains QWR online and keeps the policy after a third of the run and at its
end; on Hopper with --data_seed=2, because seeds 0 and 1 end below a return of
500. 2. Records whole episodes of each, 50K steps or a little more. 3. Runs QWR,
AWR, BC (4 seeds) and AWAC (2 seeds, 256-256 networks at batch 256) offline for
30 iterations: results/offline.csv, the QWR paper's Figure 3. 4. Runs QWR and
AWAC offline and then 50K interactions online on one of the environments, an
evaluation per 1000 steps: results/offline_online.csv. Whatever is there already
is kept, so the same command goes on where it was cut. --bindings are for a
quick look.
"""

import pathlib
import statistics
import subprocess
import sys

from absl import app
from absl import flags

from qwr_tf.reporting import report_data

_ENVIRONMENTS = flags.DEFINE_list(
  'environments',
  ['HalfCheetah-v4', 'Hopper-v4', 'Walker2d-v4'],
  'MuJoCo environments.',
)
_STAGES = flags.DEFINE_list(
  'stages', ['train', 'record', 'offline', 'online', 'verdict'], 'Which.'
)
_DATA_SETS = flags.DEFINE_list(
  'data_sets', ['third-v0', 'final-v0'], 'Learned from offline.'
)
_INTERACTIONS = flags.DEFINE_integer(
  'interactions', 100_000, 'Of the runs whose policies are recorded.'
)
_DATA_SEED = flags.DEFINE_integer(
  'data_seed', 0, 'Of the runs whose policies are recorded.'
)
_STEPS = flags.DEFINE_integer('steps', 50_000, 'Of a data set.')
_BINDINGS = flags.DEFINE_multi_string(
  'bindings', [], 'gin bindings of the offline runs, for a quick look.'
)
_WORK_DIR = flags.DEFINE_string(
  'work_dir', 'runs/offline', 'Of runs and data sets.'
)
_RESULTS_DIR = flags.DEFINE_string('results_dir', 'results', 'Of the CSVs.')
_PROCESSES = flags.DEFINE_integer('processes', None, 'Runs at a time.')

# Name of a data set and the share of the run after which its policy acted.
DATA_SETS = {'third-v0': 1 / 3, 'final-v0': 1.0}

_AWAC = ('mlp_torso.units = (256, 256)', 'iterate.batch_size = 256')

# Preset, seeds, bindings.
OFFLINE = (
  ('offline_mujoco.gin', '0-3', ()),
  ('offline_awr_mujoco.gin', '0-3', ()),
  ('offline_bc_mujoco.gin', '0-3', ()),
  ('offline_awac_mujoco.gin', '0-1', _AWAC),
)
_ONLINE = (
  'run.interactions = 50000',
  'run.eval_every_env_steps = 1000',
  'run.eval_episodes = 10',
)
ONLINE = (
  ('offline_online_mujoco.gin', '0-1', _ONLINE),
  ('offline_online_awac_mujoco.gin', '0-1', (*_ONLINE, *_AWAC)),
)


def _run(module: str, *arguments: str) -> None:
  print('python -m', module, *arguments, flush=True)
  subprocess.run([sys.executable, '-m', module, *arguments], check=True)


def _work(*parts: str) -> pathlib.Path:
  return pathlib.Path(_WORK_DIR.value, *parts)


def _policy(environment: str, dataset: str) -> pathlib.Path:
  return _work('policies', environment, dataset)


def _train(environment: str) -> None:
  """Two runs alike but for their length: one is the beginning of the other."""
  for dataset, share in DATA_SETS.items():
    # The step sizes fall over 100K steps in both.
    interactions = round(_INTERACTIONS.value * share / 1000) * 1000
    _run(
      'qwr_tf.train',
      '--gin_file=mujoco_100k.gin',
      f"--gin_bindings=run.environment = '{environment}'",
      f'--gin_bindings=run.interactions = {interactions}',
      f'--seed={_DATA_SEED.value}',
      f'--root_dir={_policy(environment, dataset)}',
    )


def _record(environment: str) -> None:
  for dataset in DATA_SETS:
    output = _work('datasets', environment, dataset)
    if not output.exists():
      _run(
        'qwr_tf.record',
        f'--policy={_policy(environment, dataset) / "policy"}',
        f'--env={environment}',
        f'--steps={_STEPS.value}',
        f'--dataset={output}',
      )


def _sweep(name: str, environments, dataset, preset, seeds, bindings) -> None:
  path = _work('datasets', '{environment}', dataset)
  bindings = (f"run.dataset = '{path}'", *bindings, *_BINDINGS.value)
  processes = _PROCESSES.value
  _run(
    'qwr_tf.sweep',
    f'--gin_file={preset}',
    *(f'--gin_bindings={binding}' for binding in bindings),
    f'--envs={",".join(environments)}',
    f'--seeds={seeds}',
    f'--results={_RESULTS_DIR.value}/{name}.csv',
    f'--runs_dir={_work("runs")}',
    *([f'--processes={processes}'] if processes else []),
  )


def _verdict(name: str) -> None:
  """Final scores beside the data, and what was left after the switch."""
  path = pathlib.Path(_RESULTS_DIR.value, f'{name}.csv')
  for experiment in report_data.load([path]) if path.exists() else ():
    for environment in experiment.environments:
      for setting in experiment.learned:
        _say(experiment, environment, setting)


def _say(experiment, environment, setting) -> None:
  finals = experiment.finals(setting, environment, 'mode')
  if not finals:
    return
  data = experiment.data_return(setting.dataset, environment)
  print(
    f'{environment:16}{setting.dataset:10}{setting.algorithm:9}'
    f'median {statistics.median(finals):7.0f} of {len(finals)}, data {data:.0f}'
  )
  for seed, run in experiment.of(setting, environment).groupby('seed'):
    offline = run.interactions == 0
    if offline.any() and not offline.all():
      before = run[offline]['mode'].iloc[-1]
      after = run[~offline]['mode'].iloc[:5]
      print(
        f'  seed {seed}: {before:.0f} before the switch, mean of the next '
        f'{len(after)} {after.mean():.0f} ({after.mean() / before:.0%})'
      )


def main(_):
  """The stages, one after the other."""
  environments, stages = _ENVIRONMENTS.value, _STAGES.value
  for name, stage in (('train', _train), ('record', _record)):
    for environment in environments if name in stages else ():
      stage(environment)
  if 'offline' in stages:
    for dataset in _DATA_SETS.value:
      for preset in OFFLINE:
        _sweep('offline', environments, dataset, *preset)
  if 'online' in stages:
    for preset in ONLINE:
      _sweep('offline_online', environments[:1], 'third-v0', *preset)
  if 'verdict' in stages:
    for name in ('offline', 'offline_online'):
      _verdict(name)


if __name__ == '__main__':
  app.run(main)
