"""QwrAgent in TF-Agents' own Actor, replay buffer, Learner and PolicySaver.

    python examples/tf_agents_pipeline.py --root_dir=runs/pipeline
        [--environment=BitFlip-8] [--iterations=40]

Of this project it uses the agent, its networks, the observer that updates
their normaliser, and the wrapper around gymnasium. For good scores use
`python -m qwr_tf.train`: here, every minibatch makes one step of the critic and
one of the actor, and the critic does not learn first.
"""

import argparse
import os

import qwr_tf  # noqa: F401 (first: it chooses Keras 2)

# isort: split
import tensorflow as tf
from tf_agents.metrics import py_metrics
from tf_agents.policies import policy_saver
from tf_agents.policies import py_tf_eager_policy
from tf_agents.replay_buffers import tf_uniform_replay_buffer
from tf_agents.specs import tensor_spec
from tf_agents.train import actor
from tf_agents.train import learner
from tf_agents.train.utils import train_utils
from tf_agents.utils import nest_utils

from qwr_tf import environments
from qwr_tf import networks
from qwr_tf.acting import observers
from qwr_tf.agents import qwr_agent


def make_agent(env, train_step: tf.Variable) -> qwr_agent.QwrAgent:
  """An agent with a normaliser and the default networks and slots."""
  time_step_spec = tensor_spec.from_spec(env.time_step_spec())
  action_spec = tensor_spec.from_spec(env.action_spec())
  specs = time_step_spec.observation, action_spec
  normalizer = networks.ObservationNormalizer(time_step_spec.observation)
  adam = tf.keras.optimizers.legacy.Adam
  agent = qwr_agent.QwrAgent(
    time_step_spec,
    action_spec,
    networks.ActorNetwork(*specs, normalizer=normalizer),
    networks.GatedQNetwork(*specs, normalizer=normalizer),
    actor_optimizer=adam(1e-3),
    critic_optimizer=adam(1e-3),
    train_step_counter=train_step,
  )
  agent.initialize()
  return agent


def make_actor(env, policy, train_step, **kwargs) -> actor.Actor:
  """A driver that acts with a compiled policy."""
  acting = py_tf_eager_policy.PyTFEagerPolicy(policy, use_tf_function=True)
  return actor.Actor(env, acting, train_step, **kwargs)


def run(
  root_dir: str,
  environment: str = 'BitFlip-8',
  *,
  iterations: int = 40,
  env_steps: int = 100,
  train_steps: int = 100,
  batch_size: int = 64,
  eval_episodes: int = 20,
  seed: int = 0,
) -> tuple[str, float]:
  """Trains; returns (folder of the saved greedy policy, mean return)."""
  tf.keras.utils.set_random_seed(seed)
  env = environments.load(environment, seed=seed)
  eval_env = environments.load(environment, seed=seed + 1)
  train_step = train_utils.create_train_step()
  agent = make_agent(env, train_step)
  buffer = tf_uniform_replay_buffer.TFUniformReplayBuffer(
    agent.collect_data_spec, batch_size=1, max_length=2 * iterations * env_steps
  )

  def observer(trajectory):
    buffer.add_batch(nest_utils.batch_nested_array(trajectory))

  collecting = make_actor(
    env,
    agent.collect_policy,
    train_step,
    observers=[observer, observers.normalizer_observer(agent)],
    steps_per_run=env_steps,
  )
  training = learner.Learner(
    root_dir,
    train_step,
    agent,
    lambda: buffer.as_dataset(
      sample_batch_size=batch_size, num_steps=agent.train_sequence_length
    ),
    checkpoint_interval=iterations * train_steps,
  )
  for _ in range(iterations):
    collecting.run()
    loss = training.run(iterations=train_steps)
  print(f'loss    {float(loss.loss):.3f} after {int(train_step)} steps')

  returns = py_metrics.AverageReturnMetric(buffer_size=eval_episodes)
  evaluating = make_actor(
    eval_env,
    agent.policy,
    train_step,
    observers=[returns],
    episodes_per_run=eval_episodes,
  )
  evaluating.run()
  path = os.path.join(root_dir, 'greedy_policy')
  saver = policy_saver.PolicySaver(agent.policy, train_step=train_step)
  saver.save(path)
  return path, float(returns.result())


def main() -> None:
  """Trains, prints the score and where the policy is."""
  parser = argparse.ArgumentParser(description=(__doc__ or '').split('\n')[0])
  parser.add_argument('--root_dir', required=True)
  parser.add_argument('--environment', default='BitFlip-8')
  parser.add_argument('--iterations', type=int, default=40)
  flags = parser.parse_args()
  if flags.iterations < 1:
    parser.error('--iterations must be 1 or more')
  try:
    path, score = run(
      flags.root_dir, flags.environment, iterations=flags.iterations
    )
  except ValueError as error:  # Of the environment.
    parser.error(str(error))
  print(f'policy  {path}')
  print(f'score   {score:.1f}')


if __name__ == '__main__':
  main()
