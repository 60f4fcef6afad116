"""Videos of a policy: an episode as mp4."""

import math
import os
import pathlib
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
from tf_agents.trajectories import time_step as ts

from qwr_tf.acting import numpy_actor
from qwr_tf.config import gin_files
from qwr_tf.config.errors import ConfigError
from qwr_tf.runs import atomic_files
from qwr_tf.training import experiment

# More frames than this are left out: hopping is seen at 30 as well as at 125.
_MAX_FPS = 50

_GL_HINT = (
  'without a display MuJoCo draws with MUJOCO_GL=egl (Debian: apt-get install '
  'libegl1 libgl1-mesa-dri)'
)


def screen(settings: experiment.Settings, seed: int):
  """Makes an environment for videos, and checks that it renders.

  Args:
    seed: of the episode.

  Returns:
    A PyEnvironment made with render_mode='rgb_array'.

  Raises:
    ConfigError: if it cannot be drawn, or a library is missing.
  """
  os.environ.setdefault('SDL_AUDIODRIVER', 'dummy')  # pygame: no sound card.
  if sys.platform == 'linux' and not os.environ.get('DISPLAY'):
    os.environ.setdefault('MUJOCO_GL', 'egl')  # Needs no display.
  try:
    import imageio_ffmpeg

    imageio_ffmpeg.get_ffmpeg_exe()
  except (ImportError, RuntimeError) as error:
    raise ConfigError(
      f'--video: {error}; run `pip install "qwr_tf[video]"`.'
    ) from error
  try:
    env = experiment.score_environment(settings, seed, render_mode='rgb_array')
    env.reset()
    _frame(env)
  except Exception as error:  # Each renderer has exceptions of its own.
    raise ConfigError(
      f'--video: {settings.environment} cannot be drawn '
      f'({type(error).__name__}: {gin_files.describe(error)}); {_GL_HINT}, or '
      'leave out --video.'
    ) from error
  return env


def record(
  env, agent, path: pathlib.Path, *, max_steps: int = 2000
) -> pathlib.Path:
  """Plays an episode with the mode action and writes what it looks like.

  Args:
    agent: its actor plays.
    path: of the mp4 file, written atomically.
    max_steps: steps of the episode that are shown.

  Returns:
    The path.
  """
  import imageio

  fps = env.env.metadata.get('render_fps') or 30
  stride = math.ceil(fps / _MAX_FPS)
  with atomic_files.new_file(path) as temporary:
    # Sides of odd length are cut by a pixel; not scaled to multiples of 16.
    writer: Any = imageio.get_writer(
      temporary, format='FFMPEG', fps=fps / stride, macro_block_size=2
    )
    with writer:
      for i, frame in enumerate(_frames(env, agent, max_steps)):
        if i % stride == 0:
          writer.append_data(frame)
  return path


def _frame(env) -> np.ndarray:
  """What is drawn now, [height, width] or [height, width, channels].

  Raises:
    ValueError: if it is no image.
  """
  frame = np.asarray(env.render())
  is_image = frame.ndim == 2 or frame.ndim == 3 and frame.shape[2] in (1, 3, 4)
  if not (is_image and frame.size and frame.dtype.kind in 'uif'):
    raise ValueError(
      f'render() returns {frame.dtype} of shape {frame.shape}, not an image '
      '[height, width, 3]'
    )
  return frame


def _frames(env, agent, max_steps: int) -> Iterator[np.ndarray]:
  """The screen before the episode and after each step."""
  act = numpy_actor.NumpyActor(agent.acting_network)
  time_step = env.reset()
  yield _frame(env)
  for _ in range(max_steps):
    action, _ = act(time_step.observation, None)
    time_step = env.step(action)
    yield _frame(env)
    if time_step.step_type == ts.StepType.LAST:
      return
