"""Recording: what is written, what reads back, what is refused."""

import json
import resource
import sys

import gin
import gymnasium
import h5py
import numpy as np
import pytest
import tensorflow as tf
from absl import flags
from absl.testing import flagsaver
from scipy import stats

from qwr_tf import datasets
from qwr_tf import environments
from qwr_tf import record
from qwr_tf.acting import recording
from qwr_tf.config import command
from qwr_tf.config import gin_files
from qwr_tf.serving import saved_policy
from qwr_tf.training import experiment


@pytest.fixture(autouse=True)
def _isolated(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  yield
  gin.clear_config()


@pytest.fixture(name='cli')
def _cli(monkeypatch, capsys):
  """Runs the command in this process: (exit code, stdout, stderr)."""

  def run(*arguments):
    argv = ['qwr_tf.record', *arguments]
    monkeypatch.setattr(sys, 'argv', argv)
    code = 0
    with flagsaver.flagsaver():
      try:
        command.parse_flags(argv)
        command.guarded(record.main)
      except SystemExit as ended:
        code = ended.code
    return code, *capsys.readouterr()

  return run


class _Served(tf.Module):
  """A policy for Pendulum-v1: torque -2 cos(angle), or a Gaussian around it."""

  def __init__(self, has_samples=True):
    super().__init__()
    spec = tf.TensorSpec([None, 3], tf.float32, 'observation')
    seed = tf.TensorSpec([2], tf.int64, 'seed')
    functions = {'serving_default': tf.function(self._mode, [spec])}
    if has_samples:
      functions['sample'] = tf.function(self._sample, [spec, seed])
      functions['distribution'] = tf.function(self._params, [spec])
    self.functions = functions

  def _mode(self, observation):
    return {'action': -2.0 * observation[:, :1]}

  def _sample(self, observation, seed):
    noise = tf.random.stateless_normal([tf.shape(observation)[0], 1], seed)
    action = -2.0 * observation[:, :1] + 0.8 * noise
    return {'action': tf.clip_by_value(action, -2.0, 2.0)}

  def _params(self, observation):
    loc = -observation[:, :1]  # In units where the bounds are +-1.
    return {'loc': loc, 'scale_diag': 0.4 * tf.ones_like(loc)}


def _saved(
  path,
  environment='Pendulum-v1',
  action_space=None,
  with_variables=False,
  **kwargs,
):
  module = _Served(**kwargs)
  if with_variables:
    module.weights = tf.Variable(tf.ones([20, 20]))
  tf.saved_model.save(module, str(path / '3'), signatures=module.functions)
  extra = path / '3' / 'assets.extra'
  extra.mkdir()
  facts = {
    'format': 'saved_model',
    'environment': environment,
    'algorithm': 'QWR-LSE',
    'observation_space': {'type': 'Box', 'shape': [3], 'dtype': 'float32'},
    'action_space': action_space
    or {
      'type': 'Box',
      'shape': [1],
      'dtype': 'float32',
      'low': [-2.0],
      'high': [2.0],
    },
  }
  (extra / 'metadata.json').write_text(json.dumps(facts))
  return path


def _episodes(path):
  with h5py.File(path / 'data' / 'main_data.hdf5') as file:
    return [
      {
        name: group[name][()]
        for name in (
          'observations',
          'actions',
          'rewards',
          'terminations',
          'truncations',
        )
      }
      | {'seed': group.attrs['seed'], 'params': group.get('infos/dist_params')}
      | {
        f'mu_{name}': group[f'infos/dist_params/{name}'][()]
        for name in group.get('infos/dist_params', ())
      }
      for group in (file[f'episode_{n}'] for n in range(len(file)))
    ]


@pytest.mark.slow
def test_the_policys_own_environment_is_that_of_its_run(cli, tmp_path):
  saved = _saved(tmp_path / 'policy')
  path = saved / '3' / 'assets.extra' / 'metadata.json'
  facts = json.loads(path.read_text())
  facts['config'] = 'load_environment.max_episode_steps = 7'
  path.write_text(json.dumps(facts))
  arguments = (f'--policy={saved}', '--episodes=1', '--dataset=own')
  assert cli(*arguments)[0] == 0
  assert len(_episodes(tmp_path / 'own')[0]['rewards']) == 7
  other = ('--env=Pendulum-v1', *arguments[:2], '--dataset=other')
  assert cli(*other)[0] == 0
  assert len(_episodes(tmp_path / 'other')[0]['rewards']) == 200


def test_random_episodes_are_the_environments_own(cli, tmp_path):
  arguments = (
    '--policy=random',
    '--env=BitFlip-5',
    '--episodes=3',
    '--first_seed=7',
  )
  code, out, err = cli(*arguments)
  assert code == 0, err
  path = tmp_path / 'datasets' / 'BitFlip-5' / 'random-v0'
  episodes = _episodes(path)
  assert [e['seed'] for e in episodes] == [7, 8, 9]
  env = environments.load('BitFlip-5').env
  for episode in episodes:
    observation, _ = env.reset(seed=int(episode['seed']))
    seen, rewards, ends = [observation], [], []
    for action in episode['actions']:
      observation, reward, terminated, truncated, _ = env.step(int(action))
      seen.append(observation)
      rewards.append(reward)
      ends.append((terminated, truncated))
    np.testing.assert_array_equal(episode['observations'], seen)
    np.testing.assert_array_equal(episode['rewards'], rewards)
    pairs = zip(episode['terminations'], episode['truncations'], strict=True)
    assert list(pairs) == ends
    np.testing.assert_array_equal(episode['mu_logits'], np.zeros([6, 5]))
  mean = np.mean([e['rewards'].sum() for e in episodes])
  assert f'mean return  {mean:.1f}' in out
  assert 'episodes     3, 15 steps' in out
  metadata = json.loads((path / 'data' / 'metadata.json').read_text())
  assert metadata['dataset_id'] == 'BitFlip-5/random-v0'
  assert (metadata['total_episodes'], metadata['total_steps']) == (3, 15)
  assert metadata['algorithm_name'] == 'random'
  space = json.loads(metadata['action_space'])
  assert space == {'type': 'Discrete', 'dtype': 'int64', 'start': 0, 'n': 5}
  # The same again is another data set; nothing is overwritten, and what a
  # recording that still plays has taken is left to it.
  path.with_name('random-v1').mkdir()
  assert cli(*arguments)[0] == 0
  again = _episodes(path.with_name('random-v2'))
  np.testing.assert_array_equal(again[2]['actions'], episodes[2]['actions'])


@pytest.mark.slow
def test_a_saved_model_is_recorded_with_its_mu(cli, tmp_path):
  policy = _saved(tmp_path / 'policy')
  code, out, err = cli(
    f'--policy={policy}', '--steps=201', '--dataset=sets/one'
  )
  assert code == 0, err
  episodes = _episodes(tmp_path / 'sets' / 'one')
  # Pendulum's episodes have 200 steps and a time limit; whole ones are kept.
  assert [len(e['rewards']) for e in episodes] == [200, 200]
  assert 'episodes     2, 400 steps' in out
  for episode in episodes:
    assert episode['truncations'].tolist() == [False] * 199 + [True]
    assert not episode['terminations'].any()
    observations = episode['observations']
    np.testing.assert_allclose(
      episode['mu_loc'], -observations[:, :1], rtol=1e-6
    )
    np.testing.assert_allclose(episode['mu_scale_diag'], 0.4)
    deviations = episode['actions'] + 2.0 * observations[:-1, :1]
    inside = np.abs(episode['actions']) < 2.0
    # 0.4 where bounds are +-1 is 0.8 of the torque.
    assert 0.6 < deviations[inside].std() < 0.9
  assert not np.array_equal(episodes[0]['actions'], episodes[1]['actions'])


def test_the_mode_action_has_no_mu(cli, tmp_path):
  policy = _saved(tmp_path / 'policy', has_samples=False)
  code, _, err = cli(f'--policy={policy}', '--episodes=1')
  assert code == 2
  assert "has no signature 'sample'" in err
  arguments = ('--episodes=1', '--mode_action')
  assert cli(f'--policy={policy}/3', *arguments)[0] == 0
  path = tmp_path / 'datasets' / 'Pendulum-v1' / 'qwr-lse-v0'
  (episode,) = _episodes(path)
  assert episode['params'] is None
  np.testing.assert_allclose(
    episode['actions'], -2.0 * episode['observations'][:-1, :1], rtol=1e-5
  )


@pytest.mark.slow
def test_a_recorded_set_reads_back_equal(cli, tmp_path):
  policy = _saved(tmp_path / 'policy')
  cli(f'--policy={policy}', '--episodes=2', '--dataset=one')
  gin_files.parse(
    ['offline_mujoco.gin'],
    ["run.environment = 'Pendulum-v1'", "run.dataset = 'one'"],
  )
  parts = experiment.build(experiment.settings(), seed=0)
  rows = parts.table.read(*parts.table.row_range())
  episodes = _episodes(tmp_path / 'one')
  # Of 200 steps the last runs into the limit: 199 transitions, 200 rows.
  assert parts.table.num_starts() == 2 * 199
  observations = np.concatenate([e['observations'][:-1] for e in episodes])
  np.testing.assert_allclose(rows.observation, observations, rtol=1e-6)
  actions = np.concatenate([e['actions'] / 2.0 for e in episodes])
  np.testing.assert_allclose(np.clip(rows.action, -1.0, 1.0), actions, 1e-6)
  loc = rows.policy_info['dist_params']['loc'].numpy()
  recorded = np.concatenate([e['mu_loc'][:-1] for e in episodes])
  np.testing.assert_array_equal(loc, recorded)
  # What the bounds clipped is a sample of mu again.
  numbers = (rows.action - loc) / 0.4
  assert np.mean(np.abs(actions) == 1.0) > 0.1
  assert stats.kstest(np.ravel(numbers), 'norm').pvalue > 0.01
  assert parts.data.mu == 'recorded'
  returns = [e['rewards'].sum() for e in episodes]
  assert parts.data.mean_return == pytest.approx(np.mean(returns), rel=1e-6)


@pytest.mark.slow
def test_a_log_gets_a_line_of_progress_now_and_then(cli):
  # A second of recording, in which a terminal's bar moves many times.
  code, _, err = cli('--policy=random', '--env=BitFlip-5', '--episodes=500')
  assert code == 0, err
  lines = err.replace('\r', '\n').strip().splitlines()
  assert len(lines) < 5 and '500/500' in lines[-1]


@pytest.mark.slow
def test_scores_are_recorded_and_clipped_rewards_learned_from(cli, tmp_path):
  code, _, err = cli(
    '--policy=random', '--env=ALE/MsPacman-v5', '--episodes=1', '--dataset=one'
  )
  assert code == 0, err
  (episode,) = _episodes(tmp_path / 'one')
  assert set(episode['rewards']) >= {0.0, 10.0}  # A dot is 10 points.
  gin_files.parse(
    ['atari_100k.gin'],
    [
      "GAME = 'MsPacman'",
      "run.dataset = 'one'",
      'run.offline_iterations = 1',
      'run.replay_capacity = 2000',
      'run.eval_environments = 1',
    ],
  )
  parts = experiment.build(experiment.settings(), seed=0)
  rows = parts.table.read(*parts.table.row_range())
  learned = rows.reward.numpy()[: len(episode['rewards'])]
  np.testing.assert_array_equal(learned, np.minimum(episode['rewards'], 1.0))
  assert parts.data.mean_return == episode['rewards'].sum()


@pytest.mark.parametrize(
  ('arguments', 'fix'),
  [
    ((), '--policy is missing'),
    (('--policy=expert',), 'expert holds no exported policy'),
    (('--policy=random',), '--env is missing'),
    (('--policy=random', '--env=NoSimulator'), '--env is missing'),
    (('--policy=random', '--env=HalfCheeta-v4'), 'near it: HalfCheetah-v4'),
    (('--policy=random', '--env=BitFlip-5', '--episodes=0'), 'episodes=0'),
    (('--policy=random', '--env=BitFlip-5', '--episodes=1', '--steps=2'),
     'either --episodes or --steps'),
    (('--saved_model=nope',), 'nope holds no exported policy'),  # Its old name.
    (('--policy=random', '--env=BitFlip-5', '--dataset=there'), 'there exists'),
    (('--policy=random', '--env=BitFlip-5', '--dataset=file/x'),
     'cannot be written'),
  ],
)  # fmt: skip
def test_bad_flags(cli, tmp_path, arguments, fix):
  (tmp_path / 'there').mkdir()
  (tmp_path / 'file').touch()
  code, out, err = cli(*arguments)
  assert (code, out) == (2, '')
  assert err.splitlines()[-1].startswith('error: ')
  assert fix in err.splitlines()[-1]
  assert sorted(p.name for p in tmp_path.iterdir()) == ['file', 'there']


def test_a_place_where_nothing_can_be_written(cli, tmp_path):
  (tmp_path / 'datasets').touch()
  code, _, err = cli('--policy=random', '--env=BitFlip-5', '--episodes=1')
  assert code == 2
  assert 'cannot be written (Not a directory); choose' in err.splitlines()[-1]


def test_policy_for_other_observations(cli, tmp_path):
  policy = _saved(tmp_path / 'policy', environment=None)
  code, _, err = cli(f'--policy={policy}', '--env=Hopper-v4')
  assert code == 2
  assert 'Hopper-v4 has the observation_space Box(-inf, inf, (11,)' in err
  assert "the policy is for {'type': 'Box', 'shape': [3]" in err
  assert not (tmp_path / 'datasets').exists()


@pytest.mark.parametrize(
  'space',
  [
    {'type': 'Box', 'shape': [2], 'dtype': 'float32'},
    {'type': 'Box', 'shape': [1], 'dtype': 'float32', 'low': -1, 'high': 1},
    {'type': 'Discrete', 'n': 3, 'start': 0},
  ],
)
def test_policy_for_other_actions(space, cli, tmp_path):
  bounds = {name: [space[name]] for name in ('low', 'high') if name in space}
  policy = _saved(tmp_path / 'policy', action_space=space | bounds)
  code, _, err = cli(f'--policy={policy}', '--env=Pendulum-v1')
  assert code == 2
  assert 'Pendulum-v1 has the action_space Box(' in err.splitlines()[-1]
  assert 'or one with the same spaces' in err.splitlines()[-1]
  assert not (tmp_path / 'datasets').exists()


@pytest.mark.parametrize(
  ('name', 'kept'),
  [
    ('variables/variables.data-00000-of-00001', 3),
    ('variables/variables.index', 9),
    ('saved_model.pb', 100),
  ],
)
def test_a_damaged_policy(name, kept, cli, tmp_path):
  policy = _saved(tmp_path / 'policy', with_variables=True)
  file = policy / '3' / name
  file.write_bytes(file.read_bytes()[:kept])
  code, out, err = cli(f'--policy={policy}', '--episodes=1')
  assert (code, out) == (2, '')
  assert err.splitlines()[-1].startswith(
    f'error: {policy / "3"} cannot be read'
  )
  assert not (tmp_path / 'datasets').exists()


def test_a_full_disk_leaves_nothing(cli, tmp_path):
  # A limit on files' sizes stands for it.
  limits = resource.getrlimit(resource.RLIMIT_FSIZE)
  resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limits[1]))
  try:
    code, out, err = cli('--policy=random', '--env=Pendulum-v1', '--steps=4000')
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
  assert (code, out) == (2, '')
  last = err.splitlines()[-1]
  assert last.startswith('error: datasets/Pendulum-v1/random-v0 cannot be')
  assert '(File too large); choose another --dataset' in last
  assert not list((tmp_path / 'datasets/Pendulum-v1').iterdir())


