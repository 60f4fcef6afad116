"""The mathematics of Algorithm 2: numbers by hand, oracles, limits."""

import functools

import numpy as np
import pytest
import tensorflow as tf

from qwr_tf.ops import backups
from qwr_tf.ops import regression
from qwr_tf.ops import returns

_LN2, _LN3 = np.log(2.0), np.log(3.0)
_HALVES = np.log([[0.5], [0.5]])  # [n, 1]
_QUARTERS = np.log([[0.25], [0.75]])


def _tensor(values):
  return tf.constant(np.asarray(values, np.float32))


def _batch(mask):
  return regression.Batch(None if mask is None else tf.constant(mask))


def _close(actual, expected, rtol=1e-5, atol=1e-6):
  np.testing.assert_allclose(np.asarray(actual), expected, rtol, atol)


# Line 13: returns


def _lambda_returns(rewards, discounts, next_values, is_last, td_lambda):
  return returns.lambda_returns(
    _tensor(rewards),
    _tensor(discounts),
    _tensor(next_values),
    tf.constant(is_last),
    td_lambda,
  ).numpy()


def _slow_lambda_return(rewards, discounts, next_values, is_last, td_lambda):
  """The forward view: a weighted sum of explicit n-step returns, G_0.

  Weights are (1 - lambda) lambda^(n - 1), and what is left on the longest.
  """
  n_step_returns, rewarded, discount = [], 0.0, 1.0
  for reward, d, value, last in zip(
    rewards, discounts, next_values, is_last, strict=True
  ):
    rewarded += discount * reward
    discount *= d
    n_step_returns.append(rewarded + discount * value)
    if last:
      break
  longest = len(n_step_returns)
  n_weights = [(1 - td_lambda) * td_lambda**n for n in range(longest - 1)]
  n_weights.append(1.0 - sum(n_weights))
  return np.dot(n_weights, n_step_returns)


def _random_windows(rng, batch, horizon):
  """Windows over random episodes; about a third of the steps end one."""
  is_last = rng.random((batch, horizon)) < 0.35
  terminal = is_last & (rng.random((batch, horizon)) < 0.5)
  return (
    rng.normal(size=(batch, horizon)),
    np.where(terminal, 0.0, rng.uniform(0.8, 1.0, (batch, horizon))),
    rng.normal(size=(batch, horizon)) * 5,
    is_last,
  )


# Three steps of rewards 1, 2, 4 with discount 1/2 and next values 10, 20, 40.
_R, _D, _V = [[1.0, 2.0, 4.0]], [[0.5, 0.5, 0.5]], [[10.0, 20.0, 40.0]]
_NEVER = [[False, False, False]]


@pytest.mark.parametrize(
  ('td_lambda', 'expected'),
  [
    # One-step: 1 + 10/2, 2 + 20/2, 4 + 40/2.
    (0.0, [6.0, 12.0, 24.0]),
    # n-step: 4 + 40/2 = 24; 2 + 24/2 = 14; 1 + 14/2 = 8.
    (1.0, [8.0, 14.0, 24.0]),
    # 24; 2 + (20 + 24)/4 = 13; 1 + (10 + 13)/4 = 6.75.
    (0.5, [6.75, 13.0, 24.0]),
  ],
)
def test_lambda_returns_by_hand(td_lambda, expected):
  _close(_lambda_returns(_R, _D, _V, _NEVER, td_lambda), [expected])


@pytest.mark.parametrize('td_lambda', [0.0, 0.3, 1.0])
def test_horizon_one_is_the_one_step_target(td_lambda):
  # 3 + 0.9 * 10 = 12, whatever lambda is, at an episode's end or not.
  for last in (False, True):
    actual = _lambda_returns([[3.0]], [[0.9]], [[10.0]], [[last]], td_lambda)
    _close(actual, [[12.0]])


@pytest.mark.parametrize('td_lambda', [0.0, 0.95, 1.0])
@pytest.mark.parametrize('horizon', [1, 3, 10])
def test_weights_of_n_step_returns_sum_to_one(horizon, td_lambda):
  # All n-step returns are 1; Eq. 13 read literally gives 1 - lambda^T.
  ones, zeros = np.ones((1, horizon)), np.zeros((1, horizon))
  actual = _lambda_returns(zeros, ones, ones, zeros > 0, td_lambda)
  _close(actual, ones)


def test_weights_of_n_step_returns_by_hand():
  # lambda = 0.95, T = 3: 0.05, 0.05 * 0.95, and 0.95^2 on the longest.
  zeros, ones = np.zeros((3, 3)), np.ones((3, 3))
  actual = _lambda_returns(zeros, ones, np.eye(3), zeros > 0, 0.95)
  _close(actual[:, 0], [0.05, 0.0475, 0.9025])


def test_nothing_is_bootstrapped_at_a_terminal_step():
  # The second step ends the episode: 2; then 1 + (10 + 2)/4 = 4.
  last, discounts = [[False, True, False]], [[0.5, 0.0, 0.5]]
  _close(_lambda_returns(_R, discounts, _V, last, 0.5), [[4.0, 2.0, 24.0]])


