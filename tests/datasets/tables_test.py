"""Tables, Minari's Arrow format and arrays: the same steps in every layout."""

import json
import re
import sys

import gin
import gymnasium
import numpy as np
import pandas
import pyarrow
import pyarrow.csv
import pyarrow.dataset
import pyarrow.parquet
import pytest

from qwr_tf import datasets
from qwr_tf import environments
from qwr_tf.acting import offline
from qwr_tf.config import gin_files
from qwr_tf.config.errors import ConfigError
from qwr_tf.datasets import rlds_layout
from qwr_tf.environments import description
from qwr_tf.training import experiment

_LENGTHS = (3, 1, 4)
_SPACES = gymnasium.spaces.Box(-9, 9, [2]), gymnasium.spaces.Discrete(3)


@pytest.fixture(autouse=True)
def _no_bindings():
  gin.clear_config()
  yield
  gin.clear_config()


def _frame(**columns) -> pandas.DataFrame:
  """Three episodes; the second and the third end in a terminal state."""
  count = sum(_LENGTHS)
  rng = np.random.default_rng(0)
  frame = {
    'episode': np.repeat([7, 3, 5], _LENGTHS),
    'step': np.concatenate([np.arange(n) for n in _LENGTHS]),
    'observation_0': rng.normal(size=count),
    'observation_1': np.arange(count) / 8,
    'action': rng.integers(3, size=count),
    'reward': np.arange(count) / 4,
    'terminal': np.isin(np.arange(count), [3, 7]),
    'probability': np.linspace(0.2, 0.9, count),
  }
  return pandas.DataFrame(frame | columns)


def _written(frame, path, kind):
  path = path / f'log.{kind}'
  if kind == 'csv':
    frame.to_csv(path, index=False)
  elif kind == 'parquet':
    pyarrow.parquet.write_table(pyarrow.Table.from_pandas(frame), path)
  elif kind == 'npz':
    np.savez(path, **{name: frame[name].to_numpy() for name in frame})
  elif kind == 'frame':
    return frame
  else:
    return {name: frame[name].to_numpy() for name in frame}
  return str(path)


def _episodes(data, action_space=_SPACES[1]) -> list[datasets.Episode]:
  time_step_spec, action_spec = environments.specs_of(_SPACES[0], action_space)
  bounds = environments.action_bounds(action_space)
  return list(data.episodes(time_step_spec.observation, action_spec, bounds))


@pytest.mark.parametrize('kind', ['csv', 'parquet', 'npz', 'frame', 'arrays'])
@pytest.mark.parametrize('chunk', [2, 100])
def test_a_table_gives_its_episodes(tmp_path, kind, chunk):
  frame = _frame()
  data = datasets.DataSet(_written(frame, tmp_path, kind), chunk_steps=chunk)
  assert data.steps == 8
  assert data.spaces() == {'observation_shape': (2,)}
  episodes = _episodes(data)
  assert tuple(len(e.rewards) for e in episodes) == _LENGTHS
  names = ['observation_0', 'observation_1']
  for episode, (_, rows) in zip(
    episodes, frame.groupby('episode', sort=False), strict=True
  ):
    np.testing.assert_allclose(
      episode.observations[:-1], rows[names], rtol=1e-6
    )
    np.testing.assert_array_equal(episode.actions, rows['action'])
    np.testing.assert_allclose(episode.rewards, rows['reward'])
    np.testing.assert_array_equal(episode.terminations, rows['terminal'])
    over = np.arange(len(rows)) == len(rows) - 1
    np.testing.assert_array_equal(episode.truncations, over & ~rows['terminal'])
    np.testing.assert_allclose(
      episode.dist_params['probability'], rows['probability'], rtol=1e-6
    )


