"""A run's folder: two runs never share one, nothing is lost."""

import contextlib
import csv
import hashlib
import json
import os
import pathlib
import shutil
import socket
import stat
import subprocess

import filelock
import pytest

from qwr_tf.config.errors import ConfigError
from qwr_tf.runs import atomic_files
from qwr_tf.runs import provenance
from qwr_tf.runs import run_folder
from qwr_tf.runs import run_json
from qwr_tf.runs import run_lock

_CONFIG = (
  '# Parameters for iterate:\n'
  'iterate.batch_size = 256\n'
  'iterate.minibatches_fn = \\\n'
  '    @PerMinibatch\n'
)
_FACTS = {'config': _CONFIG, 'environment': 'BitFlip-20', 'seed': 0}


def _folder(path, **changes):
  return run_folder.RunFolder(path, _FACTS | changes)


def _claim(path, overwrite=False, **changes):
  """The folder of a run that has begun, or of one that may go on."""
  folder = _folder(path, **changes)
  with folder.claimed(overwrite):
    if folder.begins_anew:
      folder.begin()
  return folder


@pytest.fixture(name='run')
def _run(tmp_path):
  """The folder of a finished run with everything in it."""
  folder = _claim(tmp_path / 'run')
  folder.write_config(_CONFIG)
  folder.add_row({'iteration': 1}, ['iteration'])
  (folder.path / 'tensorboard').mkdir()
  (folder.path / 'tensorboard' / 'events').touch()
  folder.write_json({'finished': True})
  return folder


def _contents(path):
  return {
    str(p.relative_to(path)): p.read_bytes()
    for p in path.rglob('*')
    if p.is_file()
  }


def test_default_path():
  digest = hashlib.sha256(b'x.y = 3').hexdigest()[:8]
  path = run_folder.default_path('conf/pong.gin', 'ALE/Pong-v5', 4, 'x.y = 3')
  assert path == pathlib.Path(f'runs/pong-ALE_Pong-v5-s4-{digest}')


@pytest.fixture(name='calls')
def _calls(monkeypatch):
  """What waits for the disk, and when the new takes the old one's name."""
  found, fsync, replace = [], os.fsync, os.replace

  def synced(descriptor):
    is_folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
    found.append('folder' if is_folder else 'file')
    fsync(descriptor)

  def replaced(*paths):
    found.append('replace')
    replace(*paths)

  monkeypatch.setattr(os, 'fsync', synced)
  monkeypatch.setattr(os, 'replace', replaced)
  return found


def test_content_is_on_the_disk_before_its_name_and_then_that(tmp_path, calls):
  atomic_files.write_atomically(tmp_path / 'file', 'new')
  assert calls == ['file', 'replace', 'folder']
  calls.clear()
  with atomic_files.new_folder(tmp_path / 'folder') as new:
    (new / 'file').write_text('new')
  assert calls == ['file', 'folder', 'replace', 'folder']


@pytest.mark.parametrize('call', ['fsync', 'replace'])
def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch, call):
  file = tmp_path / 'f'
  atomic_files.write_atomically(file, 'old')

  def fail(*_):
    raise OSError(28, 'disk full')

  monkeypatch.setattr(os, call, fail)
  with pytest.raises(OSError, match='disk full'):
    atomic_files.write_atomically(file, 'new')
  assert _contents(tmp_path) == {'f': b'old'}


def test_claims_a_missing_and_an_empty_folder(tmp_path):
  _claim(tmp_path / 'a' / 'b')
  (tmp_path / 'c').mkdir()
  _claim(tmp_path / 'c')
  for path in (tmp_path / 'a' / 'b', tmp_path / 'c'):
    assert json.loads((path / 'run.json').read_text())['seed'] == 0


def test_finished_run_is_found_by_the_same_configuration_alone(run):
  assert _folder(run.path).finished()['finished'] is True
  assert _folder(run.path, seed=1).finished() is None
  assert _folder(run.path, config='').finished() is None
  run.write_json({'finished': False})
  assert _folder(run.path).finished() is None


