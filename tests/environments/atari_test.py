"""Atari: the preprocessing against NumPy, ends of episodes, bad input."""

import json
import sys

import ale_py
import gin
import gymnasium
import numpy as np
import pytest

from qwr_tf import environments
from qwr_tf.config import gin_files
from qwr_tf.environments import atari_fire
from qwr_tf.training import experiment

_FIRE = np.array(1, np.int32)


def _load(game, seed=0, **kwargs):
  return environments.load(f'ALE/{game}-v5', seed=seed, **kwargs)


def _actions(env, count, seed=0):
  num_actions = env.action_spec().maximum + 1
  rng = np.random.default_rng(seed)
  return rng.integers(0, num_actions, count, np.int32)


def _play(env, actions):
  return [env.reset(), *_go_on(env, actions)]


def _go_on(env, actions):
  return [env.step(action) for action in actions]


def _frames_played(env):
  return env.env.unwrapped.ale.getEpisodeFrameNumber()


def _lives(env):
  return env.env.unwrapped.ale.lives()


# The preprocessing


def _area_weights(size, scaled):
  """Shares of `size` pixels in each of `scaled` larger ones."""
  edges = np.arange(scaled + 1) * size / scaled
  low = np.maximum(edges[:-1, None], np.arange(size))
  high = np.minimum(edges[1:, None], np.arange(size) + 1)
  return np.maximum(high - low, 0) * scaled / size


def _oracle(game, seed, actions):
  """Stacks and summed rewards, from a game stepped frame by frame."""
  env = ale_py.AtariEnv(game, frameskip=1, repeat_action_probability=0.0)
  env.reset(seed=seed)
  rows, columns = _area_weights(210, 84), _area_weights(160, 84)

  def screen():
    return env.ale.getScreenGrayscale().astype(float)

  def scaled(image):
    return rows @ image @ columns.T

  for _ in range(env.np_random.integers(1, 31)):
    env.step(0)
  images, rewards = [scaled(screen())] * 4, []
  stacks = [np.stack(images, -1)]
  for action in actions:
    outcomes = [(env.step(action)[1], screen()) for _ in range(4)]
    rewards.append(sum(reward for reward, _ in outcomes))
    images.append(scaled(np.maximum(outcomes[2][1], outcomes[3][1])))
    stacks.append(np.stack(images[-4:], -1))
  return stacks, rewards


@pytest.mark.slow
@pytest.mark.parametrize('game, seed', [('Breakout', 0), ('Seaquest', 3)])
def test_observations_and_rewards_equal_the_oracle(game, seed):
  env = _load(game, seed, clip_rewards=False)
  actions = _actions(env, 180)
  steps = _play(env, actions)
  stacks, rewards = _oracle(game.lower(), seed, actions)
  assert any(rewards)
  assert [float(step.reward) for step in steps[1:]] == rewards
  for step, stack in zip(steps, stacks, strict=True):
    assert step.observation.dtype == np.uint8
    assert step.observation.flags.c_contiguous
    np.testing.assert_allclose(step.observation, stack, atol=0.51)


@pytest.mark.parametrize(
  'game, num_actions',
  [
    ('Boxing', 18),
    ('Breakout', 4),
    ('Freeway', 3),
    ('Gopher', 8),
    ('Pong', 6),
    ('Seaquest', 18),
  ],
)
def test_the_papers_games_reset_and_step(game, num_actions):
  env = _load(game)
  assert env.action_spec().maximum == num_actions - 1
  assert env.observation_spec().shape == (84, 84, 4)
  assert env.observation_spec().dtype == np.uint8
  for time_step in _play(env, _actions(env, 20)):
    assert time_step.observation.shape == (84, 84, 4)
    assert time_step.reward in (-1, 0, 1)


@pytest.mark.slow
@pytest.mark.parametrize('game', ['Boxing', 'Breakout'])
def test_a_game_ends_and_another_begins(game):
  env = _load(game)
  env.reset()
  for action in _actions(env, 10_000):
    time_step = env.step(action)
    if time_step.is_last():
      break
  assert time_step.is_last() and time_step.discount == 0  # Not the limit.
  assert _frames_played(env) > 200
  assert env.step(action).is_first()
  assert 1 <= _frames_played(env) <= 30
  assert env.step(action).is_mid()
  env.close()


