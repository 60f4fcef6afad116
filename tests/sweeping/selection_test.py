"""Selection of offline runs by their evaluation."""

import csv
import json

import pytest

from qwr_tf.config.errors import ConfigError
from qwr_tf.sweeping import selection


def _run(runs_dir, name, value, **facts):
  folder = runs_dir / name
  folder.mkdir(parents=True)
  content = {
    'finished': True, 'preset': 'offline_mujoco', 'bindings': [], 'seed': 0,
    'config': 'make_agent.agent_class = @QwrAgent', 'dataset': 'log-v0',
    'held_out': [0.2, 0], 'environment': 'NoSimulator',
    'evaluation': {
      'value': value, 'low': value - 1, 'high': value + 1, 'doubts': 0,
    },
  }  # fmt: skip
  content |= facts
  (folder / 'run.json').write_text(
    json.dumps({k: v for k, v in content.items() if v is not None})
  )


def _rank(runs_dir, wanted=lambda facts: True):
  return selection.rank(runs_dir, wanted)


def test_the_best_run_is_kept(tmp_path):
  for name, value in (('a', 1.0), ('b', 3.0), ('c', 2.0)):
    _run(tmp_path, name, value)
  _run(tmp_path, 'cut', 9.0, finished=False)
  _run(tmp_path, 'scored', 9.0, evaluation=None)
  ranked = _rank(tmp_path)
  assert [c.run for c in ranked] == ['b', 'c', 'a']
  link = selection.keep_best(tmp_path, ranked)
  assert (link / 'run.json').samefile(tmp_path / 'b' / 'run.json')
  with open(tmp_path / 'selection.csv') as f:
    rows = list(csv.DictReader(f))
  assert [row['rank'] + row['run'] for row in rows] == ['1b', '2c', '3a']
  _run(tmp_path, 'd', 4.0)  # The link is no run of its own, and moves.
  ranked = _rank(tmp_path)
  assert [c.run for c in ranked] == ['d', 'b', 'c', 'a']
  selection.keep_best(tmp_path, ranked)
  assert (link / 'run.json').samefile(tmp_path / 'd' / 'run.json')
  assert len(selection.lines(ranked)) == 4


def test_wanted_runs_alone(tmp_path):
  _run(tmp_path, 'a', 1.0)
  _run(tmp_path, 'b', 3.0, seed=1)
  assert [c.run for c in _rank(tmp_path, lambda f: f['seed'] == 0)] == ['a']


@pytest.mark.parametrize(
  'facts, problem',
  [
    ({'held_out': [0.5, 0]}, 'other episodes'),
    ({'dataset': 'other-v0'}, 'other episodes'),
    ({'evaluation': {}}, 'no evaluation from'),
  ],
)
def test_what_cannot_be_compared(tmp_path, facts, problem):
  _run(tmp_path, 'a', 1.0)
  _run(tmp_path, 'b', 2.0, **facts)
  with pytest.raises(ConfigError, match=problem):
    _rank(tmp_path)


def test_nothing_to_select(tmp_path):
  _run(tmp_path, 'a', 1.0, evaluation=None)
  with pytest.raises(ConfigError, match='NoSimulator'):
    _rank(tmp_path)


def test_a_folder_of_the_link_s_name_stays(tmp_path):
  _run(tmp_path, 'a', 1.0)
  (tmp_path / selection.BEST).mkdir()
  with pytest.raises(ConfigError, match='no link'):
    selection.keep_best(tmp_path, _rank(tmp_path))
