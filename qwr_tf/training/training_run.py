"""A run from its first iteration, or its newest checkpoint, to the last."""

import shutil
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import gin
import tqdm
from absl import logging

from qwr_tf import replay
from qwr_tf.acting import offline
from qwr_tf.config import gin_files
from qwr_tf.runs import atomic_files
from qwr_tf.runs import checkpoints
from qwr_tf.runs import run_folder
from qwr_tf.training import bad_batch
from qwr_tf.training import experiment
from qwr_tf.training import interruption
from qwr_tf.training import learning_curve
from qwr_tf.training import metrics
from qwr_tf.training import video

# A terminal's bar moves smoothly; a log file gets a line now and then.
_SECONDS_BETWEEN_LINES = 30.0

# Announced to the hook of a `Run` before they begin; 'end' comes last.
PHASES = ('checkpoint', 'iteration', 'evaluation', 'products', 'end')

Hook = Callable[[str, 'Run'], None]


def evaluation(evaluator, episodes: int, number: int) -> dict[str, float]:
  """Plays an evaluation.

  Args:
    evaluator: an `evaluate.Evaluator`.
    episodes: for the mode action, and as many for sampled actions.
    number: seeds the evaluation.

  Returns:
    Its columns of metrics.csv.
  """
  mode = evaluator.returns(episodes, sampled=False, number=number)
  sampled = evaluator.returns(episodes, sampled=True, number=number)
  return {
    'eval_return_mode': statistics.fmean(mode),
    'eval_return_sampled': statistics.fmean(sampled),
    'eval_episodes': episodes,
  }


class Run:
  """Consumes the iterations: evaluates, logs, saves, shows progress."""

  def __init__(
    self,
    settings: experiment.Settings,
    parts: experiment.RunParts,
    folder: run_folder.RunFolder,
    export_fn: Callable,
    screen=None,
    hook: Hook = lambda phase, run: None,
  ):
    """Begins, or goes back to the newest checkpoint, and opens the logs.

    Args:
      settings: of the run.
      parts: of the run.
      folder: which is claimed.
      export_fn: writes the final policy, (agent, facts, folder) -> None.
      screen: of `video.screen`; None makes no video.
      hook: called with each of `PHASES` and the run.
    """
    self._settings = settings
    self.parts = parts
    self._hook = hook
    self._folder = folder
    self._export_fn = export_fn
    self._screen = screen
    self._bindings = folder.bindings
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
      self._save_checkpoint()
    self._saved = time.monotonic()
    self._tensorboard = metrics.TensorBoard(
      folder.path / 'tensorboard', last_step=recorder.progress
    )

  @property
  def iteration(self) -> int:
    """Iterations made so far."""
    return self._recorder.iteration

  @property
  def interactions(self) -> int:
    """Interactions made so far."""
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
      message = bad_batch.explain(error, self.parts, self._folder.path)
      raise FloatingPointError(f'{message} {where}') from error
    return self._finish()

  def _finish(self) -> dict[str, Any]:
    """Writes what a finished run leaves; returns what is in run.json."""
    row = self._folder.rows[-1]
    scores = {name: row.get(name) for name in metrics.SCORES}
    self._hook('products', self)
    self._keep_policy(scores)
    results = self._save(scores, finished=True)
    self._checkpoints.remove()
    self._hook('end', self)
    return results

  def _keep_policy(self, scores: dict[str, float | None]) -> None:
    """Writes the final weights, the policy for serving and the video."""
    agent, path = self.parts.agent, self._folder.path
    checkpoints.save(agent, self._folder.checkpoints / 'final')
    shutil.rmtree(path / 'policy', ignore_errors=True)  # Of a killed process.
    facts = self._folder.content(self._results(scores, finished=True))
    self._export_fn(agent, facts, path / 'policy')
    if self._screen is not None:
      video.record(self._screen, agent, path / 'video.mp4')

  def _loop(self, interrupted: interruption.Interruption) -> None:
    with self._progress_bar() as progress:
      while not self._is_over():
        collected = self._iteration()
        self._tell_unread_bindings()
        progress.update(collected if self._settings.interactions else 1)
        progress.set_postfix(self._recorder.returns(), refresh=False)
        last = self._is_over()
        stops = interrupted.requested and not last
        self._checkpoint(now=last or stops)
        if stops:
          raise KeyboardInterrupt

  def _tell_unread_bindings(self) -> None:
    """Warns, once, of what was bound and changes nothing."""
    for name in gin_files.unread(self._bindings):
      logging.warning('%s changes nothing in this run.', name)
    self._bindings = ()

  def _progress_bar(self) -> tqdm.tqdm:
    """Counts interactions, or iterations if there will be none."""
    settings, recorder = self._settings, self._recorder
    interval = 0.1 if sys.stderr.isatty() else _SECONDS_BETWEEN_LINES
    online = settings.interactions
    return tqdm.tqdm(
      total=online or settings.offline_iterations,
      initial=recorder.interactions if online else recorder.iteration,
      unit=' interactions' if online else ' iterations',
      dynamic_ncols=True,
      mininterval=interval,
      maxinterval=interval,
    )

  def _is_over(self) -> bool:
    recorder, settings = self._recorder, self._settings
    return (
      recorder.iteration >= settings.offline_iterations
      and recorder.interactions >= settings.interactions
    )

  def _iteration(self) -> int:
    """One iteration with what is due after it; returns its interactions."""
    recorder = self._recorder
    self._hook('iteration', self)
    recorder.begin()
    collected, scalars = next(self.parts.iterations)
    recorder.add(collected, scalars)
    last = self._is_over()
    row = recorder.row(self._evaluation(last), last)
    if row is not None:
      self._log(row)
    return collected.interactions

  def _checkpoint(self, now: bool) -> None:
    """Saves everything if it is time."""
    age = time.monotonic() - self._saved
    if now or age >= self._settings.checkpoint_every_seconds:
      self._save_checkpoint()

  def _save_checkpoint(self) -> None:
    self._hook('checkpoint', self)
    self._checkpoints.save(self.iteration)
    self._saved = time.monotonic()

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
    evaluator = self.parts.evaluator
    if evaluator is None:
      return {}
    try:
      self._hook('evaluation', self)
      return evaluation(evaluator, episodes, self._recorder.progress)
    except FloatingPointError:
      # Often the losses were NaN before the actions: the row shows it.
      self._log(self._recorder.measured({}))
      raise

  def _log(self, row: dict[str, Any]) -> None:
    self._tensorboard.write(row)
    self._folder.add_row(row, metrics.COLUMNS)
    metrics.check_finite(row)

  def _save(
    self, scores: dict[str, float | None], finished: bool
  ) -> dict[str, Any]:
    """Writes picture, operative configuration and run.json, which it returns.

    Args:
      scores: the final evaluation; None where there was none.
      finished: whether the run came to its end.
    """
    folder = self._folder
    title = f'{self._settings.environment}, {folder.path.name}'
    atomic_files.write_atomically(
      folder.path / 'learning_curve.png',
      learning_curve.draw(folder.rows, title, self.parts.data_return),
    )
    folder.write_config(gin.operative_config_str())
    results = self._results(scores, finished)
    folder.write_json(results)
    return results

  def _results(self, scores: dict[str, float | None], finished: bool):
    return {
      'interactions': self._recorder.interactions,
      'critic_steps': int(self.parts.agent.critic_steps.numpy()),
      'actor_steps': int(self.parts.agent.actor_steps.numpy()),
      'wall_seconds': round(self._recorder.wall_seconds, 1),
      'scores': scores,
      'finished': finished,
      **offline.facts(self.parts.data),
    }
