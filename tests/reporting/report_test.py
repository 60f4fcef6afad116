"""Statistics by hand, and reports whose numbers can be checked by eye."""

import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest
from absl import flags

from qwr_tf import report
from qwr_tf.config.errors import ConfigError
from qwr_tf.environments import env_names
from qwr_tf.reporting import d4rl
from qwr_tf.reporting import published
from qwr_tf.reporting import report_data
from qwr_tf.reporting import report_figures
from qwr_tf.reporting import report_tables
from qwr_tf.reporting import report_text
from qwr_tf.reporting import results
from qwr_tf.reporting import score_figures
from qwr_tf.reporting import scores

_ROOT = pathlib.Path(__file__).resolve().parents[2]
_NUMBERS = published.load(published.DEFAULT_PATH)

_README = f'# Name\n\n{report_text.BEGIN}\nold\n{report_text.END}\n\nRest\n'

# Statistics


def test_the_papers_statistic():
  # Of five sorted scores the quartiles are the second and the fourth.
  five = [50.0, 10.0, 40.0, 20.0, 90.0]
  assert scores.median(five) == 40
  assert scores.half_iqr(five) == (50 - 20) / 2
  # Of two they lie a quarter of the way inside.
  assert scores.half_iqr([0.0, 8.0]) == (6 - 2) / 2


def test_iqm():
  # Of eight, two go on each side: (3 + 4 + 5 + 6) / 4.
  assert scores.iqm([100.0, 1, 2, 3, 4, 5, 6, -50]) == pytest.approx(3.5)
  assert scores.iqm([1.0, 2.0, 9.0]) == pytest.approx(4)  # The mean.


def test_bootstrap_is_stratified():
  # Within the strata nothing varies, so nothing may vary in between.
  assert scores.bootstrap([[1.0] * 5, [9.0] * 5]) == (5, 5)


def test_bootstrap_of_two_runs():
  # A quarter of the resamples is (0, 0), a quarter is (1, 1).
  assert scores.bootstrap([[0.0, 1.0]]) == (0, 1)


def test_bootstrap_of_many_runs():
  rng = np.random.default_rng(1)
  runs = rng.normal(size=400)
  low, high = scores.bootstrap([runs], scores.mean_of_means)
  # 1.96 standard errors, 0.098 for 400 runs of unit variance.
  assert low == pytest.approx(np.mean(runs) - 0.098, abs=0.01)
  assert high == pytest.approx(np.mean(runs) + 0.098, abs=0.01)


def test_bootstrap_repeats_itself_in_any_order():
  runs = [3.0, 1.0, 7.0, 5.0, 2.0]
  assert scores.bootstrap([runs]) == scores.bootstrap([sorted(runs)])


def test_bootstrap_keeps_what_is_only_one_run():
  # Of the resamples of (0, 4) a quarter are 0, half 2, a quarter 4.
  strata = [[10.0], [0.0, 4.0]]
  assert scores.bootstrap(strata, scores.mean_of_means) == (5, 7)
  assert scores.bootstrap(strata) == (10 / 3, 6)  # Pooled: of all three runs.


def test_bootstrap_of_all_resamples():
  # Three runs have 27 resamples, which 10000 draws come close to.
  runs = np.array([[1.0, 5.0, 6.0], [2.0, 3.0, 9.0]])
  grid = np.stack(np.meshgrid(*[range(3)] * 6, indexing='ij'), -1).reshape(
    -1, 6
  )
  first, second = runs[0, grid[:, :3]], runs[1, grid[:, 3:]]
  for statistic in (scores.mean_of_means, scores.mean_of_medians):
    exact = np.percentile(statistic([first, second]), [2.5, 97.5])
    drawn = scores.bootstrap(list(runs), statistic)
    assert drawn == pytest.approx(exact, abs=0.35)


def test_difference_of_medians():
  # Medians 7 and 2; among resamples of (0, 2, 4) medians reach 0 and 4.
  strata = [[7.0] * 3, [0.0, 2.0, 4.0]]
  of = scores.difference_of_medians
  assert of([np.array(s) for s in strata]) == 5
  assert scores.bootstrap(strata, of) == (3, 7)


def test_profile_band():
  # At 1 a half of two runs is above: none, one or both when drawn again; the
  # task with one run stays above. At 9 nobody is.
  band = scores.profile_band([[0.5, 1.5], [3.0]], np.array([1.0, 9.0]))
  assert band.tolist() == [[0.5, 0], [1, 0]]
  assert scores.profile_band([[0.5], [3.0]], np.array([1.0])) is None


def test_one_run_has_no_interval():
  assert scores.bootstrap([[1.0], [2.0]]) is None
  assert scores.bootstrap([[1.0], [2.0, 4.0]]) is not None


def test_profile():
  # Every task counts the same, however many runs it has.
  shares = scores.profile([[0.5, 1.5], [0.5]], np.array([0.0, 0.5, 1.0, 2.0]))
  assert shares.tolist() == [1, 0.25, 0.25, 0]


# Published numbers


def test_published_numbers():
  qwr = {
    n.task: (n.score, n.spread)
    for n in published.at_budget(_NUMBERS, 100_000)
    if (n.algorithm, n.table) == ('QWR-LSE', 'Table 1')
  }
  assert qwr == {
    'HalfCheetah': (2323, 332),
    'Walker2d': (1301, 445),
    'Hopper': (1758, 735),
    'Humanoid': (511, 57),
  }
  scale = published.scales(_NUMBERS)
  assert scale['HalfCheetah'] == (0, 11321)
  assert scale['Pong'] == (-20.7, 14.6)
  assert published.normalised(14.6, scale['Pong']) == 1