def test_a_time_limit_bootstraps_from_the_last_observation():
  # 2 + 20/2 = 12, not 13 with what follows; then 1 + (10 + 12)/4 = 6.5.
  last = [[False, True, False]]
  _close(_lambda_returns(_R, _D, _V, last, 0.5), [[6.5, 12.0, 24.0]])


@pytest.mark.parametrize('td_lambda', [0.0, 0.95, 1.0])
@pytest.mark.parametrize('discount', [0.0, 0.5])
def test_what_follows_an_episode_end_does_not_matter(discount, td_lambda):
  last, discounts = [[False, True, False]], [[0.5, discount, 0.5]]
  before = _lambda_returns(_R, discounts, _V, last, td_lambda)[:, :2]
  rewards, values = [[1.0, 2.0, np.nan]], [[10.0, 20.0, np.inf]]
  after = _lambda_returns(rewards, discounts, values, last, td_lambda)[:, :2]
  np.testing.assert_array_equal(before, after)


@pytest.mark.parametrize('td_lambda', [0.0, 0.4, 0.95, 1.0])
@pytest.mark.parametrize('horizon', [1, 2, 3, 8])
def test_lambda_returns_equal_the_forward_view(horizon, td_lambda):
  windows = _random_windows(np.random.default_rng(horizon), 60, horizon)
  actual = _lambda_returns(*windows, td_lambda)
  assert actual.shape == (60, horizon)
  expected = [
    [
      _slow_lambda_return(*(x[b, j:] for x in windows), td_lambda)
      for j in range(horizon)
    ]
    for b in range(60)
  ]
  _close(actual, expected, rtol=1e-4, atol=1e-5)


def test_lambda_returns_need_a_static_horizon():
  unknown = tf.TensorSpec([4, None], tf.float32)
  fn = tf.function(lambda x: returns.lambda_returns(x, x, x, x > 0, 0.9))
  with pytest.raises(ValueError, match='static window length'):
    fn.get_concrete_function(unknown)


# Line 13: F


def _random_q(rng, shape, uniform=False):
  """Q [n, ...] and log-weights that sum to one in probability over n."""
  q_values = 3.0 * rng.normal(size=shape) + rng.normal(size=shape[1:]) * 5
  logits = np.zeros(shape) if uniform else rng.normal(size=shape)
  log_weights = logits - np.log(np.exp(logits).sum(0))
  return q_values, log_weights


def _call(fn, q_values, log_weights, mask=None, **kwargs):
  batch = _batch(mask)
  return fn(_tensor(q_values), _tensor(log_weights), batch, **kwargs).numpy()


def _slow_scale(q_values, log_weights, mask, per_state, power):
  """Deviation of Q, one state and one action at a time, in float64."""

  def weighted_mean(values, states):
    total = sum(
      np.exp(log_weights[a][s]) * values[a][s]
      for s in states
      for a in range(len(q_values))
    )
    return total / len(states)

  result = np.zeros(q_values.shape[1:])
  for state in np.ndindex(result.shape):
    states = [state] if per_state else list(zip(*np.nonzero(mask), strict=True))
    center = weighted_mean(q_values, states)
    deviations = np.abs(q_values - center) ** power
    result[state] = weighted_mean(deviations, states) ** (1 / power) + 1e-5
  return result


def _slow_lse(q_values, log_weights, temperature):
  """The definition, shifted so that it does not overflow, in float64."""
  top = q_values.max(0)
  total = np.sum(np.exp(log_weights + (q_values - top) / temperature), 0)
  return top + temperature * np.log(total)


_SCALES = [backups.mean_absolute_deviation, backups.standard_deviation]
_POWERS = {
  backups.mean_absolute_deviation: 1,
  backups.standard_deviation: 2,
}
_PER_STATE = [True, False]
_lse = backups.log_sum_exp_backup
_UNSCALED = functools.partial(_lse, scale_fn=backups.unit_scale)


@pytest.mark.parametrize(
  ('log_weights', 'mean'),
  # (1 + 5)/2, (6 - 2)/2; 1/4 + 15/4, 6/4 - 6/4.
  [(_HALVES, [3.0, 2.0]), (_QUARTERS, [4.0, 0.0])],
)
def test_mean_and_max_by_hand(log_weights, mean):
  q_values = [[1.0, 6.0], [5.0, -2.0]]
  _close(_call(backups.mean_backup, q_values, log_weights), mean)
  _close(_call(backups.max_backup, q_values, log_weights), [5.0, 6.0])


def test_log_sum_exp_by_hand_without_a_scale():
  q_values = [[0.0], [_LN3]]
  # log (1/2 + 3/2) and log (1/4 + 9/4).
  lse = functools.partial(_UNSCALED, backup_temperature=1.0)
  _close(_call(lse, q_values, _HALVES), [_LN2])
  _close(_call(lse, q_values, _QUARTERS), [np.log(2.5)])
  # tau = 1/2: 1/2 log (1/2 + 9/2).
  lse = functools.partial(_UNSCALED, backup_temperature=0.5)
  _close(_call(lse, q_values, _HALVES), [0.5 * np.log(5.0)])


