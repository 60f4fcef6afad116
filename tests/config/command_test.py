"""What all commands have in common; train_test.py has the rest."""

import os
import pathlib
import signal
import subprocess
import sys

import pytest

from qwr_tf.config import command

_ROOT = pathlib.Path(__file__).resolve().parents[2]
_COMMANDS = sorted(
  path.stem
  for path in (_ROOT / 'qwr_tf').glob('*.py')
  if "if __name__ == '__main__':" in path.read_text('utf-8')
)

_CTRL_C = """
import os, signal, time
os.kill(os.getpid(), signal.SIGINT)
time.sleep(20)
"""


@pytest.mark.parametrize('name', _COMMANDS)
def test_ctrl_c_while_a_command_imports_is_one_line(name, tmp_path):
  # Every command imports NumPy, and here that is when Ctrl-C comes.
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


def test_there_are_commands():
  assert {'report', 'sweep', 'train'} <= set(_COMMANDS)


def test_a_file_in_the_place_of_a_folder_is_bad_input(capsys):
  with pytest.raises(SystemExit) as ended:
    command.guarded(lambda: pathlib.Path(__file__).mkdir(exist_ok=True))
  assert ended.value.code == 2
  assert capsys.readouterr().err == (
    f'error: {__file__}: File exists; choose another folder.\n'
  )
