"""Training from a data set: presets, what a run says, and the way online."""

import csv
import json
import pathlib
import re
import sys
import types

import gin
import gymnasium
import h5py
import numpy as np
import pytest
import tensorflow as tf
from absl.testing import flagsaver
from tf_agents.specs import tensor_spec
from tf_agents.trajectories import trajectory

from qwr_tf import datasets
from qwr_tf import replay
from qwr_tf import serving
from qwr_tf import train
from qwr_tf.acting import collect
from qwr_tf.acting import evaluate
from qwr_tf.acting import offline
from qwr_tf.config import command
from qwr_tf.config import gin_files
from qwr_tf.config.errors import ConfigError
from qwr_tf.reporting import d4rl
from qwr_tf.runs import checkpoints
from qwr_tf.runs import run_folder
from qwr_tf.runs import run_json
from qwr_tf.serving import checks
from qwr_tf.serving import exporter
from qwr_tf.training import experiment
from qwr_tf.training import learning_curve
from tests.serving import policies
from tests.training import killed_runs

_ROOT = pathlib.Path(__file__).resolve().parents[2]
_PRESETS = [p for p in gin_files.presets() if p.startswith('offline_')]
_RUN = 'offline_bitflip.gin', 'offline_online_mujoco.gin'
_TINY = (
  'run.eval_every_env_steps=4',
  'run.log_every_env_steps=2',
  'run.eval_episodes=1',
  'run.final_eval_episodes=2',
  'Collector.env_steps=10',
  'iterate.critic_steps=2',
  'iterate.actor_steps=2',
  'iterate.rounds=1',
  'iterate.batch_size=4',
  'mlp_torso.units=(8,)',
  'load_environment.max_episode_steps=20',
)


