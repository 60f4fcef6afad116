"""Plays an exported policy: needs TensorFlow and gymnasium, nothing else.

    python export/run_policy.py --policy=runs/.../policy [--episodes=10]
        [--sample] [--seed=0] [--env=ID] [--video=out.mp4]
        [--trust_module=my_envs]

`qwr_tf play` takes the same flags.

The environment and its preprocessing are made again from the export's
metadata.json (`ale_py` or `mujoco` have to be installed where the environment
needs them). That file may name classes of gymnasium, ale_py and qwr_tf, and
code of modules given with --trust_module. Prints the undiscounted return of
every episode. Exit codes: 0 done, 2 bad input, 1 anything else.
"""

import argparse
import contextlib
import functools
import importlib
import itertools
import json
import keyword
import multiprocessing
import os
import pathlib
import re
import signal
import statistics
import sys
import textwrap
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent import futures
from typing import Any

import gymnasium
import numpy as np
from gymnasium.envs import registration

_METADATA = pathlib.Path('assets.extra', 'metadata.json')

# metadata.json is data: the modules whose classes it may name.
_MODULES = ('gymnasium', 'ale_py', 'qwr_tf')

_FIELDS = (
  'environment', 'gymnasium_spec', 'wrappers', 'observation_space',
  'action_space', 'render_fps',
)  # fmt: skip

# Names of other inputs of signatures, and of Python's methods.
_TAKEN = ('action', 'seed', 'self')


class InputError(ValueError):
  """Something the caller can put right; says in one line what to change."""


@functools.cache
def _tensorflow():
  """Imports TensorFlow, which writes lines before it reads its log level."""
  if 'tensorflow' in sys.modules:
    return sys.modules['tensorflow']
  os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
  stderr = os.dup(2)
  try:
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    import tensorflow as tf
  finally:
    os.dup2(stderr, 2)
  return tf


class Policy:
  """An export: its signatures and its metadata."""

  def __init__(self, path: pathlib.Path):
    """Loads a version, or the newest one in a folder of them."""
    tf = _tensorflow()  # Not before --help.

    self.path = _version(path)
    try:
      self.metadata = json.loads((self.path / _METADATA).read_text('utf-8'))
      if missing := [name for name in _FIELDS if name not in self.metadata]:
        raise ValueError(f'metadata.json lacks {", ".join(missing)}')
      self.signatures = tf.saved_model.load(str(self.path)).signatures
    except (
      *(OSError, ValueError, TypeError, LookupError, RecursionError),
      tf.errors.OpError,
    ) as error:
      raise InputError(f'{self.path} cannot be read: {error}') from error

  def mode(self, observation: Any) -> np.ndarray:
    """The mode action for one observation."""
    serve = self.signatures['serving_default']
    return serve(**self._batch(observation))['action'].numpy()[0]

  def sampler(self, seed: int) -> Callable[[np.ndarray], np.ndarray]:
    """Returns a function that samples; the n-th call depends on seed and n."""
    sample, calls = self.signatures['sample'], iter(range(2**62))

    def act(observation: Any) -> np.ndarray:
      pair = _tensorflow().constant([seed, next(calls)], np.int64)
      batch = self._batch(observation)
      return sample(**batch, seed=pair)['action'].numpy()[0]

    return act

  def _batch(self, observation: Any) -> dict[str, Any]:
    entries = _entries(self.metadata['observation_space'], observation, '')
    return batch_of_one(self.signatures, dict(entries))


def batch_of_one(
  signatures: Any, entries: dict[str, np.ndarray]
) -> dict[str, Any]:
  """The inputs of an export's signatures for one observation.

  Args:
    signatures: of the export.
    entries: the observation's arrays by input.

  Raises:
    FloatingPointError: if the observation holds NaN or Inf.
  """
  if not all(np.isfinite(x).all() for x in entries.values()):
    raise FloatingPointError('the environment gave NaN or Inf to act on')
  (_, inputs) = signatures['serving_default'].structured_input_signature
  return {
    name: _tensorflow().constant(x[np.newaxis], inputs[name].dtype)
    for name, x in entries.items()
  }


_policy = functools.cache(Policy)


@functools.cache
def _sampler(path: pathlib.Path, seed: int, number: int) -> 'Act':
  return _policy(path).sampler(seed)


def _metadata_of(path: pathlib.Path) -> dict[str, Any]:
  return _policy(path).metadata


