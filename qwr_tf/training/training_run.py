"""The loop of a training run: iterations, checkpoints, evaluations, results."""

import contextlib
import math
import pathlib
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from absl import logging

from qwr_tf import evaluation as evaluation_lib
from qwr_tf import replay
from qwr_tf.acting import offline
from qwr_tf.acting import stop_request
from qwr_tf.config import gin_files
from qwr_tf.config.errors import ConfigError
from qwr_tf.runs import atomic_files
from qwr_tf.runs import checkpoints
from qwr_tf.runs import progress_bar
from qwr_tf.runs import run_folder
from qwr_tf.training import bad_batch
from qwr_tf.training import experiment
from qwr_tf.training import learning_curve
from qwr_tf.training import metrics
from qwr_tf.training import stop_signals
from qwr_tf.training import video

Hook = Callable[[str, 'Run'], None]


def evaluation(evaluator, episodes: int, number: int) -> dict[str, float]:
  """Plays an evaluation.

  Args:
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


def _score(row: Mapping[str, Any]) -> float:
  score = row.get('eval_return_mode')
  return -math.inf if score is None or math.isnan(score) else score


def _best(rows: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
  """The last of the rows with the best evaluation; {} if there is none."""
  best: Mapping[str, Any] = max(reversed(rows), key=_score, default={})
  return best if _score(best) > -math.inf else {}


class Run:
  """A run from its first iteration, or its newest checkpoint, to the last."""

  def __init__(
    self,
    settings: experiment.Settings,
    parts: experiment.RunParts,
    folder: run_folder.RunFolder,
    export_fn: Callable,
    screen=None,
    hook: Hook = lambda phase, run: None,
    warm_start_fn: Callable | None = None,
    progress_bar: bool = True,
  ):
    """Begins, or goes back to the newest checkpoint, and opens the logs.

    Args:
      folder: the run's folder, already claimed (`RunFolder.claimed`).
      export_fn: writes the final policy, (agent, facts, folder) -> None.
      screen: of `video.screen`; None makes no video.
      hook: called as hook(phase, run) before each 'iteration', 'evaluation'
        and 'checkpoint', after each iteration ('iterated'), before the final
        policy is written ('products'), before the run is marked as finished
        ('finish') and at the 'end'.
      warm_start_fn: reads weights, (agent, path, environment) -> None.
      progress_bar: whether phase, count and time left are shown.
    """
    self._settings = settings
    self.parts = parts
    self._folder = folder
    self._export_fn = export_fn
    self._screen = screen
    self._hook = hook
    self._shows_progress = progress_bar
    self._has_told_unread = False
    self._is_stopped = False
    self._phase = ''  # Beside those of the iterations.
    recorder = metrics.Recorder(settings.log_every_env_steps, parts.agent)
    self._recorder = recorder
    self._checkpoints = checkpoints.Checkpoints(
      folder.checkpoints,
      {'agent': parts.agent},
      replay.TableFiles(parts.table),
      {'collector': parts.collector, 'recorder': recorder, 'folder': folder},
      folder.run_ids,
    )
    self._off_policy_report: evaluation_lib.Report | None = None
    of_fqe = (metrics.FQE_VALUE,) if parts.off_policy else ()
    self._columns = (*metrics.COLUMNS, *of_fqe)
    self._saved_iteration = -1
    self._saved_time = time.monotonic()
    if not folder.begins_anew and self._checkpoints.restore():
      self._saved_iteration = self.iteration
      folder.resume(self._columns, recorder.interactions)
    else:
      self._warm_start(warm_start_fn)  # First, as it may fail.
      folder.begin()
      self.checkpoint()
    last_step = metrics.progress(folder.rows[-1]) if folder.rows else 0
    self._tensorboard = metrics.TensorBoard(
      folder.path / 'tensorboard', last_step
    )

  def _warm_start(self, warm_start_fn: Callable | None) -> None:
    path, environment = self._settings.warm_start, self._settings.environment
    if path is None:
      return
    if warm_start_fn is None:
      raise ConfigError('run.warm_start is for qwr_tf.train and qwr_tf.QWR.')
    warm_start_fn(self.parts.agent, pathlib.Path(path), environment)

  @property
  def iteration(self) -> int:
    """Iterations made so far."""
    return self._recorder.iteration

  @property
  def interactions(self) -> int:
    """Interactions made so far."""
    return self._recorder.interactions

  def facts(self) -> dict[str, Any]:
    """run.json as it would be now, for an export on the way."""
    return self._folder.content(self._results({}, finished=False))

  @property
  def newest_row(self) -> dict[str, Any]:
    """The last row of metrics.csv; {} if there is none."""
    return self._folder.rows[-1] if self._folder.rows else {}

  def stop(self) -> None:
    """Ends the run after this iteration, saved and unfinished."""
    self._is_stopped = True

  def train(self) -> dict[str, Any]:
    """Runs to the last interaction; returns the results, as in run.json.

    Raises:
      FloatingPointError: for NaN or Inf.
      KeyboardInterrupt: when interrupted; both after writing all files.
    """
    try:
      with stop_signals.Interruption() as interrupted:
        self._loop(interrupted)
    except (KeyboardInterrupt, *bad_batch.ERRORS) as error:
      self._write_results({}, finished=False)
      where = (
        f'(results so far are in {self._folder.path}; the same command goes on '
        'from the last checkpoint)'
      )
      if isinstance(error, KeyboardInterrupt):
        raise KeyboardInterrupt(f'interrupted {where}') from error
      message = bad_batch.explain(error, self.parts, self._folder.path)
      raise FloatingPointError(f'{message} {where}') from error
    if self._is_over():
      return self._finish()
    return self._write_results({}, finished=False)

  def _loop(self, interrupted: stop_signals.Interruption) -> None:
    """Runs the iterations: evaluates, logs, saves, shows progress."""
    with self._progress_bar() as bar:
      self._report()  # The run was cut after the checkpoint.
      while not (self._is_over() or self._is_stopped):
        bar.update(self._iterate())
        if self._is_switch() and self._settings.interactions:
          bar.unit = ' interactions'
          bar.reset(self._settings.interactions)
        self._warn_of_unread_values()
        if self._is_over() or interrupted.requested or self._is_old():
          self.checkpoint()
        self._report()
        self._hook('iterated', self)
        is_interrupted = interrupted.requested  # Also since the checkpoint.
        if is_interrupted or self._is_stopped:
          self.checkpoint()
        bar.set_postfix(self._recorder.returns(), refresh=False)
        if is_interrupted and not self._is_over():
          raise KeyboardInterrupt

  def _iterate(self) -> int:
    """Makes an iteration; returns what the progress bar counts of it."""
    self._hook('iteration', self)
    self._recorder.begin()
    collected, scalars = next(self.parts.iterations)
    self._recorder.add(collected, scalars)
    is_offline = self.iteration <= self._settings.offline_iterations
    return 1 if is_offline else collected.interactions

  def _report(self) -> None:
    """Evaluates and logs after an iteration, unless the row is there."""
    rows, last = self._folder.rows, self._is_over()
    logged = rows[-1]['iteration'] if rows else 0
    if self.iteration > logged:
      row = self._recorder.row(self._evaluation(last), last)
      if row is not None:
        self._log(row)

  def _evaluation(self, last: bool) -> dict[str, float]:
    """The evaluation that is due, as columns; {} if none is."""
    settings, recorder = self._settings, self._recorder
    evaluator = self.parts.evaluator
    is_due = self._is_switch() or recorder.is_due(settings.eval_every_env_steps)
    if not (last or is_due):
      return {}
    if evaluator is None:
      off_policy = self.parts.off_policy
      return {metrics.FQE_VALUE: off_policy.value()} if off_policy else {}
    episodes = settings.final_eval_episodes if last else settings.eval_episodes
    try:
      with stop_request.at_once(), self._during('evaluating'):
        self._hook('evaluation', self)
        return evaluation(evaluator, episodes, recorder.progress)
    except KeyboardInterrupt:
      self.checkpoint()  # The next start plays the evaluation.
      raise
    except FloatingPointError:
      # Often the losses were NaN before the actions: the row shows it.
      self._log(recorder.measured({}))
      raise

  @contextlib.contextmanager
  def _during(self, phase: str) -> Iterator[None]:
    self._phase = phase
    try:
      yield
    finally:
      self._phase = ''

  def _keep_best(self, row: Mapping[str, Any]) -> None:
    """Keeps the weights of the best evaluation so far."""
    best = _score(_best(self._folder.rows))
    if _score(row) >= best and _score(row) > -math.inf:
      checkpoints.save(self.parts.agent, self._folder.checkpoints / 'best')

  def _log(self, row: dict[str, Any]) -> None:
    self._keep_best(row)
    self._tensorboard.write(row)
    self._folder.add_row(row, self._columns)
    metrics.check_finite(row)

  def _is_over(self) -> bool:
    settings = self._settings
    return (
      self.iteration >= settings.offline_iterations
      and self.interactions >= settings.interactions
    )

  def _is_switch(self) -> bool:
    """True if the offline iterations have just ended."""
    return self.iteration == self._settings.offline_iterations

  def _is_old(self) -> bool:
    """True if the newest checkpoint is."""
    age = time.monotonic() - self._saved_time
    return age >= self._settings.checkpoint_every_seconds

  def checkpoint(self) -> None:
    """Makes a checkpoint, unless this iteration has one."""
    if self.iteration == self._saved_iteration:
      return
    self._hook('checkpoint', self)
    with self._during('saving'):
      self._checkpoints.save(self.iteration)
    self._saved_iteration, self._saved_time = self.iteration, time.monotonic()

  def _warn_of_unread_values(self) -> None:
    """Warns once of values by hand that nothing has read so far."""
    for name in [] if self._has_told_unread else gin_files.unread():
      logging.warning('%s changes nothing in this run.', name)
    self._has_told_unread = True

  def _progress_bar(self):
    """Counts iterations while offline, then interactions."""
    settings = self._settings
    is_offline = self.iteration < settings.offline_iterations
    if is_offline or not settings.interactions:
      total, initial = settings.offline_iterations, self.iteration
      unit = ' iterations'
    else:
      total, initial = settings.interactions, self.interactions
      unit = ' interactions'
    return progress_bar.PhaseBar(
      lambda: self._phase or getattr(self.parts.iterations, 'phase', ''),
      total=total,
      initial=initial,
      unit=unit,
      disable=not self._shows_progress,
    )

  def _finish(self) -> dict[str, Any]:
    """Writes the final policy, results and video; returns the results.

    Weights, policy and scores come first. The run is finished then: a video
    that fails costs a warning.
    """
    self._hook('products', self)
    row = self._folder.rows[-1]
    scores = {name: row.get(name) for name in metrics.SCORES}
    agent, folder = self.parts.agent, self._folder
    checkpoints.save(agent, folder.checkpoints / 'final')
    facts = folder.content(self._results(scores, finished=True))
    self._export_fn(agent, facts, folder.new_policy())
    self._evaluate_off_policy()
    self._hook('finish', self)
    results = self._write_results(scores, finished=True)
    self._checkpoints.retire(self._settings.keep_checkpoint)
    if self._screen is not None:
      self._write_optional(
        'video.mp4', lambda path: video.record(self._screen, agent, path)
      )
    self._hook('end', self)
    return results

  def _evaluate_off_policy(self) -> None:
    """Writes evaluation.md and its like into the run's folder."""
    if self.parts.off_policy is None:
      return
    try:
      report = self.parts.off_policy.report(self._folder.path.name)
    except ConfigError as error:  # All rewards alike, for instance.
      logging.warning('No evaluation: %s', error)
      return
    report.write(self._folder.path)
    self._off_policy_report = report

  def _write_results(
    self, scores: dict[str, float | None], finished: bool
  ) -> dict[str, Any]:
    """Writes operative configuration, learning curve and run.json.

    Args:
      scores: of the final evaluation by name; {} if the run did not end.
      finished: whether the run came to its end.

    Returns:
      The results in run.json.
    """
    folder = self._folder
    folder.write_config(gin_files.operative_config())
    results = self._results(scores, finished)
    self._write_optional('learning_curve.png', self._draw_learning_curve)
    folder.write_json(results)  # Last: the run is finished then.
    return results

  def _draw_learning_curve(self, path: pathlib.Path) -> None:
    title = f'{self._settings.environment}, {path.parent.name}'
    data = self.parts.data
    picture = learning_curve.draw(
      self._folder.rows, title, data.mean_return if data else None
    )
    atomic_files.write_atomically(path, picture)

  def _write_optional(
    self, name: str, write_fn: Callable[[pathlib.Path], Any]
  ) -> None:
    """Writes a file without which the run is complete."""
    path = self._folder.path / name
    try:
      write_fn(path)
    except Exception as error:  # Each library has exceptions of its own.
      reason = gin_files.describe(error)
      logging.warning(
        '%s is missing (%s: %s).', path, type(error).__name__, reason
      )

  def _results(self, scores: dict[str, float | None], finished: bool):
    best = _best(self._folder.rows)
    names = ('interactions', *metrics.SCORES)
    split, digest = self.parts.split, self.parts.data_digest
    return {
      'interactions': self.interactions,
      'critic_steps': int(self.parts.agent.critic_steps.numpy()),
      'actor_steps': int(self.parts.agent.actor_steps.numpy()),
      'wall_seconds': round(self._recorder.wall_seconds, 1),
      'scores': scores,
      **({'best': {n: best.get(n) for n in names}} if best else {}),
      'finished': finished,
      **offline.facts(self.parts.data),
      **({'held_out': list(split), 'first_steps': digest} if split else {}),
      **_evaluation_facts(self._off_policy_report),
    }


def _evaluation_facts(report: evaluation_lib.Report | None) -> dict[str, Any]:
  """The entry of run.json; {} without a report."""
  if report is None:
    return {}
  names = 'value', 'low', 'high'
  estimate = report.row(evaluation_lib.FQE)._asdict()
  return {
    'evaluation': {
      **{name: estimate[name] for name in names},
      'gamma': report.gamma,
      'lines': report.summary().splitlines(),
      'doubts': len(report.doubts),
    }
  }