def test_published_index():
  scale = published.scales(_NUMBERS)
  index = [
    published.normalised(n.score, scale[n.task])
    for n in published.at_budget(_NUMBERS, 100_000)
    if (n.algorithm, n.statistic) == ('CrossQ', 'mean')
  ]
  assert np.mean(index) == pytest.approx(0.78, abs=0.005)


def test_budgets():
  assert published.at_budget(_NUMBERS, 101_500)  # Ends with a whole episode.
  assert not published.at_budget(_NUMBERS, 50_000)
  assert not published.at_budget(_NUMBERS, 100_000, dataset='mine')


@pytest.mark.parametrize(
  ('environment', 'task'),
  [
    ('HalfCheetah-v4', 'HalfCheetah'),
    ('ALE/Pong-v5', 'Pong'),
    ('my_package.mazes:Maze-v0', 'Maze'),
    ('ale_py:ALE/Pong-v5', 'Pong'),
    ('MinAtar/Breakout-v1', 'MinAtar/Breakout'),
    ('BitFlip-20', 'BitFlip-20'),
  ],
)
def test_task(environment, task):
  assert env_names.task(environment) == task


# Rows

_HALF_CHEETAH = [2000.0, 3000.0, 2500.0, 1000.0, 2600.0]


def _run(mode, seed=0, **cells):
  """Two evaluations of five episodes and a final one of ten."""
  row = dict.fromkeys(results.COLUMNS[1:], '') | {
    'algorithm': 'QWR-LSE',
    'preset': 'mujoco_100k',
    'environment': 'HalfCheetah-v4',
    'seed': str(seed),
    'critic_steps': '0',
    'actor_steps': '0',
    'gymnasium': '1.3.0',
    'commit': 'abc',
    'wall_seconds': '600',
  }
  evaluations = [(50_000, mode / 2, 5), (100_000, mode + 9, 5)]
  return [
    row
    | {
      'interactions': str(interactions),
      'return_mode': str(score),
      'return_sampled': str(score - 100),
      'episodes': str(episodes),
    }
    | cells
    for interactions, score, episodes in [*evaluations, (100_000, mode, 10)]
  ]


def _csv(path, *runs):
  """Rows in a CSV, which the experiment is named after unless a row has one."""
  rows = [{'experiment': path.stem} | row for run in runs for row in run]
  results.add(path, [{c: row[c] for c in results.COLUMNS} for row in rows])
  return path


def _experiment(tmp_path, *runs, numbers=()):
  """An experiment of these runs alone."""
  path = tmp_path / 'e.csv'
  path.unlink(missing_ok=True)
  (experiment,) = report_data.load([_csv(path, *runs)], numbers)
  return experiment


def _curve(experiment):
  """The only run's returns, mode action, over its progress."""
  return report_figures.band(experiment.evaluations, 'mode')[0.5].to_dict()


def _five(**cells):
  return [_run(mode, i, **cells) for i, mode in enumerate(_HALF_CHEETAH)]


def test_the_final_evaluation_has_the_most_episodes(tmp_path):
  experiment = _experiment(tmp_path, _run(2000.0))
  (run,) = experiment.runs.to_dict('records')
  assert (run['mode'], run['episodes']) == (2000, 10)
  assert _curve(experiment) == {50_000: 1000, 100_000: 2000}


def test_of_equal_evaluations_the_later_is_final(tmp_path):
  experiment = _experiment(tmp_path, _run(2000.0, episodes='10'))
  assert experiment.runs['mode'].tolist() == [2000]


def test_environments_in_the_papers_order(tmp_path):
  names = 'BitFlip-20 Hopper-v4 BitFlip-5 HalfCheetah-v4 Ant-v4'.split()
  runs = [_run(1.0, environment=name) for name in names]
  experiment = _experiment(tmp_path, *runs)
  assert experiment.environments == [
    'HalfCheetah-v4',
    'Hopper-v4',
    'Ant-v4',
    'BitFlip-5',
    'BitFlip-20',
  ]


def test_a_run_in_two_files_is_refused(tmp_path):
  paths = [_csv(tmp_path / name / 'e.csv', _run(1.0)) for name in 'ab']
  with pytest.raises(ConfigError, match='b/e.csv: HalfCheetah-v4 seed 0'):
    report_data.load(paths)


def test_a_run_twice_in_a_file_is_refused(tmp_path):
  path = _csv(tmp_path / 'a.csv', _run(1.0))
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
  path = _csv(tmp_path / 'a.csv', _run(1.0, **cells))
  with pytest.raises(ConfigError, match=message):
    report_data.load([path])


def test_a_name_that_no_figure_can_have_is_refused(tmp_path):
  path = _csv(tmp_path / 'my runs.csv', _run(1.0))
  with pytest.raises(ConfigError, match='my runs'):
    report_data.load([path])


def test_band_of_runs_evaluated_at_different_moments(tmp_path):
  # The second run's whole episodes end 1000 interactions late.
  late = _run(400.0, seed=1)
  for row, interactions in zip(late, (51_000, 101_000, 101_000), strict=True):
    row['interactions'] = str(interactions)
  experiment = _experiment(tmp_path, _run(200.0), late)
  band = report_figures.band(experiment.evaluations, 'mode')
  assert band.index.tolist() == [51_000, 100_000]  # Where both are known.
  # 200 * (1 / 2 + 1 / 2 * 1 / 50) = 102 and 200; 200 and 396.
  assert band[0.5].tolist() == pytest.approx([151, 298])
  assert band[0.25].tolist() == pytest.approx([126.5, 249])
  assert band[0.75].tolist() == pytest.approx([175.5, 347])


# Data sets


def _offline(algorithm, dataset, scores, seed=0, interactions=(0, 0, 0)):
  row = _run(0.0)[0]
  return [
    row
    | {
      'algorithm': algorithm,
      'preset': '' if algorithm == 'data' else 'offline_mujoco',
      'dataset': dataset,
      'seed': str(seed),
      'interactions': str(made),
      'actor_steps': str(1000 * (i + 1)),
      'return_mode': str(score),
    }
    for i, (score, made) in enumerate(zip(scores, interactions, strict=False))
  ]


