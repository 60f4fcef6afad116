"""Observers of TF-Agents' drivers."""

import gin
import numpy as np
import pytest
import tensorflow as tf
from absl import logging
from tf_agents.drivers import dynamic_step_driver
from tf_agents.drivers import py_driver
from tf_agents.environments import tf_py_environment
from tf_agents.policies import py_tf_eager_policy

from qwr_tf import environments
from qwr_tf import replay
from qwr_tf.acting import observers
from qwr_tf.config import gin_files
from qwr_tf.training import experiment


@pytest.fixture(name='agent')
def _agent():
  gin_files.parse(['mujoco_100k.gin'], ["run.environment = 'Pendulum-v1'"])
  with environments.load('Pendulum-v1') as env:
    agent = experiment.agent_for(env, seed=0)
  gin.clear_config()
  agent.initialize()
  return agent


def _drive_python(env, agent, add):
  policy = py_tf_eager_policy.PyTFEagerPolicy(agent.collect_policy)
  driver = py_driver.PyDriver(env, policy, add, max_steps=30)
  driver.run(env.reset())


def _drive_tensorflow(env, agent, add):
  driver = dynamic_step_driver.DynamicStepDriver(
    tf_py_environment.TFPyEnvironment(env),
    agent.collect_policy,
    observers=add,
    num_steps=30,
  )
  driver.run()


@pytest.mark.slow
@pytest.mark.parametrize('drive', [_drive_python, _drive_tensorflow])
def test_a_stock_driver_updates_the_normalizer(drive, agent):
  table = replay.ReplayTable(agent.collect_data_spec, 100)

  def store(step):
    is_single = len(step.observation.shape) == 1
    table.add_batch(
      tf.nest.map_structure(lambda x: x[np.newaxis], step)
      if is_single
      else step
    )

  with environments.load('Pendulum-v1', seed=0) as env:
    drive(env, agent, [store, observers.normalizer_observer(agent)])
  rows = table.read(*table.row_range()).observation.numpy()
  assert len(rows) == 30
  mean, inverse = agent.acting_network.normalizer.parameters
  np.testing.assert_allclose(mean, rows.mean(0), rtol=1e-4, atol=1e-4)
  np.testing.assert_allclose(inverse, 1 / (rows.std(0) + 1e-5), rtol=1e-3)


@pytest.mark.slow
def test_an_agent_without_a_normalizer_has_nothing_to_update():
  gin_files.parse(['bitflip.gin'], ["run.environment = 'BitFlip-5'"])
  with environments.load('BitFlip-5') as env:
    agent = experiment.agent_for(env, seed=0)
    assert agent.acting_network.normalizer is None
    _drive_python(env, agent, [observers.normalizer_observer(agent)])
  gin.clear_config()


def test_a_normalizer_that_has_seen_nothing_warns(agent, monkeypatch):
  warnings = []
  monkeypatch.setattr(
    logging, 'warning', lambda message, *args: warnings.append(message)
  )
  normalizer = agent.acting_network.normalizer
  traced = tf.function(lambda: normalizer.warn_if_empty())
  traced()
  traced()
  assert len(warnings) == 1 and 'normalizer_observer' in warnings[0]
  normalizer.update(tf.ones([4, 3]))
  normalizer.warn_if_empty()
  assert len(warnings) == 1