def _mode(path: pathlib.Path, observation: Any) -> np.ndarray:
  return _policy(path).mode(observation)


def _sample(
  path: pathlib.Path, seed: int, number: int, observation: Any
) -> np.ndarray:
  return _sampler(path, seed, number)(observation)


class RemotePolicy:
  """A `Policy` in a process of its own.

  MuJoCo draws without a GPU by means of an LLVM that crashes beside
  TensorFlow's, so that a process can do one or the other.
  """

  def __init__(self, path: pathlib.Path):
    """As `Policy`."""
    self._pool = futures.ProcessPoolExecutor(
      1,
      multiprocessing.get_context('spawn'),
      signal.signal,
      (signal.SIGINT, signal.SIG_IGN),
    )
    self._path, self._numbers = path, itertools.count()
    self.metadata = self._call(_metadata_of)

  def mode(self, observation: Any) -> np.ndarray:
    """As of `Policy`."""
    return self._call(_mode, observation)

  def sampler(self, seed: int) -> Callable[[Any], np.ndarray]:
    """As of `Policy`."""
    return functools.partial(self._call, _sample, seed, next(self._numbers))

  def _call(self, function: Callable[..., Any], *args: Any) -> Any:
    return self._pool.submit(function, self._path, *args).result()


def _entries(
  space: dict[str, Any], observation: Any, path: str
) -> Iterator[tuple[str, np.ndarray]]:
  """Arrays of an observation by input: keys of the space's Dicts and Tuples.

  Not of the observation's: some environments return a tuple for a Box, or a
  list for a Tuple.
  """
  if space['type'] == 'Dict':
    for key, inner in space['subspaces'].items():
      yield from _entries(inner, observation[key], f'{path}/{key}')
  elif space['type'] == 'Tuple':
    for i, inner in enumerate(space['subspaces']):
      yield from _entries(inner, observation[i], f'{path}/_index_{i}')
  else:
    yield _input_name(path), np.asarray(observation)


def _input_name(entry: str) -> str:
  """As `environments.input_name`, without the package."""
  name = re.sub(r'\W+', '_', entry, flags=re.ASCII).strip('_')
  is_taken = keyword.iskeyword(name) or name.lower() in _TAKEN
  is_name = name.isidentifier() and not is_taken
  return name if is_name else f'observation_{name}'.rstrip('_')


def _version(path: pathlib.Path) -> pathlib.Path:
  if (path / _METADATA).is_file():
    return path
  versions = [
    p for p in path.glob('*') if p.name.isdigit() and (p / _METADATA).is_file()
  ]
  if not versions:
    raise InputError(
      f'{path} holds no exported policy; give <run>/policy, or make one with '
      '`qwr_tf export`.'
    )
  return max(versions, key=lambda version: int(version.name))


def make_environment(
  metadata: dict[str, Any],
  name: str | None,
  render_mode: str | None,
  trusted: Sequence[str] = (),
) -> gymnasium.Env:
  """Makes the export's environment, or another one with the same wrappers.

  Args:
    name: a gymnasium id, `module:id` if a module has to register it; None is
      the environment the policy was trained in.
    trusted: modules whose code the metadata may name.

  Raises:
    InputError: if it cannot be made, drawn, or has not the export's spaces.
  """
  reason = f'cannot be made again ({metadata.get("not_described")})'
  if metadata['wrappers'] is None and metadata['environment'] != 'NoSimulator':
    raise InputError(
      f'wrappers around {metadata["environment"]} {reason}; derive them from '
      'gymnasium.utils.RecordConstructorArgs, with arguments that are JSON, '
      'and export the policy again.'
    )
  if not name and not metadata['gymnasium_spec']:
    raise InputError(
      f'{metadata["environment"]} {reason}; name one with --env.'
    )
  try:
    env = _make(metadata, name, render_mode, trusted)
    if render_mode:  # Whether it can be drawn is not known before.
      env.reset()
      env.render()
    check_spaces(env, metadata)
    return env
  except InputError:
    raise
  except Exception as error:  # Each environment and renderer has its own.
    fix = ' (MUJOCO_GL=egl draws without a display)' if render_mode else ''
    message = f'{name or metadata["environment"]}: {type(error).__name__}: '
    raise InputError(f'{message}{error}{fix}') from error


