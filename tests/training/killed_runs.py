"""Kills training processes at chosen moments, and compares what they leave.

    python tests/training/killed_runs.py '[<plan>, ...]' <flags of train...>

plays plans one after the other, each in a process of its own: train, and die
by SIGKILL some time after a phase has begun. Prints their exit codes. Used by
resume_test.py and by benchmarks/resume.py.
"""

import csv
import dataclasses
import functools
import hashlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Sequence

# What a process may be doing when it dies.
PHASES = ('collect', 'train', 'evaluation', 'checkpoint', 'products')


@dataclasses.dataclass
class Plan:
  """One process.

  Attributes:
    report: JSON that the process leaves if it comes to the end.
    phase: of `PHASES`; '' lives.
    iteration: the phase counts from this iteration on.
    moment: when SIGKILL comes, at the phase's end at the latest: as a share of
      how long the phase took in
    like: the report of a process that lived.
    eagerly: whether TensorFlow's functions are not compiled.
    arguments: flags of its own.
    before: a shell command to run first.
  """

  report: str
  phase: str = ''
  iteration: int = 0
  moment: float = 0.0
  like: str = ''
  eagerly: bool = False
  arguments: Sequence[str] = ()
  before: str = ''

  def delay(self) -> float:
    """Seconds from the beginning of the phase to SIGKILL."""
    seconds = json.loads(pathlib.Path(self.like).read_text())['seconds']
    return self.moment * max(seconds[self.phase])


class _Watch:
  """Knows what the process is doing, for how long, and when it has to die."""

  def __init__(self, plan: Plan):
    self._plan = plan
    self.iteration = 0
    self.seconds: dict[str, list[float]] = {phase: [] for phase in PHASES}
    self._phase, self._start = '', 0.0
    self._is_dying = False

  def enter(self, phase: str) -> None:
    """A phase begins, and the one before ends; '' is none of them."""
    if self._is_dying:  # The phase was quicker than the signal.
      _die()
    now = time.monotonic()
    if self._phase:
      self.seconds[self._phase].append(now - self._start)
    self._phase, self._start = phase, now
    plan = self._plan
    if phase and phase == plan.phase and self.iteration >= plan.iteration:
      self._is_dying = True
      timer = threading.Timer(plan.delay(), _die)
      timer.daemon = True
      timer.start()


def _die() -> None:
  os.kill(os.getpid(), signal.SIGKILL)


def _wrap(owner, name: str, watch: _Watch, phase: str, then: str = '') -> None:
  """Lets a function say when it begins and ends."""
  function = getattr(owner, name)

  @functools.wraps(function)
  def wrapped(*args, **kwargs):
    watch.enter(phase)
    result = function(*args, **kwargs)
    watch.enter(then)
    return result

  setattr(owner, name, wrapped)


def play(plan: Plan, arguments: Sequence[str]) -> None:
  """Trains in this process, until the end or until SIGKILL."""
  import tensorflow as tf

  from qwr_tf import serving
  from qwr_tf.acting import collect
  from qwr_tf.config import command
  from qwr_tf.training import training_command

  watch = _Watch(plan)
  _wrap(collect.Collector, '__call__', watch, 'collect', then='train')

  def hook(phase, run):
    watch.iteration = run.iteration + (phase == 'iteration')
    watch.enter(phase if phase in PHASES else '')
    if phase == 'end':
      report = {'digests': digests(run.parts), 'seconds': watch.seconds}
      pathlib.Path(plan.report).write_text(json.dumps(report))

  def train():
    config = training_command.configuration()
    training_command.run(config, serving.export, hook=hook)

  tf.config.run_functions_eagerly(plan.eagerly)
  sys.argv = ['qwr_tf.train', *arguments, *plan.arguments]
  command.parse_flags(sys.argv)
  command.guarded(train)


def digests(parts) -> dict[str, str]:
  """SHA-256 of every variable of agent and table, and of what is random."""
  state = json.dumps(parts.collector.state()).encode()
  found = {'collector': hashlib.sha256(state).hexdigest()}
  for name in ('agent', 'table'):
    for i, variable in enumerate(getattr(parts, name).variables):
      digest = hashlib.sha256(variable.numpy().tobytes()).hexdigest()
      found[f'{name} {i}'] = digest  # Keras' names count layers.
  return found


