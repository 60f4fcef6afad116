"""Environments: specs, scaling, ends of episodes, errors, BitFlip."""

import json
import math
import re
import sys

import gymnasium
import numpy as np
import pytest
import tree
from gymnasium import spaces
from gymnasium.utils import env_checker
from tf_agents.environments import utils

from qwr_tf import environments
from qwr_tf.environments import wrapping

_FLOAT_BOX = spaces.Box(-np.inf, np.inf, (2,), np.float64)
_DISCRETE = spaces.Discrete(3)


class ScriptedEnv(gymnasium.Env):
  """Returns what it is told to, and remembers the last action."""

  def __init__(
    self,
    steps=(),
    observation_space=_FLOAT_BOX,
    action_space=_DISCRETE,
  ):
    self.observation_space = observation_space
    self.action_space = action_space
    self.start = np.zeros(observation_space.shape, observation_space.dtype)
    self.last_action = None
    self._steps = iter(steps)

  def reset(self, *, seed=None, options=None):
    super().reset(seed=seed)
    return self.start, {}

  def step(self, action):
    self.last_action = action
    return *next(self._steps), {}


def _step(reward=0.0, terminated=False, truncated=False, observation=(0, 0)):
  return np.array(observation, float), reward, terminated, truncated


def _scripted(*steps, **kwargs):
  env = environments.GymnasiumWrapper(ScriptedEnv(steps), **kwargs)
  env.reset()
  return env


class _InfoEnv(ScriptedEnv):
  """Tells of its episodes what it likes."""

  def step(self, action):
    return *super().step(action)[:4], {'episode': 3}


def test_what_an_environment_says_of_its_episodes_is_its_own():
  env = environments.GymnasiumWrapper(_InfoEnv([_step(1.0, terminated=True)]))
  env.reset()
  assert env.step(np.array(0)).is_last()
  assert env.episode_return is None


# Specs and the TF-Agents contract


@pytest.mark.slow
@pytest.mark.parametrize(
  'name',
  [
    'CartPole-v1',
    'HalfCheetah-v4',
    'HalfCheetah-v5',
    'Pendulum-v1',
    'BitFlip-20',
  ],
)
def test_environments_keep_the_contract_of_tf_agents(name):
  with environments.load(name, seed=0) as env:
    utils.validate_py_environment(env, episodes=2)


@pytest.mark.parametrize(
  'dtype, expected',
  [
    (np.uint8, np.uint8),
    (np.float64, np.float32),
    (np.float16, np.float32),
    (np.int64, np.float32),
  ],
)
def test_observations_are_uint8_or_float32(dtype, expected):
  space = spaces.Box(0, 100, (4, 4), dtype)
  env = environments.GymnasiumWrapper(ScriptedEnv(observation_space=space))
  assert env.observation_spec().dtype == expected
  assert env.reset().observation.dtype == expected
  assert env.observation_spec().shape == (4, 4)


def test_observations_do_not_share_memory_with_the_environment():
  scripted = ScriptedEnv(observation_space=spaces.Box(0, 1, (2,), np.float32))
  time_step = environments.GymnasiumWrapper(scripted).reset()
  scripted.start[:] = 1
  np.testing.assert_array_equal(time_step.observation, [0, 0])


def test_seed_determines_the_run_and_later_resets_continue_it():
  def run(seed):
    env = environments.load('BitFlip-20', seed=seed)
    return np.stack([env.reset().observation for _ in range(3)])

  np.testing.assert_array_equal(run(7), run(7))
  assert not np.array_equal(run(7), run(8))
  first, second, third = run(7)
  assert not np.array_equal(first, second)
  assert not np.array_equal(second, third)


def test_seed_is_gymnasiums_seed():
  expected, _ = gymnasium.make('HalfCheetah-v4').reset(seed=3)
  actual = environments.load('HalfCheetah-v4', seed=3).reset().observation
  np.testing.assert_array_equal(actual, expected.astype(np.float32))


# Actions


@pytest.mark.parametrize(
  'action, control', [(1.0, 0.4), (-0.5, -0.2), (3.0, 0.4), (-9.0, -0.4)]
)
def test_humanoid_actions_are_scaled_and_clipped(action, control):
  env = environments.load('Humanoid-v4', seed=0)
  env.reset()
  env.step(np.full(17, action, np.float32))
  np.testing.assert_allclose(env.env.unwrapped.data.ctrl, control, rtol=1e-6)


@pytest.mark.parametrize('action, control', [(0.25, 0.25), (-2.0, -1.0)])
def test_actions_with_unit_bounds_are_only_clipped(action, control):
  env = environments.load('HalfCheetah-v4', seed=0)
  env.reset()
  env.step(np.full(6, action, np.float32))
  np.testing.assert_array_equal(env.env.unwrapped.data.ctrl, control)


def test_uneven_bounds_map_linearly():
  # Gas of CarRacing: -1 is 0, 0 is 0.5, 1 is 1.
  scripted = ScriptedEnv(
    [_step()], action_space=spaces.Box(np.array([-1, 0, 2.0]), np.full(3, 4.0))
  )
  env = environments.GymnasiumWrapper(scripted)
  env.reset()
  env.step(np.array([1.0, 0.0, -1.0], np.float32))
  np.testing.assert_allclose(scripted.last_action, [4.0, 2.0, 2.0])