def _make(
  metadata: dict[str, Any],
  name: str | None,
  render_mode: str | None,
  trusted: Sequence[str] = (),
) -> gymnasium.Env:
  stored = metadata['gymnasium_spec']
  if name:
    module, _, env_id = name.rpartition(':')
    if module := module or ('ale_py' if env_id.startswith('ALE/') else ''):
      importlib.import_module(module)
    spec = gymnasium.spec(env_id)
  else:
    _load(stored['entry_point'], gymnasium.Env, trusted)
    spec = registration.EnvSpec(
      stored['id'], stored['entry_point'], kwargs=stored['kwargs']
    )
  kwargs: dict = {'render_mode': render_mode} if render_mode else {}
  if str(spec.entry_point).startswith('ale_py'):  # It prints a banner.
    ale_py = importlib.import_module('ale_py')
    ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)
    if stored and stored['entry_point'] == spec.entry_point:
      # The preprocessing needs single frames, for instance.
      kwargs |= {k: v for k, v in stored['kwargs'].items() if k != 'game'}
  env = gymnasium.make(spec, disable_env_checker=True, **kwargs)
  _follow(env)
  for wrapper in metadata['wrappers'] or ():
    # Another environment has a time limit of its own.
    if not (name and wrapper['name'] == 'TimeLimit'):
      env = _wrap(env, wrapper, trusted)
  return env


def _follow(env: gymnasium.Env) -> None:
  """As `environments.wrapping.follow`, without the package."""
  renderer = getattr(env.unwrapped, 'mujoco_renderer', None)
  if renderer and renderer.camera_id == -1:
    cameras = range(renderer.model.ncam)
    names = {renderer.model.camera(i).name: i for i in cameras}
    if 'trackbodyid' not in (renderer.default_cam_config or {}):
      renderer.camera_id = names.get('track', -1)


def _wrap(
  env: gymnasium.Env, wrapper: dict[str, Any], trusted: Sequence[str]
) -> gymnasium.Env:
  if wrapper['name'] == 'ChannelsLast':
    return _channels_last(env)
  if wrapper['name'] == 'SpaceDtype':
    return _space_dtype(env)
  if wrapper['name'] == 'BoundedActions':
    return _bounded_actions(env, **wrapper['kwargs'])
  kind = _load(wrapper['entry_point'], gymnasium.Wrapper, trusted)
  if kind is gymnasium.wrappers.RecordVideo:
    raise InputError('metadata.json asks for RecordVideo, which writes files.')
  # JSON has no tuples, on which gymnasium insists.
  arguments = {
    name: tuple(value) if isinstance(value, list) else value
    for name, value in wrapper['kwargs'].items()
  }
  return kind(env, **arguments)


def _load(entry_point: str, base: type, trusted: Sequence[str]) -> Any:
  """The class of an entry point; any callable of a trusted module.

  Raises:
    InputError: before anything is imported, for a module that is not listed;
      for what is no class of such a module, derived from `base`.
  """
  module, _, name = entry_point.partition(':')
  if not _within(module, (*_MODULES, *trusted)):
    raise InputError(
      f'metadata.json names code of the module {module!r}, and may name '
      f'{", ".join(_MODULES)} only; if you know that module, give '
      f'--trust_module={module}'
    )
  kind = getattr(importlib.import_module(module), name)
  if _within(module, trusted) or (
    isinstance(kind, type)
    and issubclass(kind, base)
    and _within(kind.__module__, _MODULES)
  ):
    return kind
  raise InputError(
    f'metadata.json names {entry_point}, which is no {base.__name__} of '
    f'{", ".join(_MODULES)}'
  )


def _within(module: str, packages: Sequence[str]) -> bool:
  return any(f'{module}.'.startswith(f'{name}.') for name in packages)


def _channels_last(env: gymnasium.Env) -> gymnasium.Env:
  """Images [n, height, width(, c)] to [height, width, n (times c)]."""

  def moved(images) -> np.ndarray:
    images = np.moveaxis(np.asarray(images), 0, 2)
    return images.reshape(*images.shape[:2], -1)

  box: Any = env.observation_space
  space = gymnasium.spaces.Box(moved(box.low), moved(box.high), dtype=box.dtype)
  return gymnasium.wrappers.TransformObservation(env, moved, space)


