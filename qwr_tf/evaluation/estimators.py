"""Off-policy estimates of a policy's value from logged episodes, as functions.

The value is the expected discounted return J = E[sum_t gamma^t r_t]. Arrays are
flat, [N] for all steps of all E episodes one after the other. An episode that
has ended keeps its last importance weight and earns nothing.

* Per-decision importance sampling: sum_t gamma^t sum_i w_t^i r_t^i with
  w_t^i = rho_t^i / E, rho_t^i = prod_{k <= t} pi(a_k|s_k) / mu(a_k|s_k)
  (Precup et al. 2000). Weighted: w_t^i = rho_t^i / sum_j rho_t^j, biased but of
  far lower variance.
* Doubly robust: sum_t gamma^t sum_i (w_t^i (r_t^i - Q(s_t, a_t)) + w_{t-1}^i
  V(s_t)) (Jiang & Li 2016; weighted: Thomas & Brunskill 2016).
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy import special
from scipy import stats


class Interval(NamedTuple):
  """An estimate with a confidence interval."""

  value: float
  low: float
  high: float


class Episodes(NamedTuple):
  """Steps of E episodes in time order, float [N].

  Attributes:
    rewards: r_t.
    is_first: whether a step begins an episode, bool.
    log_ratios: log pi(a|s) - log mu(a|s); None where mu is not known.
    q_values: Q(s, a) of the logged action; None without a model.
    state_values: V(s), the mean of Q under pi.
  """

  rewards: np.ndarray
  is_first: np.ndarray
  log_ratios: np.ndarray | None = None
  q_values: np.ndarray | None = None
  state_values: np.ndarray | None = None

  @property
  def number(self) -> int:
    """E."""
    return int(self.is_first.sum())

  @property
  def episode(self) -> np.ndarray:
    """Number of each step's episode, int [N]."""
    return np.cumsum(self.is_first) - 1

  @property
  def age(self) -> np.ndarray:
    """t, the number of each step in its episode, int [N]."""
    starts = np.flatnonzero(self.is_first)
    return np.arange(len(self.is_first)) - starts[self.episode]


def discounted_returns(episodes: Episodes, gamma: float) -> np.ndarray:
  """sum_t gamma^t r_t of each episode, [E]."""
  return np.bincount(
    episodes.episode, gamma**episodes.age * episodes.rewards, episodes.number
  )


def importance_sampling(
  episodes: Episodes,
  gamma: float,
  weighted: bool = True,
  counts: np.ndarray | None = None,
) -> float:
  """Per-decision importance sampling.

  Args:
    episodes: with `log_ratios`.
    weighted: whether weights are normalised at each t.
    counts: how often each episode is in a resample, [E]; None: once.
  """
  weights, _ = _weights(episodes, weighted, counts)
  return float(np.sum(gamma**episodes.age * weights * episodes.rewards))


def doubly_robust(
  episodes: Episodes,
  gamma: float,
  weighted: bool = True,
  counts: np.ndarray | None = None,
) -> float:
  """The doubly robust estimate; arguments as in `importance_sampling`.

  Args:
    episodes: with `log_ratios`, `q_values` and `state_values`.
  """
  weights, before = _weights(episodes, weighted, counts)
  corrections = weights * (episodes.rewards - episodes.q_values)
  values = before * episodes.state_values
  return float(np.sum(gamma**episodes.age * (corrections + values)))


def log_weights(episodes: Episodes) -> np.ndarray:
  """Logarithm of rho_t, [N]."""
  assert episodes.log_ratios is not None
  sums = np.cumsum(episodes.log_ratios)
  starts = np.flatnonzero(episodes.is_first)
  return sums - (sums - episodes.log_ratios)[starts][episodes.episode]


def effective_sample_size(episodes: Episodes) -> float:
  """(sum_i rho^i)^2 / sum_i (rho^i)^2 over the E weights of whole episodes.

  1: one episode decides; E: all count alike.
  """
  last = log_weights(episodes)[np.append(episodes.is_first[1:], True)]
  return float(
    np.exp(2 * special.logsumexp(last) - special.logsumexp(2 * last))
  )


def _weights(
  episodes: Episodes, weighted: bool, counts: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
  """(w_t, w_{t-1}) of all steps, [N] each."""
  age, is_first = episodes.age, episodes.is_first
  if counts is None:
    counts = np.ones(episodes.number)
  with np.errstate(divide='ignore'):  # log 0 of episodes left out.
    log_counts = np.log(counts)[episodes.episode]
  logs = log_weights(episodes) + log_counts
  log_total = np.full(age.max() + 1, np.log(counts.sum()))
  before = np.exp(log_counts - log_total[0])
  if weighted:
    is_last = np.append(is_first[1:], True)
    ended = np.full(len(log_total), -np.inf)
    ended[1:] = _log_sums(age[is_last], logs[is_last], len(log_total))[:-1]
    log_total = np.logaddexp(
      _log_sums(age, logs, len(log_total)), np.logaddexp.accumulate(ended)
    )
  weights = np.exp(logs - log_total[age])
  later = np.flatnonzero(~is_first)
  before[later] = weights[later - 1]
  return weights, before


def _log_sums(groups: np.ndarray, logs: np.ndarray, number: int) -> np.ndarray:
  """Logarithms of the sums of exp(logs) by group, [number]."""
  largest = np.full(number, -np.inf)
  np.maximum.at(largest, groups, logs)
  shift = np.where(np.isfinite(largest), largest, 0.0)
  sums = np.bincount(groups, np.exp(logs - shift[groups]), number)
  with np.errstate(divide='ignore'):
    return np.log(sums) + shift


def bootstrap(
  estimate: Callable[[np.ndarray], float],
  episodes: int,
  *,
  repeats: int = 200,
  seed: int = 0,
) -> Interval:
  """An estimate with its 95 % percentile interval over resampled episodes.

  Args:
    estimate: counts of the episodes in a resample [E] to an estimate.
    episodes: E.
  """
  rng = np.random.default_rng(seed)
  resampled = [
    estimate(resample(episodes, rng).astype(float)) for _ in range(repeats)
  ]
  low, high = np.quantile(resampled, [0.025, 0.975])
  return Interval(estimate(np.ones(episodes)), float(low), float(high))


def resample(episodes: int, rng: np.random.Generator) -> np.ndarray:
  """Number of times each of E episodes is drawn in E draws, int [E]."""
  draws = rng.integers(episodes, size=episodes)
  return np.bincount(draws, minlength=episodes)


def of_resamples(values: np.ndarray) -> Interval:
  """95 % interval from K estimates, each on its own resample of the episodes.

  Their standard deviation estimates the standard error. With K resamples the
  quantile is Student's with K - 1 degrees of freedom, times sqrt(1 + 1 / K).
  """
  count = len(values)
  mean = float(np.mean(values))
  if count < 2:
    return Interval(mean, np.nan, np.nan)
  quantile = stats.t.ppf(0.975, count - 1)
  half = quantile * float(np.std(values, ddof=1)) * np.sqrt(1.0 + 1.0 / count)
  return Interval(mean, mean - half, mean + half)