def test_discrete_actions_count_from_the_start_of_the_space():
  scripted = ScriptedEnv(
    [_step(), _step()], action_space=spaces.Discrete(3, start=-1)
  )
  env = environments.GymnasiumWrapper(scripted)
  env.reset()
  spec = env.action_spec()
  assert (spec.dtype, spec.shape) == (np.int32, ())
  assert (spec.minimum, spec.maximum) == (0, 2)
  for action, expected in ((0, -1), (2, 1)):
    env.step(np.array(action, np.int32))
    assert scripted.last_action == expected
    assert scripted.action_space.contains(scripted.last_action)


# Ends of episodes


@pytest.mark.parametrize(
  'terminated, truncated, timeout_is_terminal, is_last, discount',
  [
    (False, False, False, False, 1),
    (True, False, False, True, 0),
    (False, True, False, True, 1),
    (True, True, False, True, 0),
    (False, False, True, False, 1),
    (True, False, True, True, 0),
    (False, True, True, True, 0),
  ],
)
def test_only_terminal_steps_have_discount_zero(
  terminated, truncated, timeout_is_terminal, is_last, discount
):
  env = _scripted(
    _step(2.5, terminated, truncated), timeout_is_terminal=timeout_is_terminal
  )
  time_step = env.step(np.array(0, np.int32))
  assert time_step.is_last() == is_last
  assert time_step.discount == discount
  assert time_step.reward == 2.5


def test_mujoco_time_limit_is_not_terminal():
  env = environments.load('HalfCheetah-v4', seed=0, max_episode_steps=3)
  assert env.max_episode_steps == 3
  steps = [env.reset()] + [env.step(np.zeros(6, 'f')) for _ in range(3)]
  assert [bool(step.is_last()) for step in steps] == [False] * 3 + [True]
  assert steps[-1].discount == 1


def test_the_step_after_last_resets_and_ignores_its_action():
  env = environments.load('BitFlip-5', seed=0)
  assert env.step(np.array(0)).is_first()  # Nobody has called reset.
  for _ in range(5):
    time_step = env.step(np.array(0))
  assert time_step.is_last() and env.should_reset(time_step)
  time_step = env.step(np.array(99))
  assert time_step.is_first() and not env.should_reset(time_step)
  assert (time_step.reward, time_step.discount) == (0, 1)
  np.testing.assert_array_equal(time_step.observation, np.zeros(6))


# NaN and Inf


@pytest.mark.parametrize('bad', [np.nan, np.inf, -np.inf])
def test_bad_numbers_raise_and_are_named(bad):
  action = np.array(0, np.int32)
  env = _scripted(_step(), _step(observation=(0, bad)))
  env.step(action)
  message = '^ScriptedEnv: NaN or Inf in the observation of step 2$'
  with pytest.raises(FloatingPointError, match=message):
    env.step(action)
  env = _scripted(_step(reward=bad))
  with pytest.raises(FloatingPointError, match='in the reward of step 1'):
    env.step(action)


def test_bad_numbers_raise_at_reset():
  scripted = ScriptedEnv()
  scripted.start[0] = np.nan
  with pytest.raises(FloatingPointError, match='observation of step 0'):
    environments.GymnasiumWrapper(scripted).reset()


def test_a_start_that_is_no_array_is_named():
  scripted = ScriptedEnv()
  scripted.start = {'position': np.zeros(2)}
  env = environments.GymnasiumWrapper(scripted)
  with pytest.raises(
    environments.FaultyEnvironmentError, match='ScriptedEnv.*dict.*Box'
  ):
    env.reset()


def test_a_start_of_another_shape_than_the_space_s_is_named():
  scripted = ScriptedEnv()
  scripted.start = np.zeros(3)
  env = environments.GymnasiumWrapper(scripted)
  with pytest.raises(ValueError, match=r'ScriptedEnv.*\(3,\).*space.*\(2,\)'):
    env.reset()


# Environments that break gymnasium's API


class _Broken(gymnasium.Env):
  """Breaks the API in one way after a number of good steps."""

  observation_space = spaces.Box(-1, 1, (2,), np.float32)
  action_space = _DISCRETE

  def __init__(self, fault, good_steps=0):
    self._fault = fault
    self._good_steps = good_steps

  def reset(self, *, seed=None, options=None):
    if self._fault == 'no info':
      return np.zeros(2, np.float32)
    if self._fault == 'start of another shape':
      return np.zeros(3, np.float32), {}
    return np.zeros(2, np.float32), {}

  def step(self, action):
    step = [np.zeros(2, np.float32), 0.5, False, False, {}]
    self._good_steps -= 1
    if self._good_steps >= 0:
      return tuple(step)
    if self._fault == 'four values':
      return step[0], step[1], False, {}
    if self._fault == 'assertion':
      assert action is None
    if self._fault == 'key':
      return {}['speed']
    changes = {
      'rewards': (1, np.zeros(2)),
      'one reward': (1, np.array([0.5])),
      'NaN': (1, np.nan),
      'text as reward': (1, 'much'),
      'another shape': (0, np.zeros(3)),
      'no shape': (0, 0.0),
      'ragged': (0, [[1.0], [2.0, 3.0]]),
      'ends': (2, np.array([True, False])),
    }
    if self._fault in changes:
      index, value = changes[self._fault]
      step[index] = value
    return tuple(step)


