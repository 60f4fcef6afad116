"""Files and folders of tables: names, order, types, and what is refused."""

import gymnasium
import numpy as np
import pandas
import pyarrow
import pytest

from qwr_tf import datasets
from qwr_tf import environments

_SPACES = gymnasium.spaces.Box(-9, 9, [2]), gymnasium.spaces.Discrete(3)


def _part(first, episode, **columns) -> pandas.DataFrame:
  """Steps whose first observation counts on from `first`."""
  numbers = np.arange(first, first + len(episode))
  table = {
    'episode': episode,
    'observation_0': numbers,
    'observation_1': 0.5,
    'action': numbers % 3,
    'reward': numbers / 4,
  }
  return pandas.DataFrame(table | columns)


def _folder(path, *parts, kind='csv', **more):
  """Parts as part-1, part-2, …, and more files by name."""
  path.mkdir()
  more |= {f'part-{i}.{kind}': frame for i, frame in enumerate(parts, 1)}
  for name, frame in more.items():
    if name.lower().endswith('csv'):
      frame.to_csv(path / name, index=False)
    else:
      frame.to_parquet(path / name)
  return str(path)


def _episodes(data, action_space=_SPACES[1], **kwargs):
  specs = environments.specs_of(_SPACES[0], action_space)
  bounds = environments.action_bounds(action_space)
  opened = datasets.DataSet(data, **kwargs)
  return list(opened.episodes(specs[0].observation, specs[1], bounds))


def _logged(data, **kwargs) -> list[list[float]]:
  """The first numbers of the observations, by episode."""
  return [
    episode.observations[:-1, 0].tolist()
    for episode in _episodes(data, **kwargs)
  ]


# Folders.


@pytest.mark.parametrize('kind', ['csv', 'parquet'])
def test_files_are_in_the_order_of_their_numbers(tmp_path, kind):
  parts = [_part(2 * i, [i, i]) for i in range(12)]
  folder = _folder(tmp_path / 'log', *parts, kind=kind)
  assert _logged(folder) == [[2 * i, 2 * i + 1] for i in range(12)]


@pytest.mark.parametrize('chunk', [1, 3, 100])
def test_files_that_number_their_episodes_anew(tmp_path, chunk):
  steps = [0, 1, 0, 1, 2]
  parts = [_part(5 * i, [0, 0, 1, 1, 1], step=steps) for i in range(2)]
  folder = _folder(tmp_path / 'log', *parts)
  expected = [[0, 1], [2, 3, 4], [5, 6], [7, 8, 9]]
  assert _logged(folder, chunk_steps=chunk) == expected
  # The same number on both sides of the border.
  parts = [_part(2 * i, [0, 0], step=[0, 1]) for i in range(3)]
  folder = _folder(tmp_path / 'short', *parts)
  assert _logged(folder, chunk_steps=chunk) == [[0, 1], [2, 3], [4, 5]]


@pytest.mark.parametrize('chunk', [1, 3, 100])
def test_an_episode_goes_on_in_the_next_file_if_its_steps_do(tmp_path, chunk):
  folder = _folder(
    tmp_path / 'log',
    _part(0, [0, 0, 1], step=[0, 1, 0]),
    _part(3, [1, 1], step=[1, 2]),
    _part(5, [1, 2], step=[3, 0]),
  )
  expected = [[0, 1], [2, 3, 4, 5], [6]]
  assert _logged(folder, chunk_steps=chunk) == expected


@pytest.mark.parametrize('second', [[1, 2], [2, 0]])
def test_an_episode_of_two_files_that_could_be_two(tmp_path, second):
  folder = _folder(tmp_path / 'log', _part(0, [0, 1]), _part(2, second))
  with pytest.raises(ValueError, match='log: row [23]: episode [01] is in an '):
    _logged(folder)


def test_an_episode_that_goes_on_after_others_is_refused(tmp_path):
  folder = _folder(
    tmp_path / 'log',
    _part(0, [0, 0, 1], step=[0, 1, 0]),
    _part(3, [0, 1], step=[2, 1]),
  )
  with pytest.raises(ValueError, match='row 3: episode 0 was complete'):
    _logged(folder)


def test_episodes_that_end_at_flags_go_on_in_the_next_file(tmp_path):
  table = _part(0, [0] * 8, timeout=np.arange(8) % 4 == 3)
  table = table.drop(columns='episode')
  folder = _folder(tmp_path / 'log', table[:3], table[3:5], table[5:])
  assert _logged(folder) == [[0, 1, 2, 3], [4, 5, 6, 7]]


