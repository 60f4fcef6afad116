"""Q-Value Weighted Regression and its family on TF-Agents."""

from qwr_tf.config import compatibility

__version__ = '0.2.0'  # Of the package, too: setup.py reads it.

compatibility.prepare_imports()

__all__ = ['QWR', '__version__']


def __getattr__(name: str):
  """Imports `QWR` at its first use, because TensorFlow takes seconds."""
  if name != 'QWR':
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
  import importlib
  import os
  import sys

  from qwr_tf.config import quiet

  if 'tensorflow' not in sys.modules:
    os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')  # Errors.
  if 'qwr_tf.api' not in sys.modules:
    quiet.hide_banners()
  return importlib.import_module('qwr_tf.api.model').QWR
