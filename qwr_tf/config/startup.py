"""Environment variables of a command, set before TensorFlow is imported.

Commands import this module first. Importing `qwr_tf` or any other module of
the package leaves the host program's environment alone, but for the choice of
Keras (`compatibility`).
"""

import os
import sys

from qwr_tf.config import compatibility
from qwr_tf.config import quiet

ENVIRONMENT = {
  # No lines about CUDA on a machine without a GPU.
  'TF_CPP_MIN_LOG_LEVEL': '3',
  # oneDNN's kernels on every processor. By itself TensorFlow takes them on
  # newer ones only: others need twice the time for a convolution, and kernels
  # that treat NaN otherwise.
  'TF_ENABLE_ONEDNN_OPTS': '1',
  # Acting multiplies matrices for one observation; threads only get in the way.
  'OPENBLAS_NUM_THREADS': '1',
}


def _set_environment() -> None:
  """Sets the variables that the user has not set."""
  for name, value in ENVIRONMENT.items():
    os.environ.setdefault(name, value)


def _shorten_interruptions() -> None:
  """Ctrl-C while TensorFlow is imported ends with one line (exit code 130)."""
  excepthook = sys.excepthook

  def one_line(kind, error, traceback):
    if issubclass(kind, KeyboardInterrupt):
      print('error: interrupted.', file=sys.stderr)
    else:
      excepthook(kind, error, traceback)

  sys.excepthook = one_line


if problem := compatibility.problem():
  print(f'error: {problem}', file=sys.stderr)
  sys.exit(2)
_set_environment()
quiet.hide_banners()
_shorten_interruptions()