def test_columns_by_configuration(tmp_path):
  frame = _frame().rename(
    columns={'episode': 'session', 'reward': 'clicks', 'action': 'offer'}
  )
  frame['age'] = frame['observation_0']
  path = _written(frame.drop(columns='terminal'), tmp_path, 'parquet')
  gin.parse_config("""
    TableColumns.episode = 'session'
    TableColumns.reward = 'clicks'
    TableColumns.action = 'offer'
    TableColumns.observation = ('age', 'observation_1')
  """)
  episodes = _episodes(datasets.DataSet(path))
  # Without a column of terminal states every last step is one.
  assert [e.terminations[-1] for e in episodes] == [True] * 3
  assert not any(e.truncations.any() for e in episodes)
  np.testing.assert_allclose(
    episodes[2].observations[:-1, 0], frame['age'][4:], rtol=1e-6
  )


@pytest.mark.parametrize(
  'name', ['episode', 'step', 'terminal', 'timeout', 'probability', 'action']
)
def test_a_column_that_was_named_and_is_not_there(tmp_path, name):
  path = _written(_frame(), tmp_path, 'csv')
  gin.parse_config(f"TableColumns.{name} = 'dones'")
  with pytest.raises(ValueError, match="log.csv has no.*'dones'.*it has.*rew"):
    datasets.DataSet(path)


def test_columns_of_one_number_each():
  frame = _frame()
  arrays = {name: x.to_numpy() for name, x in frame.items()}
  deep = {name: x[:, np.newaxis] for name, x in arrays.items()}
  for one, other in zip(
    _episodes(datasets.DataSet(arrays, chunk_steps=3)),
    _episodes(datasets.DataSet(deep, chunk_steps=3)),
    strict=True,
  ):
    np.testing.assert_array_equal(one.observations, other.observations)
    np.testing.assert_array_equal(one.terminations, other.terminations)
  for name in ('episode', 'step'):
    wide = arrays | {name: np.zeros([8, 2])}
    with pytest.raises(ValueError, match=rf'{name}: .* shape \(2,\).*; '):
      _episodes(datasets.DataSet(wide))


def test_columns_of_lists_and_numbers_in_order():
  frame = _frame().drop(columns=['observation_0', 'observation_1'])
  many = {f'observation_{i}': np.full(8, i / 4) for i in (10, 9, 2)}
  episodes = datasets.DataSet(dict(frame) | many)
  assert episodes.spaces() == {'observation_shape': (3,)}
  box = gymnasium.spaces.Box(-9, 9, [3])
  time_step_spec, action_spec = environments.specs_of(box, _SPACES[1])
  first = next(
    episodes.episodes(
      time_step_spec.observation,
      action_spec,
      environments.action_bounds(_SPACES[1]),
    )
  )
  assert first.observations[0].tolist() == [0.5, 2.25, 2.5]


_ENTRIES = gymnasium.spaces.Dict(
  {
    'joints': _SPACES[0],
    'goal': gymnasium.spaces.Dict({'color': gymnasium.spaces.Discrete(2)}),
  }
)


def _nested_frame() -> pandas.DataFrame:
  frame = _frame(color=np.arange(8) % 2)
  return frame.rename(columns=lambda c: c.replace('observation', 'joint'))


def _nested_episodes(data) -> list[datasets.Episode]:
  time_step_spec, action_spec = environments.specs_of(_ENTRIES, _SPACES[1])
  bounds = environments.action_bounds(_SPACES[1])
  return list(data.episodes(time_step_spec.observation, action_spec, bounds))


@pytest.mark.parametrize('kind', ['csv', 'parquet', 'arrays'])
def test_columns_of_a_dict_space(tmp_path, kind):
  gin.parse_config(
    "TableColumns.observation = {'joints': 'joint', 'goal/color': ['color']}"
  )
  frame = _nested_frame()
  data = datasets.DataSet(_written(frame, tmp_path, kind), chunk_steps=3)
  space = environments.space_of(data.spaces()['observation_space'])
  shapes = {
    entry.name: entry.spec.shape for entry in environments.entries(space)
  }
  assert shapes == {'joints': (2,), 'goal/color': (1,)}
  episodes = _nested_episodes(data)
  assert [len(e.rewards) for e in episodes] == [*_LENGTHS]
  joined = [
    np.concatenate([e.observations[name][:-1] for e in episodes])
    for name in ('joints', 'goal/color')
  ]
  names = ['joint_0', 'joint_1']
  np.testing.assert_allclose(joined[0], frame[names], rtol=1e-6)
  np.testing.assert_array_equal(joined[1], frame['color'])


