"""Environments in a process of their own."""

import gymnasium
import numpy as np
import pytest

from qwr_tf import environments
from qwr_tf.environments import remote


class _Odd(gymnasium.Env):
  observation_space = gymnasium.spaces.Box(-1.0, 1.0, (2,), np.float32)
  action_space = gymnasium.spaces.Discrete(3)

  def reset(self, *, seed=None, options=None):
    super().reset(seed=seed)
    return self.observation_space.sample(), {}

  def step(self, action):
    if action == 1:
      raise ArithmeticError('odd')
    if action == 2:
      import os

      os._exit(7)
    print('step')
    return np.zeros(2, np.float32), 1.5, True, False, {'seen': True}


def test_it_plays_as_the_same_environment_here():
  here = gymnasium.make('CartPole-v1', render_mode='rgb_array')
  there = remote.RemoteEnv(
    lambda: gymnasium.make('CartPole-v1', render_mode='rgb_array')
  )
  assert there.observation_space == here.observation_space
  assert there.action_space == here.action_space
  assert there.spec.id == 'CartPole-v1'
  for env in (here, there):
    env.reset(seed=3)
  for action in (0, 1, 1, 0):
    for ours, theirs in zip(here.step(action), there.step(action), strict=True):
      np.testing.assert_array_equal(ours, theirs)
  np.testing.assert_array_equal(here.render(), there.render())
  there.close()
  there.close()


def test_errors_and_prints_of_the_environment():
  env = remote.RemoteEnv(_Odd)
  env.reset(seed=0)
  assert env.step(0)[1:] == (1.5, True, False, {'seen': True})
  with pytest.raises(ArithmeticError, match='odd'):
    env.step(1)
  assert env.step(0)[1] == 1.5
  with pytest.raises(RuntimeError, match='exit code 7'):
    env.step(2)


def test_an_environment_that_cannot_be_made():
  with pytest.raises(ValueError, match='BitFlop'):
    environments.load('BitFlop-5', render_mode='rgb_array')


def test_an_environment_registered_in_this_process_is_drawn():
  class Drawn(_Odd):
    metadata = {'render_modes': ['rgb_array']}  # noqa: RUF012

    def __init__(self, render_mode=None):
      self.render_mode = render_mode

    def render(self):
      import sys

      return np.full([4, 4, 3], 'tensorflow' in sys.modules, np.uint8)

  gymnasium.register('Drawn-v0', Drawn, max_episode_steps=5)
  with environments.load('Drawn-v0', render_mode='rgb_array', seed=0) as env:
    env.reset()
    assert env.max_episode_steps == 5
    assert not env.render().any()