@pytest.mark.slow
def test_rewards_are_clipped_unless_for_scores():
  def rewards(game, **kwargs):
    env = _load(game, **kwargs)
    steps = _play(env, _actions(env, 180))
    return np.array([step.reward for step in steps[1:]])

  for game, score in (('Seaquest', 20), ('Skiing', -7)):
    scores = rewards(game, clip_rewards=False)
    assert score in scores
    np.testing.assert_array_equal(rewards(game), np.clip(scores, -1, 1))


@pytest.mark.slow
@pytest.mark.parametrize('lives', [False, True])
def test_an_episodes_return_is_the_score(lives):
  def episode(**kwargs):
    env = _load('Seaquest', terminal_on_life_loss=lives, **kwargs)
    steps = _play(env, _actions(env, 185))
    (end, *_) = [i for i, step in enumerate(steps) if step.is_last()]
    rewards = [float(step.reward) for step in steps[1 : end + 1]]
    env.reset()
    for action in _actions(env, 185)[:end]:
      env.step(action)
    return env.episode_return, sum(rewards)

  limit = {'max_episode_steps': 180}
  known, clipped = episode(**limit)
  unknown, score = episode(clip_rewards=False, **limit)
  assert known == score and unknown is None
  assert lives or score > clipped


@pytest.mark.slow
def test_stacks_can_be_rebuilt_from_single_images():
  # Three games of 9 decisions, 10 rows each.
  env = _load('Breakout', max_episode_steps=9)
  stacks, begin, begins = [], 0, []
  time_step = env.reset()
  for row, action in enumerate(_actions(env, 30)):
    begin = row if time_step.is_first() else begin
    begins.append(begin)
    stacks.append(time_step.observation)
    time_step = env.step(action)
  assert begins == [0] * 10 + [10] * 10 + [20] * 10
  images = [stack[..., -1] for stack in stacks]
  assert any(not np.array_equal(images[i], images[i + 1]) for i in range(29))
  for i, begin in enumerate(begins):
    rows = [max(begin, i - back) for back in (3, 2, 1, 0)]
    rebuilt = np.stack([images[row] for row in rows], -1)
    np.testing.assert_array_equal(rebuilt, stacks[i])


def test_an_action_lasts_four_frames():
  env = _load('Pong')
  env.reset()
  before = _frames_played(env)
  env.step(_FIRE)
  assert _frames_played(env) == before + 4


@pytest.mark.slow
def test_a_reset_takes_1_to_30_no_ops():
  env = _load('Pong')
  played = set()
  env.reset()
  for _ in range(150):
    env.env.reset()  # Without a seed, which would load the game anew.
    played.add(_frames_played(env))
  # Each number is missing with probability (29/30)^150 = 0.006.
  assert min(played) == 1 and max(played) == 30 and len(played) > 26
  env = _load('Pong', noop_max=0)
  env.reset()
  assert _frames_played(env) == 0


@pytest.mark.slow
def test_the_seed_determines_the_game_and_resets_continue_it():
  def observations(seed):
    env = _load('Breakout', seed, max_episode_steps=30)
    return [s.observation for s in _play(env, _actions(env, 70))]

  first = observations(1)
  np.testing.assert_array_equal(first, observations(1))
  assert not np.array_equal(first, observations(2))
  assert not np.array_equal(first[:31], first[31:62])  # Other no-ops.


def test_sticky_actions_are_off_unless_asked_for():
  def sticky(env):
    return env.env.unwrapped.ale.getFloat('repeat_action_probability')

  assert sticky(_load('Pong')) == 0
  env = _load('Pong', repeat_action_probability=0.25, allow_sticky=True)
  assert sticky(env) == 0.25


# Ends of episodes


def test_the_limit_counts_decisions_and_is_not_terminal():
  env = _load('Pong', max_episode_steps=3)
  steps = _play(env, [_FIRE] * 4)
  assert [s.step_type for s in steps] == [0, 1, 1, 2, 0]
  assert steps[3].discount == 1


def test_by_default_the_limit_is_10000_decisions():
  env = _load('Pong')
  env.reset()
  limit = env.env
  while not isinstance(limit, gymnasium.wrappers.TimeLimit):
    limit = limit.env
  limit._elapsed_steps = 9_998  # Playing them takes half a minute.
  assert env.step(_FIRE).is_mid()
  time_step = env.step(_FIRE)
  assert time_step.is_last() and time_step.discount == 1


