"""Logged data into the replay table: rows by hand, mu, and what is refused."""

import io
import json
import os
import subprocess
import sys
import tracemalloc

import h5py
import numpy as np
import PIL.Image
import pytest
import tensorflow as tf
from scipy import stats
from tf_agents.specs import tensor_spec
from tf_agents.trajectories import trajectory

from qwr_tf import datasets
from qwr_tf import environments
from qwr_tf.datasets import actions as actions_lib
from qwr_tf.datasets import behavior
from qwr_tf.networks import encoders
from qwr_tf.replay import replay_table
from qwr_tf.training import experiment

_FIRST, _MID, _LAST = 0, 1, 2

# Three episodes: 3 steps to a terminal state, 3 into a time limit, 2 that
# nothing ends. Observations count, the one after a last step is 100 more.
_LENGTHS = (3, 3, 2)
_OBSERVATIONS = np.arange(8, dtype=np.float64)[:, np.newaxis] * [1.0, -1.0]
_NEXT = np.concatenate([_OBSERVATIONS[1:], [[108.0, -108.0]]])
_NEXT[2] = [103.0, -103.0]
_NEXT[5] = [106.0, -106.0]
_ACTIONS = np.linspace(-2.0, 2.0, 8, dtype=np.float32)[:, np.newaxis]
_BOUNDS = np.array([-2.0]), np.array([2.0])
_REWARDS = np.array([1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0])
_TERMINALS = np.array([0, 0, 1, 0, 0, 0, 0, 0], bool)
_TIMEOUTS = np.array([0, 0, 0, 0, 0, 1, 0, 0], bool)


@pytest.fixture(autouse=True)
def _eager():
  tf.config.run_functions_eagerly(True)
  yield
  tf.config.run_functions_eagerly(False)


def _table(
  capacity=50, names=('loc',), actions=None, observations=(2,), **kwargs
):
  action = tensor_spec.BoundedTensorSpec([1], tf.float32, -1.0, 1.0)
  param = tf.TensorSpec([1], tf.float32)
  if actions is not None:
    action = tensor_spec.BoundedTensorSpec([], tf.int32, 0, actions - 1)
    param = tf.TensorSpec([actions], tf.float32)
  spec = trajectory.Trajectory(
    step_type=tf.TensorSpec([], tf.int32),
    observation=observations
    if isinstance(observations, tf.TensorSpec)
    else tf.TensorSpec(observations, tf.float32),
    action=action,
    policy_info={'dist_params': {name: param for name in names}},
    next_step_type=tf.TensorSpec([], tf.int32),
    reward=tf.TensorSpec([], tf.float32),
    discount=tf.TensorSpec([], tf.float32),
  )
  return replay_table.ReplayTable(spec, capacity, **kwargs)


def _flat():
  return {
    'observations': _OBSERVATIONS,
    'actions': _ACTIONS,
    'rewards': _REWARDS,
    'terminals': _TERMINALS,
    'timeouts': _TIMEOUTS,
    'next_observations': _NEXT,
  }


def _episodes():
  """The same steps as groups."""
  groups, first = {}, 0
  for number, length in enumerate(_LENGTHS):
    rows = slice(first, first + length)
    groups[f'episode_{number}'] = {
      'observations': np.concatenate(
        [_OBSERVATIONS[rows], _NEXT[rows][-1:]], axis=0
      ),
      'actions': _ACTIONS[rows],
      'rewards': _REWARDS[rows],
      'terminations': _TERMINALS[rows],
      'truncations': _TIMEOUTS[rows],
    }
    first += length
  return groups


def _written(path, content):
  """Nested arrays as a file; None leaves a field out."""

  def fill(group, items):
    for name, value in items.items():
      if isinstance(value, dict):
        fill(group.require_group(name), value)
      elif value is not None:
        group[name] = value

  path.parent.mkdir(parents=True, exist_ok=True)
  with h5py.File(path, 'w') as file:
    fill(file, content)
  return path


@pytest.fixture(name='d4rl')
def _d4rl(tmp_path):
  return lambda **changes: _written(tmp_path / 'flat.hdf5', _flat() | changes)


@pytest.fixture(name='minari')
def _minari(tmp_path):
  def write(**changes):
    """Changes are of episode_1."""
    content = _episodes()
    content['episode_1'] |= changes
    _written(tmp_path / 'set' / 'data' / 'main_data.hdf5', content)
    return tmp_path / 'set'

  return write


def _fill(path, table=None, **kwargs):
  table = table or _table()
  data = datasets.DataSet(str(path), **kwargs)
  summary = data.fill(table, _BOUNDS)
  return summary, tf.nest.map_structure(
    lambda x: x.numpy(), table.read(*table.row_range())
  )


# Rows.


@pytest.mark.parametrize('layout', ['d4rl', 'minari'])
@pytest.mark.parametrize('chunk_steps', [1, 3, 8, 100])
def test_rows_by_hand(layout, chunk_steps, request):
  path = request.getfixturevalue(layout)()
  summary, rows = _fill(path, chunk_steps=chunk_steps)
  # Step 2 is terminal: learned from, then the final observation. Step 5 runs
  # into the time limit and step 7 into the end of the data: their observations
  # are bootstrapped from, 106 and 108 have no action and are not there.
  states = [0, 1, 2, 103, 3, 4, 5, 6, 7]
  np.testing.assert_array_equal(rows.observation[:, 0], states)
  np.testing.assert_array_equal(rows.observation[:, 1], -np.array(states))
  np.testing.assert_array_equal(
    rows.step_type,
    [_FIRST, _MID, _MID, _LAST, _FIRST, _MID, _LAST, _FIRST, _LAST],
  )
  np.testing.assert_array_equal(
    rows.next_step_type,
    [_MID, _MID, _LAST, _FIRST, _MID, _LAST, _FIRST, _LAST, _FIRST],
  )
  np.testing.assert_array_equal(rows.reward, [1, 2, 4, 0, 8, 16, 0, 64, 0])
  np.testing.assert_array_equal(rows.discount, [1, 1, 0, 1, 1, 1, 1, 1, 1])
  # Bounds of +-2 are +-1 for the agent; the final row repeats the action.
  steps = [0, 1, 2, 2, 3, 4, 5, 6, 7]
  np.testing.assert_allclose(rows.action, _ACTIONS[steps] / 2.0, atol=1e-7)
  np.testing.assert_array_equal(
    rows.policy_info['dist_params']['loc'], rows.action
  )
  assert summary[:3] == (path.stem if layout == 'd4rl' else 'set', 8, 6)
  # 1 + 2 + 4 and 8 + 16 + 32; the third episode was not recorded to its end.
  assert (summary.episodes, summary.mean_return) == (2, 31.5)
  assert summary.mu == 'from logged actions'