def test_offline_runs_beside_their_data(tmp_path):
  runs = [
    _offline(algorithm, dataset, [100.0, 300.0], seed)
    for algorithm in ('QWR-LSE', 'BC')
    for dataset in ('final-v0', 'third-v0')
    for seed in (0, 1)
  ]
  data = _offline('data', 'third-v0', [250.0])
  path = _csv(tmp_path / 'offline.csv', *runs, data)
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
  band = report_figures.band(experiment.of(*cell), 'mode')
  assert band[0.5].to_dict() == {1000: 100.0, 2000: 300.0}
  assert experiment.switches(*cell) == []
  text = report_tables.overview(experiment)
  assert _cells(text, 'data `third-v0` | mode')[2] == '250 (1)'
  assert '8 runs (`offline.csv`)' in report_text.report([experiment], {})


def test_legends_stay_inside_the_figure(tmp_path):
  long = 'actor/Adam.learning_rate = 1e-4; critic/Adam.learning_rate = 5e-4'
  for environments in (['A-v0'], ['A-v0', 'B-v0'], ['A-v0', 'B-v0', 'C-v0']):
    runs = [
      _run(1.0, environment=environment, bindings=bindings)
      for environment in environments
      for bindings in (long, f'{long}; run.replay_capacity = 20000')
    ]
    path = _csv(tmp_path / str(len(environments)) / 'e.csv', *runs)
    (experiment,) = report_data.load([path])
    figure = report_figures.curves(experiment)
    figure.draw_without_rendering()
    (legend,) = figure.subfigs[0].legends
    box, page = legend.get_window_extent(), figure.bbox
    assert page.x0 <= box.x0 and box.x1 <= page.x1, environments


def test_curves_have_the_line_of_their_own_data_set(tmp_path):
  means = {'final-v0': 900.0, 'third-v0': 250.0}
  runs = [
    run
    for dataset, mean in means.items()
    for run in (
      _offline('BC', dataset, [1.0, 2.0]),
      _offline('data', dataset, [mean]),
    )
  ]
  figure = report_figures.curves(_experiment(tmp_path, *runs))
  drawn = [
    {
      line.get_label(): line.get_ydata()[0]
      for line in axes.lines
      if 'mean return' in str(line.get_label())
    }
    for axes in figure.axes
  ]
  assert drawn == [
    {f'{dataset}, mean return of the data': mean}
    for dataset, mean in means.items()
  ]


def test_published_scores_of_one_algorithm_can_be_told_apart(tmp_path):
  # Medians of SAC are in QWR's paper and in SimbaV2's repository.
  run = _run(1.0, algorithm='SAC', preset='tf_agents_sac')
  figure = report_figures.curves(_experiment(tmp_path, run, numbers=_NUMBERS))
  lines = figure.axes[0].lines
  found = [n for n in lines if 'final score' in str(n.get_label())]
  assert [line.get_ydata()[0] for line in found] == [5492, 6056]
  assert len({line.get_linestyle() for line in found}) == 2
  figure = score_figures.bars(_experiment(tmp_path, run))
  texts = [text.get_text() for text in figure.legends[0].get_texts()]
  assert 'published' not in ' '.join(texts)  # As there is no such bar.


def test_where_an_offline_run_began_to_collect(tmp_path):
  run = _offline(
    'AWAC', 'third-v0', [1.0, 2.0, 3.0, 4.0], interactions=(0, 0, 500, 1000)
  )
  experiment = _experiment(tmp_path, run)
  (setting,) = experiment.settings
  assert experiment.switches(setting, 'HalfCheetah-v4') == [2000]


def test_bars_and_curves_show_the_data(tmp_path):
  runs = [
    _offline('QWR-LSE', dataset, [1.0, 300.0 + seed, 350.0], seed, (0, 0, 9))
    for dataset in ('final-v0', 'third-v0')
    for seed in (0, 1)
  ]
  data = [_offline('data', 'third-v0', [250.0])]
  experiment = _experiment(tmp_path, *runs, *data)
  figure = score_figures.bars(experiment)
  lines = [line for line in figure.axes[0].lines if line.get_linewidth() == 2]
  # Across the bar of its own data set, the second one, alone.
  (line,) = lines
  assert list(line.get_xdata()) == [250, 250]
  assert list(line.get_ydata()) == [0.5, 1.5]
  figure = report_figures.curves(experiment)
  first, axes = figure.axes
  assert 'mean return' not in ' '.join(first.get_legend_handles_labels()[1])
  assert axes.get_xlabel() == 'gradient steps'
  labels = axes.get_legend_handles_labels()[1]
  assert 'third-v0, mean return of the data' in labels
  assert [line.get_xdata()[0] for line in axes.lines].count(2000) == 1


# Text


@pytest.mark.parametrize(
  ('value', 'text'),
  [
    (2323.4, '2323'),
    (99.96, '100'),
    (12.34, '12.3'),
    (-7.6, '-7.60'),
    (-0.001, '0.00'),
  ],
)
def test_number(value, text):
  assert report_tables.number(value) == text


def _cells(text, start):
  """Cells of the first table line that starts with something."""
  line = next(s for s in text.splitlines() if s.startswith(f'| {start}'))
  return [cell.strip() for cell in line.strip('| ').split('|')]


def _report(tmp_path, *runs, numbers=_NUMBERS):
  path = _csv(tmp_path / 'mujoco_100k.csv', *runs)
  return report_text.report(report_data.load([path], numbers), {})


