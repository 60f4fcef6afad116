"""The page of the Python API, and what it promises."""

import pathlib
import re
import shutil
import subprocess
import sys
import threading

import gin
import gymnasium
import numpy as np
import pandas
import pytest
import tensorflow as tf
from absl.testing import flagsaver
from gymnasium import spaces

import qwr_tf
from qwr_tf import evaluation
from qwr_tf import networks
from qwr_tf import serving
from qwr_tf import train
from qwr_tf.api import model as api
from qwr_tf.api import wording
from qwr_tf.config import command
from qwr_tf.config.errors import ConfigError
from qwr_tf.runs import run_json
from qwr_tf.runs import run_lock
from qwr_tf.serving import exporter
from qwr_tf.training import experiment
from qwr_tf.training import learning_curve

_ROOT = pathlib.Path(__file__).resolve().parents[2]
_PAGE = _ROOT / 'docs' / 'how-to' / 'python.md'
_TINY = {
  'run.interactions': 40,
  'run.eval_every_env_steps': 20,
  'run.eval_episodes': 1,
  'run.final_eval_episodes': 1,
  'run.log_every_env_steps': 20,
  'Collector.env_steps': 20,
  'iterate.critic_steps': 2,
  'iterate.actor_steps': 2,
  'actor/mlp_torso.units': (8,),
  'critic/mlp_torso.units': (8,),
}


class MyEnv(gymnasium.Env):
  """Episodes of five steps with the same reward."""

  observation_space = spaces.Box(-1.0, 1.0, (2,), np.float32)
  action_space = spaces.Discrete(2)

  def __init__(self, reward=1.0):
    self.reward = reward

  def reset(self, *, seed=None, options=None):
    super().reset(seed=seed)
    self._time = 0
    return np.zeros(2, np.float32), {}

  def step(self, action):
    self._time += 1
    return np.zeros(2, np.float32), self.reward, self._time == 5, False, {}


class _Pairs(MyEnv):
  observation_space = spaces.Dict(
    {'x': spaces.Box(-1.0, 1.0, (2,), np.float32), 'n': spaces.Discrete(3)}
  )

  def reset(self, *, seed=None, options=None):
    super().reset(seed=seed)
    return {'x': np.zeros(2, np.float32), 'n': 0}, {}

  def step(self, action):
    _, *rest = super().step(action)
    return {'x': np.zeros(2, np.float32), 'n': 1}, *rest


@pytest.fixture(autouse=True)
def _quick(tmp_path, monkeypatch):
  """No compilation, no export and no picture, which take seconds."""
  monkeypatch.chdir(tmp_path)
  monkeypatch.setattr(serving, 'export', lambda agent, facts, folder: folder)
  monkeypatch.setattr(learning_curve, 'draw', lambda *_: b'')
  tf.config.run_functions_eagerly(True)
  yield
  tf.config.run_functions_eagerly(False)


def _model(env='CartPole-v1', bindings=None, **kwargs):
  return qwr_tf.QWR(env, bindings={**_TINY, **(bindings or {})}, **kwargs)


def test_the_package_is_imported_without_tensorflow():
  program = """
import sys, qwr_tf
assert 'QWR' in qwr_tf.__all__
assert not {'tensorflow', 'numpy', 'gin'} & set(sys.modules)
"""
  subprocess.run([sys.executable, '-c', program], check=True)


@pytest.mark.slow
def test_the_page(monkeypatch):
  class Small(api.QWR):
    def __init__(self, *args, bindings=None, **kwargs):
      super().__init__(*args, bindings={**_TINY, **(bindings or {})}, **kwargs)

  offline = {
    'run.offline_iterations': 1,
    'run.interactions': 0,
    # No fitted Q evaluation, which takes minutes without compilation.
    'DataSet.held_out_share': 0.0,
  }

  class Page(Small):
    def __init__(self, *args, bindings=None, **kwargs):
      if 'dataset' in kwargs:
        bindings = (bindings or {}) | offline
      super().__init__(*args, bindings=bindings, **kwargs)

  folders = []

  def export(agent, facts, folder, *kind):
    folders.append(folder)
    if folder.name == 'exported':  # Those of the runs take seconds.
      exporter.export(agent, facts, folder, *kind)
    return folder

  monkeypatch.setattr(serving, 'export', export)
  monkeypatch.setattr(exporter, 'save_tf_agents_policies', lambda *_: None)
  monkeypatch.setattr(qwr_tf, 'QWR', Page, raising=False)
  text = _PAGE.read_text('utf-8')
  blocks = re.findall(r'```python\n(.*?)```', text, re.DOTALL)
  assert len(blocks) > 5
  program = '\n'.join(blocks)
  # Budgets of a test.
  for budget, small in (('12_000', '80'), ('8_000', '60'), ('4_000', '20')):
    program = program.replace(budget, small)
  names = {'MyEnv': MyEnv}
  exec(compile(program, str(_PAGE), 'exec'), names)
  assert names['again'].metrics['interactions'] == 80
  assert list(pathlib.Path('exported').iterdir())
  assert pathlib.Path('runs/cartpole/policy') in folders


