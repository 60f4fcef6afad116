"""Milliseconds per critic and actor step on images, with and without reuse.

    python -m benchmarks.atari_step [--gin_file=atari_100k_paper.gin]

The floor is what the network itself takes at this batch in a compiled loop,
in float32: a forward pass, and a forward and backward pass with Adam. `naive`
makes each minibatch's numbers as it is drawn, `reuse` computes the Q-vector of
a row once (`ExactReuse`); both also with bfloat16 torsos. The table is full,
which is the worst case for reuse, and holds random images, which cost the
same. A step of either kind is made for each interaction of a run, so the sum
says how long the training of 100K interactions takes. Adds rows to
results/benchmarks/atari_step.csv.
"""

from qwr_tf.config import startup  # noqa: F401, before TensorFlow.

# isort: split
import resource
import time

import gin
import numpy as np
import tensorflow as tf
from absl import app
from absl import flags
from tf_agents.specs import tensor_spec
from tf_agents.trajectories import time_step as ts
from tf_agents.trajectories import trajectory

from benchmarks import raw_rows
from qwr_tf.acting import collect
from qwr_tf.agents import qwr_agent
from qwr_tf.config import gin_files
from qwr_tf.minibatches import exact_reuse
from qwr_tf.minibatches import minibatches
from qwr_tf.replay import ReplayTable
from qwr_tf.runs import provenance
from qwr_tf.training import experiment

_GIN_FILE = flags.DEFINE_string(
  'gin_file', 'atari_100k_paper.gin', 'Preset of the steps.'
)
_ROWS = flags.DEFINE_integer('rows', 50_000, 'Interactions in the table.')
_NAIVE_STEPS = flags.DEFINE_integer('naive_steps', 50, 'Steps in a loop.')
_CRITIC_STEPS = flags.DEFINE_integer(
  'critic_steps', 200, 'Steps of a timed critic phase: two target copies.'
)
_ACTOR_STEPS = flags.DEFINE_integer(
  'actor_steps', 1000, 'Steps of an actor phase: what is reused within.'
)
_NUM_ACTIONS = 6  # Pong.
CLOCK = time.perf_counter  # Or time.process_time.

_BATCH = 256
_EPISODE = 500

_OBSERVATION = tensor_spec.TensorSpec([84, 84, 4], tf.uint8, 'observation')
_ACTION = tensor_spec.BoundedTensorSpec(
  [], tf.int32, 0, _NUM_ACTIONS - 1, 'action'
)