@pytest.mark.parametrize(
  ('changes', 'difference'),
  [
    ({'seed': 3}, 'seed: 0 there, 3 here'),
    ({'environment': 'X-v1'}, 'environment: BitFlip-20 there, X-v1 here'),
    (
      {'config': _CONFIG.replace('256', '8')},
      'iterate.batch_size: 256 there, 8 here',
    ),
    (
      {'config': _CONFIG.replace('PerMinibatch', 'Other')},
      'iterate.minibatches_fn: @PerMinibatch there, @Other here',
    ),
    (
      {'config': _CONFIG + 'iterate.rounds = 2\n'},
      'iterate.rounds: not set there, 2 here',
    ),
  ],
)
def test_another_run_is_refused_and_kept(run, changes, difference):
  before = _contents(run.path)
  with pytest.raises(ConfigError) as caught:
    _claim(run.path, **changes)
  # The one difference, and nothing beside it.
  assert f'holds another run: {difference}. Choose' in str(caught.value)
  assert '--overwrite' in str(caught.value)
  assert _contents(run.path) == before


@pytest.mark.parametrize(
  ('changes', 'difference'),
  [
    ({'seed': 1}, 'seed: 0 there, 1 here'),
    # As a function that makes one, which is not in the configuration.
    (
      {'environment': 'local/mine'},
      'environment: BitFlip-20 there, local/mine',
    ),
  ],
)
def test_only_the_same_run_is_prolonged(run, changes, difference):
  before = _contents(run.path)
  config = _CONFIG + 'run.interactions = 80\n'
  other = _folder(run.path, config=config, **changes)
  other.prolong()
  with pytest.raises(ConfigError, match=f'another run: {difference}'):
    other.check(overwrite=False)
  assert _contents(run.path) == before
  same = _folder(run.path, config=config)
  same.prolong()
  same.check(overwrite=False)


def test_unfinished_run_keeps_what_it_has(run, tmp_path):
  run.write_json({'finished': False})
  before = _contents(run.path)
  folder = _claim(run.path)
  assert _contents(run.path) == before
  # Rows without a checkpoint: somebody has deleted it.
  with pytest.raises(ConfigError, match='but no checkpoint.*--overwrite'):
    folder.begin()
  assert _contents(run.path) == before
  _claim(tmp_path / 'new')
  assert (tmp_path / 'new' / 'config.gin').read_text() == _CONFIG


@pytest.mark.parametrize('name', ['run', 'new'])
def test_what_does_not_begin_replaces_nothing(run, name):
  path = run.path.with_name(name)
  before = _contents(run.path)
  with _folder(path, seed=3).claimed(overwrite=True):
    pass  # What the run is to begin with cannot be read.
  assert _contents(run.path) == before
  _claim(run.path.with_name('new'))


def test_half_written_files_of_a_killed_process_go(run):
  run.write_json({'finished': False})
  before = _contents(run.path)
  (run.path / '.metrics.csv.123.tmp').touch()
  (run.path / 'checkpoints').mkdir()
  (run.path / 'checkpoints' / '.00000003.123.tmp').mkdir()
  (run.path / 'checkpoints' / '.00000003.123.tmp' / 'state.json').touch()
  _claim(run.path)
  assert _contents(run.path) == before
  (run.path / 'notes').mkdir()
  mine = run.path / 'notes' / '.mine.tmp'
  mine.touch()
  _claim(run.path)
  assert mine.exists()


def test_rows_of_a_checkpoint_replace_later_ones(run):
  columns = ['iteration', 'critic_loss']
  checkpoint = json.loads(json.dumps(run.state()))
  text = (run.path / 'metrics.csv').read_text()
  run.add_row({'iteration': 2, 'critic_loss': 0.1}, columns)
  run.write_json({'finished': False})
  folder = _folder(run.path)
  with folder.claimed(overwrite=False):
    folder.restore(checkpoint)
    folder.resume(['iteration'], interactions=1000)
  assert (run.path / 'metrics.csv').read_text() == text
  folder.add_row({'iteration': 2, 'critic_loss': 1 / 3}, columns)
  rows = list(csv.DictReader((run.path / 'metrics.csv').open()))
  assert [row['iteration'] for row in rows] == ['1', '2']
  assert float(rows[1]['critic_loss']) == 1 / 3
  facts = json.loads((run.path / 'run.json').read_text())
  assert facts['resumed'] == [{'interactions': 1000}]