def test_report_of_five_seeds(tmp_path):
  text = _report(tmp_path, *_five())
  overview, _, details = text.partition('### HalfCheetah-v4')
  name = 'QWR-LSE `mujoco_100k`'
  # Sorted 1000, 2000, 2500, 2600, 3000: quartiles 2000 and 2600; mean 2220;
  # IQM (2000 + 2500 + 2600) / 3.
  assert _cells(overview, name) == [
    name,
    'mode',
    '2500 ± 300 (5)',
    *['–'] * 3,  # Nobody ran the other tasks of the paper's table.
  ]
  assert _cells(overview, f'{name} | sampled')[2] == '2400 ± 300 (5)'
  cells = _cells(details, name)
  assert cells[1:6] == ['100000', '5', '10', '2500 ± 300', '2220']
  assert re.fullmatch(r'2367 \[1\d{3}, 2\d{3}\]', cells[6])
  assert cells[7:9] == ['2400 ± 300', '2120']
  assert '5 runs' in text and 'gymnasium 1.3.0' in text and 'abc (5)' in text
  assert '10.0 minutes a run' in text


def test_published_scores_stand_beside(tmp_path):
  text = _report(tmp_path, *_five())
  header = _cells(text, ' ')
  assert header[1:] == ['HalfCheetah-v4', 'Walker2d', 'Hopper', 'Humanoid']
  assert _cells(text, '*QWR-LSE*, QWR paper Table 1')[1:] == [
    '–',
    '2323 ± 332',
    '1301 ± 445',
    '1758 ± 735',
    '511 ± 57',
  ]
  # Ours are medians: so are theirs, where medians are known.
  assert _cells(text, '*CrossQ*')[2:] == [
    '8355 ± 379',
    '4726 ± 945',
    '3169 ± 520',
    '1609 ± 1556',
  ]
  assert (
    '*CrossQ*, SimbaV2 repository, gymnasium v4, mean'
    not in (text.partition('### Index')[0])
  )
  assert 'Table 3' not in text  # Another number of interactions.
  assert "test returns of AWR's published logs" in text
  # One line for all that it is true of.
  (note,) = re.findall('^.*: computed from the seeds.*$', text, re.MULTILINE)
  assert note.startswith('*SAC*, *DroQ*, *REDQ*, *CrossQ*, SimbaV2 repository,')
  assert 'dojeon-ai/SimbaV2 at commit 14fafb2' in note


def test_data_sets_that_nothing_learned_from(tmp_path):
  path = tmp_path / 'offline.csv'
  data = {'experiment': 'offline', 'algorithm': results.DATA, 'dataset': 'x'}
  results.add(path, _run(5.0, **data)[-1:])
  with pytest.raises(ConfigError, match='offline.csv'):
    report_data.load([path])


def test_nothing_published_for_another_budget(tmp_path):
  text = _report(tmp_path, _run(5.0, interactions='40000'))
  assert '*QWR-LSE*' not in text
  assert _cells(text, 'QWR-LSE `mujoco_100k`')[2:] == ['5.00 (1)']


def test_what_was_not_measured_is_not_there(tmp_path):
  text = _report(
    tmp_path,
    _run(50.0, environment='Hopper-v4', return_sampled=''),
    _run(60.0, algorithm='AWR', preset='awr'),
    numbers=(),
  )
  assert _cells(text, 'QWR-LSE `mujoco_100k` | mode')[2:] == ['–', '50.0 (1)']
  assert _cells(text, 'QWR-LSE `mujoco_100k` | sampled')[2:] == ['–', '–']
  assert _cells(text, 'AWR `awr` | mode')[2:] == ['60.0 (1)', '–']
  _, _, hopper = text.partition('### Hopper-v4')
  row = _cells(hopper, 'QWR-LSE `mujoco_100k`')
  assert row[4:] == ['50.0', '50.0', '50.0', '–', '–', '–']
  # All numbers of the text are those of the rows.
  tables = ''.join(s for s in text.splitlines() if s.startswith('| '))
  numbers = set(re.findall(r'-?[\d.]+\d', re.sub(r'\S*[a-z]\S*', '', tables)))
  assert numbers == {'50.0', '60.0', '-40.0', '100000', '10', '95'}  # 95 %


def test_index_needs_all_four_tasks(tmp_path):
  known = {'HalfCheetah-v4': 11321, 'Walker2d-v4': 4536, 'Hopper-v4': 2787}
  # SAC's own scores at 1M on three tasks.
  runs = [_run(float(s), environment=e) for e, s in known.items()]
  assert '(no setting has runs of all four' in _report(tmp_path, *runs)
  # And three times it on the fourth: (1 + 1 + 1 + 3) / 4.
  text = _report(tmp_path, _run(4826.0 * 3, environment='Humanoid-v4'))
  _, _, index = text.partition('### Index')
  assert _cells(index, 'QWR-LSE')[1:5] == ['mode', '4', '1.50', '1.50']
  assert _cells(index, '*QWR-LSE*')[2:] == ['4', '0.31', '–', '–']
  crossq = '*CrossQ*, SimbaV2 repository, gymnasium v4'
  assert _cells(index, f'{crossq}, mean')[2:] == ['4', '–', '0.78', '–']
  assert _cells(index, f'{crossq}, median')[2:] == ['4', '0.81', '–', '–']


def test_two_versions_of_a_task_make_no_index(tmp_path):
  names = 'HalfCheetah-v4 HalfCheetah-v5 Hopper-v4 Walker2d-v4 Humanoid-v4'
  text = _report(
    tmp_path, *(_run(1000.0, environment=e) for e in names.split())
  )
  assert '(no setting has runs of all four' in text


def test_other_collections_games_are_not_ataris(tmp_path):
  text = _report(tmp_path, _run(6.0, environment='MinAtar/Breakout-v1'))
  assert 'Human-normalised' not in text


def test_no_index_where_nobody_wanted_one(tmp_path):
  path = _csv(tmp_path / 'variants.csv', _run(1.0))
  assert 'Index' not in report_text.report(report_data.load([path]), {})


