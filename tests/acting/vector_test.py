"""Several environments stepped together give each one's own stream of rows."""

import functools
import itertools
import json

import gymnasium
import numpy as np
import pytest
import tensorflow as tf
from tf_agents.specs import tensor_spec

from qwr_tf import environments
from qwr_tf import networks
from qwr_tf.acting import collect
from qwr_tf.acting import evaluate
from qwr_tf.acting import numpy_actor
from qwr_tf.acting import sources
from qwr_tf.agents import qwr_agent
from qwr_tf.networks import torsos
from qwr_tf.replay import ReplayTable

_FIRST, _MID, _LAST = 0, 1, 2
_LENGTHS = [3, 1, 2, 5]


class _Countdown(gymnasium.Env):
  """Episodes of 3, 1, 2 or 5 steps, every second one cut, by the game's seed.

  Observes (number of the environment, the game's mark, step).
  """

  observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (3,), np.float32)
  action_space = gymnasium.spaces.Box(-1.0, 1.0, (2,), np.float32)

  def __init__(self, number, fails_at=None):
    self._number, self._episode = number, -1
    self._fails_at = fails_at

  def reset(self, *, seed=None, options=None):
    super().reset(seed=seed)
    self._episode, self._t = self._episode + 1, 0
    self._mark = int(self.np_random.integers(1000))
    return self._observation(), {}

  def _observation(self):
    return np.array([self._number, self._mark, self._t], np.float32)

  def step(self, action):
    self._t += 1
    if self._episode == self._fails_at:
      raise RuntimeError('a wheel came off')
    ends = self._t == _LENGTHS[self._mark % 4]
    is_cut = self._mark % 8 > 3
    reward = 10.0 * self._number + self._t
    return self._observation(), reward, ends and not is_cut, ends and is_cut, {}


def _make(number, **kwargs):
  env = _Countdown(number, **kwargs)
  return environments.GymnasiumWrapper(env, seed=number)


def _vector(count, mode='sync'):
  fns = [functools.partial(_make, i) for i in range(count)]
  return environments.VectorEnvironment(fns, mode=mode)


@functools.cache
def _agent():
  env = _make(0)
  time_step_spec = tensor_spec.from_spec(env.time_step_spec())
  action_spec = tensor_spec.from_spec(env.action_spec())
  specs = time_step_spec.observation, action_spec
  torso = functools.partial(torsos.mlp_torso, (8,))
  return qwr_agent.QwrAgent(
    time_step_spec,
    action_spec,
    networks.ActorNetwork(*specs, torso_fn=torso),
    networks.GatedQNetwork(*specs, torso_fn=torso),
    actor_optimizer=None,
    critic_optimizer=None,
    horizon=1,
  )


def _no_check(*_):
  pass


def _source(env, **kwargs):
  return sources.VectorSource(env, _agent().acting_network, seed=0, **kwargs)


def _streams(experiences, count):
  """Rows of each environment without those that cut, and the cuts' number."""
  parts = {i: [] for i in range(count)}
  cuts = 0
  for experience in experiences:
    for segment in experience.segments:
      rows = segment.rows
      cuts += segment.is_cut
      assert rows.step_type[-1] == _LAST
      assert segment.continues == (rows.step_type[0] == _MID)
      end = len(rows.step_type) - segment.is_cut
      parts[segment.source].append(
        tf.nest.map_structure(lambda x, end=end: x[:end], rows)
      )
  streams = [
    tf.nest.map_structure(lambda *x: np.concatenate(x), *parts[i])
    for i in range(count)
  ]
  return streams, cuts


def _alone(number, num_rows):
  """Rows of one environment that nothing cuts."""
  network = _agent().acting_network
  source = sources.EnvironmentSource(_make(number), network, seed=0)
  rows = source.collect(num_rows, _no_check).segments[0].rows
  return tf.nest.map_structure(lambda x: x[:num_rows], rows)


@pytest.mark.parametrize('env_steps', [1, 2, 7, 40])
def test_each_environment_has_the_stream_it_has_alone(env_steps):
  source = _source(_vector(3))
  experiences, interactions = [], 0
  while interactions < 60:
    experiences.append(source.collect(env_steps, _no_check))
    interactions += experiences[-1].interactions
    assert env_steps <= experiences[-1].interactions < env_steps + 3
  streams, cuts = _streams(experiences, 3)
  taken = sum((s.step_type != _LAST).sum() for s in streams)
  assert taken == interactions
  assert cuts == sum(e.metrics['cut_transitions'] for e in experiences) > 0
  for number, stream in enumerate(streams):
    alone = _alone(number, len(stream.step_type))
    for name in ('step_type', 'observation', 'reward', 'discount'):
      np.testing.assert_array_equal(
        getattr(stream, name), getattr(alone, name), name
      )
    assert stream.action.shape == alone.action.shape


