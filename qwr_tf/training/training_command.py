"""Flags and steps of every command that trains.

`qwr_tf.train` is the plain one; the learner of a distributed run is another,
with experience that comes from elsewhere.
"""

import contextlib
import pathlib
import re
import shlex
import sys
from collections.abc import Callable
from typing import Any

import gin
from absl import flags

from qwr_tf.config import command
from qwr_tf.config import effective
from qwr_tf.config import gin_files
from qwr_tf.config.errors import ConfigError
from qwr_tf.networks import precision
from qwr_tf.reporting import d4rl
from qwr_tf.reporting import published
from qwr_tf.runs import run_folder
from qwr_tf.training import experiment
from qwr_tf.training import run_flags
from qwr_tf.training import strategies
from qwr_tf.training import training_run
from qwr_tf.training import video

flags.adopt_module_key_flags(run_flags)


def run_path(config: str, settings: experiment.Settings) -> pathlib.Path:
  """The run's folder: what --root_dir says, or what identifies the run."""
  if run_flags.ROOT_DIR.value:
    return pathlib.Path(run_flags.ROOT_DIR.value)
  return run_folder.default_path(
    command.GIN_FILE.value[0],
    settings.environment,
    run_flags.SEED.value,
    config,
  )


def _folder(
  path: pathlib.Path, config: str, settings: experiment.Settings
) -> run_folder.RunFolder:
  facts = {
    'command': shlex.join(['python', '-m', _module(), *sys.argv[1:]]),
    # Rows of several files are no rows of the first one.
    'preset': '+'.join(pathlib.Path(f).stem for f in command.GIN_FILE.value),
    'bindings': run_flags.bindings(),
    'environment': settings.environment,
    'seed': run_flags.SEED.value,
    'config': config,
  }
  folder = run_folder.RunFolder(path, facts)
  recorded = None if run_flags.OVERWRITE.value else folder.recorded('config')
  if isinstance(recorded, str) and _means_the_same(recorded, config):
    folder.add_fact('config', recorded)
  elif isinstance(recorded, str) and experiment.prolongs(recorded, config):
    folder.prolong()
  return folder


def _means_the_same(recorded: str, config: str) -> bool:
  """True if the text of another edition's presets has the same values."""
  # A stored file is data: it imports and reads nothing.
  if recorded == config or re.search(r'(?m)^\s*(import|from|incl)', recorded):
    return recorded == config
  try:
    values = [v[:2] for v in experiment.effective_values()]
    gin_files.parse_text(recorded)
    return values == [v[:2] for v in experiment.effective_values()]
  except ConfigError:
    return False
  finally:
    configuration()


def _module() -> str:
  is_package = pathlib.Path(sys.argv[0]).name == '__main__.py'
  return 'qwr_tf.distributed' if is_package else 'qwr_tf.train'


def _report(
  path: pathlib.Path, environment: str, results: dict[str, Any]
) -> None:
  """Prints the files and the scores of a finished run."""
  scores, interactions = results['scores'], results['interactions']
  print(f'run     {path}')
  print(f'curve   {path / "learning_curve.png"}')
  print(f'policy  {path / "policy"}')
  if (path / 'video.mp4').exists():
    print(f'video   {path / "video.mp4"}')
  score = scores['eval_return_mode']
  if score is None:
    print('score   none, as there is no simulator')
    for line in results.get('evaluation', {}).get('lines', ()):
      print(line)
  else:
    print(
      f'score   {score:.1f} with the mode action, '
      f'{scores["eval_return_sampled"]:.1f} sampled '
      f'({scores["eval_episodes"]} episodes each, {interactions} interactions)'
    )
  for line in d4rl.data_set_lines(results, environment, score):
    print(line)
  data_set = results.get('dataset', '')
  if score is not None:
    for line in published.beside(environment, interactions, score, data_set):
      print(line)


def _train(
  folder: run_folder.RunFolder,
  settings: experiment.Settings,
  export_fn: Callable,
  source_fn: Callable | None,
  hook: training_run.Hook,
  warm_start_fn: Callable | None,
) -> dict[str, Any]:
  folder.check(run_flags.OVERWRITE.value)
  placement = strategies.from_flags()
  recorded = (
    None if run_flags.OVERWRITE.value else folder.recorded('dtype_policy')
  )
  folder.add_fact(
    'dtype_policy', precision.keep_dtype_policy(gin.config_str(), recorded)
  )
  command.status('building the networks')
  parts = experiment.build(
    settings, run_flags.SEED.value, *placement, source_fn
  )
  with contextlib.ExitStack() as stack:
    screen = None
    if run_flags.VIDEO.value:
      screen = video.screen(settings, run_flags.SEED.value)
      # In any case: else EGL complains as Python ends.
      stack.callback(screen.close)
    stack.enter_context(folder.claimed(run_flags.OVERWRITE.value))
    training = training_run.Run(
      settings, parts, folder, export_fn, screen, hook, warm_start_fn
    )
    strategies.check_agreement(placement, training.iteration)
    results = training.train()
  strategies.check_agreement(placement, training.iteration)
  return results


def configuration() -> str:
  """Parses the flags' configuration into gin and returns it as text.

  With --print_config it prints the values and exits.

  Raises:
    ConfigError: if they say nothing, or something wrong.
  """
  bindings = run_flags.bindings()
  if not command.GIN_FILE.value:
    if not command.ENV.value:
      raise ConfigError(
        '--gin_file and --env are missing, for instance --gin_file=vector.gin '
        '--env=CartPole-v1; `python -m qwr_tf presets` lists the presets.'
      )
    flags.FLAGS['gin_file'].value = [experiment.general_preset(bindings)]
  config = experiment.configuration(command.GIN_FILE.value, bindings)
  if run_flags.PRINT_CONFIG.value:
    print(effective.page(experiment.effective_values()))
    sys.exit(0)
  return config


def is_finished(config: str) -> bool:
  """True if there is nothing left to do; prints the results if so."""
  settings = experiment.settings()
  path = run_path(config, settings)
  return _is_finished(_folder(path, config, settings))


def _is_finished(folder: run_folder.RunFolder) -> bool:
  results = None if run_flags.OVERWRITE.value else folder.finished()
  if results is None:
    return False
  print(
    'This run is finished; --overwrite starts it anew, and --root_dir with a '
    'larger --interactions prolongs it.'
  )
  _report(folder.path, results['environment'], results)
  return True


def run(
  config: str,
  export_fn: Callable,
  source_fn: Callable | None = None,
  hook: training_run.Hook = lambda phase, run: None,
  warm_start_fn: Callable | None = None,
) -> None:
  """Trains the run that the flags describe, unless it is finished.

  Args:
    config: the text that `configuration` returned.
    export_fn: writes the final policy, as in `training_run.Run`.
    source_fn: as in `experiment.build`.
    hook: as in `training_run.Run`.
    warm_start_fn: as in `training_run.Run`.
  """
  settings = experiment.settings()
  folder = _folder(run_path(config, settings), config, settings)
  if _is_finished(folder):
    return
  settings = experiment.settings()  # `_folder` may have parsed them anew.
  with strategies.folder_for(folder, run_flags.OVERWRITE.value) as own_folder:
    results = _train(
      own_folder, settings, export_fn, source_fn, hook, warm_start_fn
    )
  if strategies.is_first_worker():
    _report(folder.path, settings.environment, results)
