"""Evaluations of policies whose order is known, and refusals."""

import csv

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from scipy import stats

from qwr_tf import datasets
from qwr_tf import evaluation
from qwr_tf.config.errors import ConfigError
from qwr_tf.evaluation import fitted_q
from qwr_tf.evaluation import logged_steps
from qwr_tf.evaluation import policies
from qwr_tf.evaluation import report
from tests.evaluation import decisions


def _evaluate(path, policy, action=decisions.DISCRETE, **kwargs):
  return evaluation.evaluate(
    policy,
    decisions.opener(path),
    decisions.spaces(action),
    gamma=0.9,
    fit=kwargs.pop('fit', decisions.FIT),
    **kwargs,
  )


def _continuous_truth(slope: float) -> float:
  """Discounted return of a continuous policy: E|a - context / 2| per step."""
  context, noise = np.random.default_rng(5).normal(size=[2, 100_000])
  actions = np.clip(slope * context + decisions.SCALE * noise, -1.0, 1.0)
  return -np.mean(np.abs(actions - 0.5 * context)) * (1 + 0.9 + 0.9**2)


def _truth(slope: float) -> float:
  """Discounted return of a discrete policy: P(right action) per step."""
  context = np.abs(np.random.default_rng(5).normal(size=100_000))
  right = np.mean(1.0 / (1.0 + np.exp(-2.0 * slope * context)))
  return right * (1 + 0.9 + 0.81)


@pytest.fixture(scope='module', name='discrete')
def _discrete(tmp_path_factory):
  return decisions.write(tmp_path_factory.mktemp('discrete') / 'set', 150)


@pytest.fixture(scope='module', name='better')
def _better(discrete):
  return _evaluate(discrete, decisions.policy(2.0, name='better'))


@pytest.mark.slow
def test_all_estimates_are_near_the_truth(better):
  truth = _truth(2.0)
  for name in (report.FQE, report.WIS, report.DR):
    row = better.row(name)
    assert row.value == pytest.approx(truth, rel=0.15)
    assert row.low < row.value < row.high
  assert better.row(report.DATA).value == pytest.approx(_truth(0.0), rel=0.1)
  assert better.row(report.GAIN).low > 0
  assert 'better' in better.conclusions[1] and not better.doubts
  assert better.row('TD error on advantage').value == pytest.approx(1, abs=0.3)
  assert better.row('states off support').value < 0.1


@pytest.mark.slow
def test_policies_are_ranked(discrete, better):
  worse = _evaluate(discrete, decisions.policy(-2.0))
  assert worse.value < better.value
  assert worse.row(report.GAIN).high < 0
  assert 'worse' in worse.conclusions[1]


def test_the_page(better, tmp_path):
  better.write(tmp_path / 'page')
  with open(tmp_path / 'page' / 'evaluation.csv') as f:
    rows = {row['name']: row for row in csv.DictReader(f)}
  assert float(rows['FQE']['value']) == pytest.approx(better.value, rel=1e-3)
  assert rows['FQE']['policy'] == 'better'
  text = (tmp_path / 'page' / 'evaluation.md').read_text()
  assert better.conclusions[0] in text and '| FQE |' in text
  assert (tmp_path / 'page' / 'evaluation.png').read_bytes()[:4] == b'\x89PNG'


@pytest.mark.slow
def test_continuous_actions(tmp_path):
  path = decisions.write(tmp_path / 'set', 150, decisions.CONTINUOUS)
  fit = decisions.FIT._replace(steps=200, members=2)
  good, bad = (
    _evaluate(path, decisions.policy(s, decisions.CONTINUOUS),
              decisions.CONTINUOUS, fit=fit)
    for s in (0.5, -0.5)
  )  # fmt: skip
  # 200 steps leave FQE some way from its fixed point: the order alone.
  assert good.row(report.FQE).value > bad.row(report.FQE).value
  for found, slope in ((good, 0.5), (bad, -0.5)):
    estimate = found.row(report.DR)
    margin = estimate.high - estimate.low  # Four standard errors or so.
    assert abs(estimate.value - _continuous_truth(slope)) < margin


