"""A gymnasium environment as a TF-Agents PyEnvironment."""

import math
from typing import Any

import gymnasium
import numpy as np
from tf_agents.environments import py_environment
from tf_agents.specs import array_spec
from tf_agents.trajectories import time_step as ts

from qwr_tf.environments import spaces

_CONTINUE = np.asarray(1.0, np.float32)
_TERMINAL = np.asarray(0.0, np.float32)


class GymnasiumWrapper(py_environment.PyEnvironment):
  """Presents a gymnasium environment to TF-Agents, which knows only gym.

  The discount is 0 on a terminal step and 1 elsewhere; γ is the agent's. A
  step is LAST when the episode is terminated or truncated, and the next call
  of `step` then resets and ignores its action (gymnasium's NEXT_STEP). NaN or
  Inf in an observation or a reward raises FloatingPointError.
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
      seed: for the first reset; later resets continue its random numbers.
      timeout_is_terminal: whether the discount is 0 at a time limit too, as
        in QWR's published code: values then depend on an unseen clock.

    Raises:
      ValueError: for other spaces; names the space and a wrapper to use.
    """
    super().__init__(handle_auto_reset=True)
    self._env = env
    self._name = env.spec.id if env.spec else type(env.unwrapped).__name__
    self._seed = seed
    self._timeout_is_terminal = timeout_is_terminal
    self._num_steps = 0
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

  def observation_spec(self) -> array_spec.ArraySpec:
    """Describes observations: uint8 or float32."""
    return self._observation_spec

  def action_spec(self) -> array_spec.BoundedArraySpec:
    """Describes actions: int32 from 0, or float32 in [-1, 1]."""
    return self._action_spec

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

  def _reset(self) -> ts.TimeStep:
    seed, self._seed = self._seed, None
    observation = np.array(self._env.reset(seed=seed)[0], self._dtype)
    self._raise_if_not_finite(observation=observation)
    return ts.restart(observation)

  def _step(self, action: np.ndarray) -> ts.TimeStep:
    self._num_steps += 1
    observation, reward, terminated, truncated, _ = self._env.step(
      self._to_env_action(action)
    )
    # Copies: some environments write the next one into the same array.
    observation = np.array(observation, self._dtype)
    reward = np.asarray(reward, np.float32)
    # x . x is NaN or Inf if any element is, and costs a third of isfinite(x);
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
        raise FloatingPointError(
          f'{self._name}: NaN or Inf in the {name} of step {self._num_steps}'
        )
