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
from qwr_tf.ops import returns
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


def _pick(rows, mask):
  return tf.nest.map_structure(lambda x: x[mask], rows)


def _segments(experience):
  """(rows, repeats) of each environment that has any."""
  rows = experience.rows
  ends = np.flatnonzero(np.diff(rows.observation[:, 0])) + 1
  assert (rows.step_type[[*(ends - 1), -1]] == _LAST).all()
  parts = np.split(np.arange(len(rows.step_type)), ends)
  return [(_pick(rows, part), experience.repeats[part]) for part in parts]


def _streams(experiences, count):
  """Rows of each environment without those that cut, and the cuts' number."""
  parts = [[] for _ in range(count)]
  cuts = 0
  for experience in experiences:
    for rows, repeats in _segments(experience):
      cuts += repeats.sum()
      parts[int(rows.observation[0, 0])].append(_pick(rows, ~repeats))
  streams = [
    tf.nest.map_structure(lambda *x: np.concatenate(x), *part) for part in parts
  ]
  return streams, cuts


def _alone(number, num_rows):
  """Rows of one environment that nothing cuts."""
  network = _agent().acting_network
  source = sources.EnvironmentSource(_make(number), network, seed=0)
  return _pick(source.collect(num_rows, _no_check).rows, slice(num_rows))


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
  rows = _source(_vector(3)).collect(30, _no_check).rows
  network = _agent().acting_network
  expected = network(tf.constant(rows.observation))[0].mean()
  (stored,) = rows.policy_info['dist_params'].values()
  np.testing.assert_allclose(stored, expected, rtol=1e-5, atol=1e-6)


def test_the_row_that_cuts_has_the_next_observation():
  source = _source(_vector(3))
  segments = [
    segment
    for _ in range(6)
    for segment in _segments(source.collect(5, _no_check))
  ]
  for i in range(3):
    mine = [s for s in segments if s[0].observation[0, 0] == i]
    assert any(repeats[-1] for _, repeats in mine)
    for (before, repeats), (after, _) in itertools.pairwise(mine):
      if repeats[-1]:
        np.testing.assert_array_equal(
          before.observation[-1], after.observation[0]
        )
      assert (after.step_type[0] == _MID) == repeats[-1]


@pytest.mark.parametrize('is_vector', [True, False])
def test_targets_bootstrap_at_a_cut(is_vector):
  source = sources.EnvironmentSource(
    _make(3), _agent().acting_network, seed=0, is_only_source=False
  )
  source = _source(_vector(3)) if is_vector else source
  parts = [source.collect(5, _no_check) for _ in range(6)]
  rows = tf.nest.map_structure(
    lambda *x: np.concatenate(x), *[part.rows for part in parts]
  )
  repeats = np.concatenate([part.repeats for part in parts])
  before = np.flatnonzero(repeats) - 1
  before = before[before < len(repeats) - 4]
  assert before.size
  starts = before[:, np.newaxis] + np.arange(4)
  windows = tf.nest.map_structure(lambda x: tf.constant(x[starts]), rows)
  mask = returns.bootstrap_mask(windows).numpy()
  np.testing.assert_array_equal(mask, [[True, False, False]] * len(mask))
  # Of the next state 100, of what is not in the episode 10,000.
  values = tf.constant([[100.0, 1e4, 1e4]] * len(mask))
  targets = returns.lambda_returns(
    windows.reward[:, :3], 0.5 * windows.discount[:, :3], values,
    windows.is_last()[:, :3], 0.9,
  )  # fmt: skip
  np.testing.assert_allclose(targets[:, 0], rows.reward[before] + 50.0)


def test_whole_episodes_go_on_to_the_end_of_each():
  source = _source(_vector(3), whole_episodes=True)
  for _ in range(3):
    experience = source.collect(10, _no_check)
    assert not experience.repeats.any()
    for rows, _ in _segments(experience):
      assert (rows.step_type[0], rows.step_type[-1]) == (_FIRST, _LAST)
    step_types = experience.rows.step_type
    assert (step_types != _LAST).sum() == experience.interactions >= 10
    assert len(experience.episode_returns) == (step_types == _LAST).sum()


def test_processes_make_the_same_rows():
  vector = _vector(3, 'async')
  try:
    made = [_source(v).collect(30, _no_check) for v in (_vector(3), vector)]
  finally:
    vector.close()
  rows = [experience.rows for experience in made]
  tf.nest.map_structure(np.testing.assert_array_equal, *rows)
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
  for name in ('rows', 'repeats'):
    pair = [getattr(experience, name) for experience in (actual, expected)]
    tf.nest.map_structure(np.testing.assert_array_equal, *pair)


def test_an_error_of_an_environment_is_told_with_its_cause():
  fns = [functools.partial(_make, i, fails_at=1) for i in range(2)]
  vector = environments.VectorEnvironment(fns, mode='async')
  try:
    with pytest.raises(environments.FaultyEnvironmentError, match='a wheel'):
      _source(vector).collect(100, _no_check)
  finally:
    vector.close()


@pytest.mark.slow
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


class _Film(_Countdown):
  """A countdown that shows the newest four of its images."""

  observation_space = gymnasium.spaces.Box(0, 255, (3, 2, 4), np.uint8)

  def _observation(self):
    images = [] if self._t == 0 else self._images
    image = self.np_random.integers(0, 256, (3, 2), np.uint8)
    self._images = [*(images or [image] * 3), image][-4:]
    return np.stack(self._images, axis=-1)


def _film(number):
  return environments.GymnasiumWrapper(_Film(number), seed=number)


@pytest.mark.slow
@pytest.mark.usefixtures('eagerly')
@pytest.mark.parametrize('is_vector', [True, False])
def test_single_frames_on_their_way_come_back_as_stacks(is_vector):
  actor = networks.ActorNetwork(
    *tensor_spec.from_spec(
      (_film(0).observation_spec(), _film(0).action_spec())
    ),
    torso_fn=functools.partial(torsos.mlp_torso, (8,)),
  )
  spec = _agent().collect_data_spec._replace(
    observation=actor.input_tensor_spec
  )
  windows = []
  for single_frames in (True, False):
    # A segment has four rows more than interactions.
    table = ReplayTable(
      spec, 100, rows_per_interaction=6.0, single_frames=single_frames
    )
    options = {'seed': 0, 'is_single_frame': table.is_single_frame}
    if is_vector:
      vector = environments.VectorEnvironment(
        [functools.partial(_film, i) for i in range(3)], mode='sync'
      )
      source = sources.VectorSource(vector, actor, **options)
    else:
      source = sources.EnvironmentSource(
        _film(0), actor, is_only_source=False, **options
      )
    for _ in range(30):
      table.append_frames(source.collect(5, _no_check).rows)
    assert table.num_starts() == 100
    windows.append(table.sample(300, 1, [1, 2]))
  tf.nest.map_structure(np.testing.assert_array_equal, *windows)


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


@pytest.mark.parametrize('mode', ['sync', 'async'])
def test_a_reset_of_some_leaves_the_others_where_they_are(mode):
  vector = _vector(2, mode)
  vector.reset()
  before = vector.step(np.zeros([2, 2], np.float32))
  now = vector.reset(mask=np.array([True, False]))
  vector.close()
  assert now.step_type.tolist() == [_FIRST, before.step_type[1]]
  np.testing.assert_array_equal(now.observation[1], before.observation[1])
  assert now.observation[0, 2] == 0 and before.observation[0, 2] == 1
