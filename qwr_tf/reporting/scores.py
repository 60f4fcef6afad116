"""Statistics of a few runs' scores.

The paper's own, median and half the interquartile range, and those of "Deep
Reinforcement Learning at the Edge of the Statistical Precipice": the
interquartile mean (IQM) with stratified bootstrap intervals, performance
profiles, and the probability of improvement. A stratum is one environment's
runs.
"""

from collections.abc import Callable, Sequence

import numpy as np
from scipy import stats

# A fixed seed: the same rows give the same tables.
_SEED, _RESAMPLES = 0, 10_000

Interval = tuple[float, float]


def median(scores: Sequence[float]) -> float:
  """Of all scores."""
  return float(np.median(scores))


def half_iqr(scores: Sequence[float]) -> float:
  """Half the distance between the quartiles (interpolated)."""
  low, high = np.percentile(scores, [25, 75])
  return float(high - low) / 2


def mean(scores: Sequence[float]) -> float:
  """Of all scores."""
  return float(np.mean(scores))


def iqm(scores, axis: int = 0):
  """Mean of what is left when the outer quarters are cut off.

  Of less than four scores nothing is cut: then it is the mean.

  Args:
    scores: floats of any shape.
    axis: of the runs.
  """
  return stats.trim_mean(scores, 0.25, axis=axis)


def pooled_iqm(strata: Sequence[np.ndarray]) -> np.ndarray:
  """IQM over the runs of all strata [..., runs]; a `bootstrap` statistic."""
  return iqm(np.concatenate(strata, axis=-1), axis=-1)


def mean_of_means(strata: Sequence[np.ndarray]) -> np.ndarray:
  """Each stratum counts the same; a `bootstrap` statistic."""
  return np.mean([np.mean(stratum, axis=-1) for stratum in strata], axis=0)


def mean_of_medians(strata: Sequence[np.ndarray]) -> np.ndarray:
  """Each stratum counts the same; a `bootstrap` statistic."""
  return np.mean([np.median(stratum, axis=-1) for stratum in strata], axis=0)


def difference_of_medians(strata: Sequence[np.ndarray]) -> np.ndarray:
  """Of the first stratum from the second; a `bootstrap` statistic."""
  ours, theirs = (np.median(stratum, axis=-1) for stratum in strata)
  return ours - theirs


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
    statistic: of arrays [resamples, runs], one per stratum; over the last
      axis.

  Returns:
    The interval; None if every stratum has but one run, which says nothing
    about other seeds.
  """
  bounds = _bounds([np.asarray(s, float) for s in strata], statistic)
  return None if bounds is None else (float(bounds[0]), float(bounds[1]))


def _bounds(
  strata: Sequence[np.ndarray], statistic: Callable, count: int = _RESAMPLES
) -> np.ndarray | None:
  """95 % bounds [2, ...] of a statistic of strata [..., runs].

  scipy refuses to draw from one run; a stratum of one stays what it is.
  """
  several = [np.sort(s) for s in strata if s.shape[-1] > 1]  # In any order.
  if not several:
    return None

  def of_drawn(*drawn, axis):
    left, shape = iter(drawn), drawn[0].shape[:-1]
    return statistic(
      [
        next(left) if s.shape[-1] > 1 else _spread(s, shape, axis)
        for s in strata
      ]
    )

  interval = stats.bootstrap(
    several, of_drawn, n_resamples=count, method='percentile', rng=_SEED,
    axis=-1, vectorized=True,
  ).confidence_interval  # fmt: skip
  return np.array([interval.low, interval.high])


def _spread(stratum: np.ndarray, shape: tuple[int, ...], axis: int):
  """[..., 1] as [..., resamples, 1], as often as the others were drawn."""
  while stratum.ndim <= len(shape):
    stratum = np.expand_dims(stratum, axis - 1)
  return np.broadcast_to(stratum, (*shape, 1))


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
  """Whether a run is above a threshold, [thresholds, runs] per stratum."""
  return [
    (np.asarray(stratum) > thresholds[:, np.newaxis]).astype(float)
    for stratum in strata
  ]
