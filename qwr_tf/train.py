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
import statistics
import sys
from typing import Any

import gin
import tqdm
from absl import flags

from qwr_tf import command
from qwr_tf import experiment
from qwr_tf import gin_files
from qwr_tf import metrics
from qwr_tf import run_folder

_GIN_FILE = flags.DEFINE_multi_string(
  'gin_file',
  [],
  'Path, or bare name of a file in gin_configs/; later files override.',
)
_GIN_BINDINGS = flags.DEFINE_multi_string(
  'gin_bindings', [], 'Overrides, such as "run.environment=\'Hopper-v4\'".'
)
_ROOT_DIR = flags.DEFINE_string(
  'root_dir', None, 'Folder of the run; default runs/<what identifies it>.'
)
_SEED = flags.DEFINE_integer('seed', 0, 'Of everything random.')
_OVERWRITE = flags.DEFINE_bool(
  'overwrite', False, 'Delete the run that root_dir holds and start anew.'
)


class Run:
  """Consumes the iterations: evaluates, logs, shows progress."""

  def __init__(
    self,
    settings: experiment.Settings,
    parts: experiment.Experiment,
    folder: run_folder.RunFolder,
  ):
    """Opens the logs."""
    self._settings = settings
    self._parts = parts
    self._folder = folder
    self._tensorboard = metrics.TensorBoard(folder.path / 'tensorboard')
    self._recorder = metrics.Recorder(settings.log_every_env_steps, parts.agent)

  def train(self) -> None:
    """Runs to the last interaction."""
    settings, recorder = self._settings, self._recorder
    with tqdm.tqdm(
      total=settings.interactions, unit=' interactions', dynamic_ncols=True
    ) as progress:
      for collected, scalars in self._parts.iterations:
        recorder.add(collected, scalars)
        progress.update(collected.interactions)
        row = recorder.row(self._evaluation())
        if row is not None:
          self._log(row)
          progress.set_postfix(recorder.returns())
        if recorder.interactions >= settings.interactions:
          return

  def _evaluation(self) -> dict[str, float]:
    """Returns of the episodes due now, or nothing."""
    if self._recorder.is_due(self._settings.eval_every_env_steps):
      return self._evaluate(self._settings.eval_episodes)
    return {}

  def _evaluate(self, episodes: int) -> dict[str, float]:
    evaluator = self._parts.evaluator
    mode = evaluator.returns(episodes, sampled=False)
    sampled = evaluator.returns(episodes, sampled=True)
    return {
      'eval_return_mode': statistics.fmean(mode),
      'eval_return_sampled': statistics.fmean(sampled),
      'eval_episodes': episodes,
    }

  def _log(self, row: dict[str, Any]) -> None:
    self._tensorboard.write(row)
    self._folder.add_row(row, metrics.COLUMNS)
    metrics.check_finite(row)

  def finish(self) -> dict[str, Any]:
    """Final evaluation, picture, run.json; returns what was written."""
    settings, recorder = self._settings, self._recorder
    final = self._evaluate(settings.final_eval_episodes)
    results = {
      'interactions': recorder.interactions,
      'critic_steps': int(self._parts.agent.critic_steps),
      'actor_steps': int(self._parts.agent.actor_steps),
      'wall_seconds': round(recorder.wall_seconds, 1),
      'final': final,
      'finished': True,
    }
    metrics.plot_learning_curve(
      self._folder.rows,
      f'{settings.environment}, {self._folder.path.name}',
      self._folder.path / 'learning_curve.png',
    )
    self._folder.write_config(gin.operative_config_str())
    self._folder.write_json(results)
    return results


def _folder(config: str, settings: experiment.Settings):
  if not _GIN_FILE.value:
    raise gin_files.ConfigError(
      '--gin_file is missing, for instance --gin_file=mujoco_100k.gin.'
    )
  path = _ROOT_DIR.value or run_folder.default_path(
    _GIN_FILE.value[0], settings.environment, _SEED.value, config
  )
  facts = {
    'command': shlex.join(['python', '-m', 'qwr_tf.train', *sys.argv[1:]]),
    'preset': pathlib.Path(_GIN_FILE.value[0]).stem,
    'bindings': _GIN_BINDINGS.value,
    'environment': settings.environment,
    'seed': _SEED.value,
    'config': config,
  }
  return run_folder.RunFolder(pathlib.Path(path), facts)


def _report(path: pathlib.Path, results: dict[str, Any]) -> None:
  final = results['final']
  print(f'run     {path}')
  print(f'curve   {path / "learning_curve.png"}')
  print(
    f'score   {final["eval_return_mode"]:.1f} with the mode action, '
    f'{final["eval_return_sampled"]:.1f} sampled '
    f'({final["eval_episodes"]} episodes each, '
    f'{results["interactions"]} interactions)'
  )


def main() -> None:
  """One run from flags to score."""
  config = gin_files.parse(_GIN_FILE.value, _GIN_BINDINGS.value)
  settings = experiment.settings()
  folder = _folder(config, settings)
  finished = folder.finished()
  if finished and not _OVERWRITE.value:
    print('This run is finished; --overwrite starts it anew.')
    _report(folder.path, finished)
    return
  parts = experiment.build(settings, _SEED.value)
  folder.claim(_OVERWRITE.value)
  folder.write_config(config)
  run = Run(settings, parts, folder)
  run.train()
  _report(folder.path, run.finish())


if __name__ == '__main__':
  command.run(main)
