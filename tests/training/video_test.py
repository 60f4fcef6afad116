"""Videos: what is filmed, how long, and what happens where nothing can be."""

import shutil
import time
import types

import imageio
import numpy as np
import pytest
import tensorflow as tf
from tf_agents.specs import tensor_spec

from qwr_tf.acting import numpy_actor
from qwr_tf.config import gin_files
from qwr_tf.config.errors import ConfigError
from qwr_tf.runs import run_folder
from qwr_tf.training import experiment
from qwr_tf.training import video


def _settings(name, *bindings):
  gin_files.parse(
    ['atari.gin' if name.startswith('ALE') else 'mujoco.gin'],
    [f"ENVIRONMENT='{name}'", *bindings],
  )
  return experiment.settings()


def _agent(env):
  return experiment.make_agent(
    tensor_spec.from_spec(env.time_step_spec()),
    tensor_spec.from_spec(env.action_spec()),
    seed=0,
  )


@pytest.mark.slow
@pytest.mark.parametrize(
  'name, size, fps',
  [('Pendulum-v1', (500, 500), 30), ('ALE/Pong-v5', (210, 160), 15)],
)
def test_every_step_of_an_episode_is_a_frame(tmp_path, name, size, fps):
  settings = _settings(name, 'load_environment.max_episode_steps=12')
  env = video.screen(settings, seed=0)
  path = video.record(env, _agent(env), tmp_path / 'video.mp4')
  assert [p.name for p in tmp_path.iterdir()] == ['video.mp4']
  reader = imageio.get_reader(path)
  frames = list(reader.iter_data())
  assert len(frames) == 13  # The screen at the reset, then one per step.
  assert frames[0].shape == (*size, 3)
  assert reader.get_meta_data()['fps'] == pytest.approx(fps)
  env.reset()
  # The last frame is what is drawn, but for compression.
  assert np.ptp(frames[-1]) > 50


@pytest.mark.slow
def test_an_endless_episode_is_cut(tmp_path):
  settings = _settings('Pendulum-v1')
  env = video.screen(settings, seed=0)
  path = video.record(env, _agent(env), tmp_path / 'a.mp4', max_steps=5)
  assert len(list(imageio.get_reader(path).iter_data())) == 6


def test_what_cannot_be_drawn_is_one_line_before_the_run():
  settings = _settings('BitFlip-5')
  with pytest.raises(ConfigError, match='leave out --video') as info:
    video.screen(settings, seed=0)
  assert 'BitFlip-5' in str(info.value)
  assert '\n' not in str(info.value)


@pytest.mark.slow
@pytest.mark.parametrize(
  'frame',
  [None, np.zeros([4]), np.zeros([4, 4, 7]), np.zeros([0, 4, 3]), 'frame'],
)
def test_a_first_frame_that_is_no_image_is_one_line(frame, monkeypatch):
  settings = _settings('Pendulum-v1')
  env = video.screen(settings, seed=0)
  monkeypatch.setattr(type(env), 'render', lambda *_: frame)
  with pytest.raises(ConfigError, match=r'render\(\) returns.*--video') as info:
    video.screen(settings, seed=0)
  assert '\n' not in str(info.value)


@pytest.mark.slow
def test_a_failure_leaves_no_half_film(tmp_path):
  class Broken:
    env = type('Env', (), {'metadata': {'render_fps': 30}})()

    def reset(self):
      raise FloatingPointError('NaN')

  settings = _settings('Pendulum-v1')
  agent = _agent(video.screen(settings, seed=0))
  with pytest.raises(FloatingPointError):
    video.record(Broken(), agent, tmp_path / 'video.mp4')
  assert not list(tmp_path.iterdir())


class _Snapshots:
  """Copies a folder while a film is on its way: what a kill would leave."""

  def __init__(self, env, folder, copy):
    self.env = env.env
    self._wrapped, self._folder, self._copy = env, folder, copy
    self.reset, self.step = env.reset, env.step
    self._frames = 0

  def render(self):
    self._frames += 1
    if self._frames == 4:
      deadline = time.monotonic() + 20
      while not list(self._folder.rglob('*.mp4')):  # ffmpeg opens its file.
        assert time.monotonic() < deadline
        time.sleep(0.01)
      shutil.copytree(self._folder, self._copy)
    return self._wrapped.render()


@pytest.mark.slow
def test_what_a_killed_process_leaves_goes_with_the_next_start(tmp_path):
  facts = {'config': '', 'environment': 'Pendulum-v1', 'seed': 0}
  run, killed = tmp_path / 'run', tmp_path / 'killed'
  folder = run_folder.RunFolder(run, facts)
  with folder.claimed(overwrite=False):
    folder.begin()
    (run / 'notes.txt').write_text('mine')
    (run / '.notes').write_text('mine, too')
    env = video.screen(_settings('Pendulum-v1'), seed=0)
    film = _Snapshots(env, run, killed)
    video.record(film, _agent(env), run / 'video.mp4', max_steps=8)
  kept = {'run.json', 'config.gin', 'notes.txt', '.notes'}
  assert {p.name for p in run.iterdir()} == kept | {'video.mp4'}
  assert list(killed.rglob('*.mp4'))  # Else nothing is tested.
  with run_folder.RunFolder(killed, facts).claimed(overwrite=False):
    pass
  assert {p.name for p in killed.iterdir()} == kept


@pytest.fixture(autouse=True)
def _eagerly():
  tf.config.run_functions_eagerly(True)
  yield
  tf.config.run_functions_eagerly(False)


class _AtSpeed:
  """An environment that is to be shown at another speed."""

  def __init__(self, env, fps):
    self.env = types.SimpleNamespace(metadata={'render_fps': fps})
    self.reset, self.step, self.render = env.reset, env.step, env.render


@pytest.mark.slow
def test_a_film_is_as_long_as_the_episode(tmp_path):
  env = video.screen(_settings('Pendulum-v1'), seed=0)
  path = video.record(
    _AtSpeed(env, 125), _agent(env), tmp_path / 'a.mp4', max_steps=11
  )
  reader = imageio.get_reader(path)
  assert len(list(reader.iter_data())) == 4  # 0, 3, 6, 9.
  assert reader.get_meta_data()['fps'] == pytest.approx(125 / 3, abs=0.01)


@pytest.mark.slow
def test_an_environment_that_names_no_speed(tmp_path):
  env = video.screen(_settings('Pendulum-v1'), seed=0)
  silent = _AtSpeed(env, None)
  path = video.record(silent, _agent(env), tmp_path / 'a.mp4', max_steps=2)
  assert imageio.get_reader(path).get_meta_data()['fps'] == 30


@pytest.mark.slow
def test_the_mode_is_filmed(tmp_path, monkeypatch):
  env = video.screen(_settings('Pendulum-v1'), seed=0)
  drawn = []
  act = numpy_actor.NumpyActor.__call__
  monkeypatch.setattr(
    numpy_actor.NumpyActor,
    '__call__',
    lambda self, observation, rng: (
      drawn.append(rng) or act(self, observation, rng)
    ),
  )
  video.record(env, _agent(env), tmp_path / 'a.mp4', max_steps=2)
  assert drawn == [None, None]


@pytest.mark.slow
def test_the_game_s_own_episode_is_filmed():
  settings = _settings(
    'ALE/Pong-v5', 'load_environment.terminal_on_life_loss=True'
  )
  with video.screen(settings, seed=0) as env:
    assert 'LifeLossTerminal' not in str(env.env)
