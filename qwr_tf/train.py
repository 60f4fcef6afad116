"""Trains an agent: python -m qwr_tf.train --gin_file=mujoco_100k.gin.

Writes a run folder (configuration, metrics, TensorBoard, learning curve) and
prints the final score. Exit codes: 0 done, 2 bad input, 1 anything else.
"""

import os

# Matrix products for one observation: more threads only get in the way. NumPy
# reads this when it is imported.
os.environ.setdefault('OPENBLAS_NUM_THREADS', '1')

import contextlib
import pathlib
import shlex
import sys
from collections.abc import Callable
from typing import Any

import gin
from absl import flags

from qwr_tf import command
from qwr_tf import experiment
from qwr_tf import gin_files
from qwr_tf import offline
from qwr_tf import run_folder
from qwr_tf import strategies
from qwr_tf import training_run
from qwr_tf import video
from qwr_tf.errors import ConfigError
from qwr_tf.networks import precision
from qwr_tf.reporting import published

flags.declare_key_flag('gin_file')
flags.declare_key_flag('gin_bindings')
flags.adopt_module_key_flags(strategies)
_ROOT_DIR = flags.DEFINE_string(
  'root_dir', None, 'Folder of the run; default runs/<what identifies it>.'
)
_SEED = flags.DEFINE_integer(
  'seed',
  0,
  'Of everything random.',
  lower_bound=0,
  upper_bound=experiment.MAX_SEED,
)
_OVERWRITE = flags.DEFINE_bool(
  'overwrite', False, 'Delete the run that root_dir holds and start anew.'
)
_VIDEO = flags.DEFINE_bool(
  'video', False, 'Film an episode of the final policy (video.mp4).'
)


def path(config: str, settings: experiment.Settings) -> pathlib.Path:
  """The run's folder: what --root_dir says, or what identifies the run."""
  if _ROOT_DIR.value:
    return pathlib.Path(_ROOT_DIR.value)
  return run_folder.default_path(
    command.GIN_FILE.value[0], settings.environment, _SEED.value, config
  )


def _folder(
  where: pathlib.Path, config: str, settings: experiment.Settings
) -> run_folder.RunFolder:
  facts = {
    'command': shlex.join(['python', '-m', _module(), *sys.argv[1:]]),
    # Rows of several files are no rows of the first one.
    'preset': '+'.join(pathlib.Path(f).stem for f in command.GIN_FILE.value),
    'bindings': command.GIN_BINDINGS.value,
    'environment': settings.environment,
    'seed': _SEED.value,
    'config': config,
  }
  return run_folder.RunFolder(where, facts)


def _module() -> str:
  is_package = pathlib.Path(sys.argv[0]).name == '__main__.py'
  return 'qwr_tf.distributed' if is_package else 'qwr_tf.train'


def _report(
  where: pathlib.Path, environment: str, results: dict[str, Any]
) -> None:
  scores, interactions = results['scores'], results['interactions']
  print(f'run     {where}')
  print(f'curve   {where / "learning_curve.png"}')
  print(f'policy  {where / "policy"}')
  if (where / 'video.mp4').exists():
    print(f'video   {where / "video.mp4"}')
  score = scores['eval_return_mode']
  if score is None:
    print('score   none, as there is no simulator')
  else:
    print(
      f'score   {score:.1f} with the mode action, '
      f'{scores["eval_return_sampled"]:.1f} sampled '
      f'({scores["eval_episodes"]} episodes each, {interactions} interactions)'
    )
  for line in offline.lines(results, environment, score):
    print(line)
  data_set = results.get('dataset', '')
  if score is not None:
    for line in published.beside(environment, interactions, score, data_set):
      print(line)


def _train(
  folder: run_folder.RunFolder, settings: experiment.Settings, experience_fn
) -> dict[str, Any]:
  folder.check(_OVERWRITE.value)
  placement = strategies.from_flags()
  recorded = None if _OVERWRITE.value else folder.recorded('dtype_policy')
  folder.add_fact(
    'dtype_policy', precision.keep_dtype_policy(gin.config_str(), recorded)
  )
  parts = experiment.build(settings, _SEED.value, *placement, experience_fn)
  with contextlib.ExitStack() as stack:
    screen = None
    if _VIDEO.value:  # Closed in any case: else EGL complains as Python ends.
      screen = video.screen(settings, _SEED.value)
      stack.callback(screen.close)
    stack.enter_context(folder.claimed(_OVERWRITE.value))
    training = training_run.Run(settings, parts, folder, screen)
    strategies.check_agreement(placement, training.iteration)
    results = training.train()
  strategies.check_agreement(placement, training.iteration)
  return results


def configuration() -> str:
  """What the flags say, as text; gin holds it.

  Raises:
    ConfigError: if they say nothing, or something wrong.
  """
  if not command.GIN_FILE.value:
    raise ConfigError(
      '--gin_file is missing, for instance --gin_file=mujoco_100k.gin.'
    )
  return gin_files.parse(command.GIN_FILE.value, command.GIN_BINDINGS.value)


def main() -> None:
  """One run from flags to score."""
  run(configuration())


def is_finished(config: str) -> bool:
  """Whether there is nothing left to do; prints the results if so."""
  settings = experiment.settings()
  where = path(config, settings)
  finished = _folder(where, config, settings).finished()
  if not finished or _OVERWRITE.value:
    return False
  print('This run is finished; --overwrite starts it anew.')
  _report(where, settings.environment, finished)
  return True


def run(config: str, experience_fn: Callable | None = None) -> None:
  """One run, unless it is finished.

  Args:
    config: what `configuration` returned.
    experience_fn: as in `experiment.build`.
  """
  if is_finished(config):
    return
  settings = experiment.settings()
  where = path(config, settings)
  with strategies.folder_for(where, _OVERWRITE.value) as own:
    results = _train(_folder(own, config, settings), settings, experience_fn)
  if strategies.is_first_worker():
    _report(where, settings.environment, results)


if __name__ == '__main__':
  command.run(main)
