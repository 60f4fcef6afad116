"""A grid of training runs, one process per core."""

import collections
import contextlib
import dataclasses
import os
import pathlib
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import IO

from qwr_tf.config.errors import ConfigError
from qwr_tf.runs import run_json
from qwr_tf.sweeping import run_rows

TRAINER = (sys.executable, '-m', 'qwr_tf.train')

BUSY = 'another sweep is running it'

# One core per run: the thread pools of two runs would compete for the cores.
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
    bindings: gin bindings, for messages.
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
    """Interactions made, according to metrics.csv."""
    return min(run_rows.latest_interactions(self.folder), self.interactions)

  @property
  def log(self) -> pathlib.Path:
    """The trainer's standard error; outside the folder, which may go."""
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
  seconds_to_save: float = 600.0,
) -> None:
  """Runs all jobs; an exception, Ctrl-C for instance, ends the running ones.

  Args:
    processes: runs at a time; pinned to a core each if that fills the cores.
    ended: called with a job and an error in one line, or None.
    progress: called with the interactions of running and waiting jobs, and the
      numbers of running and of waiting jobs.
    trainer: the command to which a job's arguments are added.
    poll_seconds: between two looks at the processes.
    seconds_to_save: for the last iteration and the checkpoint of a run that has
      to end (minutes on Atari); then it is killed.
  """
  waiting, running = collections.deque(jobs), list[_Running]()
  pinned = processes == len(cores())
  free: list[int | None] = [*cores()] if pinned else [None] * processes
  with signals_interrupt(), _stopped(running, seconds_to_save):
    while waiting or running:
      while waiting and free:
        job = waiting.popleft()
        log = open_log(job)
        if log is None:
          ended(job, BUSY)
        elif run_json.read_finished(job.folder):  # By another sweep, meanwhile.
          close_log(job, log, keep=False)
          ended(job, None)
        else:
          running.append(_start(job, trainer, log, free.pop(0)))
      for one in [r for r in running if r.process.poll() is not None]:
        running.remove(one)
        free.append(one.core)
        ended(one.job, _outcome(one))
      unfinished = [*(one.job for one in running), *waiting]
      interactions = sum(job.done() for job in unfinished)
      progress(interactions, len(running), len(waiting))
      if running:
        time.sleep(poll_seconds)


@contextlib.contextmanager
def signals_interrupt() -> Iterator[None]:
  """`kill`, or a terminal that closes, ends the runs too, like Ctrl-C."""
  numbers = [
    number
    for number in (signal.SIGTERM, signal.SIGHUP)
    if signal.getsignal(number) == signal.SIG_DFL  # Not under nohup.
  ]
  for number in numbers:
    signal.signal(number, signal.default_int_handler)
  try:
    yield
  finally:
    for number in numbers:
      signal.signal(number, signal.SIG_DFL)


def open_log(job: Job) -> IO[bytes] | None:
  """Opens and locks an empty log; None if another sweep holds the lock.

  The trainer inherits the file and with it the lock, which therefore lasts as
  long as the trainer, also if the sweep is killed.

  Raises:
    ConfigError: if the log cannot be written, or is a symbolic link.
  """
  import fcntl  # Not on Windows.

  flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW
  try:
    job.log.parent.mkdir(parents=True, exist_ok=True)
    log = open(os.open(job.log, flags, 0o666), 'ab')  # noqa: SIM115
  except OSError as error:
    reason = 'it is a link' if job.log.is_symlink() else error.strerror
    raise ConfigError(f'{job.log} cannot be written: {reason}.') from error
  try:
    fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
  except OSError:
    log.close()
    return None
  log.truncate(0)
  return log


def close_log(job: Job, log: IO[bytes], keep: bool) -> None:
  """Closes a log, and so releases the lock; deletes it first unless kept."""
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
    # Ctrl-C in a terminal reaches a whole process group; a trainer that got it,
    # and then SIGTERM from here, would end at once instead of saving.
    start_new_session=True,
  )
  if core is not None and hasattr(os, 'sched_setaffinity'):
    try:  # Threads that start later inherit it.
      os.sched_setaffinity(process.pid, {core})
    except OSError:
      pass  # Ended already, or not allowed: the scheduler decides.
  return _Running(job, process, log, core)


def _outcome(one: _Running) -> str | None:
  """None for a finished run, else one line; a failed run's log stays."""
  code, error = one.process.returncode, None
  if code < 0:
    error = f'ended by signal {-code}'
  elif code > 0:
    error = _last_line(one.job.log) or f'exit code {code}'
  elif not run_json.read_finished(one.job.folder):
    error = f'left no finished run in {one.job.folder}'
  close_log(one.job, one.log, keep=error is not None)
  return error


def _last_line(path: pathlib.Path) -> str:
  """The last line with anything in it; progress bars end theirs otherwise."""
  lines = re.split(r'[\r\n]+', path.read_text('utf-8', errors='replace'))
  return next((line.strip() for line in reversed(lines) if line.strip()), '')


@contextlib.contextmanager
def _stopped(running: Sequence[_Running], seconds: float) -> Iterator[None]:
  """Stops the runs that are left in the end; they save first."""
  try:
    yield
  finally:
    if running:
      print('the runs end their iterations and save.', file=sys.stderr)
    for one in running:
      one.process.terminate()
    for one in running:
      try:
        one.process.wait(seconds)
      except subprocess.TimeoutExpired:
        one.process.kill()
        one.process.wait()
      close_log(one.job, one.log, keep=False)
