"""FQE: its fixed point is that of a linear solve."""

import functools

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from tf_agents.specs import tensor_spec
from tf_agents.trajectories import time_step as ts
from tf_agents.trajectories import trajectory

from qwr_tf import networks
from qwr_tf.evaluation import fitted_q
from qwr_tf.evaluation import policies
from qwr_tf.networks import torsos
from qwr_tf.policies import behavior_policy

_GAMMA = 0.8
_STATES, _ACTIONS = 4, 2
_REWARDS = np.array([[0.0, 1.0], [0.5, -1.0], [2.0, 0.0], [1.0, 3.0]])
# Action 0 goes back to state 0, action 1 one state on; behind the last state
# the episode ends.
_NEXT = np.array([[0, 1], [0, 2], [0, 3], [0, _STATES]])
_PI = np.array([[0.3, 0.7], [0.5, 0.5], [0.1, 0.9], [0.6, 0.4]])


def _solution() -> tuple[np.ndarray, np.ndarray]:
  """(Q, V) of the policy by a linear solve."""
  transition = np.zeros([_STATES, _STATES + 1])
  for state in range(_STATES):
    for action in range(_ACTIONS):
      transition[state, _NEXT[state, action]] += _PI[state, action]
  reward = (_PI * _REWARDS).sum(axis=1)
  matrix = np.eye(_STATES) - _GAMMA * transition[:, :_STATES]
  values = np.append(np.linalg.solve(matrix, reward), 0.0)
  return _REWARDS + _GAMMA * values[_NEXT], values[:_STATES]


def _one_hot(state: int) -> np.ndarray:
  return np.eye(_STATES + 1, dtype=np.float32)[state][:_STATES]


def _rows(rng, episodes: int) -> trajectory.Trajectory:
  rows = []
  for _ in range(episodes):
    state, step_type = int(rng.integers(_STATES)), 0
    while state < _STATES:
      action = int(rng.integers(_ACTIONS))
      after = int(_NEXT[state, action])
      over = after == _STATES
      rows.append(
        (
          step_type,
          state,
          action,
          2 if over else 1,
          _REWARDS[state, action],
          0.0 if over else 1.0,
        )
      )
      state, step_type = after, 1
    rows.append((2, _STATES, 0, 0, 0.0, 1.0))
  kinds, states, actions, nexts, rewards, discounts = map(
    np.array, zip(*rows, strict=True)
  )
  info = {'logits': tf.zeros([len(rows), _ACTIONS])}
  return trajectory.Trajectory(
    tf.constant(kinds, tf.int32),
    tf.constant(np.stack([_one_hot(s) for s in states])),
    tf.constant(actions, tf.int32),
    {behavior_policy.DIST_PARAMS: info},
    tf.constant(nexts, tf.int32),
    tf.constant(rewards, tf.float32),
    tf.constant(discounts, tf.float32),
  )


def _table_critic(observation_spec, action_spec, fit, *, value_scale, **kwargs):
  """A number for each state and action."""
  return networks.DiscreteQNetwork(
    observation_spec,
    action_spec,
    torso_fn=functools.partial(torsos.mlp_torso, units=(), layer_norm=False),
  )


def _policy(observation):
  logits = tf.matmul(observation, tf.math.log(tf.constant(_PI, tf.float32)))
  return tfp.distributions.Categorical(logits=logits)


@pytest.fixture(scope='module')
def fitted():
  observation_spec = tf.TensorSpec([_STATES], tf.float32, 'observation')
  action_spec = tensor_spec.BoundedTensorSpec([], tf.int32, 0, _ACTIONS - 1)
  model = fitted_q.FittedQ(
    policies.EvaluatedPolicy(_policy),
    ts.time_step_spec(observation_spec),
    action_spec,
    gamma=_GAMMA,
    fit=fitted_q.Fit(steps=1500, members=2, batch_size=64, learning_rate=0.02),
    critic_fn=_table_critic,
  )
  model.allocate(10_000)
  model.table.append(_rows(np.random.default_rng(0), 100))
  model.prepare()
  return model


@pytest.mark.slow
def test_fixed_point_is_that_of_a_linear_solve(fitted):
  fitted.fit()
  q_values, state_values = _solution()
  observations = tf.eye(_STATES)
  for action in range(_ACTIONS):
    v, q = fitted.values(observations, np.full(_STATES, action, np.int32))
    np.testing.assert_allclose(q[0], q_values[:, action], atol=1e-3)
    np.testing.assert_allclose(v[0, 0], state_values, atol=1e-3)


@pytest.mark.slow
def test_ensemble_of_resampled_episodes(fitted):
  fitted.fit_ensemble()
  starts = fitted.start_values()
  assert starts.shape == fitted.counts.shape == (2, fitted.episodes)
  # Transitions are certain: members differ in their episodes' first states.
  np.testing.assert_allclose(starts[0], starts[1], atol=0.02)
