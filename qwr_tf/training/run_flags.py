"""Flags of every command that trains; without TensorFlow, for --help."""

from absl import flags

from qwr_tf.config import command
from qwr_tf.config import ranges
from qwr_tf.training import strategy_flags

flags.declare_key_flag('gin_file')  # Default: by the spaces of --env.
flags.declare_key_flag('gin_bindings')
flags.adopt_module_key_flags(strategy_flags)
flags.declare_key_flag('env')
INTERACTIONS = flags.DEFINE_integer(
  'interactions',
  None,
  'Interactions in all; more than a finished run had prolong the run in '
  '--root_dir.',
  lower_bound=0,
)
ROOT_DIR = flags.DEFINE_string(
  'root_dir', None, 'Folder of the run; default runs/<what identifies it>.'
)
SEED = flags.DEFINE_integer(
  'seed',
  0,
  'Of everything random.',
  lower_bound=0,
  upper_bound=ranges.MAX_SEED,
)
OVERWRITE = flags.DEFINE_bool(
  'overwrite', False, 'Delete the run that root_dir holds and start anew.'
)
PRINT_CONFIG = flags.DEFINE_bool(
  'print_config',
  False,
  'Print every value of the run, where it comes from, and exit.',
)
VIDEO = flags.DEFINE_bool(
  'video', False, 'Film an episode of the final policy (video.mp4).'
)


def bindings() -> list[str]:
  """--gin_bindings, --env and --interactions as gin bindings."""
  by_name = {
    'environment': command.ENV.value,
    'interactions': INTERACTIONS.value,
  }
  return [
    *command.GIN_BINDINGS.value,
    *(f'run.{k} = {v!r}' for k, v in by_name.items() if v is not None),
  ]