def test_deviations_by_hand():
  # Weights 1/4, 3/4 on Q = 0, 4: mean 3, |deviations| 3 and 1.
  q_values = [[0.0], [4.0]]
  mad = _call(backups.mean_absolute_deviation, q_values, _QUARTERS)
  _close(mad, [0.25 * 3 + 0.75 * 1 + 1e-5], rtol=1e-6)
  std = _call(backups.standard_deviation, q_values, _QUARTERS)
  _close(std, [np.sqrt(0.25 * 9 + 0.75 * 1) + 1e-5], rtol=1e-6)


def test_minibatch_deviations_by_hand():
  # Q = +-10 +- 1, equal weights: mean 0, |deviations| 11, 9, 9, 11. Per state
  # they are all 1.
  q_values = [[11.0, -9.0], [9.0, -11.0]]
  expected = {
    backups.mean_absolute_deviation: 10.0,
    backups.standard_deviation: np.sqrt(101.0),
  }
  for scale_fn, batch_wide in expected.items():
    _close(_call(scale_fn, q_values, _HALVES), [1.0, 1.0], rtol=2e-5)
    _close(_call(scale_fn, q_values, _HALVES, per_state=False), batch_wide)


def test_log_sum_exp_divides_by_the_scale_by_hand():
  # Per state s = 1 and F = tau log cosh(1 / tau) above the mean; batch-wide s
  # = 10 and F = 10 tau log cosh(1 / (10 tau)) above it.
  q_values, tau = [[11.0, -9.0], [9.0, -11.0]], 0.3
  _close(
    _call(_lse, q_values, _HALVES, backup_temperature=tau),
    np.array([10.0, -10.0]) + tau * np.log(np.cosh(1 / tau)),
  )
  batch_wide = functools.partial(
    backups.mean_absolute_deviation, per_state=False
  )
  _close(
    _call(_lse, q_values, _HALVES, backup_temperature=tau, scale_fn=batch_wide),
    np.array([10.0, -10.0]) + 10 * tau * np.log(np.cosh(0.1 / tau)),
  )


def test_constant_q_values_have_the_smallest_scale():
  for scale_fn in _SCALES:
    for per_state in _PER_STATE:
      scale = _call(scale_fn, [[2.0], [2.0]], _HALVES, per_state=per_state)
      _close(scale, np.full_like(scale, 1e-5), atol=0)
  _close(_call(_lse, [[2.0], [2.0]], _HALVES), [2.0])


@pytest.mark.parametrize('per_state', _PER_STATE)
@pytest.mark.parametrize('scale_fn', _SCALES)
@pytest.mark.parametrize('shape', [(4, 6), (3, 5, 2)])
def test_scales_equal_the_oracle(shape, scale_fn, per_state):
  rng = np.random.default_rng(len(shape))
  q_values, log_weights = _random_q(rng, shape)
  power = _POWERS[scale_fn]
  for mask in (np.ones(shape[1:], bool), rng.random(shape[1:]) < 0.6):
    expected = _slow_scale(q_values, log_weights, mask, per_state, power)
    actual = _call(scale_fn, q_values, log_weights, mask, per_state=per_state)
    assert actual.shape == (shape[1:] if per_state else ())
    _close(np.broadcast_to(actual, shape[1:]), expected)
  # No mask counts all.
  full = np.ones(shape[1:], bool)
  expected = _slow_scale(q_values, log_weights, full, per_state, power)
  actual = _call(scale_fn, q_values, log_weights, per_state=per_state)
  _close(np.broadcast_to(actual, shape[1:]), expected)


@pytest.mark.parametrize('per_state', _PER_STATE)
@pytest.mark.parametrize('scale_fn', _SCALES)
def test_log_sum_exp_equals_the_oracle(scale_fn, per_state):
  rng = np.random.default_rng(1)
  q_values, log_weights = _random_q(rng, (4, 6, 3))
  mask = rng.random((6, 3)) < 0.6
  scale = _slow_scale(q_values, log_weights, mask, per_state, _POWERS[scale_fn])
  actual = _call(
    _lse,
    q_values,
    log_weights,
    mask,
    backup_temperature=0.7,
    scale_fn=functools.partial(scale_fn, per_state=per_state),
  )
  _close(actual, _slow_lse(q_values, log_weights, 0.7 * scale))


def test_log_sum_exp_defaults_are_tau_03_and_deviation_per_state():
  q_values, log_weights = _random_q(np.random.default_rng(2), (4, 6))
  full = np.ones(6, bool)
  scale = _slow_scale(q_values, log_weights, full, True, 1)
  actual = _call(_lse, q_values, log_weights)
  _close(actual, _slow_lse(q_values, log_weights, 0.3 * scale))


