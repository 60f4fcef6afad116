"""Trains an agent: python -m qwr_tf.train --gin_file=mujoco_100k.gin.

Writes a run folder (configuration, metrics, TensorBoard, learning curve) and
prints the final score. Exit codes: 0 done, 2 bad input, 1 anything else.
"""

import os

# Matrix products for one observation: more threads only get in the way. NumPy
# reads this when it is imported.
os.environ.setdefault('OPENBLAS_NUM_THREADS', '1')

import pathlib
import shlex
import sys
from typing import Any

from absl import flags

from qwr_tf import command
from qwr_tf import experiment
from qwr_tf import gin_files
from qwr_tf import offline
from qwr_tf import run_folder
from qwr_tf import training_run
from qwr_tf import video
from qwr_tf.reporting import published

flags.declare_key_flag('gin_file')
flags.declare_key_flag('gin_bindings')
_ROOT_DIR = flags.DEFINE_string(
  'root_dir', None, 'Folder of the run; default runs/<what identifies it>.'
)
_SEED = flags.DEFINE_integer(
  'seed',
  0,
  'Of everything random.',
  lower_bound=0,
  upper_bound=2**31 - 1 - experiment.MAX_SEED_OFFSET,
)
_OVERWRITE = flags.DEFINE_bool(
  'overwrite', False, 'Delete the run that root_dir holds and start anew.'
)
_VIDEO = flags.DEFINE_bool(
  'video', False, 'Film an episode of the final policy (video.mp4).'
)


def _folder(config: str, settings: experiment.Settings) -> run_folder.RunFolder:
  path = _ROOT_DIR.value or run_folder.default_path(
    command.GIN_FILE.value[0], settings.environment, _SEED.value, config
  )
  facts = {
    'command': shlex.join(['python', '-m', 'qwr_tf.train', *sys.argv[1:]]),
    'preset': pathlib.Path(command.GIN_FILE.value[0]).stem,
    'bindings': command.GIN_BINDINGS.value,
    'environment': settings.environment,
    'seed': _SEED.value,
    'config': config,
  }
  return run_folder.RunFolder(pathlib.Path(path), facts)


def _report(
  path: pathlib.Path, environment: str, results: dict[str, Any]
) -> None:
  scores, interactions = results['scores'], results['interactions']
  print(f'run     {path}')
  print(f'curve   {path / "learning_curve.png"}')
  print(f'policy  {path / "policy"}')
  if (path / 'video.mp4').exists():
    print(f'video   {path / "video.mp4"}')
  print(
    f'score   {scores["eval_return_mode"]:.1f} with the mode action, '
    f'{scores["eval_return_sampled"]:.1f} sampled '
    f'({scores["eval_episodes"]} episodes each, {interactions} interactions)'
  )
  score = scores['eval_return_mode']
  for line in offline.lines(results, environment, score):
    print(line)
  for line in published.beside(environment, interactions, score):
    print(line)


def main() -> None:
  """One run from flags to score."""
  if not command.GIN_FILE.value:
    raise gin_files.ConfigError(
      '--gin_file is missing, for instance --gin_file=mujoco_100k.gin.'
    )
  config = gin_files.parse(command.GIN_FILE.value, command.GIN_BINDINGS.value)
  settings = experiment.settings()
  folder = _folder(config, settings)
  finished = folder.finished()
  if finished and not _OVERWRITE.value:
    print('This run is finished; --overwrite starts it anew.')
    _report(folder.path, settings.environment, finished)
    return
  folder.check(_OVERWRITE.value)
  parts = experiment.build(settings, _SEED.value)
  screen = video.screen(settings, _SEED.value) if _VIDEO.value else None
  with folder.claimed(_OVERWRITE.value):
    results = training_run.Run(settings, parts, folder, screen).train()
  _report(folder.path, settings.environment, results)


if __name__ == '__main__':
  command.run(main)