@pytest.fixture(autouse=True)
def _isolated(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  tf.config.run_functions_eagerly(True)
  yield
  tf.config.run_functions_eagerly(False)
  gin.clear_config()


@pytest.fixture(name='cli')
def _cli(monkeypatch, capsys):
  """Runs the trainer in this process: (exit code, stdout, stderr)."""
  monkeypatch.setattr(learning_curve, 'draw', lambda *_: b'')

  def run(*arguments):
    argv = ['qwr_tf.train', *arguments]
    monkeypatch.setattr(sys, 'argv', argv)
    code = 0
    with flagsaver.flagsaver():
      try:
        command.parse_flags(argv)
        command.guarded(train.main)
      except SystemExit as ended:
        code = ended.code
    return code, *capsys.readouterr()

  return run


def _random_set(
  path, observation_size, actions, number=4, length=10, metadata=None,
  spread=False,
):  # fmt: skip
  """Episodes of random numbers with a return of 3 each.

  With `spread` not all rewards are alike.
  """
  rng = np.random.default_rng(0)

  def episode():
    action = rng.uniform(-1, 1, [length, 6]).astype(np.float32)
    if actions is not None:
      action = rng.integers(actions, size=[length])
    rewards = np.full([length], 3.0 / length)
    if spread:
      rewards[0], rewards[1] = 0.0, 2 * rewards[1]
    return datasets.Episode(
      rng.normal(size=[length + 1, observation_size]),
      action,
      rewards,
      np.zeros([length], bool),
      np.arange(length) == length - 1,
      {},
    )

  datasets.write(path, (episode() for _ in range(number)), metadata or {})
  return path


def _cheetah(path, **kwargs):
  return _random_set(path, 17, None, **kwargs)


def _bindings(*bindings):
  return [f'--gin_bindings={binding}' for binding in bindings]


def _rows(folder):
  with open(folder / 'metrics.csv') as f:
    return list(csv.DictReader(f))


@pytest.mark.slow
@pytest.mark.parametrize('file', _RUN)
def test_presets_run(cli, tmp_path, file, monkeypatch):
  monkeypatch.setattr(serving, 'export', policies.note_export)
  if 'bitflip' in file:
    _random_set(tmp_path / 'set', 21, 20)
  else:
    _cheetah(tmp_path / 'set')
  online = 20 if 'online' in file else 0
  code, out, err = cli(
    f'--gin_file={file}',
    '--root_dir=run',
    *_bindings(
      *_TINY,
      'run.offline_iterations=3',
      f'run.interactions={online}',
      "run.dataset='set'",
    ),
  )
  assert code == 0, err
  rows = _rows(tmp_path / 'run')
  # 2 actor steps an iteration, then 10 interactions.
  expected = [('0', '2'), ('0', '4'), ('0', '6')]
  if online:
    expected += [('10', '6'), ('20', '6')]
  assert [(r['interactions'], r['offline_steps']) for r in rows] == expected
  steps = [int(row['actor_steps']) for row in rows]
  assert steps == [2 * n for n in range(1, len(rows) + 1)]
  # Evaluations every 4 steps, as they are counted; before the switch and at
  # the end in any case.
  played = [row['eval_episodes'] for row in rows]
  assert played == (['', '1', '1', '1', '2'] if online else ['', '1', '2'])
  assert np.isfinite(float(rows[-1]['actor_loss']))
  assert (tmp_path / 'run' / 'policy').exists()
  facts = json.loads((tmp_path / 'run' / 'run.json').read_text())
  assert facts['dataset'] == 'set'
  assert facts['data']['mean_return'] == pytest.approx(3.0)
  assert facts['data']['transitions'] == 4 * 9
  assert 'data    set: mean return 3 of 4 episodes, 36 transi' in out


@pytest.mark.slow
@pytest.mark.parametrize('file', [p for p in _PRESETS if p not in _RUN])
def test_the_other_presets_learn_from_data(tmp_path, file):
  _cheetah(tmp_path / 'set')
  online = 'online' in file
  gin_files.parse(
    [file],
    [
      *_TINY,
      f'run.offline_iterations={1 if online else 2}',
      f'run.interactions={20 if online else 0}',
      "run.dataset='set'",
      "run.environment='HalfCheetah-v4'",
    ],
  )
  parts = experiment.build(experiment.settings(), seed=0)
  assert parts.data.transitions == 4 * 9
  for interactions in (0, 10 if online else 0):
    collected, scalars = next(parts.iterations)
    assert collected.interactions == interactions
    assert np.isfinite(scalars['actor_loss'])
  assert int(parts.agent.actor_steps) == 4


@pytest.mark.slow
def test_finished_run_says_so_again(cli, tmp_path, monkeypatch):
  monkeypatch.setattr(serving, 'export', policies.note_export)
  _cheetah(tmp_path / 'set')
  arguments = ('--gin_file=offline_bc_mujoco.gin', *_bindings(*_TINY)) + tuple(
    _bindings('run.offline_iterations=1', "run.dataset='set'")
  )
  code, out, _ = cli(*arguments)
  assert code == 0
  (score,) = (x for x in out.splitlines() if x.startswith('score'))
  mode = float(score.split()[1])
  expected = d4rl.normalised('HalfCheetah-v4', mode)
  assert f'd4rl-normalised: {expected:.1f}, the data 2.3 (0 is' in out
  again = cli(*arguments)[1].splitlines()
  assert again[1:] == out.splitlines()


@pytest.mark.slow
def test_online_goes_on_in_the_same_table(tmp_path):
  _cheetah(tmp_path / 'set')
  gin_files.parse(
    ['offline_online_mujoco.gin'],
    [*_TINY, 'run.offline_iterations=2', 'run.interactions=20',
     "run.dataset='set'"],
  )  # fmt: skip
  parts = experiment.build(experiment.settings(), seed=0)
  assert parts.table.capacity == 40 + 20
  starts = [int(parts.table.num_starts())]
  for _ in range(4):
    next(parts.iterations)
    starts.append(int(parts.table.num_starts()))
  # After 10 steps the newest row has none after it yet; after 20 the episode
  # is over, with its final observation.
  assert starts == [36, 36, 36, 36 + 9, 36 + 20]


@pytest.mark.slow
@pytest.mark.parametrize('is_terminal', [False, True])
def test_a_time_limit_is_what_it_is_in_the_environment(tmp_path, is_terminal):
  _cheetah(tmp_path / 'set')
  own = f'load_environment.timeout_is_terminal={is_terminal}'
  bindings = [*_TINY, 'run.interactions=20', "run.dataset='set'", own]
  gin_files.parse(['offline_online_mujoco.gin'], bindings)
  parts = experiment.build(experiment.settings(), seed=0)
  for _ in range(2):
    parts.collector._collector()
  rows = parts.table.read(*parts.table.row_range())
  # The data have 4 episodes of 10 steps, the environment one of 20.
  assert np.sum(rows.discount == 0) == (5 if is_terminal else 0)
  assert parts.data.transitions == (40 if is_terminal else 36)


@pytest.mark.slow
def test_statistics_are_fitted_before_the_first_step(tmp_path):
  path = _cheetah(tmp_path / 'set')
  gin_files.parse(
    ['offline_mujoco.gin'],
    [*_TINY, "run.dataset='set'", 'GaussianHead.scale=0.3'],
  )
  parts = experiment.build(experiment.settings(), seed=0)
  mean, inverse = parts.agent.actor_network.normalizer.parameters
  with h5py.File(path / 'data' / 'main_data.hdf5') as file:
    seen = np.concatenate([g['observations'][:-1] for g in file.values()])
  np.testing.assert_allclose(mean, seen.mean(0), rtol=1e-4, atol=1e-5)
  np.testing.assert_allclose(1 / inverse, seen.std(0) + 1e-5, rtol=1e-4)
  # mu is a Gaussian at the logged action with the policy's own deviation.
  rows = parts.table.read(*parts.table.row_range())
  mu = parts.agent.behavior_distribution(rows.policy_info)
  np.testing.assert_array_equal(mu.mean(), rows.action)
  np.testing.assert_allclose(mu.stddev(), 0.3)


_SUMMARY = datasets.Summary('set', 40, 36, 4, 3.0, 'recorded', None)


class _FakeCollector:
  def __call__(self):
    return collect.Collected(5, [1.0], 0.1)

  def state(self):
    return 'of the collector'

  def restore(self, state):
    assert state == 'of the collector'


def test_offline_first_waits():
  collector = offline.OfflineFirst(_FakeCollector(), 2, _SUMMARY)
  assert [collector().interactions for _ in range(4)] == [0, 0, 5, 5]


def test_offline_first_goes_on_waiting():
  saved, restored, other = (
    offline.OfflineFirst(_FakeCollector(), 3, _SUMMARY._replace(name=name))
    for name in ('set', 'set', 'another')
  )
  saved()
  state = json.loads(json.dumps(saved.state()))
  restored.restore(state)
  assert [restored().interactions for _ in range(3)] == [0, 0, 5]
  with pytest.raises(ConfigError, match="the data set was .*'set'.*'another'"):
    other.restore(state)


@pytest.mark.slow
@pytest.mark.parametrize('iterations', [1, 3])
def test_goes_on_exactly_before_and_after_the_switch(tmp_path, iterations):
  _cheetah(tmp_path / 'set')
  gin_files.parse(
    ['offline_online_mujoco.gin'],
    [*_TINY, 'run.offline_iterations=2', 'run.interactions=40',
     "run.dataset='set'"],
  )  # fmt: skip
  lived, restored = (
    experiment.build(experiment.settings(), seed=0) for _ in range(2)
  )
  saved = [
    checkpoints.Checkpoints(
      tmp_path / 'checkpoints',
      {'agent': parts.agent},
      replay.TableFiles(parts.table),
      {'collector': parts.collector},
    )
    for parts in (lived, restored)
  ]
  for _ in range(iterations):
    next(lived.iterations)
  saved[0].save(1)
  assert saved[1].restore()
  assert killed_runs.digests(restored) == killed_runs.digests(lived)
  for _ in range(2):
    collected = [next(p.iterations)[0].interactions for p in (lived, restored)]
    assert collected[0] == collected[1]
  assert killed_runs.digests(restored) == killed_runs.digests(lived)


def test_environment_in_the_path(tmp_path):
  _cheetah(tmp_path / 'HalfCheetah-v4' / 'third-v0')
  data = offline.open_data_set('{environment}/third-v0', 'HalfCheetah-v4')
  assert (data.name, data.steps) == ('third-v0', 40)
  assert offline.open_data_set('{environment}/third-v0', 'm:HalfCheetah-v4')


@pytest.mark.parametrize(
  ('recorded', 'warned'), [('Walker2d-v4', True), ('HalfCheetah-v5', False)]
)
def test_data_of_another_environment(tmp_path, caplog, recorded, warned):
  metadata = {'env_spec': json.dumps({'id': recorded})}
  _cheetah(tmp_path / 'set', metadata=metadata)
  offline.open_data_set('set', 'HalfCheetah-v4')
  line = 'set was recorded in Walker2d-v4; run.environment is HalfCheetah-v4.'
  assert caplog.messages == [line] * warned


def test_normalised_scores():
  assert d4rl.normalised('HalfCheetah-v4', -280.178953) == 0.0
  assert d4rl.normalised('Hopper-v4', 3234.3) == pytest.approx(100.0)
  # (1000 + 20.272305) / (3234.3 + 20.272305)
  assert d4rl.normalised('Hopper-v5', 1000.0) == pytest.approx(31.349, abs=1e-3)
  assert d4rl.normalised('BitFlip-20', 1.0) is None
  # What the data set says goes before.
  assert d4rl.normalised('BitFlip-20', 1.0, (0.0, 5.0)) == 20.0


def test_learning_curve_shows_switch_and_data(monkeypatch):
  from matplotlib.figure import Figure

  drawn = []
  monkeypatch.setattr(Figure, 'savefig', lambda f, *_, **__: drawn.append(f))
  rows = [
    {'interactions': i, 'offline_steps': o, 'eval_return_mode': r}
    for i, o, r in ((0, 1000, 1.0), (0, 2000, 2.0), (500, 2000, 3.0))
  ]
  learning_curve.draw(rows, 'title', data_return=1.5)
  (axes,) = drawn[0].axes
  lines = {line.get_label(): line for line in axes.lines}
  curve = lines['evaluation, mode action']
  assert list(curve.get_xdata()) == [1000, 2000, 2500]
  assert lines['collecting begins'].get_xdata()[0] == 2000
  assert lines['mean of the data'].get_ydata()[0] == 1.5
  assert axes.get_xlabel() == 'offline gradient steps, then interactions'


def test_learning_curve_without_returns_shows_what_was_learned(monkeypatch):
  from matplotlib.figure import Figure

  drawn = []
  monkeypatch.setattr(Figure, 'savefig', lambda f, *_, **__: drawn.append(f))
  rows = [
    {'interactions': 0, 'offline_steps': n, 'q_mean': 2.0 * n, 'actor_loss': 1}
    for n in (10, 20)
  ]
  learning_curve.draw(rows, 'title', data_return=1.5)
  curves = {
    axes.get_ylabel(): [list(line.get_ydata()) for line in axes.lines]
    for axes in drawn[0].axes
  }
  assert curves == {
    'q_mean': [[20, 40]],
    'critic_loss': [],
    'actor_loss': [[1, 1]],
  }
  assert list(drawn[0].axes[0].lines[0].get_xdata()) == [10, 20]
  assert drawn[0].axes[-1].get_xlabel() == 'gradient steps'


# Bad input: one line, exit code 2, nothing written.


def _broken(path, name, change):
  with h5py.File(path / 'data' / 'main_data.hdf5', 'a') as file:
    values = file[f'episode_2/{name}'][()]
    del file[f'episode_2/{name}']
    changed = change(values)
    if changed is not None:
      file[f'episode_2/{name}'] = changed


def _nan(values):
  values[3] = np.nan
  return values


@pytest.mark.slow
@pytest.mark.parametrize(
  ('name', 'change', 'problem'),
  [
    ('observations', _nan, 'episode_2, step 3, observations: NaN or Inf'),
    ('observations', lambda x: x[:, :11], 'episode_2, observations: a step'),
    ('actions', lambda x: x * 3, 'actions: outside of [-1, 1]'),
    ('actions', lambda x: x.astype('S8'), 'episode_2, actions: has dtype'),
    ('rewards', lambda x: None, 'episode_2, rewards: is missing'),
  ],
)
def test_bad_data(cli, tmp_path, name, change, problem):
  _broken(_cheetah(tmp_path / 'set'), name, change)
  code, out, err = cli(
    '--gin_file=offline_mujoco.gin',
    '--root_dir=run',
    *_bindings(*_TINY, "run.dataset='set'"),
  )
  assert (code, out) == (2, '')
  (line,) = err.splitlines()
  assert 'set/data/main_data.hdf5: ' in line
  assert problem in line
  assert not (tmp_path / 'run').exists()


def test_images_that_a_table_of_single_frames_would_change(tmp_path):
  spec = tf.TensorSpec([2, 2, 3], tf.uint8)
  table = replay.ReplayTable(_discrete(spec), 9, single_frames=True)
  rng = np.random.default_rng(0)
  episode = datasets.Episode(
    rng.integers(0, 256, [4, 2, 2, 3], np.uint8),
    np.zeros([3], np.int64),
    np.ones([3]),
    np.zeros([3], bool),
    np.arange(3) == 2,
    {},
  )
  datasets.write(tmp_path / 'set', [episode], {})
  data = offline.open_data_set('set', 'x')
  env = types.SimpleNamespace(
    env=types.SimpleNamespace(action_space=gymnasium.spaces.Discrete(2)),
    clipped=lambda rewards: rewards,
    timeout_is_terminal=False,
  )
  network = types.SimpleNamespace(normalizer=None)
  agent = types.SimpleNamespace(
    acting_network=network, collect_data_spec=table.data_spec
  )
  with pytest.raises(ValueError, match='^set.*, observations: .* = False.$'):
    offline.fill(data, table, agent, env, datasets.Split(0.0))


def _discrete(observation):
  scalar, step_type = tf.TensorSpec([]), tf.TensorSpec([], tf.int32)
  return trajectory.Trajectory(
    step_type,
    observation,
    tensor_spec.BoundedTensorSpec([], tf.int32, 0, 1),
    {'dist_params': {'logits': tf.TensorSpec([2])}},
    step_type,
    scalar,
    scalar,
  )


@pytest.mark.slow
@pytest.mark.parametrize(
  ('bindings', 'fix'),
  [
    ((), 'run.offline_iterations = 30 needs run.dataset'),
    (
      ('run.offline_iterations=0', 'run.interactions=9'),
      'run.replay_capacity = None needs run.dataset',
    ),
    (
      ("run.environment='NoSimulator'", 'run.interactions=9'),
      'NoSimulator needs run.interactions = 0',
    ),
    (("run.dataset='nope'",), 'nope: there is no such data set'),
    (("run.dataset='set'", 'run.offline_iterations=0'), 'run.interactions'),
    (("run.dataset='set'", 'run.replay_capacity=9'), 'run.replay_capacity'),
    (("run.dataset='set'", "run.environment='Hopper-v4'"), 'must have (11,)'),
    (("run.dataset='set'", 'logged_action_behavior.epsilon=2.0'), 'epsilon'),
  ],
)
def test_bad_settings(cli, tmp_path, bindings, fix):
  _cheetah(tmp_path / 'set')
  code, out, err = cli(
    '--gin_file=offline_mujoco.gin',
    '--root_dir=run',
    *_bindings(*_TINY, *bindings),
  )
  assert (code, out) == (2, '')
  (line,) = err.splitlines()
  assert fix in line
  assert not (tmp_path / 'run').exists()


# Without a simulator


def _train_parts(file, *bindings):
  gin.clear_config()
  gin_files.parse([file], [*_TINY[:-1], "run.dataset='set'", *bindings])
  return experiment.build(experiment.settings(), seed=3)


_NO_CHEETAH = (
  "run.environment='NoSimulator'",
  'load_environment.observation_shape=(17,)',
  'load_environment.action_shape=(6,)',
)
_NO_BITFLIP = (
  "run.environment='NoSimulator'",
  'load_environment.observation_shape=(21,)',
  'load_environment.num_actions=20',
)


def test_logged_data_without_an_environment_have_no_simulator(tmp_path):
  _cheetah(tmp_path / 'set')
  with_data = "run.dataset='set'"
  experiment.configuration(['offline_vector.gin'], [with_data])
  assert experiment.settings().environment == 'NoSimulator'
  own = [with_data, "ENVIRONMENT='Hopper-v4'"]
  experiment.configuration(['offline_vector.gin'], own)
  assert experiment.settings().environment == 'Hopper-v4'
  # An algorithm alone, which binds none.
  experiment.configuration(['qwr/qwr.gin', 'environments/offline.gin'], own[:1])
  assert experiment.settings().environment == 'NoSimulator'


@pytest.mark.slow
@pytest.mark.parametrize(
  'file, sizes, spaces',
  [
    ('offline_mujoco.gin', (17, None), _NO_CHEETAH),
    ('offline_bitflip.gin', (21, 20), _NO_BITFLIP),
  ],
)
def test_without_a_simulator_the_same_is_learned(tmp_path, file, sizes, spaces):
  _random_set(tmp_path / 'set', *sizes)
  with_one = _train_parts(file)
  without = _train_parts(file, *spaces, 'DataSet.held_out_share=0.0')
  assert without.evaluator is None and with_one.evaluator is not None
  for _ in range(3):
    next(with_one.iterations), next(without.iterations)
  pairs = zip(with_one.agent.variables, without.agent.variables, strict=True)
  for one, other in pairs:
    np.testing.assert_array_equal(one, other, one.name)


@pytest.mark.slow
def test_a_run_without_a_simulator_ends_with_a_policy(cli, tmp_path):
  _cheetah(
    tmp_path / 'set', number=10, spread=True,
    metadata={'ref_min_score': 0, 'ref_max_score': 9},
  )  # fmt: skip
  arguments = (
    '--gin_file=offline_mujoco.gin',
    '--root_dir=run',
    *_bindings(
      *_TINY[:-1], *_NO_CHEETAH, 'run.offline_iterations=3',
      'load_environment.action_low=[-2, -1, -1, -1, -1, -1]',
      'load_environment.action_high=2.0', "run.dataset='set'",
      'DataSet.held_out_share=0.5',
      'OffPolicyEvaluator.curve_steps=2', 'OffPolicyEvaluator.steps=2',
      'OffPolicyEvaluator.members=2',
    ),
  )  # fmt: skip
  code, out, err = cli(*arguments)
  assert code == 0, err
  assert 'score   none, as there is no simulator' in out
  assert 'so      The policy is estimated at' in out
  assert 'data    set: mean return 3 of 5 episodes' in out
  assert 'd4rl' not in out
  rows = _rows(tmp_path / 'run')
  assert [row['offline_steps'] for row in rows] == ['2', '4', '6']
  assert {row['eval_return_mode'] + row['eval_episodes'] for row in rows} == {
    ''
  }
  assert np.isfinite(float(rows[-1]['critic_loss']))
  assert np.isfinite(float(rows[-1]['fqe_value']))
  page = (tmp_path / 'run' / 'evaluation.md').read_text()
  assert '| FQE |' in page and '5 episodes' in page
  facts = json.loads((tmp_path / 'run' / 'run.json').read_text())
  assert facts['scores'] == dict.fromkeys(facts['scores'])
  assert facts['held_out'] == [0.5, 0]
  estimate = facts['evaluation']
  assert estimate['low'] < estimate['value'] < estimate['high']
  assert estimate['gamma'] == 0.99
  # The policy's actions have the environment's bounds.
  model = tf.saved_model.load(str(tmp_path / 'run' / 'policy' / '1'))
  serve = model.signatures['serving_default']
  action = serve(tf.constant(np.full([1, 17], 1e9, np.float32)))['action']
  assert np.all(np.abs(action) <= 2) and np.all(action[:, 1:] >= -1)
  exporter.export_run(tmp_path / 'run', tmp_path / 'run' / 'policy')
  path = tmp_path / 'run' / 'policy' / '2' / 'assets.extra' / 'metadata.json'
  facts = json.loads(path.read_text())
  # Nothing tries to make it again and to play in it.
  assert facts['gymnasium_spec'] is None
  assert facts['not_described'] == 'it stands for logged data'
  assert cli(*arguments)[1].splitlines()[1:] == out.splitlines()
  # --overwrite leaves nothing of the run.
  folder = run_folder.RunFolder(
    tmp_path / 'run', run_json.required(tmp_path / 'run')
  )
  with folder.claimed(overwrite=True):
    folder.begin()
  names = {path.name for path in folder.path.iterdir()}
  assert names == {'run.json', 'config.gin'}


@pytest.mark.slow
@pytest.mark.parametrize(
  'bindings, message',
  [
    ((*_NO_CHEETAH, 'load_environment.num_actions=2'), 'action_shape.*num'),
    ((*_NO_CHEETAH, 'load_environment.action_low=[1, 2]'), "'low': "),
    ((*_NO_CHEETAH, 'run.interactions=10'), 'run.interactions'),
    ((*_NO_CHEETAH, 'load_environment.observation_shape=(11,)'), r'set.*\(17'),
  ],
)
def test_no_simulator_s_refusals(cli, tmp_path, bindings, message):
  _cheetah(tmp_path / 'set')
  code, _, err = cli(
    '--gin_file=offline_mujoco.gin',
    '--root_dir=run',
    *_bindings("run.dataset='set'", *bindings),
  )
  assert code == 2
  (line,) = (x for x in err.splitlines() if x.startswith('error: '))
  assert re.search(message, line), line
  assert not (tmp_path / 'run').exists()


@pytest.mark.slow
def test_what_was_logged_stands_for_visited_states(tmp_path):
  path = _cheetah(tmp_path / 'set')
  agent = _train_parts('offline_mujoco.gin', *_NO_CHEETAH).agent

  def visited(number, seed):
    found = checks.visited_observations(agent, 'NoSimulator', number, seed)
    return {observation.tobytes() for observation in found}

  with h5py.File(path / 'data' / 'main_data.hdf5') as file:
    logged = np.concatenate([g['observations'][:-1] for g in file.values()])
  logged = {observation.tobytes() for observation in logged.astype(np.float32)}
  some, others = visited(25, 0), visited(25, 1)
  assert len(some) == len(others) == 25 and some != others
  assert some | others <= logged and visited(99, 2) == logged
  (tmp_path / 'set').rename(tmp_path / 'moved')
  with pytest.raises(ConfigError, match='set: there is no such data'):
    visited(1, 0)


def test_lines_know_the_data_set_s_own_scale():
  data = {
    'name': 'd',
    'mean_return': 10.0,
    'episodes': 4,
    'transitions': 80,
    'mu': 'fitted',
    'reference': (0.0, 50.0),
  }
  found = d4rl.data_set_lines({'data': data}, 'HalfCheetah-v4', 25.0)
  assert found[1].startswith('d4rl-normalised: 50.0, the data 20.0 (')
  assert 'mean return 10 of 4 episodes, 80 transitions' in found[0]


def test_streams_of_one_seed_are_apart(monkeypatch):
  seeds = {}

  def noted(name):
    return lambda *_, seed, **__: seeds.setdefault(name, seed)

  monkeypatch.setattr(collect, 'Collector', noted('acting'))
  monkeypatch.setattr(evaluate, 'Evaluator', noted('evaluating'))
  gin_files.parse(['bitflip.gin'], ['run.replay_capacity=100'])
  experiment.build(experiment.settings(), seed=3)
  assert seeds == {'acting': 20_003, 'evaluating': 10_003}


@pytest.mark.slow
def test_the_data_set_knows_the_seed(monkeypatch):
  seeds = []

  def opened(path, environment, seed=0):
    seeds.append(seed)
    raise ValueError('seen')

  monkeypatch.setattr(offline, 'open_data_set', opened)
  gin_files.parse(['offline_bitflip.gin'], ["run.dataset='x'"])
  with pytest.raises(ConfigError, match='seen'):
    experiment.build(experiment.settings(), seed=3)
  assert seeds == [3]
