"""Statistics worked out by hand."""

import numpy as np
import pytest

from qwr_tf.reporting import scores


def test_the_papers_statistic():
  # Of five sorted scores the quartiles are the second and the fourth.
  five = [50.0, 10.0, 40.0, 20.0, 90.0]
  assert scores.half_iqr(five) == (50 - 20) / 2
  # Of two they lie a quarter of the way inside.
  assert scores.half_iqr([0.0, 8.0]) == (6 - 2) / 2


def test_iqm():
  # Of eight, two go on each side: (3 + 4 + 5 + 6) / 4.
  assert scores.iqm([100.0, 1, 2, 3, 4, 5, 6, -50]) == pytest.approx(3.5)
  assert scores.iqm([1.0, 2.0, 9.0]) == pytest.approx(4)  # The mean.


def test_bootstrap_is_stratified():
  # Within the strata nothing varies, so nothing may vary in between.
  assert scores.bootstrap([[1.0] * 5, [9.0] * 5]) == (5, 5)


def test_bootstrap_of_two_runs():
  # A quarter of the resamples is (0, 0), a quarter is (1, 1).
  assert scores.bootstrap([[0.0, 1.0]]) == (0, 1)


def test_bootstrap_of_many_runs():
  rng = np.random.default_rng(1)
  runs = rng.normal(size=400)
  low, high = scores.bootstrap([runs], scores.mean_of_means)
  # 1.96 standard errors, 0.098 for 400 runs of unit variance.
  assert low == pytest.approx(np.mean(runs) - 0.098, abs=0.01)
  assert high == pytest.approx(np.mean(runs) + 0.098, abs=0.01)


def test_bootstrap_repeats_itself_in_any_order():
  runs = [3.0, 1.0, 7.0, 5.0, 2.0]
  assert scores.bootstrap([runs]) == scores.bootstrap([sorted(runs)])


def test_bootstrap_keeps_what_is_only_one_run():
  # Of the resamples of (0, 4) a quarter are 0, half 2, a quarter 4.
  strata = [[10.0], [0.0, 4.0]]
  assert scores.bootstrap(strata, scores.mean_of_means) == (5, 7)
  assert scores.bootstrap(strata) == (10 / 3, 6)  # Pooled: of all three runs.


def test_bootstrap_of_all_resamples():
  # Three runs have 27 resamples, which 10000 draws come close to.
  runs = np.array([[1.0, 5.0, 6.0], [2.0, 3.0, 9.0]])
  grid = np.stack(np.meshgrid(*[range(3)] * 6, indexing='ij'), -1).reshape(
    -1, 6
  )
  first, second = runs[0, grid[:, :3]], runs[1, grid[:, 3:]]
  for statistic in (scores.mean_of_means, scores.mean_of_medians):
    exact = np.percentile(statistic([first, second]), [2.5, 97.5])
    drawn = scores.bootstrap(list(runs), statistic)
    assert drawn == pytest.approx(exact, abs=0.35)


def test_difference_of_medians():
  # Medians 7 and 2; among resamples of (0, 2, 4) medians reach 0 and 4.
  strata = [[7.0] * 3, [0.0, 2.0, 4.0]]
  of = scores.difference_of_medians
  assert of([np.array(s) for s in strata]) == 5
  assert scores.bootstrap(strata, of) == (3, 7)


def test_profile_band():
  # At 1 a half of two runs is above: none, one or both when drawn again; the
  # task with one run stays above. At 9 nobody is.
  band = scores.profile_band([[0.5, 1.5], [3.0]], np.array([1.0, 9.0]))
  assert band.tolist() == [[0.5, 0], [1, 0]]
  assert scores.profile_band([[0.5], [3.0]], np.array([1.0])) is None


def test_one_run_has_no_interval():
  assert scores.bootstrap([[1.0], [2.0]]) is None
  assert scores.bootstrap([[1.0], [2.0, 4.0]]) is not None


def test_profile():
  # Every task counts the same, however many runs it has.
  shares = scores.profile([[0.5, 1.5], [0.5]], np.array([0.0, 0.5, 1.0, 2.0]))
  assert shares.tolist() == [1, 0.25, 0.25, 0]
