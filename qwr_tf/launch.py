"""Trains with Ray collectors.

    python -m qwr_tf.launch --collectors=4 --gin_file=mujoco_100k.gin
    python -m qwr_tf.launch --address=auto --collectors=64 --gin_file=...

Starts a local Ray cluster, unless --address names one, and the learner, which
is started again (at most 5 times, and not after NaN) if it dies and then
resumes from its checkpoint, while the collectors, actors of Ray, wait.
qwr_tf/distributed/README.md has the commands for clusters. Exit codes: 0
training has ended, 2 bad input, 1 anything else.
"""

from qwr_tf.config import startup  # noqa: F401, before TensorFlow.

# isort: split
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence

from absl import flags

from qwr_tf.config import command
from qwr_tf.distributed import ray_flags
from qwr_tf.training import run_flags

flags.adopt_module_key_flags(run_flags)
flags.adopt_module_key_flags(ray_flags)
command.answer_help(__name__)

# isort: split
from qwr_tf.config.errors import ConfigError
from qwr_tf.distributed import cluster
from qwr_tf.distributed import lifeline
from qwr_tf.training import stop_signals
from qwr_tf.training import training_command

_MAX_RESTARTS = 5
_SECONDS_BETWEEN_LOOKS = 0.2
# The learner finishes its iteration and saves: minutes on Atari.
_SECONDS_TO_SAVE = 600.0
_BAD_INPUT = 2
_USELESS_TO_REPEAT = (_BAD_INPUT, lifeline.WOULD_FAIL_AGAIN)


class Learner:
  """The learner's process, kept alive until it has ended."""

  def __init__(self, argv: Sequence[str]):
    """Stores the command."""
    self._argv = list(argv)
    self._running: subprocess.Popen | None = None

  def run(self, interrupted) -> int:
    """Runs the learner to its end; returns its exit code.

    Args:
      interrupted: a `stop_signals.Interruption`.
    """
    restarts, argv = 0, self._argv
    with lifeline.pipe() as reader:
      try:
        while code := self._run_once(reader, interrupted):
          is_last = code in _USELESS_TO_REPEAT or restarts == _MAX_RESTARTS
          if interrupted.requested or is_last:
            return code
          restarts += 1
          # A restart keeps what the first process wrote; the last flag counts.
          self._argv = [*argv, '--nooverwrite']
          _say(
            f'the learner died (exit code {code}); restart {restarts} of '
            f'{_MAX_RESTARTS}.'
          )
        return 0
      finally:
        self._end()

  def stop_at_once(self, code: int) -> None:
    """Kills the learner, then ends this process."""
    if self._running is not None:
      self._running.kill()
    os._exit(code)

  def _run_once(self, reader: int, interrupted) -> int:
    self._running = subprocess.Popen(
      self._argv,
      env={**os.environ, lifeline.VARIABLE: str(reader)},
      pass_fds=[reader],
      start_new_session=True,  # Ctrl-C is for the launcher.
    )
    while self._running.poll() is None:
      if interrupted.requested:
        self._end()
      time.sleep(_SECONDS_BETWEEN_LOOKS)
    return self._running.returncode

  def _end(self) -> None:
    """Sends SIGTERM, and SIGKILL after some minutes."""
    if self._running is None or self._running.poll() is not None:
      return
    self._running.send_signal(signal.SIGTERM)
    try:
      self._running.wait(_SECONDS_TO_SAVE)
    except subprocess.TimeoutExpired:
      self._running.kill()
      self._running.wait()


def _say(line: str) -> None:
  print(f'launch: {line}', file=sys.stderr, flush=True)


def main() -> None:
  """Runs the learner and its collectors to the end."""
  # Bad input is reported here, before anything is started.
  if training_command.is_finished(training_command.configuration()):
    return
  if ray_flags.ENGINE.value == 'processes':
    raise ConfigError(
      '--engine=processes is for qwr_tf.sweep; without Ray, '
      'qwr_tf.train --gin_bindings=Collector.num_environments=8 acts in 8 '
      'environments.'
    )
  if ray_flags.ADDRESS.value is None:
    collectors = ray_flags.COLLECTORS.value * ray_flags.COLLECTOR_CPUS.value
    address = cluster.start_local(max(collectors, os.cpu_count() or 1))
    _say(f'Ray listens on {address}, to this machine only.')
  learner = Learner([sys.executable, '-m', 'qwr_tf.distributed', *sys.argv[1:]])
  with stop_signals.Interruption(learner.stop_at_once) as interrupted:
    code = learner.run(interrupted)
  if interrupted.requested:
    raise KeyboardInterrupt(
      'interrupted; the same command goes on from the last checkpoint.'
    )
  if code == _BAD_INPUT:
    raise ConfigError('the learner refused its input; see above.')
  sys.exit(1 if code else 0)


if __name__ == '__main__':
  command.run(main)