@pytest.mark.parametrize('chunk_steps', [1, 4, 100])
def test_an_episode_without_an_end_adds_nothing_to_the_next(
  minari, chunk_steps
):
  path = minari(truncations=np.zeros(3, bool))
  with h5py.File(path / 'data' / 'main_data.hdf5', 'r+') as file:
    file['episode_2/truncations'][-1] = True
  summary, _ = _fill(path, chunk_steps=chunk_steps)
  # 1 + 2 + 4 and 64 + 128; 8 + 16 + 32 was not recorded to its end.
  assert (summary.episodes, summary.mean_return) == (2, (7 + 192) / 2)


@pytest.mark.parametrize('layout', ['d4rl', 'minari'])
@pytest.mark.parametrize('chunk_steps', [1, 4, 100])
def test_a_time_limit_may_count_as_terminal(layout, chunk_steps, request):
  path = request.getfixturevalue(layout)()
  table = _table()
  data = datasets.DataSet(str(path), chunk_steps=chunk_steps)
  summary = data.fill(table, _BOUNDS, timeout_is_terminal=True)
  rows = table.read(*table.row_range())
  # Step 5 as well as step 2; step 7, where the data end, still bootstraps.
  states = [0, 1, 2, 2, 3, 4, 5, 5, 6, 7]
  np.testing.assert_array_equal(rows.observation[:, 0], states)
  np.testing.assert_array_equal(
    rows.step_type,
    [_FIRST, _MID, _MID, _LAST, _FIRST, _MID, _MID, _LAST, _FIRST, _LAST],
  )
  np.testing.assert_array_equal(rows.discount, [1, 1, 0, 1, 1, 1, 0, 1, 1, 1])
  np.testing.assert_array_equal(rows.reward, [1, 2, 4, 0, 8, 16, 32, 0, 64, 0])
  assert (summary.transitions, summary.episodes) == (7, 2)
  assert summary.mean_return == 31.5


def test_rewards_are_what_the_environment_makes_of_them(d4rl):
  table = _table()
  summary = datasets.DataSet(str(d4rl())).fill(
    table, _BOUNDS, reward_fn=lambda rewards: np.minimum(rewards, 10.0)
  )
  rows = table.read(*table.row_range())
  np.testing.assert_array_equal(rows.reward, [1, 2, 4, 0, 8, 10, 0, 10, 0])
  assert summary.mean_return == 31.5  # Of the logged ones.


@pytest.mark.parametrize(
  'changes, spaces',
  [
    ({}, {'observation_shape': (2,), 'action_shape': (1,)}),
    ({'actions': np.arange(8)}, {'observation_shape': (2,)}),
    ({'observations': np.arange(8.0)}, {'action_shape': (1,)}),
    # The bytes of a JPEG file each.
    ({'observations': np.zeros([8, 99], np.uint8)}, {'action_shape': (1,)}),
    (
      {'observations': {'a': np.zeros([8, 3]), 'b': np.zeros([8, 2, 2])}},
      {
        'observation_space': environments.dict_content(
          {
            'a': {'type': 'Box', 'shape': (3,), 'dtype': 'float32'},
            'b': {'type': 'Box', 'shape': (2, 2), 'dtype': 'float32'},
          }
        ),
        'action_shape': (1,),
      },
    ),
  ],
)
def test_spaces_of_arrays(d4rl, changes, spaces):
  data = datasets.DataSet(str(d4rl(next_observations=None, **changes)))
  assert data.spaces() == spaces


def test_step_into_the_limit_is_no_start(d4rl):
  table = _table()
  datasets.DataSet(str(d4rl())).fill(table, _BOUNDS)
  assert table.num_starts() == 6
  starts = table.sample_starts([500], seed=[1, 2])
  first = table.gather(starts, 1).observation[:, 0, 0]
  assert set(first.numpy()) == {0.0, 1.0, 2.0, 3.0, 4.0, 6.0}


def test_without_next_observations_a_terminal_state_repeats(d4rl):
  _, rows = _fill(d4rl(next_observations=None))
  np.testing.assert_array_equal(
    rows.observation[:, 0], [0, 1, 2, 2, 3, 4, 5, 6, 7]
  )


def test_terminal_goes_before_timeout(d4rl):
  both = _TIMEOUTS | _TERMINALS
  _, rows = _fill(d4rl(timeouts=both))
  np.testing.assert_array_equal(rows.discount, [1, 1, 0, 1, 1, 1, 1, 1, 1])


def test_images_that_a_table_of_single_frames_would_change(d4rl):
  stacks = np.zeros([8, 1, 1, 2], np.float32)
  stacks[..., -1] = _OBSERVATIONS[:, :1, np.newaxis]
  stacks[1:3, ..., 0] = stacks[0:2, ..., 1]
  stacks[4:6, ..., 0] = stacks[3:5, ..., 1]
  stacks[7, ..., 0] = stacks[6, ..., 1]
  path = d4rl(observations=stacks, next_observations=None)

  def table(single_frames):
    return _table(observations=(1, 1, 2), single_frames=single_frames)

  # The first frame is not repeated where the second episode begins, at 3.
  with pytest.raises(tf.errors.InvalidArgumentError, match='= False'):
    _fill(path, table(single_frames=True))
  _, rows = _fill(path, table(single_frames=False))
  np.testing.assert_array_equal(rows.observation[:3], stacks[:3])
  for first in (0, 3, 6):
    stacks[first, ..., 0] = stacks[first, ..., 1]
  path = d4rl(observations=stacks, next_observations=None)
  _, rows = _fill(path, table(single_frames=True))
  np.testing.assert_array_equal(rows.observation[:3], stacks[:3])


