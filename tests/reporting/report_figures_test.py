"""What lines, bars and legends of the figures show."""

import pytest

from qwr_tf.reporting import report_data
from qwr_tf.reporting import report_figures
from qwr_tf.reporting import score_figures
from tests.reporting import rows


def test_band_of_runs_evaluated_at_different_moments(tmp_path):
  # The second run's whole episodes end 1000 interactions late.
  late = rows.run(400.0, seed=1)
  for row, interactions in zip(late, (51_000, 101_000, 101_000), strict=True):
    row['interactions'] = str(interactions)
  experiment = rows.experiment_of(tmp_path, rows.run(200.0), late)
  band = score_figures.band(experiment.evaluations, 'mode')
  assert band.index.tolist() == [51_000, 100_000]  # Where both are known.
  # 200 * (1 / 2 + 1 / 2 * 1 / 50) = 102 and 200; 200 and 396.
  assert band[0.5].tolist() == pytest.approx([151, 298])
  assert band[0.25].tolist() == pytest.approx([126.5, 249])
  assert band[0.75].tolist() == pytest.approx([175.5, 347])


@pytest.mark.slow
def test_legends_stay_inside_the_figure(tmp_path):
  long = 'actor/Adam.learning_rate = 1e-4; critic/Adam.learning_rate = 5e-4'
  for environments in (['A-v0'], ['A-v0', 'B-v0'], ['A-v0', 'B-v0', 'C-v0']):
    runs = [
      rows.run(1.0, environment=environment, bindings=bindings)
      for environment in environments
      for bindings in (long, f'{long}; run.replay_capacity = 20000')
    ]
    path = rows.write_csv(tmp_path / str(len(environments)) / 'e.csv', *runs)
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
      rows.offline_run('BC', dataset, [1.0, 2.0]),
      rows.offline_run('data', dataset, [mean]),
    )
  ]
  figure = report_figures.curves(rows.experiment_of(tmp_path, *runs))
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
  run = rows.run(1.0, algorithm='SAC', preset='tf_agents_sac')
  figure = report_figures.curves(
    rows.experiment_of(tmp_path, run, numbers=rows.NUMBERS)
  )
  lines = figure.axes[0].lines
  found = [n for n in lines if 'final score' in str(n.get_label())]
  assert [line.get_ydata()[0] for line in found] == [5492, 6056]
  assert len({line.get_linestyle() for line in found}) == 2
  figure = score_figures.bars(rows.experiment_of(tmp_path, run))
  texts = [text.get_text() for text in figure.legends[0].get_texts()]
  assert 'published' not in ' '.join(texts)  # As there is no such bar.


def test_bars_and_curves_show_the_data(tmp_path):
  runs = [
    rows.offline_run(
      'QWR-LSE', dataset, [1.0, 300.0 + seed, 350.0], seed, (0, 0, 9)
    )
    for dataset in ('final-v0', 'third-v0')
    for seed in (0, 1)
  ]
  data = [rows.offline_run('data', 'third-v0', [250.0])]
  experiment = rows.experiment_of(tmp_path, *runs, *data)
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


def test_figures_of_factors_can_be_compared_with_the_centre(tmp_path):
  factors = [f'a.b = {i}' for i in range(6)]  # Two rows of panels.
  runs = [rows.run(100.0 * i, bindings=f) for i, f in enumerate(factors)]
  plain = [rows.run(score, seed) for seed, score in enumerate((10, 20, 30, 70))]
  (found,) = report_data.load(
    [rows.write_csv(tmp_path / 'ablation.csv', *plain, *runs)]
  )
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


def test_many_settings_share_their_figures(tmp_path):
  settings = [f'QwrAgent.horizon = {i}' for i in range(8)]
  runs = [rows.run(float(i), bindings=b) for i, b in enumerate(['', *settings])]
  rows.report_of(tmp_path, *runs)
  (experiment,) = report_data.load([tmp_path / 'mujoco_100k.csv'])
  first = experiment.settings[0]
  assert first.bindings == ''
  chunks = report_figures.chunks(experiment.settings)
  assert [len(chunk) for chunk in chunks] == [6, 4]
  assert all(chunk[0] == first for chunk in chunks)
  assert experiment.labels[experiment.settings[1]] == (
    'QWR-LSE: QwrAgent.horizon=0'
  )


def test_curves_of_two_data_sets_are_in_panels_of_their_own():
  settings = [
    report_data.Setting(algorithm, 'preset', '', dataset)
    for dataset in ('final-v0', 'third-v0')
    for algorithm in ('QWR-LSE', 'BC')
  ]
  chunks = report_figures.chunks(settings)
  assert chunks == [settings[:2], settings[2:]]


def test_profiles_begin_at_one_and_end_at_zero(tmp_path):
  runs = rows.run(-50.0), rows.run(900.0, seed=1)
  figure = score_figures.profile(
    rows.experiment_of(tmp_path, *runs, numbers=rows.NUMBERS)
  )
  ((line,),) = [axis.lines for axis in figure.axes]
  assert list(line.get_ydata()[[0, -1]]) == [1.0, 0.0]


def test_profiles_are_of_the_mode_action(tmp_path):
  # SAC at 1M, 11321, counts as 1; sampled, a run has 100 less.
  runs = [rows.run(11321.0), rows.run(22642.0, seed=1)]
  experiment = rows.experiment_of(tmp_path, *runs, numbers=rows.NUMBERS)
  (normalised,) = score_figures.profile_scores(experiment).values()
  assert normalised == {'HalfCheetah-v4': [1.0, 2.0]}


def test_bars_are_as_long_as_the_median(tmp_path):
  runs = [rows.run(score, seed) for seed, score in enumerate([0.0, 10.0, 80.0])]
  figure = score_figures.bars(rows.experiment_of(tmp_path, *runs))
  (bar,) = figure.axes[0].patches
  assert bar.get_width() == 10  # The mean is 30.


def test_solid_curves_are_mode_returns_and_dashed_ones_sampled(tmp_path):
  figure = report_figures.curves(rows.experiment_of(tmp_path, rows.run(200.0)))
  drawn = {n.get_linestyle(): list(n.get_ydata()) for n in figure.axes[0].lines}
  assert drawn == {'-': [100, 200], '--': [0, 100]}


def test_bands_go_from_quartile_to_quartile(tmp_path):
  experiment = rows.experiment_of(tmp_path, *rows.five_runs())
  figure = report_figures.curves(experiment)
  (area,) = figure.axes[0].collections
  y = area.get_paths()[0].vertices[:, 1]
  assert (y.min(), y.max()) == (1000, 2600)


def test_the_diamond_is_at_the_iqm(tmp_path):
  experiment = rows.experiment_of(tmp_path, *rows.five_runs())
  figure = score_figures.bars(experiment)
  (x,) = [
    line.get_xdata()[0]
    for line in figure.axes[0].lines
    if line.get_marker() == 'D'
  ]
  assert x == pytest.approx(7100 / 3)  # Of 2000, 2500, 2600.