def full_table(agent) -> ReplayTable:
  """A table of random episodes."""
  table = ReplayTable(agent.collect_data_spec, _ROWS.value)
  rng = np.random.default_rng(0)
  for _ in range(-(-_ROWS.value // _EPISODE)):
    table.append(episode(rng))
  return table


def episode(rng) -> trajectory.Trajectory:
  """Rows of one episode: random images, logits and rewards."""
  rows = _EPISODE + 1
  step_type = np.full([rows], ts.StepType.MID, np.int32)
  step_type[0], step_type[-1] = ts.StepType.FIRST, ts.StepType.LAST
  logits = rng.normal(size=[rows, _NUM_ACTIONS]).astype(np.float32)
  frames = rng.integers(0, 256, [rows, 84, 84], np.uint8)
  # Newest last; the first frame is repeated.
  places = np.maximum(np.arange(rows)[:, np.newaxis] - np.arange(4)[::-1], 0)
  stacks = np.moveaxis(frames[places], 1, -1)
  return trajectory.Trajectory(
    step_type=tf.constant(step_type),
    observation=tf.constant(stacks),
    action=tf.constant(rng.integers(0, _NUM_ACTIONS, rows, np.int32)),
    policy_info={'dist_params': {'logits': tf.constant(logits)}},
    next_step_type=tf.constant(np.roll(step_type, -1)),
    reward=tf.constant(rng.normal(size=rows).astype(np.float32)),
    discount=tf.ones([rows]),
  )


def make_agent():
  """The preset's agent on Pong's specs."""
  return experiment.make_agent(ts.time_step_spec(_OBSERVATION), _ACTION, seed=0)


def milliseconds(call, steps: int) -> float:
  """Per step of a loop, after a first call has compiled it."""
  call()
  start = CLOCK()
  call()
  return (CLOCK() - start) * 1e3 / steps


def phase_times(agent, table, minibatches_fn, phases) -> tuple[float, ...]:
  """(critic, actor) milliseconds per step of phases of so many steps."""
  kwargs = {'minibatches_fn': minibatches_fn, 'batch_size': _BATCH}
  times = []
  for critic_steps, actor_steps in ((phases[0], 0), (0, phases[1])):
    iterations = qwr_agent.iterate(
      agent,
      table,
      lambda: collect.Collected(0, [], 0.0),
      critic_steps=critic_steps,
      actor_steps=actor_steps,
      **kwargs,
    )
    steps = critic_steps + actor_steps
    times.append(milliseconds(lambda it=iterations: next(it), steps))
  return tuple(times)


def floor_times(steps: int) -> tuple[float, float]:
  """(forward, forward + backward + Adam) milliseconds of the critic's torso."""
  torso = make_agent().critic_network.encoder.torso
  optimizer = tf.keras.optimizers.legacy.Adam()
  images = tf.random.uniform([_BATCH, 84, 84, 4], 0, 256, tf.int32)
  images = tf.cast(images, tf.uint8)

  @tf.function
  def forward():
    total = 0.0
    for i in tf.range(steps):
      shifted = images + tf.cast(i, tf.uint8)  # Not the same in every step.
      total += tf.reduce_sum(torso(shifted))
    return total

  @tf.function
  def train():
    for i in tf.range(steps):
      with tf.GradientTape() as tape:
        loss = tf.reduce_mean(torso(images + tf.cast(i, tf.uint8)) ** 2)
      gradients = tape.gradient(loss, torso.trainable_variables)
      optimizer.apply_gradients(
        zip(gradients, torso.trainable_variables, strict=True)
      )

  return milliseconds(forward, steps), milliseconds(train, steps)


def configure(dtype_policy: str) -> None:
  """Reads the preset with torsos that compute in these types."""
  torso = 'dqn_2013_torso'
  gin_files.parse([_GIN_FILE.value], [])
  if 'nature_torso' in gin.config_str():
    torso = 'nature_torso'
  binding = f"{torso}.dtype_policy = '{dtype_policy}'"
  gin_files.parse([_GIN_FILE.value], [binding])


def main(_):
  """Prints the table."""
  configure('float32')
  forward, train = floor_times(_NAIVE_STEPS.value)
  print(f'{_GIN_FILE.value}, {_ROWS.value} rows, batch {_BATCH}')
  print(f'floor: forward {forward:.1f} ms, with backward + Adam {train:.1f} ms')
  rows = []
  print(f'{"":22} {"critic":>7} {"actor":>7}  ms; {"/ floor":>12}   100K in')
  for dtype_policy in ('float32', 'mixed_bfloat16'):
    configure(dtype_policy)
    agent = make_agent()
    table = full_table(agent)
    for name, function, phases in (
      ('naive', minibatches.PerMinibatch, [_NAIVE_STEPS.value] * 2),
      (
        'reuse',
        exact_reuse.ExactReuse,
        [_CRITIC_STEPS.value, _ACTOR_STEPS.value],
      ),
    ):
      critic, actor = phase_times(agent, table, function, phases)
      print(
        f'{name:6} {dtype_policy:15} {critic:7.1f} {actor:7.1f}      '
        f'{critic / train:5.2f} {actor / train:5.2f}   '
        f'{(critic + actor) * 100 / 3600:.2f} h'
      )
      rows.append(
        {
          'preset': _GIN_FILE.value,
          'rows': _ROWS.value,
          'minibatches': function.__name__,
          'dtype_policy': dtype_policy,
          'critic_milliseconds': round(critic, 2),
          'actor_milliseconds': round(actor, 2),
          'floor_milliseconds': round(train, 2),
          **provenance.facts(),
        }
      )
    del table
  raw_rows.add(raw_rows.path_of('atari_step'), rows)
  peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
  print(f'peak memory of this process (one table at a time): {peak:.2f} GiB')


if __name__ == '__main__':
  app.run(main)
