"""A scale that falls linearly, in all copies of the actor."""

import functools

import numpy as np
import pytest
import tensorflow as tf
from tf_agents.specs import tensor_spec
from tf_agents.trajectories import time_step as ts

from qwr_tf import networks
from qwr_tf.networks.torsos import mlp_torso as _torso
from qwr_tf.training import experiment

_OBSERVATION = tensor_spec.TensorSpec([3], tf.float32, 'observation')
_CONTINUOUS = tensor_spec.BoundedTensorSpec([2], tf.float32, -1, 1, 'action')
_DISCRETE = tensor_spec.BoundedTensorSpec([], tf.int32, 0, 3, 'action')
_HEAD = functools.partial(
  networks.FallingScaleGaussianHead,
  initial_scale=0.5,
  final_scale=0.1,
  decay_train_steps=400,
)


@functools.cache
def _agents():
  """Two in one process."""
  actors = {'head_fn': _HEAD, 'torso_fn': functools.partial(_torso, (8,))}
  return tuple(
    experiment.make_agent(
      ts.time_step_spec(_OBSERVATION),
      _CONTINUOUS,
      seed=seed,
      actor_network=functools.partial(networks.ActorNetwork, **actors),
    )
    for seed in range(2)
  )


# From 0.5 to 0.1 over 400 steps: 0.001 a step, then nothing.
@pytest.mark.parametrize(
  'steps, scale', [(0, 0.5), (100, 0.4), (400, 0.1), (900, 0.1)]
)
def test_the_scale_falls_linearly_in_all_copies(steps, scale):
  agent, other = _agents()
  agent.train_step_counter.assign(steps)
  steps_of_table = tensor_spec.sample_spec_nest(
    agent.collect_data_spec, outer_dims=[5]
  )
  states = agent.states(steps_of_table, tf.constant([0, 0]))
  for policy in (states.policy(), states.target_policy()):
    np.testing.assert_allclose(
      policy.stddev(), np.full([5, 2], scale), rtol=1e-5
    )
  assert other.actor_network.head.scale[0] == 0.5
  step = ts.restart(tf.ones([5, 3]), batch_size=5)
  info = agent.collect_policy.action(step).info
  assert any(np.allclose(x, scale) for x in tf.nest.flatten(info))


def test_the_counter_of_steps_is_not_trained():
  agent, _ = _agents()
  trained = agent.actor_network.trainable_variables
  assert all(v is not agent.train_step_counter for v in trained)
  assert len(trained) == 4  # Two layers.


def test_discrete_actions_have_no_scale():
  with pytest.raises(ValueError, match='FallingScaleGaussianHead is for one'):
    networks.FallingScaleGaussianHead(_DISCRETE)