def test_other_versions_are_told_and_recorded(run, monkeypatch, caplog):
  run.write_json({'finished': False})
  threads = provenance.threads()
  monkeypatch.setattr(provenance, 'threads', lambda: 77)
  folder = _folder(run.path)
  with caplog.at_level('WARNING'), folder.claimed(overwrite=False):
    folder.resume(['iteration'], interactions=1000)
  (warning,) = caplog.messages
  assert warning.endswith(f'threads was {threads}, is 77.')
  facts = json.loads((run.path / 'run.json').read_text())
  assert facts['resumed'] == [{'interactions': 1000, 'threads': 77}]


def test_overwrite_removes_what_a_run_wrote_and_nothing_else(run):
  (run.path / 'notes.txt').write_text('mine')
  (run.path / 'checkpoints' / '00000001').mkdir(parents=True)
  _claim(run.path, overwrite=True, seed=1)
  assert set(_contents(run.path)) == {'run.json', 'config.gin', 'notes.txt'}
  assert not (run.path / 'checkpoints').exists()
  facts = json.loads((run.path / 'run.json').read_text())
  assert facts['seed'] == 1
  assert 'finished' not in facts


# One process at a time.


@pytest.mark.parametrize('overwrite', [False, True])
def test_a_folder_in_use_is_refused_and_kept(run, overwrite):
  run.write_json({'finished': False})
  with _folder(run.path).claimed(overwrite=False):
    before = _contents(run.path)
    with pytest.raises(ConfigError, match=f'in use by process {os.getpid()} '):
      _claim(run.path, overwrite)
    assert _contents(run.path) == before
  _claim(run.path, overwrite)
  assert not (run.path / run_lock.NAME).exists()


def test_a_lock_that_a_killed_process_left_is_taken_over(tmp_path):
  (tmp_path / run_lock.NAME).write_text('123 on another')
  _claim(tmp_path)
  assert set(_contents(tmp_path)) == {'run.json', 'config.gin'}


def test_a_start_that_was_killed_is_no_obstacle(tmp_path):
  # Before run.json was complete.
  (tmp_path / run_lock.NAME).write_text('123 on another')
  (tmp_path / '.run.json.123.tmp').write_text('{')
  _claim(tmp_path)
  assert set(_contents(tmp_path)) == {'run.json', 'config.gin'}


@pytest.mark.parametrize('overwrite', [False, True])
@pytest.mark.parametrize(
  ('name', 'text'),
  [
    ('thesis.tex', 'years of work'),
    ('run.json', '[]'),
    ('run.json', '{"config": "of another program"}'),
    ('run.json', 'not JSON'),
  ],
)
def test_what_is_no_run_is_refused_and_kept(tmp_path, name, text, overwrite):
  (tmp_path / name).write_text(text)
  with pytest.raises(ConfigError, match='choose another --root_dir'):
    _claim(tmp_path, overwrite)
  assert _contents(tmp_path) == {name: text.encode()}


@pytest.mark.parametrize('below', ['', 'run'])
def test_a_file_is_no_folder(tmp_path, below):
  file = tmp_path / 'file'
  file.write_text('mine')
  with pytest.raises(ConfigError, match='choose another --root_dir'):
    _claim(file / below, overwrite=True)
  assert file.read_text() == 'mine'


def test_a_folder_that_cannot_be_written(tmp_path, monkeypatch):
  # Permissions do not hold for everyone who runs tests (root).
  def deny(*_, **__):
    raise PermissionError(13, 'Permission denied')

  monkeypatch.setattr(pathlib.Path, 'mkdir', deny)
  with pytest.raises(ConfigError, match='Permission denied.*--root_dir'):
    _claim(tmp_path / 'run')


def test_metrics_are_complete_after_every_row(tmp_path):
  folder = _claim(tmp_path)
  columns = ['iteration', 'train_return', 'eval_return_mode']
  first = {'iteration': 1, 'train_return': None, 'eval_return_mode': 0.5}
  folder.add_row(first, columns)
  folder.add_row({'iteration': 2, 'train_return': -1.25}, columns)
  text = (tmp_path / 'metrics.csv').read_text()
  assert text == ('iteration,train_return,eval_return_mode\n1,,0.5\n2,-1.25,\n')
  assert list(csv.DictReader(text.splitlines()))[1]['eval_return_mode'] == ''