class _NoSeed(_Broken):
  def reset(self):
    return np.zeros(2, np.float32), {}


@pytest.fixture(name='broken')
def _broken(monkeypatch):
  """Registers an environment; returns its id."""

  def register(fault, good_steps=0, limit=10):
    name = 'Broken-v0'
    monkeypatch.setitem(gymnasium.registry, name, None)
    del gymnasium.registry[name]
    cls = _NoSeed if fault == 'no seed' else _Broken
    gymnasium.register(
      name, lambda: cls(fault, good_steps), max_episode_steps=limit
    )
    return name

  return register


@pytest.mark.parametrize(
  'fault, word',
  [
    ('no info', 'reset'),
    ('no seed', 'seed'),
    ('start of another shape', r'\(3,\)'),
    ('four values', 'terminated, truncated'),
    ('rewards', 'array of size 2'),
    ('text as reward', 'much'),
    ('another shape', r'\(3,\).*\(2,\)'),
    ('no shape', r'\(\).*\(2,\)'),
    ('ragged', 'inhomogeneous'),
    ('ends', 'ambiguous'),
    ('assertion', r'AssertionError.*environments_test.py:\d+'),
    ('key', r"KeyError: 'speed' \(.*environments_test.py:\d+\)"),
  ],
)
def test_a_broken_environment_is_found_before_a_run(fault, word, broken):
  name = broken(fault)
  with pytest.raises(
    environments.FaultyEnvironmentError, match=f'{name}: .*{word}'
  ) as error:
    environments.load(name)
  assert '\n' not in str(error.value)
  if fault not in ('no info', 'no seed', 'start of another shape'):
    env = environments.load(broken(fault, good_steps=3), seed=0)
    with pytest.raises(
      environments.FaultyEnvironmentError, match=word
    ) as error:
      for _ in range(4):  # The first of which resets.
        env.step(np.int32(0))
      # The check made one of the good steps.
    # The rule would mislead where what is returned has its form.
    assert ('must return' in str(error.value)) == (fault == 'four values')


def test_a_reward_may_be_an_array_of_one(broken):
  env = environments.load(broken('one reward'))
  env.reset()
  reward = env.step(np.int32(0)).reward
  assert (reward, reward.shape) == (0.5, ())


def test_the_check_leaves_no_trace():
  name = 'HalfCheetah-v4'
  env, raw = environments.load(name, seed=5), gymnasium.make(name)
  state = env.get_state()
  assert (state['games'], state['num_steps'], state['step_type']) == (
    0,
    0,
    None,
  )
  (action,) = _random_actions(env, 1)
  for _ in range(2):
    here, (start, _) = env.reset().observation, raw.reset(seed=5)
    np.testing.assert_array_equal(here, start.astype(np.float32))
    here, there = env.step(action), raw.step(action)
    np.testing.assert_array_equal(here.observation, there[0].astype(np.float32))
    env.seed(5)


def test_bad_numbers_of_the_first_step_are_found_before_a_run(broken):
  with pytest.raises(
    environments.FaultyEnvironmentError, match='the reward of step 1'
  ):
    environments.load(broken('NaN'))


# Episodes without end


def test_an_environment_without_a_limit_is_named_once(broken, caplog):
  for _ in range(2):
    env = environments.load(broken('', limit=None))
  assert env.max_episode_steps is None and env.longest_episode > 10_000
  assert caplog.text.count('load_environment.max_episode_steps') == 1
  caplog.clear()
  for name in ('BitFlip-5', 'HalfCheetah-v4', 'CartPole-v1'):
    env = environments.load(name)
    assert env.longest_episode == env.max_episode_steps
  assert 'max_episode_steps' not in caplog.text


# What float32 cannot hold


@pytest.mark.parametrize(
  'values, coarse',
  [
    (np.arange(1000.0), False),
    (1.7e9 + np.arange(20_000.0), True),
    (np.full(10, 1e9), False),
    (1e9 + np.linspace(-3, 3, 100), True),
    (1e5 + np.linspace(-10, 10, 100), False),
    (np.full(10, 0.1) + 1e-17 * np.arange(10), False),
    (1e300 + np.arange(10.0), False),
  ],
)
def test_the_spread_that_float32_holds(values, coarse):
  spread = environments.Float32Spread()
  rows = np.stack([np.zeros_like(values), values], axis=1)
  for piece in np.array_split(rows, 3):
    spread.add(piece)
  assert spread.coarse_features().tolist() == ([1] if coarse else [])


class _Clock(ScriptedEnv):
  """Observes Unix time."""

  def __init__(self):
    super().__init__()
    self.time = 1.7e9

  def step(self, action):
    self.time += 1.0
    return np.array([self.time, 0.0]), 0.0, False, False, {}


def test_a_feature_that_float32_cannot_hold_is_named_once(caplog):
  for _ in range(2):
    env = environments.GymnasiumWrapper(_Clock())
    for _ in range(1200):
      env.step(np.int32(0))
  assert caplog.text.count('observation feature 0') == 1


def test_infinities_of_both_signs_do_not_cancel():
  env = _scripted(_step(observation=(np.inf, -np.inf)))
  with pytest.raises(FloatingPointError, match='observation'):
    env.step(np.array(0, np.int32))


