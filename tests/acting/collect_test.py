"""Collecting and evaluating: the rows are TF-Agents' own stream, plus mu."""

import functools
import json
import types

import numpy as np
import pytest
import tensorflow as tf
from tf_agents.drivers import py_driver
from tf_agents.environments import py_environment
from tf_agents.policies import py_tf_eager_policy
from tf_agents.specs import array_spec
from tf_agents.specs import tensor_spec
from tf_agents.trajectories import time_step as ts
from tf_agents.trajectories import trajectory

from qwr_tf import environments
from qwr_tf import networks
from qwr_tf.acting import collect
from qwr_tf.acting import evaluate
from qwr_tf.acting import numpy_actor
from qwr_tf.acting import stop_request
from qwr_tf.agents import qwr_agent
from qwr_tf.config.errors import ConfigError
from qwr_tf.networks import torsos
from qwr_tf.replay import ReplayTable

pytestmark = pytest.mark.usefixtures('eagerly')

_FIRST, _MID, _LAST = 0, 1, 2

# Rewards of an episode's steps and whether it ends in a terminal state; the
# others end at a time limit. 3 + 1 + 2 steps, then again from the start.
_EPISODES = [
  ([1.0, 2.0, 3.0], True),
  ([10.0], False),
  ([100.0, 200.0], False),
]
_RETURNS = [6.0, 10.0, 300.0]


class ScriptedEnv(py_environment.PyEnvironment):
  """Plays the episodes above, whatever the action; observes (episode, t)."""

  def __init__(self, continuous=True):
    super().__init__(handle_auto_reset=True)
    self.max_episode_steps = None
    self._continuous = continuous
    self._episode, self._t = -1, 0
    self.actions = []

  def seed(self, seed):
    """Nothing is random."""

  def get_state(self):
    return [self._episode, self._t]

  def set_state(self, state):
    self._episode, self._t = state
    self._current_time_step = self._now()

  def _now(self):
    if self._episode < 0:
      return None
    if self._t == 0:
      return ts.restart(self._observation())
    rewards, terminates = _EPISODES[self._episode % 3]
    reward = rewards[self._t - 1]
    if self._t < len(rewards):
      return ts.transition(self._observation(), reward)
    if terminates:
      return ts.termination(self._observation(), reward)
    return ts.truncation(self._observation(), reward)

  def observation_spec(self):
    return array_spec.ArraySpec([2], np.float32, 'observation')

  def action_spec(self):
    if self._continuous:
      return array_spec.BoundedArraySpec([2], np.float32, -1.0, 1.0, 'action')
    return array_spec.BoundedArraySpec([], np.int32, 0, 3, 'action')

  def _observation(self):
    return np.array([self._episode, self._t], np.float32)

  def _reset(self):
    self._episode, self._t = self._episode + 1, 0
    return ts.restart(self._observation())

  def _step(self, action):
    self.actions.append(action)
    self._t += 1
    return self._now()


@functools.cache
def _agent(continuous, normalized):
  """An agent that tests share: none of them trains it."""
  env = ScriptedEnv(continuous)
  time_step_spec = tensor_spec.from_spec(env.time_step_spec())
  action_spec = tensor_spec.from_spec(env.action_spec())
  specs = time_step_spec.observation, action_spec
  kwargs = {'torso_fn': functools.partial(torsos.mlp_torso, (8,))}
  if normalized:
    kwargs['normalizer'] = networks.ObservationNormalizer(specs[0])
  return qwr_agent.QwrAgent(
    time_step_spec,
    action_spec,
    networks.ActorNetwork(*specs, **kwargs),
    networks.GatedQNetwork(*specs, **kwargs),
    actor_optimizer=None,
    critic_optimizer=None,
    horizon=1,
  )


class _Setup:
  """Environment, agent, table and collector; always the same weights."""

  def __init__(
    self,
    *,
    continuous=True,
    normalized=False,
    capacity=100,
    env=None,
    **kwargs,
  ):
    self.env = env or ScriptedEnv(continuous)
    # Collecting changes a normaliser, so that such an agent is not shared.
    make_agent = _agent.__wrapped__ if normalized else _agent
    self.agent = make_agent(continuous, normalized)
    rng = np.random.default_rng(0)
    for variable in self.agent.actor_network.trainable_variables:
      variable.assign(rng.normal(size=variable.shape))
    self.table = ReplayTable(self.agent.collect_data_spec, capacity)
    self.collector = collect.Collector(
      self.env, self.agent, self.table, **({'seed': 0} | kwargs)
    )

  def rows(self):
    """All rows in time order, as NumPy."""
    rows = self.table.gather_all()
    return tf.nest.map_structure(lambda x: x.numpy()[0], rows)