def metrics_rows(folder: pathlib.Path) -> list[dict[str, str]]:
  """Rows of metrics.csv but for what clocks say; fails for half a row."""
  text = (folder / 'metrics.csv').read_text()
  assert not text or text.endswith('\n'), 'half a row'
  rows = list(csv.DictReader(text.splitlines()))
  for row in rows:
    assert None not in row and None not in row.values(), f'half a row {row}'
  iterations = [int(row['iteration']) for row in rows]
  assert iterations == sorted(set(iterations)), f'a row twice: {iterations}'
  clocks = [
    name
    for name in (rows[0] if rows else ())
    if name == 'wall_seconds' or name.endswith('_per_second')
  ]
  return [{k: v for k, v in r.items() if k not in clocks} for r in rows]


def events(folder: pathlib.Path) -> dict[str, dict[int, float]]:
  """{tag: {step: value}} of TensorBoard; fails for a step that is twice."""
  import tensorflow as tf

  found: dict[str, dict[int, float]] = {}
  for file in sorted((folder / 'tensorboard').glob('*tfevents*')):
    try:
      for record in tf.data.TFRecordDataset(str(file)).as_numpy_iterator():
        event = tf.compat.v1.Event.FromString(record)
        for value in event.summary.value:
          steps = found.setdefault(value.tag, {})
          assert event.step not in steps, f'{value.tag} {event.step} twice'
          steps[event.step] = float(tf.make_ndarray(value.tensor))
    except tf.errors.DataLossError:
      pass  # Cut by SIGKILL; the next start drops it.
  return found


def differences(folder, other, report, other_report) -> list[str]:
  """What is not bitwise the same in two finished runs; [] if nothing.

  Args:
    folder: of a run.
    other: of another.
    report: of the process that finished the run.
    other_report: likewise.
  """
  found = []
  ours, theirs = (
    json.loads(pathlib.Path(r).read_text())['digests']
    for r in (report, other_report)
  )
  assert ours.keys() == theirs.keys()
  found += [name for name in ours if ours[name] != theirs[name]]
  if metrics_rows(folder) != metrics_rows(other):
    found.append('metrics.csv')
  tags = [
    {t: v for t, v in events(f).items() if 'second' not in t}
    for f in (folder, other)
  ]
  if tags[0] != tags[1] or not tags[0]:
    found.append('tensorboard')
  for name in ('policy/1/variables/variables', 'checkpoints/final/agent'):
    if saved(folder / name) != saved(other / name):
      found.append(name)
  return found


def saved(prefix: pathlib.Path) -> dict[str, bytes]:
  """The tensors of a TensorFlow checkpoint, bit by bit, by name."""
  import tensorflow as tf

  reader = tf.train.load_checkpoint(str(prefix))
  names = reader.get_variable_to_shape_map()
  assert len(names) > 4, f'{prefix} is all but empty'
  return {
    name: reader.get_tensor(name).tobytes()
    for name in names
    if 'OBJECT_GRAPH' not in name
  }


def _forked(plan: Plan, arguments: Sequence[str]) -> int:
  """Plays a plan in a fork, which has imported everything; its exit code."""
  if plan.before:
    subprocess.run(plan.before, shell=True, check=True)
  sys.stdout.flush()
  process = os.fork()
  if process == 0:
    code = 1
    try:
      play(plan, arguments)
      code = 0
    except SystemExit as error:
      code = error.code
    except BaseException:
      traceback.print_exc()
    finally:
      sys.stdout.flush()
      sys.stderr.flush()
      os._exit(code)
  return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def main() -> None:
  """Plays the plans."""
  # TensorFlow starts its threads later, in each process.
  from qwr_tf import train  # noqa: F401

  codes = [_forked(Plan(**p), sys.argv[2:]) for p in json.loads(sys.argv[1])]
  print(json.dumps(codes))


if __name__ == '__main__':
  main()
