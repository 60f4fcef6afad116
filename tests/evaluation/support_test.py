"""Diagnostics of support on samples where the answer is known."""

import numpy as np
import pytest

from qwr_tf.evaluation import support


def _sample(taken, logged, probs=None):
  rng = np.random.default_rng(0)
  return support.Sample(
    rng.normal(size=[len(logged), 2]), logged, taken, probs,
    np.arange(len(logged)) // 10,
  )  # fmt: skip


def test_distance_to_logged_vectors():
  rng = np.random.default_rng(1)
  logged = rng.uniform(-0.5, 0.5, [1000, 2])
  alike = rng.uniform(-0.5, 0.5, [1000, 2])
  share = support.off_support(_sample(alike, logged))
  assert share == pytest.approx(0.05, abs=0.03)
  assert support.off_support(_sample(alike + 2.0, logged)) == 1.0


def test_discrete_actions_that_nobody_took():
  logged = np.zeros(200, int)
  probs = np.tile([0.25, 0.75], [200, 1])
  assert support.off_support(_sample(logged, logged, probs)) == 0.75


@pytest.mark.parametrize('offset', [1e4, 1e6])
def test_neighbours_of_states_far_from_zero(offset):
  # Years and prices: their distances are small beside the numbers themselves.
  states = np.random.default_rng(0).normal(size=[2000, 2])
  logged = (states[:, 0] > 0).astype(int)
  sample = support.Sample(
    states, logged, logged, np.eye(2)[1 - logged], np.arange(2000) // 10
  )
  share = support.off_support(sample)
  assert share > 0.8
  moved = sample._replace(observations=states + offset)
  assert support.off_support(moved) == pytest.approx(share, abs=0.01)


def test_images_and_small_samples_have_no_answer():
  logged = np.zeros(10, int)
  assert support.off_support(_sample(logged, logged)) is None
  images = _sample(np.zeros(100), np.zeros(100))._replace(
    observations=np.zeros([100, 8, 8, 1])
  )
  assert support.off_support(images) is None


def test_actions_a_recorded_policy_hardly_takes():
  probs = np.tile([0.5, 0.5], [4, 1])
  sample = _sample(np.zeros(4, int), np.zeros(4, int), probs)
  mu = {'logits': np.log(np.tile([0.99, 0.01], [4, 1]))}
  assert support.hardly_taken(sample, mu) == pytest.approx(0.5)
  assert support.hardly_taken(sample, None) is None


def test_slope_of_errors_on_advantages():
  rng = np.random.default_rng(2)
  advantages = rng.normal(size=4000)
  errors = 0.7 * advantages + rng.normal(size=4000)
  slope, error = support.slope(advantages, errors, np.arange(4000) // 20)
  assert slope == pytest.approx(0.7, abs=3 * error)
  assert error < 0.05