def _space_dtype(env: gymnasium.Env) -> gymnasium.Env:
  """Copies of the space's dtype, whatever the environment returns."""
  space: Any = env.observation_space
  return gymnasium.wrappers.TransformObservation(
    env, lambda observation: np.array(observation, space.dtype), space
  )


def _bounded_actions(
  env: gymnasium.Env, low: float, high: float
) -> gymnasium.Env:
  """Bounds for numbers of an action that have none."""
  space: Any = env.action_space
  lowest, highest = (
    np.where(np.isfinite(given), given, bound).astype(space.dtype)
    for given, bound in ((space.low, low), (space.high, high))
  )
  space = gymnasium.spaces.Box(lowest, highest, dtype=space.dtype)
  return gymnasium.wrappers.TransformAction(env, lambda action: action, space)


def check_spaces(env: gymnasium.Env, metadata: dict[str, Any]) -> None:
  """Raises InputError if the policy was made for other spaces."""
  for name in ('observation_space', 'action_space'):
    wanted, space = metadata[name], getattr(env, name)
    if not _same(wanted, space):
      raise InputError(
        f'{env.spec.id if env.spec else env} has the {name} '
        f'{textwrap.shorten(str(space), 100)}, but the policy is for '
        f'{textwrap.shorten(str(wanted), 150)}; use '
        f'{metadata["environment"]} or one with the same spaces.'
      )


def _same(wanted: dict[str, Any], space: Any) -> bool:
  if wanted['type'] != type(space).__name__:
    return False
  if wanted['type'] == 'Dict':
    inner = wanted['subspaces']
    return set(inner) == set(space.spaces) and all(
      _same(value, space[key]) for key, value in inner.items()
    )
  if wanted['type'] == 'Tuple':
    inner = wanted['subspaces']
    return len(inner) == len(space) and all(map(_same, inner, space))
  if wanted['type'] == 'Discrete':
    return (wanted['n'], wanted['start']) == (space.n, space.start)
  if wanted['type'] == 'MultiDiscrete':
    names = ('nvec', 'start')
    return all(np.array_equal(wanted[n], getattr(space, n)) for n in names)
  bounds = ('low', 'high') if 'low' in wanted else ()
  return (
    tuple(wanted['shape']) == space.shape
    and (wanted['dtype'] == 'uint8') == (space.dtype == np.uint8)
    and all(np.allclose(wanted[b], getattr(space, b)) for b in bounds)
  )


# Playing: an observation to an action in the environment's units.
Act = Callable[[Any], np.ndarray]


def returns(
  env: gymnasium.Env,
  act: Act,
  episodes: int,
  seed: int,
  show: Callable[[Any], None] | None = None,
  max_steps: int = 100_000,
) -> Iterator[float]:
  """Plays episodes and yields their undiscounted returns.

  Args:
    env: to play in.
    act: one observation to one action.
    seed: of the first reset; later ones continue its random numbers.
    show: is given what each state looks like.

  Raises:
    InputError: if the environment fails, or an episode does not end.
  """
  is_discrete = isinstance(env.action_space, gymnasium.spaces.Discrete)
  for episode in range(episodes):
    with _faults_of(env):
      observation, _ = env.reset(seed=None if episode else seed)
    total, over, steps = 0.0, False, 0
    while not over:
      if steps == max_steps:
        raise InputError(
          f'an episode has not ended in {max_steps} steps; set a time limit '
          'with --max_episode_steps'
        )
      steps += 1
      if show:
        show(env.render())
      action = np.asarray(act(observation), env.action_space.dtype)
      with _faults_of(env):
        observation, reward, terminated, truncated, _ = env.step(
          action.item() if is_discrete else action
        )
        total += float(np.asarray(reward).reshape([]))
        over = bool(terminated or truncated)
    yield total


@contextlib.contextmanager
def _faults_of(env: gymnasium.Env) -> Iterator[None]:
  """Turns errors of an environment into an InputError."""
  try:
    yield
  except Exception as error:  # Each environment has its own.
    name = env.spec.id if env.spec else str(env)
    raise InputError(f'{name}: {type(error).__name__}: {error}') from error


