"""The launcher keeps a learner alive, and knows when that is of no use."""

import contextlib
import json
import sys
import types
from unittest import mock

import pytest
from absl import flags
from absl.testing import flagsaver

from qwr_tf import launch
from qwr_tf.config import command
from qwr_tf.config.errors import ConfigError
from qwr_tf.distributed import __main__ as learner
from qwr_tf.distributed import cluster
from qwr_tf.distributed import lifeline
from qwr_tf.training import run_flags
from qwr_tf.training import training_command

# Counts its starts in a file, and ends with the code that is due.
_LEARNER = """
import json, pathlib, sys
path = pathlib.Path(sys.argv[1])
starts = path.read_text().splitlines() if path.exists() else []
path.write_text('\\n'.join([*starts, json.dumps(sys.argv[3:])]))
sys.exit(([int(c) for c in sys.argv[2].split(',')] + [0] * 9)[len(starts)])
"""


def _run(path, codes, *arguments, requested=False):
  argv = [sys.executable, '-c', _LEARNER, str(path), codes, *arguments]
  interrupted = types.SimpleNamespace(requested=requested)
  code = launch.Learner(argv).run(interrupted)
  return code, [*map(json.loads, path.read_text().splitlines())]


@pytest.mark.slow
@pytest.mark.parametrize(
  'overwrite',
  ['--overwrite', '-overwrite', '--overwrite=true', '--overwrite=1', '@'],
)
def test_a_learner_that_dies_is_started_again(tmp_path, overwrite):
  (tmp_path / 'file').write_text('--overwrite')
  overwrite = overwrite.replace('@', f'--flagfile={tmp_path / "file"}')
  code, starts = _run(tmp_path / 'starts', '1,1,0', overwrite, '--seed=3')
  read = []
  for arguments in starts:
    with flagsaver.flagsaver():
      command.parse_flags(['launch', *arguments])
      read.append((run_flags.OVERWRITE.value, run_flags.SEED.value))
  # What the first one wrote is not overwritten.
  assert (code, read) == (0, [(True, 3), (False, 3), (False, 3)])


@pytest.mark.slow
def test_six_starts_are_enough(tmp_path):
  code, starts = _run(tmp_path / 'starts', '1,' * 8 + '1')
  assert (code, len(starts)) == (1, 6)


def test_bad_input_stays_bad(tmp_path):
  assert _run(tmp_path / 'starts', '2') == (2, [[]])


def test_what_would_fail_again_is_not_started_again(tmp_path):
  code = lifeline.WOULD_FAIL_AGAIN
  assert _run(tmp_path / 'starts', str(code)) == (code, [[]])


@pytest.mark.parametrize('is_nan', [True, False])
def test_a_learner_tells_what_would_fail_again(monkeypatch, capsys, is_nan):
  pytest.importorskip('ray')
  from qwr_tf.distributed import ray_source

  kind = FloatingPointError if is_nan else ray_source.NoCollectorsError
  failing = mock.Mock(side_effect=kind('in short'))
  monkeypatch.setattr(training_command, 'configuration', lambda: '')
  monkeypatch.setattr(training_command, 'run', failing)
  with flagsaver.flagsaver(), pytest.raises(SystemExit) as ended:
    command.parse_flags(['learner'])
    learner.main()
  assert ended.value.code == lifeline.WOULD_FAIL_AGAIN
  assert capsys.readouterr().err == 'error: in short\n'


@pytest.mark.parametrize('code', [1, lifeline.WOULD_FAIL_AGAIN, -9])
def test_whatever_the_learner_died_of_is_a_1(monkeypatch, code):
  monkeypatch.setattr(training_command, 'configuration', lambda: '')
  monkeypatch.setattr(training_command, 'is_finished', lambda _: False)
  monkeypatch.setattr(launch.Learner, 'run', lambda *_: code)
  with flagsaver.flagsaver(), pytest.raises(SystemExit) as ended:
    command.parse_flags(['launch', '--address=auto'])
    launch.main()
  assert ended.value.code == 1


def test_a_cluster_asks_for_its_token(monkeypatch):
  ray = pytest.importorskip('ray')
  monkeypatch.setenv('RAY_ADDRESS', 'auto')
  refusal = mock.Mock(
    side_effect=ray.exceptions.AuthenticationError('no token')
  )
  monkeypatch.setattr(ray, 'init', refusal)
  with contextlib.suppress(flags.Error):
    flags.FLAGS.mark_as_parsed()
  with pytest.raises(ConfigError, match='RAY_AUTH_MODE=token'):
    cluster.connect()


def test_without_a_cluster_the_address_is_told(monkeypatch):
  pytest.importorskip('ray')
  with contextlib.suppress(flags.Error):
    flags.FLAGS.mark_as_parsed()
  monkeypatch.setattr(flags.FLAGS['address'], 'value', '127.0.0.1:1')
  with pytest.raises(ConfigError, match='--address=127.0.0.1:1'):
    cluster.connect()
