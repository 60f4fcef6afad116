"""Exports a trained policy.

    python -m qwr_tf.export --root_dir=runs/... [--output=policies]
        [--format=saved_model|tflite|onnx]

Writes <output>/<version>/, a number larger than those that are there. In a
SavedModel, plain TensorFlow finds the signatures `serving_default`, `sample`,
`distribution` and, with a critic, `q_values` or `values`; actions are in the
environment's own units, and normalising is inside. `greedy_policy/` and
`collect_policy/` are for TF-Agents.
"""

from qwr_tf.config import startup  # noqa: F401, before TensorFlow.

# isort: split
import pathlib

from absl import flags

from qwr_tf import serving
from qwr_tf.config import command
from qwr_tf.config.errors import ConfigError

flags.declare_key_flag('trust_module')
_ROOT_DIR = flags.DEFINE_string('root_dir', None, 'Folder of a run.')
_BEST = flags.DEFINE_bool(
  'best', False, 'The policy of the best evaluation instead of the newest.'
)
_OUTPUT = flags.DEFINE_string(
  'output',
  None,
  'Folder of the versions; default <root_dir>/policy, or /tflite, or /onnx.',
)
_FORMAT = flags.DEFINE_enum(
  'format',
  'saved_model',
  serving.KINDS,
  'tflite writes float32 and int8 weights, from the mode action.',
)
command.answer_help(__name__)


def main() -> None:
  """Exports and prints where to."""
  if _ROOT_DIR.value is None:
    raise ConfigError('--root_dir is missing: the folder of a run.')
  root_dir = pathlib.Path(_ROOT_DIR.value)
  kind = _FORMAT.value
  default = root_dir / ('policy' if kind == 'saved_model' else kind)
  output = pathlib.Path(_OUTPUT.value or default)
  version = serving.export_run(
    root_dir, output, kind, command.TRUST_MODULE.value, _BEST.value
  )
  print(f'policy  {version}')


if __name__ == '__main__':
  command.run(main)
