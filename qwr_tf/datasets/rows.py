"""From logged steps to the rows of a replay table.

A row needs mu. If mu is made of logged actions, the observation after the last
action has none. After a terminal state nothing is bootstrapped, and any mu
does. Of an episode that was cut, by a time limit for instance, the last row,
from which targets bootstrap, is therefore the last observation with an action;
the step from there into the time limit is not learned from.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf
from tf_agents.trajectories import time_step as ts
from tf_agents.trajectories import trajectory

from qwr_tf.datasets import steps as steps_lib
from qwr_tf.datasets.steps import Steps

_FIRST, _MID, _LAST = (
  int(kind) for kind in (ts.StepType.FIRST, ts.StepType.MID, ts.StepType.LAST)
)


def rows(chunks: Iterable[Steps]) -> Iterator[trajectory.Trajectory]:
  """Yields rows [N, ...] in time order, as a Trajectory of arrays.

  An episode of L steps gives L + 1 rows if it ends in a terminal state, else
  L; an episode of a single step that was cut gives none.

  Args:
    chunks: consecutive steps, the last of which ends an episode.

  Yields:
    Rows whose `policy_info` holds the recorded parameters of the policy,
    {name: [N, ...]}.
  """
  pending: Steps | None = None  # A step whose row depends on the next one.
  starts_episode = True
  for chunk in chunks:
    steps = chunk if pending is None else steps_lib.joined([pending, chunk])
    ends = steps.terminal | steps.timeout | steps.cut
    is_first = np.concatenate([[starts_episode], ends[:-1]])
    ready = len(ends) - (not ends[-1])
    if ready:
      yield _rows(steps, ends, is_first, ready)
    pending, starts_episode = None, True
    if not ends[-1]:
      last: Any = tf.nest.map_structure(lambda x: x[-1:].copy(), steps)
      none = steps_lib.selected(steps.final_observation, slice(0))
      pending = last._replace(final_observation=none)
      starts_episode = bool(is_first[-1])


def _rows(
  steps: Steps, ends: np.ndarray, is_first: np.ndarray, ready: int
) -> trajectory.Trajectory:
  """Rows of the first `ready` steps; one more step may follow.

  Args:
    steps: n steps, n = ready or ready + 1.
    ends: whether a step ends an episode, bool [n].
    is_first: whether a step begins an episode, bool [n].
    ready: number of steps whose successor is known.
  """
  terminal = steps.terminal
  cut = ends & ~terminal
  # Rows per step: its own, and the observation after a terminal step. A step
  # that begins an episode and is cut has nothing to bootstrap from.
  counts = np.where(cut & is_first, 0, 1 + terminal)[:ready]
  source = np.repeat(np.arange(ready), counts)
  is_final = np.append(False, source[1:] == source[:-1])[: len(source)]
  is_last = is_final | cut[source]
  leads_to_last = terminal | np.append(cut[1:], False)

  def with_final(before: np.ndarray, final: np.ndarray) -> np.ndarray:
    observation = before[source]
    observation[is_final] = final
    return observation

  step_type = np.where(is_first[source], _FIRST, _MID)
  next_type = np.where(leads_to_last[source], _LAST, _MID)
  discount = np.where(terminal[source] & ~is_last, 0.0, 1.0)
  return trajectory.Trajectory(
    step_type=np.where(is_last, _LAST, step_type).astype(np.int32),
    observation=tf.nest.map_structure(
      with_final, steps.observation, steps.final_observation
    ),
    action=steps.action[source],
    policy_info={name: x[source] for name, x in steps.dist_params.items()},
    next_step_type=np.where(is_last, _FIRST, next_type).astype(np.int32),
    reward=np.where(is_last, 0.0, steps.reward[source]).astype(np.float32),
    discount=discount.astype(np.float32),
  )
