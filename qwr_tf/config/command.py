"""Entry point of the commands: flags, exit codes, errors in one line."""

import errno
import functools
import io
import logging as python_logging
import os
import sys
import traceback
from collections.abc import Callable
from typing import NoReturn, TextIO

from absl import app
from absl import flags
from absl import logging

from qwr_tf.config.errors import ConfigError

# Of several commands, which adopt them with `flags.declare_key_flag`.
GIN_FILE = flags.DEFINE_multi_string(
  'gin_file',
  [],
  'Path, or bare name of a file in gin_configs/; later files override. Without '
  'one, training in --env takes vector.gin, or pixels.gin for images',
)
GIN_BINDINGS = flags.DEFINE_multi_string(
  'gin_bindings',
  [],
  'Overrides the files, such as "run.environment=\'Hopper-v4\'"',
)
ENV = flags.DEFINE_string(
  'env', None, 'Environment, in place of what the gin file or the policy says.'
)
TRUST_MODULE = flags.DEFINE_multi_string(
  'trust_module',
  [],
  'Module that the stored files may name beside qwr_tf, gymnasium and ale_py; '
  'importing it runs its code.',
)

_TRACEBACK = flags.DEFINE_bool(
  'traceback', False, 'Print the traceback of an error, too.'
)

# Disk full, over quota, not writable, broken.
_OF_STORAGE = (
  errno.ENOSPC,
  errno.EDQUOT,
  errno.EROFS,
  errno.EACCES,
  errno.EIO,
)


def run(main: Callable[..., None], takes_files: bool = False) -> None:
  """Parses flags, calls main, exits.

  0: done. 2: bad input, flags included (absl's own exit is 1). 1: anything
  else; NaN while running and an interruption with one line, the unexpected
  with its traceback.

  Args:
    main: the command.
    takes_files: whether main takes the arguments that are no flags; else there
      must be none.
  """
  if sys.platform == 'win32':
    end(2, 'qwr_tf runs on Linux and macOS; on Windows, run it in WSL 2.')
  before = sys.stderr
  sys.stdout, sys.stderr = _Stream.of(sys.stdout), _Stream.of(sys.stderr)
  logging.get_absl_handler().python_handler.stream = sys.stderr
  for logger in python_logging.root.manager.loggerDict.values():
    for handler in getattr(logger, 'handlers', ()):  # TensorFlow's, for one.
      if getattr(handler, 'stream', None) is before:
        handler.stream = sys.stderr
  status('')
  # A flag of this module; --help lists those of the command's own.
  flags.FLAGS.register_key_flag_for_module(
    sys.argv[0], flags.FLAGS['traceback']
  )
  app.run(
    lambda rest: guarded(lambda: main(rest[1:]) if takes_files else main()),
    flags_parser=functools.partial(parse_flags, takes_files=takes_files),
  )


class _Stream(io.TextIOWrapper):
  """A standard stream that survives a closed pipe.

  It escapes the characters that its encoding lacks.
  """

  @classmethod
  def of(cls, stream: TextIO | None) -> TextIO:
    """Wraps a standard stream; for None (closed) it opens /dev/null."""
    if not isinstance(stream, io.TextIOWrapper):
      return stream or open(os.devnull, 'w')
    encoding, is_terminal = stream.encoding, stream.line_buffering
    return cls(stream.detach(), encoding, 'backslashreplace', None, is_terminal)

  def write(self, text: str) -> int:
    try:
      return super().write(text)
    except BrokenPipeError:
      self._drop()
      return len(text)

  def flush(self) -> None:
    try:
      super().flush()
    except BrokenPipeError:
      self._drop()

  def _drop(self) -> None:
    """From now on the output goes nowhere; the run goes on."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), self.fileno())


def answer_help(module: str) -> None:
  """Answers --help and exits, before imports that take seconds.

  Else shows that they have begun.

  Args:
    module: `__name__` of the command, which has defined its flags.
  """
  helps = {'-h', '--h', '--help', '-help', '--helpshort', '-?', '--helpfull'}
  if module == '__main__' and helps & {*sys.argv[1:]}:
    sys.argv[1:] = ['--helpfull' if '--helpfull' in sys.argv else '--help']
    run(lambda: None)
  if module == '__main__':
    status('loading TensorFlow')


def status(text: str) -> None:
  """Shows in a terminal what takes seconds, until something else is printed."""
  if sys.stderr is not None and sys.stderr.isatty():
    dots = ' …' if text else ''
    print(f'\r\x1b[K{text}{dots}\r', end='', file=sys.stderr, flush=True)


def parse_flags(argv: list[str], takes_files: bool = False) -> list[str]:
  """Parses flags; exits with 2 if they are wrong, with 0 after --help."""
  is_utf8 = sys.getfilesystemencoding() == 'utf-8'
  if not is_utf8 and not ''.join((*argv, os.getcwd())).isascii():
    # TensorFlow would write to another folder than Python.
    end(2, 'a path here is not ASCII; set PYTHONUTF8=1 or a UTF-8 locale.')
  try:
    rest = flags.FLAGS(argv)
  except flags.Error as error:
    end(2, f'{error} (--help lists the flags)')
  except SystemExit:  # absl has printed help, and would exit with 1.
    sys.exit(0)
  if len(rest) > 1 and not takes_files:
    end(2, f'not a flag: {rest[1]!r} (--help lists the flags)')
  if flags.FLAGS['verbosity'].using_default_value:
    # absl's default shows what other libraries log for their own authors.
    logging.set_verbosity(logging.WARNING)
  return rest


def guarded(main: Callable[[], None]) -> None:
  """Calls main; turns the expected errors into one line and an exit code."""
  try:
    main()
  except ConfigError as error:
    end(2, str(error))
  except FloatingPointError as error:
    end(1, str(error))
  except KeyboardInterrupt as error:
    end(1, str(error) or 'interrupted.')
  except (FileExistsError, NotADirectoryError) as error:
    end(2, f'{error.filename}: {error.strerror}; choose another folder.')
  except OSError as error:
    if error.errno not in _OF_STORAGE:
      raise
    end(
      1,
      f'{error.filename or "writing"}: {error.strerror}; what was complete is '
      'still there; mend this and give the same command again.',
    )


def end(code: int, message: str) -> NoReturn:
  """Prints the error on one line and exits."""
  if flags.FLAGS.is_parsed() and _TRACEBACK.value:
    traceback.print_exc()
  print(f'error: {" ".join(message.split())}', file=sys.stderr)
  sys.exit(code)