def test_an_episode_cut_after_its_first_step_is_left_out(d4rl):
  flags = dict(terminals=np.zeros(8, bool), timeouts=np.arange(8) % 3 == 0)
  # Steps 0, 1-3, 4-6 and 7, which ends with the data.
  summary, rows = _fill(d4rl(**flags))
  np.testing.assert_array_equal(rows.observation[:, 0], [1, 2, 3, 4, 5, 6])
  assert (summary.transitions, summary.episodes) == (4, 3)
  # Step 0 is an episode of return 1, then 2 + 4 + 8 and 16 + 32 + 64.
  assert summary.mean_return == pytest.approx((1 + 14 + 112) / 3)
  flags['timeouts'] = np.ones(8, bool)
  with pytest.raises(ValueError, match='no step can be learned from'):
    _fill(d4rl(**flags))


def test_other_numbers_for_flags_and_integers(d4rl):
  expected = _fill(d4rl())[1]
  summary, rows = _fill(
    d4rl(
      terminals=_TERMINALS.astype(np.float32),
      timeouts=_TIMEOUTS.astype(np.uint8),
      rewards=_REWARDS.astype(np.int64),
      observations=_OBSERVATIONS.astype(np.float16),
    )
  )
  tf.nest.map_structure(np.testing.assert_array_equal, rows, expected)
  assert summary.mean_return == 31.5


def test_windows_bootstrap_from_the_last_logged_action(minari):
  table = _table()
  datasets.DataSet(str(minari())).fill(table, _BOUNDS)
  # From step 4 on: the time limit, after which its window is not looked at.
  window = table.gather(tf.constant([5], tf.int64), 2)
  np.testing.assert_array_equal(window.observation[0, :, 0], [4.0, 5.0])
  assert window.next_step_type[0, 0] == _LAST
  assert window.discount[0, 0] == 1.0
  loc = window.policy_info['dist_params']['loc'][0, 1]
  np.testing.assert_allclose(loc, _ACTIONS[5] / 2.0)


def test_episodes_are_in_the_order_of_their_numbers(tmp_path):
  # By name, episode_10 would stand before episode_2.
  content = {
    f'episode_{number}': {
      'observations': np.full([2, 2], number, np.float64),
      'actions': _ACTIONS[:1],
      'rewards': np.array([number], np.float64),
      'terminations': np.array([True]),
      'truncations': np.array([False]),
    }
    for number in range(11)
  }
  _, rows = _fill(_written(tmp_path / 'main.hdf5', content))
  np.testing.assert_array_equal(rows.reward[::2], range(11))


def test_actions_are_centred_and_scaled_by_the_bounds():
  # Of [-2, 4] the middle is 1 and half the width 3; of [0, 1] both are 1/2.
  bounds = np.array([-2.0, 0.0]), np.array([4.0, 1.0])
  spec = tensor_spec.BoundedTensorSpec([2], tf.float32, -1.0, 1.0)
  logged = np.array([[1.0, 0.5], [4.0, 0.0], [-2.0, 1.0]])
  made = actions_lib.to_agent(logged, bounds, spec)
  np.testing.assert_allclose(made, [[0, 0], [1, -1], [-1, 1]], atol=1e-7)


def test_actions_may_leave_the_bounds_by_rounding_only(d4rl):
  # The bounds are 4 apart: 1e-5 of that is 4e-5.
  rows = _fill(d4rl(actions=_changed(_ACTIONS, 7, 2.0 + 1e-5)))[1]
  assert rows.action.max() == 1.0  # Clipped.
  with pytest.raises(ValueError, match=r'outside of \[-2, 2\]'):
    _fill(d4rl(actions=_changed(_ACTIONS, 7, 2.001)))


# mu.


def test_logged_action_behavior_of_gaussians():
  spec = tensor_spec.BoundedTensorSpec([1], tf.float32, -1.0, 1.0)
  actions = np.array([[0.5], [-1.0]], np.float32)
  names = {'loc': None, 'scale_diag': None}
  made = behavior.logged_action_behavior(actions, spec, names, scale=0.3)
  np.testing.assert_array_equal(made['loc'], actions)
  np.testing.assert_allclose(made['scale_diag'], [[0.3], [0.3]])


def test_logged_action_behavior_of_discrete_actions():
  spec = tensor_spec.BoundedTensorSpec([], tf.int32, 0, 3)
  made = behavior.logged_action_behavior(
    np.array([2, 0], np.int32), spec, {'logits': None}, epsilon=0.2
  )
  # 1 - 0.2 + 0.2 / 4 for the action, 0.05 for each other one.
  np.testing.assert_allclose(
    np.exp(made['logits']),
    [[0.05, 0.05, 0.85, 0.05], [0.85, 0.05, 0.05, 0.05]],
    rtol=1e-5,
  )


def test_a_behavior_that_cannot_be_made():
  spec = tensor_spec.BoundedTensorSpec([], tf.int32, 0, 3)
  with pytest.raises(ValueError, match='no rule for scale_tril'):
    behavior.logged_action_behavior(np.zeros([1]), spec, {'scale_tril': None})


def test_discrete_actions_start_at_zero(d4rl):
  actions = np.array([5, 6, 7, 5, 6, 7, 5, 6])
  table = _table(names=('logits',), actions=3)
  data = datasets.DataSet(str(d4rl(actions=actions)))
  data.fill(table, (np.asarray(5), np.asarray(7)))
  rows = table.read(*table.row_range())
  expected = [0, 1, 2, 2, 0, 1, 2, 0, 1]
  np.testing.assert_array_equal(rows.action, expected)
  logits = rows.policy_info['dist_params']['logits']
  np.testing.assert_array_equal(tf.argmax(logits, axis=1), expected)


@pytest.mark.parametrize('chunk_steps', [1, 4, 100])
def test_recorded_behavior_is_used(d4rl, chunk_steps):
  loc = np.linspace(-1, 1, 8, dtype=np.float32)[:, np.newaxis]
  params = {'dist_params': {'loc': loc}}
  path = d4rl(infos=params)
  summary, rows = _fill(path, chunk_steps=chunk_steps)
  steps = [0, 1, 2, 2, 3, 4, 5, 6, 7]
  found = rows.policy_info['dist_params']['loc']
  np.testing.assert_array_equal(found, loc[steps])
  assert summary.mu == 'recorded'
  summary, rows = _fill(path, recorded_behavior=False, chunk_steps=chunk_steps)
  np.testing.assert_array_equal(
    rows.policy_info['dist_params']['loc'], rows.action
  )
  assert summary.mu == 'from logged actions'