@pytest.mark.parametrize(
  'backup_fn',
  [
    backups.mean_backup,
    _lse,
    functools.partial(
      _lse,
      scale_fn=functools.partial(
        backups.mean_absolute_deviation, per_state=False
      ),
    ),
    functools.partial(
      _lse,
      scale_fn=functools.partial(backups.standard_deviation, per_state=False),
    ),
  ],
)
def test_log_weights_broadcast_over_states(backup_fn):
  q_values, _ = _random_q(np.random.default_rng(3), (4, 6, 2))
  shared = np.log([0.1, 0.2, 0.3, 0.4]).reshape(4, 1, 1)
  full = np.broadcast_to(shared, (4, 6, 2))
  _close(_call(backup_fn, q_values, shared), _call(backup_fn, q_values, full))


@pytest.mark.parametrize('scale_fn', [*_SCALES, backups.unit_scale])
def test_log_sum_exp_between_mean_and_max(scale_fn):
  rng = np.random.default_rng(4)
  q_values, log_weights = _random_q(rng, (4, 50))
  mean = _call(backups.mean_backup, q_values, log_weights)
  high = _call(backups.max_backup, q_values, log_weights)

  def lse(tau):
    return _call(
      _lse, q_values, log_weights, backup_temperature=tau, scale_fn=scale_fn
    )

  # tau -> 0 is the maximum, tau -> infinity the mean; less optimistic between.
  _close(lse(1e-3), high, atol=0.1)
  _close(lse(1e3), mean, atol=0.1)
  ladder = [high, lse(0.03), lse(0.3), lse(3.0), lse(30.0), mean]
  for above, below in zip(ladder[:-1], ladder[1:], strict=True):
    assert np.all(above > below)
  # The limits are approached in proportion to tau and to 1 / tau, so the bands
  # above are not what makes them look alike.
  assert np.abs(lse(1e-3) - high).max() < 0.02 * np.abs(lse(0.3) - high).max()
  assert np.abs(lse(1e3) - mean).max() < 0.02 * np.abs(lse(3.0) - mean).max()


_EVERY_BACKUP = [
  backups.mean_backup,
  backups.max_backup,
  _UNSCALED,
  *[
    functools.partial(
      _lse, scale_fn=functools.partial(scale_fn, per_state=per_state)
    )
    for scale_fn in _SCALES
    for per_state in _PER_STATE
  ],
]


@pytest.mark.parametrize('backup_fn', _EVERY_BACKUP)
def test_backups_shift_with_the_values(backup_fn):
  q_values, log_weights = _random_q(np.random.default_rng(5), (4, 8))
  before = _call(backup_fn, q_values, log_weights)
  for shift in (-7.0, 100.0):
    after = _call(backup_fn, q_values + shift, log_weights)
    _close(after, before + shift, atol=1e-4)


@pytest.mark.parametrize('factor', [0.1, 10.0, 1e4])
@pytest.mark.parametrize(
  'backup_fn', [fn for fn in _EVERY_BACKUP if fn is not _UNSCALED]
)
def test_backups_scale_with_the_values(backup_fn, factor):
  q_values, log_weights = _random_q(np.random.default_rng(6), (4, 8))
  before = _call(backup_fn, q_values, log_weights)
  after = _call(backup_fn, factor * q_values, log_weights)
  # The 1e-5 is 1e-5 of a spread of about 1, 1e-4 of one ten times smaller.
  _close(after / factor, before, rtol=1e-4, atol=1e-4)


def test_an_unscaled_temperature_is_in_units_of_return():
  # tau log (1/2 + 1/2 exp(c / tau)): c = log 3 gives log 2, c = 10 log 3 gives
  # log (1 + 3^10) - log 2 and not 10 log 2.
  lse = functools.partial(_UNSCALED, backup_temperature=1.0)
  actual = _call(lse, [[0.0], [10 * _LN3]], _HALVES)
  _close(actual, [np.log(1 + 3.0**10) - _LN2])


@pytest.mark.parametrize('backup_fn', _EVERY_BACKUP)
def test_enumerating_equals_sampling_in_the_proportions_of_mu(backup_fn):
  # mu = 1/2, 1/4, 1/4 and the four samples 0, 0, 1, 2 are the same measure.
  q_values = np.random.default_rng(7).normal(size=(3, 5))
  mu = np.log([[0.5], [0.25], [0.25]])
  samples = q_values[[0, 0, 1, 2]]
  _close(
    _call(backup_fn, samples, np.log(np.full((4, 1), 0.25))),
    _call(backup_fn, q_values, mu),
  )


@pytest.mark.parametrize('backup_fn', _EVERY_BACKUP)
def test_enumerating_is_the_limit_of_sampling(backup_fn):
  rng = np.random.default_rng(8)
  probs = np.array([0.6, 0.3, 0.1])
  q_values = rng.normal(size=(3, 5))
  exact = _call(backup_fn, q_values, np.log(probs)[:, None])
  n = 40_000
  samples = q_values[rng.choice(3, n, p=probs)]
  sampled = _call(backup_fn, samples, np.full((n, 1), -np.log(n)))
  # Four standard errors of the mean of a spread of about 1; the uniform mean
  # of the three actions is 0.1 and more away.
  _close(sampled, exact, rtol=0, atol=4 / np.sqrt(n))


