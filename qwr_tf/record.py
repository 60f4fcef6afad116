"""Records a data set in Minari's layout.

    python -m qwr_tf.record --policy=runs/.../policy --episodes=50
    python -m qwr_tf.record --policy=random --env=HalfCheetah-v4 --steps=50000

Writes datasets/<environment>/<policy>-v<number> unless --dataset says
otherwise: observations, actions, rewards and ends as the environment has them
(rewards of Atari are not clipped; training clips them), and the parameters of
the policy's distribution as infos/dist_params. Exit codes: 0 done, 2 bad input,
1 anything else.
"""

from qwr_tf.config import startup  # noqa: F401, before TensorFlow.

# isort: split
import contextlib
import itertools
import pathlib
import re
import shlex
import statistics
import sys
from collections.abc import Generator, Iterable, Iterator
from typing import Any

from absl import flags

from qwr_tf.config import command

flags.declare_key_flag('trust_module')
_POLICY = flags.DEFINE_string(
  'policy',
  None,
  "Policy to record: an exported version, a folder of versions, or 'random'.",
)
flags.DEFINE_alias('saved_model', 'policy')  # Its name in version 0.1.
flags.declare_key_flag('env')
_EPISODES = flags.DEFINE_integer(
  'episodes', None, 'Episodes to record; default 50.', lower_bound=1
)
_STEPS = flags.DEFINE_integer(
  'steps', None, 'Instead: whole episodes to at least so many.', lower_bound=1
)
_MAX_EPISODE_STEPS = flags.DEFINE_integer(
  'max_episode_steps',
  None,
  'Time limit of an episode; default the one of the run or the environment.',
  lower_bound=1,
)
_MODE_ACTION = flags.DEFINE_bool(
  'mode_action', False, 'Act with the mode, not with samples.'
)
_DATASET = flags.DEFINE_string(
  'dataset', None, 'Folder of the data set; must not exist.'
)
_FIRST_SEED = flags.DEFINE_integer(
  'first_seed',
  0,
  'Episode i is reset with first_seed + i; of the actions too.',
  lower_bound=0,
  upper_bound=2**30,
)

command.answer_help(__name__)

# isort: split
import gin

from qwr_tf import datasets
from qwr_tf import environments
from qwr_tf.acting import recording
from qwr_tf.config.errors import ConfigError
from qwr_tf.runs import progress_bar
from qwr_tf.runs import provenance
from qwr_tf.serving import saved_policy
from qwr_tf.serving import trust
from qwr_tf.training import experiment


class _Tally:
  """The steps and returns of the recorded episodes."""

  def __init__(self):
    self.steps = 0
    self.returns: list[float] = []

  def count(
    self, episodes: Iterable[datasets.Episode]
  ) -> Generator[datasets.Episode, None, None]:
    """Passes episodes on until there are as many as the flags say."""
    by_steps = _STEPS.value is not None
    wanted = _STEPS.value if by_steps else _EPISODES.value or 50
    unit = ' steps' if by_steps else ' episodes'
    with progress_bar.ProgressBar(total=wanted, unit=unit) as progress:
      for episode in episodes:
        yield episode
        self.steps += len(episode.rewards)
        self.returns.append(float(episode.rewards.sum()))
        progress.update(len(episode.rewards) if by_steps else 1)
        if progress.n >= wanted:
          return


def _policy(env, saved: saved_policy.SavedPolicy | None) -> recording.Policy:
  if saved is None:
    return recording.random_policy(env.action_space, _FIRST_SEED.value)
  saved.check_spaces(env)
  return (
    saved.mode() if _MODE_ACTION.value else saved.sampler(_FIRST_SEED.value)
  )


