"""Where files stand, and that BUILD names the imports of every room.

That rooms import only rooms below them is held by import-linter
(.ci/importlinter.ini, part of `make lint`).
"""

import ast
import configparser
import pathlib
import re
import subprocess
import sys

import grimp
import pytest

_ROOT = pathlib.Path(__file__).resolve().parents[1]
_PACKAGE = _ROOT / 'qwr_tf'
_COMMANDS = sorted(p for p in _PACKAGE.glob('*.py') if p.stem != '__init__')
_ROOMS = sorted(p.parent.name for p in _PACKAGE.glob('*/__init__.py'))


def _build_rooms() -> dict[str, list[str]]:
  """ROOMS of BUILD, which is Python to the parser."""
  for node in ast.parse((_ROOT / 'BUILD').read_text('utf-8')).body:
    if isinstance(node, ast.Assign) and node.targets[0].id == 'ROOMS':
      return ast.literal_eval(node.value)
  raise AssertionError('BUILD has no ROOMS.')


@pytest.mark.parametrize('path', _COMMANDS, ids=lambda p: p.stem)
def test_a_file_at_the_top_is_a_command(path):
  body = ast.parse(path.read_text('utf-8')).body
  first_import = next(n for n in body if isinstance(n, ast.ImportFrom))
  assert [first_import.module] == ['qwr_tf.config']
  assert first_import.names[0].name == 'startup'
  assert ast.unparse(body[-1]).startswith("if __name__ == '__main__':")


def test_build_names_the_imports_of_every_room():
  graph = grimp.build_graph('qwr_tf', cache_dir=None)
  imports = {}
  for room in _ROOMS:
    importers = {f'qwr_tf.{room}', *graph.find_descendants(f'qwr_tf.{room}')}
    imported = {
      target.split('.')[1]
      for importer in importers
      for target in graph.find_modules_directly_imported_by(importer)
      if '.' in target
    }
    imports[room] = sorted(imported - {room})
  assert {
    room: sorted(deps) for room, deps in _build_rooms().items()
  } == imports


def test_the_documentation_names_the_rooms_in_their_order():
  layers = configparser.ConfigParser()
  layers.read(_ROOT / '.ci' / 'importlinter.ini')
  order = layers['importlinter:contract:rooms']['layers'].split('\n')
  page = (_ROOT / 'docs/explanation/structure.md').read_text('utf-8')
  page = page[
    page.index('subpackage of `qwr_tf/`') : page.index('folder beside')
  ]
  rooms = re.findall(r'^\| `(\w+)/` \|', page, re.MULTILINE)
  # Commands are the first layer.
  assert rooms == [x.strip() for x in order if x.strip() in _ROOMS][::-1]
  assert sorted(rooms) == _ROOMS


def test_tests_stand_in_the_room_they_test():
  rooms = {p.parent.name for p in (_ROOT / 'tests').glob('*/*_test.py')}
  assert rooms <= set(_ROOMS)


def test_importing_the_package_changes_the_choice_of_keras_alone():
  program = """
import os, sys
os.environ['TF_USE_LEGACY_KERAS'] = '1'
before = dict(os.environ), sys.excepthook, list(sys.meta_path)
import qwr_tf
assert (dict(os.environ), sys.excepthook, sys.meta_path) == before
assert not {'tensorflow', 'numpy', 'gin'} & set(sys.modules)
"""
  subprocess.run([sys.executable, '-c', program], cwd=_ROOT, check=True)
