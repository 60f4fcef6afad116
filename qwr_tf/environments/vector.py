"""Several environments stepped together by gymnasium's vector environments."""

import multiprocessing
import signal
from collections.abc import Callable, Sequence
from typing import Any

import gymnasium
import numpy as np
import tree
from absl import logging
from tf_agents.trajectories import time_step as ts

from qwr_tf.environments import faults
from qwr_tf.environments.gymnasium_wrapper import GymnasiumWrapper


def seed_of(seed: int, number: int) -> int:
  """The seed of the environment with a number; number 0 has `seed` itself."""
  if number == 0:
    return seed
  # Three words: `GymnasiumWrapper` makes the seeds of its games from two.
  (word,) = np.random.SeedSequence([seed, number, 1]).generate_state(1)
  return int(word) >> 1


class _Player(gymnasium.Env):
  """A GymnasiumWrapper, which seeds its games, with gymnasium's interface."""

  def __init__(self, wrapper: GymnasiumWrapper):
    self._wrapper = wrapper
    self.observation_space = _space(wrapper.observation_spec())
    self.action_space = _space(wrapper.action_spec())
    self.longest_episode = wrapper.longest_episode
    if multiprocessing.parent_process() is not None:
      # Ctrl-C reaches the whole process group; the parent ends this process.
      signal.signal(signal.SIGINT, signal.SIG_IGN)

  def reset(self, *, seed=None, options=None):
    if seed is not None:
      self._wrapper.seed(seed)
    return self._wrapper.reset().observation, {}

  def step(self, action):
    now = self._wrapper.step(np.asarray(action, self.action_space.dtype))
    is_last = now.step_type == ts.StepType.LAST
    is_terminal = bool(is_last and now.discount == 0.0)
    score = self._wrapper.episode_return
    info = {'score': score} if is_last and score is not None else {}
    is_cut = bool(is_last) and not is_terminal
    return now.observation, float(now.reward), is_terminal, is_cut, info

  @property
  def game(self) -> tuple[dict[str, Any], ts.TimeStep]:
    return self._wrapper.get_state(), self._wrapper.current_time_step()

  @game.setter
  def game(self, state: dict[str, Any]) -> None:
    try:
      self._wrapper.set_state(state)
    except ValueError as error:
      logging.warning('%s. A new episode begins.', error)
      self._wrapper.reset()

  def close(self):
    self._wrapper.close()


class VectorEnvironment:
  """N environments; a step after the end of an episode resets (NEXT_STEP).

  Time steps are batches of arrays [N, ...]; an episode's final observation is
  that of its LAST step.

  Attributes:
    num_envs: N.
    longest_episode: as in `GymnasiumWrapper`.
    scores: {number of an environment: return}, of the episodes that ended with
      the newest step, where environments count them.
  """

  def __init__(
    self,
    env_fns: Sequence[Callable[[], GymnasiumWrapper]],
    *,
    mode: str = 'async',
  ):
    """Makes the environments.

    Args:
      env_fns: each makes one environment.
      mode: 'async' steps each in a process of its own, for simulators that need
        more than about 0.2 ms a step; 'sync' steps them in this process.
    """
    fns = [lambda fn=fn: _Player(fn()) for fn in env_fns]
    next_step = gymnasium.vector.AutoresetMode.NEXT_STEP
    vector: Any
    if mode == 'sync':
      vector = gymnasium.vector.SyncVectorEnv(fns, autoreset_mode=next_step)
    else:
      # Forked: registered environments and gin's bindings come along, and
      # TensorFlow, which the processes do not call, is imported once.
      vector = gymnasium.vector.AsyncVectorEnv(
        fns, autoreset_mode=next_step, context='fork'
      )
    self._vector = vector
    self.num_envs = len(fns)
    self.longest_episode = self._call(vector.get_attr, 'longest_episode')[0]
    self.scores: dict[int, float] = {}
    self._step_type = np.full(self.num_envs, ts.StepType.LAST)

  def reset(
    self, *, seeds: Sequence[int] | None = None, mask: np.ndarray | None = None
  ) -> ts.TimeStep:
    """Begins the next games.

    Args:
      seeds: of the environments, whose first games begin then.
      mask: bool [N], environments to reset; the others stay where they are.
        Default: all.
    """
    options = None if mask is None else {'reset_mask': mask}
    observation, _ = self._call(
      self._vector.reset, seed=seeds and list(seeds), options=options
    )
    is_reset = np.ones(self.num_envs, bool) if mask is None else mask
    self._step_type = np.where(is_reset, ts.StepType.FIRST, self._step_type)
    start = ts.restart(observation, batch_size=self.num_envs)
    return start._replace(step_type=self._step_type.astype(np.int32))

  def step(self, actions: np.ndarray) -> ts.TimeStep:
    """Steps all environments.

    Raises:
      FaultyEnvironmentError: as in `GymnasiumWrapper`, and for a process that
        was killed.
    """
    # Lists and floats pass through a pipe in a tenth of an array's time.
    observation, rewards, terminated, truncated, infos = self._call(
      self._vector.step, actions.tolist()
    )
    middle = np.where(
      self._step_type == ts.StepType.LAST, ts.StepType.FIRST, ts.StepType.MID
    )
    is_last = terminated | truncated
    self._step_type = np.where(is_last, ts.StepType.LAST, middle)
    self.scores = {}
    if 'score' in infos:
      scored = np.flatnonzero(infos['_score'])
      self.scores = {int(i): float(infos['score'][i]) for i in scored}
    return ts.TimeStep(
      self._step_type.astype(np.int32),
      rewards.astype(np.float32),
      1.0 - terminated.astype(np.float32),
      observation,
    )

  def get_state(self) -> list[dict[str, Any]]:
    """States of the environments, as `GymnasiumWrapper.get_state`."""
    return [state for state, _ in self._call(self._vector.get_attr, 'game')]

  def set_state(self, states: Sequence[dict[str, Any]]) -> ts.TimeStep:
    """Plays the running games again; returns where they were.

    An environment that does not come back to its state begins a new episode,
    with a warning.
    """
    self._call(self._vector.set_attr, 'game', list(states))
    steps = [step for _, step in self._call(self._vector.get_attr, 'game')]
    now = tree.map_structure(lambda *x: np.stack(x), *steps)
    self._step_type = now.step_type
    return now

  def close(self) -> None:
    """Ends the processes."""
    self._vector.close()

  def _call(self, method: Callable, *args, **kwargs):
    logger: Any = gymnasium.logger
    level, logger.min_level = logger.min_level, 50  # Prints nothing.
    try:
      return method(*args, **kwargs)
    except (EOFError, ConnectionError) as error:
      raise faults.FaultyEnvironmentError(
        'The process of an environment was killed; Collector.num_environments '
        'processes may need more memory than there is.'
      ) from error
    finally:
      logger.min_level = level


def _space(spec: Any) -> gymnasium.Space:
  if isinstance(spec, dict):
    return gymnasium.spaces.Dict({k: _space(s) for k, s in spec.items()})
  unbounded = (0, 255) if spec.dtype == np.uint8 else (-np.inf, np.inf)
  low, high = (
    np.full(spec.shape, getattr(spec, name, bound), spec.dtype)
    for name, bound in zip(('minimum', 'maximum'), unbounded, strict=True)
  )
  return gymnasium.spaces.Box(low, high, spec.shape, spec.dtype.type)
