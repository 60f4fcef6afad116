"""Logged steps in memory, the same for every layout."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from tf_agents.trajectories import trajectory

from qwr_tf.datasets import columns
from qwr_tf.networks import categories
from qwr_tf.policies import behavior_policy

# Group of the parameters of the policy that acted, in every layout.
DIST_PARAMS = 'infos/dist_params'
# Among them: the probability, or density, of the logged action.
PROBABILITY = 'probability'


class Steps(NamedTuple):
  """A chunk of n consecutive steps, m of them terminal.

  Attributes:
    observation: before the action, [n, ...]: an array of numbers, or such
      arrays by entry.
    action: in the environment's units, [n, ...].
    reward: float32 [n].
    terminal: whether the episode ended in a terminal state, bool [n].
    timeout: whether it ended at a time limit, bool [n].
    cut: whether the data end within the episode, bool [n].
    final_observation: after each terminal step, [m, ...]; the observation
      before it if none was recorded.
    dist_params: of the policy that acted, {name: [n, ...]}.
  """

  observation: Any
  action: np.ndarray
  reward: np.ndarray
  terminal: np.ndarray
  timeout: np.ndarray
  cut: np.ndarray
  final_observation: Any
  dist_params: dict[str, np.ndarray]


class Fields(NamedTuple):
  """Columns to read.

  Attributes:
    observation: by entry; of a single array {'': Field}.
    action: of actions.
    dist_params: of parameters, by name.
  """

  observation: dict[str, columns.Field]
  action: columns.Field
  dist_params: dict[str, columns.Field]


def fields(
  spec: trajectory.Trajectory,
  bounds: tuple[np.ndarray, ...],
  recorded: set[str],
  clip_actions: bool,
) -> Fields:
  """Columns that fit the rows of a replay table.

  Args:
    bounds: of actions, in the environment's units.
    recorded: names of the parameters to read.
    clip_actions: whether float actions may be out of bounds.
  """

  def field(name: str, spec, *bounds) -> columns.Field:
    dtype = np.dtype(spec.dtype.as_numpy_dtype)
    shape = bounds[0].shape if bounds else tuple(spec.shape)
    return columns.Field(name, shape, dtype, *bounds)

  def entry(name: str, spec) -> columns.Field:
    is_category = categories.is_category(spec)
    limits = (spec.minimum, spec.maximum) if is_category else ()
    path = f'observations/{name}'.rstrip('/')
    return field(path, spec, *limits)._replace(is_exact=True)

  entries = spec.observation
  if not isinstance(entries, dict):
    entries = {'': entries}
  shape = bounds[0].shape
  if clip_actions and spec.action.dtype.is_floating:
    bounds = ()
  params = spec.policy_info[behavior_policy.DIST_PARAMS]
  # A deviation that the table does not hold has the action's shape.
  specs = {name: params.get(name, spec.action) for name in recorded}
  if PROBABILITY in specs:  # Of the logged action itself.
    specs[PROBABILITY] = spec.reward
  return Fields(
    {name: entry(name, s) for name, s in entries.items()},
    field('actions', spec.action, *bounds)._replace(shape=shape),
    {n: field(f'{DIST_PARAMS}/{n}', s) for n, s in specs.items()},
  )


def piece(chunk: Steps, first: int, end: int) -> Steps:
  """Steps first ... end - 1 of a chunk."""
  before, among = (int(chunk.terminal[:i].sum()) for i in (first, end))
  final = selected(chunk.final_observation, slice(before, among))
  cut = selected(chunk._replace(final_observation=()), slice(first, end))
  return cut._replace(final_observation=final)


def observation(fields: Fields, read: Callable[[columns.Field], Any]) -> Any:
  """The result of `read` for the observation, or for each of its entries."""
  entries = {name: read(field) for name, field in fields.observation.items()}
  return entries.get('', entries)


def joined(parts: list[Steps]) -> Steps:
  """Consecutive chunks as one."""
  return tf.nest.map_structure(lambda *x: np.concatenate(x), *parts)


def regrouped(chunks: Iterable[Steps], num_steps: int) -> Iterator[Steps]:
  """Yields consecutive chunks, at least num_steps at once but for the last."""
  waiting: list[Steps] = []
  for chunk in chunks:
    waiting.append(chunk)
    if sum(len(w.reward) for w in waiting) >= num_steps:
      yield joined(waiting)
      waiting = []
  if waiting:
    yield joined(waiting)


def selected(nest: Any, rows: Any) -> Any:
  """The rows of each array."""
  return tf.nest.map_structure(lambda x: x[rows], nest)


def timeouts_as_terminal(steps: Steps) -> Steps:
  """Steps whose time limits count as terminal states."""
  terminal = steps.terminal | steps.timeout
  return steps._replace(
    terminal=terminal,
    timeout=np.zeros_like(terminal),
    # Its value is not used.
    final_observation=selected(steps.observation, terminal),
  )


class EpisodeReturns:
  """Undiscounted returns of the episodes that were recorded to their end."""

  def __init__(self):
    self.all: list[float] = []
    self._so_far = 0.0

  def add(self, chunk: Steps) -> None:
    """Adds the next steps."""
    totals = self._so_far + np.cumsum(chunk.reward, dtype=np.float64)
    is_whole = chunk.terminal | chunk.timeout
    ends = np.flatnonzero(is_whole | chunk.cut)
    episodes = np.diff(totals[ends], prepend=0.0)
    self.all += episodes[is_whole[ends]].tolist()
    self._so_far = float(totals[-1] - (totals[ends[-1]] if len(ends) else 0.0))

  def mean(self) -> float | None:
    """None without episodes."""
    return float(np.mean(self.all)) if self.all else None
