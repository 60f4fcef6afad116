"""The replay role: a Reverb server with experience and the policy."""

import pathlib
import shutil
import time

from qwr_tf.config.errors import ConfigError
from qwr_tf.distributed import reverb_client
from qwr_tf.distributed import reverb_server
from qwr_tf.distributed import role
from qwr_tf.training import experiment

_SECONDS_BETWEEN_LOOKS = 0.5
# After the end of training: for roles that sleep or play a long step.
_SECONDS_TO_LEAVE = 5.0


def run(
  settings: experiment.Settings,
  config: str,
  seed: int,
  port: int,
  all_interfaces: bool,
  folder: pathlib.Path,
  overwrite: bool,
  wait_seconds: float,
  interrupted,
) -> None:
  """Serves until training has ended, no role is left, or a signal interrupts.

  Args:
    settings: of the run.
    config: the run's configuration and seed as text.
    seed: of the run.
    port: to listen on.
    all_interfaces: whether other machines may connect.
    folder: of the server's checkpoints; removed when training has ended.
    overwrite: whether to delete the folder first.
    wait_seconds: for a role that writes or reads.
    interrupted: an `interruption.Interruption`.

  Raises:
    ConfigError: for the port, or a folder of another run.
    UnreachableError: if no role has written or read for `wait_seconds`.
  """
  specs = role.build(settings, seed, seed).specs
  # None stands for the size of a data set, which `role.adapt` refuses.
  capacity = settings.replay_capacity or 0
  try:
    server = reverb_server.serve(
      specs, capacity, port, folder, overwrite, all_interfaces=all_interfaces
    )
  except OSError as error:
    fix = error.filename or 'choose another port with --server'
    raise ConfigError(f'Reverb server: {error.strerror} ({fix}).') from error
  connection = reverb_client.Connection(f'127.0.0.1:{port}', 30.0)
  _configure(connection, config, folder)
  print(f'serving on port {port}', flush=True)
  has_ended = _serve(connection, wait_seconds, interrupted)
  if has_ended:
    time.sleep(_SECONDS_TO_LEAVE)
  else:
    connection.checkpoint()
  server.stop()
  if has_ended:
    shutil.rmtree(folder, ignore_errors=True)
  elif not interrupted.requested:
    raise reverb_client.UnreachableError(
      f'nobody has written or read on port {port} for {wait_seconds:g} s; the '
      'same command goes on from the checkpoint.'
    )


def _serve(connection, wait_seconds: float, interrupted) -> bool:
  """Waits; returns whether training has ended."""
  counts, last_change = None, time.monotonic()
  while not interrupted.requested:
    time.sleep(_SECONDS_BETWEEN_LOOKS)
    tables = connection.tables()
    if tables[reverb_server.ENDED].current_size:
      return True
    limiters = [table.rate_limiter_info for table in tables.values()]
    before, counts = (
      counts,
      [
        (info.insert_stats.completed, info.sample_stats.completed)
        for info in limiters
      ],
    )
    if counts != before:
      last_change = time.monotonic()
    elif time.monotonic() - last_change > wait_seconds:
      return False
  return False


def _configure(connection, config: str, folder: pathlib.Path) -> None:
  """Writes the configuration, or compares that of a checkpoint with it."""
  table = connection.tables()[reverb_server.CONFIGURATION]
  if not table.current_size:
    item = reverb_client.as_item(config)
    connection.write(reverb_server.CONFIGURATION, item)
    return
  try:
    connection.check({}, config)
  except reverb_client.MismatchError as error:
    raise ConfigError(
      f'{folder} holds the experience of another run. {error} Or start anew '
      'with --overwrite.'
    ) from error
