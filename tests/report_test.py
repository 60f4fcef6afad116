"""qwr_tf.report: the files it reads, writes and leaves alone."""

import pathlib
import subprocess
import sys

import pytest
from absl import flags

from qwr_tf import report
from qwr_tf.config.errors import ConfigError
from qwr_tf.reporting import published
from qwr_tf.reporting import report_text
from tests.reporting import rows

_ROOT = pathlib.Path(__file__).resolve().parents[1]


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
def test_the_readme_is_that_of_the_default_output_alone(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  flags.FLAGS.mark_as_parsed()
  monkeypatch.setattr(flags.FLAGS['output'], 'value', 'other')
  (tmp_path / 'README.md').write_text(rows.README)
  rows.write_csv(tmp_path / 'a.csv', rows.run(50.0))
  for _ in range(2):  # Before there is such a folder, and when there is one.
    report.main(['a.csv'])
    assert (tmp_path / 'README.md').read_text() == rows.README
  monkeypatch.setattr(flags.FLAGS['output'], 'value', 'results')
  report.main(['a.csv'])
  text = (tmp_path / 'README.md').read_text()
  assert 'old' not in text and '[results](results/README.md)' in text


@pytest.mark.slow
def test_report_is_deterministic(tmp_path):
  path = rows.write_csv(tmp_path / 'mujoco_100k.csv', *rows.five_runs())
  report.write([path], tmp_path, (), published.DEFAULT_PATH)
  before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
  assert set(before) == {
    'README.md',
    'mujoco_100k.csv',
    'mujoco_100k.png',
    'mujoco_100k_curves.png',
    'mujoco_100k_profile.png',
    'mujoco_100k_scores.png',
  }
  report.write([path], tmp_path, (), published.DEFAULT_PATH)
  assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


@pytest.mark.slow
def test_readme_section(tmp_path):
  (tmp_path / 'README.md').write_text(
    rows.README.replace('Rest', 'Two factors: …')
  )
  folder = tmp_path / 'results'
  raw = [
    rows.write_csv(folder / 'mujoco_100k.csv', *rows.five_runs()),
    rows.write_csv(folder / 'ablation.csv', rows.run(77.0)),
  ]
  report.write(raw, folder, [tmp_path / 'README.md'], published.DEFAULT_PATH)
  text = (tmp_path / 'README.md').read_text()
  assert text.startswith(f'# Name\n\n{report_text.BEGIN}\n')
  assert text.endswith(f'{report_text.END}\n\nTwo factors: …\n')
  assert 'old' not in text
  assert '| 2500 ± 300 (5) |' in text and '](results/README.md)' in text
  assert '](results/mujoco_100k.png)' in text
  assert '77.0' not in text  # An ablation is left to the long report.
  assert '77.0' in (folder / 'README.md').read_text()


@pytest.mark.parametrize(
  'text',
  [
    '',
    report_text.BEGIN,
    rows.README * 2,
    f'{report_text.END}{report_text.BEGIN}',
  ],
)
def test_a_readme_without_its_section_is_refused(text, tmp_path):
  (tmp_path / 'README.md').write_text(text)
  path = rows.write_csv(tmp_path / 'results' / 'mujoco_100k.csv', rows.run(1.0))
  with pytest.raises(ConfigError, match='the page'):
    report.write([path], path.parent, [tmp_path / 'README.md'])
  assert (tmp_path / 'README.md').read_text() == text
  assert [p.name for p in path.parent.iterdir()] == ['mujoco_100k.csv']


@pytest.mark.slow
def test_a_page_may_have_the_scores_of_a_preset_alone(tmp_path):
  page = tmp_path / 'page.md'
  page.write_text('<!-- scores:begin mujoco_100k -->\n<!-- scores:end -->\n')
  path = rows.write_csv(tmp_path / 'mujoco_100k.csv', *rows.five_runs())
  report.write([path], tmp_path, [page], published.DEFAULT_PATH)
  lines = page.read_text().splitlines()
  names = [x.split(' | ')[0].strip('| ') for x in lines if x[:3] in ('| *',)]
  preset = '**QWR-LSE `mujoco_100k`**'
  assert names[:2] == [f'{preset}, mode', f'{preset}, sampled']
  assert names[2].startswith('*QWR-LSE*, QWR paper')
  # Others of the paper are left out, those of other sources are not.
  assert any(name.startswith('*REDQ*') for name in names)
  assert not any(name.startswith('*PPO*') for name in names)


@pytest.mark.slow
def test_other_readmes_are_left_alone(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  flags.FLAGS.mark_as_parsed()
  (tmp_path / 'README.md').write_text('Mine.\n')
  rows.write_csv(tmp_path / 'results' / 'a.csv', rows.run(50.0))
  report.main(['results'])
  assert (tmp_path / 'README.md').read_text() == 'Mine.\n'


@pytest.mark.parametrize('text', ['Mine.\n', '# Results\n\nMine.\n'])
def test_a_report_replaces_no_page_by_hand(tmp_path, text):
  raw = rows.write_csv(tmp_path / 'rows' / 'a.csv', rows.run(50.0))
  page = tmp_path / 'README.md'
  page.write_text(text)
  with pytest.raises(ConfigError, match='README.md is no report'):
    report.write([raw], tmp_path)
  assert page.read_text() == text
  assert {path.name for path in tmp_path.iterdir()} == {'rows', 'README.md'}


@pytest.mark.slow
def test_a_report_of_version_0_1_is_replaced(tmp_path):
  raw = rows.write_csv(tmp_path / 'a.csv', rows.run(50.0))
  page = tmp_path / 'README.md'
  page.write_text('# Results\n\nWritten by `python -m qwr_tf.report a.csv` …\n')
  report.write([raw], tmp_path)
  assert '## a' in page.read_text()


def test_other_csvs_are_left_out(tmp_path):
  other = tmp_path / 'peers.csv'
  other.write_text('library,steps_per_second\nours,1\n')
  with pytest.raises(ConfigError, match='raw rows'):
    report.write([other, published.DEFAULT_PATH], tmp_path)
  with pytest.raises(ConfigError, match='none.csv'):
    report.write([tmp_path / 'none.csv'], tmp_path)


def test_notes_say_what_was_run(tmp_path):
  path = rows.write_csv(tmp_path / 'variants.csv', rows.run(1.0))
  (tmp_path / 'variants.md').write_text('Around the first\nrecipe.\n')
  report.write([path], tmp_path)
  text = (tmp_path / 'README.md').read_text()
  assert '## variants\n\n> Around the first\n> recipe.\n\n1 run (' in text


@pytest.mark.slow
def test_command(tmp_path):
  rows.write_csv(tmp_path / 'results' / 'mujoco_100k.csv', rows.run(50.0))
  done = _command(tmp_path, 'results/mujoco_100k.csv', '--output', 'results')
  assert (done.returncode, done.stderr) == (0, '')
  assert done.stdout.splitlines() == [
    'results/README.md',
    'results/mujoco_100k.png',
    'results/mujoco_100k_curves.png',
    'results/mujoco_100k_scores.png',
    'results/mujoco_100k_profile.png',
  ]


@pytest.mark.slow
def test_a_folder_stands_for_its_csvs(tmp_path, monkeypatch, capsys):
  monkeypatch.chdir(tmp_path)
  flags.FLAGS.mark_as_parsed()
  folder = tmp_path / 'results'
  for name in ('a', 'b'):
    rows.write_csv(folder / f'{name}.csv', rows.run(50.0))
  report.main(['results'])
  assert 'results/b.png' in capsys.readouterr().out
  text = (folder / 'README.md').read_text()
  with pytest.raises(ConfigError, match='results/b.csv'):
    report.main(['results/a.csv'])
  assert (folder / 'README.md').read_text() == text


def test_there_is_no_report_of_nothing():
  with pytest.raises(ConfigError, match='CSV'):
    report.main([])


@pytest.mark.slow
def test_command_refuses_bad_input(tmp_path):
  done = _command(tmp_path, '--outptu=x', 'a.csv')
  assert (done.returncode, done.stdout) == (2, '')
  (line,) = done.stderr.splitlines()
  assert line.startswith('error: ') and 'outptu' in line


@pytest.mark.parametrize('text', ['', 'experiment;algorithm\n1;2\n'])
def test_a_damaged_file_is_not_left_out(text, tmp_path):
  good, bad = (
    rows.write_csv(tmp_path / 'good.csv', rows.run(1.0)),
    tmp_path / 'bad.csv',
  )
  bad.write_text(text)
  with pytest.raises(ConfigError, match='bad.csv'):
    report.write([good, bad], tmp_path)
  assert not (tmp_path / 'README.md').exists()


@pytest.mark.slow
def test_a_byte_order_mark_is_no_damage(tmp_path):
  path = rows.write_csv(tmp_path / 'good.csv', rows.run(1.0))
  path.write_bytes(b'\xef\xbb\xbf' + path.read_bytes())
  report.write([path], tmp_path)
  assert '## good' in (tmp_path / 'README.md').read_text()


@pytest.mark.slow
def test_the_readme_has_one_picture_of_an_experiment(tmp_path):
  (tmp_path / 'README.md').write_text(rows.README)
  path = rows.write_csv(
    tmp_path / 'results' / 'mujoco_100k.csv', *rows.five_runs()
  )
  pages = [tmp_path / 'README.md']
  report.write([path], tmp_path / 'results', pages, published.DEFAULT_PATH)
  assert (tmp_path / 'README.md').read_text().count('![') == 1
