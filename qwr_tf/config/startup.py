"""Environment variables of a command, set before TensorFlow is imported.

Commands import this module first. Importing `qwr_tf` or any other module of
the package leaves the host program's environment alone, but for the choice of
Keras (`compatibility`).
"""

import importlib.abc
import importlib.util
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


class _QuietImport(importlib.abc.MetaPathFinder):
  """Hides the lines that TensorFlow writes before it reads its log level."""

  def find_spec(self, fullname, path=None, target=None):
    if fullname != 'tensorflow':
      return None
    sys.meta_path.remove(self)
    spec = importlib.util.find_spec(fullname)
    if spec and spec.loader:
      execute = quiet.quiet_stderr()(spec.loader.exec_module)
      spec.loader.exec_module = execute  # type: ignore[method-assign]
    return spec


def _silence_gym() -> None:
  """Removes the page about gym's age, which TF-Agents' import prints."""
  try:
    from gym_notices import notices
  except ImportError:
    return
  notices.notices.clear()


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
if os.environ['TF_CPP_MIN_LOG_LEVEL'] != '0':
  sys.meta_path.insert(0, _QuietImport())
_silence_gym()
_shorten_interruptions()
