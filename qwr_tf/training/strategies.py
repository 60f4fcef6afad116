"""Strategies of `tf.distribute` for train steps, from flags.

A strategy must be made before TensorFlow computes anything.
"""

import contextlib
import json
import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterator
from typing import NamedTuple

import tensorflow as tf

from qwr_tf.config.errors import ConfigError
from qwr_tf.runs import run_folder
from qwr_tf.runs import run_json
from qwr_tf.training import deadlines
from qwr_tf.training import strategy_flags


class Placement(NamedTuple):
  """The strategy of train steps, and whether XLA compiles their gradients."""

  strategy: tf.distribute.Strategy
  jit: bool


def from_flags() -> Placement:
  """The placement that the flags name.

  Raises:
    ConfigError: if there is no such hardware, or it does not answer.
  """
  name = strategy_flags.STRATEGY.value
  for flag, owner in (
    (strategy_flags.REPLICAS, 'mirrored'),
    (strategy_flags.TPU, 'tpu'),
  ):
    if flag.value is not None and name != owner:
      raise ConfigError(f'--{flag.name} needs --strategy={owner}.')
  if name == 'mirrored':
    strategy = mirrored(strategy_flags.REPLICAS.value)
  elif name == 'multi_worker':
    strategy = multi_worker(strategy_flags.CONNECT_SECONDS.value)
  elif name == 'tpu':
    strategy = tpu(
      strategy_flags.TPU.value or 'local', strategy_flags.CONNECT_SECONDS.value
    )
  else:
    strategy = tf.distribute.get_strategy()
  return Placement(strategy, strategy_flags.JIT.value and name != 'tpu')


def mirrored(replicas: int | None = None) -> tf.distribute.Strategy:
  """One replica per GPU, or logical CPU devices where there are none.

  Raises:
    ConfigError: if there are fewer GPUs.
  """
  gpus = tf.config.list_physical_devices('GPU')
  kind, count = (
    ('GPU', replicas or len(gpus)) if gpus else ('CPU', replicas or 1)
  )
  if not gpus:
    cpu = tf.config.list_physical_devices('CPU')[0]
    logical = [tf.config.LogicalDeviceConfiguration()] * count
    tf.config.set_logical_device_configuration(cpu, logical)
  elif count > len(gpus):
    raise ConfigError(f'--replicas={replicas}, but there are {len(gpus)} GPUs.')
  return tf.distribute.MirroredStrategy([f'{kind}:{i}' for i in range(count)])


def multi_worker(seconds: float) -> tf.distribute.Strategy:
  """All hosts in TF_CONFIG; ends the process if one is missing.

  Raises:
    ConfigError: for a TF_CONFIG without hosts.
  """
  workers, index = workers_of_environment()
  others = [w for i, w in enumerate(workers) if i != index]
  with deadlines.deadline(
    seconds,
    f'not all workers of TF_CONFIG answered within {seconds:g} s (this is '
    f'worker {index}, {workers[index]}; the others: {", ".join(others)}). '
    'Start the same command on each, or raise --connect_seconds.',
  ):
    return tf.distribute.MultiWorkerMirroredStrategy()


def workers_of_environment() -> tuple[list[str], int]:
  """Addresses of all workers, and the index of this process.

  Raises:
    ConfigError: for a TF_CONFIG without them.
  """
  text = os.environ.get('TF_CONFIG', '')
  try:
    config = json.loads(text)
    workers = [str(worker) for worker in config['cluster']['worker']]
    index = int(config['task']['index'])
    if config['task']['type'] != 'worker' or not 0 <= index < len(workers):
      raise ValueError('no such task')
  except (ValueError, LookupError, TypeError) as error:
    raise ConfigError(
      '--strategy=multi_worker needs the environment variable TF_CONFIG, such '
      'as {"cluster": {"worker": ["host0:2222", "host1:2222"]}, "task": '
      f'{{"type": "worker", "index": 0}}}}, not {text!r}.'
    ) from error
  return workers, index


def tpu(name: str, seconds: float) -> tf.distribute.Strategy:
  """All cores of a TPU.

  Args:
    name: local, a name that Google Cloud resolves, or grpc://host:port.

  Raises:
    ConfigError: if there is no TPU, or it does not answer.
  """
  flag = f'--tpu={name}'
  with deadlines.deadline(
    # The check and the connection may take so long each.
    2 * seconds,
    f'{flag} did not answer within {2 * seconds:g} s.',
  ):
    try:
      resolver = tf.distribute.cluster_resolver.TPUClusterResolver(name)
      address = resolver.master() or ''
      if address.startswith('grpc://'):
        address = address.removeprefix('grpc://')
        deadlines.check_reachable(address, seconds, f'{flag} at {address}')
      if name != 'local':
        tf.config.experimental_connect_to_cluster(resolver)
      tf.tpu.experimental.initialize_tpu_system(resolver)
      return tf.distribute.TPUStrategy(resolver)
    except ConfigError:
      raise
    except Exception as error:  # Each way to resolve a name has its own.
      reason = (str(error).splitlines() or [type(error).__name__])[0]
      raise ConfigError(f'{flag}: no TPU found ({reason}).') from error


def is_first_worker() -> bool:
  """True if this process writes the run's folder."""
  return (
    strategy_flags.STRATEGY.value != 'multi_worker'
    or workers_of_environment()[1] == 0
  )


@contextlib.contextmanager
def folder_for(
  folder: run_folder.RunFolder, overwrite: bool
) -> Iterator[run_folder.RunFolder]:
  """The folder that this process writes a run into.

  All workers make the same run; the first one writes it. The others write to
  a temporary folder, a copy of the run's checkpoints, so that all workers
  resume from the same one.

  Args:
    folder: of the run; all workers share it, or it holds nothing yet.
    overwrite: whether the run starts anew.
  """
  if is_first_worker():
    yield folder
    return
  with tempfile.TemporaryDirectory() as temporary:
    copy = folder.at(pathlib.Path(temporary, folder.path.name))
    if not overwrite and folder.recorded('config') is not None:
      copy.checkpoints.mkdir(parents=True)
      shutil.copy(folder.path / run_json.NAME, copy.path)
      for path in folder.checkpoints.glob('[0-9]' * 8):
        shutil.copytree(path, copy.checkpoints / path.name)
    yield copy


def check_agreement(placement: Placement, iteration: int) -> None:
  """Waits for all workers, and checks that they are at the same iteration.

  Args:
    placement: from `from_flags`.
    iteration: iterations this worker has made.

  Raises:
    ConfigError: if another worker has made more or less.
  """
  if strategy_flags.STRATEGY.value != 'multi_worker':
    return
  strategy = placement.strategy
  local = strategy.run(lambda: tf.constant([iteration]))
  iterations = sorted(set(strategy.gather(local, axis=0).numpy().tolist()))
  if len(iterations) > 1:
    raise ConfigError(
      f'The workers are at iterations {" and ".join(map(str, iterations))}: '
      '--root_dir must be a folder that all of them share.'
    )