def test_what_else_may_be_in_a_folder(tmp_path):
  first, second = _part(0, [0, 0]), _part(2, [1, 1])
  folder = _folder(tmp_path / 'log', second, **{'a.CSV': first})
  (tmp_path / 'log' / 'readme.md').write_text('Notes, and\nmore, of, them\n')
  (tmp_path / 'log' / '.part-0.csv').write_text('hidden')
  assert _logged(folder) == [[0, 1], [2, 3]]
  mixed = {'b.pq': second, 'a.PARQUET': first}
  assert _logged(_folder(tmp_path / 'mixed', **mixed)) == [[0, 1], [2, 3]]


def test_a_folder_of_npz_says_what_can_be_read(tmp_path):
  np.savez(tmp_path / 'log.npz', **dict(_part(0, [0, 0])))
  with pytest.raises(ValueError, match='tables of one format.*.parquet'):
    datasets.DataSet(str(tmp_path))


def test_columns_that_the_first_file_lacks(tmp_path):
  # Without them both episodes would end in a terminal state.
  parts = _part(0, [0, 0]), _part(2, [1, 1], terminal=[False, False])
  with pytest.raises(ValueError, match='row 0, terminal: null'):
    _logged(_folder(tmp_path / 'log', *parts, kind='parquet'))


@pytest.mark.parametrize('kind', ['csv', 'parquet'])
def test_integers_in_the_first_file_alone(tmp_path, kind):
  box = gymnasium.spaces.Box(-9, 9, [1])
  parts = (
    _part(0, [0, 0], reward=1, action=1, probability=1),
    _part(2, [1, 1], reward=1.5, action=0.5, probability=0.25),
  )
  folder = _folder(tmp_path / 'log', *parts, kind=kind)
  last = _episodes(folder, box)[-1]
  assert last.rewards.tolist() == [1.5, 1.5]
  assert last.actions.tolist() == [[0.5], [0.5]]
  assert last.dist_params['probability'].tolist() == [0.25, 0.25]


# Files.


@pytest.mark.parametrize('name', ['log.CSV', 'log.Parquet', 'log.NPZ'])
def test_endings_in_upper_case(tmp_path, name):
  frame, path = _part(0, [0, 0]), tmp_path / name
  if name.endswith('CSV'):
    frame.to_csv(path, index=False)
  elif name.endswith('Parquet'):
    frame.to_parquet(path)
  else:
    with open(path, 'wb') as file:
      np.savez(file, **{column: frame[column] for column in frame})
  assert _logged(str(path)) == [[0, 1]]
  assert datasets.DataSet(str(path)).name == 'log'


@pytest.mark.parametrize('name', ['log.csv.gz', 'log.tsv', 'log.CSV.zip'])
def test_endings_of_no_table(tmp_path, name):
  _part(0, [0, 0]).to_csv(tmp_path / name)
  with pytest.raises(ValueError, match=f'{name}: .*decompress.*csv') as caught:
    datasets.DataSet(str(tmp_path / name))
  assert 'HDF5 file' in str(caught.value)


@pytest.mark.parametrize(
  'column', ['reward', 'observation_0', 'probability', 'action']
)
def test_a_csv_of_integers_at_first(tmp_path, column):
  count = 60_000  # More than the block of a MiB that Arrow takes types from.
  table = _part(0, np.repeat([0, 1], [count - 1, 1]), probability=1, action=1)
  lines = table.astype(int).to_csv(index=False).splitlines()
  last = table[-1:].assign(**{column: 0.5})
  lines[-1] = last.to_csv(index=False).splitlines()[1]
  path = tmp_path / 'log.csv'
  path.write_text('\n'.join(lines))
  assert path.stat().st_size > 1 << 20
  box = gymnasium.spaces.Box(-9, 9, [1])
  last = _episodes(str(path), box)[-1]
  values = {
    'reward': last.rewards,
    'observation_0': last.observations[:, 0],
    'probability': last.dist_params['probability'],
    'action': last.actions[:, 0],
  }
  assert values[column][0] == 0.5


def test_a_csv_in_another_encoding_is_named(tmp_path):
  path = tmp_path / 'log.csv'
  for table in (
    _part(0, ['grün', 'grün']),
    _part(0, [0, 0]).rename(columns={'reward': 'Prämie'}),
  ):
    table.to_csv(path, index=False, encoding='latin-1')
    with pytest.raises(ValueError, match=r'log.csv: cannot be read.*(?i:utf)'):
      _logged(str(path))


def test_structs_are_no_columns(tmp_path):
  table = _part(0, [0, 0]).drop(columns='episode')
  table['episode'] = [{'day': 1}, {'day': 2}]
  pyarrow.parquet.write_table(
    pyarrow.Table.from_pandas(table), tmp_path / 'log.parquet'
  )
  with pytest.raises(ValueError, match='log.parquet: .*struct'):
    _logged(str(tmp_path / 'log.parquet'))