def test_large_finite_numbers_pass():
  # Their squares overflow float32.
  env = _scripted(_step(observation=(3e38, -3e38)))
  time_step = env.step(np.array(0, np.int32))
  np.testing.assert_allclose(time_step.observation, [3e38, -3e38], rtol=1e-6)


def test_nan_action_is_named_though_mujoco_replaces_it(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)  # MuJoCo writes its complaint to a file.
  env = environments.load('HalfCheetah-v4', seed=0)
  env.reset()
  message = '^HalfCheetah-v4: NaN or Inf in the action of step 1$'
  with pytest.raises(FloatingPointError, match=message):
    env.step(np.full(6, np.nan, np.float32))


# Errors name the fix, in one line


def _one_line_error(function, *args, **kwargs):
  with pytest.raises(ValueError) as info:
    function(*args, **kwargs)
  assert '\n' not in str(info.value)
  return str(info.value)


@pytest.mark.parametrize(
  'space, wrapper',
  [
    (spaces.Text(5), 'FlattenObservation'),
    (spaces.Sequence(_FLOAT_BOX), 'TransformObservation'),
    (spaces.Dict({'a': spaces.Graph(_FLOAT_BOX, None)}), 'TransformObs'),
    (spaces.Dict({'a b': _FLOAT_BOX, 'a_b': _DISCRETE}), 'TransformObs'),
    (spaces.Dict({'Pos': _FLOAT_BOX, 'pos': _DISCRETE}), 'TransformObs'),
    (spaces.Dict({'hö': _FLOAT_BOX, 'hä': _DISCRETE}), 'TransformObs'),
    (spaces.Dict({1: _FLOAT_BOX, 2: _DISCRETE}), 'TransformObs'),
  ],
)
def test_unsupported_observations(space, wrapper):
  env = gymnasium.Env()
  env.observation_space, env.action_space = space, _DISCRETE
  message = _one_line_error(environments.GymnasiumWrapper, env)
  assert f'gymnasium.wrappers.{wrapper}' in message


@pytest.mark.parametrize(
  'space, fix',
  [
    (spaces.Tuple([_DISCRETE, _DISCRETE]), 'wrappers.TransformAction'),
    (spaces.Dict({'a': _DISCRETE}), 'wrappers.TransformAction'),
    (spaces.Box(0, 5000, (2,), np.int64), 'wrappers.TransformAction'),
    (spaces.Discrete(5, start=2**40), 'int32.*wrappers.TransformAction'),
    (spaces.MultiDiscrete([5], start=[-(2**31)]), 'int32.*TransformAction'),
    (spaces.Box(0, 1e300, (2,), np.float64), 'float32.*TransformAction'),
    (spaces.Box(-np.inf, np.inf, (2,)), 'load_environment.action_bounds'),
    (
      spaces.Box(np.zeros(2), np.array([1, np.inf])),
      'load_environment.action_bounds',
    ),
  ],
)
def test_unsupported_actions(space, fix):
  env = ScriptedEnv(action_space=space)
  message = _one_line_error(environments.GymnasiumWrapper, env)
  assert re.search(f'{type(space).__name__}.*{fix}', message)


# What agents see, and what environments get.


@pytest.mark.parametrize(
  'space, action, expected',
  [
    (spaces.Discrete(3, start=2), 1, 3),
    (spaces.MultiDiscrete([2, 3], start=[0, 4]), [1, 2], [1, 6]),
    (spaces.MultiDiscrete([[2], [3]]), [1, 2], [[1], [2]]),
    (spaces.MultiBinary([2, 2]), [0, 1, 1, 0], [[0, 1], [1, 0]]),
    (spaces.Box(-1, 2, (2,), np.int64), [0, 3], [-1, 2]),
    (spaces.Box(0.0, 4.0, ()), [0.5], 3.0),
    (spaces.Box(0.0, 4.0, (2, 1)), [0.5, -2.0], [[3.0], [0.0]]),
    (spaces.Box(-1.0, 1.0, (1, 2)), [0.5, -2.0], [[0.5, -1.0]]),
    (spaces.Box(-1.0, 3.0, (2,), np.float16), [0.5, -2.0], [2.0, -1.0]),
  ],
)
def test_actions_come_in_the_spaces_form(space, action, expected):
  scripted = ScriptedEnv([_step(), _step()], action_space=space)
  env = environments.GymnasiumWrapper(scripted)
  spec = env.action_spec()
  assert len(spec.shape) == (0 if isinstance(space, spaces.Discrete) else 1)
  env.reset()
  env.step(np.array(action, spec.dtype))
  np.testing.assert_array_equal(scripted.last_action, expected)
  taken = scripted.last_action
  assert space.contains(np.asarray(taken, space.dtype))
  if not isinstance(space, spaces.Discrete):
    assert (taken.shape, taken.dtype) == (space.shape, space.dtype)


def test_missing_bounds_of_actions_are_given():
  space = spaces.Box(np.array([0, -np.inf]), np.array([np.inf, 3]))
  env = wrapping.BoundedActions(ScriptedEnv(action_space=space), -1.0, 2.0)
  low, high = environments.action_bounds(env.action_space)
  np.testing.assert_array_equal([low, high], [[0, -1], [2, 3]])
  message = _one_line_error(
    wrapping.BoundedActions, ScriptedEnv(action_space=space), -1.0, -0.5
  )
  assert 'action_bounds' in message


