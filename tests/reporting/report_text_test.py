"""Tables and texts whose numbers can be checked by eye."""

import re

import pytest

from qwr_tf import report
from qwr_tf.config.errors import ConfigError
from qwr_tf.reporting import report_data
from qwr_tf.reporting import report_tables
from qwr_tf.reporting import report_text
from tests.reporting import rows


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


def test_report_of_five_seeds(tmp_path):
  text = rows.report_of(tmp_path, *rows.five_runs())
  overview, _, details = text.partition('### HalfCheetah-v4')
  name = 'QWR-LSE `mujoco_100k`'
  # Sorted 1000, 2000, 2500, 2600, 3000: quartiles 2000 and 2600; mean 2220;
  # IQM (2000 + 2500 + 2600) / 3.
  assert rows.cells_of(overview, name) == [
    name,
    'mode',
    '2500 ± 300 (5)',
    *['–'] * 3,  # Nobody ran the other tasks of the paper's table.
  ]
  assert rows.cells_of(overview, f'{name} | sampled')[2] == '2400 ± 300 (5)'
  cells = rows.cells_of(details, name)
  assert cells[1:6] == ['100000', '5', '10', '2500 ± 300', '2220']
  assert re.fullmatch(r'2367 \[1\d{3}, 2\d{3}\]', cells[6])
  assert cells[7:9] == ['2400 ± 300', '2120']
  assert '5 runs' in text and 'gymnasium 1.3.0' in text and 'abc (5)' in text
  assert '10.0 minutes a run' in text


