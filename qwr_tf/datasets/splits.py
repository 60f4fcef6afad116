"""Which episodes of a data set are learned from, and which are held out."""

import functools
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import numpy as np

from qwr_tf.datasets import steps as steps_lib
from qwr_tf.datasets.steps import Steps

# Number of an episode in the data set to whether it is read.
Keep = Callable[[int], bool]


class Split(NamedTuple):
  """A random episode of every 1 / share consecutive ones is held out.

  The choice depends on the seed and the episode's number alone, and both parts
  cover the whole time in which the data were logged. The first episode is
  always learned from.

  Attributes:
    share: held out, 0 (nothing) ... 0.5, or 1 (everything).
    seed: of the choice.
  """

  share: float
  seed: int = 0

  def checked(self) -> 'Split':
    """Returns the split if its share is 0, 1 or 1 / n, within 2 %.

    Raises:
      ValueError: for a share other than 0, 1 and 1 / n.
    """
    share = self.share
    if share in (0, 1) or (
      0 < share <= 0.5 and abs(share * round(1 / share) - 1) < 0.02
    ):
      return self
    raise ValueError(
      f'held_out_share is {share:g} and must be 0, 1 or 1 / n: 0.5, 0.333, '
      '0.25, 0.2 and so on.'
    )

  def is_held_out(self, episode: int) -> bool:
    """True for an episode, counted from 0, that is held out."""
    if not 0 < self.share < 1:
      return self.share >= 1
    size = round(1 / self.share)
    return episode % size == _chosen(self.seed, episode // size, size)

  def is_learned_from(self, episode: int) -> bool:
    """True for an episode that training uses."""
    return not self.is_held_out(episode)


@functools.lru_cache(maxsize=1024)
def _chosen(seed: int, block: int, size: int) -> int:
  first = 1 if block == 0 else 0
  return int(np.random.default_rng([seed, block]).integers(first, size))


def select(
  chunks: Iterable[Steps], keep: Keep, num_steps: int = 1
) -> Iterator[Steps]:
  """The steps of some episodes, at least num_steps at once.

  Args:
    chunks: consecutive steps from the first episode on.
    num_steps: of a chunk but the last one. TensorFlow traces a function for
      each length.
  """
  return steps_lib.regrouped(_selected(chunks, keep), num_steps)


def _selected(chunks: Iterable[Steps], keep: Keep) -> Iterator[Steps]:
  episode = 0
  for chunk in chunks:
    ends = chunk.terminal | chunk.timeout | chunk.cut
    of_step = episode + np.cumsum(ends) - ends
    numbers = np.arange(episode, of_step[-1] + 1)
    kept = np.array([keep(int(number)) for number in numbers])
    is_kept = kept[of_step - episode]
    episode = int(of_step[-1] + ends[-1])
    if is_kept.all():
      yield chunk
    elif is_kept.any():
      of_end = is_kept[chunk.terminal]
      final = steps_lib.selected(chunk.final_observation, of_end)
      others = steps_lib.selected(chunk._replace(final_observation=()), is_kept)
      yield others._replace(final_observation=final)