def test_nan_leaves_nothing(cli, tmp_path, monkeypatch):
  monkeypatch.setattr(
    recording, 'random_policy', lambda *_: lambda _: (np.array([np.nan]), {})
  )
  code, _, err = cli('--policy=random', '--env=Pendulum-v1', '--episodes=2')
  assert code == 1
  assert 'nothing was written' in err.splitlines()[-1]
  assert not list((tmp_path / 'datasets/Pendulum-v1').iterdir())


class _Faulty(gymnasium.Env):
  """Never ends, or fails at its fifth step."""

  observation_space = gymnasium.spaces.Box(-1, 1, (2,))
  action_space = gymnasium.spaces.Discrete(2)

  def __init__(self, fails):
    self._fails = fails

  def reset(self, *, seed=None, options=None):
    self._steps = 0
    return np.zeros(2, np.float32), {}

  def step(self, action):
    self._steps += 1
    assert self._steps < 5 or not self._fails
    return np.zeros(2, np.float32), 0.0, False, False, {}


@pytest.fixture(name='faulty')
def _faulty():
  for fails in (False, True):
    gymnasium.register(
      'Fails-v0' if fails else 'Endless-v0', lambda fails=fails: _Faulty(fails)
    )
  yield
  del gymnasium.registry['Endless-v0'], gymnasium.registry['Fails-v0']


