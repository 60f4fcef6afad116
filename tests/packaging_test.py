"""What is built and installed brings its gin configs along."""

import pathlib
import shutil
import subprocess
import sys
import tarfile

import pytest

_ROOT = pathlib.Path(__file__).resolve().parents[1]
_CONFIG = 'mujoco_100k.gin'

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
if importlib.util.find_spec('qwr_tf.gin_files'):
  from qwr_tf import gin_files
  found = pathlib.Path(gin_files.find(sys.argv[2]))
  assert found == package / 'gin_configs' / sys.argv[2], found
"""


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


@pytest.fixture(scope='module', name='dist')
def _dist(tmp_path_factory):
  """Builds an sdist and, from it, a wheel; away from the checkout's tree."""
  source = tmp_path_factory.mktemp('source')
  for name in ('qwr_tf', 'gin_configs'):
    shutil.copytree(_ROOT / name, source / name)
  for name in ('setup.py', 'README.md', 'LICENSE'):
    if (_ROOT / name).exists():
      shutil.copy(_ROOT / name, source)
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


def test_wheel_finds_its_configs(dist, tmp_path):
  (wheel,) = dist.glob('*.whl')
  installed = tmp_path / 'installed'
  pip = [sys.executable, '-m', 'pip', 'install', '--quiet', '--no-deps']
  _run(*pip, '--target', str(installed), str(wheel), cwd=tmp_path)
  probe = [sys.executable, '-I', '-c', _PROBE]
  _run(*probe, str(installed), _CONFIG, cwd=tmp_path)
