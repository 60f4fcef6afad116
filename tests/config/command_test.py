"""What all commands have in common; train_test.py has the rest."""

import errno
import os
import pathlib
import re
import signal
import subprocess
import sys

import pytest

from qwr_tf.config import command

_ROOT = pathlib.Path(__file__).resolve().parents[2]
_COMMANDS = sorted(
  path.stem for path in (_ROOT / 'qwr_tf').glob('*.py') if path.stem[:2] != '__'
)

_CTRL_C = """
import os, signal, time
os.kill(os.getpid(), signal.SIGINT)
time.sleep(20)
"""


@pytest.mark.parametrize('name', ['train', 'report', 'play'])
def test_ctrl_c_while_a_command_imports_is_one_line(name, tmp_path):
  # They import NumPy, and here that is when Ctrl-C comes.
  (tmp_path / 'numpy').mkdir()
  (tmp_path / 'numpy' / '__init__.py').write_text(_CTRL_C)
  process = subprocess.run(
    [sys.executable, '-m', f'qwr_tf.{name}'],
    env={**os.environ, 'PYTHONPATH': f'{tmp_path}{os.pathsep}{_ROOT}'},
    capture_output=True,
    text=True,
    # A shell's background job has it ignored, and so have its children.
    preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
  )
  assert process.stderr == 'error: interrupted.\n'
  assert process.stdout == ''
  assert process.returncode == -2, 'not as by SIGINT, which shells call 130'


@pytest.mark.parametrize(
  'name, flag',
  [('', '-h'), ('train', '-h'), *((x, '--help') for x in ('', *_COMMANDS))],
)
def test_help_needs_neither_tensorflow_nor_pandas(name, flag, tmp_path):
  for slow in ('tensorflow', 'pandas'):
    (tmp_path / f'{slow}.py').write_text(f'assert False, "{slow} is slow"\n')
  process = subprocess.run(
    [sys.executable, '-m', 'qwr_tf', *filter(None, [name]), flag],
    env={**os.environ, 'PYTHONPATH': f'{tmp_path}{os.pathsep}{_ROOT}'},
    capture_output=True,
    text=True,
  )
  assert (process.returncode, process.stderr) == (0, '')
  expected = r'--(\[no\])?traceback' if name else 'train'
  assert re.search(expected, process.stdout)


@pytest.mark.parametrize('name', ['train', 'presets'])
def test_full_help_has_the_flags_of_libraries(name):
  short, full = (
    subprocess.run(
      [sys.executable, '-m', 'qwr_tf', name, flag],
      capture_output=True,
      text=True,
      check=True,
    ).stdout
    for flag in ('--help', '--helpfull')
  )
  assert '--helpfull' in short and '--verbosity' not in short
  assert '--verbosity' in full


def test_loggers_from_before_a_command_still_write(run_program):
  # TensorFlow's takes stderr when it is imported, before the command begins.
  done = run_program("""
import logging, sys
from qwr_tf.config import command
logger = logging.getLogger('library')
logger.addHandler(logging.StreamHandler(sys.stderr))
logger.propagate = False
sys.argv[1:] = []
command.run(lambda: logger.warning('a line'))
""")
  assert (done.returncode, done.stderr) == (0, 'a line\n')


def test_a_command_that_is_none_is_bad_input():
  process = subprocess.run(
    [sys.executable, '-m', 'qwr_tf', 'trian'], capture_output=True, text=True
  )
  assert process.returncode == 2
  assert 'train' in process.stderr and process.stderr.count('\n') == 1


def test_a_console_script_finds_the_modules_beside_it(tmp_path):
  (tmp_path / 'tensorflow.py').write_text('import sys; sys.exit(7)')
  process = subprocess.run(
    # -P: as for a console script, the folder is not in sys.path.
    [sys.executable, '-P', '-m', 'qwr_tf', 'train'],
    cwd=tmp_path,
    env={**os.environ, 'PYTHONPATH': str(_ROOT)},
  )
  assert process.returncode == 7


def test_there_are_commands():
  assert {'report', 'sweep', 'train'} <= set(_COMMANDS)


