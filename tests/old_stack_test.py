"""What Python 3.11 with TensorFlow 2.15 wrote is good on a newer stack.

data/old_stack.tar.xz has a run that was killed after three of six iterations,
and the same run finished, with its exports.
"""

import csv
import pathlib
import re
import sys
import tarfile

import numpy as np
import pytest
from absl.testing import flagsaver

from qwr_tf import serving
from qwr_tf import train
from qwr_tf.config import command
from qwr_tf.runs import provenance
from tests.serving import policies

_ROOT = pathlib.Path(__file__).resolve().parents[1]

_USE = """
import functools
from absl.testing import flagsaver
from qwr_tf import check, environments
from qwr_tf.config import command
from qwr_tf.serving import checks
from tf_agents.policies import py_tf_eager_policy
checks.latency = functools.partial(checks.latency, seconds=0.0)
command.parse_flags(['x'])
for kind in ('policy', 'tflite', 'onnx'):
  with flagsaver.flagsaver(policy=f'{RUN}/{kind}', states=20):
    check.main()
policy = py_tf_eager_policy.SavedModelPyTFEagerPolicy(
  f'{RUN}/policy/1/collect_policy', load_specs_from_pbtxt=True
)
step = environments.load('BitFlip-5').reset()
print('action', policy.action(step).action)
"""


@pytest.fixture(scope='module', name='folder')
def _folder(tmp_path_factory):
  folder = tmp_path_factory.mktemp('old_stack')
  with tarfile.open(_ROOT / 'tests/data/old_stack.tar.xz') as archive:
    archive.extractall(folder, filter='data')
  return folder


def _column(run, name):
  with (run / 'metrics.csv').open(newline='') as file:
    return [float(row[name]) for row in csv.DictReader(file)]


@pytest.mark.slow
def test_a_run_is_resumed_and_ends_as_it_would_have(
  folder, monkeypatch, caplog
):
  resumed, finished = folder / 'unfinished', folder / 'finished'
  monkeypatch.setattr(serving, 'export', policies.note_export)
  arguments = (f'--gin_file={resumed}/config.gin', f'--root_dir={resumed}')
  argv = ['qwr_tf.train', *arguments, '--seed=1']
  monkeypatch.setattr(sys, 'argv', argv)
  with flagsaver.flagsaver():
    command.parse_flags(argv)
    command.guarded(train.main)
  if provenance.versions()['tensorflow'] != '2.15.1':
    assert 'tensorflow was 2.15.1' in caplog.text
  for name in ('interactions', 'critic_loss', 'actor_loss', 'weight_max'):
    rows = _column(resumed, name)
    assert len(rows) == 6
    np.testing.assert_allclose(rows, _column(finished, name), rtol=1e-3)


@pytest.mark.slow
def test_checkpoint_and_exports_are_loaded_and_agree(folder, run_program):
  done = run_program(f'RUN = {str(folder / "finished")!r}\n{_USE}')
  assert done.returncode == 0, done.stderr
  assert done.stdout.count('the same policy as the checkpoint') == 3
  assert re.fullmatch('action [0-4]', done.stdout.splitlines()[-1])
