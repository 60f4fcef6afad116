"""A gymnasium environment as a TF-Agents PyEnvironment."""

import functools
import hashlib
import math
import operator
from collections.abc import Iterator
from typing import Any

import gymnasium
import numpy as np
import tree
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

_LONGEST_EPISODE = 100_000  # Steps, without a time limit.

_SPREAD_STEPS = 1000  # After which the observations' spread is checked.
_checked_spreads: set[str] = set()  # Names of environments.


class NotFiniteError(FloatingPointError):
  """NaN or Inf in an environment's action, observation or reward.

  Attributes:
    tensors: {name: array} of the step.
  """

  def __init__(self, message, tensors: dict[str, np.ndarray] | None = None):
    """Takes a message, or an error of this class to copy.

    gymnasium raises the errors of its worker processes anew in this way.
    """
    super().__init__(str(message))
    self.tensors = tensors or getattr(message, 'tensors', {})


class GymnasiumWrapper(py_environment.PyEnvironment):
  """A PyEnvironment around a gymnasium environment.

  The discount is 0 on a terminal step and 1 elsewhere; γ is the agent's. A
  step is LAST when the episode is terminated or truncated, and the next call
  of `step` then resets and ignores its action (gymnasium's NEXT_STEP).

  Every game (episode, but for lost lives) has a seed of its own, made of the
  environment's seed and the game's number. `get_state` returns the game's seed
  and its actions, from which `set_state` plays it again.

  NaN or Inf in an observation or a reward raises NotFiniteError, an error of
  the environment's code or a break of gymnasium's API FaultyEnvironmentError.

  Attributes:
    env: the gymnasium environment.
    timeout_is_terminal: whether the discount is 0 at a time limit, too.
    to_env_action: maps an agent's action to the environment's units.
    episode_return: of the last episode, by gymnasium's RecordEpisodeStatistics
      (of unclipped rewards within a ClipReward); None without it.
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
      env: with spaces that `spaces.entries` and `spaces.action_spec` take.
      seed: of the first game; later games' seeds derive from it. None draws
        one.
      timeout_is_terminal: as in QWR's published code: values then depend on an
        unobserved clock.

    Raises:
      ValueError: for other spaces; names the space and a wrapper to use.
    """
    super().__init__(handle_auto_reset=True)
    self.env = env
    self.timeout_is_terminal = timeout_is_terminal
    self.episode_return: float | None = None
    self._name = env.spec.id if env.spec else type(env.unwrapped).__name__
    if seed is None:
      seed = int(np.random.default_rng().integers(2**31))
    self.seed(seed)
    self._has_lives = env.has_wrapper_attr('goes_on')
    self._has_scores = any(
      isinstance(e, gymnasium.wrappers.RecordEpisodeStatistics)
      for e in _layers(env)
    )
    self._num_steps = 0
    try:
      self._observation_spec = spaces.observation_spec(env.observation_space)
      self._action_spec = spaces.action_spec(env.action_space)
    except ValueError as error:
      raise ValueError(f'{self._name}: {error}') from error
    self.to_env_action = spaces.action_map(env.action_space)
    self._checked = spaces.observation_map(env.observation_space)
    # Without entries the check for NaN and Inf needs no loop.
    self._is_nested = isinstance(self._observation_spec, dict)
    entries = spaces.entries(env.observation_space)
    self._first_entry = entries[0]
    self._floats = [e for e in entries if e.spec.dtype == np.float32]
    self._spreads = [
      (entry, Float32Spread())
      for entry in self._floats
      if not np.can_cast(entry.space.dtype, np.float32)
    ]

  @property
  def max_episode_steps(self) -> int | None:
    """Steps after which an episode ends; None if there is no limit."""
    limit = self.env.spec.max_episode_steps if self.env.spec else None
    return limit or getattr(self.env.unwrapped, 'max_episode_steps', None)

  @property
  def longest_episode(self) -> int:
    """Steps within which an episode ends: the time limit, or 100,000."""
    return self.max_episode_steps or _LONGEST_EPISODE

  def observation_spec(self) -> Any:
    """Describes observations: one array, or {entry: array}."""
    return self._observation_spec

  def action_spec(self) -> array_spec.BoundedArraySpec:
    """Describes actions: int32 from 0, or a float32 vector in [-1, 1]."""
    return self._action_spec

  def batch(self, observations: Any) -> tuple[Any, bool]:
    """Observations of `env` as the agent's.

    Args:
      observations: one, or a batch: of arrays, or a Dict or Tuple of these.

    Returns:
      (array or nest of arrays [B, ...], whether a batch was given).
    """
    space = self.env.observation_space
    _, keys, _, spec = self._first_entry
    try:
      value = functools.reduce(operator.getitem, keys, observations)
      is_batch = np.ndim(value) > len(spec.shape)
    except (LookupError, TypeError):  # `_checked` says what is missing.
      is_batch = False
    rows = spaces.rows(space, observations) if is_batch else [observations]
    each = map(self._checked, rows)
    return tree.map_structure(lambda *x: np.stack(x), *each), is_batch

  def clipped(self, rewards: np.ndarray) -> np.ndarray:
    """Rewards [N] of logged steps, clipped as in this environment.

    Other wrappers of rewards are not applied: logged rewards may have passed
    them, and only clipping may be repeated.
    """
    for env in _layers(self.env):
      if isinstance(env, gymnasium.wrappers.ClipReward):
        rewards = np.asarray(env.func(rewards))
    return rewards

  def should_reset(self, current_time_step: ts.TimeStep) -> bool:
    """True if the episode is over; the base class needs 11 us for it."""
    return int(current_time_step.step_type) == 2  # ts.StepType.LAST

  def render(self, mode: str = 'rgb_array') -> Any:
    """Renders; 'rgb_array' returns uint8 [height, width, 3].

    Raises:
      ValueError: if the environment was made for another mode.
    """
    if mode != self.env.render_mode:
      raise ValueError(
        f'{self._name} was made with render_mode={self.env.render_mode!r}; '
        f'make it with render_mode={mode!r}'
      )
    return self.env.render()

  def close(self) -> None:
    """Frees the environment's resources."""
    self.env.close()

  def seed(self, seed: int) -> None:
    """Makes the next step the start of the seed's first game."""
    self._seed = seed
    self._games = 0  # Number of games begun.
    self._actions: list[np.ndarray] = []  # Of the running game.
    self._current_time_step = None

  def check(self) -> None:
    """Tries a reset and a step; the next step begins the first game again.

    Raises:
      FaultyEnvironmentError: for an error, a break of gymnasium's API, NaN or
        Inf in one of them.
    """
    try:
      self.reset()
      self.step(np.zeros(self._action_spec.shape, self._action_spec.dtype))
    except NotFiniteError as error:
      raise faults.FaultyEnvironmentError(str(error)) from error
    self.seed(self._seed)
    self._num_steps, self.episode_return = 0, None

  def get_state(self) -> dict[str, Any]:
    """The state as numbers, lists and texts, as in JSON."""
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
    """Plays the running game again up to the call of `get_state`.

    Args:
      state: of an environment that was made in the same way.

    Raises:
      ValueError: if the observation differs; the next step then begins the
        next game.
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
    goes_on = self._has_lives and self.env.get_wrapper_attr('goes_on')
    if now is not None and goes_on:
      seed = None
    else:
      seed = self._seed_of(self._games)
      self._games += 1
      self._actions.clear()
    info: Any = {}
    try:
      start, info = self.env.reset(seed=seed)
      observation = self._checked(start)
    except Exception as error:
      raise self._fault(error, _RESET_RULE, info) from error
    self._raise_if_not_finite(observation=observation)
    return ts.restart(observation)

  def _seed_of(self, game: int) -> int:
    """The environment's seed for the first game, as in gymnasium."""
    if game == 0:
      return self._seed
    (word,) = np.random.SeedSequence([self._seed, game]).generate_state(1)
    return int(word) >> 1  # Some environments take 31 bits.

  def _step(self, action: np.ndarray) -> ts.TimeStep:
    self._num_steps += 1
    self._actions.append(np.array(action))
    info: Any = {}
    try:
      raw, reward, terminated, truncated, info = self.env.step(
        self.to_env_action(action)
      )
      if self._has_scores and 'episode' in info:
        self.episode_return = float(info['episode']['r'])
      observation = self._checked(raw)
      reward = np.asarray(reward, np.float32).reshape([])
      is_last = bool(terminated or truncated)
    except Exception as error:
      raise self._fault(error, _STEP_RULE, info) from error
    if self._spreads:
      self._watch_spread(raw)
    if not math.isfinite(reward) or not self._seems_finite(observation):
      self._raise_if_not_finite(
        action=action, observation=observation, reward=reward
      )
    is_terminal = terminated or (truncated and self.timeout_is_terminal)
    return ts.TimeStep(
      ts.StepType.LAST if is_last else ts.StepType.MID,
      reward,
      _TERMINAL if is_terminal else _CONTINUE,
      observation,
    )

  def _seems_finite(self, observation: Any) -> bool:
    """False for NaN, Inf and numbers that are large enough to overflow.

    x . x is NaN or Inf if any element is, and is cheaper than isfinite(x).
    """
    if not self._is_nested:
      return not self._floats or math.isfinite(
        np.vdot(observation, observation)
      )
    floats = (observation[entry.name] for entry in self._floats)
    return all(math.isfinite(np.vdot(x, x)) for x in floats)

  def _watch_spread(self, observation: Any) -> None:
    """Warns, once, of features that float32 cannot hold."""
    for entry, spread in self._spreads:
      value = functools.reduce(operator.getitem, entry.keys, observation)
      spread.add(np.asarray(value)[np.newaxis])
    if self._num_steps >= _SPREAD_STEPS:
      if self._name not in _checked_spreads:
        for entry, spread in self._spreads:
          spread.warn(f'{self._name} {entry.name}'.rstrip())
      _checked_spreads.add(self._name)
      self._spreads = []

  def _fault(
    self, error: Exception, rule: str, info: Any
  ) -> faults.FaultyEnvironmentError:
    """The error, and the API's rule if what was returned breaks it."""
    message = f'{self._name}: {faults.describe_error(error)}'
    is_raised = faults.place(error) is not None  # By the user's code.
    if not is_raised and ('unpack' in message or not isinstance(info, dict)):
      message += f'; {rule}'
    return faults.FaultyEnvironmentError(message)

  def _raise_if_not_finite(self, observation: Any, **others: Any) -> None:
    """Raises NotFiniteError that names the first tensor with NaN or Inf.

    The action comes before its effects.
    """
    seen = {'observation': observation}
    if self._is_nested:
      seen = {f'observation {k}': v for k, v in observation.items()}
    tensors = {**others, **seen}
    for name, tensor in tensors.items():
      if not np.isfinite(tensor).all():
        raise NotFiniteError(
          f'{self._name}: NaN or Inf in the {name} of step {self._num_steps}',
          tensors,
        )


def _layers(env: gymnasium.Env) -> Iterator[gymnasium.Env]:
  """The environment's wrappers, the outermost first, and the innermost env."""
  while isinstance(env, gymnasium.Wrapper):
    yield env
    env = env.env
  yield env


def _digest(observation: Any) -> str:
  arrays = tree.flatten(observation)
  return hashlib.sha256(b''.join(x.tobytes() for x in arrays)).hexdigest()