def test_mu_is_that_of_every_observation():
  experience = _source(_vector(3)).collect(30, _no_check)
  network = _agent().acting_network
  for segment in experience.segments:
    rows = segment.rows
    expected = network(tf.constant(rows.observation))[0].mean()
    (stored,) = rows.policy_info['dist_params'].values()
    np.testing.assert_allclose(stored, expected, rtol=1e-5, atol=1e-6)


def test_the_row_that_cuts_has_the_next_observation():
  source = _source(_vector(3))
  segments = [
    segment
    for _ in range(6)
    for segment in source.collect(5, _no_check).segments
  ]
  for i in range(3):
    mine = [s for s in segments if s.source == i]
    assert any(s.is_cut for s in mine)
    for before, after in itertools.pairwise(mine):
      if before.is_cut:
        np.testing.assert_array_equal(
          before.rows.observation[-1], after.rows.observation[0]
        )


def test_whole_episodes_go_on_to_the_end_of_each():
  source = _source(_vector(3), whole_episodes=True)
  for _ in range(3):
    experience = source.collect(10, _no_check)
    count = 0
    for segment in experience.segments:
      step_types = segment.rows.step_type
      assert (step_types[0], step_types[-1]) == (_FIRST, _LAST)
      assert not (segment.is_cut or segment.continues)
      count += (step_types != _LAST).sum()
    assert count == experience.interactions >= 10
    episodes = sum((s.rows.step_type == 2).sum() for s in experience.segments)
    assert len(experience.episode_returns) == episodes


def test_processes_make_the_same_rows():
  vector = _vector(3, 'async')
  try:
    made = [_source(v).collect(30, _no_check) for v in (_vector(3), vector)]
  finally:
    vector.close()
  for one, other in zip(made[0].segments, made[1].segments, strict=True):
    tf.nest.map_structure(np.testing.assert_array_equal, one.rows, other.rows)
  assert made[0].episode_returns == made[1].episode_returns


@pytest.mark.parametrize('mode', ['sync', 'async'])
def test_a_restored_source_goes_on_as_the_first(mode):
  whole, later = _vector(2, mode), _vector(2, mode)
  try:
    source = _source(whole)
    source.collect(5, _no_check)
    state = json.loads(json.dumps(source.state()))
    expected = source.collect(9, _no_check)
    restored = _source(later)
    restored.restore(state)
    actual = restored.collect(9, _no_check)
  finally:
    whole.close()
    later.close()
  assert actual.episode_returns == expected.episode_returns
  for one, other in zip(expected.segments, actual.segments, strict=True):
    tf.nest.map_structure(np.testing.assert_array_equal, one.rows, other.rows)
    assert one[1:] == other[1:]


def test_an_error_of_an_environment_is_told_with_its_cause():
  fns = [functools.partial(_make, i, fails_at=1) for i in range(2)]
  vector = environments.VectorEnvironment(fns, mode='async')
  try:
    with pytest.raises(environments.FaultyEnvironmentError, match='a wheel'):
      _source(vector).collect(100, _no_check)
  finally:
    vector.close()


def test_the_table_takes_all_rows():
  table = ReplayTable(_agent().collect_data_spec, 1000)
  collector = collect.Collector(
    _vector(3), _agent(), table, seed=0, env_steps=40, num_environments=3
  )
  counts = [collector().interactions for _ in range(3)]
  assert table.num_frames() == sum(counts) == table.num_starts()
  # Every window begins in one environment's episode and ends in the same.
  windows = table.sample(500, 2, [1, 2])
  same = windows.observation[:, :1, :2] == windows.observation[:, 1:, :2]
  np.testing.assert_array_equal(same, True)
  np.testing.assert_array_equal(
    np.diff(windows.observation[:, :, 2]), np.ones([500, 1])
  )


@pytest.mark.parametrize('episodes', [2, 3, 7])
def test_returns_of_a_vector_are_those_of_its_episodes(episodes):
  act = numpy_actor.NumpyActor(_agent().acting_network)
  returns = evaluate.Evaluator(_vector(3), act, seed=0).returns(
    episodes, sampled=False
  )
  assert len(returns) == episodes
  totals = {10.0 * i * n + n * (n + 1) / 2 for i in range(3) for n in _LENGTHS}
  assert set(returns) <= totals


def test_an_endless_episode_is_stopped():
  vector = _vector(2)
  vector.longest_episode = 2
  act = numpy_actor.NumpyActor(_agent().acting_network)
  returns = evaluate.Evaluator(vector, act, seed=0).returns(6, sampled=True)
  assert len(returns) == 6
  assert set(returns) <= {1.0, 3.0, 11.0, 23.0}
