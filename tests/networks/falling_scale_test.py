"""A scale that falls linearly, in all copies of the actor."""

import functools

import numpy as np
import pytest
import tensorflow as tf
from tf_agents.specs import tensor_spec

from qwr_tf import networks

_OBSERVATION = tensor_spec.TensorSpec([3], tf.float32, 'observation')
_CONTINUOUS = tensor_spec.BoundedTensorSpec([2], tf.float32, -1, 1, 'action')
_DISCRETE = tensor_spec.BoundedTensorSpec([], tf.int32, 0, 3, 'action')
_HEAD = functools.partial(
  networks.FallingScaleGaussianHead,
  initial_scale=0.5,
  final_scale=0.1,
  decay_train_steps=400,
)


@pytest.fixture
def step():
  counter = tf.compat.v1.train.get_or_create_global_step()
  before = counter.numpy()
  yield counter
  counter.assign(before)


# From 0.5 to 0.1 over 400 steps: 0.001 a step, then nothing.
@pytest.mark.parametrize(
  'steps, scale', [(0, 0.5), (100, 0.4), (400, 0.1), (900, 0.1)]
)
def test_the_scale_falls_linearly_in_all_copies(step, steps, scale):
  actor = networks.ActorNetwork(_OBSERVATION, _CONTINUOUS, head_fn=_HEAD)
  copy = actor.copy(name='Copy')
  step.assign(steps)
  observation = tf.ones([5, 3])
  for network in (actor, copy):
    network.create_variables()
    policy = network.distribution(observation)
    np.testing.assert_allclose(
      policy.stddev(), np.full([5, 2], scale), rtol=1e-5
    )
    np.testing.assert_array_equal(policy.mean(), network.outputs(observation))


def test_the_counter_of_steps_is_not_trained(step):
  actor = networks.ActorNetwork(_OBSERVATION, _CONTINUOUS, head_fn=_HEAD)
  actor.create_variables()
  assert all(v is not step for v in actor.trainable_variables)
  assert len(actor.trainable_variables) == 6  # Three layers.


def test_discrete_actions_have_no_scale():
  with pytest.raises(ValueError, match='FallingScaleGaussianHead is for one'):
    networks.FallingScaleGaussianHead(_DISCRETE)
