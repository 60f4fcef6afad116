"""Sources in this process: one environment, or several stepped together."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from absl import logging
from tf_agents.trajectories import time_step as ts
from tf_agents.trajectories import trajectory

from qwr_tf import replay
from qwr_tf.acting import numpy_actor
from qwr_tf.acting.segments import Experience
from qwr_tf.policies import behavior_policy

_FIRST, _MID, _LAST = range(3)  # As in `ts.StepType`, but faster.


class EnvironmentSource:
  """Steps one environment, and stores mu for each step."""

  def __init__(
    self,
    env,
    network,
    *,
    seed: int,
    is_single_frame: Sequence[bool] = (),
    whole_episodes: bool = False,
    is_only_source: bool = True,
  ):
    """Stores the arguments; the environment is reset at the first call.

    Args:
      env: a PyEnvironment.
      is_single_frame: as in `ReplayTable`; (): whole stacks are in the rows.
      whole_episodes: whether a call goes on to the end of the episode.
      is_only_source: True if no other source writes to the table; segments then
        continue one another, otherwise each is closed.
    """
    self._env = env
    self._is_single_frame = is_single_frame
    self._whole_episodes = whole_episodes
    self._is_alone = is_only_source
    self._rng = np.random.default_rng(seed)
    self._act = numpy_actor.NumpyActor(network)
    self._time_step: Any = None  # Reset at the first call.
    self._return = 0.0

  def collect(
    self, env_steps: int, check_fn: Callable[[int, int], None]
  ) -> Experience:
    """As in `segments.Source`."""
    self._act.refresh()
    if self._time_step is None:
      self._time_step = self._env.reset()
    frames: list[tuple] = []
    returns: list[float] = []
    interactions = 0
    while interactions < env_steps or (
      self._whole_episodes and self._time_step.step_type != _FIRST
    ):
      interactions += self._step(frames, returns)
      if interactions > env_steps:
        check_fn(interactions, interactions - env_steps)
    # If the episode just ended, add the row of its final observation.
    if self._time_step.step_type == _LAST:
      self._step(frames, returns)
    is_closed = not self._is_alone
    continues = is_closed and frames[0][0].step_type == _MID
    is_cut = is_closed and self._time_step.step_type == _MID
    if is_cut:
      frames.append(self._cut())
    rows, num_older = _rows(frames, self._is_single_frame)
    first = 0 if continues else num_older
    rows = tf.nest.map_structure(lambda x: x[first:], rows)
    repeats = np.zeros(len(rows.step_type), bool)
    repeats[: num_older - first] = True
    repeats[-1] = is_cut
    metrics = {'cut_transitions': float(is_cut)} if is_closed else {}
    return Experience(rows, repeats, interactions, returns, metrics)

  def _step(self, frames: list[tuple], returns: list[float]) -> int:
    """Takes a step and adds its frame; returns the interactions, 0 or 1."""
    time_step = self._time_step
    action, params = self._act(time_step.observation, self._rng)
    next_time_step = self._env.step(action)
    frames.append((time_step, action, params, next_time_step))
    self._time_step = next_time_step
    if time_step.step_type == _LAST:
      return 0
    self._return += float(next_time_step.reward)
    if next_time_step.step_type == _LAST:
      # Before reward clipping, if the environment records that.
      score = getattr(self._env, 'episode_return', None)
      returns.append(self._return if score is None else score)
      self._return = 0.0
    return 1

  def _cut(self) -> tuple:
    """The frame of an episode that is cut here."""
    now = self._time_step
    action, params = self._act(now.observation, None)
    start = ts.restart(now.observation)
    return now._replace(step_type=_LAST), action, params, start

  def state(self) -> dict[str, Any]:
    """As in `segments.Source`."""
    has_begun = self._time_step is not None
    return {
      'rng': self._rng.bit_generator.state,
      'episode_return': self._return,
      'environment': self._env.get_state() if has_begun else None,
    }

  def restore(self, state: Mapping[str, Any]) -> None:
    """As in `segments.Source`.

    If the environment cannot replay its episode, a new one begins, with a
    warning; the table ends the old episode as a time limit would.
    """
    self._rng.bit_generator.state = state['rng']
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


class VectorSource:
  """N environments with one forward pass for all."""

  def __init__(
    self,
    env,
    network,
    *,
    seed: int,
    is_single_frame: Sequence[bool] = (),
    whole_episodes: bool = False,
  ):
    """Stores the arguments.

    Args:
      env: a `VectorEnvironment`.
      is_single_frame: as in `ReplayTable`; (): whole stacks are in the rows.
      whole_episodes: whether a call goes on to the end of all N episodes.
        Environments that wait for others are stepped on; these steps are
        dropped and not counted.
    """
    self._env = env
    self._is_single_frame = is_single_frame
    self._whole_episodes = whole_episodes
    self._rng = np.random.default_rng(seed)
    self._act = numpy_actor.NumpyActor(network)
    self._time_step: Any = None
    self._returns = np.zeros(env.num_envs)

  def collect(
    self, env_steps: int, check_fn: Callable[[int, int], None]
  ) -> Experience:
    """As in `segments.Source`."""
    self._act.refresh()
    if self._time_step is None:
      self._time_step = self._env.reset()
    frames: list[tuple] = []
    returns: list[float] = []
    interactions = 0
    # A final row is written by the call in which its episode ends.
    is_kept = self._time_step.step_type != _LAST
    kept = []  # Which rows of the frames are kept.
    while interactions < env_steps or (self._whole_episodes and is_kept.any()):
      kept.append(is_kept)
      interactions += self._step(frames, returns, is_kept)
      is_kept = np.ones_like(is_kept) if interactions < env_steps else is_kept
      if interactions >= env_steps and self._whole_episodes:
        is_kept = is_kept & (self._time_step.step_type != _FIRST)
      if interactions > env_steps:
        check_fn(interactions, interactions - env_steps)
    frames.append(self._final_frame())  # Kept where a segment is open.
    rows, num_older = _rows(
      frames, self._is_single_frame
    )  # [older + steps, N, ...]
    segments = [
      self._segment(i, rows.step_type[:, i], num_older, places)
      for i, places in enumerate(map(np.flatnonzero, np.array(kept).T))
      if places.size
    ]
    numbers, times, repeats = map(np.concatenate, zip(*segments, strict=True))
    rows = tf.nest.map_structure(lambda x: x[times, numbers], rows)
    if self._whole_episodes:
      self._time_step, self._returns = self._env.reset(), 0.0 * self._returns
    cuts = {'cut_transitions': float(sum(x[-1] for *_, x in segments))}
    return Experience(rows, repeats, interactions, returns, cuts)

  def _step(self, frames: list[tuple], returns: list[float], is_kept) -> int:
    """Steps all environments; returns the number of interactions."""
    time_step = self._time_step
    actions, params = self._act(time_step.observation, self._rng)
    next_time_step = self._env.step(actions)
    frames.append((time_step, actions, params, next_time_step))
    self._time_step = next_time_step
    is_transition = is_kept & (time_step.step_type != _LAST)
    self._returns[is_transition] += next_time_step.reward[is_transition]
    for i in np.flatnonzero(
      is_transition & (next_time_step.step_type == _LAST)
    ):
      returns.append(self._env.scores.get(int(i), float(self._returns[i])))
      self._returns[i] = 0.0
    return int(is_transition.sum())

  def _final_frame(self) -> tuple:
    """Cuts of unfinished episodes, and final rows of those that just ended."""
    now = self._time_step
    actions, params = self._act(now.observation, None)
    start = ts.restart(now.observation, batch_size=self._env.num_envs)
    # A FIRST row is not kept.
    step_type = np.where(now.step_type == _FIRST, _FIRST, _LAST)
    return now._replace(step_type=step_type), actions, params, start

  def _segment(
    self, i: int, step_types: np.ndarray, num_older: int, places: np.ndarray
  ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows of environment i: those kept, after older frames, and a final one.

    Returns:
      (environments, times of rows, whether they repeat an observation), [n].
    """
    times = num_older + places
    num_repeats = num_older if step_types[times[0]] == _MID else 0
    is_cut = False
    if step_types[times[-1]] != _LAST:
      times = np.append(times, times[-1] + 1)
      is_cut = self._time_step.step_type[i] != _LAST
    times = np.concatenate([np.arange(num_repeats), times])
    repeats = np.arange(len(times)) < num_repeats
    repeats[-1] = is_cut
    return np.full(len(times), i), times, repeats

  def state(self) -> dict[str, Any]:
    """As in `segments.Source`."""
    has_begun = self._time_step is not None
    return {
      'rng': self._rng.bit_generator.state,
      'episode_returns': self._returns.tolist(),
      'environments': self._env.get_state() if has_begun else None,
    }

  def restore(self, state: Mapping[str, Any]) -> None:
    """As in `segments.Source`."""
    self._rng.bit_generator.state = state['rng']
    self._returns, self._time_step = np.zeros(self._env.num_envs), None
    if state['environments'] is not None:
      self._time_step = self._env.set_state(state['environments'])
      goes_on = self._time_step.step_type != _FIRST
      self._returns = np.where(goes_on, state['episode_returns'], 0.0)


