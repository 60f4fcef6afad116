"""A logged data set, and the way it gets into a replay table."""

import contextlib
import pathlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import gin
import numpy as np
import tensorflow as tf
from tf_agents.trajectories import trajectory

from qwr_tf.datasets import actions
from qwr_tf.datasets import behavior
from qwr_tf.datasets import minari_layout
from qwr_tf.datasets import rows as rows_lib
from qwr_tf.datasets import sources
from qwr_tf.datasets import steps

# As in the policy_info of a table's rows.
_DIST_PARAMS = 'dist_params'
_LOC, _SCALE = 'loc', 'scale_diag'


class Summary(NamedTuple):
  """What was read.

  Attributes:
    name: of the data set.
    steps: logged ones.
    transitions: those of them that are learned from.
    episodes: that were recorded to their end.
    mean_return: undiscounted, over these; None if there are none.
    mu: 'recorded', or 'from logged actions'.
    reference: returns that count as 0 and 100, if the data set says so
      (Minari's ref_min_score and ref_max_score).
  """

  name: str
  steps: int
  transitions: int
  episodes: int
  mean_return: float | None
  mu: str
  reference: tuple[float, float] | None


@gin.configurable
class DataSet:
  """An HDF5 file or folder in Minari's or D4RL's layout; see `sources`."""

  def __init__(
    self,
    path: str,
    *,
    behavior_fn: Callable = behavior.logged_action_behavior,
    recorded_behavior: bool = True,
    unclipped_actions: bool = True,
    chunk_steps: int = 10_000,
    seed: int = 0,
  ):
    """Opens the data set.

    Args:
      path: file or folder.
      behavior_fn: makes mu of logged actions; see `behavior`.
      recorded_behavior: whether recorded parameters of mu are used instead,
        where the data set has those the table keeps.
      unclipped_actions: whether what a recorded Gaussian drew beyond the
        bounds, and is logged at them, is drawn anew; see
        `actions.unclipped_samples`.
      chunk_steps: steps in memory beside the table.
      seed: of what is drawn anew.

    Raises:
      ValueError: if there is no such data set, or it is damaged or empty.
    """
    self.path = path
    self._source = sources.open_source(pathlib.Path(path))
    self._behavior_fn = behavior_fn
    self._recorded_behavior = recorded_behavior
    self._unclipped_actions = unclipped_actions
    self._rng = np.random.default_rng(seed)
    self._chunk_steps = chunk_steps
    self.steps = self._source.num_steps()
    if not self.steps:
      raise ValueError(f'{path}, rewards: the data set is empty.')

  def close(self) -> None:
    """Closes the file; what is known already stays."""
    self._source.close()

  @property
  def name(self) -> str:
    """The last part of its id; of a file its name without the ending."""
    path = pathlib.Path(self.path).resolve()
    stem = path.stem if path.suffix in ('.hdf5', '.h5') else path.name
    return str(self.metadata.get('dataset_id') or stem).rpartition('/')[2]

  @property
  def environment(self) -> str | None:
    """Id of the one that was recorded, if the metadata say so."""
    return minari_layout.environment_id(self.metadata)

  @property
  def metadata(self) -> dict[str, Any]:
    """What Minari keeps beside the episodes, `dataset_id` for instance."""
    return self._source.metadata

  def fill(
    self,
    table,
    action_bounds: actions.Bounds,
    *,
    behavior_scale: np.ndarray | None = None,
    normalizer: Any | None = None,
    reward_fn: Callable[[np.ndarray], np.ndarray] = lambda rewards: rewards,
    timeout_is_terminal: bool = False,
  ) -> Summary:
    """Appends everything to an empty table, and closes the file.

    Args:
      table: a `replay.ReplayTable` with room for it.
      action_bounds: of the environment. The table gets actions as the agent
        sees them: bounds of +-1, or from 0 on.
      behavior_scale: deviation of the policy [A] where it is a constant, which
        the table does not keep. A recorded one must be the same.
      normalizer: its `fit` sees all observations that have an action.
      reward_fn: logged rewards [N] to those that are learned from; mean
        returns are of the logged ones.
      timeout_is_terminal: whether nothing is bootstrapped from a time limit,
        as from a terminal state; where the data end, it is in any case.

    Returns:
      What was read.

    Raises:
      ValueError: in one line with file, episode and field, for anything that
        does not fit the table or the environment.
    """
    self._check_room(table)
    spec = table.data_spec
    recorded = self._recorded(spec)
    fields = steps.fields(spec, action_bounds, recorded)
    returns = steps.EpisodeReturns()
    chunks = self._watched(fields, behavior_scale, returns, normalizer)
    if timeout_is_terminal:
      chunks = map(steps.timeouts_as_terminal, chunks)
    transitions = 0
    with contextlib.closing(self):
      for rows in rows_lib.rows(chunks):
        rows = rows._replace(reward=reward_fn(rows.reward))
        rows = rows._replace(
          action=actions.to_agent(rows.action, action_bounds, spec.action)
        )
        rows = self._with_mu(rows, spec, behavior_scale, recorded)
        _append(table, rows)
        transitions += int(np.sum(~rows.is_boundary()))
    self._check_all_there(table, transitions)
    mu = 'recorded' if recorded else 'from logged actions'
    return Summary(
      self.name,
      self.steps,
      transitions,
      len(returns.all),
      returns.mean(),
      mu,
      self._reference(),
    )

  def observations(
    self,
    data_spec: trajectory.Trajectory,
    action_bounds: actions.Bounds,
    number: int,
  ) -> np.ndarray:
    """Some of the logged observations, and closes the file.

    Args:
      data_spec: of a table that it fits.
      action_bounds: as in `fill`.
      number: of rows drawn, without repetition; at most all there are.

    Raises:
      ValueError: as `fill`.
    """
    number = min(number, self.steps)
    wanted = np.zeros(self.steps, bool)
    wanted[self._rng.choice(self.steps, number, replace=False)] = True
    found, first = [], 0
    fields = steps.fields(data_spec, action_bounds, set())
    with contextlib.closing(self):
      for chunk in self._source.chunks(fields, self._chunk_steps):
        end = first + len(chunk.reward)
        found.append(chunk.observation[wanted[first:end]])
        first = end
    return np.concatenate(found)

  def _reference(self) -> tuple[float, float] | None:
    low = self.metadata.get('ref_min_score')
    high = self.metadata.get('ref_max_score')
    if low is None or high is None:
      return None
    try:
      found = float(low), float(high)
    except (TypeError, ValueError) as error:
      raise ValueError(
        f'{self.path}: ref_min_score and ref_max_score must be numbers, not '
        f'{low!r} and {high!r}.'
      ) from error
    return found if found[0] != found[1] else None

  def _recorded(self, spec: trajectory.Trajectory) -> set[str]:
    """Names of the parameters to read; none if mu is to be made."""
    found = self._source.recorded() if self._recorded_behavior else set()
    wanted = set(spec.policy_info[_DIST_PARAMS])
    return (wanted | ({_SCALE} & found)) if wanted <= found else set()

  def _with_mu(
    self, rows: trajectory.Trajectory, spec, behavior_scale, recorded: set[str]
  ) -> trajectory.Trajectory:
    """Rows with mu as recorded or made of the actions, which fit it."""
    names = spec.policy_info[_DIST_PARAMS]
    if not recorded:
      params = self._behavior_fn(rows.action, spec.action, names)
      return rows._replace(policy_info=params)
    params = rows.policy_info
    scale = params.get(_SCALE, behavior_scale)
    if _LOC not in params or scale is None or not self._unclipped_actions:
      return rows
    return rows._replace(
      action=actions.unclipped_samples(
        rows.action, params[_LOC], scale, self._rng
      )
    )

  def _watched(
    self, fields: steps.Fields, behavior_scale, returns, normalizer
  ) -> Iterator[steps.Steps]:
    """The chunks, after everybody has seen them."""
    for chunk in self._source.chunks(fields, self._chunk_steps):
      returns.add(chunk)
      if normalizer is not None:
        normalizer.fit(tf.constant(chunk.observation))
      scale = chunk.dist_params.get(_SCALE)
      if scale is not None and behavior_scale is not None:
        self._check_scale(scale, behavior_scale)
      yield chunk

  def _check_scale(self, recorded: np.ndarray, own: np.ndarray) -> None:
    if not np.allclose(recorded, own, rtol=1e-4):
      raise ValueError(
        f'{self.path}, {steps.DIST_PARAMS}/{_SCALE}: the policy that acted '
        f'had deviations like {recorded.flat[0]:g}, this one has '
        f'{np.min(own):g}; set GaussianHead.scale, or '
        'DataSet.recorded_behavior = False to make mu of logged actions.'
      )

  def _check_room(self, table) -> None:
    if table.capacity < self.steps:
      raise ValueError(
        f'{self.path} has {self.steps} steps, the table room for '
        f'{table.capacity}; raise run.replay_capacity or set it to None.'
      )

  def _check_all_there(self, table, transitions: int) -> None:
    if not transitions:
      raise ValueError(
        f'{self.path}: no step can be learned from, as every episode was cut '
        'after its first.'
      )
    kept = int(table.num_starts())
    if kept != transitions:
      raise ValueError(
        f'{self.path}: the table keeps {kept} of {transitions} transitions; '
        'raise ReplayTable.rows_per_interaction (2 always suffices).'
      )


def _append(table, rows: trajectory.Trajectory) -> None:
  """Rows of arrays, in pieces that the table takes."""
  names = table.data_spec.policy_info[_DIST_PARAMS]
  params = {name: rows.policy_info[name] for name in names}
  rows = rows._replace(policy_info={_DIST_PARAMS: params})
  for first in range(0, len(rows.reward), table.capacity):
    piece = slice(first, first + table.capacity)
    table.append(
      tf.nest.map_structure(lambda x, p=piece: tf.constant(x[p]), rows)
    )