def test_entries_that_no_columns_are_named_for(tmp_path):
  with pytest.raises(ValueError, match=r"TableColumns.*'goal/color': 'column'"):
    _nested_episodes(datasets.DataSet(_frame()))


@pytest.mark.parametrize(
  'change, problem',
  [
    ({'episode': [1, 1, 1, 2, 1, 1, 1, 1]}, 'episode 1 was complete'),
    ({'step': [0, 2, 1, 0, 0, 1, 2, 3]}, 'row 2, step'),
    ({'terminal': [1, 0, 0, 1, 0, 0, 0, 1]}, 'row 0, terminal: the episode'),
    ({'timeout': [0, 1, 1, 0, 0, 0, 0, 0]}, 'row 1, timeout: the episode'),
    ({'reward': [0, np.nan, 0, 0, 0, 0, 0, 0]}, 'row 1, reward: NaN'),
    ({'action': [0, 1, 2, 3, 0, 0, 0, 0]}, r'row 3, action: outside of \[0, 2'),
    ({'action': list('abcabcab')}, 'action: has dtype'),
    ({'episode': [0, 0, None, None, 1, 1, 1, 1]}, 'row 2, episode: null'),
    ({'episode': ['a', 'a', 'b', None, None, *'ccc']}, 'row 3, episode: null'),
    ({'step': [0, 1, 2, 0, 0, None, 2, 3]}, 'row 5, step: null'),
    ({'step': ['a', 'b', 'c', 'a', 'a', 'b', None, 'd']}, 'row 6, step: null'),
    ({'terminal': [False, None] + [False] * 6}, 'row 1, terminal: null'),
    ({'timeout': [False, None] + [False] * 6}, 'row 1, timeout: null'),
    ({'action': [0, 1, None, 0, 0, 0, 0, 0]}, 'row 2, action: null'),
  ],
)
@pytest.mark.parametrize('kind', ['parquet', 'arrays'])
def test_bad_tables(tmp_path, kind, change, problem):
  path = _written(_frame(**change), tmp_path, kind)
  with pytest.raises(ValueError, match=problem) as caught:
    _episodes(datasets.DataSet(path, chunk_steps=3))
  assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize('chunk', [2, 3, 100])
def test_the_order_of_steps_across_chunks(chunk):
  frame = _frame(step=[0, 1, 2, 0, 0, 1, 2, 0])
  with pytest.raises(ValueError, match='row 7, step'):
    _episodes(datasets.DataSet(frame, chunk_steps=chunk))
  # Without a column of episodes they end at the flags.
  frame = frame.drop(columns='episode').assign(timeout=np.arange(8) == 2)
  with pytest.raises(ValueError, match='row 7, step'):
    _episodes(datasets.DataSet(frame, chunk_steps=chunk))
  assert len(_episodes(datasets.DataSet(frame.assign(step=range(8))))) == 3


def test_the_beginning_of_a_name_names_observations_and_actions_alone():
  frame = _frame(episode_return=1.0, step_seconds=0.0, timeout_ms=5)
  assert len(_episodes(datasets.DataSet(frame))) == 3
  frame = frame.rename(columns={'episode': 'episode_id'})
  with pytest.raises(ValueError, match='column for the episode.*episode_id'):
    datasets.DataSet(frame)


