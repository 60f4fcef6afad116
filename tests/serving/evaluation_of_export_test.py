"""Evaluations of exports, and the command; refusals."""

import json
import re
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
  (tmp_path / 'file').touch()
  ended = run_program(f"""
from qwr_tf.config import command
from qwr_tf import evaluate
import sys
import tensorflow as tf
from absl.testing import flagsaver

tf.config.run_functions_eagerly(True)

@flagsaver.flagsaver
def run(*arguments):
  sys.argv = ['evaluate', *arguments]
  try:
    command.parse_flags(sys.argv)
    command.guarded(evaluate.main)
  except SystemExit as ended:
    print('code', ended.code)

fast = '--policy=policy', '--dataset=set', '--steps=10', '--members=2'
run(*fast)
run(*fast)  # Replaces its own page.
run(*fast, '--gin_file=columns.gin', '--output=again')
print('refused')
run('--policy=policy', '--dataset=nowhere')
# A fit would take a minute.
slow = '--policy=policy', '--dataset=set', '--steps=100000'
run(*slow, '--gamma=0.5')
run(*slow, '--output=again')
run(*slow, '--output=file')
run(*slow, '--output=file/page')
run(*slow, '--output={'x' * 300}')

print('full')
def full(*_):
  raise OSError(28, 'No space left on device', 'evaluation.md')
evaluate.evaluation.Report.write = full
run(*fast, '--output=full')
""")
  assert ended.returncode == 0, ended.stderr
  done, refused = ended.stdout.split('refused\n')
  refused, full = refused.split('full\n')
  assert done.count('The policy is estimated at') == 3 and 'code' not in done
  # A result that cannot be written is printed all the same.
  assert 'The policy is estimated at' in full and 'code 1' in full
  assert refused == 6 * 'code 2\n'
  errors = [x for x in ended.stderr.splitlines() if x.startswith('error: ')]
  for error, problem in zip(
    errors,
    [
      'no such data set',
      'evaluations/policy-set holds another evaluation',
      'again holds another evaluation',
      'file cannot be written .*--output',
      'file/page cannot be written .*--output',
      'xxx cannot be written .*--output',
      'No space left on device',
    ],
    strict=True,
  ):
    assert re.search(problem, error)
  assert not (tmp_path / 'evaluations' / 'policy-nowhere').exists()
  page, again = (
    tmp_path / folder / 'evaluation.md'
    for folder in ('evaluations/policy-set', 'again')
  )
  assert '40 episodes' in page.read_text()
  line = '`python -m qwr_tf.evaluate --policy=policy --dataset=set --steps=10'
  assert f'{line} --members=2`' in page.read_text()
  numbers = [x.with_suffix('.csv').read_text() for x in (page, again)]
  assert numbers[0] == numbers[1]


def test_policies_of_runs_bear_the_runs_names(tmp_path):
  (tmp_path / 'runs' / 'a' / 'policy' / '1').mkdir(parents=True)
  (tmp_path / 'runs' / 'a' / 'run.json').touch()
  (tmp_path / 'runs' / 'best').symlink_to('a')
  (tmp_path / 'export').mkdir()
  names = {
    'runs/a': 'a',
    'runs/a/policy': 'a-policy',
    'runs/best/policy/1': 'a-policy-1',
    'export/': 'export',
  }
  for path, name in names.items():
    assert evaluation_of_export.policy_name(path) == name


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
