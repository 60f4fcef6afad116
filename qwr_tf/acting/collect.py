"""Collection: interactions with the newest policy (Algorithm 2, line 5)."""

import dataclasses
import time
from collections.abc import Mapping
from typing import Any

import gin
import numpy as np
import tensorflow as tf
from absl import logging
from tf_agents.trajectories import time_step as ts
from tf_agents.trajectories import trajectory

from qwr_tf.acting import interrupts
from qwr_tf.acting import numpy_actor
from qwr_tf.config.errors import ConfigError
from qwr_tf.config.ranges import PositiveInt
from qwr_tf.policies import behavior_policy


@dataclasses.dataclass
class Collected:
  """Counts of one call of a collector.

  Attributes:
    interactions: steps taken in the environment.
    episode_returns: of the episodes that ended; undiscounted, before reward
      clipping if the environment records that.
    seconds: wall clock.
  """

  interactions: int
  episode_returns: list[float]
  seconds: float


@gin.configurable
class Collector:
  """Acts in one environment and appends rows, with mu, to a replay table."""

  def __init__(
    self,
    env,
    agent,
    table,
    *,
    seed: int,
    env_steps: PositiveInt = 1000,
    first_env_steps: PositiveInt | None = None,
    whole_episodes: bool = False,
    on_policy: bool = False,
    update_normalizer: bool = True,
  ):
    """Stores the arguments; the environment is reset at the first call.

    Args:
      env: a PyEnvironment.
      agent: its acting network acts and its normaliser is updated.
      table: a `replay.ReplayTable`.
      seed: of the sampled actions.
      env_steps: interactions per call.
      first_env_steps: interactions of the first call, for a fuller table at the
        start (DQN). None: env_steps. Raised to 2, because a step can be sampled
        only once the next row exists.
      whole_episodes: whether a call goes on to the end of the episode.
      on_policy: whether the table holds the newest call's rows alone (RWR,
        AWR's ablation). Needs whole_episodes and capacity for any call.
      update_normalizer: False if a learner in another process does it.

    Raises:
      ConfigError: for on_policy, if an iteration would not fit in the table;
        without a time limit a call raises it.
    """
    self._env = env
    self._agent = agent
    self._table = table
    self._env_steps = env_steps
    self._next_env_steps = max(first_env_steps or env_steps, 2)
    self._whole_episodes = whole_episodes
    self._on_policy = on_policy
    self._update_normalizer = update_normalizer
    self._rng = np.random.default_rng(seed)
    self._act = numpy_actor.NumpyActor(agent.acting_network)
    self._time_step: Any = None  # Reset at the first call.
    self._return = 0.0
    if on_policy:
      self._check_on_policy()

  def _check_on_policy(self) -> None:
    """Raises ConfigError if the longest call would not fit in the table."""
    if not self._whole_episodes:
      raise ConfigError(
        'Collector.on_policy needs Collector.whole_episodes = True: clearing '
        'the table would lose the start of an unfinished episode.'
      )
    limit = getattr(self._env, 'max_episode_steps', None)
    if limit is not None:
      wanted = max(self._env_steps, self._next_env_steps)
      self._check_capacity(wanted + limit - 1)

  def _check_capacity(self, interactions: int) -> None:
    if self._table.capacity < interactions:
      raise ConfigError(
        f'Collector.on_policy: {interactions} interactions of an iteration do '
        f'not fit in a table of {self._table.capacity}; set '
        f'run.replay_capacity = {interactions} or more.'
      )

  def _check_stored(self, interactions: int) -> None:
    stored = int(self._table.num_frames())
    if stored != interactions:
      raise ConfigError(
        f'Collector.on_policy: only {stored} of {interactions} interactions '
        'fit, because final observations take rows too; raise '
        'ReplayTable.rows_per_interaction (2 always suffices).'
      )

  @property
  def env_steps(self) -> int:
    """Interactions per call after the first."""
    return self._env_steps

  def __call__(self) -> Collected:
    """Collects one iteration's interactions."""
    start = time.perf_counter()
    self._act.refresh()
    if self._time_step is None:
      self._time_step = self._env.reset()
    frames: list[tuple] = []
    returns: list[float] = []
    interactions = 0
    wanted, self._next_env_steps = self._next_env_steps, self._env_steps
    while interactions < wanted or (
      self._whole_episodes and self._time_step.step_type != ts.StepType.FIRST
    ):
      interactions += self._step(frames, returns)
      if interactions > wanted:
        self._check_wait(interactions, interactions - wanted)
    # If the episode just ended, add the row of its final observation.
    if self._time_step.step_type == ts.StepType.LAST:
      self._step(frames, returns)
    if self._on_policy:
      self._check_capacity(interactions)
      self._table.clear()
    self._store(frames)
    if self._on_policy:
      self._check_stored(interactions)
    return Collected(interactions, returns, time.perf_counter() - start)

  def _check_wait(self, interactions: int, waited: int) -> None:
    """Stops the wait for the end of an episode that may have none."""
    interrupts.check()
    if self._on_policy:
      self._check_capacity(interactions)
    if waited > getattr(self._env, 'longest_episode', np.inf):
      raise ConfigError(
        f'Collector.whole_episodes: an episode has not ended in {waited} '
        'steps; set load_environment.max_episode_steps.'
      )

  def state(self) -> dict[str, Any]:
    """Random state, counts and the running episode, for a checkpoint."""
    has_begun = self._time_step is not None
    return {
      'rng': self._rng.bit_generator.state,
      'next_env_steps': self._next_env_steps,
      'episode_return': self._return,
      'environment': self._env.get_state() if has_begun else None,
    }

  def restore(self, state: Mapping[str, Any]) -> None:
    """Restores what `state` returned.

    If the environment cannot replay its episode, a new one begins, with a
    warning; the table ends the old episode as a time limit would.
    """
    self._rng.bit_generator.state = state['rng']
    self._next_env_steps = state['next_env_steps']
    self._return, self._time_step = 0.0, None
    if state['environment'] is None:
      return
    try:
      self._env.set_state(state['environment'])
    except ValueError as error:
      logging.warning('%s. A new episode begins.', error)
      return
    self._return = state['episode_return']
    self._time_step = self._env.current_time_step()

  def _step(self, frames: list[tuple], returns: list[float]) -> int:
    """Takes a step and adds its frame; returns the interactions, 0 or 1."""
    time_step = self._time_step
    action, params = self._act(time_step.observation, self._rng)
    next_time_step = self._env.step(action)
    frames.append((time_step, action, params, next_time_step))
    self._time_step = next_time_step
    if time_step.step_type == ts.StepType.LAST:
      return 0
    self._return += float(next_time_step.reward)
    if next_time_step.step_type == ts.StepType.LAST:
      # Before reward clipping, if the environment records that.
      score = getattr(self._env, 'episode_return', None)
      returns.append(self._return if score is None else score)
      self._return = 0.0
    return 1

  def _store(self, frames: list[tuple]) -> None:
    normalizer = None
    if self._update_normalizer:
      normalizer = self._agent.acting_network.normalizer
    max_rows = self._table.capacity  # Of one `append`.
    for first in range(0, len(frames), max_rows):
      rows = _stack(frames[first : first + max_rows])
      self._table.append(rows)
      if normalizer is not None:
        normalizer.update(rows.observation)


def _stack(frames: list[tuple]) -> trajectory.Trajectory:
  """Frames (time_step, action, params, next time_step) to rows [N, ...]."""
  time_steps, action, params, next_time_steps = zip(*frames, strict=True)

  def stack(values: Any, dtype=None) -> tf.Tensor:
    return tf.constant(np.asarray(values, dtype))

  return trajectory.Trajectory(
    step_type=stack([t.step_type for t in time_steps], np.int32),
    observation=stack([t.observation for t in time_steps]),
    action=stack(action),
    policy_info={
      behavior_policy.DIST_PARAMS: {
        name: stack([p[name] for p in params]) for name in params[0]
      }
    },
    next_step_type=stack([t.step_type for t in next_time_steps], np.int32),
    reward=stack([t.reward for t in next_time_steps], np.float32),
    discount=stack([t.discount for t in next_time_steps], np.float32),
  )