def test_deviation_the_table_does_not_keep_must_be_the_same(d4rl):
  params = {'loc': _ACTIONS, 'scale_diag': np.full([8, 1], 0.4, np.float32)}
  path = str(d4rl(infos={'dist_params': params}))
  summary = datasets.DataSet(path).fill(
    _table(), _BOUNDS, behavior_scale=np.array([0.4])
  )
  assert summary.mu == 'recorded'
  with pytest.raises(ValueError, match=r'like 0\.4, this one has 0\.1'):
    datasets.DataSet(path).fill(
      _table(), _BOUNDS, behavior_scale=np.array([0.1])
    )
  # A table that keeps it asks nothing.
  table = _table(names=('loc', 'scale_diag'))
  datasets.DataSet(path).fill(table, _BOUNDS)
  kept = table.read(*table.row_range()).policy_info['dist_params']
  np.testing.assert_allclose(kept['scale_diag'], 0.4)


@pytest.mark.parametrize('loc', [0.0, 0.9, -1.5, 6.0])
def test_unclipped_samples_are_those_of_mu(loc):
  rng, scale = np.random.default_rng(1), np.array([0.4, 0.8])
  loc = np.full([20_000, 2], loc)
  logged = np.clip(loc + scale * rng.standard_normal(loc.shape), -1.0, 1.0)
  samples = actions_lib.unclipped_samples(logged, loc, scale, rng)
  inside = np.abs(logged) < 1.0
  np.testing.assert_array_equal(samples[inside], logged[inside])
  np.testing.assert_allclose(np.clip(samples, -1.0, 1.0), logged)
  for numbers in ((samples - loc) / scale).T:
    assert stats.kstest(numbers, 'norm').pvalue > 0.01


def test_unclipped_samples_of_actions_that_mu_hardly_takes():
  # The tail of a standard Gaussian beyond b has the mean b + 1 / b, nearly.
  actions, rng = np.ones([10_000, 1], np.float32), np.random.default_rng(0)
  samples = actions_lib.unclipped_samples(actions, np.array([-9.0]), 0.1, rng)
  assert samples.dtype == np.float32 and samples.min() >= 1.0
  np.testing.assert_allclose(np.mean(samples - 1.0), 0.1 / 100, rtol=0.03)


@pytest.mark.parametrize('kept', [('loc',), ('loc', 'scale_diag')])
def test_the_table_gets_samples_of_the_recorded_mu(kept, d4rl):
  loc = np.full([8, 1], 3.0, np.float32)
  scale = np.full([8, 1], 0.4, np.float32)
  recorded = {'loc': loc, 'scale_diag': scale}
  path = str(d4rl(infos={'dist_params': recorded}, actions=[[2.0]] * 8))
  raw, again, other, logged = (_table(names=kept) for _ in range(4))
  own = {'behavior_scale': scale[0]}
  for table, seed in ((raw, 1), (again, 1), (other, 2)):
    datasets.DataSet(path, seed=seed).fill(table, _BOUNDS, **own)
  datasets.DataSet(path, unclipped_actions=False).fill(logged, _BOUNDS, **own)
  actions = raw.read(*raw.row_range()).action.numpy()
  assert np.ptp(actions) > 0.1 and abs(np.mean(actions) - 3.0) < 0.6
  rows = again.row_range()
  np.testing.assert_array_equal(again.read(*rows).action, actions)
  assert (other.read(*rows).action.numpy() != actions).all()
  np.testing.assert_array_equal(logged.read(*logged.row_range()).action, 1.0)


@pytest.mark.parametrize(
  'preset, redrawn',
  [('offline_mujoco.gin', True), ('offline_awac_mujoco.gin', False)],
)
def test_a_mean_within_the_bounds_learns_from_actions_within_them(
  preset, redrawn, d4rl
):
  recorded = {'loc': np.full([8, 1], 3.0), 'scale_diag': np.full([8, 1], 0.4)}
  path = str(d4rl(infos={'dist_params': recorded}, actions=[[2.0]] * 8))
  experiment.configuration([preset], ["run.environment = 'HalfCheetah-v4'"])
  table = _table()
  datasets.DataSet(path).fill(
    table, _BOUNDS, behavior_scale=np.array([0.4], np.float32)
  )
  actions = table.read(*table.row_range()).action.numpy()
  assert (np.max(np.abs(actions)) > 1.0) == redrawn


# Statistics and room.


@pytest.mark.parametrize('chunk_steps', [1, 3, 100])
def test_statistics_are_those_of_all_observations(d4rl, chunk_steps):
  spec = tf.TensorSpec([2], tf.float32)
  normalizer = encoders.ObservationNormalizer(spec, freeze_after_env_steps=2)
  data = datasets.DataSet(str(d4rl()), chunk_steps=chunk_steps)
  data.fill(_table(), _BOUNDS, normalizer=normalizer)
  # Frozen after two observations; a data set counts as a whole.
  expected = (_OBSERVATIONS - _OBSERVATIONS.mean(0)) / (
    _OBSERVATIONS.std(0) + 1e-5
  )
  found = normalizer(tf.constant(_OBSERVATIONS, tf.float32))
  np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_table_without_room(d4rl):
  with pytest.raises(ValueError, match='raise run.replay_capacity'):
    _fill(d4rl(), _table(capacity=7))
  # One row per interaction leaves none for the ends of episodes.
  table = _table(capacity=8, rows_per_interaction=1.0)
  flags = dict(terminals=np.ones(8, bool), timeouts=np.zeros(8, bool))
  with pytest.raises(ValueError, match='raise ReplayTable.rows_per_inter'):
    _fill(d4rl(**flags), table)


@pytest.mark.slow
def test_memory_is_a_chunk(tmp_path):
  steps = 100_000
  content = {
    'observations': np.zeros([steps, 2]),
    'actions': np.zeros([steps, 1], np.float32),
    'rewards': np.zeros([steps]),
    'terminals': np.zeros([steps], bool),
    'timeouts': np.arange(steps) % 1000 == 999,
  }
  path = _written(tmp_path / 'large.hdf5', content)
  bytes_of_all = sum(x.nbytes for x in content.values())
  table = _table(capacity=steps)
  data = datasets.DataSet(str(path), chunk_steps=1000)
  tracemalloc.start()
  data.fill(table, _BOUNDS)
  _, peak = tracemalloc.get_traced_memory()
  tracemalloc.stop()
  assert peak < bytes_of_all / 5


