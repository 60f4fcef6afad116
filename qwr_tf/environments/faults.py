"""Faults of an environment's own code, in one line each."""

import sys
import traceback

from qwr_tf.config.errors import ConfigError

# Packages whose frames are not the user's code.
_LIBRARIES = {'qwr_tf', 'gymnasium', 'numpy', 'gin', *sys.stdlib_module_names}


class FaultyEnvironmentError(ConfigError):
  """An environment that raises an error or breaks gymnasium's API."""


def place(error: BaseException) -> str | None:
  """`file:line` of the innermost frame of a user's code; None without one.

  Of installed packages only if no other frame is the user's.
  """
  frames = [
    f'{frame.f_code.co_filename}:{line}'
    for frame, line in traceback.walk_tb(error.__traceback__)
    if frame.f_globals.get('__name__', '').partition('.')[0] not in _LIBRARIES
  ]
  local = [frame for frame in frames if 'site-packages' not in frame]
  return (local or frames)[-1] if frames else None


def describe_error(error: BaseException) -> str:
  """An error's message; of a user's code with the class and `file:line`."""
  message = ' '.join(str(error).split())
  kind, where = type(error).__name__, place(error)
  if where is None:
    return message or kind
  return f'{kind}: {message} ({where})' if message else f'{kind} ({where})'
