"""Atari games with the paper's preprocessing around `ALE/<Game>-v5`.

One decision is one interaction. Each action lasts 4 frames; the last two, grey,
are merged by their maximum and scaled to 84x84; an observation is the last 4 of
these images, uint8 [84, 84, 4], oldest first. Actions are the game's minimal
set. Rewards are clipped to [-1, 1], and an episode is cut after 10,000
decisions. Departures from the paper, or from the DQN it follows:

* A reset takes 1 to 30 no-ops (gymnasium) instead of 0 to 30.
* The whole screen is scaled; the DQN of 2013 cropped it.
* Grey is ALE's luminance, and the maximum is taken over grey images.
* An episode begins with its first image four times, not with black images. So
  an observation holds images of its own episode alone: a table may hold the
  newest image of each row, `observation[..., -1]`, and the stack of row i in
  the episode that begins with row b is rows max(b, i - 3), ..., i, exactly.
* Without sticky actions the no-ops decide a game of a deterministic policy: 100
  evaluations of it are at most 30 different games.
* A game that ends within an action repeat may show the image before, under
  discount 0.

No reset presses FIRE, as in the paper: in Breakout, a policy that never does
sees a waiting screen until the limit. `fire_first` presses it.
"""

import difflib
import importlib
import re
from collections.abc import Mapping
from types import ModuleType
from typing import Any

import gymnasium
import numpy as np
from gymnasium import wrappers

from qwr_tf.environments import atari_fire
from qwr_tf.environments import wrapping

# As in setup.py.
_ALE = 'ale-py>=0.10.2'
_OPENCV = 'opencv-python-headless>=4.5,<6'

_ENTRY_POINT = 'ale_py.env:AtariEnv'
_ACTION_REPEAT = 4
_NUM_FRAMES = 4
_SCREEN_SIZE = 84
_EMULATORS_LIMIT = 27_000  # Decisions: 108,000 frames, no-ops among them.

# Parts of ids around the name of the game.
_AFFIXES = re.compile(
  r'^(\w+:)?(ALE/)?|(-ram)?(NoFrameskip|Deterministic)?(-v\d+)?$',
  re.IGNORECASE,
)