# Ablations


def _ablation(tmp_path, **cells):
  factors = {
    '': [100.0, 200.0, 300.0],
    'QwrAgent.horizon = 3': [90.0, 100.0, 400.0],
    'a.b = 1; c.d = 2': [250.0],
  }
  runs = [
    _run(score, seed, bindings=bindings, **cells)
    for bindings, found in factors.items()
    for seed, score in enumerate(found)
  ]
  hopper = _run(500.0, environment='Hopper-v4', return_sampled='', **cells)
  return _csv(tmp_path / 'ablation.csv', hopper, *runs)


def test_factors_beside_the_centre(tmp_path):
  experiments = report_data.load([_ablation(tmp_path)], _NUMBERS)
  text = report_text.report(experiments, {})
  mode, _, sampled = text.partition('**Sampled**')
  columns = ['difference', 'P(better)']
  header = ['HalfCheetah-v4', *columns, 'Hopper-v4', *columns]
  assert _cells(mode, ' ') == header
  lines = [line for line in mode.splitlines() if line.startswith('| ')]
  assert lines[2].startswith(
    '| QWR-LSE `mujoco_100k` (centre) | 200 ± 50 (3) |'
  )
  # The median of (90, 100, 400) less that of (100, 200, 300); extremes of
  # resamples: 90 - 300 and 400 - 100.
  assert _cells(mode, '`QwrAgent.horizon = 3`')[1:] == [
    '100 ± 78 (3)',
    '-100 [-210, +300]',
    '0.39',  # 400 is above all three, 100 as high as one: 3.5 of 9 pairs.
    '–',
    '–',
    '–',
  ]
  # One run has a difference but no interval.
  assert _cells(mode, '`a.b = 1` `c.d = 2`')[1:4] == ['250 (1)', '+50', '0.67']
  cells = _cells(sampled, 'QWR-LSE `mujoco_100k` (centre)')
  assert cells[1:] == ['100 ± 50 (3)', '', '', '–']
  assert '_profile.png' not in text
  # All statistics, and what the paper has, stand below.
  assert '*QWR-LSE*, QWR paper Table 1' in text.partition('### HalfCheetah')[2]


def _factors(names):
  return f'<!-- factors:begin {names} -->\nold\n<!-- factors:end -->\n'


def test_factors_of_two_centres_side_by_side_in_the_readme(tmp_path):
  (tmp_path / 'README.md').write_text(_README + _factors('ablation, other'))
  folder = tmp_path / 'results'
  other = [
    _run(7.0, environment='Hopper-v4'),
    _run(9.0, bindings='QwrAgent.horizon = 3', environment='Hopper-v4'),
    _run(8.0, algorithm='QWR-MAX', bindings='b.c = 1', environment='Hopper-v4'),
  ]
  raw = [_ablation(folder), _csv(folder / 'other.csv', *other)]
  experiments = report_data.load(raw)
  text = (tmp_path / 'README.md').read_text()
  text = report_text.rewritten_readme(text, experiments, 'results')
  _, begin, section = text.partition('<!-- factors:begin ablation, other -->\n')
  assert begin and section.endswith('<!-- factors:end -->\n')
  assert 'old' not in text
  lines = [line for line in section.splitlines() if line.startswith('| ')]
  assert [line.strip('| ').split(' | ') for line in lines] == [
    [
      'HalfCheetah-v4, `ablation`',
      'HalfCheetah-v4, `other`',
      'Hopper-v4, `ablation`',
      'Hopper-v4, `other`',
    ],
    ['---', '---:', '---:', '---:', '---:'],
    ['no change', '200 ± 50 (3)', '–', '500 (1)', '7.00 (1)'],
    ['`QwrAgent.horizon = 3`', '100 ± 78 (3)', '–', '–', '9.00 (1)'],
    ['`a.b = 1` `c.d = 2`', '250 (1)', '–', '–', '–'],
    ['`b.c = 1`', '–', '–', '–', '8.00 (1)'],
  ]


@pytest.mark.parametrize(
  'section, message',
  [
    (_factors('ablation, nothing'), "'nothing'"),
    (_factors('ablation, mujoco_100k'), "'mujoco_100k'"),
    (_factors(''), "''"),
    ('<!-- factors:begin ablation -->', 'factors:end'),
    ('<!-- factors:end -->', 'factors:begin'),
    (_factors('ablation') * 2, 'factors:begin ablation'),
  ],
)
def test_factors_that_the_readme_cannot_have(section, message, tmp_path):
  text = _README + section
  (tmp_path / 'README.md').write_text(text)
  folder = tmp_path / 'results'
  raw = [_ablation(folder), _csv(folder / 'mujoco_100k.csv', _run(1.0))]
  with pytest.raises(ConfigError, match=message):
    report.write(raw, folder, tmp_path / 'README.md')
  assert (tmp_path / 'README.md').read_text() == text


def test_figures_of_factors_can_be_compared_with_the_centre(tmp_path):
  factors = [f'a.b = {i}' for i in range(6)]  # Two rows of panels.
  runs = [_run(100.0 * i, bindings=f) for i, f in enumerate(factors)]
  plain = [_run(score, seed) for seed, score in enumerate((10, 20, 30, 70))]
  (found,) = report_data.load([_csv(tmp_path / 'ablation.csv', *plain, *runs)])
  figure = score_figures.bars(found)
  dashed = [ln for ln in figure.axes[0].lines if ln.get_linestyle() == '--']
  assert [list(line.get_xdata()) for line in dashed] == [[25, 25]]
  assert figure.axes[0].get_yticklabels()[0].get_text().endswith('(centre)')
  # The quartiles of 10, 20, 30, 70 are not as far from their median.
  (whisker,) = [
    path.vertices[:, 0]
    for bar in figure.axes[0].containers[:2]
    for lines in (bar.lines[2] if hasattr(bar, 'lines') else ())
    for path in lines.get_paths()
  ]
  assert list(whisker) == [17.5, 40]
  figure = report_figures.curves(found)
  limits = {axis.get_ylim() for axis in figure.axes}
  assert len(figure.axes) == 2
  assert len(limits) == 1
  assert max(max(limits)) > 500  # The last factor's, in the second row.


