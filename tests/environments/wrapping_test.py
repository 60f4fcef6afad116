"""Wrappers by name, frame stacks and image layout."""

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from qwr_tf import environments
from qwr_tf.serving import run_policy

_NAME = 'Images-v0'


class _Images(gymnasium.Env):
  """Step i shows an image of the number i in each channel."""

  action_space = spaces.Discrete(2)

  def __init__(self, shape, form=None):
    self.observation_space = spaces.Box(0, 255, shape, np.uint8)
    self._reused = np.zeros(shape, np.uint8)
    self._form = form or np.copy

  def _image(self):
    self._reused[:] = self._i
    return self._form(self._reused)

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


# What environments return in the place of a new array of uint8.
_FORMS = {
  'list': np.ndarray.tolist,
  'int64': np.int64,
  'float32': np.float32,
  'the same array': lambda image: image,
}


@pytest.mark.parametrize('form', _FORMS)
@pytest.mark.parametrize(
  ('shape', 'frame_stack'), [((20, 30), 2), ((3, 20, 30), 1), ((20, 30), 1)]
)
def test_frames_are_of_the_space_s_dtype(form, shape, frame_stack):
  env = _load(shape, form=_FORMS[form], frame_stack=frame_stack)
  described = environments.describe(env.env)
  frames = gymnasium.make(
    _NAME, shape=shape, form=_FORMS[form], disable_env_checker=True
  )
  for wrapper in described['wrappers']:
    frames = run_policy._wrap(frames, wrapper, ())
  env.reset(), frames.reset(seed=0)
  for i in (1, 2):
    observation = env.step(np.int32(0)).observation
    last = [i - 1, i] if frame_stack == 2 else [i] * observation.shape[-1]
    np.testing.assert_array_equal(observation[3, 4], last)
    played, *_ = frames.step(0)
    np.testing.assert_array_equal(played, observation)


class _Camera(gymnasium.ObservationWrapper):
  """The image as an entry."""

  def __init__(self, env):
    super().__init__(env)
    self.observation_space = spaces.Dict({'image': env.observation_space})

  def observation(self, observation):
    return {'image': observation}


@pytest.mark.parametrize(
  ('argument', 'words'),
  [
    ({'frame_stack': 2}, 'frame_stack.*not a Dict'),
    ({'channels_first': True}, 'not a Dict.*TransformObservation'),
  ],
)
def test_images_of_a_dict_are_not_laid_out(argument, words):
  with pytest.raises(ValueError, match=words):
    _load(wrappers=(_Camera,), **argument)


@pytest.mark.parametrize(
  'wrapper',
  ['NormalizeObservation', 'NormalizeReward', lambda env: _nested(env)],
)
def test_statistics_of_each_environment_are_refused(wrapper):
  words = '^Normalize.* make_agent.normalizer = @ObservationNormalizer'
  with pytest.raises(ValueError, match=words) as error:
    environments.load('CartPole-v1', wrappers=(wrapper,))
  assert '\n' not in str(error.value)


def _nested(env):
  return Doubled(gymnasium.wrappers.NormalizeObservation(env))


def _fixed(env):
  env = gymnasium.wrappers.NormalizeObservation(env)
  env.update_running_mean = False
  return env


def test_statistics_that_stay_are_the_same_everywhere():
  assert environments.load('CartPole-v1', wrappers=(_fixed,)).reset()


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
  assert names[-4:] == [
    'GrayscaleObservation',
    'SpaceDtype',
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
