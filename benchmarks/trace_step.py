"""Functions of qwr_tf that one gradient step of each kind calls.

    python -m benchmarks.trace_step [--verbose]

Counts the calls of one eager critic step and one eager actor step, lines 12-14
and 18-21 of Algorithm 2: from a minibatch of windows to the change of the
weights. Comprehensions do not count, which are no functions to a reader. Prints
the totals, first with the draw of the minibatch from the table (lines 11 and
17), then without; with --verbose, a line per function before.
"""

from qwr_tf.config import startup  # noqa: F401, before TensorFlow.

# isort: split
import collections
import os
import sys
from collections.abc import Callable

import tensorflow as tf
from absl import app
from absl import flags

import qwr_tf
from qwr_tf.config import gin_files
from qwr_tf.minibatches import minibatches
from qwr_tf.training import experiment

_VERBOSE = flags.DEFINE_bool('verbose', False, 'Also print each function.')

_PACKAGE = os.path.join(os.path.dirname(qwr_tf.__file__), '')
_COMPREHENSIONS = ('<genexpr>', '<listcomp>', '<dictcomp>', '<setcomp>')
_ENV_STEPS, _BATCH_SIZE, _STEPS = 300, 256, 2

Calls = collections.Counter[tuple[str, str]]


def calls_of(step: Callable[[], object]) -> Calls:
  """Calls of the package's functions while a step runs.

  Args:
    step: without arguments.

  Returns:
    Counts by (file inside the package, function).
  """
  calls: Calls = collections.Counter()

  def note(frame, event, argument):
    del argument
    code = frame.f_code
    if (
      event == 'call'
      and code.co_filename.startswith(_PACKAGE)
      and code.co_name not in _COMPREHENSIONS
    ):
      file = code.co_filename.removeprefix(_PACKAGE)
      calls[file, code.co_qualname] += 1

  sys.setprofile(note)
  try:
    step()
  finally:
    sys.setprofile(None)
  return calls


def steps(
  gin_file: str = 'mujoco_100k.gin', environment: str = 'HalfCheetah-v4'
) -> dict[str, Callable[[], object]]:
  """The eager steps of a preset by name, with and without the draw."""
  bindings = [
    f'run.environment = "{environment}"',
    f'Collector.env_steps = {_ENV_STEPS}',
  ]
  gin_files.parse([gin_file], bindings)
  parts = experiment.build(experiment.settings(), seed=0)
  parts.collector()
  agent = parts.agent
  source = minibatches.PerMinibatch(agent, parts.table, _BATCH_SIZE)
  critic, actor = source.critic_phase(_STEPS), source.actor_phase(_STEPS)
  i = tf.constant(1)
  critic_minibatch, actor_minibatch = critic(i), actor(i)
  return {
    'critic step and draw': lambda: agent.train_critic(**critic(i)),
    'actor step and draw': lambda: agent.train_actor(**actor(i)),
    'critic step': lambda: agent.train_critic(**critic_minibatch),
    'actor step': lambda: agent.train_actor(**actor_minibatch),
  }


def main(_):
  """Prints the calls."""
  totals = []
  for name, step in steps().items():
    step()  # What only a first step does.
    calls = calls_of(step)
    files = {file for file, _ in calls}
    totals.append(f'{name}: {calls.total()} calls in {len(files)} files')
    if _VERBOSE.value:
      print(totals[-1])
      for (file, function), count in sorted(calls.items()):
        print(f'  {file}:{function} {count}')
  print('; '.join(totals[:2]))
  print('; '.join(totals[2:]))


if __name__ == '__main__':
  app.run(main)
