"""Where gin files are found and how a configuration is read."""

import pathlib
from collections.abc import Sequence

import gin
from absl import logging

_PACKAGE = pathlib.Path(__file__).resolve().parent

# In a checkout they stand beside the package, in a wheel inside it.
_FOLDERS = (_PACKAGE.parent / 'gin_configs', _PACKAGE / 'gin_configs')


class ConfigError(ValueError):
  """A configuration that cannot be used; says in one line what to change."""


def find(name: str) -> pathlib.Path:
  """Path of a gin file given by path or by bare name.

  Raises:
    ConfigError: if there is none; lists the ones that come with the package.
  """
  for candidate in (pathlib.Path(name), *(f / name for f in _FOLDERS)):
    if candidate.is_file():
      return candidate
  known = sorted(p.name for f in _FOLDERS for p in f.glob('*.gin'))
  raise ConfigError(
    f'gin file {name!r} not found; give a path or one of {", ".join(known)}.'
  )


def parse(files: Sequence[str], bindings: Sequence[str]) -> str:
  """Reads files and bindings into gin; returns the configuration as text.

  Raises:
    ConfigError: for an unknown file or binding, or a syntax error.
  """
  paths = [str(find(name)) for name in files]
  for folder in _FOLDERS:
    gin.add_config_file_search_path(str(folder))
  verbosity = logging.get_verbosity()
  logging.set_verbosity(logging.FATAL)  # gin reports every folder it tries.
  try:
    gin.parse_config_files_and_bindings(paths, bindings, finalize_config=False)
    return gin.config_str()
  except (ValueError, SyntaxError, OSError, TypeError, KeyError) as error:
    raise ConfigError(f'gin: {describe(error)}') from error
  finally:
    logging.set_verbosity(verbosity)


def describe(error: Exception) -> str:
  """An error in one line, with the place gin has added to it."""
  lines = [line.strip() for line in str(error).strip('"\n ').splitlines()]
  places = [line for line in lines[1:] if line.startswith(('In ', 'in '))]
  return ' '.join([*lines[:1], *places[:1]])
