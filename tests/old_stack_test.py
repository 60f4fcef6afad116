"""What Python 3.11 with TensorFlow 2.15 wrote is good on a newer stack.

data/old_stack.tar.xz has a run that was killed after three of six iterations,
and the same run finished, with its exports.
"""

import csv
import pathlib
import subprocess
import sys
import tarfile

import numpy as np
import pytest

from qwr_tf.runs import provenance

_ROOT = pathlib.Path(__file__).resolve().parents[1]

_USE = """
from absl.testing import flagsaver
from examples import continue_training
from qwr_tf import check
from qwr_tf.config import command
import pathlib, sys
command.parse_flags(['x'])
run = pathlib.Path(sys.argv[1])
for kind in ('policy', 'tflite', 'onnx'):
  with flagsaver.flagsaver(policy=str(run / kind), states=20):
    check.main()
continue_training.run(
  run, run / 'next', iterations=1, env_steps=20, train_steps=2, batch_size=4
)
print('continued')
"""


@pytest.fixture(scope='module', name='folder')
def _folder(tmp_path_factory):
  folder = tmp_path_factory.mktemp('old_stack')
  with tarfile.open(_ROOT / 'tests/data/old_stack.tar.xz') as archive:
    archive.extractall(folder, filter='data')
  return folder


def _run(*arguments):
  done = subprocess.run(
    [sys.executable, *arguments], cwd=_ROOT, capture_output=True, text=True
  )
  assert done.returncode == 0, done.stderr
  return done


def _column(run, name):
  with (run / 'metrics.csv').open(newline='') as file:
    return [float(row[name]) for row in csv.DictReader(file)]


@pytest.mark.slow
def test_a_run_is_resumed_and_ends_as_it_would_have(folder):
  resumed, finished = folder / 'unfinished', folder / 'finished'
  done = _run(
    '-m',
    'qwr_tf.train',
    f'--gin_file={resumed}/config.gin',
    '--seed=1',
    f'--root_dir={resumed}',
  )
  if provenance.versions()['tensorflow'] != '2.15.1':
    assert 'tensorflow was 2.15.1' in done.stderr
  for name in ('interactions', 'critic_loss', 'actor_loss', 'weight_max'):
    rows = _column(resumed, name)
    assert len(rows) == 6
    np.testing.assert_allclose(rows, _column(finished, name), rtol=1e-3)


@pytest.mark.slow
def test_checkpoint_and_exports_are_loaded_and_agree(folder):
  done = _run('-c', _USE, str(folder / 'finished'))
  assert done.stdout.count('the same policy as the checkpoint') == 3
  assert done.stdout.splitlines()[-1] == 'continued'
