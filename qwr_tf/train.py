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

from qwr_tf import checkpoints
from qwr_tf import command
from qwr_tf import experiment
from qwr_tf import gin_files
from qwr_tf import metrics
from qwr_tf import offline
from qwr_tf import run_folder
from qwr_tf import serving
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

# A terminal's bar moves smoothly; a log file gets a line now and then.
_SECONDS_BETWEEN_LINES = 30.0


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

  def train(self) -> dict[str, Any]:
    """Runs to the last interaction; returns what is in run.json.

    Raises:
      FloatingPointError: for NaN or Inf; all files are written up to there.
      KeyboardInterrupt: likewise.
    """
    try:
      scores = self._loop()
    except (FloatingPointError, KeyboardInterrupt) as error:
      self._save({}, finished=False)
      # gin may have put its own class around the error.
      is_nan = isinstance(error, FloatingPointError)
      raise (FloatingPointError if is_nan else KeyboardInterrupt)(
        f'{str(error) or "interrupted"} (what was measured until then is in '
        f'{self._folder.path})'
      ) from error
    self._keep_policy()
    return self._save(scores, finished=True)

  def _keep_policy(self) -> None:
    """Writes the final weights, and the policy for serving."""
    agent, path = self._parts.agent, self._folder.path
    checkpoints.save(agent, path / 'checkpoints' / 'final')
    serving.export(
      agent.actor_network, self._parts.action_space, path / 'policy'
    )

  def _loop(self) -> dict[str, float]:
    recorder, last = self._recorder, False
    evaluation: dict[str, float] = {}
    interval = 0.1 if sys.stderr.isatty() else _SECONDS_BETWEEN_LINES
    with tqdm.tqdm(
      total=self._settings.interactions or self._settings.offline_iterations,
      unit=' interactions' if self._settings.interactions else ' iterations',
      dynamic_ncols=True,
      mininterval=interval,
      maxinterval=interval,
    ) as progress:
      while not last:
        collected, scalars = next(self._parts.iterations)
        recorder.add(collected, scalars)
        last = self._is_over()
        evaluation = self._evaluation(last)
        row = recorder.row(evaluation, last)
        if row is not None:
          self._log(row)
          progress.set_postfix(recorder.returns(), refresh=False)
        progress.update(
          collected.interactions if self._settings.interactions else 1
        )
    return evaluation

  def _is_over(self) -> bool:
    recorder, settings = self._recorder, self._settings
    return (
      recorder.iteration >= settings.offline_iterations
      and recorder.interactions >= settings.interactions
    )

  def _evaluation(self, last: bool) -> dict[str, float]:
    """Returns of the episodes due now, or nothing."""
    settings, recorder = self._settings, self._recorder
    if last:
      return self._evaluate(settings.final_eval_episodes)
    is_switch = recorder.iteration == settings.offline_iterations
    if is_switch or recorder.is_due(settings.eval_every_env_steps):
      return self._evaluate(settings.eval_episodes)
    return {}

  def _evaluate(self, episodes: int) -> dict[str, float]:
    evaluator = self._parts.evaluator
    try:
      mode = evaluator.returns(episodes, sampled=False)
      sampled = evaluator.returns(episodes, sampled=True)
    except FloatingPointError:
      # Often the losses were NaN before the actions: the row shows it.
      self._log(self._recorder.measured({}))
      raise
    return {
      'eval_return_mode': statistics.fmean(mode),
      'eval_return_sampled': statistics.fmean(sampled),
      'eval_episodes': episodes,
    }

  def _log(self, row: dict[str, Any]) -> None:
    self._tensorboard.write(row)
    self._folder.add_row(row, metrics.COLUMNS)
    metrics.check_finite(row)

  def _save(self, scores: dict[str, float], finished: bool) -> dict[str, Any]:
    """Writes picture, operative configuration and run.json, which it returns.

    Args:
      scores: the final evaluation.
      finished: whether the run came to its end.
    """
    recorder, folder = self._recorder, self._folder
    title = f'{self._settings.environment}, {folder.path.name}'
    run_folder.write_atomically(
      folder.path / 'learning_curve.png',
      metrics.learning_curve(folder.rows, title, self._parts.data_return),
    )
    folder.write_config(gin.operative_config_str())
    results = {
      'interactions': recorder.interactions,
      'critic_steps': int(self._parts.agent.critic_steps),
      'actor_steps': int(self._parts.agent.actor_steps),
      'wall_seconds': round(recorder.wall_seconds, 1),
      'scores': scores,
      'finished': finished,
      **offline.facts(self._parts.data),
    }
    folder.write_json(results)
    return results


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
  folder.claim(_OVERWRITE.value)
  folder.write_config(config)
  results = Run(settings, parts, folder).train()
  if screen is not None:
    video.record(screen, parts.agent, folder.path / 'video.mp4')
    screen.close()  # Else EGL complains while Python ends.
  _report(folder.path, settings.environment, results)


if __name__ == '__main__':
  command.run(main)
