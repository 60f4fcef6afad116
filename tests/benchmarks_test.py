"""What benchmarks compare is what they say; they themselves run for hours."""

import pathlib
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from absl import flags
from tf_agents.trajectories import trajectory

from benchmarks import ablation
from benchmarks import advantage_calibration
from benchmarks import bitflip
from benchmarks import trace_step
from qwr_tf.config import gin_files
from qwr_tf.config.errors import ConfigError
from qwr_tf.sweeping import run_rows

_ROOT = pathlib.Path(__file__).resolve().parents[1]


@pytest.fixture
def _parsed(monkeypatch):
  flags.FLAGS.mark_as_parsed()
  return lambda name, value: monkeypatch.setattr(
    flags.FLAGS[name], 'value', value
  )


@pytest.mark.slow
def test_each_factor_changes_what_it_says(_parsed):
  recipes = dict(zip(ablation.FACTORS, ablation.recipes(), strict=True))
  default = gin_files.parse([recipes['default'].gin_file], ())
  for name, recipe in recipes.items():
    config = gin_files.parse([recipe.gin_file], recipe.bindings)
    changes = run_rows.changes(default, config)
    bound = [binding.partition(' = ')[0] for binding in recipe.bindings]
    assert [c.partition(':')[0] for c in changes] == sorted(bound), name


def test_a_failed_factor_is_told(_parsed, monkeypatch, capsys):
  _parsed('factors', ['T = 3', 'MAX', 'AVG'])
  _parsed('environments', ['Hopper-v4'])
  swept = []

  def run(recipes, envs, seeds, processes):
    swept.append((len(recipes), envs, seeds))
    return ['Hopper-v4 seed 0 (QwrAgent.horizon = 3): nan']

  monkeypatch.setattr(ablation.sweep_run, 'run', run)
  with pytest.raises(SystemExit) as ending:
    ablation.main()
  assert ending.value.code == 1
  assert swept == [(3, ['Hopper-v4'], [0, 1])]
  assert 'QwrAgent.horizon = 3' in capsys.readouterr().err


def test_nothing_is_drawn_where_all_runs_failed(
  _parsed, monkeypatch, capsys, tmp_path
):
  _parsed('results', str(tmp_path / 'new.csv'))
  monkeypatch.setattr(bitflip.sweep_run, 'run', lambda *_: ['BitFlip-5: nan'])
  with pytest.raises(SystemExit) as ending:
    bitflip.main()
  assert ending.value.code == 1
  assert 'BitFlip-5' in capsys.readouterr().err


def test_unknown_factor(_parsed):
  _parsed('factors', ['T = 4'])
  with pytest.raises(ConfigError, match='T = 4'):
    ablation.main()


def test_td_errors_end_with_their_episodes():
  # Two steps to a terminal state, its final observation, then an episode that
  # is cut after three: rows 3, 4, 5 and the final observation 6.
  rows = trajectory.Trajectory(
    step_type=tf.constant([0, 1, 2, 0, 1, 1, 2, 0]),
    observation=(),
    action=(),
    policy_info=(),
    next_step_type=tf.constant([1, 2, 0, 1, 1, 2, 0, 1]),
    reward=tf.constant([1.0, 2.0, 99.0, 3.0, 4.0, 5.0, 99.0, 6.0]),
    discount=tf.constant([1.0, 0.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]),
  )
  values = np.float32([10, 20, 30, 40, 50, 60, 70, 80])
  decisions, errors = advantage_calibration.td_errors(rows, values, 0.5, 2)
  np.testing.assert_array_equal(decisions, [0, 1, 3, 4, 5])
  np.testing.assert_allclose(
    errors,
    [
      1 + 2 / 2 - 10,  # Terminal: nothing after it.
      2 - 20,
      3 + 4 / 2 + 60 / 4 - 40,
      4 + 5 / 2 + 70 / 4 - 50,
      5 + 70 / 2 - 60,  # Cut: its final observation has a value.
    ],
  )


def test_slope_of_a_line_with_noise():
  rng = np.random.default_rng(0)
  x = rng.normal(size=4000)
  y = 3.0 + 0.25 * x + rng.normal(size=4000)
  estimate, error = advantage_calibration.slope(x, y)
  assert estimate == pytest.approx(np.cov(x, y)[0, 1] / np.var(x, ddof=1))
  # Independent noise: sigma / (std of x * sqrt n).
  assert error == pytest.approx(1 / np.sqrt(4000), rel=0.4)
  assert abs(estimate - 0.25) < 3 * error


def test_slope_says_more_of_neighbours_that_depend_on_each_other():
  rng = np.random.default_rng(0)
  x, noise = (np.repeat(rng.normal(size=200), 20) for _ in range(2))
  _, error = advantage_calibration.slope(x, noise)
  assert error > 2 / np.sqrt(4000)  # 200 independent ones, not 4000.


def test_slope_on_advantages_that_are_all_alike():
  assert np.isnan(advantage_calibration.slope(np.ones(50), np.arange(50.0))[0])


def test_entropy_by_hand():
  def chunk(parameters):
    return trajectory.Trajectory(*[()] * 7)._replace(
      policy_info={'dist_params': parameters}
    )

  # log 2 of the even one, 0 of the certain one.
  logits = ([[0.0, 0.0]], [[0.0, -100.0]])
  chunks = [chunk({'logits': tf.constant(rows)}) for rows in logits]
  mean = advantage_calibration.entropy(chunks)
  assert mean == pytest.approx(np.log(2) / 2)
  assert np.isnan(advantage_calibration.entropy([chunk({'loc': 0.0})]))


# Of its own flags two benchmarks can have the same.
_SAC = """
import numpy as np
from benchmarks import tf_agents_sac
from qwr_tf.training import experiment
env = experiment.load_environment('Hopper-v4', seed=0)
act = tf_agents_sac.Act(tf_agents_sac.make_agent(env))
observations = np.ones([2, 11], np.float32)
(first, _), (second, _) = (act(observations, None) for _ in range(2))
assert first.shape == (2, 3) and (first == second).all(), 'modes are sampled'
rng = np.random.default_rng(0)
(first, _), (second, _) = (act(observations, rng) for _ in range(2))
assert (first != second).any(), 'samples are modes'
"""


@pytest.mark.slow
def test_sac_acts_with_its_mode_where_it_should():
  done = subprocess.run(
    [sys.executable, '-c', _SAC],
    cwd=_ROOT,
    capture_output=True,
    text=True,
    timeout=300,
  )
  assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_a_gradient_step_is_short_to_read():
  limits = {'critic step': 45, 'actor step': 50}
  steps = trace_step.steps()
  for name, most in limits.items():
    steps[name]()  # What only a first step does.
    calls = trace_step.calls_of(steps[name])
    assert 0 < calls.total() <= most, (name, calls)
    assert len({file for file, _ in calls}) <= 8, (name, calls)