@pytest.mark.parametrize(
  'backup_fn', [fn for fn in _EVERY_BACKUP if fn is not backups.max_backup]
)
def test_an_action_that_mu_never_takes_does_not_count(backup_fn):
  q_values, log_weights = _random_q(np.random.default_rng(9), (3, 5))
  never = np.full((1, 5), -np.inf)
  actual = _call(
    backup_fn,
    np.concatenate([q_values, np.full((1, 5), 100.0)]),
    np.concatenate([log_weights, never]),
  )
  _close(actual, _call(backup_fn, q_values, log_weights))


@pytest.mark.parametrize('scale_fn', _SCALES)
def test_minibatch_scale_ignores_masked_positions(scale_fn):
  rng = np.random.default_rng(10)
  q_values, log_weights = _random_q(rng, (4, 6, 3))
  mask = rng.random((6, 3)) < 0.6
  scale_fn = functools.partial(scale_fn, per_state=False)
  lse = functools.partial(_lse, scale_fn=scale_fn)
  scale = _call(scale_fn, q_values, log_weights, mask)
  values = _call(lse, q_values, log_weights, mask)
  for other in (1e4, np.nan):
    changed = np.where(mask, q_values, other)
    assert _call(scale_fn, changed, log_weights, mask) == scale
    after = _call(lse, changed, log_weights, mask)
    np.testing.assert_array_equal(after[mask], values[mask])
  # It sees the unmasked ones.
  changed = np.where(mask, 2 * q_values, q_values)
  _close(_call(scale_fn, changed, log_weights, mask), 2 * scale, rtol=1e-4)


def test_a_minibatch_without_any_state_has_a_finite_value():
  q_values, log_weights = _random_q(np.random.default_rng(11), (4, 6))
  nothing = np.zeros(6, bool)
  for scale_fn in _SCALES:
    scale_fn = functools.partial(scale_fn, per_state=False)
    scale = _call(scale_fn, q_values, log_weights, nothing)
    _close(scale, 1e-5, atol=0)
    lse = functools.partial(_lse, scale_fn=scale_fn)
    values = _call(lse, q_values, log_weights, nothing)
    _close(values, q_values.max(0), atol=1e-3)


def test_the_scale_decides_where_between_mean_and_max():
  """The figures of the design: 14 % batch-wide, 75 % per state.

  Q = 10 x + y with x of the state and y of the action standard normal, n = 4,
  tau = 0.3. Mean absolute deviations are sqrt(2 / pi) times the deviation: of
  y around its own mean sqrt(3/4), batch-wide sqrt(101), so tau s = 2.41, and to
  second order LSE - mean = (3/4) / (2 * 2.41) = 0.156; the maximum of four
  normals is 1.029 above their mean: 15 %, and a little less by the next
  orders. Per state tau s is about 0.21 and LSE is near max - tau s log 4 =
  1.03 - 0.29, 72 %, and a little more by the other actions.
  """
  rng = np.random.default_rng(12)
  q_values = 10 * rng.normal(size=50_000) + rng.normal(size=(4, 50_000))
  log_weights = np.full((4, 1), -np.log(4))
  mean, high = q_values.mean(0), q_values.max(0)

  def position(scale_fn):
    values = _call(_lse, q_values, log_weights, scale_fn=scale_fn)
    return np.mean(values - mean) / np.mean(high - mean)

  batch_wide = functools.partial(
    backups.mean_absolute_deviation, per_state=False
  )
  assert position(batch_wide) == pytest.approx(0.14, abs=0.015)
  per_state = position(backups.mean_absolute_deviation)
  assert per_state == pytest.approx(0.75, abs=0.015)


@pytest.mark.parametrize('sign', [1.0, -1.0])
@pytest.mark.parametrize('backup_fn', _EVERY_BACKUP)
def test_large_values_do_not_overflow(backup_fn, sign):
  # exp(1e6 / 0.3) is infinite in any float; max - tau log n <= LSE <= max.
  q_values = sign * 1e6 * np.array([[1.0, 1.0], [0.5, 1.0]])
  mean, high = q_values.mean(0), q_values.max(0)
  for log_weights in (_HALVES, _QUARTERS):
    values = _call(backup_fn, q_values, log_weights)
    assert np.all(np.isfinite(values))
    weighted = _call(backups.mean_backup, q_values, log_weights)
    assert np.all(values >= weighted - 1) and np.all(values <= high + 1)
  _close(_call(_UNSCALED, q_values, _HALVES), high, atol=1)
  _close(_call(backups.mean_backup, q_values, _HALVES), mean, rtol=1e-6)


