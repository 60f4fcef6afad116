"""Statistics of the scores of a few runs.

The paper's own, median and half the interquartile range, and those of "Deep
Reinforcement Learning at the Edge of the Statistical Precipice": the
interquartile mean (IQM) with stratified bootstrap intervals, performance
profiles, and the probability of improvement. A stratum is the runs of one
environment.
"""

from collections.abc import Callable, Sequence

import numpy as np
from scipy import stats

Interval = tuple[float, float]


def half_iqr(scores: Sequence[float]) -> float:
  """Half the distance between the quartiles (interpolated)."""
  low, high = np.percentile(scores, [25, 75])
  return float(high - low) / 2


def iqm(scores):
  """Mean over runs without the outer quarters; of fewer than four, the mean."""
  return stats.trim_mean(scores, 0.25, axis=-1)


# Statistics for `bootstrap`: strata [..., runs] to [...]. All strata count the
# same but in the IQM.


def pooled_iqm(strata: Sequence[np.ndarray]) -> np.ndarray:
  """IQM over the runs of all strata."""
  return iqm(np.concatenate(strata, axis=-1))


def mean_of_means(strata: Sequence[np.ndarray]) -> np.ndarray:
  """Mean over strata of their means."""
  return np.mean([np.mean(stratum, axis=-1) for stratum in strata], axis=0)


def mean_of_medians(strata: Sequence[np.ndarray]) -> np.ndarray:
  """Mean over strata of their medians."""
  return np.mean([np.median(stratum, axis=-1) for stratum in strata], axis=0)


def difference_of_medians(strata: Sequence[np.ndarray]) -> np.ndarray:
  """Median of the first stratum less that of the second."""
  first, second = (np.median(stratum, axis=-1) for stratum in strata)
  return first - second


def probability_of_improvement(
  scores: Sequence[float], others: Sequence[float]
) -> float:
  """Share of pairs, one of each, in which the first is higher; ties: half."""
  signs = np.sign(np.subtract.outer(scores, others))
  return float((np.mean(signs) + 1) / 2)


def bootstrap(
  strata: Sequence[Sequence[float]],
  statistic: Callable[[Sequence[np.ndarray]], np.ndarray] = pooled_iqm,
) -> Interval | None:
  """95 % percentile interval; runs are drawn again within each stratum.

  Args:
    strata: scores of the runs, one sequence per environment.
    statistic: of arrays [resamples, runs], one per stratum.

  Returns:
    The interval; None if every stratum has but one run, which says nothing
    about other seeds.
  """
  bounds = _bounds([np.asarray(s, float) for s in strata], statistic, 10_000)
  return None if bounds is None else (float(bounds[0]), float(bounds[1]))


def _bounds(
  strata: Sequence[np.ndarray], statistic: Callable, resamples: int
) -> np.ndarray | None:
  """95 % bounds [2, ...] of a statistic of strata [..., runs]."""
  if all(stratum.shape[-1] == 1 for stratum in strata):
    return None
  rng = np.random.default_rng(0)  # The same rows give the same tables.
  drawn = []
  for stratum in strata:
    runs = stratum.shape[-1]
    picks = rng.integers(runs, size=(resamples, runs))
    drawn.append(np.sort(stratum)[..., picks])  # In any order.
  return np.percentile(statistic(drawn), [2.5, 97.5], axis=-1)


def profile(
  strata: Sequence[Sequence[float]], thresholds: np.ndarray
) -> np.ndarray:
  """Share of runs above each threshold, every stratum counted the same."""
  return mean_of_means(_above(strata, thresholds))


def profile_band(
  strata: Sequence[Sequence[float]], thresholds: np.ndarray
) -> np.ndarray | None:
  """95 % bootstrap bounds [2, thresholds] of the profile, as in `bootstrap`."""
  return _bounds(_above(strata, thresholds), mean_of_means, 2000)


def _above(
  strata: Sequence[Sequence[float]], thresholds: np.ndarray
) -> list[np.ndarray]:
  """True where a run is above a threshold, [thresholds, runs] per stratum."""
  return [
    (np.asarray(stratum) > thresholds[:, np.newaxis]).astype(float)
    for stratum in strata
  ]
