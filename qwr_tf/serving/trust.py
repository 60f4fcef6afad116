"""Module names in stored files, checked before anything is imported.

run.json and metadata.json are data: an environment, a wrapper or a gin
configuration in them may name code of `MODULES` only, or of modules that the
user names with --trust_module.
"""

import importlib
import tokenize
from collections.abc import Sequence

import gin

from qwr_tf import environments
from qwr_tf.config import effective
from qwr_tf.config import gin_files
from qwr_tf.config.errors import ConfigError
from qwr_tf.config.gin_files import describe

MODULES = ('qwr_tf', 'gymnasium', 'ale_py')

# gin's macros, and the optimisers that qwr_tf registers.
_CONFIGURABLES = ('gin', 'tf.keras.optimizers')


def check_environment(name: str, source: object, trusted: Sequence[str]):
  """Raises ConfigError for `module:id` where the module is not trusted.

  Args:
    name: of an environment or a wrapper, as `environments.load` takes it.
    source: the file it comes from, for the message.
    trusted: modules that may be named beside `MODULES`.
  """
  module, colon, _ = str(name).rpartition(':')
  if colon:
    _check(module, source, trusted)


def parse(config: str, source: object, trusted: Sequence[str]) -> None:
  """Reads a stored configuration into gin, in place of what gin held.

  Args:
    config: text of `gin.config_str`. It includes no files, imports trusted
      modules only, and refers to configurables of trusted modules only.
    source: the file it comes from, for the message.
    trusted: modules that may be named beside `MODULES`.

  Raises:
    ConfigError: if it does anything else, or is no configuration.
  """
  gin.clear_config()
  delegate = _Delegate(source, trusted)
  try:
    for statement in gin.config_parser.ConfigParser(config, delegate):
      if isinstance(statement, gin.config_parser.ImportStatement):
        _check(statement.module, source, trusted)
        importlib.import_module(statement.module)
      elif isinstance(statement, gin.config_parser.IncludeStatement):
        raise ConfigError(
          f'{source}: its configuration includes {statement.filename!r}; a '
          'stored configuration stands alone.'
        )
      elif getattr(statement, 'arg_name', True):  # No macro.
        delegate.configurable_reference(statement.selector, False)
    gin.parse_config(config)
    for name in _wrapper_names():
      check_environment(name, source, trusted)
      if name.endswith('RecordVideo'):
        raise ConfigError(f'{source} asks for RecordVideo, which writes files.')
  except ConfigError:
    raise
  except (
    *(SyntaxError, tokenize.TokenError, RecursionError),
    *(ValueError, TypeError, AttributeError, ImportError),
  ) as error:
    raise ConfigError(
      f'{source}: the configuration cannot be read: {describe(error)}; its '
      'run.json has the commit and the versions that made it.'
    ) from error


def _wrapper_names() -> list[str]:
  """Names in `load_environment.wrappers` of the configuration gin holds."""
  if 'load_environment.wrappers' not in gin_files.values(gin.config_str()):
    return []
  return environments.wrapper_names(
    effective.value('load_environment', 'wrappers')
  )


class _Delegate(gin.config.ParserDelegate):
  """gin's own, which refuses configurables of other modules."""

  def __init__(self, source: object, trusted: Sequence[str]):
    super().__init__()
    self._source = source
    self._trusted = (*trusted, *_CONFIGURABLES)

  def configurable_reference(self, scoped_configurable_name, evaluate):
    reference = super().configurable_reference(
      scoped_configurable_name, evaluate
    )
    selector = reference.configurable.selector
    _check(selector.rpartition('.')[0], self._source, self._trusted)
    return reference


def _check(module: str, source: object, trusted: Sequence[str]) -> None:
  if any(f'{module}.'.startswith(f'{name}.') for name in (*MODULES, *trusted)):
    return
  raise ConfigError(
    f'{source} names code of the module {module!r}, and a stored file may '
    f'name {", ".join(MODULES)} only; if you know that module, give '
    f'--trust_module={module}.'
  )