@pytest.mark.slow
def test_an_episode_without_end_is_no_recording(cli, tmp_path, faulty):
  arguments = '--policy=random', '--env=Endless-v0', '--steps=50'
  code, _, err = cli(*arguments)
  assert code == 2
  assert '--max_episode_steps' in err.splitlines()[-1]
  assert 'nothing was written' in err.splitlines()[-1]
  assert not list((tmp_path / 'datasets/Endless-v0').glob('*'))
  code, _, err = cli(*arguments, '--max_episode_steps=20')
  assert code == 0
  (path,) = (tmp_path / 'datasets/Endless-v0').iterdir()
  assert [len(e['rewards']) for e in _episodes(path)] == [20] * 3


def test_an_environment_that_fails_is_no_recording(cli, tmp_path, faulty):
  arguments = '--policy=random', '--env=Fails-v0', '--steps=50'
  code, _, err = cli(*arguments)
  assert code == 2 and 'Traceback' not in err
  assert 'AssertionError' in err.splitlines()[-1]
  assert 'record_test.py:' in err.splitlines()[-1]
  assert not list((tmp_path / 'datasets/Fails-v0').glob('*'))
  code, _, err = cli(*arguments, '--traceback')
  assert code == 2 and 'Traceback' in err


class _Odd(_Faulty):
  """Episodes of one step with any reward; the second reset may fail."""

  def __init__(self, reward=0.0, over=True, resets=9):
    super().__init__(False)
    self._result, self._resets = (reward, over), resets

  def reset(self, *, seed=None, options=None):
    self._resets -= 1
    assert self._resets >= 0, 'no level is left'
    return super().reset(seed=seed)

  def step(self, action):
    return np.zeros(2, np.float32), *self._result, False, {}


