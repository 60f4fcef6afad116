"""The examples run, and do what they say."""

import json
import sys

import gin
import gymnasium
import numpy as np
import pytest
import tensorflow as tf
from tf_agents.trajectories import time_step as ts

from examples import continue_training
from examples import offers
from examples import small_tasks
from examples import tf_agents_pipeline
from qwr_tf import serving
from qwr_tf.config.errors import ConfigError
from qwr_tf.serving import exporter
from qwr_tf.serving import saved_policy
from tests.serving import policies


@pytest.fixture(autouse=True)
def _clear_gin():
  yield
  gin.clear_config()


@pytest.fixture(scope='module', name='run')
def _run(tmp_path_factory):
  run = policies.make_run(
    tmp_path_factory.mktemp('runs'),
    'bitflip.gin',
    environment='BitFlip-8',
    bindings=['load_environment.zero_start = True'],
  )
  serving.export_run(run.folder, run.folder / 'policy')
  gin.clear_config()
  return run


@pytest.mark.slow
def test_the_pipeline_learns_and_saves_its_policy(tmp_path):
  path, score = tf_agents_pipeline.run(
    str(tmp_path), 'BitFlip-5', iterations=4, train_steps=60, batch_size=32
  )
  # Five bits, all zero at first: 5 is perfect. A policy that has not learned
  # flips one bit five times, which is worth 1.
  assert score > 4.0
  saved = tf.saved_model.load(path)
  assert saved.get_train_step() == 4 * 60
  observations = np.zeros([1, 6], np.float32)
  action = saved.action(ts.restart(tf.constant(observations), 1)).action
  assert action.shape == (1,)


@pytest.mark.slow
def test_going_on_begins_with_what_it_is_given(tmp_path, monkeypatch, capsys):
  # Nothing is trained, or even read, for an --output that cannot be.
  (tmp_path / 'other').write_text('')
  argv = ['continue_training.py', '--root_dir', str(tmp_path / 'none')]
  for output, message in (
    ('', 'not empty and holds no'),
    ('new', 'no run fol'),
  ):
    arguments = [*argv, '--output', str(tmp_path / output)]
    monkeypatch.setattr(sys, 'argv', arguments)
    with pytest.raises(SystemExit, match='2'):
      continue_training.main()
    assert message in capsys.readouterr().err


def test_there_is_no_going_on_without_an_environment(tmp_path):
  facts = {'config': '', 'environment': 'NoSimulator', 'seed': 0}
  (tmp_path / 'run.json').write_text(json.dumps(facts))
  with pytest.raises(ConfigError, match='no environment to go on in'):
    continue_training.run(tmp_path, tmp_path / 'next')


@pytest.mark.parametrize(
  ('example', 'arguments', 'message'),
  [
    (continue_training, ('--output=o', '--iterations=0'), 'must be 1 or more'),
    (tf_agents_pipeline, ('--iterations=0',), 'must be 1 or more'),
    (tf_agents_pipeline, ('--environment=BitFlop-5',), "'BitFlop-5'"),
  ],
)
def test_bad_flags(example, arguments, message, tmp_path, monkeypatch, capsys):
  argv = ['example', f'--root_dir={tmp_path / "run"}', *arguments]
  monkeypatch.setattr(sys, 'argv', argv)
  with pytest.raises(SystemExit, match='2'):
    example.main()
  assert message in capsys.readouterr().err


@pytest.mark.slow
def test_going_on_is_in_the_environment_of_the_run(run, tmp_path, monkeypatch):
  starts = []

  def no_driver(env, *_, **__):
    starts.extend(env.reset().observation[:8] for _ in range(3))
    raise KeyboardInterrupt

  monkeypatch.setattr(continue_training.py_driver, 'PyDriver', no_driver)
  with pytest.raises(KeyboardInterrupt):
    continue_training.run(run.folder, tmp_path / 'next')
  assert not np.any(starts)


@pytest.mark.slow
def test_training_goes_on_from_a_checkpoint(run, tmp_path, monkeypatch):
  monkeypatch.setattr(exporter, 'save_tf_agents_policies', lambda *_: None)
  # Again from the run, not from where the first one ended.
  for iterations, export in ((1, lambda *_: None), (2, exporter.export)):
    monkeypatch.setattr(serving, 'export', export)
    version = continue_training.run(
      run.folder,
      tmp_path / 'next',
      iterations=iterations,
      env_steps=40,
      train_steps=3,
      batch_size=8,
    )
    gin.clear_config()
  assert [p.name for p in tmp_path.iterdir()].count('next_learner') == 0
  path = version / 'assets.extra' / 'metadata.json'
  metadata = json.loads(path.read_text())
  assert metadata['interactions'] == 7 + 2 * 40
  assert metadata['actor_steps'] == 2 * 3
  # The weights have moved on, from those of the run.
  serve = tf.saved_model.load(str(version)).signatures['distribution']
  observation = tf.constant(policies.observations(run.agent))
  after = serve(observation=observation)['logits']
  before = run.agent.actor_network(observation)[0].logits
  assert 0 < np.abs(after - before).max() < 1


@pytest.mark.slow
def test_offers_are_learned_from_a_table_and_ranked_without_a_simulator(
  tmp_path, monkeypatch
):
  monkeypatch.setattr(exporter, 'save_tf_agents_policies', lambda *_: None)
  short = (
    'OffPolicyEvaluator.steps = 1000',
    'OffPolicyEvaluator.members = 2',
    'OffPolicyEvaluator.curve_steps = 10',
    'run.offline_iterations = 6',
  )
  ranked = offers.run(tmp_path, 1500, short)
  runs = tmp_path / 'runs'
  best = ranked[0].run
  places = {candidate.run: i for i, candidate in enumerate(ranked)}
  assert places['BC'] > 0
  true = {
    name: offers.earnings(
      saved_policy.SavedPolicy(runs / name / 'policy'), 2000, seed=5
    )
    for name in (best, 'BC')
  }
  # The simulator agrees; a session of the log earns 0.18.
  assert true[best] > 1.5 * true['BC']
  assert true['BC'] == pytest.approx(0.18, abs=0.06)
  page = (runs / best / 'evaluation.md').read_text()
  assert 'better than the policy that acted' in page
  assert (runs / 'best' / 'policy').samefile(runs / best / 'policy')


@pytest.mark.parametrize('name', ['Catch-v0', 'CatchDict-v0'])
def test_a_paddle_that_follows_the_ball_catches_it(name):
  env = gymnasium.make(f'examples.small_tasks:{name}')
  for seed in range(10):
    observation, _ = env.reset(seed=seed)
    terminated, paddle = False, 4
    while not terminated:
      assert env.observation_space.contains(observation)
      image = observation if name == 'Catch-v0' else observation['camera']
      ball = np.argmax(image[..., 0].max(axis=0)) // 8
      move = np.sign(ball - paddle)
      paddle += move
      observation, reward, terminated, *_ = env.step(move + 1)
    assert reward == 1.0


def test_dials_that_are_turned_the_short_way_are_right_in_two_steps():
  env = gymnasium.make(f'{small_tasks.__name__}:Dials-v0')
  for seed in range(10):
    observation, _ = env.reset(seed=seed)
    terminated, steps = False, 0
    while not terminated:
      distance = (observation[3:] - observation[:3]) % 5
      action = np.select([distance == 0, distance < 3], [1, 2], 0)
      observation, reward, terminated, *_ = env.step(action)
      assert -1.0 <= reward <= 0.0
      steps += 1
    assert steps <= 2 and reward == 0.0