def test_run_json_says_what_a_score_depends_on(run):
  facts = json.loads((run.path / 'run.json').read_text())
  assert facts['host_cores'] == os.cpu_count()
  assert facts['versions']['tensorflow'].startswith('2.')
  assert facts['environment'] == 'BitFlip-20'
  assert not list(run.path.glob('.*'))


def test_threads(monkeypatch):
  monkeypatch.setenv('TF_NUM_INTRAOP_THREADS', '3')
  assert provenance.threads() == 3
  monkeypatch.delenv('TF_NUM_INTRAOP_THREADS')
  assert provenance.threads() == len(os.sched_getaffinity(0))


def test_commit_is_the_checkout_s():
  root = pathlib.Path(__file__).resolve().parents[2]
  if not (root / '.git').exists():
    assert provenance.commit() == ''
    return
  head = subprocess.check_output(
    ['git', '-C', str(root), 'rev-parse', 'HEAD'], text=True
  )
  assert provenance.commit().removesuffix('-dirty') == head[:12]


def test_rows_are_no_change_of_the_checkout(tmp_path, monkeypatch):
  for name in ('qwr_tf/runs/provenance.py', 'results/rows.csv'):
    path = tmp_path / name
    path.parent.mkdir(parents=True)
    path.write_text('1\n')
  for arguments in (
    ('init', '-q'),
    ('add', '-A'),
    ('-c', 'user.name=a', '-c', 'user.email=a@b.c', 'commit', '-qm', 'all'),
  ):
    subprocess.run(['git', '-C', str(tmp_path), *arguments], check=True)
  code = tmp_path / 'qwr_tf' / 'runs' / 'provenance.py'
  monkeypatch.setattr(provenance, '__file__', str(code))
  assert len(provenance.commit()) == 12
  (tmp_path / 'results' / 'rows.csv').write_text('2\n')
  assert not provenance.commit().endswith('-dirty')
  code.write_text('2\n')
  assert provenance.commit().endswith('-dirty')


def test_a_folder_stays_until_the_new_one_is_full(tmp_path):
  (tmp_path / 'f').mkdir()
  (tmp_path / 'f' / 'a').write_text('old')
  with (
    pytest.raises(RuntimeError),
    atomic_files.new_folder(tmp_path / 'f') as new,
  ):
    (new / 'a').write_text('new')
    raise RuntimeError
  assert _contents(tmp_path) == {'f/a': b'old'}


def test_overwriting_removes_film_and_batch(run):
  for name in ('video.mp4', 'offending_batch.npz'):
    (run.path / name).touch()
  _claim(run.path, overwrite=True)
  assert set(_contents(run.path)) == {'run.json', 'config.gin'}


def _kill_at_a_deletion(patch):
  delete = atomic_files.delete

  def killed(path):
    if not path.name.endswith(f'.{os.getpid()}.tmp'):
      raise KeyboardInterrupt
    delete(path)

  patch.setattr(atomic_files, 'delete', killed)


@pytest.mark.parametrize('has_checkpoints', [False, True])
def test_an_overwriting_that_is_cut_leaves_no_finished_run(
  run, monkeypatch, has_checkpoints
):
  if has_checkpoints:
    (run.checkpoints / '00000001').mkdir(parents=True)

  _kill_at_a_deletion(monkeypatch)
  with pytest.raises(KeyboardInterrupt):
    _claim(run.path, overwrite=True)
  assert not run.checkpoints.exists()
  if not has_checkpoints:
    assert _folder(run.path).finished() is None


def test_other_library_versions_are_told(run, caplog):
  run.write_json({'finished': False})
  facts = json.loads((run.path / 'run.json').read_text())
  facts['versions']['numpy'] = '0.1'
  (run.path / 'run.json').write_text(json.dumps(facts))
  with caplog.at_level('WARNING'):
    _claim(run.path)
  (warning,) = caplog.messages
  assert 'numpy was 0.1, is ' in warning