def test_without_a_limit_the_emulators_own_holds():
  env = _load('Pong', max_episode_steps=None)
  assert env.max_episode_steps == 27_000
  assert env.env.unwrapped.ale.getInt('max_num_frames_per_episode') == 108_000


def test_a_lost_life_is_no_end_by_default():
  env = _load('Breakout')
  env.reset()
  while _lives(env) == 5:
    time_step = env.step(_FIRE)
  assert time_step.is_mid() and time_step.discount == 1


@pytest.mark.slow
def test_a_lost_life_can_end_the_episode_and_the_game_goes_on():
  env = _load('Breakout', terminal_on_life_loss=True)
  time_step = env.reset()
  for lives in (4, 3, 2, 1, 0):
    while not time_step.is_last():
      assert _lives(env) == lives + 1
      time_step = env.step(_FIRE)
    assert _lives(env) == lives and time_step.discount == 0
    last, played = time_step.observation[..., -1], _frames_played(env)
    time_step = env.step(_FIRE)
    assert time_step.is_first() and time_step.reward == 0
    if lives:  # The same game, no frame later, and a stack of its own.
      assert _frames_played(env) == played
      for image in np.moveaxis(time_step.observation, -1, 0):
        np.testing.assert_array_equal(image, last)
  assert _lives(env) == 5 and _frames_played(env) <= 30


@pytest.mark.slow
def test_lives_share_the_limit():
  env = _load('Breakout', terminal_on_life_loss=True)
  env.reset()
  first = next(i for i in range(1, 99) if env.step(_FIRE).is_last())
  env = _load(
    'Breakout', terminal_on_life_loss=True, max_episode_steps=first + 2
  )
  steps = _play(env, [_FIRE] * (first + 4))
  ends = [(i, float(s.discount)) for i, s in enumerate(steps) if s.is_last()]
  # A reset, which is no decision, lies between the lives.
  assert ends == [(first, 0), (first + 3, 1)]
  assert steps[-1].is_first() and _lives(env) == 5


@pytest.mark.slow
def test_a_life_lost_at_the_limit_starts_a_new_game():
  env = _load('Breakout', terminal_on_life_loss=True)
  env.reset()
  first = next(i for i in range(1, 99) if env.step(_FIRE).is_last())
  env = _load('Breakout', terminal_on_life_loss=True, max_episode_steps=first)
  steps = _play(env, [_FIRE] * (first + 1))
  assert steps[-2].is_last() and steps[-2].discount == 0
  assert steps[-1].is_first() and _lives(env) == 5


class ScriptedLives(gymnasium.Env):
  """Says how many lives are left: 2 at the start, then as told."""

  def __init__(self, lives):
    self._lives = iter(lives)
    self.seeds = []

  def reset(self, *, seed=None, options=None):
    self.seeds.append(seed)
    return np.zeros(1), {'lives': 2}

  def step(self, action):
    return np.ones(1), 0.0, False, False, {'lives': next(self._lives)}


def test_gained_lives_and_zero_lives_end_nothing():
  # Up to 3 and back to 2; at 0 the game itself has not said that it is over.
  env = environments.atari.LifeLossTerminal(ScriptedLives([2, 3, 3, 2, 2, 0]))
  env.reset()
  ends = [env.step(0)[2] for _ in range(6)]
  assert ends == [False, False, False, True, False, False]


def test_a_seed_starts_a_new_game_after_a_lost_life():
  scripted = ScriptedLives([1, 1])
  env = environments.atari.LifeLossTerminal(scripted)
  env.reset()
  env.step(0)
  assert env.reset()[0] == 1 and scripted.seeds == [None]  # Goes on.
  assert env.reset()[0] == 0 and scripted.seeds == [None] * 2  # No life lost.
  env.step(0)
  assert env.reset(seed=7)[0] == 0 and scripted.seeds == [None, None, 7]


class ScriptedActions(ScriptedLives):
  """Remembers its actions."""

  def __init__(self, lives, meanings):
    super().__init__(lives)
    self.actions, self._meanings = [], meanings

  def get_action_meanings(self):
    return self._meanings

  def step(self, action):
    self.actions.append(action)
    return super().step(action)


