"""Environments by name."""

import contextlib
import difflib
import functools
import importlib
import re
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import gymnasium
from absl import logging
from gymnasium.envs.registration import EnvSpec

from qwr_tf.config.ranges import PositiveInt
from qwr_tf.environments import atari
from qwr_tf.environments import bitflip
from qwr_tf.environments import env_names
from qwr_tf.environments import faults
from qwr_tf.environments import no_simulator
from qwr_tf.environments import remote
from qwr_tf.environments import wrapping

if TYPE_CHECKING:  # It imports TensorFlow.
  from qwr_tf.environments.gymnasium_wrapper import GymnasiumWrapper


def load(
  name: str,
  *,
  seed: int | None = None,
  timeout_is_terminal: bool = False,
  render_mode: str | None = None,
  wrappers: Sequence[Any] = (),
  channels_first: bool | None = None,
  frame_stack: PositiveInt = 1,
  action_bounds: tuple[float, float] | None = None,
  **gym_kwargs: Any,
) -> 'GymnasiumWrapper':
  """Loads an environment and tries a reset and a step.

  Args:
    name: `BitFlip-<N>`, `ALE/<Game>-v5`, or a gymnasium id with its version,
      which may name the module that registers it: `HalfCheetah-v4`,
      `my_module:Maze-v0`. `NoSimulator` has spaces and nothing to play.
    seed: as in `GymnasiumWrapper`.
    timeout_is_terminal: whether the discount is 0 at a time limit, too.
    render_mode: 'rgb_array' to get images from `render()`; the environment
      then has a process of its own (`remote`).
    wrappers: around the environment, the first one innermost: names in
      gymnasium.wrappers, 'my_module:MyWrapper', or pairs of a name and
      arguments, ('ResizeObservation', {'shape': (84, 84)}). Scores are of the
      rewards they return.
    channels_first: whether images are [channels, height, width] and are
      transposed, since the torsos take [height, width, channels]; None: if
      they are uint8 and the first axis is the shortest.
    frame_stack: images in an observation, of a single image's channels each,
      oldest first.
    action_bounds: (lowest, highest) action where a Box has no bounds, in the
      environment's units.
    **gym_kwargs: for `gymnasium.make`, `max_episode_steps` among them; for
      Atari those of `atari.make`, for `NoSimulator` its spaces.

  Raises:
    ValueError: in one line that names the fix, if the name is unknown, if
      something is not installed, and for arguments or spaces that do not fit.
    FaultyEnvironmentError: a ValueError, for an error of the environment, or
      NaN or Inf in its first reset or step.
  """
  from qwr_tf.environments.gymnasium_wrapper import GymnasiumWrapper

  layout = wrappers, channels_first, frame_stack, action_bounds
  if render_mode is None:
    env = _make(name, gym_kwargs, *layout)
  else:
    gym_kwargs['render_mode'] = render_mode
    spec = gymnasium.registry.get(env_names.env_id(name))
    env = remote.RemoteEnv(
      functools.partial(_make, name, gym_kwargs, *layout, spec)
    )
  wrapper = GymnasiumWrapper(
    env, seed=seed, timeout_is_terminal=timeout_is_terminal
  )
  if factory(name) is not _make_no_simulator:
    with _quiet():
      wrapper.check()
    if wrapper.max_episode_steps is None:
      _warn_once(
        f'{name} has no time limit. If its episodes may never end, set one, '
        'such as --gin_bindings=load_environment.max_episode_steps=1000 '
        '(record: --max_episode_steps=1000).'
      )
  return wrapper


def _make(
  name: str,
  gym_kwargs: dict[str, Any],
  wrappers: Sequence[Any],
  channels_first: bool | None,
  frame_stack: int,
  action_bounds: tuple[float, float] | None,
  spec: EnvSpec | None = None,
) -> gymnasium.Env:
  """The environment with its wrappers; `spec` is registered if it is not."""
  if spec:
    gymnasium.registry.setdefault(spec.id, spec)
  with _quiet(), _errors_as_value_errors(name):
    env = factory(name)(name, **gym_kwargs)
    wrapping.follow(env)
    env = wrapping.wrap(env, wrappers)
    env = wrapping.lay_out(env, channels_first, frame_stack)
    return (
      wrapping.BoundedActions(env, *action_bounds) if action_bounds else env
    )


_warn_once = functools.cache(logging.warning)


def score_settings(name: str) -> dict[str, Any]:
  """Arguments of `load` for scores: unclipped rewards, whole games."""
  if factory(name) is atari.make:
    return {
      'clip_rewards': False,
      'terminal_on_life_loss': False,
      'max_training_steps': None,
    }
  return {}