def test_files_of_numpy_that_cannot_be_read(tmp_path):
  path = tmp_path / 'log.npz'
  arrays = {name: x.to_numpy() for name, x in _frame().items()}
  np.savez(path, **arrays)
  whole = path.read_bytes()
  np.savez(path, **arrays, names=np.array(['a', None] * 4, object))
  with_objects = path.read_bytes()
  for content in (whole[:-50], whole[:500], b'', b'text', with_objects):
    path.write_bytes(content)
    with pytest.raises(ValueError, match='log.npz: cannot be read'):
      datasets.DataSet(str(path))
  # In all headers of the archive: encrypted, or of an unknown method.
  for field, value in ((6, b'\1'), (8, b'\x63')):
    changed = bytearray(whole)
    for mark, shift in ((b'PK\3\4', 0), (b'PK\1\2', 2)):
      for found in re.finditer(re.escape(mark), whole):
        place = found.start() + field + shift
        changed[place : place + 1] = value
    path.write_bytes(changed)
    with pytest.raises(ValueError, match='log.npz: cannot be read'):
      datasets.DataSet(str(path))
  np.save(tmp_path / 'one.npy', np.zeros(3))
  (tmp_path / 'one.npy').rename(path)
  with pytest.raises(ValueError, match='log.npz: cannot be read'):
    datasets.DataSet(str(path))


def test_faults_of_lists_and_metadata_name_the_file(tmp_path):
  frame = _frame(observation=[[0.0]] * 7 + [[0.0, 1.0]])
  path = _written(frame, tmp_path, 'parquet')
  with pytest.raises(ValueError, match='log.parquet.*several lengths'):
    _episodes(datasets.DataSet(path))
  table = pyarrow.Table.from_pandas(_frame(), preserve_index=False)
  table = table.replace_schema_metadata({'action_space': '{'})
  pyarrow.parquet.write_table(table, path)
  with pytest.raises(ValueError, match='log.parquet: action_space'):
    datasets.DataSet(path).spaces()


def test_images_in_a_table_stay_bytes(tmp_path):
  columns = {name: x.to_numpy() for name, x in _frame().items()}
  columns['observation'] = np.zeros([8, 4, 4, 3], np.uint8)
  np.savez(tmp_path / 'log.npz', **columns)
  _configure(tmp_path / 'log.npz', 'load_environment.num_actions = 3')
  with experiment.load_environment('NoSimulator') as env:
    assert env.env.observation_space.dtype == np.uint8


def test_missing_columns(tmp_path):
  path = _written(_frame().drop(columns='reward'), tmp_path, 'csv')
  with pytest.raises(ValueError, match='column for the reward.*TableColumns'):
    datasets.DataSet(path)


def _minari(folder, kind):
  """What Minari 0.5's `create_dataset_from_buffers` writes."""
  data = folder / 'data'
  data.mkdir(parents=True)
  for number, episode in enumerate(_episodes(datasets.DataSet(_frame()))):
    length = len(episode.rewards)
    observations = pyarrow.FixedSizeListArray.from_arrays(
      episode.observations.reshape(-1).astype(np.float32), 2
    )
    params = np.append(episode.dist_params['probability'], 0)
    info = pyarrow.StructArray.from_arrays(
      [
        pyarrow.StructArray.from_arrays(
          [pyarrow.array(params)], ['probability']
        )
      ],
      ['dist_params'],
    )
    batch = pyarrow.RecordBatch.from_pydict(
      {
        'episode_id': np.full(length + 1, number, np.int32),
        'observations': observations,
        **{
          name: np.append(getattr(episode, name), [0]).astype(dtype)
          for name, dtype in (
            ('actions', np.int64),
            ('rewards', np.float64),
            ('terminations', bool),
            ('truncations', bool),
          )
        },
        'infos': info,
      }
    )
    pyarrow.dataset.write_dataset(
      batch, data, format=kind, partitioning=['episode_id'],
      existing_data_behavior='overwrite_or_ignore',
    )  # fmt: skip
    (data / str(number) / 'metadata.json').write_text('{}')
  spaces = {
    'observation_space': json.dumps(
      {'type': 'Box', 'dtype': 'float32', 'shape': [2],
       'low': [-9, -9], 'high': [9, 9]}
    ),
    'action_space': json.dumps({'type': 'Discrete', 'n': 3, 'start': 0}),
  }  # fmt: skip
  (data / 'metadata.json').write_text(
    json.dumps({'data_format': kind, **spaces})
  )