@pytest.mark.slow
def test_gin_of_the_program_stays_as_it_was():
  @gin.configurable('HostThing')
  def host(gamma=0):
    return gamma

  gin.clear_config()
  gin.parse_config('HostThing.gamma = 3')
  before = gin.config_str()
  seen = []

  def callback(model, row):
    seen.append(gin.config_str())
    model.evaluate(1)
    assert gin.config_str() == before
    return False

  _model(gamma=0.5).learn(callback=callback, progress_bar=False)
  assert seen == [before] == [gin.config_str()]
  assert host() == 3
  gin.clear_config()


@pytest.mark.slow
def test_two_models_know_nothing_of_each_other():
  one, other = (_model(gamma=gamma) for gamma in (0.5, 0.75))
  one.learn(20, progress_bar=False)
  other.learn(20, progress_bar=False)
  one.learn(40, progress_bar=False)
  assert (one.agent.gamma, other.agent.gamma) == (0.5, 0.75)
  assert run_json.read(one.folder)['interactions'] == 40
  assert run_json.read(other.folder)['interactions'] == 20


@pytest.mark.slow
def test_a_run_of_either_is_gone_on_with_by_the_other(monkeypatch, capsys):
  def command_line(interactions, folder):
    bindings = [f'--gin_bindings={k}={v!r}' for k, v in _TINY.items()]
    argv = ['x', '--gin_file=vector', '--env=CartPole-v1', *bindings]
    argv += [f'--interactions={interactions}', f'--root_dir={folder}']
    monkeypatch.setattr(sys, 'argv', argv)
    with flagsaver.flagsaver():
      command.parse_flags(argv)
      command.guarded(train.main)
    gin.clear_config()
    return capsys.readouterr().out

  model = _model(folder='mine')
  model.learn(40, progress_bar=False)
  assert 'is finished' in command_line(40, 'mine')
  command_line(60, 'mine')
  facts = run_json.read(pathlib.Path('mine'))
  assert [e['interactions'] for e in facts['prolonged']] == [40]
  loaded = qwr_tf.QWR.load('mine')
  assert loaded.metrics['interactions'] == 60
  assert loaded.learn(60).metrics == loaded.metrics  # Nothing was left to do.
  loaded.learn(80, progress_bar=False)
  assert loaded.metrics['interactions'] == 80


@pytest.mark.slow
def test_actions_are_those_of_a_run_that_was_loaded():
  model = _model(folder='mine')
  model.learn(20, progress_bar=False)
  model.save('copy')
  observations = np.random.default_rng(0).normal(size=(7, 4))
  actions, state = model.predict(observations)
  assert state is None and actions.shape == (7,)
  single, _ = model.predict(observations[3])
  assert single == actions[3] and np.ndim(single) == 0
  again, _ = qwr_tf.QWR.load('copy').predict(observations)
  np.testing.assert_array_equal(again, actions)
  samples = [model.predict(observations, deterministic=False)[0]] * 3
  assert {int(a) for batch in samples for a in batch} <= {0, 1}


@pytest.mark.slow
def test_predictions_trace_once_and_follow_the_weights(monkeypatch):
  tf.config.run_functions_eagerly(False)
  # No layers that NumPy has: TensorFlow computes the outputs.
  monkeypatch.setattr(networks.ActorNetwork, 'chain', None)
  traces = []
  outputs = networks.ActorNetwork.outputs

  def traced(network, observation):
    if not tf.executing_eagerly():
      traces.append(1)
    return outputs(network, observation)

  monkeypatch.setattr(networks.ActorNetwork, 'outputs', traced)
  model = _model('Pendulum-v1')
  before, _ = model.predict(np.ones(3))
  count = len(traces)
  assert count
  assert model.predict(np.ones(3))[0] == before
  for variable in model.agent.actor_network.trainable_variables:
    variable.assign(variable + 0.1)
  assert model.predict(np.ones(3))[0] != before
  assert len(traces) == count


