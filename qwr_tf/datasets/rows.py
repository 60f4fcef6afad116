"""From logged steps to the rows of a replay table.

A row needs mu, and what stands for mu is made of the logged action. The
observation after the last action has none, or what a file has there is not
read. Where the episode ended in a terminal state nobody asks for it. Where it
was cut, by a time limit for instance, the episode's last row, the one targets
bootstrap from, is therefore the last observation that has an action; the step
from there into the time limit is not learned from.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from tf_agents.trajectories import time_step as ts
from tf_agents.trajectories import trajectory

from qwr_tf.datasets.steps import Steps

_FIRST, _MID, _LAST = (
  int(kind) for kind in (ts.StepType.FIRST, ts.StepType.MID, ts.StepType.LAST)
)


def rows(chunks: Iterable[Steps]) -> Iterator[trajectory.Trajectory]:
  """Yields rows [N, ...] in time order.

  An episode of L steps gives L + 1 rows if it ends in a terminal state, else
  L; one of a single step that was cut gives none.

  Args:
    chunks: consecutive steps, the last of which ends an episode.

  Yields:
    A Trajectory of arrays. `policy_info` holds what was recorded of the
    policy, {name: [N, ...]}, and {} if nothing was.
  """
  held: Steps | None = None  # Its row depends on the step after it.
  is_first = True  # Whether an episode begins with the first step of a chunk.
  for chunk in chunks:
    steps = chunk if held is None else _joined(held, chunk)
    ends = _ends(steps)
    first = np.concatenate([[is_first], ends[:-1]])
    ready = len(ends) if ends[-1] else len(ends) - 1
    if ready:
      yield _rows(steps, first, ready)
    held = None if ready == len(ends) else _tail(steps)
    is_first = bool(first[-1]) if held is not None else True


def _ends(steps: Steps) -> np.ndarray:
  return steps.terminal | steps.timeout | steps.cut


def _joined(held: Steps, chunk: Steps) -> Steps:
  """A step that ends no episode, and those after it."""
  final = chunk.final_observation
  steps = _map(lambda *x: np.concatenate(x), _bare(held), _bare(chunk))
  return steps._replace(final_observation=final)


def _tail(steps: Steps) -> Steps:
  return _map(lambda x: x[-1:].copy(), _bare(steps))


def _bare(steps: Steps) -> Steps:
  return steps._replace(final_observation=None)


def _map(function, *steps: Steps) -> Steps:
  fields: list[Any] = []
  for values in zip(*steps, strict=True):
    if isinstance(values[0], dict):
      names = values[0]
      fields.append({n: function(*(v[n] for v in values)) for n in names})
    else:
      fields.append(None if values[0] is None else function(*values))
  return Steps(*fields)


def _rows(
  steps: Steps, is_first: np.ndarray, ready: int
) -> trajectory.Trajectory:
  """Rows of the first `ready` steps; one more step may follow.

  Args:
    steps: n of them, ready or ready + 1.
    is_first: which steps begin an episode, bool [n].
    ready: those whose successor is known.
  """
  terminal = steps.terminal
  cut = _ends(steps) & ~terminal
  # Rows a step gives: itself, and the observation after a terminal step. A
  # step that begins and is cut has nothing to bootstrap from.
  counts = np.where(cut & is_first, 0, 1 + terminal)[:ready]
  source = np.repeat(np.arange(ready), counts)
  is_final = np.append(False, source[1:] == source[:-1])[: len(source)]
  is_last = is_final | cut[source]
  leads_to_last = terminal | np.append(cut[1:], False)

  observation = steps.observation[source]
  if steps.final_observation is not None:
    observation[is_final] = steps.final_observation
  step_type = np.where(is_first[source], _FIRST, _MID)
  next_type = np.where(leads_to_last[source], _LAST, _MID)
  discount = np.where(terminal[source] & ~is_last, 0.0, 1.0)
  return trajectory.Trajectory(
    step_type=np.where(is_last, _LAST, step_type).astype(np.int32),
    observation=observation,
    action=steps.action[source],
    policy_info={name: x[source] for name, x in steps.dist_params.items()},
    next_step_type=np.where(is_last, _FIRST, next_type).astype(np.int32),
    reward=np.where(is_last, 0.0, steps.reward[source]).astype(np.float32),
    discount=discount.astype(np.float32),
  )