def test_what_is_no_ablation(tmp_path):
  (found,) = report_data.load([_ablation(tmp_path)])
  assert found.centre == found.settings[0]
  # Two centres.
  other = _run(1.0, algorithm='AWR', preset='awr')
  (found,) = report_data.load([_csv(tmp_path / 'ablation.csv', other)])
  assert found.centre is None
  # The preset's own CSV has the published scores in its table.
  runs = [_run(1.0), _run(2.0, bindings='a.b = 1')]
  (found,) = report_data.load([_csv(tmp_path / 'mujoco_100k.csv', *runs)])
  assert found.centre is None
  (found,) = report_data.load([_csv(tmp_path / 'one.csv', runs[0])])
  assert found.centre is None


def test_human_normalised(tmp_path):
  # Pong: the human's 14.6, the random -20.7. Breakout's human: 30.5.
  text = _report(
    tmp_path,
    _run(14.6, environment='ALE/Pong-v5'),
    _run(-20.7, seed=1, environment='ALE/Pong-v5'),
    _run(30.5, environment='ALE/Breakout-v5'),
  )
  assert 'over 2 of 6 games' in text
  _, _, normalised = text.partition('### Human-normalised')
  # Pong (1 + 0) / 2, Breakout 1; Pong's mean is 0, 0.5 or 1 in resamples.
  assert _cells(normalised, 'QWR-LSE')[1:5] == [
    'mode',
    '2',
    '0.75 [0.50, 1.00]',
    '0.75 [0.50, 1.00]',
  ]


def test_a_game_without_a_random_score_has_no_scale(tmp_path):
  left = [n for n in _NUMBERS if (n.task, n.algorithm) != ('Pong', 'random')]
  assert published.games(left) == {
    'Boxing', 'Breakout', 'Freeway', 'Gopher', 'Seaquest',
  }  # fmt: skip


