"""Selection of offline runs by their evaluation."""

import csv
import json

import pytest

from qwr_tf.config.errors import ConfigError
from qwr_tf.sweeping import selection
from qwr_tf.sweeping import sweep_plan
from qwr_tf.sweeping import sweep_run
from tests.evaluation import decisions


def _evaluation(value, gamma=0.99):
  low, high = value - 1, value + 1
  return {
    'value': value, 'low': low, 'high': high, 'doubts': 0, 'gamma': gamma,
  }  # fmt: skip


def _run(runs_dir, name, value, **facts):
  folder = runs_dir / name
  folder.mkdir(parents=True)
  content = {
    'finished': True, 'preset': 'offline_mujoco', 'bindings': [], 'seed': 0,
    'config': 'make_agent.agent_class = @QwrAgent', 'dataset': 'log-v0',
    'held_out': [0.2, 0], 'environment': 'NoSimulator',
    'first_steps': 'aa', 'data': {'steps': 300},
    'evaluation': _evaluation(value),
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
    ({'held_out': [0.5, 0]}, r'held_out \[0.2, 0\] and \[0.5, 0\]'),
    ({'dataset': 'other-v0'}, "dataset 'log-v0' and 'other-v0'"),
    ({'first_steps': 'bb'}, "first_steps 'aa' and 'bb'"),
    ({'data': {'steps': 900}}, 'steps 300 and 900'),
    ({'data': None}, 'steps 300 and None'),
    ({'evaluation': _evaluation(9.0, gamma=0.9)}, 'gamma 0.99 and 0.9'),
    ({'evaluation': {}}, 'no evaluation from'),
    ({'evaluation': []}, 'no evaluation from'),
  ],
)
def test_what_cannot_be_compared(tmp_path, facts, problem):
  _run(tmp_path, 'a', 1.0)
  _run(tmp_path, 'b', 2.0, **facts)
  with pytest.raises(ConfigError, match=problem) as caught:
    _rank(tmp_path)
  assert len(str(caught.value).splitlines()) == 1


def test_a_value_that_is_no_number_is_last(tmp_path):
  for name, value in (('a', 1.0), ('b', float('nan')), ('c', 2.0)):
    _run(tmp_path, name, value)
  assert [c.run for c in _rank(tmp_path)] == ['c', 'a', 'b']


def test_nothing_to_select(tmp_path):
  _run(tmp_path, 'a', 1.0, evaluation=None)
  with pytest.raises(ConfigError, match='NoSimulator'):
    _rank(tmp_path)


def test_a_folder_of_the_link_s_name_stays(tmp_path):
  _run(tmp_path, 'a', 1.0)
  (tmp_path / selection.BEST).mkdir()
  with pytest.raises(ConfigError, match='no link'):
    selection.keep_best(tmp_path, _rank(tmp_path))


def _recipe(tmp_path):
  return sweep_plan.Recipe(
    'offline_bitflip.gin',
    (
      "run.environment = 'NoSimulator'",
      "run.dataset = 'log'",
      'load_environment.observation_shape = (2,)',
      'load_environment.num_actions = 2',
    ),
    None,
    tmp_path / 'rows.csv',
    tmp_path / 'runs',
    select=True,
  )


def test_a_grid_without_a_simulator(tmp_path, monkeypatch, capsys):
  monkeypatch.chdir(tmp_path)
  decisions.write(tmp_path / 'log', 10)
  recipe = _recipe(tmp_path)

  def runner(jobs, processes, ended, progress):
    for job in jobs:
      _run(
        job.folder.parent, job.folder.name, 1.0 + job.seed, seed=job.seed,
        scores={'eval_return_mode': None},
      )  # fmt: skip
      ended(job, None)

  assert sweep_run.run([recipe], [], [0, 1], 1, runner) == []
  assert 'estimated at 2' in capsys.readouterr().out
  assert [c.seed for c in _rank(tmp_path / 'runs')] == [1, 0]
  assert not (tmp_path / 'rows.csv').exists()
  # The same command finds them finished.
  assert sweep_run.run([recipe], [], [0, 1], 1, runner) == []
  with pytest.raises(ConfigError, match='--select'):
    sweep_run.run([recipe._replace(select=False)], [], [0], 1, runner)


@pytest.mark.parametrize(
  'bindings, problem',
  [
    (["run.environment = 'BitFlip-5'"], '--select.* NoSimulator'),
    (['DataSet.held_out_share = 0.0'], '--select.* DataSet'),
  ],
)
def test_runs_without_an_evaluation_do_not_start(
  bindings, problem, tmp_path, monkeypatch
):
  monkeypatch.chdir(tmp_path)
  decisions.write(tmp_path / 'log', 10)
  recipe = _recipe(tmp_path)
  recipe = recipe._replace(bindings=(*recipe.bindings, *bindings))
  with pytest.raises(ConfigError, match=problem):
    sweep_plan.plan(recipe, [], [0])