def test_a_value_that_is_not_set_here_is_named(run):
  config = _CONFIG.replace('iterate.batch_size = 256\n', '')
  assert config != _CONFIG
  with pytest.raises(ConfigError, match='batch_size: 256 there, not set here'):
    _claim(run.path, config=config)


def test_a_run_that_began_meanwhile_is_seen(run, monkeypatch):
  held = run_lock.held
  run.write_json({'finished': False})

  @contextlib.contextmanager
  def late(path):
    run_folder.RunFolder(path, _FACTS | {'seed': 3}).write_json({})
    with held(path):
      yield

  monkeypatch.setattr(run_lock, 'held', late)
  with pytest.raises(ConfigError, match='holds another run: seed'):
    _claim(run.path)


def test_the_lock_s_text_is_its_holder_s_alone(tmp_path):
  (tmp_path / run_lock.NAME).write_text('9' * 200)
  with run_lock.held(tmp_path):
    found = (tmp_path / run_lock.NAME).read_text()
  assert found == f'{os.getpid()} on {socket.gethostname()}'


def test_the_lock_file_goes_before_the_lock(tmp_path, monkeypatch):
  release, there = filelock.FileLock.release, []

  def released(self, **kwargs):
    there.append((tmp_path / run_lock.NAME).exists())
    release(self, **kwargs)

  monkeypatch.setattr(filelock.FileLock, 'release', released)
  with run_lock.held(tmp_path):
    pass
  assert there[0] is False  # Its deletion releases it again.


@pytest.mark.parametrize('target', ['notes.txt', 'missing'])
def test_the_lock_follows_no_link(tmp_path, target):
  (tmp_path / 'notes.txt').write_text('mine')
  (tmp_path / run_lock.NAME).symlink_to(tmp_path / target)
  with (
    pytest.raises(ConfigError, match='run.lock is a symbolic link'),
    run_lock.held(tmp_path),
  ):
    pass
  assert _contents(tmp_path).pop('notes.txt') == b'mine'
  assert not (tmp_path / 'missing').exists()


@pytest.mark.parametrize('target', ['notes.txt', 'missing', 'notes'])
def test_temporary_names_follow_no_link(tmp_path, target):
  (tmp_path / 'notes.txt').write_text('mine')
  (tmp_path / 'notes').mkdir()
  (tmp_path / 'notes' / 'a').write_text('mine')
  for name in ('file', 'other', 'folder'):
    link = tmp_path / f'.{name}.{os.getpid()}.tmp'
    link.symlink_to(tmp_path / target)
  atomic_files.write_atomically(tmp_path / 'file', 'new')
  with atomic_files.new_file(tmp_path / 'other') as path:
    path.write_text('new')
  with atomic_files.new_folder(tmp_path / 'folder') as folder:
    (folder / 'a').write_text('new')
  assert _contents(tmp_path) == {
    'notes.txt': b'mine',
    'notes/a': b'mine',
    'file': b'new',
    'other': b'new',
    'folder/a': b'new',
  }


# Links, pipes and other kinds of files than a run writes.


@pytest.fixture(name='linked')
def _linked(run, tmp_path):
  """A run whose folders are links to another disk."""
  for name, mine in (
    ('checkpoints', '00000001'),
    ('tensorboard', 'events.out.tfevents.1'),
    ('policy', '1'),
  ):
    shutil.rmtree(run.path / name, ignore_errors=True)
    (tmp_path / 'scratch' / name).mkdir(parents=True)
    (tmp_path / 'scratch' / name / mine).mkdir()
    (tmp_path / 'scratch' / name / 'notes.txt').write_text('mine')
    (run.path / name).symlink_to(tmp_path / 'scratch' / name)
  return run


def test_overwriting_empties_linked_folders(linked, tmp_path):
  _claim(linked.path, overwrite=True, seed=1)
  for name in ('checkpoints', 'tensorboard', 'policy'):
    assert (linked.path / name).is_symlink()
    scratch = tmp_path / 'scratch' / name
    assert [p.name for p in scratch.iterdir()] == ['notes.txt']
  assert linked.new_policy().is_dir()