def test_gradient_of_log_sum_exp_is_the_tilted_policy():
  # w exp(Q): 1/2 * 1 and 1/2 * 3, normalised.
  q_values = _tensor([[0.0], [_LN3]])
  with tf.GradientTape() as tape:
    tape.watch(q_values)
    value = _UNSCALED(q_values, _tensor(_HALVES), backup_temperature=1.0)
  _close(tape.gradient(value, q_values), [[0.25], [0.75]])


def test_the_temperature_is_a_constant_of_the_gradient():
  # Q = (0, 1), even odds: the deviation is 1/2, tau s = 1, and the shares of
  # the actions are softmax(0, 1) = (1, e) / (1 + e).
  q_values = tf.Variable([[0.0], [1.0]])
  log_weights = tf.math.log([[0.5], [0.5]])
  with tf.GradientTape() as tape:
    value = backups.log_sum_exp_backup(
      q_values, log_weights, backup_temperature=2.0
    )
  _close(value, [0.62011451], rtol=1e-4)  # log((1 + e) / 2)
  shares = tape.gradient(value, q_values)
  _close(shares, [[0.26894142], [0.73105858]], rtol=1e-4)


@pytest.mark.parametrize('backup_fn', _EVERY_BACKUP)
@pytest.mark.parametrize('size', [1.0, 1e6])
def test_gradients_of_backups_sum_to_one(backup_fn, size):
  # The derivative of shift-equivariance: shifting all Q by c adds c to each of
  # the 8 values.
  q_values, log_weights = _random_q(np.random.default_rng(13), (4, 8))
  q_values = _tensor(size * q_values)
  with tf.GradientTape() as tape:
    tape.watch(q_values)
    values = backup_fn(q_values, _tensor(log_weights))
  gradient = tape.gradient(values, q_values)
  assert np.all(np.isfinite(gradient))
  _close(tf.reduce_sum(gradient), 8.0, rtol=1e-3)


# Line 20: weights


@pytest.mark.parametrize(
  ('advantages', 'log_weights', 'mask', 'expected'),
  [
    # Mean 4, deviations -3, -1, 1, 3, variance 5.
    (
      [[1.0, 3.0], [5.0, 7.0]],
      _HALVES,
      None,
      np.array([[-3.0, -1.0], [1.0, 3.0]]) / np.sqrt(5.0),
    ),
    # The first state alone: mean 3, deviation 2.
    (
      [[1.0, 3.0], [5.0, 7.0]],
      _HALVES,
      [1.0, 0.0],
      [[-1.0, 0.0], [1.0, 2.0]],
    ),
    # Weights 1/4 and 3/4: mean 3, variance 9/4 + 3/4 = 3.
    (
      [[0.0], [4.0]],
      _QUARTERS,
      None,
      np.array([[-3.0], [1.0]]) / np.sqrt(3.0),
    ),
    # Both: the second state is left out.
    (
      [[0.0, 9.0], [4.0, 9.0]],
      _QUARTERS,
      [1.0, 0.0],
      np.array([[-3.0, 6.0], [1.0, 6.0]]) / np.sqrt(3.0),
    ),
    # Each state has its own weights: 0 and 4 with 1/4, 3/4, and 8 and 0 with
    # 3/4, 1/4. Mean (3 + 6)/2; variance half of 1/4 4.5^2 + 3/4 .5^2 + 3/4
    # 3.5^2 + 1/4 4.5^2, which is 9.75.
    (
      [[0.0, 8.0], [4.0, 0.0]],
      np.log([[0.25, 0.75], [0.75, 0.25]]),
      None,
      np.array([[-4.5, 3.5], [-0.5, -4.5]]) / np.sqrt(9.75),
    ),
    # The deviation 1e-5 is as large as what is added to it.
    ([[-1e-5], [1e-5]], _HALVES, None, [[-0.5], [0.5]]),
    # No spread at all.
    ([[3.0], [3.0]], _HALVES, None, [[0.0], [0.0]]),
  ],
)
def test_standardize_by_hand(advantages, log_weights, mask, expected):
  mask = None if mask is None else _tensor(mask)
  actual = regression.standardize(
    _tensor(advantages), _tensor(log_weights), _batch(mask)
  )
  _close(actual, expected, rtol=1e-4, atol=1e-5)


def test_standardize_divides_by_the_least_deviation_or_more():
  # The mean is 0 and the deviation 2.
  advantages, log_weights = _tensor([[-2.0], [2.0]]), _tensor(_HALVES)
  standardize = functools.partial(
    regression.standardize, advantages, log_weights
  )
  _close(standardize(min_deviation=1.0), [[-1.0], [1.0]], rtol=1e-4)
  _close(standardize(min_deviation=8.0), [[-0.25], [0.25]], rtol=1e-4)


def test_state_softmax_weights_by_hand():
  # mu = 1/4, 3/4 and exp(A) = 1, 3, whose mean is 10/4. Where advantages are
  # equal all weights are one, however large the advantages.
  log_3 = np.log(3.0)
  advantages = _tensor([[0.0, 500.0], [log_3, 500.0]])
  weigh = functools.partial(
    regression.state_softmax_weights,
    advantages,
    _tensor(_QUARTERS),
    normalize_fn=regression.keep,
  )
  _close(weigh(), [[0.4, 1.0], [1.2, 1.0]])
  # exp(A / beta) = 1, 9, whose mean is 7.
  _close(weigh(beta=0.5), [[1 / 7, 1.0], [9 / 7, 1.0]])


