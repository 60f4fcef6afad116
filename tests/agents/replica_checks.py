"""One device against two replicas of it, printed as JSON.

    python tests/agents/replica_checks.py main <case>,...,stock,ops <steps>
    TF_CONFIG=... python tests/agents/replica_checks.py worker <case> <steps>

The first builds a case's agent on one device and under a MirroredStrategy of
two logical CPU devices, which a process can only be given before it computes
anything, and trains both on the same table: with `iterate`, and as TF-Agents'
own Learner calls an agent. `ops` are the functions alone, `draws` the replicas
of AWAC. Used by replicas_test.py and benchmarks/replicas.py.
"""

import functools
import hashlib
import json
import sys
import types

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp
from tf_agents.specs import tensor_spec
from tf_agents.trajectories import time_step as ts
from tf_agents.trajectories import trajectory

from qwr_tf import networks
from qwr_tf.agents import awac_agent
from qwr_tf.agents import awr_agent
from qwr_tf.agents import qwr_agent
from qwr_tf.agents import slots
from qwr_tf.minibatches import exact_reuse
from qwr_tf.minibatches import minibatches
from qwr_tf.minibatches import whole_table
from qwr_tf.networks import torsos
from qwr_tf.ops import backups
from qwr_tf.ops import regression
from qwr_tf.replay import ReplayTable
from qwr_tf.replicas import replicas
from qwr_tf.training import strategies

_VECTOR = tensor_spec.TensorSpec([5], tf.float32, 'observation')
_IMAGE = tensor_spec.TensorSpec([84, 84, 4], tf.uint8, 'observation')
_DISCRETE = tensor_spec.BoundedTensorSpec([], tf.int32, 0, 3, 'action')
_CONTINUOUS = tensor_spec.BoundedTensorSpec([2], tf.float32, -1, 1, 'action')
# Of every kind; whole numbers are below 4.
_ENTRIES = {
  'camera': tensor_spec.TensorSpec([10, 10, 3], tf.uint8),
  'color': tensor_spec.BoundedTensorSpec([], tf.int32, 0, 3),
  'joints': tensor_spec.TensorSpec([5], tf.float32),
}
_COMBINED = tensor_spec.BoundedTensorSpec([2], tf.int32, 0, 3, 'action')
_LSE = functools.partial(
  backups.log_sum_exp_backup,
  # One scale for the whole minibatch: it is made of all replicas' values.
  scale_fn=functools.partial(backups.mean_absolute_deviation, per_state=False),
)

# (agent, observation, action, critic, minibatches, batch size, slots)
CASES = {
  'gaussian': (
    qwr_agent.QwrAgent,
    _VECTOR,
    _CONTINUOUS,
    networks.GatedQNetwork,
    minibatches.PerMinibatch,
    256,
    {'backup_fn': _LSE},
  ),
  'discrete': (
    qwr_agent.QwrAgent,
    _VECTOR,
    _DISCRETE,
    networks.GatedQNetwork,
    minibatches.PerMinibatch,
    256,
    {'backup_fn': _LSE},
  ),
  'images': (
    qwr_agent.QwrAgent,
    _IMAGE,
    _DISCRETE,
    networks.GatedQNetwork,
    exact_reuse.ExactReuse,
    16,
    {'horizon': 1},
  ),
  'entries': (
    qwr_agent.QwrAgent,
    _ENTRIES,
    _COMBINED,
    networks.GatedQNetwork,
    exact_reuse.ExactReuse,
    16,
    {'horizon': 1},
  ),
  'awr': (
    awr_agent.AwrAgent,
    _VECTOR,
    _CONTINUOUS,
    networks.ValueNetwork,
    whole_table.WholeTable,
    256,
    {},
  ),
  # Its actions are those of the policy, drawn by each replica for itself.
  'awac': (
    awac_agent.AwacAgent,
    _VECTOR,
    _CONTINUOUS,
    networks.GatedQNetwork,
    minibatches.PerMinibatch,
    256,
    {},
  ),
}


# Its memory of the first step is the gradient.
_sgd = functools.partial(tf.keras.optimizers.legacy.SGD, 1e-3, 0.9)


def make(case: str, optimizer, train_step_counter=None):
  """An agent with random weights, those of the seed."""
  agent_class, observation, action, critic, _, _, slots = CASES[case]
  tf.keras.utils.set_random_seed(1)
  is_image = observation is _IMAGE
  torso = torsos.dqn_2013_torso if is_image else torsos.mlp_torso
  shared = None if is_image else networks.ObservationNormalizer(observation)
  return agent_class(
    ts.time_step_spec(observation),
    action,
    networks.ActorNetwork(
      observation, action, torso_fn=torso, normalizer=shared
    ),
    critic(observation, action, torso_fn=torso, normalizer=shared),
    actor_optimizer=optimizer(),
    critic_optimizer=optimizer(),
    train_step_counter=train_step_counter,
    **slots,
  )