@pytest.mark.slow
def test_continuous_actions_are_in_the_environments_units():
  model = _model('Pendulum-v1')
  action, _ = model.predict(model.env.reset(seed=0)[0])
  assert model.env.action_space.contains(action.astype(np.float32))


@pytest.mark.slow
def test_observations_of_any_space():
  model = _model(_Pairs)
  observation = _Pairs.observation_space.sample()
  action, _ = model.predict(observation)
  assert model.env.action_space.contains(int(action))
  # As Stable-Baselines3's evaluate_policy gives them.
  batch = {'x': np.zeros([3, 2]), 'n': np.arange(3)}
  actions, _ = model.predict(batch)
  each = [
    model.predict({name: values[i] for name, values in batch.items()})[0]
    for i in range(3)
  ]
  np.testing.assert_array_equal(actions, each)


@pytest.mark.slow
def test_environments_by_object_and_function():
  made = gymnasium.make(
    'CartPole-v1', max_episode_steps=7, sutton_barto_reward=True
  )
  model = _model(gymnasium.wrappers.ClipReward(made, -0.5, 0.5))
  assert model.evaluate(2)[0] == pytest.approx(-0.5, abs=4)
  assert model.env.spec.max_episode_steps == 7
  mean, deviation = _model(MyEnv).evaluate(3)
  assert (mean, deviation) == (5.0, 0.0)


@pytest.mark.slow
def test_an_environment_without_an_id_is_copied():
  env = MyEnv()
  env.size = 3
  model = _model(env)
  env.size = 4
  assert model.env.unwrapped.size == 3
  assert model.evaluate(2) == (5.0, 0.0)
  env.lock = threading.Lock()
  with pytest.raises(ConfigError, match='lambda'):
    _model(env)


@pytest.mark.slow
def test_stable_baselines3_s_evaluation_takes_a_model():
  model = _model(MyEnv)
  observations = np.zeros([2, 2], np.float32)
  actions, state = model.predict(
    observations,
    state=None,
    episode_start=np.ones(2, bool),
    deterministic=True,
  )
  assert actions.shape == (2,) and state is None


@pytest.mark.slow
def test_an_environment_without_an_id_is_given_to_load():
  model = _model(MyEnv, folder='mine')
  model.learn(20, progress_bar=False)
  with pytest.raises(ValueError, match=r'QWR.load\(folder, env=.*\)'):
    qwr_tf.QWR.load('mine').predict(np.zeros(2))
  again = qwr_tf.QWR.load('mine', MyEnv)
  assert again.learn(40, progress_bar=False).metrics['interactions'] == 40
  _model('CartPole-v1', folder='other').learn(20, progress_bar=False)
  with pytest.raises(ConfigError, match='CartPole-v1'):
    qwr_tf.QWR.load('other', MyEnv)


@pytest.mark.slow
def test_a_model_plays_the_environment_of_its_own_function():
  model = _model(lambda: MyEnv(1), folder='mine')
  model.learn(20, progress_bar=False)
  other = qwr_tf.QWR.load('mine', lambda: MyEnv(7))
  assert (model.evaluate(1)[0], other.evaluate(1)[0]) == (5, 35)

  def callback(model, row):
    assert other.learn(60, progress_bar=False).metrics['interactions'] == 60
    with pytest.raises(ValueError, match=r'QWR.load\(folder, env=.*\)'):
      qwr_tf.QWR.load('copy').predict(np.zeros(2))
    assert model.evaluate(1)[0] == 5

  other.save('copy')
  other = qwr_tf.QWR.load('copy', lambda: MyEnv(7))
  model.learn(40, callback=callback, progress_bar=False)
  assert model.metrics['eval_return_mode'] == 5
  assert other.metrics['eval_return_mode'] == 35
  assert not any(name.startswith('local/') for name in gymnasium.registry)


@pytest.mark.slow
def test_a_cell_of_a_notebook_that_is_run_twice_finds_its_run():
  for _ in range(2):
    model = _model(lambda: MyEnv(), folder='mine')
    assert model.learn(progress_bar=False).metrics['interactions'] == 40


@pytest.mark.parametrize(
  'env', [5, gymnasium.make_vec('CartPole-v1', num_envs=2)]
)
def test_what_is_no_environment_is_told_at_once(env):
  with pytest.raises(ConfigError, match='env must be .*, not'):
    _model(env)


