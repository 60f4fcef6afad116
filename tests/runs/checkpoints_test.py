"""Checkpoints: complete or absent, proven intact, the one before as reserve."""

import errno
import itertools
import json
import os
import subprocess

import pytest
import tensorflow as tf

from qwr_tf.config.errors import ConfigError
from qwr_tf.runs import checkpoint_files
from qwr_tf.runs import checkpoints


class _Table:
  """Stands for `TableFiles`: one file of the number, linked if asked for."""

  def __init__(self, links=False):
    self.number = 0
    self._links = links

  def save(self, folder, before):
    if self._links and before:
      os.link(before / 'rows.npz', folder / 'rows.npz')
      return ['rows.npz']
    (folder / 'rows.npz').write_text(str(self.number))
    return []

  def restore(self, folder):
    self.number = int((folder / 'rows.npz').read_text())


class _Part:
  """Counts in Python; a float too many digits of which matter."""

  def __init__(self):
    self.value = [0, 0.1]

  def state(self):
    return self.value

  def restore(self, state):
    self.value = state


class _Setup:
  """A run whose three kinds of state all say which save they belong to."""

  def __init__(self, path, links=False, run_id='this', earlier=()):
    self.module = tf.Module()
    self.module.variable = tf.Variable([0.0, 1 / 3])
    self.table, self.part = _Table(links), _Part()
    self.checkpoints = checkpoints.Checkpoints(
      path,
      {'agent': self.module},
      self.table,
      {'part': self.part},
      (run_id, *earlier),
    )

  def save(self, number):
    self.module.variable.assign([number, number / 3])
    self.table.number, self.part.value = number, [number, number / 3]
    self.checkpoints.save(number)

  def restored(self):
    """The number everything agrees on after a restore, or None."""
    if not self.checkpoints.restore():
      return None
    number = self.part.value[0]
    assert self.part.value == [number, number / 3]
    assert self.table.number == number
    assert self.module.variable.numpy().tolist() == (
      tf.constant([number, number / 3]).numpy().tolist()
    )
    return number


@pytest.fixture(name='path')
def _path(tmp_path):
  return tmp_path / 'checkpoints'


@pytest.fixture(name='saved')
def _saved(path):
  setup = _Setup(path)
  for number in (1, 4, 9):
    setup.save(number)
  return path


def _names(path):
  return sorted(p.name for p in path.iterdir())


def test_the_newest_comes_back_and_the_one_before_is_kept(saved):
  assert _names(saved) == ['00000004', '00000009']
  assert _Setup(saved).restored() == 9


def test_none_is_none(path):
  assert _Setup(path).restored() is None


def test_the_sums_are_those_of_sha256sum(saved):
  subprocess.run(
    ['sha256sum', '--check', '--strict', 'SHA256SUMS'],
    cwd=saved / '00000009',
    check=True,
    capture_output=True,
  )


_FILES = (
  'SHA256SUMS',
  'rows.npz',
  'state.json',
  'tensors.data-00000-of-00001',
  'tensors.index',
)