@contextlib.contextmanager
def video(path: pathlib.Path, fps: int) -> Iterator[Callable[[Any], None]]:
  """Gives a function that adds images; the file is complete or not there."""
  temporary = path.with_name(f'.{path.stem}.{os.getpid()}.tmp{path.suffix}')
  for old in path.parent.glob(f'.{path.stem}.*.tmp{path.suffix}'):
    old.unlink(missing_ok=True)  # Of a process that was killed.
  rate: dict = {'duration': 1000 / fps}
  if path.suffix != '.gif':  # Sides of odd length are cut, not scaled.
    rate = {'fps': fps, 'macro_block_size': 2}
  try:
    import imageio

    path.parent.mkdir(parents=True, exist_ok=True)
    writer: Any = imageio.get_writer(temporary, mode='I', **rate)
    with writer:
      yield writer.append_data
    os.replace(temporary, path)
  except (ImportError, OSError, ValueError) as error:
    raise InputError(
      f'{path} cannot be written: {error} (`pip install imageio '
      'imageio-ffmpeg` brings what it takes).'
    ) from error
  finally:
    temporary.unlink(missing_ok=True)


class _Parser(argparse.ArgumentParser):
  """Says what is wrong in one line."""

  def error(self, message: str):
    raise InputError(f'{message} (--help lists the flags).')


def _arguments() -> argparse.Namespace:
  parser = _Parser(
    usage=argparse.SUPPRESS,  # The docstring has it.
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
    allow_abbrev=False,
  )
  parser.add_argument(
    '--policy', required=True, type=pathlib.Path, help='folder of the export'
  )
  parser.add_argument(
    '--env', '--environment', help='ID or module:ID, if another one'
  )
  parser.add_argument('--episodes', type=int, default=10, help='default 10')
  parser.add_argument('--seed', type=int, default=0, help='default 0')
  parser.add_argument(
    '--max_episode_steps', type=int, default=100_000, help='an error beyond'
  )
  parser.add_argument('--sample', action='store_true', help='not the mode')
  parser.add_argument(
    '--trust_module',
    action='append',
    default=[],
    help='module whose code metadata.json may name; importing it runs it',
  )
  parser.add_argument(
    '--video', type=pathlib.Path, help='one more episode, .mp4 or .gif'
  )
  parser.add_argument(
    '--traceback', action='store_true', help='of an error, too'
  )
  arguments = parser.parse_args()
  if (
    min(arguments.episodes, arguments.max_episode_steps) < 1
    or not 0 <= arguments.seed < 2**63
  ):
    parser.error(
      '--episodes and --max_episode_steps must be 1 or more, '
      '--seed from 0 to 2**63 - 1'
    )
  return arguments


def main() -> None:
  """Plays and prints."""
  flags = _arguments()
  if sys.platform == 'linux' and not os.environ.get('DISPLAY'):
    os.environ.setdefault('MUJOCO_GL', 'egl')  # Draws without a display.
  policy = (RemotePolicy if flags.video else Policy)(flags.policy)

  def act() -> Act:
    return policy.sampler(flags.seed) if flags.sample else policy.mode

  def environment(render_mode: str | None) -> gymnasium.Env:
    return make_environment(
      policy.metadata, flags.env, render_mode, flags.trust_module
    )

  env, limit = environment(None), flags.max_episode_steps
  if flags.video:  # First, as this is what may not work.
    with (
      contextlib.closing(environment('rgb_array')) as shown,
      video(flags.video, policy.metadata['render_fps']) as show,
    ):
      next(returns(shown, act(), 1, flags.seed, show, limit))
    print(f'video   {flags.video}')
  totals = []
  for total in returns(env, act(), flags.episodes, flags.seed, max_steps=limit):
    totals.append(total)
    print(f'episode {len(totals):3}  {total:.1f}', flush=True)
  spread = statistics.pstdev(totals)
  print(f'mean    {statistics.fmean(totals):.1f} +- {spread:.1f}')


def run() -> int:
  """Calls main; turns the expected errors into one line and an exit code."""
  try:
    main()
    print(end='', flush=True)
    return 0
  except BrokenPipeError:  # Whoever read has seen enough, `head` for instance.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0
  except InputError as error:
    return _failed(2, str(error))
  except KeyboardInterrupt:
    return _failed(1, 'interrupted')
  except FloatingPointError as error:
    return _failed(1, str(error))


def _failed(code: int, message: str) -> int:
  """Prints the error on one line; returns the code."""
  if '--traceback' in sys.argv:  # The flags may be what is wrong.
    traceback.print_exc()
  print(f'error: {" ".join(message.split())}', file=sys.stderr)
  return code


if __name__ == '__main__':
  sys.exit(run())
