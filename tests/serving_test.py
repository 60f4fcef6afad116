"""A run's final weights, exported: the same actions with TensorFlow alone."""

import json
import subprocess
import sys

import gin
import numpy as np
import pytest
import tensorflow as tf

from qwr_tf import checkpoints
from qwr_tf import experiment
from qwr_tf import gin_files
from qwr_tf import serving

_SERVE = """
import sys
for name in ('tf_agents', 'tensorflow_probability', 'qwr_tf'):
  sys.modules[name] = None  # Importing it would fail.
import numpy as np, tensorflow as tf
policy = tf.saved_model.load(sys.argv[1])
observations = np.load(sys.argv[2])
serve = policy.signatures['serving_default']
np.save(sys.argv[3], serve(observation=tf.constant(observations))['action'])
"""


@pytest.fixture(autouse=True)
def clear_gin():
  yield
  gin.clear_config()


def make_run(folder, environment, *gin_names):
  """A run folder with an untrained agent's weights; returns the agent."""
  bindings = [f"run.environment='{environment}'"]
  config = gin_files.parse(list(gin_names), bindings)
  agent = experiment.build(experiment.settings(), 3).agent
  checkpoints.save(agent, folder / 'checkpoints' / 'final')
  facts = {'config': config, 'environment': environment, 'seed': 3}
  (folder / 'run.json').write_text(json.dumps(facts))
  gin.clear_config()
  return agent


def serve(version, observations, folder):
  """Actions of an export in a process that can import TensorFlow only."""
  np.save(folder / 'observations.npy', observations)
  subprocess.run(
    [sys.executable, '-c', _SERVE]
    + [str(version), str(folder / 'observations.npy'), str(folder / 'a.npy')],
    check=True,
    cwd=folder,
  )
  return np.load(folder / 'a.npy')


def test_continuous_actions_are_clipped_and_in_the_environments_units(
  tmp_path,
):
  agent = make_run(tmp_path, 'Humanoid-v4', 'mujoco_100k.gin')
  version = serving.export_run(tmp_path, tmp_path / 'policy')
  observations = np.random.default_rng(0).normal(0, 30, (5, 376))
  observations = observations.astype(np.float32)
  mean = agent.policy_distribution(tf.constant(observations)).mode().numpy()
  # Humanoid's bounds are +-0.4; the agent's are +-1.
  expected = 0.4 * np.clip(mean, -1, 1)
  assert (np.abs(mean) > 1).any(), 'the clip is not tested'
  np.testing.assert_allclose(
    serve(version, observations, tmp_path), expected, atol=1e-6
  )


def test_discrete_actions_are_the_most_likely_ones(tmp_path):
  agent = make_run(tmp_path, 'BitFlip-8', 'bitflip.gin')
  version = serving.export_run(tmp_path, tmp_path / 'policy')
  observations = np.random.default_rng(0).normal(0, 1, (9, 9))
  observations = observations.astype(np.float32)
  logits = agent.policy_distribution(tf.constant(observations)).logits
  np.testing.assert_array_equal(
    serve(version, observations, tmp_path), np.argmax(logits, axis=-1)
  )


def test_versions_grow_and_no_temporary_folder_stays(tmp_path):
  make_run(tmp_path, 'BitFlip-8', 'bitflip.gin')
  output = tmp_path / 'policy'
  (output / '7').mkdir(parents=True)
  assert serving.export_run(tmp_path, output).name == '8'
  assert sorted(p.name for p in output.iterdir()) == ['7', '8']


def test_a_folder_without_a_run_is_bad_input(tmp_path):
  with pytest.raises(gin_files.ConfigError, match='no run folder'):
    serving.export_run(tmp_path, tmp_path / 'policy')


def test_a_run_without_a_checkpoint_is_bad_input(tmp_path):
  agent = make_run(tmp_path, 'BitFlip-8', 'bitflip.gin')
  del agent
  (tmp_path / 'checkpoints').rename(tmp_path / 'elsewhere')
  with pytest.raises(gin_files.ConfigError, match='no checkpoint'):
    serving.export_run(tmp_path, tmp_path / 'policy')
  assert not (tmp_path / 'policy').exists()


def test_restoring_brings_back_weights_optimisers_and_counters(tmp_path):
  steps = 'iterate.critic_steps=3', 'iterate.actor_steps=2'
  gin_files.parse(['bitflip.gin'], [*steps, 'Collector.env_steps=50'])
  trained = experiment.build(experiment.settings(), 0)
  next(trained.iterations)
  checkpoints.save(trained.agent, tmp_path / 'final')
  other = experiment.build(experiment.settings(), 1)
  checkpoints.restore(other.agent, tmp_path / 'final')
  assert int(other.agent.critic_steps) == 3
  assert int(other.agent.actor_steps) == 2
  for name in ('actor_network', 'critic_network'):
    for old, new in zip(
      getattr(trained.agent, name).variables,
      getattr(other.agent, name).variables,
      strict=True,
    ):
      np.testing.assert_array_equal(old.numpy(), new.numpy())