# Two rounds of the script: 6 interactions and 3 final rows each. Of a final
# row TF-Agents keeps reward 0 and discount 1, those of the reset after it.
_STEP_TYPES = [_FIRST, _MID, _MID, _LAST, _FIRST, _LAST, _FIRST, _MID, _LAST]
_NEXT_STEP_TYPES = [*_STEP_TYPES[1:], _FIRST]
_REWARDS = [1.0, 2.0, 3.0, 0.0, 10.0, 0.0, 100.0, 200.0, 0.0]
_DISCOUNTS = [1.0, 1.0, 0.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]
_EPISODE = [0, 0, 0, 0, 1, 1, 2, 2, 2]
_TIME = [0, 1, 2, 3, 0, 1, 0, 1, 2]


@pytest.mark.parametrize('continuous', [True, False])
def test_rows_are_the_script(continuous):
  setup = _Setup(continuous=continuous, env_steps=12)
  collected = setup.collector()
  assert collected.interactions == 12
  assert collected.episode_returns == 2 * _RETURNS
  assert collected.seconds > 0
  rows = setup.rows()
  np.testing.assert_array_equal(rows.step_type, 2 * _STEP_TYPES)
  np.testing.assert_array_equal(rows.next_step_type, 2 * _NEXT_STEP_TYPES)
  np.testing.assert_array_equal(rows.reward, 2 * _REWARDS)
  np.testing.assert_array_equal(rows.discount, 2 * _DISCOUNTS)
  episodes = np.concatenate([_EPISODE, np.array(_EPISODE) + 3])
  np.testing.assert_array_equal(rows.observation[:, 0], episodes)
  np.testing.assert_array_equal(rows.observation[:, 1], 2 * _TIME)


def test_rows_have_the_specs_of_the_agent():
  setup = _Setup(env_steps=6)
  appended = []
  setup.table.append_frames = appended.append
  setup.collector()
  spec = tensor_spec.add_outer_dim(setup.agent.collect_data_spec, 9)
  tf.nest.map_structure(
    lambda s, x: (
      s.is_compatible_with(tf.constant(x)) or pytest.fail(f'{s} {x}')
    ),
    spec,
    appended[0],
  )


@pytest.mark.parametrize('continuous', [True, False])
def test_mu_is_stored_for_every_observation(continuous):
  setup = _Setup(continuous=continuous, env_steps=12)
  setup.collector()
  rows = setup.rows()
  distribution = setup.agent.actor_network(tf.constant(rows.observation))[0]
  (stored,) = rows.policy_info['dist_params'].values()
  expected = distribution.mean() if continuous else distribution.logits
  assert stored[rows.step_type == _LAST].any()
  np.testing.assert_allclose(stored, expected, rtol=1e-5, atol=1e-6)


def test_stored_actions_are_not_clipped():
  setup = _Setup(env_steps=12)
  projection = setup.agent.actor_network.head.projection
  projection.kernel.assign(np.zeros([8, 2]))
  projection.bias.assign([3.0, -5.0])
  setup.collector()
  rows = setup.rows()
  assert rows.action[:, 0].min() > 1 and rows.action[:, 1].max() < -1
  # What was stored is what the environment was given, which clips for itself;
  # final rows hold an action that nobody took.
  np.testing.assert_array_equal(
    rows.action[rows.step_type != _LAST], np.stack(setup.env.actions)
  )


@pytest.mark.slow
@pytest.mark.parametrize('env_steps', [1, 3, 4, 5])
def test_calls_continue_the_stream(env_steps):
  at_once = _Setup(env_steps=60)
  at_once.collector()
  in_pieces = _Setup(env_steps=env_steps)
  returns = []
  counts = []
  while sum(counts) < 60:
    collected = in_pieces.collector()
    counts.append(collected.interactions)
    returns += collected.episode_returns
  # A step can be drawn once there is a row after it: two to begin with.
  assert counts[0] == max(env_steps, 2)
  assert set(counts[1:]) == {env_steps}
  assert returns == 10 * _RETURNS
  assert at_once.rows().step_type.shape == (90,)
  # Seeds and weights are the same, so actions are too.
  tf.nest.map_structure(
    np.testing.assert_array_equal, at_once.rows(), in_pieces.rows()
  )


