"""Checks that logged actions support an estimate of a policy's value."""

from typing import NamedTuple

import numpy as np
from scipy import special
from scipy import stats

# What a policy "hardly takes": a discrete action with less probability, or a
# point outside of the ellipsoid that holds this share of a Gaussian's samples.
_HARDLY = 0.02
_ELLIPSOID = 0.99
_NEIGHBORS = 20  # Nearest states whose actions count as logged there.
_QUANTILE = 0.95  # Of logged actions' own distances: beyond it is off support.
_QUERIES, _REFERENCES = 500, 10_000


class Sample(NamedTuple):
  """A sample of n logged steps.

  Attributes:
    observations: [n, ...].
    logged: actions, [n] or [n, A].
    taken: sample of the evaluated policy, likewise.
    probs: of all discrete actions under it, [n, actions]; None if continuous.
    episode: of each step, int [n].
  """

  observations: np.ndarray
  logged: np.ndarray
  taken: np.ndarray
  probs: np.ndarray | None
  episode: np.ndarray


def hardly_taken(
  sample: Sample, mu: dict[str, np.ndarray] | None
) -> float | None:
  """Share of states whose action a recorded mu would hardly take.

  Args:
    mu: parameters there; None, or of logged actions alone: returns None.
  """
  if mu and 'logits' in mu:
    rare = special.softmax(mu['logits'], axis=-1) < _HARDLY
    return float(np.mean(np.sum(sample.probs * rare, axis=-1)))
  if mu and 'loc' in mu:
    z = (sample.taken - mu['loc']) / mu['scale_diag']
    # What the environment clips lies at least as far inside as the bound.
    limit = stats.chi2.ppf(_ELLIPSOID, z.shape[-1])
    return float(np.mean(np.sum(z**2, axis=-1) > limit))
  return None


def off_support(sample: Sample) -> float | None:
  """Share of states whose action is far from those logged nearby.

  Nearby are the nearest states of other episodes, by normalised observations.
  A discrete action is far if none of them has it; a vector if its distance to
  the nearest of theirs exceeds what 95 % of the logged actions keep.

  Returns:
    None for observations other than vectors, and for too few steps.
  """
  count = len(sample.logged)
  if sample.observations.ndim != 2 or count < 2 * _NEIGHBORS:
    return None
  rng = np.random.default_rng(0)
  references = rng.permutation(count)[:_REFERENCES]
  queries = rng.permutation(count)[:_QUERIES]
  states = sample.observations.astype(np.float64)
  deviation = states.std(axis=0)
  # Far from zero the squares below would have no digits left for distances.
  states -= states.mean(axis=0)
  states = states[:, deviation > 0] / deviation[deviation > 0]
  states = states.astype(np.float32)
  squares = np.sum(states[references] ** 2, axis=-1)
  distances = squares - 2.0 * states[queries] @ states[references].T
  same = sample.episode[queries][:, np.newaxis] == sample.episode[references]
  if same.all():
    return None
  distances[same] = np.inf
  nearest = references[
    np.argpartition(distances, _NEIGHBORS, axis=1)[:, :_NEIGHBORS]
  ]
  near = sample.logged[nearest]  # [queries, neighbours, ...]
  if sample.probs is not None:
    is_near = np.any(
      near[..., np.newaxis] == np.arange(sample.probs.shape[-1]), 1
    )
    return float(np.mean(np.sum(sample.probs[queries] * ~is_near, axis=-1)))

  def distance(actions: np.ndarray) -> np.ndarray:
    apart = np.sum((near - actions[queries][:, np.newaxis]) ** 2, axis=-1)
    return np.sqrt(apart.min(axis=1))

  limit = np.quantile(distance(sample.logged), _QUANTILE)
  return float(np.mean(distance(sample.taken) > limit))


def slope(
  advantages: np.ndarray, errors: np.ndarray, episode: np.ndarray
) -> tuple[float, float]:
  """Least squares of TD errors on advantages: (slope, standard error).

  The TD error of V has the advantage as its expectation: 1 where advantages
  hold, 0 where they are noise. The error is that of clusters, the episodes.
  """
  x = advantages - advantages.mean()
  y = errors - errors.mean()
  total = float(np.sum(x**2))
  if not total:
    return float('nan'), float('nan')
  value = float(np.sum(x * y)) / total
  scores = np.bincount(episode, x * (y - value * x))
  return value, float(np.sqrt(np.sum(scores**2))) / total