def fill(table, agent, rows: int, seed: int = 0) -> None:
  """Appends random rows; episodes have 17 steps and a final observation."""
  rng = np.random.default_rng(seed)
  step_types = np.resize([0] + [1] * 16 + [2], rows + 1).astype(np.int32)

  def random(spec):
    shape = [rows, *spec.shape]
    if spec.dtype.is_integer:
      # Up to 3: what an action may be, and a dim image.
      return tf.constant(rng.integers(0, 4, shape), spec.dtype)
    return tf.constant(rng.normal(size=shape), spec.dtype)

  spec = agent.collect_data_spec
  tf.config.run_functions_eagerly(True)  # One call is not worth compiling.
  table.append(
    trajectory.Trajectory(
      step_type=tf.constant(step_types[:-1]),
      observation=tf.nest.map_structure(random, spec.observation),
      action=random(spec.action),
      policy_info=tf.nest.map_structure(random, spec.policy_info),
      next_step_type=tf.constant(step_types[1:]),
      reward=random(spec.reward),
      discount=tf.constant(rng.integers(0, 8, rows) > 0, tf.float32),
    )
  )
  tf.config.run_functions_eagerly(False)


class Training:
  """An agent that learns from random rows, of whatever strategy's scope."""

  def __init__(self, case: str, strategy, optimizer, jit=False):
    """Builds it; `scalars` trains it."""
    self.strategy = strategy
    with strategy.scope():
      once = tf.VariableAggregation.ONLY_FIRST_REPLICA
      counter = tf.Variable(0, False, dtype=tf.int64, aggregation=once)
      self.agent = make(case, optimizer, counter)
    self.agent.replicas.jit_compile = jit
    rows = 100 if case == 'images' else 3000
    self.table = ReplayTable(self.agent.collect_data_spec, rows)
    fill(self.table, self.agent, rows)
    if normalizer := self.agent.actor_network.normalizer:
      normalizer.update(self.table.observations(tf.range(rows)))
    *_, minibatches_fn, batch_size, _ = CASES[case]
    self._steps = 0
    self._iterations = qwr_agent.iterate(
      self.agent,
      self.table,
      lambda: types.SimpleNamespace(interactions=0),
      minibatches_fn=minibatches_fn,
      # A tensor: another number compiles nothing anew.
      steps_fn=lambda *_: tf.constant(self._steps),
      batch_size=batch_size,
    )

  def scalars(self, steps: int) -> dict[str, float]:
    """Means of a critic and an actor phase of so many steps, by name."""
    self._steps = steps
    _, scalars = next(self._iterations)
    return {name: float(value) for name, value in scalars.items()}

  def gradients(self) -> list[np.ndarray]:
    """The only step's, from SGD's memory of it."""
    agent = self.agent
    optimizers = agent._critic_optimizer, agent._actor_optimizer
    found = sum([optimizer.variables()[1:] for optimizer in optimizers], [])
    return [variable.numpy() for variable in found]

  def replicas_differ(self) -> list[str]:
    """Names of the variables that are not bitwise equal on all replicas."""
    differ = []
    for variable in self.agent.variables:
      values = self.strategy.experimental_local_results(variable)
      if any(
        v.numpy().tobytes() != values[0].numpy().tobytes() for v in values
      ):
        differ.append(variable.name)
    return differ


def distance(ours: list[np.ndarray], theirs: list[np.ndarray]) -> float:
  """Norm of the difference over the norm, all arrays together."""
  one, other = (
    np.concatenate([array.ravel() for array in arrays])
    for arrays in (ours, theirs)
  )
  return float(np.linalg.norm(one - other) / np.linalg.norm(one))


def _is_distributed(variable) -> bool:
  return isinstance(variable, tf.distribute.DistributedValues)


def two_devices() -> tf.distribute.Strategy:
  """Two logical CPU devices; only before TensorFlow computes anything."""
  device = tf.config.list_physical_devices('CPU')[0]
  configuration = tf.config.LogicalDeviceConfiguration()
  tf.config.set_logical_device_configuration(device, [configuration] * 2)
  return tf.distribute.MirroredStrategy(['CPU:0', 'CPU:1'])


def compare(case: str, steps: int, mirrored) -> dict:
  """What one step, and some more of them, give on one device and on two."""
  one = tf.distribute.get_strategy()
  trainings = [Training(case, s, _sgd) for s in (one, mirrored)]
  first_scalars = [training.scalars(1) for training in trainings]
  gradients = distance(*[training.gradients() for training in trainings])
  scalars = [training.scalars(steps - 1) for training in trainings]
  return {
    'first_scalars': first_scalars,
    'gradients': gradients,
    'scalars': scalars,
    **_facts(trainings[1]),
  }


def draws(steps: int, mirrored) -> dict:
  """AWAC's replicas alone: each draws actions that one device does not."""
  training = Training('awac', mirrored, _sgd)
  training.scalars(steps)
  return _facts(training)


