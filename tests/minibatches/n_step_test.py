"""N-step transitions: by hand, and against PerMinibatch with lambda = 1."""

import functools

import numpy as np
import pytest
import tensorflow as tf
from tf_agents.trajectories import trajectory

from qwr_tf.agents import slots
from qwr_tf.minibatches import minibatches
from qwr_tf.minibatches import n_step
from qwr_tf.ops import augmentation
from qwr_tf.ops import returns
from tests.minibatches import exact_reuse_test as images

_FIRST, _MID, _LAST = 0, 1, 2

pytestmark = pytest.mark.usefixtures('eagerly')


def _steps(step_types, rewards, discounts):
  """A window [1, T + 1]; actions count the rows."""
  rows = len(step_types)
  return trajectory.Trajectory(
    step_type=tf.constant([step_types], tf.int32),
    observation=(),
    action=tf.range(rows)[tf.newaxis],
    policy_info=(),
    next_step_type=tf.constant([[*step_types[1:], _MID]], tf.int32),
    reward=tf.constant([rewards], tf.float32),
    discount=tf.constant([discounts], tf.float32),
  )


@pytest.mark.parametrize(
  ('step_types', 'discounts', 'end', 'reward', 'discount'),
  [
    # 1 + 0.5 * 2 + 0.25 * 4; the agent's gamma is the third half.
    ((_MID, _MID, _MID, _MID), (1, 1, 1, 1), 3, 3.0, 0.25),
    # Ends after the second step, as the time is over: its value counts.
    ((_MID, _MID, _LAST, _FIRST), (1, 1, 1, 1), 2, 2.0, 0.5),
    # As the game is over.
    ((_MID, _MID, _LAST, _FIRST), (1, 0, 1, 1), 2, 2.0, 0.0),
    # After the first step.
    ((_FIRST, _LAST, _FIRST, _MID), (1, 1, 1, 1), 1, 1.0, 1.0),
  ],
)
def test_by_hand(step_types, discounts, end, reward, discount):
  """Rewards 1, 2, 4 and gamma 1 / 2."""
  steps = _steps(step_types, (1, 2, 4, 8), discounts)
  pairs, places = returns.n_step_transitions(steps, 0.5)
  assert places.numpy().tolist() == [[0, end]]
  assert pairs.action.numpy().tolist() == [[0, end]]
  assert pairs.step_type.numpy().tolist() == [[step_types[0], step_types[end]]]
  np.testing.assert_allclose(pairs.reward[0, 0], reward)
  np.testing.assert_allclose(pairs.discount[0, 0], discount)


@functools.cache
def _agent():
  """An agent that tests share: none of them trains it."""
  return images._agent(td_lambda=1.0)


@functools.cache
def _numbers(minibatches_class, augment_fn):
  """(targets or weights, first steps) of minibatches of each phase."""
  agent = _agent()
  source = minibatches_class(agent, images._table(), 16, augment_fn=augment_fn)

  def first(minibatch):
    return minibatch['experience'].observation[:, 0]

  numbers = []
  draw = source.critic_phase(tf.constant(3))
  for i in range(3):
    minibatch = draw(tf.constant(i))
    numbers.append((agent.td_targets(**minibatch)[:, 0], first(minibatch)))
  draw = source.actor_phase(tf.constant(3))
  for i in range(3):
    minibatch = draw(tf.constant(i))
    _, weights, _ = agent.weighted_actions(**minibatch)
    numbers.append((weights, first(minibatch)))
  return numbers


@pytest.mark.slow
@pytest.mark.parametrize('augment_fn', [None, augmentation.random_shifts])
def test_same_numbers_as_per_minibatch(augment_fn):
  """The table has episodes of 1 to 6 steps, ended by time or by the game."""
  ours = _numbers(n_step.NStepMinibatches, augment_fn)
  theirs = _numbers(minibatches.PerMinibatch, augment_fn)
  for (numbers, first), (expected, expected_first) in zip(
    ours, theirs, strict=True
  ):
    np.testing.assert_array_equal(first, expected_first)
    np.testing.assert_allclose(numbers, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_other_lambdas_are_refused():
  agent = images._agent(td_lambda=0.95)
  with pytest.raises(ValueError, match='td_lambda'):
    n_step.NStepMinibatches(agent, images._table(), 16)


@pytest.mark.slow
def test_returns_are_refused():
  """The actor's minibatches have no next steps, of which returns are made."""
  agent = images._agent(
    td_lambda=1.0,
    estimate_fn=slots.return_estimates,
    baseline_fn=slots.critic_baseline,
  )
  with pytest.raises(ValueError, match='PerMinibatch'):
    n_step.NStepMinibatches(agent, images._table(), 16)


@pytest.mark.slow
def test_augmentation_is_part_of_observations_and_targets():
  plain = _numbers(minibatches.PerMinibatch, None)
  black = _numbers(minibatches.PerMinibatch, lambda x, seed: tf.zeros_like(x))
  assert not np.any(black[0][1])
  assert np.any(plain[0][1] != 0)
  assert not np.allclose(plain[0][0], black[0][0])
