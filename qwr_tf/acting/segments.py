"""Experience on its way into a replay table: segments from their sources."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol


class Segment(NamedTuple):
  """Consecutive rows of one environment, with mu.

  A source that is not alone closes its segments: other sources' rows follow
  them in the table, so that an episode that goes on is cut there. The final
  row, of step type LAST, then has the observation that the next segment begins
  with, and mu there: targets bootstrap from it, and no transition is lost.

  Attributes:
    rows: `trajectory.Trajectory` of arrays [N, ...].
    source: number of the environment.
    continues: whether the first row goes on in an episode that was cut.
    is_cut: whether the last row cuts the episode.
  """

  rows: Any
  source: int = 0
  continues: bool = False
  is_cut: bool = False


@dataclasses.dataclass
class Experience:
  """Segments, interactions and returns of one call of a source.

  Attributes:
    segments: those of each environment in the order of time.
    interactions: steps taken in environments.
    episode_returns: of the episodes that ended; undiscounted, before reward
      clipping if the environment records that.
    metrics: by name; a mean is taken over iterations, or the maximum where the
      name ends in `_max`.
  """

  segments: list[Segment]
  interactions: int
  episode_returns: list[float]
  metrics: dict[str, float] = dataclasses.field(default_factory=dict)


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
