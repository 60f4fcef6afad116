"""All commands: python -m qwr_tf COMMAND [flags], or qwr_tf COMMAND [flags].

`qwr_tf train` is `python -m qwr_tf.train`, and so on.
"""

from qwr_tf.config import startup  # noqa: F401, before TensorFlow.

# isort: split
import ast
import difflib
import pathlib
import runpy
import sys

from qwr_tf.config import command

_PACKAGE = pathlib.Path(__file__).resolve().parent
_ALIASES = {'run': 'play'}


def _purposes() -> dict[str, str]:
  """The first line about each command, by name; nothing is imported."""
  files = [p for p in sorted(_PACKAGE.glob('*.py')) if p.stem[:2] != '__']
  # Rooms that are a command themselves.
  files += sorted(_PACKAGE.glob('*/__main__.py'))
  names = (p.stem if p.parent == _PACKAGE else p.parent.name for p in files)
  texts = (ast.get_docstring(ast.parse(p.read_text('utf-8'))) for p in files)
  firsts = (str(text).partition('\n')[0] for text in texts)
  return {
    name: first.partition(': python')[0].rstrip('.')
    for name, first in zip(names, firsts, strict=True)
  }


def _usage(purposes: dict[str, str]) -> str:
  folders = (_PACKAGE / 'examples', _PACKAGE.parent / 'examples')
  lines = [f'  {name:<12}{purpose}' for name, purpose in purposes.items()]
  examples = [f'Examples: {folder}' for folder in folders if folder.is_dir()]
  return '\n'.join(
    ['usage: qwr_tf COMMAND [flags]', '', *lines, '']
    + ['qwr_tf COMMAND --help lists the flags of a command.', *examples[:1]]
  )


def main() -> None:
  """Runs a command as the main module, with the rest of the arguments."""
  name = next(iter(sys.argv[1:]), '--help')
  purposes = _purposes()
  if name in ('-h', '--help', 'help'):
    print(_usage(purposes))
    return
  name = _ALIASES.get(name, name)
  if name not in purposes:
    near = difflib.get_close_matches(name, purposes)
    hint = f' Near it: {", ".join(near)}.' if near else ''
    command.end(2, f'no command {name!r}; `qwr_tf --help` lists them.{hint}')
  del sys.argv[1]
  # A console script does not see the modules of the folder it is called in.
  sys.path.insert(0, '')
  runpy.run_module(f'qwr_tf.{name}', run_name='__main__', alter_sys=True)


if __name__ == '__main__':
  main()