@pytest.mark.parametrize(
  ('metadata', 'expected'),
  [
    ({'env_spec': '{"id": "Hopper-v4"}'}, 'Hopper-v4'),
    ({'env_spec': '{"id": 4}'}, None),
    ({'env_spec': '[]'}, None),
    ({'env_spec': None}, None),
    ({}, None),
  ],
)
def test_the_environment_that_was_recorded(minari, metadata, expected):
  path = minari()
  (path / 'data' / 'metadata.json').write_text(json.dumps(metadata))
  assert datasets.DataSet(str(path)).environment == expected


def test_a_data_set_without_an_id_has_its_folders_name(minari):
  path = minari()
  (path / 'data' / 'metadata.json').write_text('{"dataset_id": null}')
  assert datasets.DataSet(str(path)).name == 'set'


def test_reference_scores_are_the_lower_and_the_upper_one(minari):
  path = minari()
  scores = {'ref_min_score': 1, 'ref_max_score': 11}
  metadata = path / 'data' / 'metadata.json'
  metadata.write_text(json.dumps(scores))
  assert _fill(path)[0].reference == (1.0, 11.0)
  for none in (
    {'ref_min_score': 1},
    dict.fromkeys(scores, 5),
    {'ref_min_score': '5', 'ref_max_score': 5},
  ):
    metadata.write_text(json.dumps(none))
    assert _fill(path)[0].reference is None


# Bad input.


def _changed(values, index, value):
  values = np.array(values)
  values[index] = value
  return values


_ONE = _episodes()['episode_1']
_FAULTS = [
  # Field, its values flat, its values in episode_1, where and what.
  ('observations', _changed(_OBSERVATIONS, 4, np.nan), 'NaN or Inf', 1),
  ('rewards', _changed(_REWARDS, 4, np.inf), 'NaN or Inf', 1),
  ('actions', _changed(_ACTIONS, 4, 2.1), r'outside of \[-2, 2\] \(2.1\)', 1),
  ('actions', _changed(_ACTIONS, 4, np.nan), 'NaN or Inf', 1),
  ('observations', _OBSERVATIONS[:, :1], r'shape \(1,\) and must have \(2,', 0),
  ('actions', _ACTIONS[:, 0], r'shape \(\) and must have \(1,\)', 0),
  ('actions', _ACTIONS.astype('S4'), 'dtype .S4 and must be a float', 0),
  ('rewards', _REWARDS.astype('S4'), 'must be a float', 0),
  ('observations', _OBSERVATIONS > 0, 'must be a float', 0),
  ('rewards', None, 'is missing', 0),
  ('actions', None, 'is missing', 0),
  ('actions', {'a': _ACTIONS}, r'is a group \(a\)', 0),
  ('rewards', np.float32(1.0), 'is no array of steps', 0),
  ('rewards', h5py.Empty('f'), 'is no array of steps', 0),
  (
    'rewards',
    _changed(_REWARDS.astype(np.float64), 4, 1e300),
    r'more than float32 holds \(1e\+300\)',
    1,
  ),
]


@pytest.mark.parametrize(('field', 'values', 'problem', 'has_step'), _FAULTS)
def test_faults_name_file_episode_and_field(
  d4rl, minari, field, values, problem, has_step
):
  place = 'episode 1, step 1' if has_step else 'all episodes'
  path = d4rl(**{field: values})
  with pytest.raises(
    ValueError, match=rf'^{path}: {place}, {field}: .*{problem}'
  ):
    _fill(path, chunk_steps=3)
  own = values
  if isinstance(values, np.ndarray):
    extra = field == 'observations'
    own = values[3 : 6 + extra]
  if isinstance(values, dict):
    own = {'a': _ACTIONS[3:6]}
  place = 'episode_1, step 1' if has_step else 'episode_1'
  path = minari(**{field: own})
  file = path / 'data' / 'main_data.hdf5'
  with pytest.raises(
    ValueError, match=rf'^{file}: {place}, {field}: .*{problem}'
  ):
    _fill(path)


@pytest.mark.parametrize(
  ('changes', 'problem'),
  [
    ({'actions': _ACTIONS[:7]}, 'actions: has length 7 and must have 8'),
    ({'terminals': _TERMINALS[:5]}, 'terminals: has length 5'),
    ({'timeouts': None}, 'timeouts: is missing'),
    ({'infos': {'dist_params': _ACTIONS}}, 'dist_params: is an array and must'),
    ({'timeouts': _TIMEOUTS * 3}, r'timeouts: neither 0 nor 1 \(3\)'),
    (
      {'next_observations': _changed(_NEXT, 2, np.nan)},
      'episode 0, step 2, next_observations: NaN',
    ),
  ],
)
def test_faults_of_flat_files(d4rl, changes, problem):
  with pytest.raises(ValueError, match=problem):
    _fill(d4rl(**changes))


@pytest.mark.parametrize(
  ('changes', 'problem'),
  [
    ({'actions': _ONE['actions'][:2]}, 'actions: has length 2 and must have 3'),
    (
      {'observations': _ONE['observations'][:3]},
      'observations: has length 3 and must have 4',
    ),
    (
      {'terminations': np.array([0, 1, 0], bool)},
      'terminations: True at step 1, but the episode goes on to step 2',
    ),
    (
      {
        'observations': _ONE['observations'][:1],
        'actions': _ACTIONS[:0],
        'rewards': _REWARDS[:0],
        'terminations': _TERMINALS[:0],
        'truncations': _TERMINALS[:0],
      },
      'the episode has no steps',
    ),
    (
      {'observations': _changed(_ONE['observations'], 3, np.inf)},
      'episode_1, end, observations: NaN or Inf',
    ),
    (
      {'infos': {'dist_params': {'loc': np.zeros([2, 1])}}},
      None,  # Only the first episode decides whether mu is read.
    ),
  ],
)
def test_faults_of_groups(minari, changes, problem):
  path = minari(**changes)
  if problem is None:
    assert _fill(path)[0].mu == 'from logged actions'
    return
  with pytest.raises(ValueError, match=rf'episode_1.*{problem}|{problem}'):
    _fill(path)


def test_mu_that_only_some_episodes_have(tmp_path):
  content = _episodes()
  content['episode_0']['infos'] = {'dist_params': {'loc': np.zeros([4, 1])}}
  path = _written(tmp_path / 'main.hdf5', content)
  with pytest.raises(
    ValueError, match='episode_1, infos/dist_params/loc: is missing'
  ):
    _fill(path)