def test_an_overwriting_of_links_that_is_cut_can_be_repeated(
  linked, monkeypatch
):
  with monkeypatch.context() as patch:
    _kill_at_a_deletion(patch)
    with pytest.raises(KeyboardInterrupt):
      _claim(linked.path, overwrite=True)
  assert not linked.checkpoints.exists()
  _claim(linked.path, overwrite=True)
  assert not list(linked.path.glob('.*'))


@pytest.mark.parametrize(
  ('name', 'kind'),
  [
    ('checkpoints', 'file'),
    ('tensorboard', 'broken link'),
    ('policy', 'pipe'),
    ('metrics.csv', 'folder'),
    ('config.gin', 'pipe'),
    ('learning_curve.png', 'broken link'),
    ('run.json', 'pipe'),
    ('run.json', 'folder'),
  ],
)
@pytest.mark.parametrize('overwrite', [False, True])
def test_other_kinds_of_files_are_refused(run, name, kind, overwrite):
  path = run.path / name
  run.write_json({'finished': False})
  atomic_files.delete(path)
  if kind == 'file':
    path.write_text('mine')
  elif kind == 'folder':
    path.mkdir()
  elif kind == 'pipe':
    os.mkfifo(path)
  else:
    path.symlink_to(run.path / 'nowhere')
  with pytest.raises(ConfigError, match=f'{name} .*--root_dir'):
    _claim(run.path, overwrite)
  assert os.path.lexists(path)


# run.json, for all readers


@pytest.mark.parametrize(
  'text',
  [
    'not JSON',
    '[' * 200_000 + ']' * 200_000,
    '{"a":' * 200_000 + '1' + '}' * 200_000,
    json.dumps(_FACTS | {'seed': 'one'}),
    json.dumps(_FACTS | {'config': None}),
    json.dumps(_FACTS | {'finished': True, 'versions': []}),
    json.dumps(_FACTS | {'finished': True, 'scores': 3}),
  ],
)
@pytest.mark.parametrize(
  'read', [run_json.read, run_json.read_finished, run_json.required]
)
def test_a_damaged_run_json_is_one_line(tmp_path, text, read):
  (tmp_path / 'run.json').write_text(text)
  with pytest.raises(ConfigError, match='run.json cannot be read') as caught:
    read(tmp_path)
  assert len(str(caught.value)) < 500


@pytest.mark.parametrize('text', [None, '[]', '{"config": "another program"}'])
def test_no_run_is_none_or_an_error(tmp_path, text):
  if text is not None:
    (tmp_path / 'run.json').write_text(text)
  assert run_json.read(tmp_path) is None
  assert run_json.read_finished(tmp_path) is None
  with pytest.raises(ConfigError, match='no run folder'):
    run_json.required(tmp_path)


def test_a_run_is_read_back(run):
  facts = run_json.required(run.path)
  assert facts.items() >= _FACTS.items()
  assert run_json.read_finished(run.path) == facts
  run.write_json({'finished': False})
  assert run_json.read_finished(run.path) is None


def test_threads_are_those_of_the_affinity(monkeypatch):
  monkeypatch.delenv('TF_NUM_INTRAOP_THREADS', raising=False)
  monkeypatch.setattr(os, 'sched_getaffinity', lambda _: {5}, raising=False)
  assert provenance.threads() == 1


@pytest.mark.parametrize('place', ['checkout', 'checkout/lib'])
def test_no_commit_where_git_fails_or_is_another_s(
  tmp_path, monkeypatch, place
):
  # git refuses an empty .git; a package inside another's checkout.
  monkeypatch.setattr(
    provenance, '__file__', str(tmp_path / place / 'q' / 'runs' / 'p.py')
  )
  (tmp_path / place / 'q').mkdir(parents=True)
  (tmp_path / 'checkout' / '.git').mkdir(exist_ok=True)
  if place != 'checkout':
    (tmp_path / 'checkout' / '.git').rmdir()
    for command in (
      ['init', '-q'],
      [
        '-c',
        'user.name=a',
        '-c',
        'user.email=a@b',
        'commit',
        '-q',
        '--allow-empty',
        '-m',
        'x',
      ],
    ):
      subprocess.run(
        ['git', '-C', str(tmp_path / 'checkout'), *command], check=True
      )
  assert provenance.commit() == ''