@pytest.mark.parametrize('seed', [-1, None, 0.5, 'x', 2**31 - 1])
def test_what_is_no_seed_is_told_at_once(seed):
  with pytest.raises(ConfigError, match='seed must be'):
    _model(seed=seed)


@pytest.mark.slow
def test_numbers_of_numpy_are_numbers():
  model = _model(
    seed=np.int64(3),
    preset=pathlib.Path('vector'),
    gamma=np.float64(0.5),
    bindings={'critic/mlp_torso.units': (np.int64(4),)},
  )
  model.learn(np.int64(40), callback=lambda *_: np.False_, progress_bar=False)
  assert model.metrics['interactions'] == 20
  facts = run_json.read(model.folder)
  assert (facts['seed'], facts['preset']) == (3, 'vector')
  assert 'gamma = 0.5' in facts['config']
  assert 'critic/mlp_torso.units = (4,)' in facts['config']
  model.evaluate(np.int64(1))
  for number in (0, 1.5):
    with pytest.raises(ConfigError, match='episodes must be'):
      model.evaluate(number)


@pytest.mark.slow
def test_a_refused_budget_changes_nothing():
  model = _model(folder='mine')
  refused = (-1, float('nan'), float('inf'), 0, 20.5, None)
  for number in refused[:-1]:
    with pytest.raises(ConfigError, match='interactions'):
      model.learn(number, progress_bar=False)
  model.learn(progress_bar=False)
  assert model.metrics['interactions'] == 40
  with pytest.raises(ConfigError, match='40 interactions.* give as many'):
    model.learn(20)
  assert model.learn().metrics['interactions'] == 40
  model.learn(60, progress_bar=False)
  with pytest.raises(ConfigError, match='60 interactions.* give as many'):
    _model(folder='mine').learn()


@pytest.mark.parametrize(
  'text, reworded',
  [
    (
      """set --gin_bindings="run.warm_start='a'" (--gin_bindings: x)""",
      """set bindings={'run.warm_start': 'a'} (bindings: x)""",
    ),
    (
      'Choose another --root_dir, or start anew with --overwrite.',
      'Choose another folder, or start anew after deleting the folder.',
    ),
    ('give --trust_module=my.envs.', "give trusted=['my.envs']."),
    ('--env, --seed, --environment', 'env, seed, --environment'),
  ],
)
def test_advice_names_arguments_and_no_flags(text, reworded):
  with pytest.raises(ConfigError) as caught, wording.own():
    raise ConfigError(text)
  assert str(caught.value) == reworded


@pytest.mark.slow
def test_a_budget_that_cannot_be_built_changes_nothing(monkeypatch):
  model = _model(folder='mine')
  build = experiment.build

  def refuse(*_):
    raise ConfigError('It does not fit into memory.')

  monkeypatch.setattr(experiment, 'build', refuse)
  with pytest.raises(ConfigError, match='memory'):
    model.learn(60)
  monkeypatch.setattr(experiment, 'build', build)
  assert model.learn(progress_bar=False).metrics['interactions'] == 40


@pytest.mark.slow
@pytest.mark.parametrize('other', [{'gamma': 0.5}, {'seed': 1}])
def test_the_run_of_another_model_is_left_alone(other):
  _model(folder='mine').learn(20, progress_bar=False)
  # A larger budget does not make it the same one.
  model = _model(folder='mine', bindings={'run.interactions': 60}, **other)
  for use in (
    lambda: model.predict(np.zeros(4)),
    lambda: model.evaluate(1),
    lambda: model.export('exported'),
    lambda: model.save('copy'),
    lambda: model.metrics,
    lambda: model.learn(progress_bar=False),
  ):
    with pytest.raises(ConfigError, match='mine holds another run') as caught:
      use()
    # There are no flags to give.
    assert '--' not in str(caught.value)
  # Budgets apart it is the same run.
  same = _model(folder='mine', bindings={'run.interactions': 10})
  assert same.metrics['interactions'] == 20
  assert int(same.agent.critic_steps.numpy()) == 2


def test_a_name_that_several_settings_have_is_told():
  with pytest.raises(ConfigError, match='critic/mlp_torso.units'):
    _model(units=(4,))
  with pytest.raises(ConfigError, match='no setting.*gama'):
    _model(gama=0.9)
  with pytest.raises(ConfigError, match='gamma'):
    _model(gamma='much')


