"""Line 5 of Algorithm 2: interactions with the newest policy."""

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
from qwr_tf.policies import behavior_policy


@dataclasses.dataclass
class Collected:
  """What one call of a collector did.

  Attributes:
    interactions: steps taken in the environment.
    episode_returns: undiscounted, of the episodes that ended; of unclipped
      rewards where the environment counts them.
    seconds: wall clock.
  """

  interactions: int
  episode_returns: list[float]
  seconds: float


@gin.configurable
class Collector:
  """Acts in one environment and appends frames, with mu, to the table."""

  def __init__(
    self,
    env,
    agent,
    table,
    *,
    seed: int,
    env_steps: int = 1000,
    first_env_steps: int | None = None,
    whole_episodes: bool = False,
    on_policy: bool = False,
    update_normalizer: bool = True,
  ):
    """Gets ready; the environment is reset at the first call.

    Args:
      env: a PyEnvironment.
      agent: its actor acts and its normaliser sees what is collected.
      table: a `replay.ReplayTable`.
      seed: of the sampled actions.
      env_steps: interactions per call.
      first_env_steps: the same for the first call, to start with a fuller
        table (DQN); None is env_steps. Two at least: a step can be drawn once
        there is a row after it.
      whole_episodes: go on from there to the end of the episode.
      on_policy: the table holds what the newest call made and nothing older
        (RWR, AWR's ablation); its capacity has to suffice for any call. Needs
        whole_episodes.
      update_normalizer: off where a learner elsewhere does it.

    Raises:
      ConfigError: for on_policy, if an iteration would be cut; a call raises
        it where that is not known before.
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
    """Raises ConfigError if the longest call would be cut."""
    if not self._whole_episodes:
      raise ConfigError(
        'Collector.on_policy needs Collector.whole_episodes = True: of an '
        'episode that went on, the table would forget the beginning.'
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

  def _check_kept(self, interactions: int) -> None:
    kept = int(self._table.num_frames())
    if kept != interactions:
      raise ConfigError(
        f'Collector.on_policy: the table keeps {kept} of {interactions} '
        'interactions, as final observations take rows, too; raise '
        'ReplayTable.rows_per_interaction (2 always suffices).'
      )

  @property
  def env_steps(self) -> int:
    """Interactions per call, but for the first."""
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
    # An episode that just ended still owes its final frame.
    if self._time_step.step_type == ts.StepType.LAST:
      self._step(frames, returns)
    if self._on_policy:
      self._check_capacity(interactions)
      self._table.clear()
    self._store(frames)
    if self._on_policy:
      self._check_kept(interactions)
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
    """Random numbers, counts and the running episode, for a checkpoint."""
    has_begun = self._time_step is not None
    return {
      'rng': self._rng.bit_generator.state,
      'next_env_steps': self._next_env_steps,
      'episode_return': self._return,
      'environment': self._env.get_state() if has_begun else None,
    }

  def restore(self, state: Mapping[str, Any]) -> None:
    """Goes back to where `state` was called.

    An environment that does not come back starts a new episode, with a
    warning: the table cuts the one that was running, as by a time limit.
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
    """Adds a frame; returns 1, or 0 if it was a final observation."""
    now = self._time_step
    action, params = self._act(now.observation, self._rng)
    following = self._env.step(action)
    frames.append((now, action, params, following))
    self._time_step = following
    if now.step_type == ts.StepType.LAST:
      return 0
    self._return += float(following.reward)
    if following.step_type == ts.StepType.LAST:
      # The score itself, where rewards are clipped.
      score = getattr(self._env, 'episode_return', None)
      returns.append(self._return if score is None else score)
      self._return = 0.0
    return 1

  def _store(self, frames: list[tuple]) -> None:
    normalizer = None
    if self._update_normalizer:
      normalizer = self._agent.acting_network.normalizer
    most = self._table.capacity  # Rows it takes at once.
    for first in range(0, len(frames), most):
      rows = _stack(frames[first : first + most])
      self._table.append(rows)
      if normalizer is not None:
        normalizer.update(rows.observation)


def _stack(frames: list[tuple]) -> trajectory.Trajectory:
  """Frames (time_step, action, params, next time_step) to rows [N, ...]."""
  now, action, params, following = zip(*frames, strict=True)

  def stack(values: Any, dtype=None) -> tf.Tensor:
    return tf.constant(np.asarray(values, dtype))

  return trajectory.Trajectory(
    step_type=stack([t.step_type for t in now], np.int32),
    observation=stack([t.observation for t in now]),
    action=stack(action),
    policy_info={
      behavior_policy.DIST_PARAMS: {
        name: stack([p[name] for p in params]) for name in params[0]
      }
    },
    next_step_type=stack([t.step_type for t in following], np.int32),
    reward=stack([t.reward for t in following], np.float32),
    discount=stack([t.discount for t in following], np.float32),
  )
