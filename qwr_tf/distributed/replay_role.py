"""The role that keeps experience and variables: a Reverb server."""

import pathlib
import shutil
import time

from qwr_tf.config.errors import ConfigError
from qwr_tf.distributed import reverb_client
from qwr_tf.distributed import reverb_server
from qwr_tf.distributed import role
from qwr_tf.training import experiment

_SECONDS_BETWEEN_LOOKS = 0.5
# After the end: for roles that sleep, or play a step that takes long.
_SECONDS_TO_LEAVE = 5.0


def run(
  settings: experiment.Settings,
  config: str,
  seed: int,
  port: int,
  folder: pathlib.Path,
  overwrite: bool,
  interrupted,
) -> None:
  """Serves until training has ended or somebody interrupts.

  Args:
    settings: of the run.
    config: of the run and its seed, as text.
    seed: of the run.
    port: to listen on.
    folder: of the server's checkpoints; gone when training has ended.
    overwrite: whether to begin without what it holds.
    interrupted: an `interruption.Interruption`.

  Raises:
    ConfigError: if the port is taken, or the folder is another run's.
  """
  specs = role.build(settings, seed, seed).specs
  # None comes with a data set, which has been refused.
  capacity = settings.replay_capacity or 0
  try:
    server = reverb_server.serve(specs, capacity, port, folder, overwrite)
  except OSError as error:
    fix = error.filename or 'choose another port with --server'
    raise ConfigError(f'Reverb server: {error.strerror} ({fix}).') from error
  connection = reverb_client.Connection(f'127.0.0.1:{port}', 30.0)
  _configure(connection, config, folder)
  print(f'serving on port {port}', flush=True)
  while not interrupted.requested:
    time.sleep(_SECONDS_BETWEEN_LOOKS)
    if connection.tables()[reverb_server.ENDED].current_size:
      time.sleep(_SECONDS_TO_LEAVE)
      break
  else:
    connection.checkpoint()
    server.stop()
    return
  server.stop()
  shutil.rmtree(folder, ignore_errors=True)


def _configure(connection, config: str, folder: pathlib.Path) -> None:
  """Writes the configuration, or holds the one of a checkpoint to it."""
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
