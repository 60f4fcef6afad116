"""Trains an agent: python -m qwr_tf.train --gin_file=vector.gin.

Writes a run folder (configuration, metrics, TensorBoard, learning curve, the
policy as a SavedModel) and prints the final score. Exit codes: 0 done, 2 bad
input, 1 anything else.
"""

from qwr_tf.config import startup  # noqa: F401, before TensorFlow.

# isort: split
from absl import flags

from qwr_tf.config import command
from qwr_tf.training import run_flags

flags.adopt_module_key_flags(run_flags)
command.answer_help(__name__)

# isort: split
from qwr_tf import serving
from qwr_tf.training import training_command


def main() -> None:
  """Trains the run that the flags describe."""
  training_command.run(
    training_command.configuration(),
    serving.export,
    warm_start_fn=serving.warm_start,
  )


if __name__ == '__main__':
  command.run(main)
