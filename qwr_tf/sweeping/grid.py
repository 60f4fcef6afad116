"""Runs a grid of training runs, one process per core."""

import collections
import contextlib
import dataclasses
import fcntl
import os
import pathlib
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import IO, Any

from qwr_tf.sweeping import run_rows

TRAINER = (sys.executable, '-m', 'qwr_tf.train')

# A run that is told to end finishes its iteration and saves: minutes on Atari.
_SECONDS_TO_SAVE = 600.0

BUSY = 'another sweep is running it'

# Ctrl-C in a terminal reaches a whole process group; a trainer that got it, and
# then SIGTERM from here, would end at once instead of saving.
_OWN_GROUP: dict[str, Any] = (
  {'process_group': 0}
  if sys.version_info >= (3, 11)
  else {'start_new_session': True}
)

# One core per run: thread pools of two runs would fight over the cores.
_ENVIRONMENT = {
  'TF_NUM_INTRAOP_THREADS': '1',
  'TF_NUM_INTEROP_THREADS': '1',
  'OMP_NUM_THREADS': '1',
  'OPENBLAS_NUM_THREADS': '1',
  'TQDM_DISABLE': '1',
}


@dataclasses.dataclass(frozen=True)
class Job:
  """One run of the grid.

  Attributes:
    environment: its name.
    seed: its seed.
    folder: of the run.
    arguments: flags of the trainer, which goes on where a run was cut.
    interactions: how many the run makes; 1 if it makes none, so that a bar
      moves by whole runs.
    bindings: what tells it from runs of the same environment and seed.
  """

  environment: str
  seed: int
  folder: pathlib.Path
  arguments: tuple[str, ...]
  interactions: int
  bindings: str = ''

  def __str__(self) -> str:
    run = f'{self.environment} seed {self.seed}'
    return f'{run} ({self.bindings})' if self.bindings else run

  def done(self) -> int:
    """Interactions made, as far as metrics.csv says."""
    return min(run_rows.latest_interactions(self.folder), self.interactions)

  @property
  def log(self) -> pathlib.Path:
    """What the trainer prints; outside the folder, which it may delete."""
    return self.folder.with_name(f'{self.folder.name}.log')


@dataclasses.dataclass
class _Running:
  job: Job
  process: subprocess.Popen
  log: IO[bytes]
  core: int | None


def cores() -> list[int]:
  """The cores this process may use (those of `taskset`, where there is one)."""
  if hasattr(os, 'sched_getaffinity'):
    return sorted(os.sched_getaffinity(0))
  return list(range(os.cpu_count() or 1))


def run(
  jobs: Sequence[Job],
  processes: int,
  ended: Callable[[Job, str | None], None],
  progress: Callable[[int, int, int], None],
  *,
  trainer: Sequence[str] = TRAINER,
  poll_seconds: float = 1.0,
) -> None:
  """Runs all jobs; an exception, Ctrl-C for instance, ends the running ones.

  Args:
    jobs: in the order they start.
    processes: runs at a time; pinned to a core each if that fills the cores.
    ended: called with a job and None, or one line on what went wrong.
    progress: called with the interactions of running and waiting jobs, how
      many run and how many wait.
    trainer: the command to which a job's arguments are added.
    poll_seconds: between two looks at the processes.
  """
  waiting, running = collections.deque(jobs), list[_Running]()
  pinned = processes == len(cores())
  free: list[int | None] = [*cores()] if pinned else [None] * processes
  with _signals_interrupt(), _stopped(running):
    while waiting or running:
      while waiting and free:
        job = waiting.popleft()
        log = _lock(job)
        if log is None:
          ended(job, BUSY)
        elif run_rows.finished(job.folder):  # By another sweep, meanwhile.
          _close(job, log, keep=False)
          ended(job, None)
        else:
          running.append(_start(job, trainer, log, free.pop(0)))
      for one in [r for r in running if r.process.poll() is not None]:
        running.remove(one)
        free.append(one.core)
        ended(one.job, _outcome(one))
      unfinished = [*(one.job for one in running), *waiting]
      made = sum(job.done() for job in unfinished)
      progress(made, len(running), len(waiting))
      if running:
        time.sleep(poll_seconds)


@contextlib.contextmanager
def _signals_interrupt() -> Iterator[None]:
  """`kill`, or a terminal that closes, ends the runs too, like Ctrl-C."""

  def interrupt(*_):
    raise KeyboardInterrupt

  numbers = [
    number
    for number in (signal.SIGTERM, signal.SIGHUP)
    if signal.getsignal(number) == signal.SIG_DFL  # Not under nohup.
  ]
  for number in numbers:
    signal.signal(number, interrupt)
  try:
    yield
  finally:
    for number in numbers:
      signal.signal(number, signal.SIG_DFL)


def _lock(job: Job) -> IO[bytes] | None:
  """Opens the log and locks it; None if another sweep has it.

  The trainer inherits the lock, which so lives as long as the run does.
  """
  job.log.parent.mkdir(parents=True, exist_ok=True)
  log = open(job.log, 'ab')  # noqa: SIM115
  try:
    fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
  except OSError:
    log.close()
    return None
  log.truncate(0)
  return log


def _close(job: Job, log: IO[bytes], keep: bool) -> None:
  if not keep:
    job.log.unlink(missing_ok=True)
  log.close()


def _start(
  job: Job, trainer: Sequence[str], log: IO[bytes], core: int | None
) -> _Running:
  process = subprocess.Popen(
    [*trainer, *job.arguments],
    stdin=subprocess.DEVNULL,
    stdout=subprocess.DEVNULL,
    stderr=log,
    env={**os.environ, **_ENVIRONMENT},
    **_OWN_GROUP,
  )
  if core is not None and hasattr(os, 'sched_setaffinity'):
    try:  # Threads that start later inherit it.
      os.sched_setaffinity(process.pid, {core})
    except OSError:
      pass  # Ended already, or not allowed: the scheduler decides.
  return _Running(job, process, log, core)


def _outcome(one: _Running) -> str | None:
  """None for a finished run, else one line; a failed run's log stays."""
  code = one.process.returncode
  error = None
  if code < 0:
    error = f'ended by signal {-code}'
  elif code > 0:
    error = _last_line(one.job.log) or f'exit code {code}'
  elif not run_rows.finished(one.job.folder):
    error = f'left no finished run in {one.job.folder}'
  _close(one.job, one.log, keep=error is not None)
  return error


def _last_line(path: pathlib.Path) -> str:
  """The last line with anything in it; progress bars end theirs otherwise."""
  lines = re.split(r'[\r\n]+', path.read_text('utf-8', errors='replace'))
  return next((line.strip() for line in reversed(lines) if line.strip()), '')


@contextlib.contextmanager
def _stopped(running: Sequence[_Running]) -> Iterator[None]:
  """Whatever still runs in the end is told to save and to end."""
  try:
    yield
  finally:
    if running:
      print('the runs end their iterations and save.', file=sys.stderr)
    for one in running:
      one.process.terminate()
    for one in running:
      try:
        one.process.wait(_SECONDS_TO_SAVE)
      except subprocess.TimeoutExpired:
        one.process.kill()
        one.process.wait()
      _close(one.job, one.log, keep=False)