def make(
  name: str,
  *,
  frameskip: int = 1,
  repeat_action_probability: float = 0.0,
  allow_sticky: bool = False,
  noop_max: int = 30,
  clip_rewards: bool = True,
  terminal_on_life_loss: bool = False,
  fire_first: bool = False,
  max_episode_steps: int | None = 10_000,
  max_training_steps: int | None = None,
  render_mode: str | None = None,
) -> gymnasium.Env:
  """Makes a game with the paper's preprocessing.

  Args:
    name: `ALE/<Game>-v5`.
    frameskip: of the emulator below the action repeat; must be 1.
    repeat_action_probability: of a frame to repeat the last action instead
      (sticky actions); more than 0 needs `allow_sticky`.
    allow_sticky: accepts that scores are not those of the paper's games.
    noop_max: a reset takes 1 to this many no-ops; 0 takes none, so that all
      games of a deterministic policy are the same.
    clip_rewards: whether rewards are clipped to [-1, 1]; False for scores.
    terminal_on_life_loss: whether the learner's episode ends, with discount 0,
      at each lost life (most later work at 100K; not the paper). The next reset
      goes on in the same game, from the image that ended the episode.
    fire_first: whether the first action of each life is FIRE in place of the
      chosen one (not the paper).
    max_episode_steps: decisions after which a game is cut, which is not
      terminal; lives share them. None is ALE's 27,000.
    max_training_steps: the same for the games that train, where those are
      shorter than games for scores (ICLR's text on QWR).
    render_mode: 'rgb_array' to get the game's screen from `render()`.

  Raises:
    ImportError: if the emulator or OpenCV is not installed.
    gymnasium.error.Error: if there is no such game.
    ValueError: for a setting out of range; names it.
  """
  name = name.removeprefix('ale_py:')
  _import_ale()
  _import('cv2', _OPENCV)
  sticky = repeat_action_probability
  limits = {
    'max_episode_steps': max_episode_steps,
    'max_training_steps': max_training_steps,
  }
  _check(name, frameskip, sticky, allow_sticky, noop_max, limits)
  env = _emulator(name, sticky, render_mode)
  env = wrappers.AtariPreprocessing(
    env, noop_max, _ACTION_REPEAT, _SCREEN_SIZE, terminal_on_life_loss=False
  )
  # `gymnasium.make` would count frames, no-ops among them.
  limit = min(filter(None, limits.values()), default=_EMULATORS_LIMIT)
  env = wrappers.TimeLimit(env, limit)
  if fire_first:
    env = atari_fire.FireFirst(env)
  if terminal_on_life_loss:
    env = LifeLossTerminal(env)
  env = wrappers.FrameStackObservation(env, _NUM_FRAMES, padding_type='reset')
  env = wrapping.ChannelsLast(env)
  # ALE draws 60 frames a second.
  env.metadata = env.metadata | {'render_fps': 60 // _ACTION_REPEAT}
  if not clip_rewards:
    return env
  # Inside of the clip: a score is a sum of unclipped rewards.
  return wrappers.ClipReward(wrappers.RecordEpisodeStatistics(env), -1.0, 1.0)


class LifeLossTerminal(gymnasium.Wrapper):
  """Ends an episode at each lost life; a reset then goes on in the game.

  gymnasium's option starts the game anew after the first life, so that a
  learner never sees later parts of the game.
  """

  def __init__(self, env: gymnasium.Env):
    """Wraps a game whose `info` holds the lives left."""
    super().__init__(env)
    self._lives = 0
    self._to_go_on: tuple[np.ndarray, dict] | None = None

  @property
  def goes_on(self) -> bool:
    """True if a reset without a seed would go on in the same game."""
    return self._to_go_on is not None

  def reset(
    self, *, seed: int | None = None, options: dict | None = None
  ) -> tuple[np.ndarray, dict]:
    """Goes on after a lost life; else, or with a seed, starts a game."""
    start = self._to_go_on
    if start is None or seed is not None:
      start = self.env.reset(seed=seed, options=options)
    self._to_go_on = None
    self._lives = start[1]['lives']
    return start

  def step(
    self, action: Any
  ) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
    """Steps; terminated is true for a lost life, too.

    At the last life the game itself terminates; some games show zero lives for
    a while before.
    """
    observation, reward, terminated, truncated, info = self.env.step(action)
    lost = 0 < info['lives'] < self._lives
    self._lives = info['lives']
    goes_on = lost and not (terminated or truncated)
    self._to_go_on = (observation, info) if goes_on else None
    return observation, float(reward), terminated or lost, truncated, info


def atari_id(game: str) -> str:
  """'Pong' to 'ALE/Pong-v5'."""
  return f'ALE/{game}-v5'


def refuse_other_ids(name: str) -> None:
  """Raises ValueError for ids of games without the preprocessing.

  For example PongNoFrameskip-v4, which exists once ale-py was imported.
  """
  if not is_other_id(name):
    return
  kwargs = gymnasium.registry[name].kwargs
  settings = ' and '.join(
    f'{setting}={kwargs.get(setting)!r}'
    for setting in ('frameskip', 'repeat_action_probability')
  )
  use = ', '.join(suggest(name)[:1]) or 'ALE/<Game>-v5'
  raise ValueError(
    f'{name} comes with {settings} and without preprocessing; use {use}, '
    'which is made with frameskip=1 and repeat_action_probability=0.0, '
    f'{_ACTION_REPEAT} frames per action'
  )


def suggest(name: str) -> list[str]:
  """The ids `ALE/<Game>-v5` that an unknown name may mean, best first."""
  try:
    _import_ale()
  except ImportError:
    return []
  games = {_game(i): i for i in gymnasium.registry if i.startswith('ALE/')}
  # Pnog is Pong, but Hopper is not Gopher.
  near = difflib.get_close_matches(_game(name), games, n=3, cutoff=0.75)
  return [games[game] for game in near]


def is_other_id(name: str) -> bool:
  """True if an id is registered for a game, but is not ALE/<Game>-v5."""
  spec = gymnasium.registry.get(name)
  is_game = spec is not None and spec.entry_point == _ENTRY_POINT
  return is_game and not name.startswith('ALE/')


def _game(name: str) -> str:
  """The game in an id: 'ALE/SpaceInvaders-v5' to 'spaceinvaders'."""
  return re.sub('[^a-z0-9]', '', _AFFIXES.sub('', name).lower())


def _import_ale() -> None:
  """Registers the games, without the emulator's banner."""
  ale_py = _import('ale_py', _ALE)
  ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)


def _import(module: str, requirement: str) -> ModuleType:
  try:
    return importlib.import_module(module)
  except ImportError as error:
    raise ImportError(
      f'{module} is not installed ({error}); run `pip install "{requirement}"`'
    ) from error


def _emulator(
  name: str, sticky: float, render_mode: str | None
) -> gymnasium.Env:
  """Makes the game itself, frame by frame."""
  try:
    return gymnasium.make(
      gymnasium.spec(name),
      frameskip=1,
      repeat_action_probability=sticky,
      full_action_space=False,
      obs_type='grayscale',  # Thrown away, and cheaper than RGB.
      render_mode=render_mode,
      disable_env_checker=True,
    )
  except OSError as error:
    raise ValueError(
      f'{name}: the ROM cannot be read ({" ".join(str(error).split())}); unset '
      f'ALE_ROMS_DIR, or run `pip install --force-reinstall "{_ALE}"`'
    ) from error


def _check(
  name: str,
  frameskip: int,
  sticky: float,
  allow_sticky: bool,
  noop_max: int,
  limits: Mapping[str, int | None],
) -> None:
  """Raises ValueError for the first setting that does not fit."""
  problems = {
    f'frameskip={frameskip!r} would multiply the {_ACTION_REPEAT} frames of an '
    'action; leave it at 1': frameskip != 1,
    f"repeat_action_probability={sticky!r} is not the paper's 0.0; leave it "
    'out, or set allow_sticky=True as well': sticky != 0 and not allow_sticky,
    f'repeat_action_probability={sticky!r} is not in [0, 1]': not (
      0 <= sticky <= 1
    ),
    f'noop_max={noop_max!r} is negative; use 0 for none': noop_max < 0,
    **{
      f'{setting}={limit!r} is less than 1': limit is not None and limit < 1
      for setting, limit in limits.items()
    },
  }
  for problem, is_there in problems.items():
    if is_there:
      raise ValueError(f'{name}: {problem}')
