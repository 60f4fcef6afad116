"""One collector of Ray makes the rows that the run's own process would make."""

import functools
import os

import numpy as np
import pytest
import tensorflow as tf

from qwr_tf.config import gin_files
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
  'iterate.critic_steps=3',
  'iterate.actor_steps=3',
]


def _rows(parts, iterations):
  for _ in range(iterations):
    next(parts.iterations)
  return tf.nest.map_structure(lambda x: x.numpy(), parts.table.gather_all())


@pytest.mark.slow
def test_one_collector_makes_the_rows_of_one_process():
  config = gin_files.parse(['bitflip.gin'], _BINDINGS)
  settings = experiment.settings()
  expected = _rows(experiment.build(settings, seed=5), 4)
  task = tasks.Task(config, 5, 1, is_alone=True, wait_seconds=300.0)
  source = functools.partial(ray_source.RaySource, task=task, name='one')
  cluster.start_local(num_cpus=2)
  try:
    parts = experiment.build(
      settings,
      seed=5,
      experience_fn=functools.partial(
        experiment.own_experience, source_fn=source
      ),
    )
    for iteration in range(4):
      if iteration == 2:  # A learner that dies, and resumes.
        state = parts.collector.state()
        parts.collector.restore(state)
        assert parts.collector.state() == state
      next(parts.iterations)
    actual = _rows(parts, 0)
  finally:
    ray.shutdown()
    os.environ.pop('RAY_ADDRESS')
  tf.nest.map_structure(np.testing.assert_array_equal, actual, expected)
