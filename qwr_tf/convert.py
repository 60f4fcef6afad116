"""Writes logged data of any layout as a Minari data set.

    python -m qwr_tf.convert --dataset=log.parquet --output=datasets/log-v0 \
      --gin_bindings="TableColumns.episode='session'"

Reads Parquet, CSV, Arrow, npz, RLDS, D4RL's layout and Minari's formats. What
the file does not say of its spaces is given as for a run without a simulator,
such as --gin_bindings="load_environment.num_actions=3". Exit codes: 0 done, 2
bad input, 1 anything else.
"""

from qwr_tf.config import startup  # noqa: F401, before TensorFlow.

# isort: split
import pathlib

from absl import flags

from qwr_tf.config import command

flags.declare_key_flag('gin_file')
flags.declare_key_flag('gin_bindings')
_DATASET = flags.DEFINE_string('dataset', None, 'File, folder or Minari id.')
_OUTPUT = flags.DEFINE_string('output', None, 'Folder of the new data set.')
command.answer_help(__name__)

# isort: split
from qwr_tf import datasets
from qwr_tf import environments
from qwr_tf.config import gin_files
from qwr_tf.config.errors import ConfigError
from qwr_tf.training import experiment


def main() -> None:
  """Converts the data set that the flags name."""
  if not _DATASET.value or not _OUTPUT.value:
    raise ConfigError('--dataset and --output are needed, both.')
  output = pathlib.Path(_OUTPUT.value)
  bindings = [
    *command.GIN_BINDINGS.value,
    f"run.environment = '{environments.NO_SIMULATOR}'",
    f'run.dataset = {_DATASET.value!r}',
  ]
  experiment.configuration(command.GIN_FILE.value, bindings)
  try:
    with experiment.load_environment(environments.NO_SIMULATOR) as env:
      data = datasets.DataSet(_DATASET.value)
      datasets.convert(data, env.env, output)
  except ValueError as error:
    raise ConfigError(gin_files.describe(error)) from error
  except OSError as error:
    raise ConfigError(
      f'{output} cannot be written ({error.strerror or error}); choose another '
      '--output.'
    ) from error
  print(f'data set  {output}')
  print(f'steps     {data.steps}')


if __name__ == '__main__':
  command.run(main)
