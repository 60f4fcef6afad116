"""Milliseconds per critic and actor step, and per matrix product in them.

    python -m benchmarks.train_step [--gin_file=mujoco_100k_paper.gin]

The floor is a compiled loop of nothing but the step's matrix products,
forward and backward, its tanh and one Adam pass, at the same shapes: no table,
no random numbers, no distributions, no weights, no logs. Floor and steps are
timed in turns in one process, so that the ratio holds on a busy machine too.
"""

from qwr_tf.config import startup  # noqa: F401, before TensorFlow.

# isort: split
import statistics
import time

import tensorflow as tf
from absl import app
from absl import flags

from qwr_tf import environments
from qwr_tf.acting import collect
from qwr_tf.agents import qwr_agent
from qwr_tf.config import effective
from qwr_tf.config import gin_files
from qwr_tf.replay import replay_table
from qwr_tf.training import experiment

_GIN_FILE = flags.DEFINE_string(
  'gin_file', 'mujoco_100k_paper.gin', 'Preset of the steps.'
)
_ENVIRONMENT = flags.DEFINE_string('environment', 'HalfCheetah-v4', 'Shapes.')
_STEPS = flags.DEFINE_integer('steps', 300, 'Steps in a timed loop.')
_ROUNDS = flags.DEFINE_integer('rounds', 7, 'Timed loops of each kind.')

CLOCK = time.perf_counter  # Or time.process_time.

WIDTH, BATCH = 256, 256


class Layers:
  """Weights of a stack of linear layers with their Adam moments."""

  def __init__(self, *shapes):
    """Makes the variables."""
    variable = tf.Variable
    self.kernels = [variable(tf.random.normal(s) * 0.05) for s in shapes]
    self.biases = [variable(tf.zeros([s[1]])) for s in shapes]
    self.variables = self.kernels + self.biases
    self.m = [variable(tf.zeros_like(v)) for v in self.variables]
    self.v = [variable(tf.zeros_like(v)) for v in self.variables]

  def __call__(self, x, layer):
    """x W + b of one layer, over any outer shape."""
    flat = tf.reshape(x, [-1, x.shape[-1]])
    return tf.nn.bias_add(flat @ self.kernels[layer], self.biases[layer])

  def adam(self, gradients):
    """One pass of the fused kernel."""
    for variable, m, v, gradient in zip(
      self.variables, self.m, self.v, gradients, strict=True
    ):
      tf.raw_ops.ResourceApplyAdam(
        var=variable.handle,
        m=m.handle,
        v=v.handle,
        beta1_power=0.9,
        beta2_power=0.999,
        lr=1e-4,
        beta1=0.9,
        beta2=0.999,
        epsilon=1e-7,
        grad=gradient,
      )


def torso(layers, x):
  """Two ReLU layers."""
  return tf.nn.relu(layers(tf.nn.relu(layers(x, 0)), 1))


def gated(layers, features, actions):
  """Gate and value head of n actions for each state, [n * N]."""
  n = actions.shape[0]
  gate = tf.tanh(layers(actions, 2))
  gate = tf.reshape(gate, [n, -1, WIDTH])
  return layers(tf.reshape(features * gate, [-1, WIDTH]), 3)


def floors(observation_size, action_size, num_actions, horizon):
  """Returns (critic floor, actor floor), functions of a number of steps."""
  q_shapes = (
    (observation_size, WIDTH),
    (WIDTH, WIDTH),
    (action_size, WIDTH),
    (WIDTH, 1),
  )
  critic, target = Layers(*q_shapes), Layers(*q_shapes)
  actor = Layers(q_shapes[0], q_shapes[1], (WIDTH, action_size))
  states = tf.random.normal([BATCH, observation_size])
  next_states = tf.random.normal([horizon * BATCH, observation_size])
  taken = tf.random.normal([1, BATCH, action_size])
  samples = tf.random.normal([num_actions, BATCH, action_size])
  next_samples = tf.random.normal([num_actions, horizon * BATCH, action_size])

  def step_critic():
    q_next = gated(target, torso(target, next_states), next_samples)
    wanted = tf.reduce_mean(q_next)
    with tf.GradientTape() as tape:
      q = gated(critic, torso(critic, states), taken)
      loss = tf.reduce_mean((q - wanted) ** 2)
    critic.adam(tape.gradient(loss, critic.variables))
    return loss

  def step_actor():
    q = gated(critic, torso(critic, states), samples)
    with tf.GradientTape() as tape:
      mean = actor(torso(actor, states), 2)
      loss = tf.reduce_mean((samples - mean) ** 2) + tf.reduce_mean(q)
    actor.adam(tape.gradient(loss, actor.variables))
    return loss

  return looped(step_critic), looped(step_actor)


def looped(step):
  """A compiled loop of a step."""

  @tf.function
  def loop(steps):
    total = tf.zeros([])
    for _ in tf.range(steps):
      total += step()
    return total

  return loop


def phases(environment):
  """Returns (agent, critic phase, actor phase) of the preset."""
  env = environments.load(environment, seed=0)
  agent = experiment.agent_for(env, seed=0)
  table = replay_table.ReplayTable(agent.collect_data_spec, 50_000)
  collector = collect.Collector(env, agent, table, seed=0, env_steps=5000)
  steps = _STEPS.value

  def nothing():
    return collect.Collected(0, [], 0.0)

  critic = qwr_agent.iterate(
    agent, table, nothing, critic_steps=steps, actor_steps=0
  )
  actor = qwr_agent.iterate(
    agent, table, nothing, critic_steps=0, actor_steps=steps
  )
  collector()
  return agent, (lambda: next(critic)[1]), (lambda: next(actor)[1])


def milliseconds(call) -> float:
  """Per step of a loop of --steps."""
  start = CLOCK()
  result = call()
  tf.nest.map_structure(lambda x: x.numpy(), result)
  return (CLOCK() - start) * 1e3 / _STEPS.value


def main(_):
  """Prints the table."""
  gin_files.parse([_GIN_FILE.value], [])
  agent, critic, actor = phases(_ENVIRONMENT.value)
  num_actions = effective.value('sampled_behavior_actions', 'num_actions')
  critic_floor, actor_floor = floors(
    agent.time_step_spec.observation.shape[0],
    agent.action_spec.shape[0],
    num_actions,
    agent.horizon,
  )
  steps = tf.constant(_STEPS.value)
  calls = {
    'critic step': (critic, lambda: critic_floor(steps)),
    'actor step': (actor, lambda: actor_floor(steps)),
  }
  print(f'{_GIN_FILE.value}, {_ENVIRONMENT.value}, batch {BATCH}')
  print(f'{"":12} {"ms":>7} {"floor":>7} {"ratio":>6}')
  for name, pair in calls.items():
    for call in pair:
      call()  # Compiles.
    times = [
      [milliseconds(call) for call in pair] for _ in range(_ROUNDS.value)
    ]
    step, floor = (statistics.median(x) for x in zip(*times, strict=True))
    ratio = statistics.median(a / b for a, b in times)
    print(f'{name:12} {step:7.2f} {floor:7.2f} {ratio:6.2f}')


if __name__ == '__main__':
  app.run(main)