_NESTED = spaces.Dict(
  {
    'hand': spaces.Dict(
      {'angle': _FLOAT_BOX, 'grip': spaces.Discrete(3, start=1)}
    ),
    'last': spaces.Tuple(
      [spaces.MultiBinary(2), spaces.Box(0, 255, (2, 2, 3), np.uint8)]
    ),
  }
)


class _NestedEnv(gymnasium.Env):
  observation_space, action_space = _NESTED, _DISCRETE

  def reset(self, *, seed=None, options=None):
    super().reset(seed=seed)
    self.start = {
      'hand': {'angle': np.array([1.0, 2.0]), 'grip': np.int64(3)},
      'last': (np.array([0, 1], np.int8), np.full((2, 2, 3), 7, np.uint8)),
    }
    return self.start, {}

  def step(self, action):
    return self.start, 0.0, False, False, {}


def test_nested_observations_are_a_flat_dict():
  raw = _NestedEnv()
  env = environments.GymnasiumWrapper(raw)
  observation, spec = env.reset().observation, env.observation_spec()
  assert set(observation) == set(spec)
  assert {k: s.dtype for k, s in spec.items()} == {
    'hand/angle': np.float32,
    'hand/grip': np.int32,
    'last/_index_0': np.int32,
    'last/_index_1': np.uint8,
  }
  assert (spec['hand/grip'].minimum, spec['hand/grip'].maximum) == (1, 3)
  raw.start['hand']['angle'][:] = 9
  np.testing.assert_array_equal(observation['hand/angle'], [1, 2])
  assert observation['hand/grip'] == 3
  utils.validate_py_environment(env, episodes=0)
  state, expected = env.get_state(), env.current_time_step()
  env.set_state(state)
  np.testing.assert_array_equal(
    env.current_time_step().observation['hand/angle'],
    expected.observation['hand/angle'],
  )


def test_batches_of_nested_observations():
  env = environments.GymnasiumWrapper(raw := _NestedEnv())
  raw.reset()
  single, is_batch = env.batch(raw.start)
  assert not is_batch
  batch = tree.map_structure(lambda x: np.stack([x] * 3), raw.start)
  batch['hand']['grip'] = np.array([1, 2, 3])
  observations, is_batch = env.batch(batch)
  assert is_batch
  np.testing.assert_array_equal(observations['hand/grip'], [1, 2, 3])
  for name, values in single.items():
    assert observations[name].shape == (3, *values.shape[1:])
    np.testing.assert_array_equal(observations[name][2], values[0])
  for name, message in (('hand', 'lacks hand/'), ('last', 'lacks last')):
    with pytest.raises(ValueError, match=message):
      env.batch({k: v for k, v in batch.items() if k != name})


@pytest.mark.parametrize(
  'change, message',
  [
    (lambda o: o['hand'].pop('angle'), 'lacks hand/angle'),
    (lambda o: o['hand'].update(grip=0), r'hand/grip\) is 0'),
    (lambda o: o['hand'].update(angle=np.zeros(3)), r'hand/angle.*\(3,\)'),
    (lambda o: o['hand'].update(angle=np.full(2, np.nan)), 'hand/angle'),
  ],
)
def test_an_entry_that_does_not_fit_is_named(change, message):
  env = environments.GymnasiumWrapper(raw := _NestedEnv())
  env.reset()
  change(raw.start)
  with pytest.raises((ValueError, FloatingPointError), match=message):
    env.step(np.array(0))


def test_a_wrapper_maps_actions():
  pairs = gymnasium.wrappers.TransformAction(
    ScriptedEnv([_step()], action_space=spaces.MultiDiscrete([2, 3])),
    lambda action: np.array(divmod(action, 3)),
    spaces.Discrete(6),
  )
  wrapped = environments.GymnasiumWrapper(pairs)
  wrapped.reset()
  wrapped.step(np.array(5, np.int32))
  np.testing.assert_array_equal(pairs.unwrapped.last_action, [1, 2])


@pytest.mark.parametrize('name', ['HalfCheetah-v4', 'BitFlip-5'])
def test_episodes_without_a_step_are_refused_in_one_line(name):
  with pytest.raises(ValueError, match=f'{name}: .*positive') as found:
    environments.load(name, max_episode_steps=0)
  assert '\n' not in str(found.value)


@pytest.mark.parametrize(
  'name, suggestion',
  [
    ('HalfCheetah-v9', 'HalfCheetah-v4'),
    ('HalfCheetah', 'HalfCheetah-v5'),  # The version has to be written.
    ('Halfcheeta-v4', 'HalfCheetah-v4'),
    ('Lunar-Lander-v3', 'LunarLander-v3'),
    ('BitFlip20', 'BitFlip-20'),
    ('bitflip-20', 'BitFlip-20'),
    ('BitFlip-', 'BitFlip-8'),
    ('BitFlip-many', 'BitFlip-8'),
    ('???', 'BitFlip-20'),
    ('', 'BitFlip-20'),
  ],
)
def test_unknown_names_get_suggestions(name, suggestion):
  message = _one_line_error(environments.load, name)
  assert repr(name) in message and suggestion in message


