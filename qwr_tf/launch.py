"""All roles of a distributed run on this machine, for a first try.

    python -m qwr_tf.launch --collectors=4 --gin_file=mujoco_100k.gin

Starts `python -m qwr_tf.distributed` once for each role with the flags given
here, starts a role again that died (at most 5 times each), and ends them all
when training has ended, when one cannot go on, or at Ctrl-C. The Reverb server
is reachable from this machine only, unless --trusted_network. Roles end by
themselves when the launcher has been killed. Exit codes: 0 training has ended,
2 bad input, 1 anything else.
"""

from qwr_tf.config import startup  # noqa: F401, before TensorFlow.

# isort: split
import dataclasses
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence

from absl import flags

from qwr_tf.config import command
from qwr_tf.distributed import role_flags
from qwr_tf.training import run_flags
from qwr_tf.training import strategy_flags

flags.adopt_module_key_flags(run_flags)
flags.adopt_module_key_flags(role_flags)
_COLLECTORS = flags.DEFINE_integer(
  'collectors', 1, 'Processes that act.', lower_bound=1
)
command.answer_help(__name__)

# isort: split
from qwr_tf.config.errors import ConfigError
from qwr_tf.distributed import lifeline
from qwr_tf.training import interruption
from qwr_tf.training import training_command

_MAX_RESTARTS = 5
_SECONDS_BETWEEN_LOOKS = 0.2
# The learner finishes its iteration and saves: minutes on Atari.
_SECONDS_TO_SAVE = 600.0
# The server stays a while for roles that sleep.
_SECONDS_TO_END = 60.0
_BAD_INPUT = 2


@dataclasses.dataclass
class Process:
  """The process of a role.

  Attributes:
    name: for messages.
    argv: command.
    environment: variables beside those of the launcher.
    pipe_reader: of a pipe that closes with the processes that the role serves.
    pipe_writer: of the pipe of the roles that serve this one.
    restarts: number of restarts.
    running: the process; None before its start.
  """

  name: str
  argv: Sequence[str]
  environment: dict[str, str]
  pipe_reader: int | None = None
  pipe_writer: int | None = None
  restarts: int = 0
  running: subprocess.Popen | None = None

  def start(self) -> None:
    """Starts the process in a session without this terminal."""
    environment = dict(self.environment)
    if self.pipe_reader is not None:
      environment[lifeline.VARIABLE] = str(self.pipe_reader)
    pipes = (self.pipe_reader, self.pipe_writer)
    self.running = subprocess.Popen(
      self.argv,
      env={**os.environ, **environment},
      pass_fds=[number for number in pipes if number is not None],
      # Ctrl-C is for the launcher, which ends the roles in their order.
      start_new_session=True,
    )

  def code(self) -> int | None:
    """The exit code; None while the process runs."""
    return None if self.running is None else self.running.poll()

  def end(self, seconds: float) -> None:
    """Sends SIGTERM, and SIGKILL after some seconds."""
    if self.running is None or self.running.poll() is not None:
      return
    self.running.send_signal(signal.SIGTERM)
    try:
      self.running.wait(seconds)
    except subprocess.TimeoutExpired:
      self.kill()
      self.running.wait()

  def kill(self) -> None:
    """Sends SIGKILL."""
    if self.running is not None:
      self.running.kill()