def test_standardize_equals_the_oracle():
  rng = np.random.default_rng(14)
  advantages, log_weights = _random_q(rng, (4, 9))
  mask = (rng.random(9) < 0.6).astype(float)
  w = np.exp(log_weights) * mask / mask.sum()
  mean = np.sum(w * advantages)
  std = np.sqrt(np.sum(w * (advantages - mean) ** 2))
  actual = regression.standardize(
    _tensor(advantages), _tensor(log_weights), _batch(_tensor(mask))
  )
  _close(actual, (advantages - mean) / (std + 1e-5))


def test_enumerated_advantages_are_the_limit_of_sampled_ones():
  # mu = 1/2, 1/4, 1/4 and the samples 0, 0, 1, 2, as for the backups.
  advantages = np.random.default_rng(15).normal(size=(3, 5))
  mu = _tensor(np.log([[0.5], [0.25], [0.25]]))
  uniform = _tensor(np.log(np.full((4, 1), 0.25)))
  sampled = regression.standardize(_tensor(advantages[[0, 0, 1, 2]]), uniform)
  enumerated = regression.standardize(_tensor(advantages), mu)
  _close(sampled, enumerated.numpy()[[0, 0, 1, 2]])


def test_exp_weights_by_hand():
  advantages, log_weights = _tensor([[0.0], [_LN3]]), _tensor(_HALVES)
  kept = functools.partial(
    regression.exp_weights,
    advantages,
    log_weights,
    normalize_fn=regression.keep,
  )
  _close(kept(beta=1.0), [[1.0], [3.0]])
  _close(kept(beta=0.5), [[1.0], [9.0]])
  # Two equally likely advantages standardise to -1 and 1 whatever they are;
  # beta divides after that.
  standardized = functools.partial(
    regression.exp_weights, advantages, log_weights
  )
  e = np.e
  _close(standardized(), [[1 / e], [e]], rtol=1e-4)
  _close(standardized(beta=0.5), [[1 / e**2], [e**2]], rtol=1e-4)


def test_exp_weights_hand_weights_and_mask_to_the_normalisation():
  # As for standardize: -3 / sqrt(3) and 1 / sqrt(3) in the state that counts.
  actual = regression.exp_weights(
    _tensor([[0.0, 9.0], [4.0, 9.0]]),
    _tensor(_QUARTERS),
    _batch([1.0, 0.0]),
  )
  _close(actual[:, 0], np.exp([-np.sqrt(3.0), 1 / np.sqrt(3.0)]), rtol=1e-4)


def test_exp_weights_overflow_to_infinity_and_not_to_nan():
  actual = regression.exp_weights(
    _tensor([[1e6], [-1e6]]), _tensor(_HALVES), normalize_fn=regression.keep
  )
  np.testing.assert_array_equal(actual, [[np.inf], [0.0]])
  # Standardised they are harmless.
  actual = regression.exp_weights(_tensor([[1e6], [-1e6]]), _tensor(_HALVES))
  _close(actual, [[np.e], [1 / np.e]])


def test_uniform_weights_are_one_for_each_action():
  actual = regression.uniform_weights(
    _tensor([[1.0, -2.0, 3.0], [5.0, 7.0, 1e9]]), _tensor(_QUARTERS)
  )
  np.testing.assert_array_equal(actual, np.ones((2, 3)))


def test_softmax_weights_are_b_times_the_softmax_of_one_action_each():
  # exp(A) = 1, 2, 5: weights 3/8, 6/8, 15/8; the third state left out: 2/3,
  # 4/3, 0.
  advantages = _tensor([np.log([1.0, 2.0, 5.0])])
  _close(
    regression.softmax_weights(advantages, _tensor([[0.0]])),
    [[0.375, 0.75, 1.875]],
  )
  batch = _batch([1.0, 1.0, 0.0])
  actual = regression.softmax_weights(advantages, _tensor([[0.0]]), batch)
  _close(actual, [[2 / 3, 4 / 3, 0.0]])
  # beta = 2 takes square roots.
  actual = regression.softmax_weights(
    2.0 * advantages, _tensor([[0.0]]), beta=2.0
  )
  _close(actual, [[0.375, 0.75, 1.875]])


def test_softmax_weights_average_to_one_over_any_action_set():
  rng = np.random.default_rng(0)
  advantages = rng.normal(size=[4, 6]) * 50.0  # exp would overflow.
  mu = rng.dirichlet(np.ones(4), 6).T
  actual = regression.softmax_weights(_tensor(advantages), _tensor(np.log(mu)))
  _close(np.sum(mu * actual) / 6, 1.0)
  assert np.isfinite(actual).all()
  best = np.unravel_index(advantages.argmax(), [4, 6])
  assert actual.numpy()[best] == np.max(actual)


