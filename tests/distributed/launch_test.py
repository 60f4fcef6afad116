"""The launcher keeps a learner alive, and knows when that is of no use."""

import contextlib
import sys
import types
from unittest import mock

import pytest
from absl import flags

from qwr_tf import launch
from qwr_tf.config.errors import ConfigError
from qwr_tf.distributed import cluster

# Counts its starts in a file, and ends with the code that is due.
_LEARNER = """
import pathlib, sys
path = pathlib.Path(sys.argv[1])
starts = path.read_text().splitlines() if path.exists() else []
path.write_text('\\n'.join([*starts, ' '.join(sys.argv[3:]) or '-']))
sys.exit(([int(c) for c in sys.argv[2].split(',')] + [0] * 9)[len(starts)])
"""


def _run(path, codes, *arguments, requested=False):
  argv = [sys.executable, '-c', _LEARNER, str(path), codes, *arguments]
  interrupted = types.SimpleNamespace(requested=requested)
  code = launch.Learner(argv).run(interrupted)
  return code, path.read_text().splitlines()


@pytest.mark.slow
def test_a_learner_that_dies_is_started_again(tmp_path):
  code, starts = _run(tmp_path / 'starts', '1,1,0', '--overwrite', '--seed=3')
  # What the first one wrote is not overwritten.
  assert (code, starts) == (0, ['--overwrite --seed=3', '--seed=3', '--seed=3'])


@pytest.mark.slow
def test_six_starts_are_enough(tmp_path):
  code, starts = _run(tmp_path / 'starts', '1,' * 8 + '1')
  assert (code, len(starts)) == (1, 6)


def test_bad_input_stays_bad(tmp_path):
  assert _run(tmp_path / 'starts', '2') == (2, ['-'])


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
