"""The documentation's commands, flags, bindings and Python exist.

`make docs-test` executes all of them; these tests take seconds.
"""

import pathlib
import re
import subprocess
import sys

import gin
import pytest

import qwr_tf
from qwr_tf.config import gin_files
from qwr_tf.config import gin_values
from qwr_tf.training import experiment  # noqa: F401, its configurables.
from tests.docs import blocks

_EVERY = [block for page in blocks.PAGES for block in blocks.blocks(page)]
_BINDING = re.compile(r'(?:[\w]+/)?((?:\w+\.)*\w+)\.(\w+) *= ')


def test_every_block_has_a_language_and_parses():
  for block in _EVERY:
    known = blocks.EXECUTED | blocks.SHOWN | {'gin'}
    assert block.language in known, block.place
    assert block.language in blocks.EXECUTED or not block.test, block.place
    if block.language == 'python':
      compile(block.shortened, block.place, 'exec')


def test_every_fence_belongs_to_a_block():
  for page in blocks.PAGES:
    fences = page.read_text('utf-8').count('```')
    assert fences == 2 * len(blocks.blocks(page)), page


def test_what_is_skipped_says_why():
  for block in _EVERY:
    assert not block.is_skipped or block.test.startswith('skip, '), block.place


def _commands() -> dict[str, set[str]]:
  """Flags that the documentation gives to each command of qwr_tf."""
  flags: dict[str, set[str]] = {}
  for block in _EVERY:
    if block.language != 'bash' or block.title:
      continue
    for words in block.commands():
      while '=' in words[0]:
        del words[0]
      if pathlib.Path(words[0]).name == 'qwr_tf' and len(words) > 1:
        given = {w.partition('=')[0] for w in words[2:] if w[:2] == '--'}
        given -= {'--whole'}  # A word of the tests.
        flags.setdefault(words[1], set()).update(given)
  return flags


@pytest.mark.parametrize('command', sorted(_commands()))
def test_the_flags_of_a_command_exist(command):
  done = subprocess.run(
    [sys.executable, '-m', 'qwr_tf', command, '--help'],
    capture_output=True,
    text=True,
    check=True,
    cwd=blocks.ROOT,
  )
  there = set(re.findall(r'--(?:\[no\])?(\w+)', done.stdout))
  given = {flag.removeprefix('--') for flag in _commands()[command]}
  assert given <= there


def test_what_is_bound_exists():
  own = set()  # Of the pages' own modules.
  for block in _EVERY:
    own.update(re.findall(r'^def (\w+)', block.text, re.MULTILINE))
  for block in _EVERY:
    if block.language == 'gin':
      text = block.text
    elif block.language == 'bash':
      text = '\n'.join(re.findall(r'--gin_bindings="(.*?)"', block.text, re.S))
    else:
      continue
    for selector, parameter in _BINDING.findall(text):
      assert gin_files.is_configurable(selector), (block.place, selector)
      target = gin.get_configurable(selector)
      by_name, are_all = gin_values.parameters(target)
      assert not are_all or parameter in by_name, (block.place, parameter)
    for name in re.findall(r'@(?:\w+/)?(\w+)', text):
      assert name in own or gin_files.is_configurable(name), (block.place, name)


def test_there_is_one_version():
  version = qwr_tf.__version__
  for name, line in (
    ('CITATION.cff', f'version: {version}\n'),
    ('MODULE.bazel', f'version = "{version}"'),
    ('CHANGELOG.md', f'\n## {version}'),
  ):
    assert line in (blocks.ROOT / name).read_text('utf-8'), name
