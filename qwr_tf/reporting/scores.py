"""Statistics of a few runs' scores.

The paper's own, median and half the interquartile range, and those of "Deep
Reinforcement Learning at the Edge of the Statistical Precipice": the
interquartile mean (IQM) with stratified bootstrap intervals, and performance
profiles. A stratum is one environment's runs.
"""

from collections.abc import Callable, Sequence

import numpy as np

from qwr_tf.gin_files import ConfigError

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

  Raises:
    ConfigError: without scipy.
  """
  try:
    from scipy import stats  # Only the report needs it.
  except ImportError as error:
    raise ConfigError(
      "the report needs scipy; run pip install 'qwr_tf[report]'."
    ) from error
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
  if max(len(stratum) for stratum in strata) < 2:
    return None
  low, high = np.percentile(statistic(_resamples(strata)), [2.5, 97.5])
  return float(low), float(high)


def _resamples(strata, count: int = _RESAMPLES) -> list[np.ndarray]:
  """Arrays [count, runs], one per stratum."""
  rng = np.random.default_rng(_SEED)
  drawn = []
  for stratum in strata:
    runs = np.sort(np.asarray(stratum, float))  # Whatever order rows have.
    picks = rng.integers(len(runs), size=(count, len(runs)))
    drawn.append(runs[picks])
  return drawn


def profile(
  strata: Sequence[Sequence[float]], thresholds: np.ndarray
) -> np.ndarray:
  """Share of runs above each threshold, every stratum counted the same."""
  return _shares(
    [np.asarray(stratum)[np.newaxis] for stratum in strata], thresholds
  )[0]


def profile_band(
  strata: Sequence[Sequence[float]], thresholds: np.ndarray
) -> np.ndarray | None:
  """95 % bootstrap bounds [2, thresholds] of the profile, as in `bootstrap`."""
  if max(len(stratum) for stratum in strata) < 2:
    return None
  shares = _shares(_resamples(strata, 2000), thresholds)
  return np.percentile(shares, [2.5, 97.5], axis=0)


def _shares(strata: Sequence[np.ndarray], thresholds) -> np.ndarray:
  """[resamples, thresholds] from arrays [resamples, runs]."""
  return np.mean(
    [
      np.mean(stratum[..., np.newaxis] > thresholds, axis=1)
      for stratum in strata
    ],
    axis=0,
  )