@pytest.mark.parametrize('kind', ['arrow', 'parquet'])
def test_minari_s_other_formats_by_id(tmp_path, monkeypatch, kind):
  _minari(tmp_path / 'store' / 'shop' / 'log-v0', kind)
  monkeypatch.setenv('MINARI_DATASETS_PATH', str(tmp_path / 'store'))
  data = datasets.DataSet('shop/log-v0')
  assert data.steps == 8 and data.recorded == {'probability'}
  assert data.spaces()['num_actions'] == 3
  for one, other in zip(
    _episodes(data), _episodes(datasets.DataSet(_frame())), strict=True
  ):
    for name in ('observations', 'actions', 'rewards', 'terminations'):
      np.testing.assert_allclose(
        getattr(one, name), getattr(other, name), rtol=1e-6
      )


def _struct(columns, shape=None):
  """A column of structs, as Minari writes Dict and Tuple spaces, and infos."""
  metadata = shape and {'shape': shape}
  fields = [
    pyarrow.field(name, x.type, metadata=metadata)
    for name, x in columns.items()
  ]
  return pyarrow.StructArray.from_arrays([*columns.values()], fields=fields)


def _flat_lists(array):
  values = pyarrow.array(array.reshape(-1))
  return pyarrow.FixedSizeListArray.from_arrays(values, array[0].size)


def _one_episode(folder, space, action_space, **columns):
  """An episode of three steps in Minari's Parquet format."""
  (folder / '0').mkdir(parents=True)
  columns = {
    'rewards': [1.0, 2.0, 3.0, 0.0],
    'terminations': [False, False, True, False],
    'truncations': [False] * 4,
  } | columns
  pyarrow.parquet.write_table(
    pyarrow.table(columns), folder / '0' / 'a.parquet'
  )
  spaces = {'observation_space': space, 'action_space': action_space}
  content = {
    name: json.dumps(description.content_of(space))
    for name, space in spaces.items()
  }
  text = json.dumps(content | {'data_format': 'parquet'})
  (folder / 'metadata.json').write_text(text)
  specs = environments.specs_of(space, action_space)
  bounds = environments.action_bounds(action_space)
  data = datasets.DataSet(str(folder))
  return next(data.episodes(specs[0].observation, specs[1], bounds))


def test_nested_observations_in_minari_s_parquet(tmp_path):
  box = gymnasium.spaces.Box(-9, 9, [2, 2])
  space = gymnasium.spaces.Dict(
    goal=gymnasium.spaces.Dict(color=gymnasium.spaces.Discrete(2)),
    pair=gymnasium.spaces.Tuple([box, _SPACES[0]]),
  )
  first, second = (np.arange(4.0 * n, dtype='f').reshape(4, n) for n in (4, 2))
  pair = {'0': _flat_lists(first), '1': _flat_lists(second)}
  observations = _struct(
    {
      'goal': _struct({'color': pyarrow.array([0, 1, 1, 0])}),
      'pair': _struct(pair),
    }
  )
  episode = _one_episode(
    tmp_path, space, _SPACES[1], observations=observations, actions=[2, 1, 0, 0]
  )
  assert episode.actions.tolist() == [2, 1, 0]
  logged = episode.observations
  np.testing.assert_array_equal(logged['goal/color'], [0, 1, 1, 0])
  np.testing.assert_array_equal(logged['pair/_index_0'], first.reshape(4, 2, 2))
  np.testing.assert_array_equal(logged['pair/_index_1'], second)


@pytest.mark.parametrize(
  'infos',
  [
    None,
    pyarrow.array(['{}'] * 4),
    _struct({'dist_params': pyarrow.array(['none'] * 4)}),
    _struct({'m': _flat_lists(np.zeros([4, 4]))}, '2,2'),
  ],
)
def test_infos_of_minari_s_parquet_without_parameters(tmp_path, infos):
  columns = {'infos': infos} if infos is not None else {}
  episode = _one_episode(
    tmp_path, *_SPACES, observations=_flat_lists(np.zeros([4, 2])),
    actions=[2, 1, 0, 0], **columns,
  )  # fmt: skip
  assert episode.rewards.tolist() == [1, 2, 3] and not episode.dist_params


