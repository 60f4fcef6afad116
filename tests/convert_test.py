"""Conversions into Minari's layout: what is kept, and what is refused."""

import json

import h5py
import numpy as np
import pandas
import pytest
from gymnasium import spaces

from qwr_tf import datasets
from qwr_tf import environments
from qwr_tf.environments import description

_SPACES = {
  'observation_space': spaces.Box(np.float32([-1, -2]), np.float32([1, 2])),
  'action_space': spaces.Discrete(3),
}
_EPISODE = datasets.Episode(
  np.zeros([4, 2], np.float32),
  np.array([0, 2, 1]),
  np.ones(3),
  np.array([False, False, True]),
  np.zeros(3, bool),
  {},
)


@pytest.fixture(autouse=True)
def _isolated(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)


def _written(path, **metadata):
  described = {
    name: json.dumps(description.content_of(space))
    for name, space in _SPACES.items()
  }
  datasets.write(path, [_EPISODE] * 2, described | metadata)


def _converted(data, path):
  """Metadata of the data set in the layout of Minari."""
  env = environments.load(
    environments.NO_SIMULATOR, observation_shape=(2,), num_actions=3
  )
  datasets.convert(datasets.DataSet(str(data)), env.env, path)
  return json.loads((path / 'data' / 'metadata.json').read_text())


def test_what_a_data_set_says_of_itself_is_kept(tmp_path):
  kept = {
    'dataset_id': 'shop/log-v0',
    'env_spec': json.dumps({'id': 'CartPole-v1'}),
    'ref_min_score': 1,
    'ref_max_score': 5.5,
    'author': ['Ada', 'Bo'],
  }
  _written(tmp_path / 'old', **kept, description=None)
  metadata = _converted(tmp_path / 'old', tmp_path / 'new')
  assert {name: metadata[name] for name in kept} == kept
  assert 'description' not in metadata
  assert datasets.DataSet('new').environment == 'CartPole-v1'
  for name, space in _SPACES.items():
    assert environments.space_of(json.loads(metadata[name])) == space


def test_attributes_of_a_file_are_kept(tmp_path):
  # Minari before 0.5 wrote its metadata there, as numpy's types.
  _written(tmp_path / 'old')
  (tmp_path / 'old' / 'data' / 'metadata.json').unlink()
  with h5py.File(tmp_path / 'old' / 'data' / 'main_data.hdf5', 'a') as file:
    file.attrs['ref_min_score'] = np.float64(0.5)
    file.attrs['ref_max_score'] = np.int64(7)
    file.attrs['minari_version'] = '0.4.3'
    file.attrs['author'] = np.bytes_('Ada')  # JSON has no bytes.
  metadata = _converted(tmp_path / 'old', tmp_path / 'new')
  assert (metadata['ref_min_score'], metadata['ref_max_score']) == (0.5, 7)
  assert metadata['minari_version'] == '0.5.0' and 'author' not in metadata


def test_a_table_is_of_no_environment(tmp_path):
  table = {'episode': [0, 0, 1], 'observation_0': 0.5, 'observation_1': 0.0,
           'action': [0, 1, 2], 'reward': 1.0}  # fmt: skip
  pandas.DataFrame(table).to_csv(tmp_path / 'log.csv')
  metadata = _converted(tmp_path / 'log.csv', tmp_path / 'new')
  assert metadata['dataset_id'] == 'new' and 'env_spec' not in metadata
  # Minari asks for the one, and takes images for JPEG without the other.
  assert metadata['minari_version'] and not metadata['jpeg_encoding']
  assert datasets.DataSet('new').spaces()['num_actions'] == 3


@pytest.mark.parametrize('name', ['.', '/', 'old'])
def test_what_is_there_already_stays(tmp_path, monkeypatch, name):
  _written(tmp_path / 'old')
  if name == '.':
    (tmp_path / 'empty').mkdir()
    monkeypatch.chdir(tmp_path / 'empty')
  with pytest.raises(FileExistsError):
    datasets.write(type(tmp_path)(name), [_EPISODE], {})


@pytest.mark.slow
def test_the_command(tmp_path, run_program):
  _written(tmp_path / 'old')
  ended = run_program("""
import pathlib
from qwr_tf.config import command
from qwr_tf import convert

def run(*arguments):
  command.parse_flags(['convert', *arguments])
  try:
    command.guarded(convert.main)
  except SystemExit as ended:
    print('code', ended.code)

run('--dataset=old', '--output=new')
run('--dataset=old', '--output=new')
run('--dataset=old', '--output=.')

def refuse(*_, **__):
  raise PermissionError(1, 'Operation not permitted')

pathlib.Path.mkdir = refuse
run('--dataset=old', '--output=other')
""")
  assert ended.returncode == 0, ended.stderr
  assert 'steps     6' in ended.stdout
  assert ended.stdout.count('code 2') == 3
  lines = [x for x in ended.stderr.splitlines() if x.startswith('error: ')]
  reasons = 'File exists', 'File exists', 'Operation not permitted'
  assert lines == [
    f'error: {name} cannot be written ({reason}); choose another --output.'
    for name, reason in zip(('new', '.', 'other'), reasons, strict=True)
  ]
