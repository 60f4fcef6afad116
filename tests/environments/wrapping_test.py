"""Wrappers by name, frame stacks and image layout."""

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from qwr_tf import environments

_NAME = 'Images-v0'


class _Images(gymnasium.Env):
  """Step i shows an image of the number i in each channel."""

  action_space = spaces.Discrete(2)

  def __init__(self, shape):
    self.observation_space = spaces.Box(0, 255, shape, np.uint8)

  def _image(self):
    return np.full(self.observation_space.shape, self._i, np.uint8)

  def reset(self, *, seed=None, options=None):
    self._i = 0
    return self._image(), {}

  def step(self, action):
    self._i += 1
    return self._image(), 1.0, False, False, {}


class Doubled(gymnasium.RewardWrapper):
  """A wrapper of the user's own."""

  def __init__(self, env, factor=2.0):
    super().__init__(env)
    self._factor = factor

  def reward(self, reward):
    return self._factor * reward


def not_a_wrapper(env):
  return env


@pytest.fixture(autouse=True)
def _registered():
  gymnasium.register(_NAME, _Images, max_episode_steps=9)
  yield
  del gymnasium.registry[_NAME]


def _load(shape=(20, 30, 3), **kwargs):
  return environments.load(_NAME, seed=0, shape=shape, **kwargs)


@pytest.mark.parametrize(
  'shape, expected',
  [
    ((20, 30, 3), (20, 30, 3)),
    ((3, 20, 30), (20, 30, 3)),
    ((1, 20, 30), (20, 30, 1)),
    ((20, 30), (20, 30, 1)),
    ((8, 8), (8, 8)),  # A board.
  ],
)
def test_images_have_their_channels_last(shape, expected):
  env = _load(shape)
  assert env.observation_spec().shape == expected
  assert env.reset().observation.shape == expected


def test_axes_stay_where_the_user_says_so():
  env = _load((3, 20, 30), channels_first=False)
  assert env.observation_spec().shape == (3, 20, 30)


@pytest.mark.parametrize(
  'shape', [(20, 30, 3), (20, 30, 1), (20, 30), (3, 20, 30)]
)
def test_the_newest_image_of_a_stack_is_the_last(shape):
  channels = 3 if 3 in shape else 1
  env = _load(shape, frame_stack=2)
  assert env.observation_spec().shape == (20, 30, 2 * channels)
  first = env.reset().observation
  np.testing.assert_array_equal(first, 0)
  env.step(np.int32(0))
  observation = env.step(np.int32(0)).observation
  np.testing.assert_array_equal(
    observation[0, 0], [1] * channels + [2] * channels
  )


def test_only_images_are_stacked():
  with pytest.raises(ValueError, match='frame_stack'):
    environments.load('CartPole-v1', frame_stack=2)


def test_wrappers_by_name_with_and_without_arguments():
  env = _load(
    wrappers=(
      'GrayscaleObservation',
      ('ResizeObservation', {'shape': (16, 24)}),
      f'{__name__}:Doubled',
      (Doubled, {'factor': 3.0}),
    )
  )
  assert env.observation_spec().shape == (16, 24, 1)
  env.reset()
  assert env.step(np.int32(0)).reward == 6.0


@pytest.mark.parametrize(
  'entry, words',
  [
    ('NoSuchWrapper', 'my_module:MyWrapper'),
    (f'{__name__}:NoSuchWrapper', __name__),
    ('no_such_module:Wrapper', 'no_such_module'),
    (f'{__name__}:not_a_wrapper', 'gymnasium.Wrapper'),
    (('Autoreset', 1), 'no wrapper'),
  ],
)
def test_an_entry_that_names_no_wrapper(entry, words):
  with pytest.raises(ValueError, match=words) as error:
    _load(wrappers=(entry,))
  assert '\n' not in str(error.value)


def test_a_wrapped_environment_is_made_again_from_its_description():
  env = _load(wrappers=('GrayscaleObservation',), frame_stack=3)
  names = [w['name'] for w in environments.describe(env.env)['wrappers']]
  assert names[-3:] == [
    'GrayscaleObservation',
    'FrameStackObservation',
    'ChannelsLast',
  ]


@pytest.mark.parametrize('name', ['HalfCheetah-v4', 'Ant-v4', 'Hopper-v4'])
def test_a_camera_follows_the_body(name):
  with environments.load(name) as env:
    renderer = env.env.unwrapped.mujoco_renderer
    # Camera 0 is 'track'; from gymnasium 1.4 on Hopper's free camera follows.
    follows = 'trackbodyid' in renderer.default_cam_config
    assert renderer.camera_id == 0 or (name == 'Hopper-v4' and follows)