def _output(environment: str, name: str) -> pathlib.Path:
  """Where the data set goes: --dataset, or an empty folder that was made.

  Raises:
    ConfigError: if --dataset exists, or no folder can be made.
  """
  if _DATASET.value:
    path = pathlib.Path(_DATASET.value)
    if path.exists():
      raise ConfigError(f'{path} exists; choose another --dataset.')
    return path
  folder = pathlib.Path('datasets', environment)
  for number in itertools.count():
    path = folder / f'{name}-v{number}'
    try:
      path.mkdir(parents=True)  # No other recording takes this number.
      break
    except FileExistsError:
      continue
    except OSError as error:
      raise _unwritable(path, error) from error
  return path


def _unwritable(path: pathlib.Path, error: OSError) -> ConfigError:
  return ConfigError(
    f'{path} cannot be written ({error.strerror}); choose another --dataset.'
  )


@contextlib.contextmanager
def _gone_if_empty(path: pathlib.Path) -> Iterator[None]:
  """Removes the folder in the end if it is empty."""
  try:
    yield
  finally:
    with contextlib.suppress(OSError):  # It is not empty.
      path.rmdir()


def _metadata(
  env, path: pathlib.Path, environment: str, policy: str
) -> dict[str, Any]:
  """Minari's metadata.json, without the counts."""
  name = re.sub(r'[^\w-]', '_', path.name)
  return {
    'dataset_id': f'{environment}/{name}',
    'algorithm_name': policy,
    'description': shlex.join(['python', '-m', 'qwr_tf.record', *sys.argv[1:]]),
    **environments.minari_metadata(env),
    'commit': provenance.commit(),
    'versions': provenance.versions(),
  }


def _arguments() -> tuple[saved_policy.SavedPolicy | None, str]:
  """The policy, None for the random one, and the environment's name."""
  if not _POLICY.value:
    raise ConfigError('--policy is missing: an exported policy, or random.')
  if _EPISODES.value and _STEPS.value:
    raise ConfigError('give either --episodes or --steps.')
  saved = None
  if _POLICY.value != 'random':
    saved = saved_policy.SavedPolicy(pathlib.Path(_POLICY.value))
  environment = command.ENV.value or (
    saved and saved.metadata.get('environment')
  )
  if not environment or environment == environments.NO_SIMULATOR:
    raise ConfigError('--env is missing, for instance --env=HalfCheetah-v4.')
  return saved, environment


def _environment(saved: saved_policy.SavedPolicy | None, name: str):
  """The environment of the run's scores, or one of another name.

  Raises:
    ConfigError: if it cannot be made.
  """
  gin.clear_config()
  if saved is not None and not command.ENV.value:
    # What the run bound, a time limit for instance, holds here as well.
    trust.check_environment(name, saved.path, command.TRUST_MODULE.value)
    config = saved.metadata.get('config', '')
    trust.parse(config, saved.path, command.TRUST_MODULE.value)
  try:
    settings = environments.score_settings(name)
    if _MAX_EPISODE_STEPS.value:
      settings['max_episode_steps'] = _MAX_EPISODE_STEPS.value
    return experiment.load_environment(name, **settings)
  except ValueError as error:
    raise ConfigError(f'--env: {error}') from error


def main() -> None:
  """Records the data set that the flags describe."""
  saved, environment = _arguments()
  with _environment(saved, environment) as wrapped:
    env = wrapped.env
    policy = _policy(env, saved)
    kind = saved.metadata.get('algorithm', 'policy') if saved else 'random'
    plain = environments.env_id(environment)
    path = _output(plain, kind.lower())
    tally = _Tally()
    played = tally.count(
      recording.play(env, policy, _FIRST_SEED.value, wrapped.longest_episode)
    )
    try:
      # Closes the bar before what went wrong is told.
      with contextlib.closing(played), _gone_if_empty(path):
        metadata = _metadata(env, path, plain, kind)
        datasets.write(path, played, metadata)
    except OSError as error:
      raise _unwritable(path, error) from error
  print(f'data set     {path}')
  print(f'episodes     {len(tally.returns)}, {tally.steps} steps')
  print(f'mean return  {statistics.fmean(tally.returns):.1f}')


if __name__ == '__main__':
  command.run(main)
