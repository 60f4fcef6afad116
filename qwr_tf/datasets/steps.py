"""Logged steps in memory, whatever file they are from."""

from typing import NamedTuple

import numpy as np
from tf_agents.trajectories import trajectory

from qwr_tf.datasets import columns

# Where either layout holds the parameters of the policy that acted.
DIST_PARAMS = 'infos/dist_params'


class Steps(NamedTuple):
  """Consecutive steps; the next chunk goes on where they end.

  Attributes:
    observation: before the action, [n, ...].
    action: in the environment's units, [n, ...].
    reward: float32 [n].
    terminal: whether the episode ended in a terminal state, bool [n].
    timeout: whether it ended otherwise, bool [n].
    cut: whether it did so because the data end there, bool [n].
    final_observation: after the terminal steps, [number of them, ...]; None
      where there is none, or none was recorded.
    dist_params: of the policy that acted, {name: [n, ...]}.
  """

  observation: np.ndarray
  action: np.ndarray
  reward: np.ndarray
  terminal: np.ndarray
  timeout: np.ndarray
  cut: np.ndarray
  final_observation: np.ndarray | None
  dist_params: dict[str, np.ndarray]


class Fields(NamedTuple):
  """What is read: observations, actions, and parameters by name."""

  observation: columns.Field
  action: columns.Field
  dist_params: dict[str, columns.Field]


def fields(
  spec: trajectory.Trajectory,
  bounds: tuple[np.ndarray, np.ndarray],
  recorded: set[str],
) -> Fields:
  """What the columns must hold for a table.

  Args:
    spec: of its rows.
    bounds: of actions, in the environment's units.
    recorded: names of the parameters to read.
  """

  def field(name: str, spec, *bounds) -> columns.Field:
    dtype = np.dtype(spec.dtype.as_numpy_dtype)
    return columns.Field(name, tuple(spec.shape), dtype, *bounds)

  params = spec.policy_info['dist_params']
  # A deviation that the table does not keep has the action's shape.
  specs = {name: params.get(name, spec.action) for name in recorded}
  return Fields(
    field('observations', spec.observation),
    field('actions', spec.action, *bounds),
    {n: field(f'{DIST_PARAMS}/{n}', s) for n, s in specs.items()},
  )


def joined(parts: list[Steps]) -> Steps:
  """Consecutive chunks as one."""
  if len(parts) == 1:
    return parts[0]

  def join(*values):
    if isinstance(values[0], dict):
      return {k: join(*(v[k] for v in values)) for k in values[0]}
    return np.concatenate(values)

  return Steps(*map(join, *parts))


def timeouts_as_terminal(steps: Steps) -> Steps:
  """The same with time limits as terminal states."""
  return steps._replace(
    terminal=steps.terminal | steps.timeout,
    timeout=np.zeros_like(steps.timeout),
    # Not recorded for all of them now, and asked for by nobody.
    final_observation=None,
  )


class EpisodeReturns:
  """Undiscounted returns of the episodes that were recorded to their end."""

  def __init__(self):
    """None yet."""
    self.all: list[float] = []
    self._so_far = 0.0

  def add(self, chunk: Steps) -> None:
    """Takes in the next steps."""
    totals = self._so_far + np.cumsum(chunk.reward, dtype=np.float64)
    whole = chunk.terminal | chunk.timeout
    ends = np.flatnonzero(whole | chunk.cut)
    episodes = np.diff(totals[ends], prepend=0.0)
    self.all += episodes[whole[ends]].tolist()
    self._so_far = float(totals[-1] - (totals[ends[-1]] if len(ends) else 0.0))

  def mean(self) -> float | None:
    """None without episodes."""
    return float(np.mean(self.all)) if self.all else None