def test_what_should_be_groups_and_is_not(tmp_path):
  content = _episodes()
  content['episode_0']['infos'] = {'dist_params': np.zeros([4, 1])}
  path = _written(tmp_path / 'main.hdf5', content)
  with pytest.raises(ValueError, match='episode_0, infos/dist_params: is an a'):
    _fill(path)
  path = _written(path, _episodes() | {'episode_3': np.zeros([4])})
  with pytest.raises(ValueError, match=f'^{path}: episode_3: is an array and'):
    _fill(path)


@pytest.mark.parametrize('has_file', [True, False])
@pytest.mark.parametrize('content', ['[]', 'null', '"x"', '{'])
def test_metadata_that_are_none(minari, has_file, content):
  folder = minari() / 'data'
  (folder / 'metadata.json').write_text(content)
  if not has_file:
    os.remove(folder / 'main_data.hdf5')
  with pytest.raises(ValueError, match=f'^{folder}/metadata.json: '):
    datasets.DataSet(str(folder.parent))


@pytest.mark.parametrize('score', ['low', [1]])
def test_reference_scores_that_are_no_numbers(minari, score):
  path = minari()
  text = json.dumps({'ref_min_score': score, 'ref_max_score': 11})
  (path / 'data' / 'metadata.json').write_text(text)
  with pytest.raises(ValueError, match=f'^{path}: ref_min_score .* numbers'):
    _fill(path)


def test_files_that_are_no_data_sets(tmp_path, d4rl, minari):
  with pytest.raises(ValueError, match='there is no such data set'):
    datasets.DataSet(str(tmp_path / 'nope.hdf5'))
  with pytest.raises(ValueError, match='holds no data/main_data.hdf5'):
    datasets.DataSet(str(tmp_path))
  empty = tmp_path / 'empty.hdf5'
  empty.touch()
  with pytest.raises(ValueError, match=f'^{empty}: cannot be read'):
    datasets.DataSet(str(empty))
  with pytest.raises(ValueError, match='is empty; a data set holds groups'):
    datasets.DataSet(str(_written(empty, {})))
  with pytest.raises(ValueError, match='holds x; a data set holds groups'):
    datasets.DataSet(str(_written(empty, {'x': [1.0]})))
  nothing = {name: x[:0] for name, x in _flat().items()}
  with pytest.raises(ValueError, match='the data set is empty'):
    datasets.DataSet(str(d4rl(**nothing)))
  arrow = minari() / 'data'
  os.remove(arrow / 'main_data.hdf5')
  (arrow / 'metadata.json').write_text(json.dumps({'data_format': 'zarr'}))
  with pytest.raises(ValueError, match="in Minari's format 'zarr'"):
    datasets.DataSet(str(arrow.parent))


def _open_files() -> int:
  return h5py.h5f.get_obj_count(h5py.h5f.OBJ_ALL, h5py.h5f.OBJ_FILE)


def test_a_file_that_is_refused_is_closed(tmp_path, d4rl, minari):
  before = _open_files()
  nothing = {name: x[:0] for name, x in _flat().items()}
  bad_json = minari()
  (bad_json / 'data' / 'metadata.json').write_text('[]')
  for path in (
    d4rl(**nothing),
    _written(tmp_path / 'none.hdf5', {}),
    _written(tmp_path / 'scalar.hdf5', {'rewards': 1.0}),
    bad_json,
  ):
    with pytest.raises(ValueError) as refused:
      datasets.DataSet(str(path))
    assert _open_files() == before, refused.value
  for change, capacity in (({}, 2), ({'actions': None}, 50)):
    with pytest.raises(ValueError):
      _fill(d4rl(**change), _table(capacity))
    assert _open_files() == before
  data = datasets.DataSet(str(d4rl(infos={'dist_params': [1.0]})))
  with pytest.raises(ValueError):
    list(data.episodes(tf.TensorSpec([2]), _table().data_spec.action, _BOUNDS))
  assert _open_files() == before


@pytest.mark.parametrize('share', [0.3, 0.7, 0.95])
def test_truncated_files(d4rl, minari, share):
  for path in (d4rl(), minari() / 'data' / 'main_data.hdf5'):
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ValueError, match=f'^{path}: .*cannot be read'):
      _fill(path)


def test_damaged_contents(tmp_path):
  path = tmp_path / 'flat.hdf5'
  rng = np.random.default_rng(0)
  observations = rng.normal(size=[2000, 2])
  with h5py.File(path, 'w') as file:
    file.create_dataset('observations', data=observations, compression='gzip')
    file['actions'] = np.zeros([2000, 1], np.float32)
    file['rewards'] = np.zeros([2000])
    file['terminals'] = file['timeouts'] = np.arange(2000) % 100 == 99
    place = file['observations'].id.get_chunk_info(0).byte_offset
  content = bytearray(path.read_bytes())
  content[place + 10 : place + 200] = bytes(190)
  path.write_bytes(content)
  with pytest.raises(ValueError, match=f'^{path}: .*observ.*: cannot be read'):
    _fill(path, _table(capacity=2000))


@pytest.fixture(autouse=True)
def _every_error_says_what_to_do(monkeypatch):
  """Errors of the readers have a second half."""
  fill = datasets.DataSet.fill

  def checked(*args, **kwargs):
    try:
      return fill(*args, **kwargs)
    except ValueError as error:
      assert ';' in str(error) and '\n' not in str(error), str(error)
      raise

  monkeypatch.setattr(datasets.DataSet, 'fill', checked)


# D4RL without timeouts.


@pytest.mark.parametrize('chunk_steps', [1, 2, 3, 100])
def test_a_time_limit_splits_episodes_without_timeouts(d4rl, chunk_steps):
  # 3 steps to a terminal state: cut after 2, then 1; then pairs.
  cut = np.array([0, 1, 0, 0, 1, 0, 1, 0], bool)
  expected = _fill(d4rl(timeouts=cut))[1]
  path = d4rl(timeouts=None)
  with pytest.raises(ValueError, match='DataSet.max_episode_steps'):
    _fill(path)
  rows = _fill(path, max_episode_steps=2, chunk_steps=chunk_steps)[1]
  tf.nest.map_structure(np.testing.assert_array_equal, rows, expected)


