"""The command: from an export and a data set to a page; refusals."""

import json
import re
import sys

import gin
import numpy as np
import pandas
import pytest
import tensorflow as tf
from absl.testing import flagsaver

from qwr_tf import evaluate
from qwr_tf.config import command
from tests.evaluation import decisions


@pytest.fixture(autouse=True)
def _isolated(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  yield
  gin.clear_config()


@pytest.fixture(name='cli')
def _cli(monkeypatch, capsys):
  """Runs the command in this process: (exit code, stdout, stderr)."""

  def run(*arguments):
    argv = ['qwr_tf.evaluate', *arguments]
    monkeypatch.setattr(sys, 'argv', argv)
    code = 0
    with flagsaver.flagsaver():
      try:
        command.parse_flags(argv)
        command.guarded(evaluate.main)
      except SystemExit as ended:
        code = ended.code
    return code, *capsys.readouterr()

  return run


class _Served(tf.Module):
  """A policy of the problem in `decisions`, slope 2."""

  def __init__(self):
    super().__init__()
    spec = tf.TensorSpec([None, 2], tf.float32, 'observation')
    self.functions = {'distribution': tf.function(self._logits, [spec])}

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


_SHORT = '--steps=20', '--members=2'


def test_an_export_on_a_data_set(cli, tmp_path):
  _export(tmp_path / 'policy')
  decisions.write(tmp_path / 'set', 40)
  code, out, err = cli('--policy=policy', '--dataset=set', *_SHORT)
  assert code == 0, err
  assert 'The policy is estimated at' in out
  page = (tmp_path / 'evaluations' / 'policy-set' / 'evaluation.md').read_text()
  assert '40 episodes' in page


def test_the_episodes_of_training_are_left_out(cli, tmp_path):
  _export(tmp_path / 'policy', dataset='set', held_out=[0.25, 0])
  decisions.write(tmp_path / 'set', 40)
  arguments = '--policy=policy', '--dataset=set', '--output=page', *_SHORT
  code, _, err = cli(*arguments)
  assert code == 0, err
  assert '10 episodes' in (tmp_path / 'page' / 'evaluation.md').read_text()


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
    ({}, ['--dataset=nowhere'], 'no such data set'),
    ({}, ['--policy=nowhere', '--dataset=set'], 'no exported policy'),
    ({}, ['--dataset=set', '--held_out_share=0.7'], 'held_out_share'),
    ({}, ['--dataset=set', '--gamma=1'], 'gamma'),
    ({'dataset': 'set'}, ['--dataset=set'], 'trained on all episodes'),
    (
      {'observation': {'type': 'Box', 'dtype': 'float32', 'shape': [3]}},
      ['--dataset=log.csv'],
      r'observation_shape \(3,\).* has \(2,\)',
    ),
    ({}, ['--dataset=alike.csv'], 'rewards'),
    ({}, ['--dataset=one.csv'], 'one episode'),
  ],
)
def test_refusals(cli, tmp_path, facts, arguments, problem):
  _export(tmp_path / 'policy', **facts)
  decisions.write(tmp_path / 'set', 10)
  _table(tmp_path, reward=0.0)
  (tmp_path / 'log.csv').rename(tmp_path / 'alike.csv')
  _table(tmp_path, episode=0)
  (tmp_path / 'log.csv').rename(tmp_path / 'one.csv')
  _table(tmp_path)
  code, _, err = cli('--policy=policy', *arguments, *_SHORT)
  assert code == 2
  (line,) = (x for x in err.splitlines() if x.startswith('error: '))
  assert re.search(problem, line), line
  assert not (tmp_path / 'evaluations').exists()