def _facts(training: Training) -> dict:
  agent, table = training.agent, training.table.variables
  return {
    'replicas': agent.replicas.count,
    'differ': training.replicas_differ(),
    'critic_steps': int(agent.critic_steps.numpy()),
    'devices_of_table': sorted({v.device.split('device:')[1] for v in table}),
    'table_is_distributed': any(map(_is_distributed, table)),
    'weights_on_both': all(map(_is_distributed, agent.trainable_variables)),
  }


def main(cases: str, steps: int) -> None:
  """Prints it for cases with commas between."""
  mirrored = two_devices()
  checks = {
    'draws': draws,
    'stock': stock,
    'ops': lambda _, strategy: ops(strategy),
  }
  found = {
    case: checks.get(case, functools.partial(compare, case))(steps, mirrored)
    for case in cases.split(',')
  }
  print(json.dumps(found))


def stock(steps: int, mirrored) -> dict:
  """What `agent.train` gives in a loop of one's own, or a Learner's."""
  one = tf.distribute.get_strategy()
  trainings = [Training('discrete', s, _sgd) for s in (one, mirrored)]
  losses = [_stock_losses(training, steps) for training in trainings]
  one, two = (t.agent.trainable_variables for t in trainings)
  steps_made = [int(t.agent.train_step_counter.numpy()) for t in trainings]
  return {
    'losses': losses,
    'apart': distance([v.numpy() for v in one], [v.numpy() for v in two]),
    'differ': trainings[1].replicas_differ(),
    'train_steps': steps_made,
  }


def ops(mirrored) -> dict[str, list]:
  """What each function makes of the value 1 in one replica, 3 in the other."""
  mask = tf.constant([[1.0, 1.0, 1.0], [1.0, 0.0, 0.0]])
  entries = tf.constant([[1.0, 2.0, 3.0], [4.0, 9.0, 9.0]])
  rows = tf.constant([[1.0, 2.0], [3.0, 4.0]])
  seed = tf.constant([0, 1])
  policy = tfp.distributions.Normal(tf.zeros([2]), 1.0)
  states = types.SimpleNamespace(
    policy=lambda: policy,
    target_policy=lambda: policy,
    outer_rank=1,
    seed=seed,
  )

  def numbered(x):
    return tfp.distributions.Deterministic(x + 10.0 * tf.range(4.0))

  @tf.function
  def in_each():
    number = tf.distribute.get_replica_context().replica_id_in_sync_group
    value = tf.constant([1.0, 3.0])[number]
    whole = replicas.batch(None)
    return {
      'sum': whole.sum(value),
      'mean': whole.mean(value),
      'masked_mean': replicas.batch(mask[number]).mean(entries[number]),
      'maximum': tf.reduce_max(whole.gather(value)),
      'exp_of_log_sum_exp': tf.exp(
        tf.reduce_logsumexp(whole.gather(tf.math.log(value)))
      ),
      'sample': replicas.sample(numbered, rows[number], 1, seed),
      'own_seed': replicas.own_seed(seed),
      'softmax_weights': regression.softmax_weights(
        tf.math.log(value)[tf.newaxis, tf.newaxis], tf.zeros([1, 1]), whole
      ),
      'policy_actions': slots.sampled_policy_actions(states).actions,
      'target_policy_actions': slots.sampled_target_policy_actions(
        states
      ).actions,
    }

  results = mirrored.run(in_each)
  return {
    name: [x.numpy().tolist() for x in mirrored.experimental_local_results(y)]
    for name, y in results.items()
  }


def _stock_losses(training: Training, steps: int) -> list[float]:
  """As `tf_agents.train.learner.Learner` calls an agent and adds up."""
  agent, strategy = training.agent, training.strategy

  @tf.function
  def train(seed):
    windows = training.table.sample(64, agent.horizon + 1, seed)
    # A stock buffer draws final observations, too: ten in the first share.
    last = tf.fill([10, agent.horizon + 1], ts.StepType.LAST)
    step_type = tf.concat([last, windows.step_type[10:]], axis=0)
    windows = windows._replace(step_type=step_type)
    loss = strategy.run(agent.train, args=(agent.replicas.split(windows),))
    return strategy.reduce(tf.distribute.ReduceOp.SUM, loss.loss, axis=None)

  with strategy.scope():
    return [float(train(tf.constant([0, i]))) for i in range(steps)]


def worker(case: str, steps: int) -> None:
  """Prints what the weights of this worker of TF_CONFIG are in the end."""
  training = Training(case, strategies.multi_worker(300.0), _sgd)
  scalars = training.scalars(steps)
  weights = b''.join(v.numpy().tobytes() for v in training.agent.variables)
  result = {
    'scalars': scalars,
    'replicas': training.agent.replicas.count,
    'weights': hashlib.sha256(weights).hexdigest(),
  }
  print(json.dumps(result))


if __name__ == '__main__':
  run = {'main': main, 'worker': worker}[sys.argv[1]]
  run(sys.argv[2], int(sys.argv[3]))
