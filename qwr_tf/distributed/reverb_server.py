"""The tables of a distributed run in a Reverb server."""

import contextlib
import errno
import os
import pathlib
import shutil
import socket
import stat
from collections.abc import Iterator
from typing import Any, NamedTuple

import reverb
import tensorflow as tf
from tf_agents.trajectories import trajectory

from qwr_tf.replay import packing

# Windows [T + 1, ...], first in first out, drawn uniformly.
EXPERIENCE = 'experience'
# Each interaction once, until the learner has counted it.
ARRIVALS = 'arrivals'
# The newest policy, in the order of `acting_variables`; one item.
VARIABLES = 'variables'
# One item once training has ended, and the roles with it.
ENDED = 'ended'
# The configuration that all roles were started with; one item.
CONFIGURATION = 'configuration'

# Reverb names its checkpoints by the second.
_CHECKPOINTS = '[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]T*'

# More than any backlog: a full queue would block the collectors.
_MAX_ARRIVALS = 10_000_000


class Arrival(NamedTuple):
  """An interaction as the learner counts it.

  Attributes:
    row: packed, as `packing.pack` makes it.
    session: number of the collector's process.
    number: of the interaction in its session, without gaps.
  """

  row: Any
  session: Any
  number: Any


def acting_variables(network: tf.Module) -> list[tf.Variable]:
  """All variables that an acting network reads, its normaliser's too."""
  modules = (network, *network.submodules)
  by_id = {id(v): v for module in modules for v in module.variables}
  return list(by_id.values())


def signatures(
  data_spec: trajectory.Trajectory, horizon: int, network: tf.Module
) -> dict[str, Any]:
  """Specs of the tables' items, with packed rows, by table.

  Args:
    data_spec: the agent's `collect_data_spec`.
    horizon: T.
    network: the acting one.
  """
  number = tf.TensorSpec([], tf.int64)
  row = packing.packed_spec(data_spec)
  variables = acting_variables(network)
  return {
    EXPERIENCE: {
      name: tf.TensorSpec([horizon + 1, *spec.shape], spec.dtype)
      for name, spec in row.items()
    },
    ARRIVALS: Arrival(row=row, session=number, number=number),
    VARIABLES: tuple(tf.TensorSpec(v.shape, v.dtype) for v in variables),
    ENDED: tf.TensorSpec([], tf.bool),
    CONFIGURATION: tf.TensorSpec([None], tf.uint8),  # Text in UTF-8.
  }


def serve(
  specs: dict[str, Any],
  capacity: int,
  port: int,
  checkpoints: pathlib.Path,
  overwrite: bool = False,
  *,
  all_interfaces: bool = False,
) -> reverb.Server:
  """A server with the content of its newest checkpoint.

  Args:
    specs: from `signatures`.
    capacity: windows kept.
    port: fixed, so that clients find the server again.
    checkpoints: a folder.
    overwrite: whether to delete that folder first.
    all_interfaces: whether other machines may connect.

  Raises:
    OSError: for a port that is taken or cannot be kept to this machine, and
      for a folder that cannot be written or holds other files.
  """
  limits = {EXPERIENCE: capacity, VARIABLES: 1, ENDED: 1, CONFIGURATION: 1}
  tables = [
    reverb.Table(
      name,
      sampler=reverb.selectors.Uniform(),
      remover=reverb.selectors.Fifo(),
      max_size=size,
      rate_limiter=reverb.rate_limiters.MinSize(1),
      signature=specs[name],
    )
    for name, size in limits.items()
  ]
  tables.append(
    reverb.Table.queue(ARRIVALS, _MAX_ARRIVALS, signature=specs[ARRIVALS])
  )
  _check_port(port)  # First: its owner may own the folder as well.
  _claim(checkpoints, overwrite)
  checkpointer = reverb.checkpointers.DefaultCheckpointer(str(checkpoints))
  try:
    server = reverb.Server(tables, port=port, checkpointer=checkpointer)
  except RuntimeError as error:
    raise OSError(0, f'port {port}: {error}') from error
  if not all_interfaces:
    _keep_to_this_machine(port)
  return server


def _keep_to_this_machine(port: int) -> None:
  """Ties a listening port of this process to the loopback interface.

  Reverb has no address to bind to: it listens on all interfaces.

  Raises:
    OSError: if the kernel does not allow it (Linux does from 5.7 on), or if
      another machine was quicker.
  """
  listeners = 0
  try:
    for connection in _sockets(port):
      if connection.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b'lo')
        listeners += 1
    for connection in _sockets(port):
      with contextlib.suppress(OSError):  # It is no connection.
        peer = connection.getpeername()[0]
        listeners *= peer in ('127.0.0.1', '::1', '::ffff:127.0.0.1')
    if not listeners:
      raise OSError(errno.EPERM, 'another process or machine holds it')
  except OSError as error:
    raise OSError(
      error.errno,
      f'port {port} cannot be kept to this machine: {error.strerror}',
      'give --trusted_network if you trust everybody who reaches it',
    ) from error


def _sockets(port: int) -> Iterator[socket.socket]:
  """Yields this process's TCP sockets of a local port."""
  for descriptor in map(int, os.listdir('/proc/self/fd')):
    try:
      if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
        continue
      one = socket.socket(fileno=os.dup(descriptor))
    except OSError:  # Closed by now.
      continue
    with one:
      is_ip = one.family in (socket.AF_INET, socket.AF_INET6)
      if is_ip and one.getsockname()[1] == port:
        yield one


def _claim(folder: pathlib.Path, overwrite: bool) -> None:
  """Creates the folder; raises OSError if it holds other files."""
  if folder.exists() and {*folder.iterdir()} - {*folder.glob(_CHECKPOINTS)}:
    reason = 'not of a replay server; move what it holds elsewhere'
    raise OSError(errno.EEXIST, reason, str(folder))
  if overwrite:
    shutil.rmtree(folder, ignore_errors=True)
  folder.mkdir(parents=True, exist_ok=True)


def _check_port(port: int) -> None:
  """Raises OSError for a taken port, which gRPC would share."""
  with socket.socket() as listener:
    # Connections that a killed server has left do not count.
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
      listener.bind(('', port))
    except OSError as error:
      raise OSError(error.errno, f'port {port}: {error.strerror}') from error