@pytest.mark.slow
def test_a_folder_of_something_else_is_kept(tmp_path):
  model = _model()
  with pytest.raises(ConfigError):
    model.save('nothing')  # It has not learned.
  model.learn(20, progress_bar=False)
  (tmp_path / 'full').mkdir()
  (tmp_path / 'full' / 'x').write_text('mine')
  with pytest.raises(ConfigError, match='something else'):
    model.save('full')
  assert [p.name for p in (tmp_path / 'full').iterdir()] == ['x']


@pytest.mark.slow
def test_a_copy_is_replaced_by_the_same_run_alone(tmp_path):
  model = _model()
  model.learn(20, progress_bar=False)
  for budget in (20, 40):
    model.learn(budget, progress_bar=False)
    model.save('copy')
  assert qwr_tf.QWR.load('copy').metrics['interactions'] == 40
  other = _model(gamma=0.5)
  other.learn(40, progress_bar=False)
  before = (tmp_path / 'copy' / 'run.json').read_text()
  with pytest.raises(ConfigError, match='something else'):
    other.save('copy')
  with run_lock.held(tmp_path / 'copy'):
    with pytest.raises(ConfigError, match='in use'):
      model.save('copy')
  mine = tmp_path / 'copy' / 'checkpoints' / 'notes.txt'
  mine.write_text('mine')
  with pytest.raises(ConfigError, match='notes.txt'):
    model.save('copy')
  assert mine.read_text() == 'mine'
  assert (tmp_path / 'copy' / 'run.json').read_text() == before


def _log(observations, actions):
  """100 steps, in D4RL's layout."""
  return {
    'observations': observations,
    'actions': actions,
    'rewards': np.arange(100, dtype=np.float32),
    'terminals': np.arange(100) % 10 == 9,
    'timeouts': np.zeros(100, bool),
  }


_OFFLINE = {'run.interactions': 0, 'run.offline_iterations': 1}


@pytest.mark.slow
def test_arrays_of_entries_are_learned_from(tmp_path):
  rng = np.random.default_rng(0)
  entries = {'x': rng.normal(size=[100, 2]), 'goal': {'n': np.arange(100) % 3}}
  model = qwr_tf.QWR(
    preset='offline_vector',
    dataset=_log(entries, rng.integers(2, size=[100, 3])),
    bindings=_TINY | _OFFLINE,
    folder=tmp_path / 'run',
  )
  model.learn(progress_bar=False)
  assert sorted(model.agent.time_step_spec.observation) == ['goal/n', 'x']
  assert np.isfinite(model.metrics['critic_loss'])
  action, _ = model.predict({'x': np.zeros(2), 'goal': {'n': np.zeros(())}})
  assert action.shape == (3,) and set(action) <= {0, 1}
  with pytest.raises(ConfigError, match='one array'):
    evaluation.check_spaces(model.agent.time_step_spec, model.agent.action_spec)


def _offline(dataset, **kwargs):
  bindings = _TINY | _OFFLINE | {'DataSet.held_out_share': 0.0}
  return qwr_tf.QWR(
    preset='offline_vector', dataset=dataset, bindings=bindings, **kwargs
  )


@pytest.mark.slow
def test_other_arrays_are_another_run(tmp_path):
  one, other = (
    _log(np.full([100, 2], value), np.arange(100) % 2) for value in (1.0, 2.0)
  )
  model = _offline(one, folder=tmp_path / 'run')
  model.learn(progress_bar=False)
  files = {p: p.read_bytes() for p in tmp_path.glob('run-data*')}
  assert len(files) == 1
  with pytest.raises(ConfigError, match='another run.*run.dataset'):
    _offline(other, folder=tmp_path / 'run').learn()
  assert all(p.read_bytes() == content for p, content in files.items())
  again = _offline(one, folder=tmp_path / 'run')
  assert again.learn().metrics == model.metrics


@pytest.mark.slow
@pytest.mark.parametrize('layout', ['hdf5', 'npz'])
def test_a_copy_has_the_arrays_of_a_model_without_a_folder(tmp_path, layout):
  data = _log(np.zeros([100, 2]), np.arange(100) % 2)
  if layout == 'npz':
    data = {name.rstrip('s'): values for name, values in data.items()}
    data['episode'] = np.arange(100) // 10
  model = _offline(data, offline_iterations=2)
  model.learn(callback=lambda *_: False, progress_bar=False)
  model.save('copy')
  shutil.rmtree(model.folder.parent)  # As when the program ends.
  qwr_tf.QWR.load('copy').save('second')
  for folder, budget in (('copy', None), ('second', 0)):
    again = qwr_tf.QWR.load(folder).learn(budget, progress_bar=False)
    assert again.metrics['iteration'] == 2


