"""Goes on with a finished run in TF-Agents' own drivers and learner.

    python examples/continue_training.py --root_dir=runs/<run> --output=policy
        [--iterations=10] [--trust_module=my_envs]

First the exported collect policy plays, loaded as any TF-Agents program loads
one; it stores its distribution beside each action: its experience is as good as
the agent's own. Then the agent takes over with the weights and optimisers of
the run's checkpoint, and in the end exports the next version.
"""

import argparse
import pathlib
import tempfile
from collections.abc import Sequence

import qwr_tf  # noqa: F401 (first: it chooses Keras 2)

# isort: split
import tensorflow as tf
from tf_agents.drivers import py_driver
from tf_agents.policies import py_tf_eager_policy
from tf_agents.train import learner

from qwr_tf import environments
from qwr_tf import replay
from qwr_tf import serving
from qwr_tf.config.errors import ConfigError
from qwr_tf.runs import run_json
from qwr_tf.serving import versions
from qwr_tf.training import experiment


def run(
  root_dir: pathlib.Path,
  output: pathlib.Path,
  *,
  iterations: int = 10,
  env_steps: int = 1000,
  train_steps: int = 1000,
  batch_size: int = 256,
  trusted: Sequence[str] = (),
) -> pathlib.Path:
  """Trains on; returns the folder of the new version."""
  versions.check(output)  # Before the work, not after it.
  facts = run_json.required(root_dir)
  if facts['environment'] == environments.NO_SIMULATOR:
    raise ConfigError(f'{root_dir} has no environment to go on in.')
  agent = serving.load_agent(root_dir, facts, trusted=trusted)
  agent.initialize()
  # As the run's configuration, which has been parsed, makes it.
  seed = facts['seed'] + 1
  env = experiment.load_environment(facts['environment'], seed=seed)
  table = replay.ReplayTable(agent.collect_data_spec, iterations * env_steps)

  def store(row):
    batch = tf.nest.map_structure(lambda x: tf.constant(x)[tf.newaxis], row)
    table.add_batch(batch)

  def drive(policy, time_step):
    driver = py_driver.PyDriver(env, policy, [store], max_steps=env_steps)
    return driver.run(time_step)[0]

  exported = py_tf_eager_policy.SavedModelPyTFEagerPolicy(
    str(versions.newest(root_dir / 'policy') / 'collect_policy'),
    load_specs_from_pbtxt=True,
  )
  own = py_tf_eager_policy.PyTFEagerPolicy(
    agent.collect_policy, use_tf_function=True
  )
  # A learner goes on from what it finds in its folder: a new one.
  with tempfile.TemporaryDirectory() as folder:
    training = learner.Learner(
      folder,
      agent.train_step_counter,
      agent,
      lambda: table.as_dataset(
        batch_size, num_steps=agent.train_sequence_length
      ),
      checkpoint_interval=iterations * train_steps,
    )
    time_step = drive(exported, env.reset())
    for i in range(iterations):
      if i:
        time_step = drive(own, time_step)
      loss = training.run(iterations=train_steps)
      print(
        f'loss    {float(loss.loss):.3f} after {int(agent.actor_steps)} steps'
      )
  facts['interactions'] += iterations * env_steps
  facts['critic_steps'] = int(agent.critic_steps)
  facts['actor_steps'] = int(agent.actor_steps)
  facts['scores'] = {}  # Those of the run are not this policy's.
  return serving.export(agent, facts, output)


def main() -> None:
  """Trains on and prints where the policy is."""
  parser = argparse.ArgumentParser(description=(__doc__ or '').split('\n')[0])
  parser.add_argument('--root_dir', required=True, type=pathlib.Path)
  parser.add_argument('--output', required=True, type=pathlib.Path)
  parser.add_argument('--iterations', type=int, default=10)
  parser.add_argument('--trust_module', action='append', default=[])
  flags = parser.parse_args()
  if flags.iterations < 1:
    parser.error('--iterations must be 1 or more')
  try:
    version = run(
      flags.root_dir,
      flags.output,
      iterations=flags.iterations,
      trusted=flags.trust_module,
    )
  except ConfigError as error:
    parser.error(str(error))
  print(f'policy  {version}')


if __name__ == '__main__':
  main()
