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

from qwr_tf.environments import spaces

_CONTINUE = np.asarray(1.0, np.float32)
_TERMINAL = np.asarray(0.0, np.float32)


class NotFiniteError(FloatingPointError):
  """NaN or Inf in what an environment was given or made.

  Attributes:
    tensors: action, observation and reward, those that are known.
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

  Every game has a seed of its own, made of the environment's seed and the
  game's number. So a game is known by its seed and its actions: `get_state`
  hands them out, `set_state` plays them again.
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
    self._is_image = self._dtype == np.uint8

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
    """Steps after which an episode is cut; None if there is no limit."""
    return self._env.spec.max_episode_steps if self._env.spec else None

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
    start = self._env.reset(seed=seed)[0]
    if isinstance(start, dict):
      raise ValueError(
        f'{self._name} starts with a dict; its observation space says '
        f'{self._env.observation_space}'
      )
    observation = np.array(start, self._dtype)
    if observation.shape != self._observation_spec.shape:
      raise ValueError(
        f'{self._name} starts with an observation of shape '
        f'{observation.shape}; its observation space says '
        f'{self._observation_spec.shape}'
      )
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
    observation, reward, terminated, truncated, info = self._env.step(
      self._to_env_action(action)
    )
    if self._has_scores and 'episode' in info:
      self._episode_return = float(info['episode']['r'])
    # Copies: some environments write the next one into the same array.
    observation = np.array(observation, self._dtype)
    reward = np.asarray(reward, np.float32)
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
      ts.StepType.LAST if terminated or truncated else ts.StepType.MID,
      reward,
      _TERMINAL if is_terminal else _CONTINUE,
      observation,
    )

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


def _any_seed() -> int:
  return int(np.random.default_rng().integers(2**31))


def _digest(observation: np.ndarray) -> str:
  return hashlib.sha256(observation.tobytes()).hexdigest()
