"""A gymnasium environment as a TF-Agents PyEnvironment."""

import hashlib
import math
from collections.abc import Iterator
from typing import Any

import gymnasium
import numpy as np
from tf_agents.environments import py_environment
from tf_agents.specs import array_spec
from tf_agents.trajectories import time_step as ts

from qwr_tf.environments import faults
from qwr_tf.environments import spaces
from qwr_tf.environments.float32_spread import Float32Spread

_CONTINUE = np.asarray(1.0, np.float32)
_TERMINAL = np.asarray(0.0, np.float32)

_RESET_RULE = 'reset(seed=None, options=None) must return (observation, info)'
_STEP_RULE = (
  'step(action) must return (observation, reward, terminated, truncated, info)'
)

# Steps of an episode without a time limit after which nobody waits any longer.
_LONGEST_EPISODE = 100_000

# Steps of an environment before its observations' spread is looked at.
_SPREAD_STEPS = 1000

_warned: set[str] = set()  # Environments whose spread has been looked at.


def longest_episode(env: gymnasium.Env) -> int:
  """Steps within which an episode ends: the time limit, or 100,000."""
  return (env.spec and env.spec.max_episode_steps) or _LONGEST_EPISODE


class NotFiniteError(FloatingPointError):
  """NaN or Inf in an environment's action, observation or reward.

  Attributes:
    tensors: {name: array} of the step.
  """

  def __init__(self, message: str, tensors: dict[str, np.ndarray]):
    """Keeps the tensors."""
    super().__init__(message)
    self.tensors = tensors