def test_multidiscrete_actions_in_minari_s_parquet(tmp_path):
  logits = np.arange(16.0, dtype='f').reshape(4, 2, 2)
  params = _struct({'logits': _flat_lists(logits)}, '2,2')
  episode = _one_episode(
    tmp_path,
    _SPACES[0],
    gymnasium.spaces.MultiDiscrete([2, 2]),
    observations=_flat_lists(np.zeros([4, 2])),
    actions=[[0, 1], [1, 1], [0, 0], None],
    infos=_struct({'dist_params': params}),
  )
  assert episode.actions.tolist() == [[0, 1], [1, 1], [0, 0]]
  np.testing.assert_array_equal(episode.dist_params['logits'], logits[:3])


def _configure(dataset, *bindings):
  return experiment.configuration(
    [],
    [
      "run.environment = 'NoSimulator'",
      f'run.dataset = {str(dataset)!r}',
      'run.interactions = 0',
      'run.offline_iterations = 1',
      *bindings,
    ],
  )


def test_spaces_come_from_the_data(tmp_path):
  _minari(tmp_path / 'set', 'arrow')
  text = _configure(tmp_path / 'set')
  assert 'load_environment.num_actions = 3' in text
  with experiment.load_environment('NoSimulator') as env:
    assert env.env.action_space == _SPACES[1]
    assert env.env.observation_space.shape == (2,)


def test_shapes_come_from_the_arrays_where_nothing_describes_them(tmp_path):
  episode = datasets.Episode(
    np.zeros([3, 8, 6, 1], np.uint8),
    np.zeros([2, 4], np.float32),
    np.zeros(2, np.float32),
    np.array([False, True]),
    np.zeros(2, bool),
    {},
  )
  datasets.write(tmp_path / 'set', [episode], {})
  _configure(tmp_path / 'set')
  with experiment.load_environment('NoSimulator') as env:
    assert env.env.observation_space.shape == (8, 6, 1)
    assert env.env.observation_space.dtype == np.uint8
    assert env.env.action_space == gymnasium.spaces.Box(-1.0, 1.0, [4])


def test_a_given_space_stands_for_the_shape_of_the_arrays(tmp_path):
  frame = _frame().drop(columns=['observation_0', 'observation_1'])
  frame['observation'] = np.arange(8)
  space = "{'type': 'Discrete', 'n': 8, 'start': 0}"
  _configure(
    _written(frame, tmp_path, 'csv'),
    f'load_environment.observation_space = {space}',
    'load_environment.num_actions = 3',
  )
  with experiment.load_environment('NoSimulator') as env:
    assert env.env.observation_space == gymnasium.spaces.Discrete(8)


def test_nested_spaces_come_from_the_data(tmp_path):
  actions = gymnasium.spaces.MultiDiscrete([3, 2])
  spaces = {
    'observation_space': _ENTRIES,
    'action_space': actions,
  }
  metadata = {
    name: json.dumps(description.content_of(space))
    for name, space in spaces.items()
  }
  episode = datasets.Episode(
    {'joints': np.zeros([3, 2], np.float32), 'goal/color': np.array([0, 1, 1])},
    np.array([[2, 1], [0, 0]]),
    np.zeros(2, np.float32),
    np.array([False, True]),
    np.zeros(2, bool),
    {},
  )
  datasets.write(tmp_path / 'set', [episode], metadata)
  _configure(tmp_path / 'set')
  with experiment.load_environment('NoSimulator') as env:
    assert env.env.action_space == actions
    entries = environments.entries(env.env.observation_space)
    assert [e.name for e in entries] == ['goal/color', 'joints']
    start = env.reset().observation
    assert start['goal/color'] == 0 and start['joints'].shape == (2,)
  other = "{'type': 'Discrete', 'n': 5, 'start': 0}"
  with pytest.raises(ConfigError, match='observation_space is'):
    _configure(
      tmp_path / 'set', f'load_environment.observation_space = {other}'
    )