def test_missing_packages_are_named(monkeypatch):
  for module in [
    m for m in sys.modules if m.startswith('gymnasium.envs.box2d')
  ]:
    monkeypatch.delitem(sys.modules, module)
  monkeypatch.setitem(sys.modules, 'Box2D', None)
  message = _one_line_error(environments.load, 'LunarLander-v3')
  assert 'LunarLander-v3' in message
  assert 'pip install "qwr_tf[box2d]"' in message
  message = _one_line_error(environments.load, 'no_such_module:Maze-v0')
  assert 'no_such_module' in message
  message = _one_line_error(environments.load, 'HalfCheetah-v3')
  assert 'gymnasium-robotics' in message


def test_wrong_arguments_are_named():
  message = _one_line_error(environments.load, 'CartPole-v1', gravitas=9.8)
  assert 'CartPole-v1' in message and 'gravitas' in message


def test_a_module_can_bring_its_environment(tmp_path, monkeypatch):
  (tmp_path / 'my_mazes.py').write_text(
    'import gymnasium\n'
    'from qwr_tf.environments import BitFlipEnv\n'
    'gymnasium.register("Maze-v0", lambda: BitFlipEnv(num_bits=6))\n'
  )
  monkeypatch.syspath_prepend(tmp_path)
  monkeypatch.setitem(gymnasium.registry, 'Maze-v0', None)
  del gymnasium.registry['Maze-v0']
  env = environments.load('my_mazes:Maze-v0')
  assert env.observation_spec().shape == (7,)


_MODULE = """
import gymnasium
from gymnasium import spaces

class Maze(gymnasium.Env):
  observation_space = spaces.Box(-1, 1, (2,))
  action_space = spaces.Discrete(2)

  def __init__(self, fault=None):
    if fault == 'assertion':
      assert False
    if fault == 'key':
      {}['walls']
    if fault == 'value':
      raise ValueError('two\\nlines')
    if fault == 'inner':
      gymnasium.make('NoSuchThing-v0')

for version in range(2):
  gymnasium.register(f'Maze-v{version}', 'my_mazes:Maze')
"""


@pytest.fixture(name='my_mazes')
def _my_mazes(tmp_path, monkeypatch):
  (tmp_path / 'my_mazes.py').write_text(_MODULE)
  (tmp_path / 'my_typo.py').write_text('def (:\n')
  (tmp_path / 'my_import.py').write_text('import my_missing_library\n')
  (tmp_path / 'my_nothing.py').write_text('')
  monkeypatch.syspath_prepend(tmp_path)
  for version in range(2):
    monkeypatch.setitem(gymnasium.registry, f'Maze-v{version}', None)
    del gymnasium.registry[f'Maze-v{version}']
  monkeypatch.delitem(sys.modules, 'my_mazes', raising=False)


@pytest.mark.parametrize(
  'fault, expected',
  [
    ('assertion', r'AssertionError \(.*my_mazes.py:11\)'),
    ('key', r"KeyError: 'walls' \(.*my_mazes.py:13\)"),
    ('value', r'ValueError: two lines \(.*my_mazes.py:15\)'),
    ('inner', r'NameNotFound: .*NoSuchThing.* \(.*my_mazes.py:17\)'),
  ],
)
def test_errors_of_a_users_environment_have_a_place(fault, expected, my_mazes):
  with pytest.raises(
    environments.FaultyEnvironmentError, match=expected
  ) as error:
    environments.load('my_mazes:Maze-v1', fault=fault)
  message = str(error.value)
  assert 'my_mazes:Maze-v1' in message and 'unknown environment' not in message
  assert '\n' not in message


@pytest.mark.parametrize(
  'name, expected',
  [
    ('my_mazes:Mase-v0', ['unknown', 'Maze-v0', 'Maze-v1']),
    ('my_mazes:Maze-v7', ['unknown', 'Maze-v0', 'Maze-v1']),
    ('my_nothing:Maze-v7', ['unknown', 'my_nothing registers no']),
    ('my_typo:Maze-v0', ['my_typo.py']),
    ('my_import:Maze-v0', ['my_missing_library', 'my_import.py:1']),
    ('gymnasium.envs.mujoco:Halfcheetah-v4', ['unknown', 'HalfCheetah-v4']),
  ],
)
def test_ids_of_a_users_module(name, expected, my_mazes):
  message = _one_line_error(environments.load, name)
  for words in expected:
    assert words in message
  assert 'BitFlip' not in message


# Images


class _Camera(gymnasium.Env):
  """Channel-first images."""

  action_space = _DISCRETE

  def __init__(self, channels=3, dtype=np.uint8):
    shape = (channels, 40, 50)
    self.observation_space = spaces.Box(0, 255, shape, dtype)
    self.image = self.observation_space.sample()

  def reset(self, *, seed=None, options=None):
    return self.image, {}

  def step(self, action):
    return self.image, 0.0, False, True, {}


@pytest.mark.parametrize('channels', [1, 3, 4])
@pytest.mark.parametrize('dtype', [np.uint8, np.float32])
def test_channels_may_be_moved_last(channels, dtype, monkeypatch):
  monkeypatch.setitem(gymnasium.registry, 'Camera-v0', None)
  del gymnasium.registry['Camera-v0']
  camera = _Camera(channels, dtype)
  gymnasium.register('Camera-v0', lambda: camera, max_episode_steps=5)
  env = environments.load('Camera-v0', channels_first=True)
  assert env.observation_spec().shape == (40, 50, channels)
  assert env.observation_spec().dtype == dtype
  expected = np.moveaxis(camera.image, 0, -1)
  np.testing.assert_array_equal(env.reset().observation, expected)
  step = env.step(np.int32(0))
  np.testing.assert_array_equal(step.observation, expected)