def _read(path, policy, action=decisions.DISCRETE):
  model = fitted_q.FittedQ(policy, *decisions.spaces(action)[:2])
  data = datasets.DataSet(path if isinstance(path, dict) else str(path))
  return logged_steps.read(
    data,
    model.actor,
    model.data_spec,
    decisions.spaces(action).action_bounds,
    datasets.Split(1.0).is_held_out,
    data.steps,
  )


@pytest.mark.slow
def test_actions_that_the_data_do_not_hold(tmp_path):
  path = decisions.write(
    tmp_path / 'set', 60, decisions.CONTINUOUS, slope=0.1,
    params={'loc': np.zeros([4, 1]), 'scale_diag': np.full([4, 1], 0.05)},
  )  # fmt: skip
  at_bound = evaluation.EvaluatedPolicy(
    lambda x: tfp.distributions.MultivariateNormalDiag(
      1.0 + 0.0 * x[:, :1], 1e-3 * tf.ones_like(x[:, :1])
    )
  )
  assert _read(path, at_bound, decisions.CONTINUOUS).hardly_taken == 1.0
  same = _read(path, decisions.policy(0.0, decisions.CONTINUOUS),
               decisions.CONTINUOUS)  # fmt: skip
  assert 0.5 < same.hardly_taken < 1.0  # A deviation of 0.4 beside 0.05.


@pytest.mark.parametrize(
  'params, reason',
  [
    (False, 'does not hold'),
    ({'logits': np.tile([60.0, -60.0], [4, 1])}, 'deterministic'),
  ],
)
def test_importance_sampling_is_refused_with_a_reason(tmp_path, params, reason):
  path = decisions.write(tmp_path / 'set', 30, params=params)
  logged = _read(path, decisions.policy(1.0))
  assert reason in logged.no_weights
  assert logged.episodes.log_ratios is None


def _table(width, count=240, **columns):
  """Steps of `decisions.policy(0)` as a table with bounds of +-width."""
  noise = np.random.default_rng(0).normal(size=count)
  # In the agent's units, where the bounds are +-1.
  raw, density = decisions.SCALE * noise, stats.norm.pdf(noise)
  at_bound = np.abs(raw) >= 1.0
  inside = density / decisions.SCALE / width
  return {
    'observation': np.random.default_rng(1).normal(size=[count, 2]),
    'action': width * np.clip(raw, -1.0, 1.0)[:, np.newaxis],
    'reward': np.arange(count) % 3,
    'episode': np.arange(count) // 3,
    # Of a clipped action: of all that lies beyond the bound.
    'probability': np.where(
      at_bound, stats.norm.sf(1.0 / decisions.SCALE), inside
    ),
  } | columns


@pytest.mark.parametrize('width', [1.0, 0.4, 0.01, 10.0])
def test_a_density_is_per_unit_of_the_environment(width):
  box = decisions.CONTINUOUS | {'low': [-width], 'high': [width]}
  policy = decisions.policy(0.0, decisions.CONTINUOUS)
  logged = _read(_table(width), policy, box)
  assert np.any(np.abs(_table(width)['action']) == width)
  # At 0.01 all densities are above 1, and the policy not deterministic.
  assert not logged.no_weights
  np.testing.assert_allclose(logged.episodes.log_ratios, 0.0, atol=1e-4)


