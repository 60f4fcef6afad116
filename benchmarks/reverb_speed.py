"""Speed of a Reverb server alone: bytes per window, windows per CPU second.

Used by benchmarks/distributed.py. The server has a process of its own, as a
reader in the server's process goes around the network. Seconds are those of all
threads of the server, or of whoever writes and reads: what one core would do.
"""

from qwr_tf.config import startup  # noqa: F401, before TensorFlow.

# isort: split
import os
import pathlib
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable

import numpy as np
import tensorflow as tf
from tf_agents.specs import tensor_spec
from tf_agents.trajectories import trajectory

from qwr_tf.distributed import reverb_client
from qwr_tf.distributed import reverb_server
from qwr_tf.distributed import reverb_table
from qwr_tf.distributed import reverb_writer

_BATCH = 256
_BATCHES = 200
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


def _specs(name: str):
  *columns, horizon, _ = _KINDS[name]
  spec = _spec(*columns)
  network = tf.Module()
  network.variable = tf.Variable(0.0)
  return spec, reverb_server.signatures(spec, horizon, network)


def _cpu_seconds(pid: int) -> float:
  """Of all threads of a process."""
  fields = pathlib.Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2]
  return sum(map(int, fields.split()[11:13])) / os.sysconf('SC_CLK_TCK')


def _speed(server: int, fn: Callable[[], int]) -> dict[str, float]:
  """How many fn does per CPU second, here and of the server."""
  pids = {'client': os.getpid(), 'server': server}
  before = {name: _cpu_seconds(pid) for name, pid in pids.items()}
  count = fn()
  return {
    name: count / max(_cpu_seconds(pid) - before[name], 1e-2)
    for name, pid in pids.items()
  }


def _measure(name: str, server: int, port: int) -> dict[str, float]:
  spec, specs = _specs(name)
  *_, horizon, count = _KINDS[name]
  connection = reverb_client.Connection(f'127.0.0.1:{port}', 300.0)
  connection.tables()  # Waits for it.
  writer = reverb_writer.WindowWriter(connection, horizon)
  arrivals = reverb_table.Arrivals(connection, specs, spec)
  table = reverb_table.ReverbTable(connection, specs, spec)
  rows = _rows(spec, 50)

  def write():
    for _ in range(count // 50):
      writer.append(rows)
    return count

  def count_arrivals():
    return sum(len(arrivals.take(500)[0]) for _ in range(count // 500))

  def look():
    for _ in range(200):
      connection.tables()
    return 200

  def read():
    one = table.windows([1, _BATCH], horizon + 1, None)
    for _ in range(_BATCHES):
      one(0)
    return _BATCH * _BATCHES

  speeds = {'bytes/window': float(_bytes(specs[reverb_server.EXPERIENCE]))}
  for what, fn in (
    ('interactions written', write),
    ('arrivals counted', count_arrivals),
    ('looks', look),
    ('windows read', read),
  ):
    for side, speed in _speed(server, fn).items():
      speeds[f'{what}/CPU s of the {side}'] = speed
  return speeds


def measure() -> dict[str, dict[str, float]]:
  """{kind: {unit: value}}."""
  speeds = {}
  for name in _KINDS:
    with tempfile.TemporaryDirectory() as folder:
      port = _free_port()
      server = subprocess.Popen(
        [sys.executable, '-m', __spec__.name, name, str(port), folder]
      )
      try:
        speeds[name] = _measure(name, server.pid, port)
      finally:
        server.kill()
        server.wait()
  return speeds


def _serve(name: str, port: str, folder: str) -> None:
  *_, count = _KINDS[name]
  specs = _specs(name)[1]
  path = pathlib.Path(folder)
  reverb_server.serve(specs, count, int(port), path).wait()


if __name__ == '__main__':
  _serve(*sys.argv[1:])
