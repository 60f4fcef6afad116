"""A local Ray cluster, and connections to others."""

import math
import os
from typing import Any

from qwr_tf.config.errors import ConfigError
from qwr_tf.distributed import ray_flags
from qwr_tf.training import deadlines

# Set before Ray is imported for a local cluster. It replaces the loopback's
# address by that of an interface, unless told that there is no cluster; its
# servers then listen on all interfaces.
LOCAL = {
  'RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER': '0',
  # Actors would get only the time that all others leave over.
  'RAY_worker_niceness': '0',
}
_OBJECT_STORE_BYTES = 10**9


def ray_module() -> Any:
  """Imports Ray.

  Raises:
    ConfigError: without it.
  """
  try:
    import ray
  except ImportError as error:
    raise ConfigError(
      f"{error}: --engine=ray needs pip install 'qwr_tf[ray]'."
    ) from error
  return ray


def start_local(num_cpus: float) -> str:
  """Starts a Ray that only this machine reaches; returns its address.

  It ends with this process. Programs that this process starts connect to it.

  Args:
    num_cpus: cores that Ray gives to actors; may be more than there are.

  Raises:
    ConfigError: if Ray does not start, or would be reachable from elsewhere.
  """
  os.environ |= LOCAL
  os.environ.pop('RAY_ADDRESS', None)
  ray = ray_module()
  free = os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_AVPHYS_PAGES')
  try:
    context = ray.init(
      address='local',
      num_cpus=math.ceil(num_cpus),
      include_dashboard=False,
      object_store_memory=max(min(_OBJECT_STORE_BYTES, free // 4), 80 * 2**20),
      log_to_driver=False,
      logging_level='WARNING',
      _node_ip_address='127.0.0.1',
    )
  except (OSError, RuntimeError, ValueError) as error:
    raise ConfigError(f'Ray does not start: {error}') from error
  address = context.address_info['address']
  if not address.startswith('127.'):  # Imported earlier than here.
    ray.shutdown()
    raise ConfigError(f'Ray would listen on all interfaces ({address}).')
  os.environ['RAY_ADDRESS'] = address
  return address


def connect(num_cpus: float | None = None) -> None:
  """Connects to the cluster of --address, or to what `start_local` started.

  Args:
    num_cpus: of a local Ray cluster, which starts if there is none.

  Raises:
    ConfigError: if there is none.
  """
  address = ray_flags.ADDRESS.value or os.environ.get('RAY_ADDRESS')
  if address is None and num_cpus is not None:
    start_local(num_cpus)
    return
  ray = ray_module()
  address = address or 'auto'
  if address not in ('auto', 'local'):  # Else Ray waits for minutes.
    deadlines.check_reachable(address, 10.0, f'Ray at --address={address}')
  try:
    ray.init(
      address=address,
      log_to_driver=False,
      logging_level='WARNING',
      ignore_reinit_error=True,
    )
  except (
    ConnectionError,
    RuntimeError,
    ValueError,
    ray.exceptions.RayError,
  ) as error:
    raise ConfigError(
      f'--address={address}: {str(error).strip().rstrip(".")}. Start a cluster '
      'with "ray start --head", give its token (RAY_AUTH_MODE=token), '
      'or leave --address out.'
    ) from error
