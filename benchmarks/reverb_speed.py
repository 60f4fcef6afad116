"""A Reverb server alone: what a window weighs, and windows a second.

Used by benchmarks/distributed.py. Writer, server and reader share this
process, as they share a machine's cores anyway.
"""

import pathlib
import socket
import tempfile
import time

import numpy as np
import tensorflow as tf
from tf_agents.specs import tensor_spec
from tf_agents.trajectories import trajectory

from qwr_tf.replay import reverb_client
from qwr_tf.replay import reverb_server
from qwr_tf.replay import reverb_table
from qwr_tf.replay import reverb_writer

_BATCH = 256
# HalfCheetah and Atari; horizon as in the presets.
_KINDS = {
  'HalfCheetah, T = 1': ([17], tf.float32, [6], tf.float32, 'loc', 6, 1, 5000),
  'HalfCheetah, T = 3': ([17], tf.float32, [6], tf.float32, 'loc', 6, 3, 5000),
  'Atari, T = 3': ([84, 84, 4], tf.uint8, [], tf.int32, 'logits', 18, 3, 1000),
}


def _spec(observation, dtype, action, action_dtype, parameter, size):
  spec = tensor_spec.TensorSpec
  return trajectory.Trajectory(
    step_type=spec([], tf.int32),
    observation=spec(observation, dtype),
    action=spec(action, action_dtype),
    policy_info={'dist_params': {parameter: spec([size], tf.float32)}},
    next_step_type=spec([], tf.int32),
    reward=spec([], tf.float32),
    discount=spec([], tf.float32),
  )


def _rows(spec, count: int) -> trajectory.Trajectory:
  rng = np.random.default_rng(0)

  def values(s):
    shape = [count, *s.shape]
    if s.dtype == tf.int32:
      return tf.ones(shape, tf.int32)  # Step types in an episode.
    if s.dtype == tf.uint8:  # Noise: nothing compresses it.
      return tf.constant(rng.integers(0, 256, shape), tf.uint8)
    return tf.constant(rng.normal(size=shape), tf.float32)

  return tf.nest.map_structure(values, spec)


def _free_port() -> int:
  with socket.socket() as listener:
    listener.bind(('127.0.0.1', 0))
    return listener.getsockname()[1]


def _bytes(spec) -> int:
  return sum(
    s.dtype.size * s.shape.num_elements() for s in tf.nest.flatten(spec)
  )


def _measure(kind, folder: pathlib.Path) -> dict[str, float]:
  *columns, horizon, count = kind
  spec = _spec(*columns)
  network = tf.Module()
  network.variable = tf.Variable(0.0)
  specs = reverb_server.signatures(spec, horizon, network)
  port = _free_port()
  server = reverb_server.serve(specs, count, port, folder)
  connection = reverb_client.Connection(f'127.0.0.1:{port}', 30.0)
  writer = reverb_writer.WindowWriter(connection, horizon)
  rows = _rows(spec, 50)
  start = time.perf_counter()
  for _ in range(count // 50):
    writer.append(rows)
  written = count / (time.perf_counter() - start)
  arrivals = reverb_table.Arrivals(connection, specs)
  start = time.perf_counter()
  counted = sum(len(arrivals.take(500)[0]) for _ in range(count // 500))
  counting = counted / (time.perf_counter() - start)
  start = time.perf_counter()
  for _ in range(500):
    connection.tables()
  looks = 500 / (time.perf_counter() - start)
  table = reverb_table.ReverbTable(connection, specs)
  read = table.windows([1, _BATCH], horizon + 1, None)
  for _ in range(10):
    read(0)
  start, batches = time.perf_counter(), 0
  while time.perf_counter() - start < 10.0:
    read(0)
    batches += 1
  seconds = time.perf_counter() - start
  server.stop()
  return {
    'bytes/window': _bytes(specs[reverb_server.EXPERIENCE]),
    'interactions written/s': written,
    'arrivals counted/s': counting,
    'looks/s': looks,
    'windows read/s': _BATCH * batches / seconds,
  }


def measure() -> dict[str, dict[str, float]]:
  """{kind: {unit: value}}."""
  found = {}
  for name, kind in _KINDS.items():
    with tempfile.TemporaryDirectory() as folder:
      found[name] = _measure(kind, pathlib.Path(folder))
  return found
