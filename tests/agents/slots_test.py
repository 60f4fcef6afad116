"""Action sources in agents of gin files: mirrored actions."""

import gin
import numpy as np
import pytest
import tensorflow as tf
from tf_agents.specs import tensor_spec
from tf_agents.trajectories import time_step as ts
from tf_agents.trajectories import trajectory

from qwr_tf.agents import slots
from qwr_tf.config import gin_files
from qwr_tf.training import experiment

_OBSERVATION = tensor_spec.TensorSpec([3], tf.float32, 'observation')
_CONTINUOUS = tensor_spec.BoundedTensorSpec([2], tf.float32, -1, 1, 'action')
_DISCRETE = tensor_spec.BoundedTensorSpec([], tf.int32, 0, 3, 'action')


@pytest.fixture(autouse=True)
def _clear_gin():
  yield
  gin.clear_config()


def _agent(preset, action_spec, *bindings):
  gin_files.parse([preset], ['mlp_torso.units = (8,)', *bindings])
  time_step_spec = ts.time_step_spec(_OBSERVATION)
  return experiment.make_agent(time_step_spec, action_spec, seed=0)


def _experience(agent, *outer):
  """Random steps in the middle of an episode, stored mu a standard normal."""
  normal = tf.random.stateless_normal([*outer, 3], [1, 2])
  zeros, ones = tf.zeros([*outer, 2]), tf.ones([*outer])
  middle = tf.cast(ones, tf.int32)
  spec = agent.action_spec
  return trajectory.Trajectory(
    step_type=middle,
    observation=normal,
    action=tf.zeros([*outer, *spec.shape], spec.dtype),
    policy_info={'dist_params': {'loc': zeros, 'scale_diag': zeros + 1.0}},
    next_step_type=middle,
    reward=normal[..., 0],
    discount=ones,
  )


def _states(agent):
  return agent.states(_experience(agent, 3), tf.constant([1, 2]))


@pytest.mark.slow
def test_mirrored_actions_lie_on_both_sides_of_the_target_policys_mean():
  agent = _agent('mujoco_100k.gin', _CONTINUOUS)
  for variable in agent.actor_network.trainable_variables:
    variable.assign_add(tf.ones_like(variable))  # Not the target network's.
  states = _states(agent)
  drawn = slots.mirrored_target_policy_actions(states, num_actions=6)
  noise = drawn.actions - states.target_policy().mean()
  assert noise.shape == [6, 3, 2]
  np.testing.assert_allclose(noise[:3], -noise[3:], atol=1e-5)
  assert len(np.unique(np.abs(noise[:3]))) == 18
  assert (
    np.abs(states.policy().mean() - states.target_policy().mean()).max() > 1
  )
  np.testing.assert_allclose(
    tf.exp(drawn.log_weights), np.full([6, 1], 1 / 6), rtol=1e-5
  )


@pytest.mark.slow
def test_mirrored_actions_spread_like_the_target_policy():
  agent = _agent('mujoco_100k.gin', _CONTINUOUS)
  states = _states(agent)
  drawn = slots.mirrored_target_policy_actions(states, num_actions=20_000)
  noise = drawn.actions - states.target_policy().mean()
  # Four standard errors of 30000 independent draws: 4 / sqrt(60000).
  np.testing.assert_allclose(
    np.std(noise, axis=(0, 1)), states.target_policy().stddev()[0], rtol=0.017
  )


@pytest.mark.slow
def test_mirrored_actions_need_an_even_number():
  states = _states(_agent('mujoco_100k.gin', _CONTINUOUS))
  with pytest.raises(ValueError, match='num_actions must be even, not 3'):
    slots.mirrored_target_policy_actions(states, num_actions=3)


def test_discrete_actions_have_no_mirror_image():
  states = _states(_agent('bitflip.gin', _DISCRETE))
  with pytest.raises(ValueError, match='@enumerated_target_policy_actions'):
    slots.mirrored_target_policy_actions(states)


@pytest.mark.slow
def test_an_agent_of_research_slots_trains_and_its_scale_falls():
  step = tf.compat.v1.train.get_or_create_global_step()
  before = step.numpy()
  step.assign(0)
  agent = _agent(
    'mujoco_100k.gin',
    _CONTINUOUS,
    'QwrAgent.regression_actions = @mirrored_target_policy_actions',
    'make_agent.critic_network = @JointQNetwork',
    'make_agent.critic_wrapper = @TwinCritic',
    'JointQNetwork.torso_fn = @batch_norm_torso',
    'batch_norm_torso.units = (8,)',
    'JointQNetwork.units = (8,)',
    'actors.ActorNetwork.head_fn = @FallingScaleGaussianHead',
    'FallingScaleGaussianHead.decay_train_steps = 10',
  )
  try:
    loss = agent.train(_experience(agent, 8, agent.train_sequence_length)).loss
    scale = agent.actor_network.head.scale.numpy()
  finally:
    step.assign(before)
  assert np.isfinite(loss)
  # A tenth of the way from 0.4 to 0.2.
  np.testing.assert_allclose(scale, [0.38, 0.38], rtol=1e-5)
