"""Runs the learner for Ray collectors.

    python -m qwr_tf.distributed --address=auto --collectors=4 --gin_file=...

`qwr_tf.launch` starts it and takes the same flags. Exit codes: 0 training has
ended, 2 bad input, 3 what a start anew would not mend (NaN, no collectors), 1
anything else.
"""

from qwr_tf.config import startup  # noqa: F401, before TensorFlow.

# isort: split
from absl import flags

from qwr_tf.config import command
from qwr_tf.distributed import ray_flags
from qwr_tf.training import run_flags

flags.adopt_module_key_flags(run_flags)
flags.adopt_module_key_flags(ray_flags)
command.answer_help(__name__)

# isort: split
from qwr_tf import serving
from qwr_tf.config.errors import ConfigError
from qwr_tf.distributed import cluster
from qwr_tf.distributed import lifeline
from qwr_tf.training import experiment
from qwr_tf.training import training_command

# After its launcher is gone, a learner finishes its iteration and saves.
_SECONDS_TO_SAVE = 600.0


def main() -> None:
  """Trains with experience from collectors."""
  if flags.FLAGS.strategy == 'multi_worker':
    raise ConfigError(
      'A learner is one process: --strategy=default, mirrored or tpu. '
      'multi_worker is for qwr_tf.train.'
    )
  lifeline.watch(_SECONDS_TO_SAVE)
  config = training_command.configuration()
  cluster.ray_module()
  from qwr_tf.distributed import ray_source

  made: list[ray_source.RaySource] = []

  def source(network):
    cluster.connect()
    path = training_command.run_path(config, experiment.settings())
    made.append(ray_source.from_flags(network, str(path.resolve()), config))
    return made[0]

  try:
    training_command.run(config, serving.export, source)
  except (FloatingPointError, ray_source.NoCollectorsError) as error:
    command.end(lifeline.WOULD_FAIL_AGAIN, str(error))
  for collectors in made:
    collectors.finish()


if __name__ == '__main__':
  command.run(main)