def _rows(
  frames: list[tuple], is_single_frame: Sequence[bool]
) -> tuple[trajectory.Trajectory, int]:
  """Rows [M + T, ...] of T frames, and M.

  Args:
    frames: (time step, action, parameters of mu, next time step).
    is_single_frame: as in `ReplayTable`. The first M rows, of step type LAST,
      then hold the older frames of the first stacks; without images M is 0.
  """
  time_steps, action, params, next_time_steps = zip(*frames, strict=True)
  step_type = np.asarray([t.step_type for t in time_steps], np.int32)
  next_step_type = np.asarray([t.step_type for t in next_time_steps], np.int32)
  # A cut ends the episode for the step before it, too: returns stop there.
  next_step_type[:-1] = np.where(
    step_type[1:] == _LAST, _LAST, next_step_type[:-1]
  )
  rows = trajectory.Trajectory(
    step_type=step_type,
    observation=tf.nest.map_structure(
      lambda *x: np.stack(x), *[t.observation for t in time_steps]
    ),
    action=np.asarray(action),
    policy_info={
      behavior_policy.DIST_PARAMS: {
        name: np.asarray([p[name] for p in params]) for name in params[0]
      }
    },
    next_step_type=next_step_type,
    reward=np.asarray([t.reward for t in next_time_steps], np.float32),
    discount=np.asarray([t.discount for t in next_time_steps], np.float32),
  )
  if not any(is_single_frame):
    return rows, 0
  entries = [
    replay.newest(x, rows.step_type, rows.discount) if is_image else x
    for x, is_image in zip(
      tf.nest.flatten(rows.observation), is_single_frame, strict=True
    )
  ]
  observation = tf.nest.pack_sequence_as(rows.observation, entries)
  count = max(map(len, entries))
  rows = tf.nest.map_structure(
    lambda x: np.concatenate([np.repeat(x[:1], count - len(x), axis=0), x]),
    rows._replace(observation=observation),
  )
  num_older = count - len(time_steps)
  rows.step_type[:num_older] = _LAST
  return rows, num_older
