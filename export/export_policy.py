"""Exports a trained policy as a SavedModel that plain TensorFlow can serve.

    python export/export_policy.py --root_dir=runs/... --output=policy

Writes <output>/<version>/ with the signature `serving_default`: observation
[B, ...] -> action [B, ...], the mode action in the environment's own units.
Normalisation, clipping and scaling are inside.
"""

import pathlib

from absl import flags

from qwr_tf import command
from qwr_tf import serving
from qwr_tf.gin_files import ConfigError

_ROOT_DIR = flags.DEFINE_string('root_dir', None, 'Folder of a finished run.')
_OUTPUT = flags.DEFINE_string(
  'output', None, 'Folder of the versions; default <root_dir>/policy.'
)


def main() -> None:
  """Exports and prints where to."""
  if _ROOT_DIR.value is None:
    raise ConfigError('--root_dir is missing: the folder of a finished run.')
  root_dir = pathlib.Path(_ROOT_DIR.value)
  output = pathlib.Path(_OUTPUT.value or root_dir / 'policy')
  print(f'policy  {serving.export_run(root_dir, output)}')


if __name__ == '__main__':
  command.run(main)