def test_only_images_have_channels():
  message = _one_line_error(
    environments.load, 'CartPole-v1', channels_first=True
  )
  assert 'channels_first' in message and '(4,)' in message


def test_rendering_needs_its_mode():
  env = environments.load('CartPole-v1')
  assert "render_mode='rgb_array'" in _one_line_error(env.render)
  env = environments.load('CartPole-v1', render_mode='rgb_array', seed=0)
  env.reset()
  image = env.render()
  assert image.dtype == np.uint8 and image.ndim == 3
  env.close()


@pytest.mark.slow
def test_loading_prints_nothing(run_program):
  program = (
    'from qwr_tf.config import startup\n'
    'from qwr_tf import environments\n'
    'environments.load("ALE/Pong-v5", seed=0).reset()\n'
    'environments.load("HalfCheetah-v4").reset()\n'
    'import importlib.util\n'
    'if importlib.util.find_spec("Box2D"):\n'
    '  environments.load("LunarLander-v3").reset()\n'
  )
  result = run_program(program)
  assert (result.returncode, result.stdout + result.stderr) == (0, '')


# BitFlip


def test_bitflip_is_a_proper_gymnasium_environment():
  env_checker.check_env(
    gymnasium.make('BitFlip-8').unwrapped, skip_render_check=True
  )
  assert gymnasium.make('BitFlip-20').spec.id == 'BitFlip-20'
  assert environments.load('BitFlip-13').env.spec.id == 'BitFlip-13'


def test_bitflip_rewards_by_hand():
  # N = 5 starts at 00000, the only state with five zeros. Flips of 3, 3, 0,
  # 3, 1 are up, down, up, up, up.
  env = environments.load('BitFlip-5', seed=0)
  observations = [env.reset().observation]
  steps = [env.step(np.array(a, np.int32)) for a in (3, 3, 0, 3, 1)]
  observations += [step.observation for step in steps]
  expected = [
    [0, 0, 0, 0, 0, 0.0],
    [0, 0, 0, 1, 0, 0.2],
    [0, 0, 0, 0, 0, 0.4],
    [1, 0, 0, 0, 0, 0.6],
    [1, 0, 0, 1, 0, 0.8],
    [1, 1, 0, 1, 0, 1.0],
  ]
  np.testing.assert_allclose(observations, expected)
  assert [float(step.reward) for step in steps] == [1, -1, 1, 1, 1]
  assert [bool(step.is_last()) for step in steps] == [False] * 4 + [True]
  assert [float(step.discount) for step in steps] == [1] * 4 + [0]


def test_bitflip_starts_have_five_zeros_and_return_at_most_five():
  env = environments.load('BitFlip-8', seed=0)
  for _ in range(100):
    zeros = np.flatnonzero(env.reset().observation[:-1] == 0)
    assert len(zeros) >= 5
    best = sum(float(env.step(bit).reward) for bit in zeros[:5])
    assert best == 5


def test_bitflip_may_start_with_zeros_only():
  env = environments.BitFlipEnv(num_bits=6, zero_start=True)
  for seed in range(3):
    observation, _ = env.reset(seed=seed)
    np.testing.assert_array_equal(observation, np.zeros(7))
    assert env.step(seed)[1] == 1.0


def test_bitflip_starts_are_uniform():
  # N = 6 has one state with six zeros and six with five: each 1/7.
  env = environments.BitFlipEnv(num_bits=6)
  env.reset(seed=0)
  starts = np.array([env.reset()[0][:-1] for _ in range(3500)])
  _, counts = np.unique(starts, axis=0, return_counts=True)
  assert len(counts) == 7
  deviation = math.sqrt(3500 * (1 / 7) * (6 / 7))
  np.testing.assert_allclose(counts, 500, atol=4 * deviation)


@pytest.mark.slow
@pytest.mark.parametrize('num_bits, published', [(5, 2.31), (8, 1.15)])
def test_bitflip_mean_return_of_uniformly_random_actions(num_bits, published):
  # With z zeros of N the mean reward is r = (2z - N) / N. It takes z down by
  # r, so the next mean reward is r (1 - 2/N): a geometric series. The mean z
  # of a start weights z = 5 ... N by the number of states, N over z.
  zeros = range(5, num_bits + 1)
  states = [math.comb(num_bits, z) for z in zeros]
  start = np.average(zeros, weights=states)
  series = sum((1 - 2 / num_bits) ** t for t in range(5))
  exact = (2 * start - num_bits) / num_bits * series
  assert exact == pytest.approx(published, abs=0.006)

  env = environments.BitFlipEnv(num_bits=num_bits)
  env.reset(seed=0)
  actions = np.random.default_rng(0).integers(0, num_bits, (4000, 5)).tolist()
  returns = []
  for episode in actions:
    env.reset()
    returns.append(sum(env.step(action)[1] for action in episode))
  standard_error = np.std(returns) / math.sqrt(len(returns))
  assert np.mean(returns) == pytest.approx(exact, abs=4 * standard_error)


