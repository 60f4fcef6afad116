"""Code blocks of the documentation, and the programs that execute them.

A page's blocks run in their order in one empty folder. A block of Python goes
on where the block above it stopped. A comment above a block shortens it:

    <!-- test: 8000 => 1000; --seeds=0-4 => --seeds=0 -->   replaces texts
    <!-- test: + --interactions=1000 -->                    appends to commands
    <!-- test: skip, needs GPUs -->                         and says why

A block with a title is a file, which is written before the first block runs.
Runs of `qwr_tf train` are `SHORT`; with `+ --whole` they make all steps.
"""

import contextlib
import io
import os
import pathlib
import re
import shlex
import sys
import traceback
from collections.abc import Iterator
from typing import NamedTuple

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGES = [ROOT / 'README.md', *sorted(ROOT.glob('docs/**/*.md'))]

# Languages of blocks that are shown and not executed.
SHOWN = {'text', 'math', 'json', 'csv', 'bibtex'}
EXECUTED = {'python', 'bash'}

SHORT = (
  '--gin_bindings=iterate.rounds = 1',
  '--gin_bindings=iterate.critic_steps = 10',
  '--gin_bindings=iterate.actor_steps = 10',
  '--gin_bindings=run.eval_episodes = 1',
  '--gin_bindings=run.final_eval_episodes = 2',
)

_BLOCK = re.compile(
  r'(?:^<!-- test: (?P<test>.*?) -->\n)?'
  r'^```(?P<language>\w*)(?: title="(?P<title>[^"]*)")?\n(?P<text>.*?)^```$',
  re.DOTALL | re.MULTILINE,
)


class Block(NamedTuple):
  """A code block.

  Attributes:
    place: page and line.
    language: such as 'python'.
    title: the file that the block is; '' if it is executed.
    text: as shown.
    test: the comment above it.
  """

  place: str
  language: str
  title: str
  text: str
  test: str

  @property
  def is_skipped(self) -> bool:
    """True if the comment begins with skip."""
    return self.test.startswith('skip')

  @property
  def shortened(self) -> str:
    """The text that is executed."""
    if self.is_skipped:
      return self.text
    return shortened(self.text, self.test, self.place)

  def commands(self) -> Iterator[list[str]]:
    """Words of each command of a block of bash, with what is appended."""
    text = self.shortened.replace('\\\n', ' ')
    more = [r[1:] for r in self.test.split('; ') if r.startswith('+')]
    for line in _statements(text):
      words = shlex.split(line, comments=True)
      if words:
        yield words + shlex.split(' '.join(more))


def shortened(text: str, test: str, place: str) -> str:
  """A text after the replacements of a comment `old => new; …`."""
  for rule in filter(None, test.split('; ')):
    if rule.startswith('+'):
      continue
    old, arrow, new = rule.partition(' => ')
    if not arrow or old not in text:
      raise ValueError(f'{place}: {rule!r} replaces nothing.')
    text = text.replace(old, new)
  return text


def _statements(text: str) -> Iterator[str]:
  """Lines; one with an open quote goes on in the next."""
  statement = ''
  for line in text.splitlines():
    statement += line + '\n'
    if statement.count('"') % 2 == 0:
      yield statement
      statement = ''


def blocks(page: pathlib.Path) -> list[Block]:
  """The blocks of a page in their order."""
  text = page.read_text('utf-8')
  name = page.relative_to(ROOT)
  return [
    Block(
      f'{name}:{text.count(chr(10), 0, m.start("language")) + 1}',
      m['language'],
      m['title'] or '',
      m['text'],
      m['test'] or '',
    )
    for m in _BLOCK.finditer(text)
  ]


def run_page(page: pathlib.Path, folder: pathlib.Path) -> list[str]:
  """Runs a page's blocks in forked processes; returns what failed.

  Call it in a process that has imported TensorFlow and used nothing of it.
  """
  of_page = blocks(page)
  for block in of_page:
    if block.title:
      (folder / block.title).write_text(block.text)
  errors = []
  python: list[Block] = []
  for block in of_page:
    if block.title or block.is_skipped or block.language not in EXECUTED:
      continue
    if block.language == 'python':
      python.append(block)
      continue
    # What Python blocks leave in the folder, later commands may need.
    errors += _run_python(python, folder)
    python = []
    for words in block.commands():
      errors += _run_command(block, words, folder)
  return errors + _run_python(python, folder)


def _run_python(of_page: list[Block], folder: pathlib.Path) -> list[str]:
  """One process for consecutive blocks of a page."""

  def run() -> None:
    sys.path.insert(0, '')
    names = {'__name__': '__main__'}
    for block in of_page:
      _say(f'>>> {block.place}')
      exec(compile(block.shortened, block.place, 'exec'), names)

  return _forked(of_page[0].place, run, folder) if of_page else []


def _run_command(
  block: Block, words: list[str], folder: pathlib.Path
) -> list[str]:
  """qwr_tf and python in a forked process."""
  environ = {}
  while re.fullmatch(r'[A-Z_]+=.*', words[0]):
    name, _, value = words.pop(0).partition('=')
    environ[name] = value

  def run() -> None:
    os.environ.update(environ)
    sys.path[:0] = environ.get('PYTHONPATH', '').split(':')
    module, rest = _module(words)
    _say(f'>>> {block.place}: {" ".join(words)}')
    import runpy

    sys.argv = [module, *rest]
    if module.endswith('.py'):
      runpy.run_path(module, run_name='__main__')
    else:
      runpy.run_module(module, run_name='__main__', alter_sys=True)

  return _forked(f'{block.place}: {" ".join(words)}', run, folder)


def _module(words: list[str]) -> tuple[str, list[str]]:
  """The module or script that a command runs, and its arguments."""
  name = pathlib.Path(words[0]).name
  if name == 'qwr_tf':
    arguments = [word for word in words[1:] if word != '--whole']
    is_short = words[1] == 'train' and '--whole' not in words
    return 'qwr_tf', [*arguments, *(SHORT if is_short else ())]
  if name == 'python' and words[1] == '-m':
    return words[2], words[3:]
  if name == 'python':
    return words[1], words[2:]
  raise ValueError(f'{words[0]} is not run by the tests; mark it with skip.')


def _say(line: str) -> None:
  print(line, flush=True)


def _forked(place: str, run, folder: pathlib.Path) -> list[str]:
  """Runs a function in a child; [] or a line that says what went wrong."""
  log = folder / '.log'
  child = os.fork()
  if not child:
    code = 1
    with open(log, 'a') as out, contextlib.suppress(BaseException):
      os.dup2(out.fileno(), 1)
      os.dup2(out.fileno(), 2)
      # pytest has put files of its own there.
      sys.stdout, sys.stderr = (
        io.TextIOWrapper(open(fd, 'wb', closefd=False), line_buffering=True)
        for fd in (1, 2)
      )
      os.chdir(folder)
      try:
        run()
        code = 0
      except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(bool(end.code))
      except BaseException:
        traceback.print_exc()
      sys.stdout.flush()
      sys.stderr.flush()
    os._exit(code)
  _, status, usage = os.wait4(child, 0)
  with open(log, 'a') as out:
    out.write(f'<<< {usage.ru_utime + usage.ru_stime:.0f} s of CPU time\n')
  code = os.waitstatus_to_exitcode(status)
  if not code:
    return []
  tail = '\n  '.join(log.read_text().splitlines()[-8:])
  return [f'{place} ended with {code}:\n  {tail}']