def test_returns_are_those_the_environment_counts(monkeypatch):
  monkeypatch.setattr(ScriptedEnv, 'episode_return', 7.0, raising=False)
  assert _Setup(env_steps=6).collector().episode_returns == [7.0, 7.0, 7.0]


def test_env_steps_may_end_in_the_middle_of_an_episode():
  setup = _Setup(env_steps=5)  # 3 + 1 + 1 of 2
  collected = setup.collector()
  assert collected.interactions == 5
  assert collected.episode_returns == _RETURNS[:2]  # Not the open one's.
  rows = setup.rows()
  np.testing.assert_array_equal(rows.step_type, _STEP_TYPES[:7])
  assert setup.table.num_frames() == 5
  # The rest of the third episode, its whole return, and 3 + 1 more.
  assert setup.collector().episode_returns == [300.0, 6.0, 10.0]


def test_an_episode_that_just_ended_gets_its_final_row():
  setup = _Setup(env_steps=3)
  setup.collector()
  np.testing.assert_array_equal(
    setup.rows().step_type, [_FIRST, _MID, _MID, _LAST]
  )


@pytest.mark.parametrize(
  'env_steps, interactions, ended',
  [(1, 3, 1), (3, 3, 1), (4, 4, 2), (5, 6, 3), (6, 6, 3), (7, 9, 4)],
)
def test_whole_episodes_go_on_to_the_end(env_steps, interactions, ended):
  setup = _Setup(env_steps=env_steps, whole_episodes=True)
  collected = setup.collector()
  assert collected.interactions == interactions
  assert collected.episode_returns == (2 * _RETURNS)[:ended]
  rows = setup.rows()
  assert rows.step_type[-1] == _LAST
  assert (rows.step_type == _LAST).sum() == ended
  assert len(rows.step_type) == interactions + ended
  # The next call begins with an episode.
  setup.collector()
  assert setup.rows().step_type[interactions + ended] == _FIRST


def test_the_first_call_may_be_longer():
  setup = _Setup(env_steps=2, first_env_steps=9)
  counts = [setup.collector().interactions for _ in range(3)]
  assert counts == [9, 2, 2]


@pytest.mark.parametrize('whole_episodes', [False, True])
def test_a_table_may_hold_just_the_newest_call(whole_episodes):
  # RWR and on-policy AWR: nothing but the newest data. Final rows come on
  # top of the interactions that the capacity counts.
  setup = _Setup(env_steps=6, whole_episodes=whole_episodes, capacity=6)
  for _ in range(3):
    assert setup.collector().interactions == 6
    assert setup.table.num_frames() == 6
  np.testing.assert_array_equal(
    setup.rows().observation[:, 0], np.array(_EPISODE) + 6
  )


def test_on_policy_the_table_holds_what_one_call_made():
  # 3 + 1, then 2 + 3, then twice 1 + 2 + 3 steps: episodes are never cut.
  setup = _Setup(env_steps=4, whole_episodes=True, on_policy=True, capacity=6)
  for interactions, episodes in [(4, 2), (5, 2), (6, 3), (6, 3)]:
    assert setup.collector().interactions == interactions
    assert setup.table.num_frames() == interactions
    rows = setup.rows()
    assert len(rows.step_type) == interactions + episodes
    assert (rows.step_type == _FIRST).sum() == episodes
    assert (rows.step_type[0], rows.step_type[-1]) == (_FIRST, _LAST)
  # Episodes 7, 8 and 9 of the script, and what they paid.
  np.testing.assert_array_equal(
    rows.observation[:, 0], [7, 7, 8, 8, 8, 9, 9, 9, 9]
  )
  paid = rows.reward[rows.step_type != _LAST]
  np.testing.assert_array_equal(paid, [10, 100, 200, 1, 2, 3])


def test_on_policy_wants_a_table_that_holds_one_call():
  settings = {'env_steps': 4, 'whole_episodes': True, 'on_policy': True}
  setup = _Setup(**settings, capacity=5)
  setup.collector()
  setup.collector()
  with pytest.raises(ConfigError, match='replay_capacity = 6 or mo'):
    setup.collector()
  # With a time limit it is known before.
  setup.env.max_episode_steps = 3
  collector = functools.partial(
    collect.Collector, setup.env, setup.agent, setup.table, seed=0
  )
  with pytest.raises(ConfigError, match='replay_capacity = 6 or mo'):
    collector(**settings)
  with pytest.raises(ConfigError, match='replay_capacity = 9 or mo'):
    collector(**settings, first_env_steps=7)
  with pytest.raises(ConfigError, match='whole_episodes = True'):
    collector(env_steps=3, on_policy=True)
  collector(**settings | {'env_steps': 3})


