"""Compares the numbers of two checkouts bit for bit.

    python -m benchmarks.same_numbers --before=../before --after=. [--cases=...]

Trains the same short runs in both checkouts, each in its own `.venv`, and
compares metrics.csv (but for the columns that time something) and the final
weights. A redesign that is meant to change nothing passes; the exit code is 1
where a run differs. `--keep=DIR` keeps the runs of `--before` in a folder, so
that a second comparison makes only those of `--after`.
"""

import csv
import os
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import tensorflow as tf
from absl import app
from absl import flags

_BEFORE = flags.DEFINE_string('before', None, 'Checkout with a .venv.')
_AFTER = flags.DEFINE_string('after', '.', 'The other checkout.')
_KEEP = flags.DEFINE_string('keep', None, 'Folder for the runs of --before.')
_IGNORED = flags.DEFINE_list(
  'ignored', [], 'Columns that were changed on purpose.'
)

_SHORT = ('run.final_eval_episodes=2', 'run.eval_episodes=1')
_DATA = "run.dataset='{data}'"
# Name of a case -> (gin file, bindings).
CASES = {
  'bitflip': (
    'bitflip.gin',
    ('run.interactions=3000', 'run.environment="BitFlip-8"'),
  ),
  'halfcheetah': (
    'mujoco_100k.gin',
    ('run.interactions=2000', 'run.eval_every_env_steps=1000'),
  ),
  'pong': (
    'atari_100k_paper.gin',
    (
      'run.interactions=300',
      'run.log_every_env_steps=100',
      'run.eval_every_env_steps=200',
      'load_environment.max_episode_steps=60',
      'Collector.env_steps=100',
      'iterate.critic_steps=30',
      'iterate.actor_steps=30',
      'iterate.batch_size=16',
      'ExactReuse.reuse_train_steps=10',
      'hard_update.period_train_steps=10',
      'run.eval_environments=2',
      "dqn_2013_torso.dtype_policy='float32'",
    ),
  ),
  'awr': (
    'awr_mujoco.gin',
    ('run.interactions=4200', 'run.eval_every_env_steps=2000'),
  ),
  'awac': ('awac_bitflip.gin', ('run.interactions=1000',)),
  'dqn': ('dqn_bitflip.gin', ('run.interactions=1500',)),
  'offline': (
    'offline_bitflip.gin',
    (
      _DATA,
      'run.environment="BitFlip-8"',
      'run.offline_iterations=3',
      'iterate.critic_steps=100',
      'iterate.actor_steps=100',
      'run.eval_every_env_steps=100',
      'run.log_every_env_steps=100',
    ),
  ),
}
_CASES = flags.DEFINE_list('cases', list(CASES), 'Which runs.')

# Columns of metrics.csv that time something.
_TIMES = ('wall_seconds', '_per_second')


def _run(checkout: pathlib.Path, arguments: list[str]) -> None:
  environment = {
    **os.environ,
    'OMP_NUM_THREADS': '1',
    'TF_NUM_INTRAOP_THREADS': '1',
    'TF_NUM_INTEROP_THREADS': '1',
    'TF_ENABLE_ONEDNN_OPTS': '1',
  }
  environment.pop('PYTHONPATH', None)
  python = checkout / '.venv' / 'bin' / 'python'
  done = subprocess.run(
    [str(python), '-m', *arguments],
    cwd=checkout,
    env=environment,
    capture_output=True,
    text=True,
  )
  if done.returncode:
    sys.exit(f'{checkout}: {" ".join(arguments)}\n{done.stderr[-2000:]}')


def _data_set(checkout: pathlib.Path, folder: pathlib.Path) -> pathlib.Path:
  """Records what the offline run learns from."""
  data = folder / 'data'
  if not data.exists():
    where = f'--dataset={data}'
    _run(
      checkout,
      ['qwr_tf.record', '--policy=random', '--env=BitFlip-8', where],
    )
  return data


def _train(
  checkout: pathlib.Path, case: str, folder: pathlib.Path, data: pathlib.Path
) -> pathlib.Path:
  """Trains a case, unless the folder holds it; returns the run's folder."""
  gin_file, bindings = CASES[case]
  run = folder / case
  flag = '--gin_bindings='
  _run(
    checkout,
    [
      'qwr_tf.train',
      f'--gin_file={gin_file}',
      f'--root_dir={run}',
      *(flag + b.format(data=data) for b in (*bindings, *_SHORT)),
    ],
  )
  return run


def _metrics(run: pathlib.Path) -> list[dict[str, str]]:
  with open(run / 'metrics.csv', newline='') as f:
    rows = list(csv.DictReader(f))
  return [
    {
      name: value
      for name, value in row.items()
      if not name.endswith(_TIMES) and name not in _IGNORED.value
    }
    for row in rows
  ]


def _weights(run: pathlib.Path) -> list[tuple[tuple[int, ...], bytes]]:
  """Shapes and bytes of all numbers, sorted: names may change."""
  checkpoint = tf.train.latest_checkpoint(str(run / 'checkpoints' / 'final'))
  prefixes = list((run / 'checkpoints' / 'final').glob('*.index'))
  path = checkpoint or str(prefixes[0]).removesuffix('.index')
  reader = tf.train.load_checkpoint(path)
  names = reader.get_variable_to_shape_map()
  values = [np.asarray(reader.get_tensor(name)) for name in names]
  numbers = [v for v in values if v.dtype.kind in 'fiub']
  return sorted((v.shape, v.tobytes()) for v in numbers)


def difference(before: pathlib.Path, after: pathlib.Path) -> str:
  """The first difference between two runs as text; '' if there is none."""
  rows, others = _metrics(before), _metrics(after)
  if len(rows) != len(others):
    return f'{len(rows)} and {len(others)} rows'
  for i, (row, other) in enumerate(zip(rows, others, strict=True), 1):
    for name in row:
      if row[name] != other.get(name, row[name]):
        return f'row {i}: {name} {row[name]}, {other[name]}'
  same = _weights(before) == _weights(after)
  return '' if same else 'the final weights differ'


def main(_) -> None:
  """Trains, compares, prints a line for each case."""
  before = pathlib.Path(_BEFORE.value).resolve()
  after = pathlib.Path(_AFTER.value).resolve()
  differ = False
  with tempfile.TemporaryDirectory() as temporary:
    kept = pathlib.Path(_KEEP.value or f'{temporary}/before').resolve()
    kept.mkdir(parents=True, exist_ok=True)
    data = _data_set(before, kept)
    for case in _CASES.value:
      one = _train(before, case, kept, data)
      other = _train(after, case, pathlib.Path(temporary, 'after'), data)
      problem = difference(one, other)
      differ |= bool(problem)
      print(f'{case:12} {problem or "the same"}', flush=True)
  sys.exit(int(differ))


if __name__ == '__main__':
  app.run(main)