def test_bitflip_errors():
  message = _one_line_error(environments.load, 'BitFlip-4')
  assert 'BitFlip-4' in message and 'BitFlip-5' in message
  env = environments.BitFlipEnv(num_bits=5)
  env.reset(seed=0)
  for action in (-1, 5):
    assert f'no bit {action}' in _one_line_error(env.step, action)


# Coming back to where it was


def _random_actions(env, count, seed=0):
  rng = np.random.default_rng(seed)
  spec = env.action_spec()
  if spec.dtype == np.int32:
    return rng.integers(0, spec.maximum + 1, count).astype(np.int32)
  return rng.uniform(-1, 1, (count, *spec.shape)).astype(np.float32)


def _played(env, actions):
  return [env.step(action) for action in actions]


def _assert_comes_back(name, num_steps, **kwargs):
  """Plays, restores another environment from there, plays on in both."""
  env = environments.load(name, seed=3, **kwargs)
  env.reset()
  actions = _random_actions(env, num_steps + 60)
  _played(env, actions[:num_steps])
  state = json.loads(json.dumps(env.get_state()))
  other = environments.load(name, seed=8, **kwargs)
  other.reset()
  _played(other, actions[:5])
  other.set_state(state)
  assert other.get_state() == state
  here, there = env.current_time_step(), other.current_time_step()
  for one, another in zip(
    (here, *_played(env, actions[num_steps:])),
    (there, *_played(other, actions[num_steps:])),
    strict=True,
  ):
    for a, b in zip(one, another, strict=True):
      np.testing.assert_array_equal(a, b)
  assert other.get_state() == env.get_state()


@pytest.mark.parametrize(
  'name, kwargs',
  [
    ('HalfCheetah-v4', {'max_episode_steps': 25}),
    ('Hopper-v4', {}),
    ('BitFlip-8', {}),
    ('CartPole-v1', {}),
  ],
)
@pytest.mark.parametrize('num_steps', [0, 1, 26, 40, 53])
def test_comes_back(name, kwargs, num_steps):
  _assert_comes_back(name, num_steps, **kwargs)


@pytest.mark.parametrize('num_steps', range(4, 7))  # Before, at, after an end.
def test_comes_back_to_an_end(num_steps):
  _assert_comes_back('BitFlip-5', num_steps)


def test_comes_back_to_before_the_first_reset():
  env = environments.load('BitFlip-8', seed=3)
  other = environments.load('BitFlip-8', seed=4)
  other.reset()
  other.set_state(env.get_state())
  np.testing.assert_array_equal(other.reset()[3], env.reset()[3])


def test_an_environment_that_does_not_come_back_says_so():
  class Drifting(ScriptedEnv):
    drift = 0.0

    def step(self, action):
      return np.full(2, self.drift), 0.0, False, False, {}

  drifting = Drifting()
  env = environments.GymnasiumWrapper(drifting, seed=0)
  env.reset()
  _played(env, _random_actions(env, 1))
  state = env.get_state()
  env.set_state(state)
  drifting.drift = 1e-6
  with pytest.raises(ValueError, match='Drifting does not come back'):
    env.set_state(state)
  # What comes next is the game after the one that was running.
  env.step(_random_actions(env, 1)[0])
  assert env.current_time_step().is_first()
  assert env.get_state()['games'] == state['games'] + 1


def test_seeding_starts_the_seed_s_first_game():
  env = environments.load('BitFlip-20', seed=3)
  starts = [env.reset().observation for _ in range(3)]
  env.step(np.int32(0))
  env.seed(3)
  again = [env.step(np.int32(0)).observation, env.reset()[3], env.reset()[3]]
  np.testing.assert_array_equal(starts, again)


def test_later_games_need_no_earlier_ones():
  env = environments.load('HalfCheetah-v4', seed=3, max_episode_steps=5)
  env.reset()
  _played(env, _random_actions(env, 13))
  state = env.get_state()
  # 5 actions, a reset, 5 actions, a reset: the thirteenth is the third game's.
  assert (state['games'], len(state['actions'])) == (3, 1)
  other = environments.load('HalfCheetah-v4', max_episode_steps=5)
  other.set_state(state)
  np.testing.assert_array_equal(
    other.current_time_step().observation, env.current_time_step().observation
  )


def test_without_a_seed_games_differ_and_come_back():
  env, other = (environments.load('BitFlip-20') for _ in range(2))
  assert not np.array_equal(env.reset().observation, other.reset().observation)
  state = env.get_state()
  other.set_state(state)
  assert other.get_state() == state


def test_steps_do_not_share_memory_with_the_environment():
  space, shared = spaces.Box(0, 1, (2,), np.float32), np.zeros(2, np.float32)
  steps = [(shared, 0.0, False, False)]
  env = environments.GymnasiumWrapper(ScriptedEnv(steps, space))
  env.reset()
  time_step = env.step(np.int32(0))
  shared[:] = 1
  np.testing.assert_array_equal(time_step.observation, [0, 0])


def test_seeds_of_games_have_31_bits():
  env = environments.load('BitFlip-5', seed=0)
  assert max(env._seed_of(game) for game in range(64)) < 2**31


def test_a_bitflip_that_no_network_takes_is_refused():
  with pytest.raises(ValueError, match='more than 1000000 bits'):
    environments.load('BitFlip-99999999999')