def test_on_policy_wants_rows_for_all_final_observations():
  setup = _Setup(capacity=6)
  table = ReplayTable(
    setup.agent.collect_data_spec, 6, rows_per_interaction=1.0
  )
  collector = collect.Collector(
    setup.env,
    setup.agent,
    table,
    env_steps=6,
    whole_episodes=True,
    on_policy=True,
    seed=0,
  )
  with pytest.raises(ConfigError, match='raise ReplayTable.rows_per_interac'):
    collector()


# The script has 9 rows for 6 interactions: of 13 rows about 9 are interactions.
@pytest.mark.parametrize('rows_per_interaction, warnings', [(1.0, 1), (2.0, 0)])
def test_lost_rows_are_told_once(caplog, rows_per_interaction, warnings):
  setup = _Setup()
  table = ReplayTable(
    setup.agent.collect_data_spec, 12, rows_per_interaction=rows_per_interaction
  )
  collector = collect.Collector(
    setup.env, setup.agent, table, env_steps=6, seed=0
  )
  for _ in range(4):
    collector()
  told = [r for r in caplog.records if 'rows_per_interaction' in r.message]
  assert len(told) == warnings


def test_samples_are_a_function_of_the_seed():
  first, again, other = (_Setup(env_steps=6, seed=s) for s in (0, 0, 1))
  for setup in (first, again, other):
    setup.collector()
  np.testing.assert_array_equal(first.rows().action, again.rows().action)
  assert np.all(first.rows().action != other.rows().action)


def test_a_call_acts_with_the_newest_weights():
  setup = _Setup(env_steps=6)
  setup.collector()
  actor = setup.agent.actor_network
  actor.head.projection.kernel.assign(np.zeros([8, 2]))
  actor.head.projection.bias.assign([7.0, 8.0])
  setup.collector()
  (loc,) = setup.rows().policy_info['dist_params'].values()
  assert not np.any(loc[:9] == [7.0, 8.0])
  np.testing.assert_array_equal(loc[9:], np.tile([[7.0, 8.0]], [9, 1]))


@pytest.mark.slow
def test_the_normaliser_sees_every_row_once():
  setup = _Setup(env_steps=4, normalized=True)
  normalizer = setup.agent.actor_network.encoder.normalizer
  for _ in range(3):
    setup.collector()
    seen = setup.rows().observation.astype(np.float64)
    mean, inverse = normalizer.parameters
    np.testing.assert_allclose(mean, seen.mean(0), rtol=1e-5)
    np.testing.assert_allclose(inverse, 1 / (seen.std(0) + 1e-5), rtol=1e-4)


def test_the_normaliser_sees_what_the_table_takes_in_pieces():
  # 9 rows in pieces of 6, the rows that the table takes at once.
  setup = _Setup(env_steps=6, normalized=True, capacity=6)
  setup.collector()
  mean, _ = setup.agent.actor_network.normalizer.parameters
  np.testing.assert_allclose(mean, np.mean([_EPISODE, _TIME], axis=1))


def test_a_normaliser_may_be_left_alone():
  setup = _Setup(env_steps=6, normalized=True, update_normalizer=False)
  setup.collector()
  mean, inverse = setup.agent.actor_network.normalizer.parameters
  np.testing.assert_array_equal([mean, inverse], [[0.0, 0.0], [1.0, 1.0]])


def test_mu_is_that_of_the_normaliser_that_acted():
  setup = _Setup(env_steps=12, normalized=True)
  actor = setup.agent.actor_network
  rows = np.concatenate([np.stack([_EPISODE, _TIME], 1)] * 2)
  rows[9:, 0] += 3
  # Before anything was collected observations are left as they are.
  expected = actor(tf.constant(rows, tf.float32))[0].mean()
  setup.collector()
  np.testing.assert_allclose(
    setup.rows().policy_info['dist_params']['loc'], expected, rtol=1e-5
  )
  after = actor(tf.constant(rows, tf.float32))[0].mean()
  assert np.abs(after - expected).max() > 0.01


# Against TF-Agents' own driver


