"""A run from its first iteration, or its newest checkpoint, to the last."""

import shutil
import statistics
import sys
import time
from typing import Any

import gin
import tqdm

from qwr_tf import bad_batch
from qwr_tf import checkpoint_files
from qwr_tf import checkpoints
from qwr_tf import experiment
from qwr_tf import interruption
from qwr_tf import metrics
from qwr_tf import replay
from qwr_tf import run_folder
from qwr_tf import serving
from qwr_tf import video

# A terminal's bar moves smoothly; a log file gets a line now and then.
_SECONDS_BETWEEN_LINES = 30.0


class Run:
  """Consumes the iterations: evaluates, logs, saves, shows progress."""

  def __init__(
    self,
    settings: experiment.Settings,
    parts: experiment.Experiment,
    folder: run_folder.RunFolder,
    screen=None,
  ):
    """Begins, or goes back to the newest checkpoint, and opens the logs.

    Args:
      settings: of the run.
      parts: of the run.
      folder: which is claimed.
      screen: of `video.screen`; None makes no video.
    """
    self._settings = settings
    self._parts = parts
    self._folder = folder
    self._screen = screen
    recorder = metrics.Recorder(settings.log_every_env_steps, parts.agent)
    self._recorder = recorder
    self._checkpoints = checkpoints.Checkpoints(
      folder.checkpoints,
      {'agent': parts.agent},
      replay.files_of(parts.table),
      {'collector': parts.collector, 'recorder': recorder, 'folder': folder},
    )
    if self._checkpoints.restore():
      folder.go_on(metrics.COLUMNS, recorder.interactions)
    else:
      folder.begin()
      self._checkpoints.save(0)
    self._saved = time.monotonic()
    self._tensorboard = metrics.TensorBoard(
      folder.path / 'tensorboard', last_step=recorder.interactions
    )

  @property
  def interactions(self) -> int:
    """Made so far."""
    return self._recorder.interactions

  def train(self) -> dict[str, Any]:
    """Runs to the last interaction; returns what is in run.json.

    Raises:
      FloatingPointError: for NaN or Inf; all files are written up to there.
      KeyboardInterrupt: likewise.
    """
    try:
      with interruption.Interruption() as interrupted:
        self._loop(interrupted)
    except (KeyboardInterrupt, *bad_batch.ERRORS) as error:
      self._save({}, finished=False)
      where = (
        f'(what was measured until then is in {self._folder.path}; the same '
        'command goes on from the last checkpoint)'
      )
      if isinstance(error, KeyboardInterrupt):
        raise KeyboardInterrupt(f'interrupted {where}') from error
      message = bad_batch.explain(error, self._parts, self._folder.path)
      raise FloatingPointError(f'{message} {where}') from error
    return self._finish()

  def _finish(self) -> dict[str, Any]:
    """Writes what a finished run leaves; returns what is in run.json."""
    row = self._folder.rows[-1]
    scores = {name: row[name] for name in metrics.SCORES}
    self._keep_policy(scores)
    results = self._save(scores, finished=True)
    self._checkpoints.remove()
    return results

  def _keep_policy(self, scores: dict[str, float]) -> None:
    """Writes the final weights, the policy for serving and the video."""
    agent, path = self._parts.agent, self._folder.path
    checkpoints.save(agent, self._folder.checkpoints / 'final')
    shutil.rmtree(path / 'policy', ignore_errors=True)  # Of a killed process.
    with checkpoint_files.tensorflow_errors(path / 'policy'):
      facts = self._folder.content(self._results(scores, finished=True))
      serving.export(agent, facts, path / 'policy')
    if self._screen is not None:
      video.record(self._screen, agent, path / 'video.mp4')
      self._screen.close()  # Else EGL complains while Python ends.

  def _loop(self, interrupted: interruption.Interruption) -> None:
    recorder, total = self._recorder, self._settings.interactions
    interval = 0.1 if sys.stderr.isatty() else _SECONDS_BETWEEN_LINES
    with tqdm.tqdm(
      total=total,
      initial=recorder.interactions,
      unit=' interactions',
      dynamic_ncols=True,
      mininterval=interval,
      maxinterval=interval,
    ) as progress:
      while recorder.interactions < total:
        progress.update(self._iteration())
        progress.set_postfix(recorder.returns(), refresh=False)
        last = recorder.interactions >= total
        self._checkpoint(now=last or interrupted.requested)
        if interrupted.requested and not last:
          raise KeyboardInterrupt

  def _iteration(self) -> int:
    """One iteration with what is due after it; returns its interactions."""
    recorder = self._recorder
    collected, scalars = next(self._parts.iterations)
    recorder.add(collected, scalars)
    last = recorder.interactions >= self._settings.interactions
    row = recorder.row(self._evaluation(last), last)
    if row is not None:
      self._log(row)
    return collected.interactions

  def _checkpoint(self, now: bool) -> None:
    """Saves everything if it is time."""
    age = time.monotonic() - self._saved
    if now or age >= self._settings.checkpoint_every_seconds:
      self._checkpoints.save(self._recorder.iteration)
      self._saved = time.monotonic()

  def _evaluation(self, last: bool) -> dict[str, float]:
    """Returns of the episodes due now, or nothing."""
    settings, recorder = self._settings, self._recorder
    if last:
      return self._evaluate(settings.final_eval_episodes)
    if recorder.is_due(settings.eval_every_env_steps):
      return self._evaluate(settings.eval_episodes)
    return {}

  def _evaluate(self, episodes: int) -> dict[str, float]:
    evaluator = self._parts.evaluator
    try:
      number = self._recorder.interactions
      mode = evaluator.returns(episodes, sampled=False, number=number)
      sampled = evaluator.returns(episodes, sampled=True, number=number)
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
    folder = self._folder
    title = f'{self._settings.environment}, {folder.path.name}'
    run_folder.write_atomically(
      folder.path / 'learning_curve.png',
      metrics.learning_curve(folder.rows, title),
    )
    folder.write_config(gin.operative_config_str())
    results = self._results(scores, finished)
    folder.write_json(results)
    return results

  def _results(self, scores: dict[str, float], finished: bool):
    return {
      'interactions': self._recorder.interactions,
      'critic_steps': int(self._parts.agent.critic_steps.numpy()),
      'actor_steps': int(self._parts.agent.actor_steps.numpy()),
      'wall_seconds': round(self._recorder.wall_seconds, 1),
      'scores': scores,
      'finished': finished,
    }