def test_the_readme_is_that_of_the_default_output_alone(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  flags.FLAGS.mark_as_parsed()
  monkeypatch.setattr(flags.FLAGS['output'], 'value', 'other')
  (tmp_path / 'README.md').write_text(_README)
  _csv(tmp_path / 'a.csv', _run(50.0))
  for _ in range(2):  # Before there is such a folder, and when there is one.
    report.main(['a.csv'])
    assert (tmp_path / 'README.md').read_text() == _README
  monkeypatch.setattr(flags.FLAGS['output'], 'value', 'results')
  report.main(['a.csv'])
  text = (tmp_path / 'README.md').read_text()
  assert 'old' not in text and '[results](results/README.md)' in text


# Files


def test_report_is_deterministic(tmp_path):
  path = _csv(tmp_path / 'mujoco_100k.csv', *_five())
  report.write([path], tmp_path, None, published.DEFAULT_PATH)
  before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
  assert set(before) == {
    'README.md',
    'mujoco_100k.csv',
    'mujoco_100k.png',
    'mujoco_100k_profile.png',
    'mujoco_100k_scores.png',
  }
  report.write([path], tmp_path, None, published.DEFAULT_PATH)
  assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_many_settings_share_their_figures(tmp_path):
  settings = [f'QwrAgent.horizon = {i}' for i in range(8)]
  runs = [_run(float(i), bindings=b) for i, b in enumerate(['', *settings])]
  _report(tmp_path, *runs)
  (experiment,) = report_data.load([tmp_path / 'mujoco_100k.csv'])
  first = experiment.settings[0]
  assert first.bindings == ''
  chunks = report_figures.chunks(experiment.settings)
  assert [len(chunk) for chunk in chunks] == [6, 4]
  assert all(chunk[0] == first for chunk in chunks)
  assert experiment.labels[experiment.settings[1]] == (
    'QWR-LSE: QwrAgent.horizon=0'
  )


def test_readme_section(tmp_path):
  (tmp_path / 'README.md').write_text(_README.replace('Rest', 'Two factors: …'))
  folder = tmp_path / 'results'
  raw = [
    _csv(folder / 'mujoco_100k.csv', *_five()),
    _csv(folder / 'ablation.csv', _run(77.0)),
  ]
  report.write(raw, folder, tmp_path / 'README.md', published.DEFAULT_PATH)
  text = (tmp_path / 'README.md').read_text()
  assert text.startswith(f'# Name\n\n{report_text.BEGIN}\n')
  assert text.endswith(f'{report_text.END}\n\nTwo factors: …\n')
  assert 'old' not in text
  assert '| 2500 ± 300 (5) |' in text and '](results/README.md)' in text
  assert '![Learning curves](results/mujoco_100k.png)' in text
  assert '77.0' not in text  # An ablation is left to the long report.
  assert '77.0' in (folder / 'README.md').read_text()


@pytest.mark.parametrize(
  'text',
  ['', report_text.BEGIN, _README * 2, f'{report_text.END}{report_text.BEGIN}'],
)
def test_a_readme_without_its_section_is_refused(text, tmp_path):
  (tmp_path / 'README.md').write_text(text)
  path = _csv(tmp_path / 'results' / 'mujoco_100k.csv', _run(1.0))
  with pytest.raises(ConfigError, match='README'):
    report.write([path], path.parent, tmp_path / 'README.md')
  assert (tmp_path / 'README.md').read_text() == text
  assert [p.name for p in path.parent.iterdir()] == ['mujoco_100k.csv']


def test_other_csvs_are_left_out(tmp_path):
  other = tmp_path / 'peers.csv'
  other.write_text('library,steps_per_second\nours,1\n')
  with pytest.raises(ConfigError, match='raw rows'):
    report.write([other, published.DEFAULT_PATH], tmp_path)
  with pytest.raises(ConfigError, match='none.csv'):
    report.write([tmp_path / 'none.csv'], tmp_path)


def test_notes_say_what_was_run(tmp_path):
  path = _csv(tmp_path / 'variants.csv', _run(1.0))
  (tmp_path / 'variants.md').write_text('Around the first\nrecipe.\n')
  report.write([path], tmp_path)
  text = (tmp_path / 'README.md').read_text()
  assert '## variants\n\n> Around the first\n> recipe.\n\n1 run (' in text


# The command


def _command(cwd, *arguments):
  return subprocess.run(
    [sys.executable, '-m', 'qwr_tf.report', *arguments],
    capture_output=True,
    text=True,
    cwd=cwd,
    env={'PYTHONPATH': str(_ROOT), 'HOME': str(cwd), 'OMP_NUM_THREADS': '1'},
    timeout=120,
  )


@pytest.mark.slow
def test_command(tmp_path):
  _csv(tmp_path / 'results' / 'mujoco_100k.csv', _run(50.0))
  done = _command(tmp_path, 'results/mujoco_100k.csv', '--output', 'results')
  assert (done.returncode, done.stderr) == (0, '')
  assert done.stdout.splitlines() == [
    'results/README.md',
    'results/mujoco_100k.png',
    'results/mujoco_100k_scores.png',
    'results/mujoco_100k_profile.png',
  ]


def test_a_folder_stands_for_its_csvs(tmp_path, monkeypatch, capsys):
  monkeypatch.chdir(tmp_path)
  flags.FLAGS.mark_as_parsed()
  folder = tmp_path / 'results'
  for name in ('a', 'b'):
    _csv(folder / f'{name}.csv', _run(50.0))
  report.main(['results'])
  assert 'results/b.png' in capsys.readouterr().out
  text = (folder / 'README.md').read_text()
  with pytest.raises(ConfigError, match='results/b.csv'):
    report.main(['results/a.csv'])
  assert (folder / 'README.md').read_text() == text


@pytest.mark.slow
@pytest.mark.parametrize(
  ('arguments', 'named'),
  [
    ((), 'CSV'),
    (('none.csv',), 'none.csv'),
    (('--outptu=x', 'a.csv'), 'outptu'),
  ],
)
def test_command_refuses_bad_input(arguments, named, tmp_path):
  done = _command(tmp_path, *arguments)
  assert (done.returncode, done.stdout) == (2, '')
  (line,) = done.stderr.splitlines()
  assert line.startswith('error: ') and named in line


def test_a_score_stands_beside_the_published_ones():
  """Table 2's row, both OTRainbow numbers; human = 14.6, random = -20.7."""
  lines = published.beside('ALE/Pong-v5', 100_000, -3.05)
  assert 'QWR-LSE -7.6 (QWR paper, mean)' in lines[0]
  assert 'OTRainbow -19.3' in lines[0] and 'OTRainbow 1.3' in lines[0]
  assert 'OTRainbow 1.3 (OTRainbow paper, statistic not stated)' in lines[0]
  # (-3.05 + 20.7) / (14.6 + 20.7) = 17.65 / 35.3 = 0.5
  assert lines[1].startswith('human-normalised: 0.500 ')
  (line,) = published.beside('Hopper-v4', 100_000, 1.0)
  assert 'QWR-LSE 1758 (QWR paper, median)' in line
  assert 'CrossQ 3169 (SimbaV2 repository, median)' in line
  assert 'CrossQ 2764' not in line  # Its mean.
  assert published.beside('ALE/Pong-v5', 3_000, -3.05) == lines[1:]
  # Those runs did not begin with logged data.
  assert published.beside('Hopper-v4', 100_000, 1.0, 'set-v0') == []
  assert published.beside('BitFlip-20', 10_000, 5.0) == []


def test_curves_of_two_data_sets_are_in_panels_of_their_own():
  settings = [
    report_data.Setting(algorithm, 'preset', '', dataset)
    for dataset in ('final-v0', 'third-v0')
    for algorithm in ('QWR-LSE', 'BC')
  ]
  chunks = report_figures.chunks(settings)
  assert chunks == [settings[:2], settings[2:]]


def test_profiles_begin_at_one_and_end_at_zero(tmp_path):
  runs = _run(-50.0), _run(900.0, seed=1)
  figure = score_figures.profile(_experiment(tmp_path, *runs, numbers=_NUMBERS))
  ((line,),) = [axis.lines for axis in figure.axes]
  assert list(line.get_ydata()[[0, -1]]) == [1.0, 0.0]


def test_profiles_are_of_the_mode_action(tmp_path):
  # SAC at 1M, 11321, counts as 1; sampled, a run has 100 less.
  runs = [_run(11321.0), _run(22642.0, seed=1)]
  experiment = _experiment(tmp_path, *runs, numbers=_NUMBERS)
  (normalised,) = score_figures.profile_scores(experiment).values()
  assert normalised == {'HalfCheetah-v4': [1.0, 2.0]}


def test_bars_are_as_long_as_the_median(tmp_path):
  runs = [_run(score, seed) for seed, score in enumerate([0.0, 10.0, 80.0])]
  figure = score_figures.bars(_experiment(tmp_path, *runs))
  (bar,) = figure.axes[0].patches
  assert bar.get_width() == 10  # The mean is 30.


def test_solid_curves_are_mode_returns_and_dashed_ones_sampled(tmp_path):
  figure = report_figures.curves(_experiment(tmp_path, _run(200.0)))
  drawn = {n.get_linestyle(): list(n.get_ydata()) for n in figure.axes[0].lines}
  assert drawn == {'-': [100, 200], '--': [0, 100]}


def test_the_budget_is_what_most_runs_had(tmp_path):
  made = 50_000, 100_000, 100_000, 100_000, 1_000_000
  runs = [_run(1.0, i, interactions=str(n)) for i, n in enumerate(made)]
  experiment = _experiment(tmp_path, *runs)
  assert experiment.budget == 100_000


@pytest.mark.parametrize('text', ['', 'experiment;algorithm\n1;2\n'])
def test_a_damaged_file_is_not_left_out(text, tmp_path):
  good, bad = _csv(tmp_path / 'good.csv', _run(1.0)), tmp_path / 'bad.csv'
  bad.write_text(text)
  with pytest.raises(ConfigError, match='bad.csv'):
    report.write([good, bad], tmp_path)
  assert not (tmp_path / 'README.md').exists()


def test_a_byte_order_mark_is_no_damage(tmp_path):
  path = _csv(tmp_path / 'good.csv', _run(1.0))
  path.write_bytes(b'\xef\xbb\xbf' + path.read_bytes())
  report.write([path], tmp_path)
  assert '## good' in (tmp_path / 'README.md').read_text()


def test_columns_of_the_index_are_what_their_heads_say():
  medians, means, iqm = report_tables.aggregates([[1.0, 2.0, 6.0], [0.0] * 3])
  assert medians.startswith('1.00 [') and means.startswith('1.50 [')


def test_offline_curves_count_actor_steps(tmp_path):
  run = [
    row
    | {'critic_steps': '7000', 'actor_steps': str(steps), 'dataset': 'd'}
    | {'interactions': '0'}
    for row, steps in zip(_run(200.0), (1000, 2000, 2000), strict=True)
  ]
  assert list(_curve(_experiment(tmp_path, run))) == [1000, 2000]


def test_settings_without_bindings_come_first(tmp_path):
  runs = [
    _run(1.0, algorithm='QWR-LSE', bindings='a.b = 1'),
    _run(1.0, algorithm='AWR', preset='awr'),
    _run(1.0, algorithm='QWR-MAX'),
  ]
  experiment = _experiment(tmp_path, *runs)
  found = [s.algorithm for s in experiment.settings]
  assert found == ['QWR-MAX', 'AWR', 'QWR-LSE']


def test_provenance_has_the_median_minutes_and_the_threads(tmp_path):
  runs = [
    _run(1.0, i, wall_seconds=str(s), threads='1', host_cores='8')
    for i, s in enumerate((60, 120, 6000))
  ]
  assert '2.0 minutes a run in the median (threads: 1)' in _report(
    tmp_path, *runs
  )


def test_human_normalised_scores_count_games_alone(tmp_path):
  runs = [_run(1.0, environment=e) for e in ('ALE/Pong-v5', 'Hopper-v4')]
  assert 'over 1 of 6 games' in _report(tmp_path, *runs)


def test_episodes_that_differ_are_a_range(tmp_path):
  more = _run(1.0, seed=1)
  more[-1]['episodes'] = '20'
  _, _, details = _report(tmp_path, _run(1.0), more).partition('### HalfC')
  assert _cells(details, 'QWR-LSE')[3] == '10-20'


def test_unknown_commits_say_so(tmp_path):
  assert 'commit unknown (1)' in _report(tmp_path, _run(1.0, commit=''))


def test_only_returns_on_gymnasium_v4_are_compared_and_scale():
  number = published.Number(
    'paper',
    '',
    'gymnasium v4',
    '',
    'SAC',
    'Hopper',
    1_000_000,
    'return',
    'mean',
    2787.0,
    None,
    '',
    '',
  )
  other = number._replace(metric='d4rl-normalised', score=50.0)
  assert published.at_budget([number, other], 1_000_000) == [number]
  old = number._replace(environments='gym v2', score=3167.0)
  assert published.scales([number, old]) == {'Hopper': (0.0, 2787.0)}


def test_the_readme_has_one_picture_of_an_experiment(tmp_path):
  (tmp_path / 'README.md').write_text(_README)
  path = _csv(tmp_path / 'results' / 'mujoco_100k.csv', *_five())
  report.write(
    [path], tmp_path / 'results', tmp_path / 'README.md', published.DEFAULT_PATH
  )
  assert (tmp_path / 'README.md').read_text().count('![') == 1


@pytest.mark.parametrize(
  ('environment', 'expert'),
  [
    ('Ant-v4', 3879.7),
    ('HalfCheetah-v4', 12135.0),
    ('Hopper-v4', 3234.3),
    ('Walker2d-v4', 4592.3),
    ('AdroitHandDoor-v1', 2880.5693),
    ('AdroitHandHammer-v1', 12794.1348),
    ('AdroitHandPen-v1', 3076.8331),
    ('AdroitHandRelocate-v1', 4233.8778),
    ('FrankaKitchen-v1', 4.0),
  ],
)
def test_d4rl_experts_have_100(environment, expert):
  assert d4rl.normalised(environment, expert) == pytest.approx(100.0, abs=1e-4)


def test_bands_go_from_quartile_to_quartile(tmp_path):
  experiment = _experiment(tmp_path, *_five())
  figure = report_figures.curves(experiment)
  (area,) = figure.axes[0].collections
  y = area.get_paths()[0].vertices[:, 1]
  assert (y.min(), y.max()) == (1000, 2600)


def test_the_diamond_is_at_the_iqm(tmp_path):
  experiment = _experiment(tmp_path, *_five())
  figure = score_figures.bars(experiment)
  (x,) = [
    line.get_xdata()[0]
    for line in figure.axes[0].lines
    if line.get_marker() == 'D'
  ]
  assert x == pytest.approx(7100 / 3)  # Of 2000, 2500, 2600.