def test_recorded_timeouts_go_before_the_time_limit(d4rl):
  expected = _fill(d4rl())[1]
  rows = _fill(d4rl(), max_episode_steps=2)[1]
  tf.nest.map_structure(np.testing.assert_array_equal, rows, expected)


# Actions out of bounds, flags, other files.


def test_actions_out_of_bounds_may_be_clipped(d4rl):
  path = d4rl(actions=_changed(_ACTIONS, 7, 2.5))
  with pytest.raises(ValueError, match='DataSet.clip_actions = True'):
    _fill(path)
  rows = _fill(path, clip_actions=True)[1]
  assert rows.action.max() == 1.0
  _fill(d4rl(actions=_changed(_ACTIONS, 7, 2.0 + 1e-6)))


@pytest.mark.parametrize('value', [0.5, -1.0, 2.0])
def test_flags_are_zero_or_one(d4rl, minari, value):
  flags = _changed(_TERMINALS.astype(float), 4, value)
  with pytest.raises(ValueError, match='episode|row 4, terminals: neither'):
    _fill(d4rl(terminals=flags))
  with pytest.raises(ValueError, match='step 1, terminations: neither 0 nor 1'):
    _fill(minari(terminations=flags[3:6]))


def _external(file, name, target):
  file[name] = h5py.ExternalLink(str(target), f'/{name}')


def _soft_to_external(file, name, target):
  file['elsewhere'] = h5py.ExternalLink(str(target), f'/{name}')
  file[name] = h5py.SoftLink('/elsewhere')


def _stored_externally(file, name, target):
  raw = target.with_name('raw')
  raw.write_bytes(_flat()[name].astype(np.float64).tobytes())
  file.create_dataset(
    name,
    _flat()[name].shape,
    np.float64,
    external=[(str(raw), 0, h5py.h5f.UNLIMITED)],
  )


def _virtual(file, name, target):
  layout = h5py.VirtualLayout(_flat()[name].shape, np.float64)
  layout[:] = h5py.VirtualSource(str(target), name, _flat()[name].shape)
  file.create_virtual_dataset(name, layout)


def _link_to_a_fifo(file, name, target):
  fifo = target.with_name('fifo')
  os.mkfifo(fifo)
  file[name] = h5py.ExternalLink(str(fifo), '/x')


def _committed(file, name, target):
  del target
  file[name] = np.dtype('f8')


def _loop(file, name, target):
  del target
  file[name] = h5py.SoftLink(f'/{name}')


@pytest.mark.parametrize('name', ['observations', 'rewards', 'terminals'])
@pytest.mark.parametrize(
  ('elsewhere', 'problem'),
  [
    (_external, 'another file'),
    (_soft_to_external, 'another file'),
    (_stored_externally, 'another file'),
    (_virtual, 'another file'),
    (_link_to_a_fifo, 'another file'),
    (_loop, 'another file'),
    (_committed, 'data type'),
  ],
)
def test_data_of_other_files_are_refused(
  name, elsewhere, problem, d4rl, tmp_path
):
  target = _written(tmp_path / 'target.hdf5', _flat())
  path = d4rl(**{name: None})
  with h5py.File(path, 'a') as file:
    elsewhere(file, name, target)
  with pytest.raises(ValueError, match=f'{name}: is .*{problem}'):
    _fill(path)


def test_groups_of_other_files_are_refused(minari, d4rl, tmp_path):
  folder = minari()
  with h5py.File(folder / 'data' / 'main_data.hdf5', 'a') as file:
    file['episode_3'] = h5py.ExternalLink(str(d4rl()), '/')
  with pytest.raises(ValueError, match='episode_3: is .*another file'):
    _fill(folder)
  params = {'dist_params': {'loc': np.zeros([8, 1])}}
  target = _written(tmp_path / 'target.hdf5', {'infos': params})
  path = d4rl()
  with h5py.File(path, 'a') as file:
    file['infos'] = h5py.ExternalLink(str(target), '/infos')
  with pytest.raises(ValueError, match='dist_params: is .*another file'):
    _fill(path)


def test_links_within_the_file_are_followed(d4rl):
  expected = _fill(d4rl())[1]
  path = d4rl(observations=None, arrays={'here': _OBSERVATIONS})
  with h5py.File(path, 'a') as file:
    file['observations'] = h5py.SoftLink('/arrays/there')
    file['arrays']['there'] = h5py.SoftLink('here')
  rows = _fill(path)[1]
  tf.nest.map_structure(np.testing.assert_array_equal, rows, expected)


def test_what_is_no_file_is_no_data_set(tmp_path, minari):
  os.mkfifo(tmp_path / 'fifo')
  with pytest.raises(ValueError, match='there is no such data set'):
    datasets.DataSet(str(tmp_path / 'fifo'))
  folder = minari() / 'data'
  os.mkfifo(folder / 'metadata.json')
  with pytest.raises(ValueError, match='metadata.json: '):
    datasets.DataSet(str(folder.parent))
  os.remove(folder / 'metadata.json')
  (folder / 'metadata.json').write_text('[' * 200_000 + ']' * 200_000)
  with pytest.raises(ValueError, match='metadata.json: '):
    datasets.DataSet(str(folder.parent))


def test_a_locked_file_names_the_variable(d4rl):
  path = d4rl()
  writer = (
    'import h5py, sys\n'
    f'file = h5py.File({str(path)!r}, "a")\n'
    'print("open", flush=True)\n'
    'sys.stdin.read()\n'
  )
  with subprocess.Popen(
    [sys.executable, '-c', writer],
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
    text=True,
  ) as process:
    assert process.stdout.readline() == 'open\n'
    with pytest.raises(ValueError, match='HDF5_USE_FILE_LOCKING=FALSE'):
      datasets.DataSet(str(path))
    process.communicate('')


# Images.