class Launcher:
  """Keeps the roles alive until the learner has ended."""

  def __init__(
    self,
    replay: Process,
    collectors: Sequence[Process],
    learner: Process,
    say: Callable[[str], None],
  ):
    """Starts nothing yet."""
    self._learner = learner
    # In the order of their ends.
    self._processes = [learner, *collectors, replay]
    self._say = say

  def run(self, interrupted) -> int:
    """Starts all roles and returns the exit code of the run."""
    try:
      for process in reversed(self._processes):
        process.start()
      return self._watch(interrupted)
    finally:
      self._learner.end(_SECONDS_TO_SAVE)
      for process in self._processes:
        process.end(_SECONDS_TO_END)

  def stop_at_once(self, code: int) -> None:
    """Kills all roles, then ends this process."""
    for process in self._processes:
      process.kill()
    os._exit(code)

  def _watch(self, interrupted) -> int:
    while not interrupted.requested:
      time.sleep(_SECONDS_BETWEEN_LOOKS)
      if self._learner.code() == 0:
        return self._last()
      for process in self._processes:
        code = process.code()
        if code and not self._restart(process, code):
          return _BAD_INPUT if code == _BAD_INPUT else 1
    return 1

  def _restart(self, process: Process, code: int) -> bool:
    """Restarts a role that died; False if that is of no use."""
    if code == _BAD_INPUT:
      self._say(f'{process.name} refuses its input.')
      return False
    if process.restarts == _MAX_RESTARTS:
      self._say(
        f'{process.name} died (exit code {code}) after {_MAX_RESTARTS} '
        'restarts; that was the last one.'
      )
      return False
    process.restarts += 1
    # A restart keeps what the first process wrote.
    process.argv = [a for a in process.argv if a != '--overwrite']
    self._say(
      f'{process.name} died (exit code {code}); restart '
      f'{process.restarts} of {_MAX_RESTARTS}.'
    )
    process.start()
    return True

  def _last(self) -> int:
    """Waits for the other roles, which end after training."""
    end = time.monotonic() + _SECONDS_TO_END
    others = self._processes[1:]
    while time.monotonic() < end and any(p.code() is None for p in others):
      time.sleep(_SECONDS_BETWEEN_LOOKS)
    return 0


def _given(names: Sequence[str]) -> list[str]:
  """The flags that the user has set, as arguments."""
  arguments: list[str] = []
  for name in names:
    flag = flags.FLAGS[name]
    if flag.present and isinstance(flag.value, list):
      arguments += [f'--{name}={value}' for value in flag.value]
    elif flag.present:
      arguments.append(flag.serialize())
  return arguments


def _names(*modules) -> list[str]:
  key_flags = [
    flag.name
    for module in modules
    for flag in flags.FLAGS.get_key_flags_for_module(module)
  ]
  return list(dict.fromkeys(key_flags))


def processes(collectors: int) -> tuple[Process, list[Process], Process]:
  """(replay, collectors, learner) for the flags of this process."""
  ours = _names(run_flags, role_flags)
  of_learner = set(_names(strategy_flags)) | {'video'}
  common = _given([name for name in ours if name not in of_learner])
  base = [sys.executable, '-m', 'qwr_tf.distributed', *common]
  # One observation at a time needs neither a GPU nor several threads.
  small = {
    'CUDA_VISIBLE_DEVICES': '-1',
    'TF_NUM_INTRAOP_THREADS': '1',
    'TF_NUM_INTEROP_THREADS': '1',
  }
  # The learner lives as long as the launcher; the roles that serve it live as
  # long as the learner or the launcher.
  (of_launcher, _), (of_both, writer) = os.pipe(), os.pipe()
  replay = Process('replay', [*base, '--role=replay'], small, of_both)
  acting = [
    Process(f'collector {i}', [*base, '--role=collector'], small, of_both)
    for i in range(collectors)
  ]
  arguments = _given([name for name in ours if name in of_learner])
  argv = [*base, '--role=learner', *arguments]
  learner = Process('learner', argv, {}, of_launcher, writer)
  return replay, acting, learner


def _say(line: str) -> None:
  print(f'launch: {line}', file=sys.stderr, flush=True)


def main() -> None:
  """Runs all roles of a run to its end."""
  port = role_flags.port()
  _say(
    f'Reverb listens on port {port} of all interfaces and asks nobody who they '
    'are; everybody who reaches it is trusted (--trusted_network).'
    if role_flags.TRUSTED_NETWORK.value
    else f'Reverb listens on port {port}, to this machine only.'
  )
  # Bad input is reported here, not once by every role.
  if training_command.is_finished(training_command.configuration()):
    return
  launcher = Launcher(*processes(_COLLECTORS.value), _say)
  with interruption.Interruption(launcher.stop_at_once) as interrupted:
    code = launcher.run(interrupted)
  if interrupted.requested:
    raise KeyboardInterrupt(
      'interrupted; the same command goes on from the last checkpoint.'
    )
  if code == _BAD_INPUT:
    raise ConfigError('a role refused its input; see above.')
  sys.exit(code)


if __name__ == '__main__':
  command.run(main)
