"""Collectors of Ray make the rows that the run's own process would make."""

import functools
import os

import numpy as np
import pytest
import tensorflow as tf

from qwr_tf import environments
from qwr_tf.acting import segments
from qwr_tf.acting import sources
from qwr_tf.config import gin_files
from qwr_tf.config import ranges
from qwr_tf.distributed import cluster
from qwr_tf.distributed import tasks
from qwr_tf.training import experiment

os.environ |= cluster.LOCAL
ray = pytest.importorskip('ray')

from qwr_tf.distributed import ray_source  # noqa: E402

_BINDINGS = [
  'run.interactions=200',
  "run.environment='BitFlip-5'",
  'Collector.env_steps=41',
  'iterate.critic_steps=1',
  'iterate.actor_steps=1',
  'mlp_torso.units=(8,)',
]


class _Together:
  """The environments of two collectors, one after the other."""

  def __init__(self, network, name, seed):
    self._sources = [
      sources.EnvironmentSource(
        experiment.load_environment(
          name, seed=environments.seed_of(seed, number)
        ),
        network,
        seed=environments.seed_of(seed + ranges.ACTING_SEED, number),
        is_only_source=False,
      )
      for number in range(2)
    ]

  def collect(self, env_steps, check_fn):
    shares = [-(-(env_steps - i) // 2) for i in range(2)]
    parts = zip(self._sources, shares, strict=True)
    return segments.join([s.collect(n, check_fn) for s, n in parts])


@pytest.fixture(name='build', scope='module')
def _build():
  """(source of experience or None) -> parts of one and the same run."""
  settings = experiment.settings
  config = gin_files.parse(['bitflip.gin'], _BINDINGS)

  def build(source=None, **task):
    if task:
      task = tasks.Task(config, 5, wait_seconds=300.0, **task)
      name = f'collectors-{task.num_collectors}'
      source = functools.partial(ray_source.RaySource, task=task, name=name)
    return experiment.build(settings(), seed=5, source_fn=source)

  cluster.start_local(num_cpus=4)
  tf.config.run_functions_eagerly(True)
  yield build
  tf.config.run_functions_eagerly(False)
  ray.shutdown()
  os.environ.pop('RAY_ADDRESS')


def _rows(parts, iterations):
  for _ in range(iterations):
    next(parts.iterations)
  return tf.nest.map_structure(lambda x: x.numpy(), parts.table.gather_all())


@pytest.mark.slow
def test_one_collector_makes_the_rows_of_one_process(build):
  expected = _rows(build(), 3)
  parts = build(num_collectors=1, is_only_source=True)
  _rows(parts, 2)
  # A learner that dies, and resumes.
  state = parts.collector.state()
  parts.collector.restore(state)
  assert parts.collector.state() == state
  actual = _rows(parts, 1)
  tf.nest.map_structure(np.testing.assert_array_equal, actual, expected)


@pytest.mark.slow
def test_collectors_make_the_rows_of_their_environments_in_turn(build):
  together = functools.partial(_Together, name='BitFlip-5', seed=5)
  expected = _rows(build(together), 3)
  actual = _rows(build(num_collectors=2, is_only_source=False), 3)
  tf.nest.map_structure(np.testing.assert_array_equal, actual, expected)