@pytest.mark.slow
@pytest.mark.parametrize('kind', [dict, pandas.DataFrame])
def test_a_table_is_learned_from(kind):
  step = np.arange(100)
  columns = {
    'session': np.array([f'customer {i // 10}' for i in step], object),
    'observation_0': np.sin(step),
    'observation_1': step / 100,
    'action': step % 3,
    'reward': step / 8,
  }
  bindings = {'TableColumns.episode': 'session', 'DataSet.held_out_share': 0.0}
  model = qwr_tf.QWR(
    preset='offline_vector',
    dataset=kind(columns),
    bindings=_TINY | _OFFLINE | bindings,
  )
  model.learn(progress_bar=False)
  assert model.env.action_space.n == 3
  assert run_json.read(model.folder)['data']['episodes'] == 10


def _csv(tmp_path):
  step = np.arange(100)
  columns = {'episode': step // 10, 'observation': np.sin(step),
             'action': step % 10 / 10, 'reward': step}  # fmt: skip
  path = tmp_path / 'log.csv'
  pandas.DataFrame(columns).to_csv(path, index=False)
  return path


def _arrays(_):
  return _log(np.zeros([100, 1]), np.zeros([100, 1], np.float32))


@pytest.mark.slow
@pytest.mark.parametrize('data', [_csv, _arrays])
@pytest.mark.parametrize(
  'arguments, environment',
  [
    ({}, 'NoSimulator'),
    ({'env': 'NoSimulator'}, 'NoSimulator'),
    ({'env': 'Pendulum-v1'}, 'Pendulum-v1'),
    ({'bindings': {'run.environment': 'Pendulum-v1'}}, 'Pendulum-v1'),
    ({'bindings': {'ENVIRONMENT': 'Pendulum-v1'}}, 'Pendulum-v1'),
    ({'preset': 'offline_mujoco'}, 'HalfCheetah-v4'),
    ({'preset': 'mine.gin'}, 'NoSimulator'),
  ],
)
def test_a_dataset_without_an_environment_has_no_simulator(
  data, arguments, environment, tmp_path
):
  (tmp_path / 'mine.gin').write_text(
    "include 'qwr/qwr.gin'\ninclude 'environments/offline.gin'\n"
  )
  model = qwr_tf.QWR(dataset=data(tmp_path), **arguments)
  assert model.env.spec.id == environment
  is_one = environment == 'NoSimulator'
  assert (model.env.observation_space.shape == (1,)) == is_one


@pytest.mark.parametrize(
  'change, problem',
  [
    ({'action': None}, 'action'),
    ({'observation': None}, 'observation'),
    ({'reward': None}, 'reward'),
    ({'episode': [*'ab', None] + ['c'] * 97}, "'episode' holds"),
  ],
)
def test_arrays_that_are_no_data_set(change, problem):
  step = np.arange(100)
  columns = {'episode': step // 10, 'observation': np.zeros([100, 2]),
             'action': step % 3, 'reward': step} | change  # fmt: skip
  columns = {name: x for name, x in columns.items() if x is not None}
  with pytest.raises(ConfigError, match=problem):
    qwr_tf.QWR(
      preset='offline_vector', dataset=columns, bindings=_TINY | _OFFLINE
    )


@pytest.mark.slow
def test_off_policy_evaluation_makes_a_page(tmp_path, monkeypatch):
  log = _log(np.random.default_rng(0).normal(size=[100, 2]), np.arange(100) % 2)
  model = qwr_tf.QWR(
    preset='offline_vector',
    dataset=log,
    bindings=_TINY | _OFFLINE | {'DataSet.held_out_share': 0.0},
  )
  model.learn(progress_bar=False)
  monkeypatch.setattr(serving, 'export', exporter.export)
  monkeypatch.setattr(exporter, 'save_tf_agents_policies', lambda *_: None)
  columns = {name.rstrip('s'): values for name, values in log.items()}
  columns['episode'] = np.arange(100) // 10
  fit = evaluation.Fit(steps=10, members=2)
  # Arrays by column are known again, too.
  with pytest.raises(ConfigError, match='trained on all episodes'):
    model.evaluate_off_policy(columns)
  report = model.evaluate_off_policy(
    columns, fit=fit, gamma=0.5, held_out_share=1.0
  )
  assert np.isfinite(report.value)
  report.write(tmp_path / 'page')
  assert (tmp_path / 'page' / 'evaluation.md').exists()