def test_softmax_weights_of_nothing_are_zero():
  nothing = regression.softmax_weights(
    _tensor([[3.0, 1.0]]), _tensor([[0.0]]), _batch([0.0, 0.0])
  )
  np.testing.assert_array_equal(nothing, [[0.0, 0.0]])


def test_binary_weights_keep_what_is_better():
  actual = regression.binary_weights(
    _tensor([[0.5, -2.0, 0.0]]), _tensor([[0.0]])
  )
  np.testing.assert_array_equal(actual, [[1.0, 0.0, 0.0]])


# Lines 14 and 21: losses


@pytest.mark.parametrize(
  ('mask', 'weights_', 'expected'),
  [
    (None, None, 4.0),  # (1 + 3 + 8)/3
    ([1.0, 1.0, 0.0], None, 2.0),  # (1 + 3)/2
    # Weights do not average out: (2 + 0 + 8)/3 and (2 + 0)/2.
    (None, [2.0, 0.0, 1.0], 10.0 / 3.0),
    ([1.0, 1.0, 0.0], [2.0, 0.0, 1.0], 1.0),
    ([1.0, 0.0, 1.0], 2.0, 9.0),  # 2 (1 + 8)/2
    ([0.0, 0.0, 0.0], None, 0.0),  # Nothing counts: no NaN.
  ],
)
def test_masked_mean_by_hand(mask, weights_, expected):
  mask = None if mask is None else _tensor(mask)
  weights_ = None if weights_ is None else _tensor(weights_)
  actual = regression.Batch(mask).mean(_tensor([1.0, 3.0, 8.0]), weights_)
  _close(actual, expected)
  assert actual.shape == ()


@pytest.mark.parametrize(
  ('mask', 'expected'),
  # Each element that counts has the same share, times its weight.
  [([1.0, 1.0, 0.0], [1.0, 0.25, 0.0]), ([0.0] * 3, [0.0] * 3)],
)
def test_gradient_of_masked_mean(mask, expected):
  values = _tensor([1.0, 3.0, 8.0])
  with tf.GradientTape() as tape:
    tape.watch(values)
    batch = regression.Batch(_tensor(mask))
    mean = batch.mean(values, _tensor([2.0, 0.5, 1.0]))
  _close(tape.gradient(mean, values), expected)


def test_weighted_log_likelihood_by_hand():
  # State 1: 1/4 * 2 * 1 + 3/4 * 4 * 2 = 6.5; state 2: 3/4 * 4 * 4 = 12.
  log_probs = _tensor([[-1.0, -3.0], [-2.0, -4.0]])
  f = _tensor([[2.0, 0.0], [4.0, 4.0]])
  with tf.GradientTape() as tape:
    tape.watch(log_probs)
    actual = regression.weighted_log_likelihood_losses(
      log_probs, f, _tensor(_QUARTERS)
    )
  _close(actual, [6.5, 12.0])
  # - w f: line 21 pulls each action's likelihood up by its weight.
  gradient = tape.gradient(actual, log_probs)
  _close(gradient, [[-0.5, 0.0], [-3.0, -3.0]])


def test_weighted_log_likelihood_refuses_other_shapes():
  # [n, 1] with [n, B] would broadcast silently.
  with pytest.raises(ValueError, match='compatible'):
    regression.weighted_log_likelihood_losses(
      tf.zeros([2, 3]), tf.zeros([2, 1]), _tensor(_HALVES)
    )


def test_the_tilted_policy_is_the_fixed_point_of_the_regression():
  """Theorem 3: with all actions, line 21 ends at pi ~ mu exp(A / beta)."""
  beta = 0.7
  rng = np.random.default_rng(16)
  q_values, log_mu = (_tensor(x) for x in _random_q(rng, (3, 5)))
  advantages = q_values - backups.mean_backup(q_values, log_mu)
  f = regression.exp_weights(
    advantages, log_mu, beta=beta, normalize_fn=regression.keep
  )

  def gradient(logits):
    with tf.GradientTape() as tape:
      tape.watch(logits)
      log_probs = tf.nn.log_softmax(logits, axis=0)
      elements = regression.weighted_log_likelihood_losses(log_probs, f, log_mu)
      # Each state by the size of its weights, which the clip keeps small.
      loss = tf.reduce_mean(elements / tf.reduce_max(f, axis=0))
    return tape.gradient(loss, logits)

  _close(gradient(log_mu + q_values / beta), np.zeros((3, 5)), atol=1e-6)
  assert np.abs(gradient(log_mu)).max() > 0.01
  assert np.abs(gradient(q_values / beta)).max() > 0.01


def test_values_of_other_states_are_refused():
  rewards = tf.zeros([3, 1])
  with pytest.raises(ValueError, match='first axis'):
    returns.lambda_returns(
      rewards, rewards, tf.zeros([1, 3]), tf.zeros([3, 1], tf.bool), 0.9
    )
