"""Flags of every role of a distributed run, and the address they give."""

import ipaddress

from absl import flags

from qwr_tf.config.errors import ConfigError

SERVER = flags.DEFINE_string(
  'server',
  '127.0.0.1:12889',
  'host:port of the Reverb server.',
)
TRUSTED_NETWORK = flags.DEFINE_bool(
  'trusted_network',
  False,
  'Whether roles may talk beyond this machine. The replay role then listens on '
  'all interfaces, and anybody who reaches its port can read, empty and fill '
  'its tables: only for a network in which you trust everybody.',
)
SERVER_SECONDS = flags.DEFINE_float(
  'server_seconds',
  300.0,
  'How long the server may be away before a role gives up.',
  lower_bound=0.1,
)
WAIT_SECONDS = flags.DEFINE_float(
  'wait_seconds',
  3600.0,
  'How long the learner waits for interactions, and collectors for a learner '
  'that takes them, before they give up. A long evaluation counts.',
  lower_bound=0.1,
)


def port() -> int:
  """The port of --server.

  Raises:
    ConfigError: if the flag is not host:port, or names another machine without
      --trusted_network.
  """
  host, _, number = SERVER.value.rpartition(':')
  if not number.isdigit() or not 0 < int(number) < 2**16:
    raise ConfigError(f'--server={SERVER.value} is not host:port.')
  if not TRUSTED_NETWORK.value and not _is_loopback(host.strip('[]')):
    raise ConfigError(
      f'--server={SERVER.value} is not this machine, and Reverb asks nobody '
      'who they are; give --trusted_network if you trust everybody who reaches '
      'that port, or use 127.0.0.1 at both ends of a tunnel.'
    )
  return int(number)


def _is_loopback(host: str) -> bool:
  try:
    return ipaddress.ip_address(host).is_loopback
  except ValueError:
    return host == 'localhost'
