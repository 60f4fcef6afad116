"""The learner's side of Ray: shares, order, failures, bounds and restarts."""

import json
import os
import signal
import time

import numpy as np
import pytest
import tensorflow as tf

from qwr_tf.distributed import cluster

os.environ |= cluster.LOCAL
ray = pytest.importorskip('ray')

from qwr_tf.distributed import ray_source  # noqa: E402
from qwr_tf.distributed import tasks  # noqa: E402
from tests.distributed import fake_collectors  # noqa: E402

pytestmark = pytest.mark.slow


@pytest.fixture(scope='module', autouse=True)
def _ray():
  ray.cloudpickle.register_pickle_by_value(fake_collectors)
  cluster.start_local(num_cpus=4)
  yield
  ray.shutdown()
  os.environ.pop('RAY_ADDRESS')


class _Network(tf.Module):
  def __init__(self):
    super().__init__()
    self.weight = tf.Variable(0.0)


class _Setup:
  """A source with fake collectors, which end with the test."""

  def __init__(self, folder, collectors=3, name=None, wait=60.0, **options):
    self.network = _Network()
    kwargs = {'collector_cpus': 0.1, 'collector_seconds': 90.0}
    kwargs['asynchronous'] = options.pop('asynchronous', False)
    config = json.dumps({'folder': str(folder), **options})
    task = tasks.Task(config, 0, collectors, False, wait)
    self.source = ray_source.RaySource(
      self.network,
      task,
      name or str(folder),
      actor_class=fake_collectors.FakeCollector,
      **kwargs,
    )

  def __enter__(self):
    return self

  def __exit__(self, *_):
    self.source.finish()

  def collect(self, env_steps):
    return self.source.collect(env_steps, None)


def _rows(experience):
  return [tuple(row) for row in experience.rows.tolist()]


def test_shares_come_in_the_order_of_the_collectors(tmp_path):
  with _Setup(tmp_path, slow=[0]) as setup:
    for weight in (1.0, 2.0):
      setup.network.weight.assign(weight)
      experience = setup.collect(10)
      # However late the first one is.
      expected = [(0, 4, weight), (1, 3, weight), (2, 3, weight)]
      assert _rows(experience) == expected
      assert experience.interactions == 10
      assert experience.episode_returns == [1.0, 1.0, 1.0]
      assert experience.metrics == {
        'cut_transitions': 3.0,
        'lost_interactions': 0.0,
        'policy_lag': 0.0,
        'policy_lag_max': 0.0,
      }
    # Less than one for each.
    assert _rows(setup.collect(2)) == [(0, 1, 2.0), (1, 1, 2.0)]


@pytest.mark.parametrize('what', ['dies', 'hangs'])
def test_a_collector_that_is_lost_is_replaced_and_comes_back(tmp_path, what):
  with _Setup(tmp_path, **{what: [1]}) as setup:
    setup.source.state()  # Waits for all to start.
    setup.source.collector_seconds = 4.0
    experience = setup.collect(9)
    assert experience.interactions == 9
    assert [rows[1] for rows in _rows(experience)] == [3, 3, 3]
    assert experience.metrics['lost_interactions'] == setup.source.lost == 3
    for _ in range(3000):  # Ends when all are back.
      numbers = {rows[0] for rows in _rows(setup.collect(9))}
      if len(numbers) == 3:
        break
      time.sleep(0.1)
    assert numbers == {0, 1, 2}


def test_a_collector_that_is_being_restarted_fails_once(tmp_path, monkeypatch):
  monkeypatch.setattr(ray_source, 'MAX_FAILURES', 2)
  with _Setup(tmp_path, collectors=1, dies=[0]) as setup:
    assert setup.collect(9).interactions == 9
    assert setup.source.lost == 9


def test_asynchronous_collectors_are_one_iteration_ahead(tmp_path):
  with _Setup(tmp_path, asynchronous=True, slow=[2]) as setup:
    taken, lags = 0, []
    for weight in range(8):
      setup.network.weight.assign(weight)
      experience = setup.collect(30)
      taken += experience.interactions
      # The learner holds the ratio: what came too early counts for later.
      assert 30 * (weight + 1) <= taken < 30 * (weight + 2)
      lags.append(experience.metrics['policy_lag_max'])
      for _, _, acted_with in _rows(experience):
        assert weight - acted_with <= experience.metrics['policy_lag_max']
      time.sleep(0.1)
    assert max(lags) >= 1
    # A collector waits with one result: 10 interactions each.
    time.sleep(1.0)
    names = [f'{tmp_path}-{number}' for number in range(3)]
    handles = [ray.get_actor(name, namespace='qwr_tf') for name in names]
    states = ray.get([handle.state.remote() for handle in handles])
    made = sum(state['count'] for state in states)
    assert taken <= made <= taken + 30


def test_a_learner_that_was_started_again_finds_its_collectors(tmp_path):
  with _Setup(tmp_path) as first:
    first.collect(6)
    state = json.loads(json.dumps(first.source.state()))
    assert [s['count'] for s in state['collectors']] == [2, 2, 2]
    first.collect(6)  # After the checkpoint.
    second = _Setup(tmp_path)
    second.source.restore(state)
    assert second.source.state() == state  # Processes, too.
    assert second.collect(6).interactions == 6


def test_a_collector_that_died_with_the_learner_gets_its_state(tmp_path):
  with _Setup(tmp_path) as first:
    first.collect(6)
    state = first.source.state()
    os.kill(state['collectors'][1]['process'], signal.SIGKILL)
    second = _Setup(tmp_path)
    second.source.restore(state)
    assert [s['count'] for s in second.source.state()['collectors']] == [2] * 3


def test_an_error_of_an_environment_ends_the_run(tmp_path):
  with _Setup(tmp_path, raises=[1]) as setup:
    with pytest.raises(ValueError, match='a wheel came off'):
      setup.collect(6)


def test_nobody_waits_for_ever(tmp_path):
  with _Setup(tmp_path, collectors=1, wait=1.0, hangs=[0]) as setup:
    with pytest.raises(ray_source.NoCollectorsError, match=' 1 s'):
      setup.collect(6)


def test_ray_listens_to_this_machine_only():
  address = os.environ['RAY_ADDRESS']
  assert address.startswith('127.0.0.1:')
  assert np.all(
    [node['NodeManagerAddress'] == '127.0.0.1' for node in ray.nodes()]
  )