@pytest.mark.parametrize('continuous', [True, False])
def test_rows_are_those_of_tf_agents_driver(continuous):
  setup = _Setup(continuous=continuous, env_steps=12)
  setup.collector()
  ours = setup.rows()

  frames = []
  env = ScriptedEnv(continuous)
  driver = py_driver.PyDriver(
    env,
    py_tf_eager_policy.PyTFEagerPolicy(setup.agent.collect_policy),
    observers=[frames.append],
    max_steps=12,
  )
  driver.run(env.reset())
  theirs = tf.nest.map_structure(lambda *x: np.stack(x), *frames)
  # The driver, too, counts interactions only; it stops before the last row.
  count = len(theirs.step_type)
  assert count == 17
  assert isinstance(theirs, trajectory.Trajectory)
  for name in ('step_type', 'next_step_type', 'reward', 'discount'):
    np.testing.assert_array_equal(
      getattr(ours, name)[:count], getattr(theirs, name), err_msg=name
    )
  np.testing.assert_array_equal(ours.observation[:count], theirs.observation)
  tf.nest.map_structure(
    lambda a, b: np.testing.assert_allclose(a[:count], b, rtol=1e-5, atol=1e-6),
    ours.policy_info,
    theirs.policy_info,
  )
  assert ours.action.dtype == theirs.action.dtype
  assert ours.action.shape[1:] == theirs.action.shape[1:]


# Coming back to where it was


@pytest.mark.parametrize(
  'env_steps, calls', [(5, 0), (1, 1), (4, 1), (2, 3), (5, 3)]
)
def test_a_restored_collector_goes_on_as_the_saved_one(env_steps, calls):
  setup, other = (_Setup(env_steps=env_steps, seed=seed) for seed in (0, 1))
  for _ in range(calls):
    setup.collector()
  other.collector.restore(json.loads(json.dumps(setup.collector.state())))
  before = int(setup.table.num_frames())
  for _ in range(3):
    assert (
      setup.collector().episode_returns == other.collector().episode_returns
    )
  ours = setup.rows()
  start = len(ours.step_type) - len(other.rows().step_type)
  assert before == int(np.sum(ours.step_type[:start] != _LAST))
  tf.nest.map_structure(
    np.testing.assert_array_equal,
    tf.nest.map_structure(lambda x: x[start:], ours),
    other.rows(),
  )


def test_a_collector_names_the_command_that_made_a_state():
  here, elsewhere = _Setup().collector, _Setup(source=object()).collector
  with pytest.raises(ConfigError, match='made by qwr_tf.train or qwr_tf.QWR'):
    elsewhere.restore(here.state())
  theirs = {'next_env_steps': 1, 'surplus': 0, 'collectors': []}
  with pytest.raises(ConfigError, match='made by qwr_tf.launch'):
    here.restore(theirs)


def test_an_environment_that_does_not_come_back_begins_an_episode(caplog):
  setup = _Setup(env_steps=2)
  setup.collector()

  def fail(state):
    setup.env._current_time_step = None
    raise ValueError('Scripted does not come back')

  setup.env.set_state = fail
  with caplog.at_level('WARNING'):
    setup.collector.restore(setup.collector.state())
  assert caplog.messages == [
    'Scripted does not come back. A new episode begins.'
  ]
  assert setup.collector().episode_returns == [10.0]
  rows = setup.rows()
  # The table has cut the first episode at its second row, as at a time limit.
  np.testing.assert_array_equal(
    rows.step_type, [_FIRST, _LAST, _FIRST, _LAST, _FIRST]
  )
  np.testing.assert_array_equal(rows.discount[:1], [1.0])


# Evaluation


def _evaluator(envs, agent, seed):
  act = numpy_actor.NumpyActor(agent.acting_network)
  return evaluate.Evaluator(envs, act, seed=seed)


class _Endless(ScriptedEnv):
  """An episode that never ends, of reward 1 per step."""

  longest_episode = 30

  def _now(self):
    if not self._t:
      return ts.restart(self._observation())
    return ts.transition(self._observation(), 1.0)


def test_an_evaluation_ends_where_an_episode_does_not(caplog):
  evaluator = _evaluator([_Endless(), ScriptedEnv()], _Setup().agent, seed=0)
  returns = evaluator.returns(9, sampled=False)
  assert len(returns) == 9 and 30.0 in returns
  assert 'load_environment.max_episode_steps' in caplog.text


@pytest.fixture(name='interrupted')
def _interrupted(monkeypatch):
  """Ends the grace of an interruption after 20 looks at the clock."""
  clock = iter(range(0, 10_000))
  monkeypatch.setattr(stop_request.time, 'monotonic', lambda: next(clock))
  stop_request.request()
  yield
  stop_request.clear()


