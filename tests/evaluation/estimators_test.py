"""Estimators: hand-worked episodes, unbiasedness, coverage."""

import numpy as np
import pytest

from qwr_tf.evaluation import estimators
from qwr_tf.evaluation.estimators import Episodes

_GAMMA = 0.5


def _two_episodes() -> Episodes:
  """One of three steps, ratios 2, 1, 1/2; one of two steps, ratios 1, 3."""
  return Episodes(
    rewards=np.array([1.0, 2.0, 4.0, 3.0, 1.0]),
    is_first=np.array([True, False, False, True, False]),
    log_ratios=np.log([2.0, 1.0, 0.5, 1.0, 3.0]),
    q_values=np.array([1.0, 1.0, 2.0, 2.0, 0.0]),
    state_values=np.array([2.0, 1.0, 3.0, 1.0, 1.0]),
  )


def test_discounted_returns_by_hand():
  returns = estimators.discounted_returns(_two_episodes(), _GAMMA)
  np.testing.assert_allclose(returns, [1 + 1 + 1, 3 + 0.5])


def test_importance_sampling_by_hand():
  # Cumulative ratios: 2, 2, 1 and 1, 3, then 3 after the second one's end.
  plain = (2 * 1 + 1 * 3) / 2 + 0.5 * (2 * 2 + 3 * 1) / 2 + 0.25 * (1 * 4) / 2
  weighted = (2 * 1 + 1 * 3) / 3 + 0.5 * (2 * 2 + 3 * 1) / 5 + 0.25 * 4 / 4
  episodes = _two_episodes()
  for is_weighted, wanted in ((False, plain), (True, weighted)):
    value = estimators.importance_sampling(episodes, _GAMMA, is_weighted)
    assert value == pytest.approx(wanted)


def test_doubly_robust_by_hand():
  episodes = _two_episodes()
  plain = (
    (2 * 0 + 2 + 1 * 1 + 1) / 2
    + 0.5 * (2 * 1 + 2 * 1 + 3 * 1 + 1 * 1) / 2
    + 0.25 * (1 * 2 + 2 * 3) / 2
  )
  weighted = (
    (2 * 0 + 1 * 1) / 3
    + (2 + 1) / 2
    + 0.5 * ((2 * 1 + 3 * 1) / 5 + (2 * 1 + 1 * 1) / 3)
    + 0.25 * (1 * 2 / 4 + 2 * 3 / 5)
  )
  for is_weighted, wanted in ((False, plain), (True, weighted)):
    value = estimators.doubly_robust(episodes, _GAMMA, is_weighted)
    assert value == pytest.approx(wanted)


def test_counts_stand_for_copies_of_episodes():
  episodes = _two_episodes()
  copied = Episodes(*(np.concatenate([x[:3], x[:3], x[3:]]) for x in episodes))
  left_out = Episodes(*(x[:3] for x in episodes))
  for function in (estimators.importance_sampling, estimators.doubly_robust):
    for counts, wanted in (([2.0, 1.0], copied), ([1.0, 0.0], left_out)):
      value = function(episodes, _GAMMA, counts=np.array(counts))
      assert value == pytest.approx(function(wanted, _GAMMA))


def test_effective_sample_size():
  episodes = _two_episodes()
  assert estimators.effective_sample_size(episodes) == pytest.approx(16 / 10)
  alike = episodes._replace(log_ratios=np.zeros(5))
  assert estimators.effective_sample_size(alike) == pytest.approx(2.0)


def test_ratios_beyond_floating_point():
  far = _two_episodes()._replace(log_ratios=np.full(5, -800.0))
  value = estimators.importance_sampling(far, _GAMMA)
  # The last step of the longer episode weighs nothing beside the shorter one.
  assert value == pytest.approx((1 + 3) / 2 + 0.5 * (2 + 1) / 2)


def _bandit(rng, episodes: int) -> tuple[Episodes, float]:
  """A contextual bandit with a wrong model of its rewards, and the truth."""
  context = rng.integers(2, size=episodes)
  mu = np.array([[0.7, 0.3], [0.4, 0.6]])
  pi = np.array([[0.2, 0.8], [0.5, 0.5]])
  means = np.array([[0.0, 1.0], [2.0, -1.0]])
  action = (rng.random(episodes) < mu[context, 1]).astype(int)
  model = means + np.array([[0.5, -0.5], [1.0, 0.0]])
  logged = Episodes(
    means[context, action] + rng.normal(size=episodes),
    np.ones(episodes, bool),
    np.log(pi[context, action] / mu[context, action]),
    model[context, action],
    (pi * model).sum(axis=1)[context],
  )
  return logged, float((pi * means).sum(axis=1).mean())


def test_unbiased_over_resamples_of_a_bandit():
  rng = np.random.default_rng(0)
  for function in (estimators.importance_sampling, estimators.doubly_robust):
    values = []
    for _ in range(1000):
      episodes, truth = _bandit(rng, 20)
      values.append(function(episodes, 1.0, weighted=False))
    error = np.std(values) / np.sqrt(len(values))
    assert abs(np.mean(values) - truth) < 3 * error


@pytest.mark.slow
@pytest.mark.parametrize(
  'function', [estimators.importance_sampling, estimators.doubly_robust]
)
def test_intervals_cover_the_truth(function):
  rng = np.random.default_rng(1)
  covered = 0
  for repeat in range(200):
    episodes, truth = _bandit(rng, 60)

    def estimate(counts, episodes=episodes):
      return function(episodes, 1.0, counts=counts)

    interval = estimators.bootstrap(estimate, 60, repeats=60, seed=repeat)
    assert interval.low <= interval.value <= interval.high
    covered += interval.low <= truth <= interval.high
  assert 0.85 <= covered / 200 <= 0.99


def test_intervals_of_a_few_resamples_cover_the_truth():
  rng = np.random.default_rng(2)
  covered = 0
  for _ in range(200):
    data = rng.normal(size=40)
    means = [
      np.average(data, weights=estimators.resample(40, rng)) for _ in range(5)
    ]
    interval = estimators.of_resamples(np.array(means))
    covered += interval.low <= 0.0 <= interval.high
  assert 0.85 <= covered / 200 <= 0.99
