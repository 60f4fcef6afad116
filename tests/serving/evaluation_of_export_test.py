"""Evaluations of exports, and the command; refusals."""

import json
import shutil

import gin
import numpy as np
import pandas
import pytest
import tensorflow as tf

from qwr_tf import datasets
from qwr_tf.config.errors import ConfigError
from qwr_tf.evaluation import Fit
from qwr_tf.serving import evaluation_of_export
from tests.evaluation import decisions

_UNFITTED = Fit(steps=0, members=2, units=(16,))
_SPACES = decisions.spaces()
_SPECS = (
  _SPACES.time_step_spec.observation,
  _SPACES.action_spec,
  _SPACES.action_bounds,
)


@pytest.fixture(autouse=True)
def _isolated(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  tf.config.run_functions_eagerly(True)
  yield
  tf.config.run_functions_eagerly(False)
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


@pytest.fixture(scope='module', name='export')
def _export(tmp_path_factory):
  """Writes a copy of one export, with metadata of its own."""
  served, saved = _Served(), tmp_path_factory.mktemp('saved')
  tf.saved_model.save(served, str(saved), signatures=served.functions)

  def export(path, observation=decisions.OBSERVATION, **facts):
    shutil.copytree(saved, path)
    (path / 'assets.extra').mkdir()
    content = {
      'format': 'saved_model', 'environment': 'NoSimulator',
      'observation_space': observation, 'action_space': decisions.DISCRETE,
    }  # fmt: skip
    text = json.dumps(content | facts)
    (path / 'assets.extra' / 'metadata.json').write_text(text)

  return export


@pytest.mark.slow
def test_the_command(export, run_program, tmp_path):
  export(tmp_path / 'policy')
  decisions.write(tmp_path / 'set', 40)
  # The gin file of a run names what only training needs.
  (tmp_path / 'columns.gin').write_text("""
include 'qwr/offline_vector.gin'
run.environment = 'NoSimulator'
run.dataset = 'set'
load_environment.num_actions = 2
TableColumns.episode = 'session'
""")
  ended = run_program("""
from qwr_tf.config import command
from qwr_tf import evaluate
import tensorflow as tf

tf.config.run_functions_eagerly(True)

def run(*arguments):
  argv = ['evaluate', *arguments]
  command.parse_flags(argv)
  command.guarded(evaluate.main)

run('--policy=policy', '--dataset=set', '--steps=10', '--members=2')
run('--policy=policy', '--dataset=set', '--steps=10', '--members=2',
    '--gin_file=columns.gin', '--output=again')
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
  assert (tmp_path / 'again' / 'evaluation.md').read_text() == page


@pytest.mark.slow
def test_the_episodes_of_training_are_left_out(export, tmp_path):
  export(tmp_path / 'policy', dataset='set', held_out=[0.25, 0])
  decisions.write(tmp_path / 'set', 40)
  report = evaluation_of_export.evaluate('policy', 'set', fit=_UNFITTED)
  assert report.row('logged return').note == '10 episodes'


@pytest.mark.slow
def test_other_data_of_the_same_name_are_evaluated_on_whole(export, tmp_path):
  decisions.write(tmp_path / 'jan' / 'set', 40)
  decisions.write(tmp_path / 'feb' / 'set', 40, slope=1.0)
  digest = datasets.DataSet('jan/set').digest(*_SPECS)
  facts = {'dataset': 'set', 'held_out': [0.25, 0], 'first_steps': digest}
  export(tmp_path / 'policy', **facts)

  def evaluated(data, **kwargs):
    report = evaluation_of_export.evaluate(
      'policy', data, fit=_UNFITTED, **kwargs
    )
    return report.row('logged return').note, report.doubts

  note, doubts = evaluated('feb/set')
  assert note == '40 episodes'
  assert not any('was trained on these episodes' in d for d in doubts)
  # The same data by another name; and a longer log that begins alike.
  (tmp_path / 'jan' / 'set').rename(tmp_path / 'copy')
  assert evaluated('copy')[0] == '10 episodes'
  decisions.write(tmp_path / 'longer', 48)
  assert evaluated('longer')[0] == '12 episodes'
  doubts = evaluated('copy', held_out_share=1.0)[1]
  assert any('was trained on these episodes' in d for d in doubts)


@pytest.mark.slow
def test_the_discount_is_that_of_the_run(export, tmp_path):
  decisions.write(tmp_path / 'set', 40)
  export(tmp_path / 'one', gamma=0.5)
  export(tmp_path / 'other')
  values = {
    (policy, gamma): evaluation_of_export.evaluate(
      policy, 'set', fit=_UNFITTED, **({'gamma': gamma} if gamma else {})
    ).row('logged return').value
    for policy, gamma in (
      ('one', None), ('one', 0.5), ('one', 0.99), ('other', None),
    )
  }  # fmt: skip
  assert values['one', None] == values['one', 0.5]
  assert values['other', None] == values['one', 0.99] != values['one', 0.5]


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
    ({}, {'held_out_share': 0.4}, 'held_out_share'),
    ({}, {'held_out_share': 0.0}, 'held_out_share'),
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
def test_refusals(export, tmp_path, facts, arguments, problem):
  export(tmp_path / 'policy', **facts)
  decisions.write(tmp_path / 'set', 10)
  _table(tmp_path, reward=0.0)
  (tmp_path / 'log.csv').rename(tmp_path / 'alike.csv')
  _table(tmp_path, episode=0)
  (tmp_path / 'log.csv').rename(tmp_path / 'one.csv')
  _table(tmp_path)
  arguments = {'policy': 'policy', 'dataset': 'set'} | arguments
  with pytest.raises(ConfigError, match=problem) as caught:
    evaluation_of_export.evaluate(**arguments)
  assert len(str(caught.value).splitlines()) == 1