@pytest.mark.parametrize('shape', [(), (2,), (2, 3)])
def test_bounds_of_boxes_come_from_the_data(tmp_path, shape):
  high = np.arange(1.0, 1.0 + np.prod(shape), dtype=np.float32).reshape(shape)
  actions = gymnasium.spaces.Box(-1.0 - high, high)
  episode = datasets.Episode(
    np.zeros([3, 2], np.float32),
    np.zeros([2, *shape], np.float32),
    np.zeros(2, np.float32),
    np.array([False, True]),
    np.zeros(2, bool),
    {},
  )
  metadata = {
    'observation_space': gymnasium.spaces.Box(-np.inf, np.inf, (2,)),
    'action_space': actions,
  }
  metadata = {
    name: json.dumps(description.content_of(space))
    for name, space in metadata.items()
  }
  datasets.write(tmp_path / 'set', [episode], metadata)
  _configure(tmp_path / 'set')
  with experiment.load_environment('NoSimulator') as env:
    assert env.env.action_space == actions


def test_spaces_that_contradict_the_data(tmp_path):
  _minari(tmp_path / 'set', 'arrow')
  with pytest.raises(ConfigError, match='num_actions is 2.*has 3'):
    _configure(tmp_path / 'set', 'load_environment.num_actions = 2')


def test_only_what_is_missing_is_asked_for(tmp_path):
  path = _written(_frame(), tmp_path, 'parquet')
  _configure(path)
  with pytest.raises(ValueError, match='num_actions'):
    experiment.load_environment('NoSimulator')
  _configure(path, 'load_environment.num_actions = 3')
  with experiment.load_environment('NoSimulator') as env:
    assert env.env.observation_space.shape == (2,)


def test_converted_to_minari(tmp_path):
  gin_files.parse([], [])
  frame = datasets.DataSet(_frame())
  datasets.write(tmp_path / 'new', _episodes(frame), {})
  data = offline.open_data_set(str(tmp_path / 'new'), 'NoSimulator')
  for one, other in zip(
    _episodes(data), _episodes(datasets.DataSet(_frame())), strict=True
  ):
    np.testing.assert_allclose(one.observations, other.observations, rtol=1e-6)
    np.testing.assert_allclose(
      one.dist_params['probability'], other.dist_params['probability'],
      rtol=1e-6,
    )  # fmt: skip


