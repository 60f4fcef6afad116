"""One role: python -m qwr_tf.distributed --role=collector --gin_file=...

All roles are given the same gin files, bindings and seed, and the address of
the Reverb server; nothing else is shared. README.md beside this file has the
commands. Exit codes: 0 training has ended, 2 bad input, 1 anything else.
"""

from qwr_tf.config import startup  # noqa: F401, before TensorFlow.

# isort: split
from absl import flags

from qwr_tf import serving
from qwr_tf.config import command
from qwr_tf.config.errors import ConfigError
from qwr_tf.distributed import lifeline
from qwr_tf.distributed import role_flags
from qwr_tf.training import experiment
from qwr_tf.training import interruption
from qwr_tf.training import training_command

flags.adopt_module_key_flags(training_command)
flags.adopt_module_key_flags(role_flags)
_ROLE = flags.DEFINE_enum(
  'role',
  None,
  ['replay', 'collector', 'learner'],
  'Keeps experience; acts; or learns, evaluates and writes the run.',
)

# After its launcher is gone, a learner finishes its iteration and saves.
_SECONDS_TO_SAVE = 600.0


def _connection():
  from qwr_tf.distributed import reverb_client

  return reverb_client.Connection(
    role_flags.SERVER.value, role_flags.SERVER_SECONDS.value
  )


def _shared(config: str) -> str:
  """The configuration that all roles must share; the server compares it."""
  return f'{config}seed = {flags.FLAGS.seed}\n'


def _replay(role, config: str) -> None:
  settings = experiment.settings()
  run = training_command.run_path(config, settings)
  absolute = run.resolve()  # '.' has a name then.
  folder = absolute.with_name(f'{absolute.name}-replay')
  with interruption.Interruption() as interrupted:
    role.run(
      *(settings, _shared(config), flags.FLAGS.seed),
      *(role_flags.port(), role_flags.TRUSTED_NETWORK.value),
      *(folder, flags.FLAGS.overwrite, role_flags.WAIT_SECONDS.value),
      interrupted,
    )


def _collector(role, config: str) -> None:
  with interruption.Interruption() as interrupted:
    role.run(
      *(experiment.settings(), _shared(config)),
      *(flags.FLAGS.seed, _connection()),
      role_flags.WAIT_SECONDS.value,
      interrupted,
    )


def _learner(role, config: str) -> None:
  if flags.FLAGS.strategy == 'multi_worker':
    raise ConfigError(
      'A learner is one process: --strategy=default, mirrored or tpu. '
      'multi_worker is for qwr_tf.train.'
    )
  learner = role.Learner(
    _connection(), _shared(config), role_flags.WAIT_SECONDS.value
  )
  with learner.watched():
    training_command.run(config, serving.export, learner.experience)
    learner.finish()


def main() -> None:
  """Runs one role to its end."""
  if _ROLE.value is None:
    raise ConfigError('--role is missing: replay, collector or learner.')
  lifeline.watch(_SECONDS_TO_SAVE if _ROLE.value == 'learner' else 60.0)
  role_flags.port()  # Raises before anything is built.
  config = training_command.configuration()
  try:
    from qwr_tf.distributed import collector_role
    from qwr_tf.distributed import learner_role
    from qwr_tf.distributed import replay_role
    from qwr_tf.distributed import reverb_client
  except ImportError as error:
    raise ConfigError(
      f"{error}: distributed runs need pip install 'qwr_tf[reverb]', for "
      'Linux on x86-64.'
    ) from error
  try:
    if _ROLE.value == 'replay':
      _replay(replay_role, config)
    elif _ROLE.value == 'collector':
      _collector(collector_role, config)
    else:
      _learner(learner_role, config)
  except reverb_client.UnreachableError as error:
    raise SystemExit(f'error: {error}') from error


if __name__ == '__main__':
  command.run(main)