def _play(env):
  policy = recording.random_policy(env.action_space, 0)
  return recording.play(env, policy, 0)


@pytest.mark.parametrize('reward', [1, np.array([1.0]), np.float32(1), True])
def test_rewards_are_recorded_as_training_takes_them(reward):
  rewards = next(_play(_Odd(reward))).rewards
  np.testing.assert_array_equal(rewards, [1.0])
  assert rewards.dtype == np.float64


@pytest.mark.parametrize(
  'env',
  [_Odd(reward='high'), _Odd(over=np.array([True, False])), _Odd(resets=1)],
)
def test_faults_of_an_environment_are_one_line(env):
  episodes = _play(env)
  with pytest.raises(
    environments.FaultyEnvironmentError, match='nothing was written'
  ):
    next(episodes), next(episodes)


def test_a_reward_that_is_none_is_nan():
  with pytest.raises(FloatingPointError, match='in the rewards'):
    next(_play(_Odd(reward=None)))


def test_no_saved_policy_acts_on_nan(tmp_path):
  saved = saved_policy.SavedPolicy(_saved(tmp_path / 'policy'))
  for act in (saved.mode(), saved.sampler(0)):
    act(np.zeros(3))
    with pytest.raises(FloatingPointError, match='NaN or Inf'):
      act(np.array([0.0, np.inf, 0.0]))


def test_the_first_seed_is_of_the_samples_too(tmp_path):
  saved = saved_policy.SavedPolicy(_saved(tmp_path / 'policy'))
  seeds = []
  saved.sampler = seeds.append
  saved.check_spaces = lambda _: None
  flags.FLAGS.mark_as_parsed()
  with flagsaver.flagsaver(first_seed=7):
    record._policy(None, saved)
  assert seeds == [7]


@pytest.mark.parametrize('name', ['observations', 'actions', 'rewards'])
def test_nan_is_found_anywhere_in_an_episode(name):
  names = 'observations actions rewards terminations truncations'.split()
  fields = {field: np.zeros([2]) for field in names}
  fields[name] = np.array([0.0, np.nan])
  episode = datasets.Episode(*fields.values(), {}, 3)
  with pytest.raises(FloatingPointError, match=f'in the {name} of .* seed 3'):
    recording._check_finite(episode)