def _rlds(folder, has_ends=True):
  """The episodes of `_frame` in RLDS' layout, with or without their ends."""
  tfds = pytest.importorskip('tensorflow_datasets')
  episodes = _episodes(datasets.DataSet(_frame()))

  class Log(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    VERSION = tfds.core.Version('1.0.0')

    def _info(self):
      flags = dict.fromkeys(['is_first', 'is_last', 'is_terminal'], np.bool_)
      place = tfds.features.Tensor(shape=(2,), dtype=np.float32)
      steps = {'observation': {'place': place}, 'action': np.int64,
               'reward': np.float32, 'discount': np.float32}  # fmt: skip
      features = {'steps': tfds.features.Dataset(steps | flags)}
      return tfds.core.DatasetInfo(
        builder=self,
        features=tfds.features.FeaturesDict(features),
        disable_shuffling=True,
      )

    def _split_generators(self, manager):
      return {'train': self._generate_examples()}

    def _generate_examples(self):
      for number, episode in enumerate(episodes):
        length = len(episode.rewards)
        # The action and the reward of the last step mean nothing.
        actions, rewards = (
          np.append(x, 2) for x in (episode.actions, episode.rewards)
        )
        steps = [
          {'observation': {'place': episode.observations[t].astype(np.float32)},
           'action': actions[t], 'reward': rewards[t], 'discount': 1.0,
           'is_first': t == 0, 'is_last': t == length,
           'is_terminal': t == length and bool(episode.terminations[-1])}
          for t in range(length + has_ends)
        ]  # fmt: skip
        yield number, {'steps': steps}

  Log(data_dir=str(folder)).download_and_prepare()
  return folder / 'log'


def _places(episode):
  return episode.observations['place']


@pytest.mark.slow
@pytest.mark.parametrize('has_ends', [True, False])
def test_rlds_gives_the_same_episodes(tmp_path, has_ends):
  path = _rlds(tmp_path, has_ends)
  data = datasets.DataSet(str(path / '1.0.0' if has_ends else path))
  assert data.steps == 8 and not data.recorded
  space = gymnasium.spaces.Dict(place=_SPACES[0])
  arguments = data.spaces()
  assert environments.space_of(arguments['observation_space']) == (
    gymnasium.spaces.Dict(place=gymnasium.spaces.Box(-np.inf, np.inf, [2]))
  )
  specs = environments.specs_of(space, _SPACES[1])
  bounds = environments.action_bounds(_SPACES[1])
  logged = _episodes(datasets.DataSet(_frame()))
  episodes = list(data.episodes(specs[0].observation, specs[1], bounds))
  for one, other in zip(episodes, logged, strict=True):
    np.testing.assert_allclose(
      _places(one)[: len(one.rewards)],
      other.observations[: len(one.rewards)],
      rtol=1e-6,
    )
    for name in ('actions', 'rewards'):
      np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    # Without its end an episode may have gone on.
    assert one.terminations[-1] == (has_ends and other.terminations[-1])


def test_the_newest_version_of_rlds(tmp_path):
  for version in ('1.9.0', '1.10.0', '1.2.0'):
    (tmp_path / version).mkdir()
    (tmp_path / version / 'features.json').touch()
  assert rlds_layout.folder_of(tmp_path) == tmp_path / '1.10.0'


def test_rlds_without_the_package(tmp_path, monkeypatch):
  monkeypatch.setitem(sys.modules, 'tensorflow_datasets', None)
  (tmp_path / 'features.json').write_text('{}')
  with pytest.raises(ValueError, match=r'tensorflow-datasets.*qwr_tf\[rlds\]'):
    datasets.DataSet(str(tmp_path))


_OTHER = 'features_of_others.Feature'


@pytest.mark.parametrize(
  'content',
  [
    {'pythonClassName': _OTHER},
    {'python_class_name': _OTHER},
    {'type': _OTHER, 'content': {}},
    {'pythonClassName': 'tensorflow_datasets_.Feature'},
    {'pythonClassName': 'tensorflow_datasets.core.x/../y.Feature'},
    {'pythonClassName': 'tensorflow_datasets.core.features.FeaturesDict',
     'featuresDict': {'features': {'a': {'pythonClassName': _OTHER}}}},
    {'pythonClassName': 'tensorflow_datasets.core.features.FeaturesDict',
     'jsonFeature': {'json': json.dumps({'a': [{'type': _OTHER}]})}},
  ],
)  # fmt: skip
def test_rlds_of_classes_that_would_be_imported(tmp_path, monkeypatch, content):
  monkeypatch.syspath_prepend(tmp_path)
  (tmp_path / 'features_of_others.py').touch()
  (tmp_path / 'features.json').write_text(json.dumps(content))
  info = {'name': 'log', 'version': '1.0.0'}
  (tmp_path / 'dataset_info.json').write_text(json.dumps(info))
  with pytest.raises(ValueError, match='features.json: names the class '):
    datasets.DataSet(str(tmp_path))
  assert 'features_of_others' not in sys.modules


def test_rlds_of_json_that_is_too_deep(tmp_path):
  deep = json.dumps({'json': '[' * 200_000 + ']' * 200_000})
  (tmp_path / 'features.json').write_text(deep)
  with pytest.raises(ValueError, match='features.json: '):
    datasets.DataSet(str(tmp_path))
