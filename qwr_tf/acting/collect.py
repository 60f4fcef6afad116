"""Collection: interactions with the newest policy (Algorithm 2, line 5)."""

import dataclasses
import time
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import gin
import numpy as np
import tensorflow as tf
from absl import logging

from qwr_tf import environments
from qwr_tf.acting import segments
from qwr_tf.acting import sources
from qwr_tf.acting import stop_request
from qwr_tf.config.errors import ConfigError
from qwr_tf.config.ranges import PositiveInt
from qwr_tf.config.ranges import Range


@dataclasses.dataclass
class Collected:
  """Counts of one call of a collector.

  Attributes:
    interactions: steps taken in the environment.
    episode_returns: as in `segments.Experience`.
    seconds: wall clock.
    metrics: as in `segments.Experience`.
  """

  interactions: int
  episode_returns: list[float]
  seconds: float
  metrics: dict[str, float] = dataclasses.field(default_factory=dict)


@gin.configurable
class Collector:
  """Appends rows of environments, with mu, to a replay table."""

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
    num_environments: Annotated[int, Range(1, 10_000)] = 1,
    vectorization_mode: Literal['async', 'sync'] = 'async',
    source: segments.Source | None = None,
  ):
    """Stores the arguments; environments are reset at the first call.

    Args:
      env: a PyEnvironment, or an `environments.VectorEnvironment`.
      agent: its acting network acts and its normaliser is updated.
      table: a `replay.ReplayTable`.
      seed: of the sampled actions.
      env_steps: interactions per call, of all environments together.
      first_env_steps: interactions of the first call, for a fuller table at the
        start (DQN). None: env_steps. Raised to 2, because a step can be sampled
        only once the next row exists.
      whole_episodes: whether a call goes on to the end of the episode.
      on_policy: whether the table holds the newest call's rows alone (RWR,
        AWR's ablation). Needs whole_episodes, and a table that holds the
        longest possible call.
      update_normalizer: False leaves it as it is.
      num_environments: stepped together, with one forward pass for all. Of use
        where a step of the simulator takes longer than one of the policy.
      vectorization_mode: of several environments, as in `gymnasium.make_vec`:
        'async' steps each in a process of its own, 'sync' in this one.
      source: of the experience, instead of env.

    Raises:
      ConfigError: for on_policy, if one call could exceed the table; without a
        time limit it is raised during the call.
    """
    del vectorization_mode  # `env` was made so.
    self._env = env
    self._agent = agent
    self._table = table
    self._env_steps = env_steps
    self._next_env_steps = max(first_env_steps or env_steps, 2)
    self._whole_episodes = whole_episodes
    self._on_policy = on_policy
    self._update_normalizer = update_normalizer
    self._num_environments = num_environments
    self._is_learner = source is not None
    is_vector = isinstance(env, environments.VectorEnvironment)
    make_source: Any = (
      sources.VectorSource if is_vector else sources.EnvironmentSource
    )
    self._source: segments.Source = source or make_source(
      env,
      agent.acting_network,
      seed=seed,
      is_single_frame=table.is_single_frame,
      whole_episodes=whole_episodes,
    )
    self._collected, self._has_warned = 0, False
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
      # All environments may wait for the end of an episode.
      waits = self._num_environments * (limit - 1)
      self._check_capacity(wanted + self._num_environments - 1 + waits)

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

  def _warn_of_lost_rows(self) -> None:
    """Warns once if the table holds fewer interactions than its capacity."""
    kept = int(self._table.num_frames())
    wanted = min(self._collected, self._table.capacity)
    if kept < wanted:
      self._has_warned = True
      logging.warning(
        'The replay table keeps %d of the newest %d interactions, because '
        'final observations, and cuts between several environments, take rows '
        'too; raise ReplayTable.rows_per_interaction.',
        kept,
        wanted,
      )

  def __call__(self) -> Collected:
    """Collects one iteration's interactions."""
    start = time.perf_counter()
    wanted, self._next_env_steps = self._next_env_steps, self._env_steps
    experience = self._source.collect(wanted, self._check_wait)
    interactions = experience.interactions
    if self._on_policy:
      self._check_capacity(interactions)
      self._table.clear()
    if experience.rows is not None:
      self._store(experience)
    self._collected += interactions
    if self._on_policy:
      self._check_stored(interactions)
    elif not self._has_warned:
      self._warn_of_lost_rows()
    return Collected(
      interactions,
      experience.episode_returns,
      time.perf_counter() - start,
      experience.metrics,
    )

  def _check_wait(self, interactions: int, waited: int) -> None:
    """Stops the wait for the end of an episode that may have none."""
    stop_request.check()
    if self._on_policy:
      self._check_capacity(interactions)
    if waited > getattr(self._env, 'longest_episode', np.inf):
      raise ConfigError(
        f'Collector.whole_episodes: an episode has not ended in {waited} '
        'steps; set load_environment.max_episode_steps.'
      )

  def state(self) -> dict[str, Any]:
    """Counts and the source's state, for a checkpoint."""
    return {'next_env_steps': self._next_env_steps, **self._source.state()}

  def restore(self, state: Mapping[str, Any]) -> None:
    """Restores what `state` returned.

    Raises:
      ConfigError: if its experience came from elsewhere, or this one's does.
    """
    is_of_learner = 'collectors' in state  # As `RaySource` has them.
    if is_of_learner != self._is_learner:
      command = 'launch' if is_of_learner else 'train or qwr_tf.QWR'
      raise ConfigError(f'it was made by qwr_tf.{command}')
    self._next_env_steps = state['next_env_steps']
    self._source.restore(state)

  def _store(self, experience: segments.Experience) -> None:
    rows, is_new = experience.rows, ~experience.repeats
    max_rows = self._table.capacity  # Of one call.
    for first in range(0, len(is_new), max_rows):
      piece = slice(first, first + max_rows)
      self._table.append_frames(
        tf.nest.map_structure(lambda x, piece=piece: x[piece], rows)
      )
    normalizer = self._agent.acting_network.normalizer
    if self._update_normalizer and normalizer is not None:
      normalizer.update(
        rows.observation
        if is_new.all()
        else tf.nest.map_structure(lambda x: x[is_new], rows.observation)
      )