@pytest.mark.parametrize(
  ('meanings', 'expected'),
  [
    (['NOOP', 'UP', 'FIRE'], [2, 1, 2, 2, 1, 2]),
    (['NOOP', 'UP', 'DOWN'], [1, 1, 1, 1, 1, 1]),
  ],
)
def test_fire_can_be_the_first_action_of_each_life(meanings, expected):
  # Lives after each action; 2 at the start and after the reset at the end.
  scripted = ScriptedActions([2, 1, 0, 0, 0, 2], meanings)
  env = atari_fire.FireFirst(scripted)
  env.reset()
  for _ in range(5):
    env.step(1)
  env.reset()
  env.step(1)
  assert scripted.actions == expected


@pytest.mark.slow
@pytest.mark.parametrize('lives', [False, True])
def test_with_fire_first_breakout_goes_on_without_actions(lives):
  env = _load('Breakout', fire_first=True, terminal_on_life_loss=lives)
  env.reset()
  seen = set()
  for _ in range(400):
    env.step(0)  # No-op; without FIRE the ball would wait.
    seen.add(_lives(env))
  assert seen == {5, 4, 3, 2, 1, 0}


# Coming back to where it was


@pytest.mark.slow
@pytest.mark.parametrize(
  'lives, at, fire_first',
  [
    (False, 'step', False),
    (True, 'life', False),
    (False, 'end', True),
    (True, 'reset', True),
    (True, 'life', True),
  ],
)
def test_a_game_comes_back(lives, at, fire_first):
  kwargs = {
    'terminal_on_life_loss': lives,
    'fire_first': fire_first,
    'max_episode_steps': 80,
  }
  env = _load('Breakout', seed=5, **kwargs)
  actions = _actions(env, 110, seed=2)
  ends = [i for i, step in enumerate(_play(env, actions)) if step.is_last()]
  # A life goes on from the image that ended the one before: step 9 of it.
  stop = {'reset': 0, 'step': 37, 'end': ends[0], 'life': ends[0] + 10}[at]
  env = _load('Breakout', seed=5, **kwargs)
  _play(env, actions[:stop])
  state = json.loads(json.dumps(env.get_state()))
  assert state['games'] == 1 and len(state['actions']) == stop - (at == 'life')
  other = _load('Breakout', seed=1, **kwargs)
  _play(other, actions[:60])
  other.set_state(state)
  one, another = (_go_on(e, actions[stop:]) for e in (env, other))
  for a, b in zip(one, another, strict=True):
    np.testing.assert_array_equal(a.observation, b.observation)
    assert (a.step_type, a.reward, a.discount) == (
      b.step_type,
      b.reward,
      b.discount,
    )
  assert other.get_state() == env.get_state()


@pytest.mark.slow
def test_sticky_actions_come_back():
  kwargs = {'repeat_action_probability': 0.25, 'allow_sticky': True}
  env = _load('Breakout', seed=5, **kwargs)
  actions = _actions(env, 90)
  _play(env, actions[:50])
  other = _load('Breakout', seed=6, **kwargs)
  other.set_state(env.get_state())
  one, another = (_go_on(e, actions[50:]) for e in (env, other))
  np.testing.assert_array_equal(
    [s.observation for s in one], [s.observation for s in another]
  )


# Bad input: one line that names the fix


def _error(name, **kwargs):
  with pytest.raises(ValueError) as info:
    environments.load(name, **kwargs)
  assert '\n' not in str(info.value)
  return str(info.value)


@pytest.mark.parametrize(
  'name',
  [
    'ALE/Pongg-v5',
    'ALE/Pong',
    'ALE/Pnog-v5',
    'ALE/Pong-v4',
    'ALE/pong-v5',
    'Pong',
    'Pongg',
    'Pnog',
    'pong-v5',
    'Pong-v7',
    'PongDeterministic-v4',
    'Pong-ramNoFrameskip-v4',
  ],
)
def test_unknown_games_get_suggestions(name):
  message = _error(name)
  assert message.startswith(f'unknown environment {name!r}; near it: ')
  assert message.split('near it: ')[1].split(', ')[0] == 'ALE/Pong-v5'


@pytest.mark.parametrize(
  'name, suggestion',
  [
    ('ALE/space_invaders-v5', 'ALE/SpaceInvaders-v5'),
    ('Breakuot', 'ALE/Breakout-v5'),
    ('Atlantis', 'ALE/Atlantis-v5, ALE/Atlantis2-v5'),  # Best first.
    ('Hopper', 'Hopper-v5'),  # Not ALE/Gopher-v5.
  ],
)
def test_suggestions_fit_the_name(name, suggestion):
  assert f'near it: {suggestion}' in _error(name)


