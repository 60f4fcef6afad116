"""Rows sorted into experiments, and rows that are refused."""

import pytest

from qwr_tf.config.errors import ConfigError
from qwr_tf.reporting import report_data
from qwr_tf.reporting import report_tables
from qwr_tf.reporting import report_text
from qwr_tf.reporting import results
from qwr_tf.reporting import score_figures
from tests.reporting import rows


def test_the_final_evaluation_has_the_most_episodes(tmp_path):
  experiment = rows.experiment_of(tmp_path, rows.run(2000.0))
  (run,) = experiment.runs.to_dict('records')
  assert (run['mode'], run['episodes']) == (2000, 10)
  assert rows.curve_of(experiment) == {50_000: 1000, 100_000: 2000}


def test_of_equal_evaluations_the_later_is_final(tmp_path):
  experiment = rows.experiment_of(tmp_path, rows.run(2000.0, episodes='10'))
  assert experiment.runs['mode'].tolist() == [2000]


def test_environments_in_the_papers_order(tmp_path):
  names = 'BitFlip-20 Hopper-v4 BitFlip-5 HalfCheetah-v4 Ant-v4'.split()
  runs = [rows.run(1.0, environment=name) for name in names]
  experiment = rows.experiment_of(tmp_path, *runs)
  assert experiment.environments == [
    'HalfCheetah-v4',
    'Hopper-v4',
    'Ant-v4',
    'BitFlip-5',
    'BitFlip-20',
  ]


def test_a_run_in_two_files_is_refused(tmp_path):
  paths = [
    rows.write_csv(tmp_path / name / 'e.csv', rows.run(1.0)) for name in 'ab'
  ]
  with pytest.raises(ConfigError, match='b/e.csv: HalfCheetah-v4 seed 0'):
    report_data.load(paths)


def test_a_run_twice_in_a_file_is_refused(tmp_path):
  path = rows.write_csv(tmp_path / 'a.csv', rows.run(1.0))
  text = path.read_text()
  path.write_text(text + text.partition('\n')[2])
  with pytest.raises(ConfigError, match='HalfCheetah-v4 seed 0'):
    report_data.load([path])


@pytest.mark.parametrize(
  ('cells', 'message'),
  [
    ({'return_mode': 'nan'}, 'return_mode'),
    ({'return_sampled': 'inf'}, 'return_sampled'),
    ({'return_mode': 'good'}, 'return_mode'),
    ({'seed': 'one'}, 'seed'),
    ({'seed': ''}, 'seed'),
    ({'episodes': '1.5'}, 'episodes'),
    ({'experiment': 'mujoco_100k'}, 'mujoco_100k'),
  ],
)
def test_damaged_rows_are_refused(cells, message, tmp_path):
  path = rows.write_csv(tmp_path / 'a.csv', rows.run(1.0, **cells))
  with pytest.raises(ConfigError, match=message):
    report_data.load([path])


def test_a_name_that_no_figure_can_have_is_refused(tmp_path):
  path = rows.write_csv(tmp_path / 'my runs.csv', rows.run(1.0))
  with pytest.raises(ConfigError, match='my runs'):
    report_data.load([path])


def test_data_sets_that_nothing_learned_from(tmp_path):
  path = tmp_path / 'offline.csv'
  data = {'experiment': 'offline', 'algorithm': results.DATA, 'dataset': 'x'}
  results.add(path, rows.run(5.0, **data)[-1:])
  with pytest.raises(ConfigError, match='offline.csv'):
    report_data.load([path])


def test_offline_runs_beside_their_data(tmp_path):
  runs = [
    rows.offline_run(algorithm, dataset, [100.0, 300.0], seed)
    for algorithm in ('QWR-LSE', 'BC')
    for dataset in ('final-v0', 'third-v0')
    for seed in (0, 1)
  ]
  data = rows.offline_run('data', 'third-v0', [250.0])
  path = rows.write_csv(tmp_path / 'offline.csv', *runs, data)
  (experiment,) = report_data.load([path])
  # By data set; the data set itself is none of those that learn.
  assert [(s.dataset, s.algorithm) for s in experiment.learned] == [
    ('final-v0', 'QWR-LSE'),
    ('final-v0', 'BC'),
    ('third-v0', 'QWR-LSE'),
    ('third-v0', 'BC'),
  ]
  assert experiment.data_return('third-v0', 'HalfCheetah-v4') == 250
  assert experiment.data_return('final-v0', 'HalfCheetah-v4') is None
  cell = experiment.learned[0], 'HalfCheetah-v4'
  band = score_figures.band(experiment.of(*cell), 'mode')
  assert band[0.5].to_dict() == {1000: 100.0, 2000: 300.0}
  assert experiment.switches(*cell) == []
  text = report_tables.overview(experiment)
  assert rows.cells_of(text, 'data `third-v0` | mode')[2] == '250 (1)'
  assert '8 runs (`offline.csv`)' in report_text.report([experiment], {})


def test_where_an_offline_run_began_to_collect(tmp_path):
  run = rows.offline_run(
    'AWAC', 'third-v0', [1.0, 2.0, 3.0, 4.0], interactions=(0, 0, 500, 1000)
  )
  experiment = rows.experiment_of(tmp_path, run)
  (setting,) = experiment.settings
  assert experiment.switches(setting, 'HalfCheetah-v4') == [2000]


def test_offline_curves_count_actor_steps(tmp_path):
  run = [
    row
    | {'critic_steps': '7000', 'actor_steps': str(steps), 'dataset': 'd'}
    | {'interactions': '0'}
    for row, steps in zip(rows.run(200.0), (1000, 2000, 2000), strict=True)
  ]
  assert list(rows.curve_of(rows.experiment_of(tmp_path, run))) == [1000, 2000]


def test_what_is_no_ablation(tmp_path):
  (found,) = report_data.load([rows.write_ablation(tmp_path)])
  assert found.centre == found.settings[0]
  # Two centres.
  other = rows.run(1.0, algorithm='AWR', preset='awr')
  (found,) = report_data.load(
    [rows.write_csv(tmp_path / 'ablation.csv', other)]
  )
  assert found.centre is None
  # The preset's own CSV has the published scores in its table.
  runs = [rows.run(1.0), rows.run(2.0, bindings='a.b = 1')]
  (found,) = report_data.load(
    [rows.write_csv(tmp_path / 'mujoco_100k.csv', *runs)]
  )
  assert found.centre is None
  (found,) = report_data.load([rows.write_csv(tmp_path / 'one.csv', runs[0])])
  assert found.centre is None


def test_the_budget_is_what_most_runs_had(tmp_path):
  made = 50_000, 100_000, 100_000, 100_000, 1_000_000
  runs = [rows.run(1.0, i, interactions=str(n)) for i, n in enumerate(made)]
  experiment = rows.experiment_of(tmp_path, *runs)
  assert experiment.budget == 100_000


def test_settings_without_bindings_come_first(tmp_path):
  runs = [
    rows.run(1.0, algorithm='QWR-LSE', bindings='a.b = 1'),
    rows.run(1.0, algorithm='AWR', preset='awr'),
    rows.run(1.0, algorithm='QWR-MAX'),
  ]
  experiment = rows.experiment_of(tmp_path, *runs)
  found = [s.algorithm for s in experiment.settings]
  assert found == ['QWR-MAX', 'AWR', 'QWR-LSE']
