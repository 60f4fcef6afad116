"""Evaluations of exports, and the command; refusals."""

import json

import gin
import numpy as np
import pandas
import pytest
import tensorflow as tf

from qwr_tf.config.errors import ConfigError
from qwr_tf.evaluation import Fit
from qwr_tf.serving import evaluation_of_export
from tests.evaluation import decisions

_SHORT = Fit(steps=20, members=2, units=(16,))


@pytest.fixture(autouse=True)
def _isolated(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  yield
  gin.clear_config()


class _Served(tf.Module):
  """A policy of the problem in `decisions`, slope 2."""

  def __init__(self):
    super().__init__()
    spec = tf.TensorSpec([None, 2], tf.float32, 'observation')
    self.functions = {
      'serving_default': tf.function(self._mode, [spec]),
      'distribution': tf.function(self._logits, [spec]),
    }

  def _mode(self, observation):
    return {'action': tf.cast(observation[:, 0] > 0, tf.int64)}

  def _logits(self, observation):
    return {'logits': decisions.policy(2.0).distribution(observation).logits}


def _export(path, observation=decisions.OBSERVATION, **facts):
  served = _Served()
  tf.saved_model.save(served, str(path), signatures=served.functions)
  (path / 'assets.extra').mkdir()
  content = {
    'format': 'saved_model', 'environment': 'NoSimulator',
    'observation_space': observation, 'action_space': decisions.DISCRETE,
  }  # fmt: skip
  text = json.dumps(content | facts)
  (path / 'assets.extra' / 'metadata.json').write_text(text)
  return path


@pytest.mark.slow
def test_the_command(run_program, tmp_path):
  _export(tmp_path / 'policy')
  decisions.write(tmp_path / 'set', 40)
  ended = run_program("""
import sys
from qwr_tf.config import command
from qwr_tf import evaluate

def run(*arguments):
  argv = ['evaluate', *arguments]
  command.parse_flags(argv)
  command.guarded(evaluate.main)

run('--policy=policy', '--dataset=set', '--steps=20', '--members=2')
try:
  run('--policy=policy', '--dataset=nowhere')
except SystemExit as ended:
  print('code', ended.code)
""")
  assert ended.returncode == 0, ended.stderr
  assert 'The policy is estimated at' in ended.stdout
  assert 'code 2' in ended.stdout
  page = (tmp_path / 'evaluations' / 'policy-set' / 'evaluation.md').read_text()
  assert '40 episodes' in page


@pytest.mark.slow
def test_the_episodes_of_training_are_left_out(tmp_path):
  _export(tmp_path / 'policy', dataset='set', held_out=[0.25, 0])
  decisions.write(tmp_path / 'set', 40)
  found = evaluation_of_export.evaluate('policy', 'set', fit=_SHORT)
  assert found.row('logged return').note == '10 episodes'


def _table(tmp_path, **columns):
  count = 60
  rng = np.random.default_rng(0)
  table = pandas.DataFrame(
    {
      'episode': np.arange(count) // 3,
      'observation_0': rng.normal(size=count),
      'observation_1': rng.normal(size=count),
      'action': rng.integers(2, size=count),
      'reward': rng.normal(size=count),
    }
    | columns
  )
  table.to_csv(tmp_path / 'log.csv', index=False)


@pytest.mark.parametrize(
  'facts, arguments, problem',
  [
    ({}, {'dataset': 'nowhere'}, 'no such data set'),
    ({}, {'policy': 'nowhere'}, 'no exported policy'),
    ({}, {'held_out_share': 0.7}, 'held_out_share'),
    ({}, {'gamma': 1.0}, 'gamma'),
    ({'dataset': 'set'}, {}, 'trained on all episodes'),
    (
      {'observation': {'type': 'Box', 'dtype': 'float32', 'shape': [3]}},
      {'dataset': 'log.csv'},
      r'observation_shape \(3,\).* has \(2,\)',
    ),
    ({}, {'dataset': 'alike.csv'}, 'rewards'),
    ({}, {'dataset': 'one.csv'}, 'one episode'),
  ],
)
def test_refusals(tmp_path, facts, arguments, problem):
  _export(tmp_path / 'policy', **facts)
  decisions.write(tmp_path / 'set', 10)
  _table(tmp_path, reward=0.0)
  (tmp_path / 'log.csv').rename(tmp_path / 'alike.csv')
  _table(tmp_path, episode=0)
  (tmp_path / 'log.csv').rename(tmp_path / 'one.csv')
  _table(tmp_path)
  arguments = {'policy': 'policy', 'dataset': 'set', 'fit': _SHORT} | arguments
  with pytest.raises(ConfigError, match=problem) as caught:
    evaluation_of_export.evaluate(**arguments)
  assert len(str(caught.value).splitlines()) == 1
