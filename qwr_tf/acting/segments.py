"""Experience, and the protocol of the sources it comes from."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import tree


@dataclasses.dataclass
class Experience:
  """Rows, interactions and returns of one call of a source.

  A segment is consecutive rows of one environment, with mu. If several sources
  write to one table, rows of others follow a segment, so each source closes
  its segments: an episode that goes on is cut by a row of step type LAST with
  the observation that the next segment begins with, and mu there. Targets
  bootstrap from that row, and no transition is lost.

  Attributes:
    rows: `trajectory.Trajectory` of arrays [N, ...], as
      `ReplayTable.append_frames` takes them; None: there are none.
    repeats: bool [N], rows whose observation is in another segment, too.
    interactions: steps taken in environments.
    episode_returns: of the episodes that ended; undiscounted, before reward
      clipping if the environment records that.
    metrics: by name; a mean is taken over iterations, or the maximum where the
      name ends in `_max`.
  """

  rows: Any
  repeats: np.ndarray
  interactions: int
  episode_returns: list[float]
  metrics: dict[str, float] = dataclasses.field(default_factory=dict)


def join(parts: Sequence[Experience]) -> Experience:
  """The rows of all, in their order; metrics are summed up."""
  rows, repeats = None, np.zeros([0], bool)
  if parts:
    nests = [part.rows for part in parts]
    rows = tree.map_structure(lambda *x: np.concatenate(x), *nests)
    repeats = np.concatenate([part.repeats for part in parts])
  return Experience(
    rows,
    repeats,
    sum(part.interactions for part in parts),
    [r for part in parts for r in part.episode_returns],
    {
      name: sum(part.metrics[name] for part in parts)
      for name in (parts[0].metrics if parts else ())
    },
  )


class Source(Protocol):
  """Protocol of a source of segments."""

  def collect(
    self, env_steps: int, check_fn: Callable[[int, int], None]
  ) -> Experience:
    """Interactions with the newest policy.

    Args:
      env_steps: number of interactions; environments that are stepped together
        and episodes that are not cut may make it more.
      check_fn: called with the number so far and the number beyond env_steps,
        while an episode is awaited; may raise.
    """
    ...

  def state(self) -> dict[str, Any]:
    """Random state, counts and running episodes, for a checkpoint."""
    ...

  def restore(self, state: Mapping[str, Any]) -> None:
    """Restores what `state` returned."""
    ...