def factory(name: str) -> Callable[..., gymnasium.Env]:
  """The function that makes a family's environments from `gym_kwargs`."""
  for pattern, recipe in _RECIPES.items():
    if re.match(pattern, name):
      return recipe
  return _make_registered


def _make_registered(name: str, **kwargs: Any) -> gymnasium.Env:
  """Makes an environment of exactly this id.

  `gymnasium.make(name)` would warn that v4 is old and take the newest version
  for an id without one; scores belong to a version. The passive checker costs
  time at every step.
  """
  module, _, env_id = name.rpartition(':')
  if module:
    importlib.import_module(module)
  atari.refuse_other_ids(env_id)
  return gymnasium.make(
    gymnasium.spec(env_id), disable_env_checker=True, **kwargs
  )


def _make_bitflip(name: str, **kwargs: Any) -> gymnasium.Env:
  spec = bitflip.spec(int(name.removeprefix('BitFlip-')))
  return gymnasium.make(spec, disable_env_checker=True, **kwargs)


def _make_no_simulator(_: str, **kwargs: Any) -> gymnasium.Env:
  return gymnasium.make(no_simulator.SPEC, disable_env_checker=True, **kwargs)


# A family that needs more than `gymnasium.make` adds its ids' pattern here.
_RECIPES: dict[str, Callable[..., gymnasium.Env]] = {
  r'(ale_py:)?ALE/': atari.make,
  r'BitFlip-[0-9]+$': _make_bitflip,
  f'{no_simulator.NO_SIMULATOR}$': _make_no_simulator,
}


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
  """Hides deprecation warnings of Box2D's and pygame's imports."""
  with warnings.catch_warnings():
    warnings.simplefilter('ignore', DeprecationWarning)
    warnings.filterwarnings('ignore', 'pkg_resources is deprecated')
    yield


@contextlib.contextmanager
def _errors_as_value_errors(name: str) -> Iterator[None]:
  """Turns errors of making an environment into a ValueError of one line."""
  try:
    yield
  except (ImportError, gymnasium.error.DependencyNotInstalled) as error:
    message = faults.describe_error(error)
    if 'box2d' in message.lower():  # gymnasium[box2d] clashes with tf-agents.
      message = 'Box2D is not installed; run `pip install "qwr_tf[box2d]"`'
    raise ValueError(f'{name}: {message}') from error
  except gymnasium.error.Error as error:
    if env_names.env_id(name) in gymnasium.registry:
      raise _fault(name, error) from error
    raise ValueError(
      f'unknown environment {name!r}; {_suggestion(name)}'
    ) from error
  except Exception as error:
    if isinstance(error, AssertionError) and 'gymnasium_robotics' in name:
      raise ValueError(
        f'{name}: MuJoCo is newer than gymnasium-robotics knows; run `pip '
        'install "qwr_tf[robotics]"`'
      ) from error
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    if (
      isinstance(error, ValueError) and 'qwr_tf' in frame.f_globals['__name__']
    ):
      raise  # One of this package's own, which names the fix.
    raise _fault(name, error) from error


def _fault(name: str, error: Exception) -> faults.FaultyEnvironmentError:
  return faults.FaultyEnvironmentError(
    f'{name}: {faults.describe_error(error)}'
  )


def _suggestion(name: str) -> str:
  """What to write instead of an unknown name."""
  if name.startswith('local/'):  # As `qwr_tf.QWR` names functions.
    return 'a function made this one; QWR.load(folder, env=function) takes it'
  module, _, env_id = name.rpartition(':')
  package = module.partition('.')[0]
  if package and package not in ('gymnasium', 'ale_py'):
    ids = [
      i for i, spec in gymnasium.registry.items() if _package(spec) == package
    ]
    near = difflib.get_close_matches(env_id, ids, n=3, cutoff=0.0)
    if not near:
      return f'{module} registers no environment (gymnasium.register)'
    return f'{module} registers {", ".join(near)}'
  if games := atari.suggest(name):
    return f'near it: {", ".join(games)}'
  ids = [i for i in gymnasium.registry if not atari.is_other_id(i)]
  near = difflib.get_close_matches(env_id, ids, n=3)
  hint = f'near it: {", ".join(near)}' if near else 'try BitFlip-20'
  return f'{hint}; ids of other packages are written package:{name}'


def _package(spec: EnvSpec) -> str:
  """The top package of the code that makes an environment."""
  maker = spec.entry_point
  module = getattr(maker, '__module__', None) or str(maker)
  return module.partition(':')[0].partition('.')[0]