@pytest.mark.parametrize(
  'action, value',
  [
    (decisions.DISCRETE, 50.0),  # Per cent.
    (decisions.DISCRETE, -0.7),  # A logarithm.
    (decisions.CONTINUOUS, -0.7),
  ],
)
def test_what_is_no_probability_is_refused(action, value):
  is_discrete = action is decisions.DISCRETE
  actions = {'action': np.arange(240) % 2} if is_discrete else {}
  probability = np.where(np.arange(240) == 200, value, 0.5)
  table = _table(1.0, probability=probability, **actions)
  with pytest.raises(ConfigError, match=f'probability: {value:g}') as caught:
    _read(table, decisions.policy(0.0, action), action)
  assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
  'lengths, share, max_steps, kept',
  [
    ([100] * 10, 1.0, 1000, 10),
    ([100] * 10, 1.0, 500, 5),
    ([100] * 10, 1.0, 20, 2),  # One alone would say nothing.
    ([100] * 100, 0.05, 200, 2),  # Of five.
    ([100] * 100, 0.05, 500, 5),
    ([10, 190] * 20, 0.5, 1000, 10),
    ([100] * 3, 0.5, 10, 1),  # There is no other one.
  ],
)
def test_episodes_are_left_out_by_their_steps(lengths, share, max_steps, kept):
  lengths, split = np.array(lengths), datasets.Split(share)
  table = _table(1.0, int(lengths.sum()))
  table['episode'] = np.repeat(np.arange(len(lengths)), lengths)
  spaces = decisions.spaces(decisions.CONTINUOUS)
  policy = decisions.policy(0.0, decisions.CONTINUOUS)
  model = fitted_q.FittedQ(policy, *spaces[:2])
  keep, steps = logged_steps.selection(
    datasets.DataSet(table), model.data_spec, spaces.action_bounds, split,
    max_steps,
  )  # fmt: skip
  episodes = [e for e in range(len(lengths)) if keep(e)]
  assert all(map(split.is_held_out, episodes))
  assert len(episodes) == pytest.approx(kept, abs=1)
  assert steps >= lengths[episodes].sum()
  assert len(episodes) <= 2 or steps <= 1.5 * max_steps


@pytest.mark.parametrize(
  'kwargs, problem',
  [
    ({'max_steps': 0}, 'max_steps'),
    ({'split': datasets.Split(0.5, -1)}, 'split_seed'),
  ],
)
def test_settings_out_of_bounds(discrete, kwargs, problem):
  with pytest.raises(ConfigError, match=f'{problem} must be'):
    _evaluate(discrete, decisions.policy(1.0), **kwargs)


@pytest.mark.parametrize(
  'kwargs, split, problem',
  [
    ({'episodes': 1}, datasets.Split(1.0), 'one episode'),
    ({'episodes': 3}, datasets.Split(0.2), 'too few episodes'),
    ({'episodes': 30, 'reward': 1.0}, datasets.Split(1.0), 'all rewards are 1'),
  ],
)
def test_data_that_say_nothing(tmp_path, kwargs, split, problem):
  path = decisions.write(tmp_path / 'set', **kwargs)
  with pytest.raises(ConfigError, match=problem) as caught:
    _evaluate(path, decisions.policy(1.0), split=split)
  assert len(str(caught.value).splitlines()) == 1


def test_a_policy_of_other_spaces(discrete):
  with pytest.raises(ConfigError, match='actions'):
    _evaluate(discrete, decisions.policy(1.0, decisions.CONTINUOUS),
              decisions.CONTINUOUS)  # fmt: skip


@pytest.mark.slow
def test_critics_learn_of_actions_as_the_bounds_clipped_them(tmp_path):
  path = decisions.write(
    tmp_path / 'set', 20, decisions.CONTINUOUS, slope=1.0,
    params={'loc': np.full([4, 1], 0.9), 'scale_diag': np.full([4, 1], 0.4)},
  )  # fmt: skip
  spaces = decisions.spaces(decisions.CONTINUOUS)
  policy = decisions.policy(1.0, decisions.CONTINUOUS)
  model = fitted_q.FittedQ(policy, spaces.time_step_spec, spaces.action_spec)
  model.allocate(100)
  data = decisions.opener(path)()
  data.fill(model.table, spaces.action_bounds, as_logged=True)
  actions = np.abs(model.table.read(*model.table.row_range()).action)
  assert actions.max() == 1.0


def test_log_probs_of_clipped_gaussians():
  params = {'loc': np.array([[0.5, 0.0]]), 'scale_diag': np.array([[0.5, 1.0]])}
  logs = policies.log_probs(params, np.array([[1.0, 0.3]]))
  normal = tfp.distributions.Normal
  wanted = normal(0.5, 0.5).log_survival_function(1.0) + normal(
    0.0, 1.0
  ).log_prob(0.3)
  np.testing.assert_allclose(logs, [wanted], rtol=1e-5)
