"""How every `python -m qwr_tf...` ends: exit code 0, 1 or 2, and one line."""

import sys
import warnings
from collections.abc import Callable

from absl import app
from absl import flags

from qwr_tf.gin_files import ConfigError


def run(main: Callable[[], None]) -> None:
  """Parses flags, calls main, exits.

  0: done. 2: bad input, flags included (absl's own exit is 1). 1: anything
  else; NaN while running and an interruption with one line, the unexpected
  with its traceback.
  """
  # AutoGraph's translation of tf_agents compares with literals.
  warnings.filterwarnings('ignore', '"is not" with a literal', SyntaxWarning)
  app.run(lambda _: _guarded(main), flags_parser=_parse)


def _parse(argv: list[str]) -> list[str]:
  try:
    rest = flags.FLAGS(argv)
  except flags.Error as error:
    _exit(2, f'{error} (--help lists the flags)')
  if len(rest) > 1:
    _exit(2, f'not a flag: {rest[1]!r} (--help lists the flags)')
  return rest


def _guarded(main: Callable[[], None]) -> None:
  try:
    main()
  except ConfigError as error:
    _exit(2, str(error))
  except FloatingPointError as error:
    _exit(1, str(error))
  except KeyboardInterrupt:
    _exit(1, 'interrupted.')


def _exit(code: int, message: str) -> None:
  print(f'error: {" ".join(message.split())}', file=sys.stderr)
  sys.exit(code)