def test_published_scores_stand_beside(tmp_path):
  text = rows.report_of(tmp_path, *rows.five_runs())
  header = rows.cells_of(text, ' ')
  assert header[1:] == ['HalfCheetah-v4', 'Walker2d', 'Hopper', 'Humanoid']
  assert rows.cells_of(text, '*QWR-LSE*, QWR paper Table 1')[1:] == [
    '–',
    '2323 ± 332',
    '1301 ± 445',
    '1758 ± 735',
    '511 ± 57',
  ]
  # Ours are medians: so are theirs, where medians are known.
  assert rows.cells_of(text, '*CrossQ*')[2:] == [
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


def test_nothing_published_for_another_budget(tmp_path):
  text = rows.report_of(tmp_path, rows.run(5.0, interactions='40000'))
  assert '*QWR-LSE*' not in text
  assert rows.cells_of(text, 'QWR-LSE `mujoco_100k`')[2:] == ['5.00 (1)']


def test_what_was_not_measured_is_not_there(tmp_path):
  text = rows.report_of(
    tmp_path,
    rows.run(50.0, environment='Hopper-v4', return_sampled=''),
    rows.run(60.0, algorithm='AWR', preset='awr'),
    numbers=(),
  )
  assert rows.cells_of(text, 'QWR-LSE `mujoco_100k` | mode')[2:] == [
    '–',
    '50.0 (1)',
  ]
  assert rows.cells_of(text, 'QWR-LSE `mujoco_100k` | sampled')[2:] == [
    '–',
    '–',
  ]
  assert rows.cells_of(text, 'AWR `awr` | mode')[2:] == ['60.0 (1)', '–']
  _, _, hopper = text.partition('### Hopper-v4')
  row = rows.cells_of(hopper, 'QWR-LSE `mujoco_100k`')
  assert row[4:] == ['50.0', '50.0', '50.0', '–', '–', '–']
  # All numbers of the text are those of the rows.
  tables = ''.join(s for s in text.splitlines() if s.startswith('| '))
  numbers = set(re.findall(r'-?[\d.]+\d', re.sub(r'\S*[a-z]\S*', '', tables)))
  assert numbers == {'50.0', '60.0', '-40.0', '100000', '10', '95'}  # 95 %


def test_index_needs_all_four_tasks(tmp_path):
  known = {'HalfCheetah-v4': 11321, 'Walker2d-v4': 4536, 'Hopper-v4': 2787}
  # SAC's own scores at 1M on three tasks.
  runs = [rows.run(float(s), environment=e) for e, s in known.items()]
  assert '(no setting has runs of all four' in rows.report_of(tmp_path, *runs)
  # And three times it on the fourth: (1 + 1 + 1 + 3) / 4.
  text = rows.report_of(
    tmp_path, rows.run(4826.0 * 3, environment='Humanoid-v4')
  )
  _, _, index = text.partition('### Index')
  assert rows.cells_of(index, 'QWR-LSE')[1:5] == ['mode', '4', '1.50', '1.50']
  assert rows.cells_of(index, '*QWR-LSE*')[2:] == ['4', '0.31', '–', '–']
  crossq = '*CrossQ*, SimbaV2 repository, gymnasium v4'
  assert rows.cells_of(index, f'{crossq}, mean')[2:] == ['4', '–', '0.78', '–']
  assert rows.cells_of(index, f'{crossq}, median')[2:] == [
    '4',
    '0.81',
    '–',
    '–',
  ]


def test_two_versions_of_a_task_make_no_index(tmp_path):
  names = 'HalfCheetah-v4 HalfCheetah-v5 Hopper-v4 Walker2d-v4 Humanoid-v4'
  text = rows.report_of(
    tmp_path, *(rows.run(1000.0, environment=e) for e in names.split())
  )
  assert '(no setting has runs of all four' in text


def test_other_collections_games_are_not_ataris(tmp_path):
  text = rows.report_of(
    tmp_path, rows.run(6.0, environment='MinAtar/Breakout-v1')
  )
  assert 'Human-normalised' not in text


def test_no_index_where_nobody_wanted_one(tmp_path):
  path = rows.write_csv(tmp_path / 'variants.csv', rows.run(1.0))
  assert 'Index' not in report_text.report(report_data.load([path]), {})


def test_factors_beside_the_centre(tmp_path):
  experiments = report_data.load([rows.write_ablation(tmp_path)], rows.NUMBERS)
  text = report_text.report(experiments, {})
  mode, _, sampled = text.partition('**Sampled**')
  columns = ['difference', 'P(better)']
  header = ['HalfCheetah-v4', *columns, 'Hopper-v4', *columns]
  assert rows.cells_of(mode, ' ') == header
  lines = [line for line in mode.splitlines() if line.startswith('| ')]
  assert lines[2].startswith(
    '| QWR-LSE `mujoco_100k` (centre) | 200 ± 50 (3) |'
  )
  # The median of (90, 100, 400) less that of (100, 200, 300); extremes of
  # resamples: 90 - 300 and 400 - 100.
  assert rows.cells_of(mode, '`QwrAgent.horizon = 3`')[1:] == [
    '100 ± 78 (3)',
    '-100 [-210, +300]',
    '0.39',  # 400 is above all three, 100 as high as one: 3.5 of 9 pairs.
    '–',
    '–',
    '–',
  ]
  # One run has a difference but no interval.
  assert rows.cells_of(mode, '`a.b = 1` `c.d = 2`')[1:4] == [
    '250 (1)',
    '+50',
    '0.67',
  ]
  cells = rows.cells_of(sampled, 'QWR-LSE `mujoco_100k` (centre)')
  assert cells[1:] == ['100 ± 50 (3)', '', '', '–']
  assert '_profile.png' not in text
  # All statistics, and what the paper has, stand below.
  assert '*QWR-LSE*, QWR paper Table 1' in text.partition('### HalfCheetah')[2]


def test_scores_beside_chosen_algorithms(tmp_path):
  experiment = rows.experiment_of(
    tmp_path, *rows.five_runs(), numbers=rows.NUMBERS
  )
  name = experiment.name

  def page(chosen):
    text = f'<!-- scores:begin {name}{chosen} -->\n<!-- scores:end -->\n'
    return report_text.rewritten_page(text, [experiment], 'results')

  assert '*DroQ*' in page('') and '2400 ± 300 (5)' in page('')
  text = page(': REDQ, CrossQ')
  assert '*REDQ*' in text and '*CrossQ*' in text and '*QWR-LSE*' in text
  assert '*DroQ*' not in text and '*SAC*' not in text
  variants = page(': SAC, QWR-MAX')  # QWR-MAX is in the QWR paper alone.
  assert '*QWR-MAX*' in variants and '*SAC*, QWR paper' not in variants
  with pytest.raises(ConfigError, match='NoSuchAgent'):
    page(': NoSuchAgent')


def _factors(names):
  return f'<!-- factors:begin {names} -->\nold\n<!-- factors:end -->\n'


def test_factors_of_two_centres_side_by_side_in_the_readme(tmp_path):
  (tmp_path / 'README.md').write_text(rows.README + _factors('ablation, other'))
  folder = tmp_path / 'results'
  other = [
    rows.run(7.0, environment='Hopper-v4'),
    rows.run(9.0, bindings='QwrAgent.horizon = 3', environment='Hopper-v4'),
    rows.run(
      8.0, algorithm='QWR-MAX', bindings='b.c = 1', environment='Hopper-v4'
    ),
  ]
  raw = [
    rows.write_ablation(folder),
    rows.write_csv(folder / 'other.csv', *other),
  ]
  experiments = report_data.load(raw)
  text = (tmp_path / 'README.md').read_text()
  text = report_text.rewritten_page(text, experiments, 'results')
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
  text = rows.README + section
  (tmp_path / 'README.md').write_text(text)
  folder = tmp_path / 'results'
  raw = [
    rows.write_ablation(folder),
    rows.write_csv(folder / 'mujoco_100k.csv', rows.run(1.0)),
  ]
  with pytest.raises(ConfigError, match=message):
    report.write(raw, folder, [tmp_path / 'README.md'])
  assert (tmp_path / 'README.md').read_text() == text


def test_human_normalised(tmp_path):
  # Pong: the human's 14.6, the random -20.7. Breakout's human: 30.5.
  text = rows.report_of(
    tmp_path,
    rows.run(14.6, environment='ALE/Pong-v5'),
    rows.run(-20.7, seed=1, environment='ALE/Pong-v5'),
    rows.run(30.5, environment='ALE/Breakout-v5'),
  )
  assert 'over 2 of 6 games' in text
  _, _, normalised = text.partition('### Human-normalised')
  # Pong (1 + 0) / 2, Breakout 1; Pong's mean is 0, 0.5 or 1 in resamples.
  assert rows.cells_of(normalised, 'QWR-LSE')[1:5] == [
    'mode',
    '2',
    '0.75 [0.50, 1.00]',
    '0.75 [0.50, 1.00]',
  ]


def test_columns_of_the_index_are_what_their_heads_say():
  medians, means, iqm = report_tables.aggregates([[1.0, 2.0, 6.0], [0.0] * 3])
  assert medians.startswith('1.00 [') and means.startswith('1.50 [')


def test_provenance_has_the_median_minutes_and_the_threads(tmp_path):
  runs = [
    rows.run(1.0, i, wall_seconds=str(s), threads='1', host_cores='8')
    for i, s in enumerate((60, 120, 6000))
  ]
  assert '2.0 minutes a run in the median (threads: 1)' in rows.report_of(
    tmp_path, *runs
  )


def test_human_normalised_scores_count_games_alone(tmp_path):
  runs = [rows.run(1.0, environment=e) for e in ('ALE/Pong-v5', 'Hopper-v4')]
  assert 'over 1 of 6 games' in rows.report_of(tmp_path, *runs)


def test_episodes_that_differ_are_a_range(tmp_path):
  more = rows.run(1.0, seed=1)
  more[-1]['episodes'] = '20'
  _, _, details = rows.report_of(tmp_path, rows.run(1.0), more).partition(
    '### HalfC'
  )
  assert rows.cells_of(details, 'QWR-LSE')[3] == '10-20'


def test_unknown_commits_say_so(tmp_path):
  assert 'commit unknown (1)' in rows.report_of(
    tmp_path, rows.run(1.0, commit='')
  )