def test_a_file_in_the_place_of_a_folder_is_bad_input(capsys):
  with pytest.raises(SystemExit) as ended:
    command.guarded(lambda: pathlib.Path(__file__).mkdir(exist_ok=True))
  assert ended.value.code == 2
  assert capsys.readouterr().err == (
    f'error: {__file__}: File exists; choose another folder.\n'
  )


def test_a_full_disk_promises_nothing_of_any_command(capsys):
  def main():
    raise OSError(errno.ENOSPC, 'No space left on device', 'page.md')

  with pytest.raises(SystemExit) as ended:
    command.guarded(main)
  assert ended.value.code == 1
  # Some commands go on from what is there, others begin anew.
  assert capsys.readouterr().err == (
    'error: page.md: No space left on device; what was complete is still '
    'there; mend this and give the same command again.\n'
  )


def test_a_warning_is_one_line(run_program):
  done = run_program(
    'from absl import logging\n'
    'from qwr_tf.config import command\n'
    'command.run(lambda: logging.warning("cold"))\n'
  )
  assert done.returncode == 0, done.stderr
  assert done.stderr.count('\n') == 1 and done.stderr.endswith('cold\n')


# A command that prints a path: as its output ends, and before it goes on.
_PRINTS = """
import pathlib, sys
from qwr_tf.config import command
def main():
  print('run runs/caf\\u00e9', flush=len(sys.argv) > 1)
  print('score 3', file=sys.stderr)
  pathlib.Path('done').touch()
sys.argv[1:] = []
command.run(main)
"""


def _shell(line, folder, **environment):
  line = line.replace('PROGRAM', f'{sys.executable} program.py')
  (folder / 'program.py').write_text(_PRINTS)
  return subprocess.run(
    ['bash', '-o', 'pipefail', '-c', line],
    cwd=folder,
    env={**os.environ, 'PYTHONPATH': str(_ROOT), **environment},
    capture_output=True,
    text=True,
  )


@pytest.mark.slow
@pytest.mark.parametrize(
  'line',
  [
    'PROGRAM | true',
    'PROGRAM | head -n 1',
    'PROGRAM 2>&1 | true',
    'PROGRAM >&-',
    'PROGRAM >&- 2>&-',
    'sleep 1 | PROGRAM | sleep 0',
  ],
)
def test_a_reader_that_went_away_is_no_error(line, tmp_path):
  process = _shell(line, tmp_path)
  assert process.returncode == 0, process.stderr
  assert (tmp_path / 'done').exists()
  assert process.stderr in ('', 'score 3\n')


def test_a_path_beyond_the_terminal_s_characters(tmp_path):
  process = _shell('PROGRAM', tmp_path, PYTHONIOENCODING='ascii')
  assert process.returncode == 0, process.stderr
  assert process.stdout == 'run runs/caf\\xe9\n'


def test_windows_is_one_line(monkeypatch, capsys):
  monkeypatch.setattr(sys, 'platform', 'win32')
  with pytest.raises(SystemExit) as ended:
    command.run(lambda: None)
  assert ended.value.code == 2
  assert capsys.readouterr().err.count('\n') == 1


def test_every_module_can_be_imported_without_fcntl():
  # As on Windows, whose users are to see the line above.
  for path in (_ROOT / 'qwr_tf').rglob('*.py'):
    text = path.read_text('utf-8')
    assert not re.search('^(import|from) fcntl', text, re.MULTILINE), path


@pytest.mark.parametrize('arguments', [['caf\u00e9'], []])
def test_a_path_that_python_and_tensorflow_read_differently(
  arguments, tmp_path
):
  folder = tmp_path / ('folder' if arguments else 'caf\u00e9')
  folder.mkdir()
  process = subprocess.run(
    [
      sys.executable,
      '-c',
      'from qwr_tf.config import command as c\nc.run(print)',
      *arguments,
    ],
    cwd=folder,
    env={
      **os.environ,
      'PYTHONPATH': str(_ROOT),
      'PYTHONUTF8': '0',
      'PYTHONCOERCECLOCALE': '0',
      'LC_ALL': 'C',
    },
    capture_output=True,
    text=True,
  )
  assert (process.returncode, process.stdout) == (2, '')
  assert 'PYTHONUTF8=1' in process.stderr