def _flip(file):
  data = bytearray(file.read_bytes())
  data[len(data) // 2] ^= 0x10
  file.write_bytes(data)


def _truncate(file):
  file.write_bytes(file.read_bytes()[:-1])


def _empty(file):
  file.write_bytes(b'')


def _delete(file):
  file.unlink()


@pytest.mark.parametrize(
  ('name', 'harm'),
  itertools.product(_FILES, (_flip, _truncate, _empty, _delete)),
)
def test_a_damaged_one_is_named_and_the_one_before_is_used(
  saved, caplog, name, harm
):
  assert _names(saved / '00000009') == sorted(_FILES)
  harm(saved / '00000009' / name)
  setup = _Setup(saved)
  with caplog.at_level('WARNING'):
    assert setup.restored() == 4
  (warning,) = caplog.messages
  assert warning.startswith(f'{saved / "00000009"} cannot be used: ')
  assert warning.endswith('. Resuming from 00000004.')
  # The good one stays until the next is there, the damaged one does not.
  setup.save(5)
  assert _names(saved) == ['00000004', '00000005']
  assert _Setup(saved).restored() == 5


def test_the_number_of_a_damaged_one_can_be_used_again(saved):
  _flip(saved / '00000009' / 'state.json')
  setup = _Setup(saved)
  assert setup.restored() == 4
  setup.save(9)
  assert _Setup(saved).restored() == 9


def test_nothing_but_damaged_ones_is_refused_and_kept(saved):
  for folder in saved.iterdir():
    _flip(folder / 'state.json')
  before = {p: p.read_bytes() for p in saved.rglob('*') if p.is_file()}
  with pytest.raises(ConfigError) as caught:
    _Setup(saved).restored()
  message = str(caught.value)
  assert '00000009 cannot be used: state.json is damaged' in message
  assert '00000004 cannot be used: state.json is damaged' in message
  assert '--overwrite' in message
  assert {p: p.read_bytes() for p in saved.rglob('*') if p.is_file()} == before


def test_one_of_other_variables_is_refused(saved):
  setup = _Setup(saved)
  setup.module.another = tf.Variable(1.0)
  with pytest.raises(ConfigError, match='tensors'):
    setup.restored()


def test_linked_files_are_proven_too(path, caplog):
  setup = _Setup(path, links=True)
  setup.save(1)
  setup.checkpoints.save(2)
  first, second = (path / n / 'rows.npz' for n in ('00000001', '00000002'))
  assert first.samefile(second)
  assert checkpoint_files.read_sums(path / '00000002')['rows.npz']
  second.unlink()
  second.write_text('7')
  with caplog.at_level('WARNING'):
    assert _Setup(path).restored() == 1
  assert 'rows.npz is damaged' in caplog.messages[0]


def _fail(*_, **__):
  raise OSError(errno.ENOSPC, 'No space left on device')


@pytest.mark.parametrize('call', ['fsync', 'replace'])
def test_a_full_disk_changes_nothing(saved, monkeypatch, call):
  setup = _Setup(saved)
  assert setup.restored() == 9
  with monkeypatch.context() as patch:
    patch.setattr(os, call, _fail)
    with pytest.raises(OSError, match='No space left'):
      setup.save(11)
  assert _names(saved) == ['00000004', '00000009']
  assert _Setup(saved).restored() == 9
  setup.save(12)
  assert _Setup(saved).restored() == 12


def test_tensorflow_s_errors_are_those_of_files(saved, monkeypatch):
  setup = _Setup(saved)
  assert setup.restored() == 9

  def fail(*_):
    message = '/x/tensors.data_temp: No space left on device'
    raise tf.errors.ResourceExhaustedError(None, None, message)

  monkeypatch.setattr(tf.train.Checkpoint, 'write', fail)
  with pytest.raises(OSError, match='No space left on device'):
    setup.save(11)
  assert _names(saved) == ['00000004', '00000009']


def test_final_weights_of_another_agent_are_refused(path):
  module = tf.Module()
  module.kernel, module.bias = tf.Variable([1.0, 2.0]), tf.Variable(3.0)
  checkpoints.save(module, path / 'final')
  less, more, other = (tf.Module() for _ in range(3))
  less.kernel = tf.Variable([0.0, 0.0])  # All it has is there.
  more.kernel, more.bias = tf.Variable([0.0, 0.0]), tf.Variable(0.0)
  more.scale = tf.Variable(0.0)
  other.kernel, other.bias = tf.Variable([0.0]), tf.Variable(0.0)
  for wrong in (less, more, other):
    with pytest.raises(ValueError, match='no checkpoint of this config'):
      checkpoints.restore(wrong, path / 'final')
  with pytest.raises(ValueError, match='no checkpoint of this config'):
    checkpoints.restore(module, path / 'nowhere')


def test_final_weights_can_be_written_again(path):
  module = tf.Module()
  module.variable = tf.Variable(1.0)
  for value in (1.0, 2.0):
    module.variable.assign(value)
    checkpoints.save(module, path / 'final')
  module.variable.assign(3.0)
  checkpoints.restore(module, path / 'final')
  assert module.variable.numpy() == 2.0
  assert _names(path) == ['final']


def test_a_checkpoint_of_another_run_is_refused_and_kept(saved):
  before = _names(saved)
  with pytest.raises(ConfigError, match='00000009 is a checkpoint of another'):
    _Setup(saved, run_id='other').restored()
  assert _Setup(saved, run_id='other', earlier=('x', 'this')).restored() == 9
  assert _names(saved) == before


def test_an_intact_one_that_does_not_fit_is_no_damage(saved, monkeypatch):
  def refuse(*_):
    raise ConfigError('it was made by another command')

  monkeypatch.setattr(_Part, 'restore', refuse)
  with pytest.raises(ConfigError, match='00000009 .*another command') as caught:
    _Setup(saved).restored()
  assert '--overwrite' not in str(caught.value)


def _rewrite_state(folder, change):
  """Changes state.json and its checksum."""
  state = json.loads((folder / 'state.json').read_text())
  (folder / 'state.json').write_text(change(state))
  (folder / 'SHA256SUMS').unlink()
  checkpoint_files.write_sums(folder, {})


def test_a_checkpoint_without_an_identifier_is_restored(saved):
  # As version 0.1 wrote them.
  _rewrite_state(
    saved / '00000009', lambda state: json.dumps({'part': state['part']})
  )
  assert _Setup(saved).restored() == 9


@pytest.mark.parametrize('text', ['[' * 200_000 + ']' * 200_000, '[]', '3'])
def test_a_state_that_is_none_costs_one_checkpoint(saved, caplog, text):
  _rewrite_state(saved / '00000009', lambda _: text)
  assert _Setup(saved).restored() == 4
  assert '00000009 cannot be used' in caplog.messages[0]


def test_pipes_are_damage(saved):
  for name in ('state.json', 'SHA256SUMS'):
    (saved / '00000009' / name).unlink()
    os.mkfifo(saved / '00000009' / name)
    assert _Setup(saved).restored() == 4


def test_a_linked_checkpoint_is_used_and_its_target_kept(saved, tmp_path):
  (saved / '00000009').rename(tmp_path / 'elsewhere')
  (saved / '00000009').symlink_to(tmp_path / 'elsewhere')
  setup = _Setup(saved)
  assert setup.restored() == 9
  setup.save(10)
  setup.save(11)
  setup.save(12)
  assert _names(saved) == ['00000011', '00000012']
  (saved / '00000013').symlink_to(tmp_path / 'elsewhere')
  setup.checkpoints.retire(keep=False)
  assert not _names(saved)
  assert 'state.json' in _names(tmp_path / 'elsewhere')


def test_stray_files_are_no_checkpoints(saved):
  for name in ('99999999', '00000010'):
    (saved / name).write_text('mine')
  setup = _Setup(saved)
  assert setup.restored() == 9
  setup.save(10)  # Its name is the run's.
  setup.save(11)
  assert _names(saved) == ['00000010', '00000011', '99999999']
  setup.checkpoints.retire(keep=False)
  assert _names(saved) == ['99999999']


def test_a_file_too_many_is_damage(saved):
  (saved / '00000009' / 'rows-000000000000-000000000009.npz').touch()
  assert _Setup(saved).restored() == 4
