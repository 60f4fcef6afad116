"""Messages of libraries, hidden."""

import contextlib
import importlib.abc
import importlib.util
import logging
import os
import sys
import warnings
from collections.abc import Iterator

from absl import logging as absl_logging


@contextlib.contextmanager
def quiet_stderr() -> Iterator[None]:
  """Drops what the process writes to file descriptor 2."""
  try:
    stderr = os.dup(2)
  except OSError:  # It is closed.
    yield
    return
  try:
    with open(os.devnull, 'wb') as nowhere:
      os.dup2(nowhere.fileno(), 2)
    yield
  finally:
    os.dup2(stderr, 2)
    os.close(stderr)


@contextlib.contextmanager
def errors_only() -> Iterator[None]:
  """Hides TensorFlow's warnings about TF-Agents' names and tfp's types."""
  logger = logging.getLogger('tensorflow')
  verbosity, level = absl_logging.get_verbosity(), logger.level
  absl_logging.set_verbosity(absl_logging.ERROR)
  logger.setLevel(logging.ERROR)
  with warnings.catch_warnings():
    warnings.filterwarnings('ignore', 'Encoding a StructuredValue')
    try:
      yield
    finally:
      absl_logging.set_verbosity(verbosity)
      logger.setLevel(level)


class _QuietImport(importlib.abc.MetaPathFinder):
  """Hides the lines that TensorFlow writes before it reads its log level."""

  def find_spec(self, fullname, path=None, target=None):
    if fullname != 'tensorflow':
      return None
    sys.meta_path.remove(self)
    spec = importlib.util.find_spec(fullname)
    if spec and spec.loader:
      execute = quiet_stderr()(spec.loader.exec_module)
      spec.loader.exec_module = execute  # type: ignore[method-assign]
    return spec


def hide_banners() -> None:
  """Hides what TensorFlow and TF-Agents print when they are imported.

  TensorFlow's lines stay where TF_CPP_MIN_LOG_LEVEL is 0.
  """
  if os.environ.get('TF_CPP_MIN_LOG_LEVEL') != '0':
    sys.meta_path.insert(0, _QuietImport())
  # TF-Agents compares with literals, and AutoGraph's translation of it.
  warnings.filterwarnings('ignore', '"is', SyntaxWarning)
  with contextlib.suppress(ImportError):
    from gym_notices import notices

    notices.notices.clear()  # A page about gym's age.