@pytest.mark.parametrize('same_size', [True, False])
def test_jpeg_images_of_minari(tmp_path, same_size):
  rng = np.random.default_rng(0)
  images = rng.integers(0, 256, [4, 32, 40, 3]).astype(np.uint8)
  if not same_size:
    images[1] = 7
  jpegs = []
  for image in images:
    file = io.BytesIO()
    PIL.Image.fromarray(image).save(file, format='JPEG')
    jpegs.append(np.frombuffer(file.getvalue(), np.uint8))
  size = max(map(len, jpegs))
  if same_size:  # As Minari: a plain array, if all have the same length.
    jpegs = [np.pad(jpeg, (0, size - len(jpeg))) for jpeg in jpegs]
  path = tmp_path / 'main.hdf5'
  with h5py.File(path, 'w') as file:
    group = file.create_group('episode_0')
    dtype = None if same_size else h5py.vlen_dtype(np.uint8)
    group.create_dataset(
      'observations',
      data=np.array(jpegs, dtype=None if same_size else object),
      dtype=dtype,
    )
    group['actions'] = np.zeros([3, 1])
    group['rewards'] = np.zeros([3])
    group['terminations'] = np.array([0, 0, 1], bool)
    group['truncations'] = np.zeros([3], bool)
  rows = _fill(path, _table(observations=tf.TensorSpec([32, 40, 3], tf.uint8)))[
    1
  ]
  expected = np.stack(
    [np.array(PIL.Image.open(io.BytesIO(bytes(jpeg)))) for jpeg in jpegs]
  )
  np.testing.assert_array_equal(rows.observation, expected)
  with pytest.raises(ValueError, match=r'\(32, 40, 3\).*\(32, 32, 3\)'):
    _fill(path, _table(observations=tf.TensorSpec([32, 32, 3], tf.uint8)))


# Features that are of little use.


def _features(values):
  rng = np.random.default_rng(0)
  observations = rng.normal(size=[8, 2])
  observations[:, 1] = values
  return observations


@pytest.mark.parametrize('layout', ['d4rl', 'minari'])
def test_a_feature_without_spread_is_named_once(layout, request, caplog):
  observations = _features(0.1)
  field = {'observations': observations}
  if layout == 'minari':
    field = {'observations': observations[:4]}
  path = request.getfixturevalue(layout)(**field, next_observations=None)
  normalizer = encoders.ObservationNormalizer(tf.TensorSpec([2]))
  data = datasets.DataSet(str(path), chunk_steps=3)
  data.fill(_table(), _BOUNDS, normalizer=normalizer)
  if layout == 'd4rl':
    assert caplog.text.count('observation feature 1;') == 1
    moved = normalizer(tf.constant([[0.0, 0.2]])).numpy()[0, 1]
    np.testing.assert_allclose(moved, 0.1, rtol=1e-3)
  else:  # Other episodes have a spread.
    assert 'feature' not in caplog.text


def test_statistics_and_spread_are_those_of_float64(d4rl, caplog):
  times = 1.7e9 + np.arange(8.0)
  path = d4rl(observations=_features(times), next_observations=None)
  normalizer = encoders.ObservationNormalizer(tf.TensorSpec([2]))
  data = datasets.DataSet(str(path), chunk_steps=3)
  data.fill(_table(), _BOUNDS, normalizer=normalizer)
  assert caplog.text.count('observation feature 1') >= 1
  assert 'float32' in caplog.text
  caplog.clear()
  path = d4rl(observations=_features(1e5 + np.arange(8.0) ** 2))
  normalizer = encoders.ObservationNormalizer(tf.TensorSpec([2]))
  data = datasets.DataSet(str(path), chunk_steps=3)
  data.fill(_table(), _BOUNDS, normalizer=normalizer)
  assert 'feature' not in caplog.text
  np.testing.assert_allclose(
    1 / normalizer.parameters[1][1], np.std(np.arange(8.0) ** 2), rtol=1e-5
  )


# Writing.


def _episode(length, seed):
  rng = np.random.default_rng(seed)
  return datasets.Episode(
    rng.normal(size=[length + 1, 2]),
    rng.uniform(-2, 2, size=[length, 1]).astype(np.float32),
    rng.normal(size=[length]),
    np.arange(length) == length - 1,
    np.zeros([length], bool),
    {'loc': rng.normal(size=[length + 1, 1]).astype(np.float32)},
    seed,
  )


def test_what_was_written_reads_back_equal(tmp_path):
  episodes = [_episode(3, 1), _episode(5, 2)]
  path = tmp_path / 'deep' / 'set-v0'
  datasets.write(path, iter(episodes), {'dataset_id': 'x/y-v0'})
  with h5py.File(path / 'data' / 'main_data.hdf5') as file:
    for number, episode in enumerate(episodes):
      group = file[f'episode_{number}']
      assert group.attrs['seed'] == episode.seed
      for name in episode._fields[:5]:
        np.testing.assert_array_equal(group[name], getattr(episode, name))
        assert group[name].dtype == getattr(episode, name).dtype
  summary, rows = _fill(path)
  assert (summary.name, summary.mu) == ('y-v0', 'recorded')
  np.testing.assert_array_equal(
    rows.observation,
    np.concatenate([e.observations for e in episodes]).astype(np.float32),
  )
  # An episode's final row repeats the last step's.
  steps = (0, 1, 2, 2), (0, 1, 2, 3, 4, 4)
  loc = [
    e.dist_params['loc'][list(s)] for e, s in zip(episodes, steps, strict=True)
  ]
  np.testing.assert_array_equal(
    rows.policy_info['dist_params']['loc'], np.concatenate(loc)
  )
  metadata = json.loads((path / 'data' / 'metadata.json').read_text())
  assert (metadata['total_episodes'], metadata['total_steps']) == (2, 8)


def test_writing_spares_what_another_one_wrote_meanwhile(tmp_path):
  path, other = tmp_path / 'set', tmp_path / 'other'
  datasets.write(other, [_episode(3, 2)], {})

  def episodes():
    yield _episode(1, 1)
    other.rename(path)

  with pytest.raises(OSError, match='not empty'):
    datasets.write(path, episodes(), {})
  assert [p.name for p in tmp_path.iterdir()] == ['set']
  metadata = json.loads((path / 'data' / 'metadata.json').read_text())
  assert metadata['total_steps'] == 3


def test_writing_leaves_all_or_nothing(tmp_path):
  def episodes():
    yield _episode(3, 1)
    raise FloatingPointError('NaN')

  path = tmp_path / 'set'
  with pytest.raises(FloatingPointError):
    datasets.write(path, episodes(), {})
  with pytest.raises(ValueError, match='no episodes'):
    datasets.write(path, iter([]), {})
  assert not list(tmp_path.iterdir())
  datasets.write(path, [_episode(1, 1)], {})
  with pytest.raises(FileExistsError):
    datasets.write(path, [_episode(1, 1)], {})
  assert [p.name for p in tmp_path.iterdir()] == ['set']
