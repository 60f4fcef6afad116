"""What is built and installed brings its gin configs and examples along."""

import ast
import pathlib
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from importlib import metadata

import pytest

pytestmark = pytest.mark.slow  # Builds, installs, starts programs.

_ROOT = pathlib.Path(__file__).resolve().parents[1]
_CONFIG = 'qwr/mujoco_100k.gin'
_INSTALLED = ('.gin', '.py')

# Runs in an interpreter that finds the installed copy first: the editable
# install of this checkout comes after sys.path.
_PROBE = """
import importlib.util, pathlib, sys
installed = pathlib.Path(sys.argv[1])
sys.path.insert(0, str(installed))
import qwr_tf
package = pathlib.Path(qwr_tf.__file__).parent
assert package == installed / 'qwr_tf', package
assert (package / 'gin_configs' / sys.argv[2]).is_file()
if importlib.util.find_spec('qwr_tf.config.gin_files'):
  from qwr_tf.config import gin_files
  found = pathlib.Path(gin_files.find(sys.argv[2]))
  assert found == package / 'gin_configs' / sys.argv[2], found
"""

# Runs without site-packages, in which this checkout may be installed, too.
_EDITABLE_PROBE = """
import importlib.util, site, sys
installed, source, *names = sys.argv[1:]
site.addsitedir(installed)
for name in names:
  found = importlib.util.find_spec(f'qwr_tf.examples.{name}')
  assert found.origin == f'{source}/examples/{name}.py', found
"""


def _required():
  """Names of distributions that every install has."""
  requirements = metadata.requires('qwr_tf')
  plain = [r for r in requirements if 'extra ==' not in r]
  return {_plain(re.match(r'[\w.-]+', name)[0]) for name in plain}


def _plain(name):
  return re.sub(r'[-_.]+', '-', name).lower()


def _file(module):
  """That of a module of the package; None for other names."""
  path = _ROOT.joinpath(*module.split('.'))
  files = (path / '__init__.py', path.with_suffix('.py'))
  return next(filter(pathlib.Path.is_file, files), None)


def _top_level_imports(file):
  for node in ast.parse(file.read_text()).body:
    if isinstance(node, ast.Import):
      yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
      yield node.module
      yield from (f'{node.module}.{alias.name}' for alias in node.names)


def _reached(*modules):
  """Names of all that these modules of the package import, and they in turn."""
  found, left = set(), [*modules]
  while left:
    name = left.pop()
    if name not in found:
      found.add(name)
      if file := _file(name):
        left += [*_top_level_imports(file), name.rpartition('.')[0] or name]
  return found


def test_the_commands_need_what_every_install_has():
  commands = [f'qwr_tf.{p.stem}' for p in (_ROOT / 'qwr_tf').glob('*.py')]
  modules = _reached(*commands, 'qwr_tf.api.model', 'qwr_tf.serving.exporter')
  assert len([name for name in modules if _file(name)]) > 50
  foreign = {name.partition('.')[0] for name in modules}
  foreign -= sys.stdlib_module_names | {'qwr_tf'}
  of = metadata.packages_distributions()
  required = _required()
  for name in foreign:
    assert required & {_plain(d).removesuffix('-cpu') for d in of[name]}, name


def _run(*command, cwd):
  done = subprocess.run(
    command,
    cwd=cwd,
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
    check=False,
  )
  assert done.returncode == 0, done.stdout


def _copy(source):
  """Copies what is built from, away from the checkout's tree."""
  for name in ('qwr_tf', 'gin_configs', 'examples'):
    shutil.copytree(_ROOT / name, source / name)
  for name in ('setup.py', 'README.md', 'LICENSE'):
    if (_ROOT / name).exists():
      shutil.copy(_ROOT / name, source)


@pytest.fixture(scope='module', name='dist')
def _dist(tmp_path_factory):
  """Builds an sdist and, from it, a wheel."""
  source = tmp_path_factory.mktemp('source')
  _copy(source)
  _run(sys.executable, '-m', 'build', '--no-isolation', cwd=source)
  return source / 'dist'


def test_sdist_contains_configs_and_licence(dist):
  (sdist,) = dist.glob('*.tar.gz')
  with tarfile.open(sdist) as archive:
    names = {name.partition('/')[2] for name in archive.getnames()}
  configs = {
    str(p.relative_to(_ROOT)) for p in (_ROOT / 'gin_configs').rglob('*.gin')
  }
  assert configs | {'LICENSE', 'setup.py', 'qwr_tf/__init__.py'} <= names


def test_the_wheel_holds_commands_configs_and_examples(dist):
  (wheel,) = dist.glob('*.whl')
  with zipfile.ZipFile(wheel) as archive:
    names = set(archive.namelist())
    (scripts,) = (n for n in names if n.endswith('/entry_points.txt'))
    assert 'qwr_tf = qwr_tf.__main__:main' in archive.read(scripts).decode()
  for name in ('export', 'check', 'play', 'serving/run_policy'):
    assert f'qwr_tf/{name}.py' in names
  for folder in ('examples', 'gin_configs'):
    files = [p for p in (_ROOT / folder).rglob('*') if p.suffix in _INSTALLED]
    assert files
    assert {f'qwr_tf/{p.relative_to(_ROOT)}' for p in files} <= names


def test_wheel_finds_its_configs(dist, tmp_path):
  (wheel,) = dist.glob('*.whl')
  installed = tmp_path / 'installed'
  pip = [sys.executable, '-m', 'pip', 'install', '--quiet', '--no-deps']
  _run(*pip, '--target', str(installed), str(wheel), cwd=tmp_path)
  probe = [sys.executable, '-I', '-c', _PROBE]
  _run(*probe, str(installed), _CONFIG, cwd=tmp_path)


def test_an_editable_install_finds_the_examples_from_any_folder(tmp_path):
  source = tmp_path / 'source'
  source.mkdir()
  _copy(source)
  build = "from setuptools import build_meta as b; b.build_editable('.')"
  _run(sys.executable, '-c', build, cwd=source)
  (wheel,) = source.glob('*.whl')
  installed = tmp_path / 'installed'
  with zipfile.ZipFile(wheel) as archive:
    archive.extractall(installed)
  names = [p.stem for p in (_ROOT / 'examples').glob('*.py')]
  probe = [sys.executable, '-I', '-S', '-c', _EDITABLE_PROBE]
  _run(*probe, str(installed), str(source), *names, cwd=tmp_path)
