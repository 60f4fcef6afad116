"""Where train steps run: flags, and the `tf.distribute` strategy they name.

A strategy wants to be made before TensorFlow computes anything.
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
from absl import flags

from qwr_tf.config.errors import ConfigError
from qwr_tf.training import deadlines

_STRATEGY = flags.DEFINE_enum(
  'strategy',
  'default',
  ['default', 'mirrored', 'multi_worker', 'tpu'],
  'Where train steps run: one device; all GPUs of this host; those of all '
  'hosts in the environment variable TF_CONFIG, each started with the same '
  'command; a TPU.',
)
_REPLICAS = flags.DEFINE_integer(
  'replicas',
  None,
  'Of --strategy=mirrored; default one per GPU. Without GPUs: logical CPU '
  'devices, to try it out.',
  lower_bound=1,
)
_TPU = flags.DEFINE_string(
  'tpu',
  None,
  'Of --strategy=tpu: local (on a Cloud TPU VM; the default), a name, or '
  'grpc://host:port.',
)
_JIT = flags.DEFINE_bool(
  'jit', False, 'Compile loss and gradients with XLA. On a TPU all is.'
)
_CONNECT_SECONDS = flags.DEFINE_float(
  'connect_seconds',
  120.0,
  'How long to wait for other hosts or a TPU before giving up.',
  lower_bound=0.1,
)


class Placement(NamedTuple):
  """Where train steps run.

  Attributes:
    strategy: in whose scope networks and optimisers are made.
    jit: whether loss and gradients are compiled with XLA.
  """

  strategy: tf.distribute.Strategy
  jit: bool


def from_flags() -> Placement:
  """What the flags say.

  Raises:
    ConfigError: if there is no such hardware, or it does not answer.
  """
  name = _STRATEGY.value
  for flag, owner in ((_REPLICAS, 'mirrored'), (_TPU, 'tpu')):
    if flag.value is not None and name != owner:
      raise ConfigError(f'--{flag.name} needs --strategy={owner}.')
  if name == 'mirrored':
    strategy = mirrored(_REPLICAS.value)
  elif name == 'multi_worker':
    strategy = multi_worker(_CONNECT_SECONDS.value)
  elif name == 'tpu':
    strategy = tpu(_TPU.value or 'local', _CONNECT_SECONDS.value)
  else:
    strategy = tf.distribute.get_strategy()
  return Placement(strategy, _JIT.value and name != 'tpu')


def mirrored(replicas: int | None = None) -> tf.distribute.Strategy:
  """One replica per GPU, or logical CPU devices where there are none.

  Raises:
    ConfigError: if there are fewer GPUs.
  """
  gpus = tf.config.list_physical_devices('GPU')
  if not gpus:
    cpu = tf.config.list_physical_devices('CPU')[0]
    one = tf.config.LogicalDeviceConfiguration()
    count = replicas or 1
    tf.config.set_logical_device_configuration(cpu, [one] * count)
    return tf.distribute.MirroredStrategy([f'CPU:{i}' for i in range(count)])
  if replicas and replicas > len(gpus):
    raise ConfigError(f'--replicas={replicas}, but there are {len(gpus)} GPUs.')
  count = replicas or len(gpus)
  return tf.distribute.MirroredStrategy([f'GPU:{i}' for i in range(count)])


def multi_worker(seconds: float) -> tf.distribute.Strategy:
  """All hosts that TF_CONFIG names; ends the process if one does not come.

  Raises:
    ConfigError: for a TF_CONFIG that names none.
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
  """Addresses of all workers, and which of them this process is.

  Raises:
    ConfigError: for a TF_CONFIG that does not say.
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
    seconds: to wait for it.

  Raises:
    ConfigError: if there is none, or it does not answer.
  """
  flag = f'--tpu={name}'
  with deadlines.deadline(
    # Both the check and the connection may take their time.
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
    except Exception as error:  # The resolver's depend on how it asked.
      reason = (str(error).splitlines() or [type(error).__name__])[0]
      raise ConfigError(f'{flag}: no TPU found ({reason}).') from error


# Several hosts with one run.


def is_first_worker() -> bool:
  """Whether this process writes the run's folder."""
  return _STRATEGY.value != 'multi_worker' or workers_of_environment()[1] == 0


@contextlib.contextmanager
def folder_for(path: pathlib.Path, overwrite: bool) -> Iterator[pathlib.Path]:
  """Where this process writes the run at `path`.

  All workers do the same, so one of them writes it down: the first. What
  another one writes goes to a folder that is deleted. It begins with the
  checkpoints of the run, so that all go on from the same one.

  Args:
    path: which all workers share, or which holds nothing yet.
    overwrite: whether the run starts anew.
  """
  if is_first_worker():
    yield path
    return
  with tempfile.TemporaryDirectory() as temporary:
    own = pathlib.Path(temporary, path.name)
    if not overwrite and (path / 'run.json').exists():
      own.mkdir()
      shutil.copyfile(path / 'run.json', own / 'run.json')
      for checkpoint in (path / 'checkpoints').glob('[0-9]' * 8):
        shutil.copytree(checkpoint, own / 'checkpoints' / checkpoint.name)
    yield own


def check_agreement(placement: Placement, iteration: int) -> None:
  """Waits for all workers, and for the same answer from each.

  Args:
    placement: from `from_flags`.
    iteration: of the run that this worker is at.

  Raises:
    ConfigError: if the others are at another one.
  """
  if _STRATEGY.value != 'multi_worker':
    return
  strategy = placement.strategy
  own = strategy.run(lambda: tf.constant([iteration]))
  found = sorted(set(strategy.gather(own, axis=0).numpy().tolist()))
  if len(found) > 1:
    raise ConfigError(
      f'The workers are at iterations {" and ".join(map(str, found))}: '
      '--root_dir must be a folder that all of them share.'
    )