class GymnasiumWrapper(py_environment.PyEnvironment):
  """Presents a gymnasium environment to TF-Agents, which knows only gym.

  The discount is 0 on a terminal step and 1 elsewhere; γ is the agent's. A
  step is LAST when the episode is terminated or truncated, and the next call
  of `step` then resets and ignores its action (gymnasium's NEXT_STEP). NaN or
  Inf in an observation or a reward raises FloatingPointError.

  Every game (episode, but for lost lives) has a seed of its own, made of the
  environment's seed and the game's number. `get_state` returns the game's seed
  and its actions, from which `set_state` plays it again.

  An error of the environment's own code, and a reset or step that breaks
  gymnasium's API, raise FaultyEnvironmentError.
  """

  def __init__(
    self,
    env: gymnasium.Env,
    *,
    seed: int | None = None,
    timeout_is_terminal: bool = False,
  ):
    """Wraps the environment.

    Args:
      env: observations in a Box; actions Discrete or in a bounded float Box.
      seed: of the first game, and of those that are made for later ones;
        None draws one.
      timeout_is_terminal: whether the discount is 0 at a time limit too, as
        in QWR's published code: values then depend on an unseen clock.

    Raises:
      ValueError: for other spaces; names the space and a wrapper to use.
    """
    super().__init__(handle_auto_reset=True)
    self._env = env
    self._name = env.spec.id if env.spec else type(env.unwrapped).__name__
    self.seed(_any_seed() if seed is None else seed)
    self._has_lives = env.has_wrapper_attr('goes_on')
    self._has_scores = any(
      isinstance(e, gymnasium.wrappers.RecordEpisodeStatistics)
      for e in _layers(env)
    )
    self._spread: Float32Spread | None = None
    self._timeout_is_terminal = timeout_is_terminal
    self._num_steps = 0
    self._episode_return: float | None = None
    try:
      self._observation_spec = spaces.observation_spec(env.observation_space)
      self._action_spec = spaces.action_spec(env.action_space)
    except ValueError as error:
      raise ValueError(f'{self._name}: {error}') from error
    self._to_env_action = spaces.action_map(env.action_space)
    self._dtype = self._observation_spec.dtype
    self._shape = self._observation_spec.shape
    self._is_image = self._dtype == np.uint8
    if not self._is_image and not np.can_cast(
      env.observation_space.dtype, np.float32
    ):
      self._spread = Float32Spread()

  @property
  def env(self) -> gymnasium.Env:
    """The wrapped environment."""
    return self._env

  @property
  def timeout_is_terminal(self) -> bool:
    """Whether the discount is 0 at a time limit too."""
    return self._timeout_is_terminal

  @property
  def episode_return(self) -> float | None:
    """Of the last episode, by gymnasium's RecordEpisodeStatistics.

    Within a ClipReward it counts what the game itself gave; None without one.
    """
    return self._episode_return

  @property
  def max_episode_steps(self) -> int | None:
    """Steps after which an episode ends; None if there is no limit."""
    limit = self._env.spec.max_episode_steps if self._env.spec else None
    return limit or getattr(self._env.unwrapped, 'max_episode_steps', None)

  @property
  def longest_episode(self) -> int:
    """Steps within which an episode ends: the time limit, or 100,000."""
    return self.max_episode_steps or _LONGEST_EPISODE

  def observation_spec(self) -> array_spec.ArraySpec:
    """Describes observations: uint8 or float32."""
    return self._observation_spec

  def action_spec(self) -> array_spec.BoundedArraySpec:
    """Describes actions: int32 from 0, or float32 in [-1, 1]."""
    return self._action_spec

  def clipped(self, rewards: np.ndarray) -> np.ndarray:
    """Rewards [N] of logged steps as this environment gives them.

    Only clipping (gymnasium's ClipReward) is made up for: what was clipped
    already stays as it is, where a scale would be applied twice.
    """
    for env in _layers(self._env):
      if isinstance(env, gymnasium.wrappers.ClipReward):
        rewards = np.asarray(env.func(rewards))
    return rewards

  def should_reset(self, current_time_step: ts.TimeStep) -> bool:
    """Whether the episode is over; the base class takes 11 us to say so."""
    return int(current_time_step.step_type) == 2  # ts.StepType.LAST

  def render(self, mode: str = 'rgb_array') -> Any:
    """Renders; 'rgb_array' returns uint8 [height, width, 3].

    Raises:
      ValueError: if the environment was made for another mode.
    """
    if mode != self._env.render_mode:
      raise ValueError(
        f'{self._name} was made with render_mode={self._env.render_mode!r}; '
        f'make it with render_mode={mode!r}'
      )
    return self._env.render()

  def close(self) -> None:
    """Frees what the environment holds."""
    self._env.close()

  def seed(self, seed: int) -> None:
    """Makes the next step the start of the seed's first game."""
    self._seed = seed
    self._games = 0  # Begun so far.
    self._actions: list[np.ndarray] = []  # Of the game that is running.
    self._current_time_step = None

  def check(self) -> None:
    """Tries a reset and a step; the next step begins the first game again.

    Raises:
      FaultyEnvironmentError: if one of them raises an error or returns what it
        should not.
      NotFiniteError: for NaN or Inf in one of them.
    """
    self.reset()
    self.step(np.zeros(self._action_spec.shape, self._action_spec.dtype))
    self.seed(self._seed)
    self._num_steps, self._episode_return = 0, None

  def get_state(self) -> dict[str, Any]:
    """What it takes to be here again: numbers, lists and texts, as in JSON."""
    now: ts.TimeStep | None = self._current_time_step
    return {
      'seed': self._seed,
      'games': self._games,
      'num_steps': self._num_steps,
      'actions': np.asarray(self._actions).tolist(),
      'step_type': now and int(now.step_type),
      'observation': now and _digest(now.observation),
    }

  def set_state(self, state: dict[str, Any]) -> None:
    """Plays the running game again up to where `get_state` was called.

    Args:
      state: from an environment that was made in the same way.

    Raises:
      ValueError: if the game comes out differently; the next step then begins
        the game after it.
    """
    self.seed(state['seed'])
    self._games = state['games']
    if state['step_type'] is not None:
      self._games -= 1
      now = self.reset()
      for action in np.asarray(state['actions'], self._action_spec.dtype):
        now = self.reset() if self.should_reset(now) else now
        now = self.step(action)
      if state['step_type'] == ts.StepType.FIRST and self.should_reset(now):
        now = self.reset()
      if _digest(now.observation) != state['observation']:
        self._current_time_step = None
        raise ValueError(
          f'{self._name} does not come back to where it was: with the same '
          'seed and actions it makes other observations'
        )
    self._num_steps = state['num_steps']

  def _reset(self) -> ts.TimeStep:
    now = self._current_time_step
    goes_on = self._has_lives and self._env.get_wrapper_attr('goes_on')
    if now is not None and goes_on:
      seed = None
    else:
      seed = self._seed_of(self._games)
      self._games += 1
      self._actions.clear()
    try:
      start, _ = self._env.reset(seed=seed)
      observation = self._checked(start)
    except Exception as error:
      raise self._fault(error, _RESET_RULE) from error
    self._raise_if_not_finite(observation=observation)
    return ts.restart(observation)

  def _seed_of(self, game: int) -> int:
    """Of the first game the seed itself, as in gymnasium."""
    if game == 0:
      return self._seed
    (word,) = np.random.SeedSequence([self._seed, game]).generate_state(1)
    return int(word) >> 1  # Some environments take 31 bits.

  def _step(self, action: np.ndarray) -> ts.TimeStep:
    self._num_steps += 1
    self._actions.append(np.array(action))
    try:
      raw, reward, terminated, truncated, info = self._env.step(
        self._to_env_action(action)
      )
      if self._has_scores and 'episode' in info:
        self._episode_return = float(info['episode']['r'])
      observation = self._checked(raw)
      reward = np.asarray(reward, np.float32)
      if reward.ndim:
        reward = _only_reward(reward)
      is_last = bool(terminated or truncated)
    except Exception as error:
      raise self._fault(error, _STEP_RULE) from error
    if self._spread is not None:
      self._watch_spread(raw)
    # x . x is NaN or Inf if any element is, and is cheaper than isfinite(x);
    # large numbers overflow it too, therefore the method looks again.
    if not math.isfinite(reward) or not (
      self._is_image or math.isfinite(np.vdot(observation, observation))
    ):
      self._raise_if_not_finite(
        action=action, observation=observation, reward=reward
      )
    is_terminal = terminated or (truncated and self._timeout_is_terminal)
    return ts.TimeStep(
      ts.StepType.LAST if is_last else ts.StepType.MID,
      reward,
      _TERMINAL if is_terminal else _CONTINUE,
      observation,
    )

  def _checked(self, observation: Any) -> np.ndarray:
    """A copy, as some environments write the next one into the same array."""
    if isinstance(observation, dict):
      raise ValueError(
        'an observation is a dict; the observation space says '
        f'{self._env.observation_space}'
      )
    copy = np.array(observation, self._dtype)
    if copy.shape != self._shape:
      raise ValueError(
        f'an observation has the shape {copy.shape}; the observation space '
        f'says {self._shape}'
      )
    return copy

  def _watch_spread(self, observation: Any) -> None:
    """Warns, once, of features that float32 cannot hold."""
    assert self._spread is not None
    self._spread.add(np.asarray(observation)[np.newaxis])
    if self._num_steps >= _SPREAD_STEPS:
      if self._name not in _warned:
        _warned.add(self._name)
        self._spread.warn(self._name)
      self._spread = None

  def _fault(
    self, error: Exception, rule: str
  ) -> faults.FaultyEnvironmentError:
    """What went wrong in the environment; the rule if it did not itself."""
    message = f'{self._name}: {faults.describe_error(error)}'
    if faults.place(error) is None:
      message += f'; {rule}'
    return faults.FaultyEnvironmentError(message)

  def _raise_if_not_finite(self, **tensors: np.ndarray) -> None:
    """Names the first tensor with NaN or Inf: the action before its effects."""
    for name, tensor in tensors.items():
      if not np.isfinite(tensor).all():
        raise NotFiniteError(
          f'{self._name}: NaN or Inf in the {name} of step {self._num_steps}',
          tensors,
        )


def _layers(env: gymnasium.Env) -> Iterator[gymnasium.Env]:
  """The environment's wrappers, the outermost first, and what they wrap."""
  while isinstance(env, gymnasium.Wrapper):
    yield env
    env = env.env
  yield env


def _only_reward(reward: np.ndarray) -> np.ndarray:
  if reward.size != 1:
    raise ValueError(
      f'a reward has the shape {reward.shape} and must be one number'
    )
  return reward.reshape([])


def _any_seed() -> int:
  return int(np.random.default_rng().integers(2**31))


def _digest(observation: np.ndarray) -> str:
  return hashlib.sha256(observation.tobytes()).hexdigest()