def test_an_interruption_ends_an_evaluation(interrupted):
  del interrupted
  env = _Endless()
  env.longest_episode = 10_000
  evaluator = _evaluator([env], _Setup().agent, seed=0)
  with pytest.raises(KeyboardInterrupt):
    evaluator.returns(1, sampled=False)
  assert len(env.actions) == 19


def test_an_interruption_ends_the_wait_for_an_episode(interrupted):
  del interrupted
  setup = _Setup(env_steps=5, whole_episodes=True, env=_Endless())
  setup.env.longest_episode = 10_000
  with pytest.raises(KeyboardInterrupt):
    setup.collector()
  assert len(setup.env.actions) == 5 + 20


@pytest.mark.parametrize(
  'on_policy, parameter',
  [
    (False, 'load_environment.max_episode_steps'),
    (True, 'run.replay_capacity'),
  ],
)
def test_the_wait_for_an_episode_is_bounded(on_policy, parameter):
  setup = _Setup(
    env_steps=5,
    whole_episodes=True,
    on_policy=on_policy,
    capacity=20,
    env=_Endless(),
  )
  with pytest.raises(ConfigError, match=parameter):
    setup.collector()
  assert len(setup.env.actions) <= 5 + 31


def test_evaluation_returns_one_number_per_episode():
  setup = _Setup()
  evaluator = _evaluator([ScriptedEnv()], setup.agent, seed=0)
  assert evaluator.returns(4, sampled=False) == [*_RETURNS, 6.0]
  # The next call starts an episode of its own.
  assert evaluator.returns(2, sampled=True) == _RETURNS[1:]


@pytest.mark.parametrize('episodes', [1, 2, 3, 7])
def test_evaluation_in_several_environments_plays_as_many_episodes(episodes):
  """Each that began is finished, the long ones too."""
  setup = _Setup()
  envs = [ScriptedEnv() for _ in range(3)]
  evaluator = _evaluator(envs, setup.agent, seed=0)
  returns = evaluator.returns(episodes, sampled=True)
  played = [env._episode + 1 for env in envs]
  assert sum(played) == episodes
  assert min(played) > 0 or episodes < 3
  expected = [_RETURNS[i % 3] for n in played for i in range(n)]
  assert sorted(returns) == sorted(expected)


def test_an_evaluation_depends_on_its_number_alone():
  gin_setup = environments.load('BitFlip-20')
  specs = (
    tensor_spec.from_spec(gin_setup.observation_spec()),
    tensor_spec.from_spec(gin_setup.action_spec()),
  )
  actor = networks.ActorNetwork(*specs)
  actor.create_variables()
  agent = types.SimpleNamespace(acting_network=actor)

  def scores(number, seed=0, before=()):
    envs = [environments.load('BitFlip-20') for _ in range(2)]
    evaluator = _evaluator(envs, agent, seed=seed)
    for other in before:
      evaluator.returns(3, sampled=True, number=other)
    return [
      evaluator.returns(20, sampled=s, number=number) for s in (True, False)
    ]

  assert scores(7) == scores(7, before=[1, 2])
  assert scores(7) != scores(8)
  assert scores(7) != scores(7, seed=1)


def test_each_environment_of_an_evaluation_has_its_own_seed():
  setup, seeds = _Setup(), []
  envs = [ScriptedEnv() for _ in range(3)]
  for env in envs:
    env.seed = seeds.append
  _evaluator(envs, setup.agent, seed=0).returns(3, sampled=False)
  assert len(seeds) == len(set(seeds)) == 3


def test_evaluation_acts_with_the_mode_or_with_samples():
  setup = _Setup()
  envs = [ScriptedEnv() for _ in range(4)]
  evaluators = [
    _evaluator([env], setup.agent, seed=s)
    for env, s in zip(envs, (0, 1, 0, 1), strict=True)
  ]
  setup.agent.actor_network.head.projection.bias.assign([3.0, 4.0])
  for evaluator, sampled in zip(
    evaluators, (False, False, True, True), strict=True
  ):
    evaluator.returns(3, sampled=sampled)
  actions = [np.stack(env.actions) for env in envs]
  observations = np.stack([_EPISODE, _TIME], 1)[np.array(_STEP_TYPES) != _LAST]
  actor = setup.agent.actor_network
  mode = actor(tf.constant(observations, tf.float32))[0].mode()
  np.testing.assert_allclose(actions[0], mode, rtol=1e-5)
  np.testing.assert_array_equal(actions[0], actions[1])
  assert np.all(actions[2] != actions[0]) and np.all(actions[2] != actions[3])