def test_ids_that_are_refused_are_not_suggested():
  for name in ('Pg-v4', 'PgNoFrameskip-v4'):
    message = _error(name)
    assert ' Pong' not in message and 'NoFrameskip-v0' not in message


@pytest.mark.parametrize(
  'name, settings',
  [
    ('PongNoFrameskip-v4', 'frameskip=1 and repeat_action_probability=0.0'),
    ('PongNoFrameskip-v0', 'frameskip=1 and repeat_action_probability=0.25'),
    ('Pong-v4', 'frameskip=(2, 5) and repeat_action_probability=0.0'),
    ('ale_py:Pong-v0', 'frameskip=(2, 5) and repeat_action_probability=0.25'),
  ],
)
def test_ids_without_preprocessing_are_refused(name, settings):
  message = _error(name)
  assert f'comes with {settings} and' in message
  assert 'use ALE/Pong-v5' in message


@pytest.mark.parametrize(
  'setting, value',
  [
    ('frameskip', 4),
    ('frameskip', (2, 5)),
    ('repeat_action_probability', 0.25),
    ('repeat_action_probability', -0.25),
    ('noop_max', -1),
    ('max_episode_steps', 0),
    ('max_training_steps', 0),
    ('continuous', True),
  ],
)
def test_settings_that_do_not_fit_are_named(setting, value):
  message = _error('ALE/Pong-v5', **{setting: value})
  assert message.startswith('ALE/Pong-v5: ') and setting in message


def test_a_probability_is_at_most_one():
  message = _error(
    'ALE/Pong-v5', repeat_action_probability=1.5, allow_sticky=True
  )
  assert 'repeat_action_probability=1.5' in message


@pytest.mark.parametrize(
  'module, package', [('ale_py', 'ale-py'), ('cv2', 'opencv-python-headless')]
)
def test_missing_packages_are_named(module, package, monkeypatch):
  monkeypatch.setitem(sys.modules, module, None)
  message = _error('ALE/Pong-v5')
  assert 'ALE/Pong-v5' in message and f'pip install "{package}' in message
  assert 'unknown environment' in _error('Pong')


def test_missing_roms_are_named(tmp_path, monkeypatch, capfd):
  for path in (tmp_path, tmp_path / 'nowhere'):
    monkeypatch.setenv('ALE_ROMS_DIR', str(path))
    message = _error('ALE/Pong-v5')
    assert 'ALE_ROMS_DIR' in message and 'pip install' in message


def test_the_module_may_be_part_of_the_id():
  env = environments.load('ale_py:ALE/Pong-v5')
  assert env.observation_spec().shape == (84, 84, 4)
  assert env.env.spec.id == 'ALE/Pong-v5'


@pytest.mark.slow
def test_rendering_shows_the_games_screen():
  env = _load('Pong', render_mode='rgb_array')
  env.reset()
  image = env.render()
  assert image.shape == (210, 160, 3) and image.dtype == np.uint8


@pytest.mark.slow
def test_scores_are_the_game_s_own():
  gin_files.parse(
    ['atari_100k.gin'],
    [
      'load_environment.terminal_on_life_loss = True',
      'run.replay_capacity = 100',
      'run.eval_environments = 1',
    ],
  )
  try:
    settings = experiment.settings()
    with experiment.load_environment(settings.environment) as trained:
      assert 'ClipReward' in str(trained.env)
      assert 'LifeLossTerminal' in str(trained.env)
    parts = experiment.build(settings, seed=0)
    for env in parts.evaluator._envs:
      assert 'ClipReward' not in str(env.env)
      assert 'LifeLossTerminal' not in str(env.env)
  finally:
    gin.clear_config()


@pytest.mark.slow
def test_a_limit_of_training_games_does_not_count_for_scores():
  name = 'ALE/Pong-v5'
  gin_files.parse(['atari_100k_iclr.gin'], [])
  settings = experiment.settings()
  assert experiment.load_environment(name).max_episode_steps == 2000
  env = experiment.score_environment(settings, seed=0)
  assert env.max_episode_steps == 10_000
  gin_files.parse(['atari_100k.gin'], [])
  assert experiment.load_environment(name).max_episode_steps == 10_000
  gin.clear_config()
