"""From a gin configuration to environments, agent, table and loop."""

import contextlib
import dataclasses
import functools
import math
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, Any, NamedTuple

import gin
import numpy as np
import tensorflow as tf
from tf_agents.specs import tensor_spec
from tf_agents.trajectories import time_step as ts

from qwr_tf import datasets
from qwr_tf import environments
from qwr_tf import networks
from qwr_tf import replay
from qwr_tf.acting import collect
from qwr_tf.acting import evaluate
from qwr_tf.acting import numpy_actor
from qwr_tf.acting import offline
from qwr_tf.acting import segments
from qwr_tf.acting import sources
from qwr_tf.agents import awac_agent  # noqa: F401, gin files name it.
from qwr_tf.agents import awr_agent  # noqa: F401, gin files name it.
from qwr_tf.agents import qwr_agent
from qwr_tf.config import effective
from qwr_tf.config import gin_files
from qwr_tf.config import gin_values
from qwr_tf.config import ranges
from qwr_tf.config.errors import ConfigError
from qwr_tf.config.ranges import Fraction
from qwr_tf.config.ranges import PositiveFloat
from qwr_tf.config.ranges import PositiveInt
from qwr_tf.config.ranges import Range
from qwr_tf.minibatches import exact_reuse  # noqa: F401, gin files name it.
from qwr_tf.minibatches import n_step  # noqa: F401, gin files name it.
from qwr_tf.minibatches import whole_table  # noqa: F401, gin files name it.
from qwr_tf.networks import observations
from qwr_tf.ops import augmentation  # noqa: F401, gin files name it.
from qwr_tf.training import off_policy as off_policy_lib

_keras = tf.keras.optimizers
# A number or a schedule, and two ways to clip.
_OPTIMIZER: dict[str, Any] = {
  'learning_rate': PositiveFloat | Callable,
  'clipnorm': PositiveFloat | None,
  'global_clipnorm': PositiveFloat | None,
}
_ADAMW: dict[str, Any] = _OPTIMIZER | {
  'epsilon': PositiveFloat,
  'weight_decay': float | None,
}
_SCHEDULE: dict[str, Any] = {
  'initial_learning_rate': PositiveFloat,
  'end_learning_rate': float,
  'decay_steps': PositiveInt,
}
for _class, _place, _hints in (
  (_keras.legacy.Adam, '.legacy', _OPTIMIZER | {'epsilon': PositiveFloat}),
  (_keras.legacy.SGD, '.legacy', _OPTIMIZER | {'momentum': Fraction}),
  (_keras.AdamW, '', _ADAMW),
  (_keras.schedules.PolynomialDecay, '.schedules', _SCHEDULE),
):
  gin_values.annotate(_class, _hints)
  gin.external_configurable(
    _class, _class.__name__, module=f'tf.keras.optimizers{_place}'
  )
gin.external_configurable(environments.atari_id, 'atari_id')
load_environment = gin.external_configurable(
  environments.load, 'load_environment'
)


@gin.configurable
def make_agent(
  time_step_spec: ts.TimeStep,
  action_spec,
  *,
  seed: int,
  agent_class: Callable = qwr_agent.QwrAgent,
  actor_network: Callable = networks.ActorNetwork,
  critic_network: Callable = networks.GatedQNetwork,
  critic_wrapper: Callable | None = None,
  normalizer: Callable | None = None,
  actor_optimizer: tf.keras.optimizers.legacy.Optimizer | None = None,
  critic_optimizer: tf.keras.optimizers.legacy.Optimizer | None = None,
):
  """Networks, optimisers and the agent around them.

  Args:
    time_step_spec: of the environment, tensors.
    action_spec: of the environment, tensors.
    seed: of the initial weights and of all sampling while training.
    agent_class: `QwrAgent` or a relative.
    actor_network: called with the observation and action specs.
    critic_network: likewise.
    critic_wrapper: wraps critic_network, for instance @TwinCritic; see
      `networks.critic_wrappers`.
    normalizer: called with the observation spec and shared by both networks;
      None feeds observations as they are. Not called for images and categories
      alone, which need none.
    actor_optimizer: default Adam, 1e-4.
    critic_optimizer: default Adam, 5e-4.

  Returns:
    The agent.
  """
  # Keras seeds initial weights from Python's random numbers, not TensorFlow's.
  tf.keras.utils.set_random_seed(seed)
  adam = tf.keras.optimizers.legacy.Adam
  observation_spec = time_step_spec.observation
  shared = None
  if normalizer and observations.Features(observation_spec).num_numbers:
    shared = normalizer(observation_spec)
  if critic_wrapper is not None:
    critic_network = functools.partial(critic_wrapper, critic_fn=critic_network)
  return agent_class(
    time_step_spec,
    action_spec,
    actor_network(observation_spec, action_spec, normalizer=shared),
    critic_network(observation_spec, action_spec, normalizer=shared),
    actor_optimizer=actor_optimizer or adam(1e-4),
    critic_optimizer=critic_optimizer or adam(5e-4),
    seed=seed,
    # TF-Agents' default is one counter for all agents of the process.
    train_step_counter=qwr_agent.counter('train_step'),
  )


def agent_for(env, seed: int):
  """The agent of the configuration for a PyEnvironment."""
  time_step_spec = tensor_spec.from_spec(env.time_step_spec())
  action_spec = tensor_spec.from_spec(env.action_spec())
  return make_agent(time_step_spec, action_spec, seed=seed)


@gin.configurable('run')
@dataclasses.dataclass(frozen=True)
class Settings:
  """What a run is, beside its algorithm; `run.<name>` in gin.

  Attributes:
    environment: a name for `environments.load`; 'NoSimulator', which a
      data set alone means, if nothing is played.
    interactions: environment steps in all.
    replay_capacity: interactions the table keeps; None: all of the data set
      and `interactions`. If iterations overshoot, the oldest go.
    dataset: logged steps that the table begins with, a file or a folder;
      '{environment}' in it is the environment's name. See `datasets`.
    offline_iterations: iterations on the data set, before the first
      interaction. Meanwhile eval_every_env_steps and log_every_env_steps count
      actor steps.
    eval_every_env_steps: interactions between evaluations while training.
    eval_episodes: episodes of each evaluation, for the mode action and again
      sampled.
    final_eval_episodes: as eval_episodes, for the last evaluation.
    eval_environments: episodes played at once; in processes of their own if
      the environments that collect are.
    log_every_env_steps: interactions between rows of metrics.csv.
    checkpoint_every_seconds: least time between checkpoints, made only at the
      end of an iteration; 0: after every one.
    keep_checkpoint: whether the last one stays when the run is finished, so
      that a larger `interactions` prolongs the run; None: if it has less than
      100 MB.
    warm_start: a run's folder or an exported policy, whose networks and
      normaliser the run begins with.
  """

  environment: str = gin.REQUIRED
  interactions: int = 100_000
  replay_capacity: PositiveInt | None = 50_000
  dataset: str | None = None
  offline_iterations: int = 0
  eval_every_env_steps: PositiveInt = 5_000
  eval_episodes: PositiveInt = 5
  final_eval_episodes: PositiveInt = 10
  eval_environments: Annotated[int, Range(1, 1_000)] = 1
  log_every_env_steps: PositiveInt = 1_000
  checkpoint_every_seconds: float = 120.0
  keep_checkpoint: bool | None = None
  warm_start: str | None = None


def _bound_settings() -> Settings:
  try:
    return Settings()
  except RuntimeError as error:
    raise ConfigError(
      f'{gin_files.describe(error)}. Give it in a gin file or with '
      '--gin_bindings, such as "run.environment=\'HalfCheetah-v4\'".'
    ) from error


def settings() -> Settings:
  """The settings gin holds.

  Raises:
    ConfigError: if one is missing.
  """
  bound = _bound_settings()
  if bound.environment == environments.NO_SIMULATOR and (
    bound.interactions or not bound.offline_iterations
  ):
    raise ConfigError(
      'NoSimulator needs run.interactions = 0 and run.offline_iterations of 1 '
      'or more, as in offline_vector.gin; or an environment to play in (--env).'
    )
  if bound.dataset is None and (
    bound.offline_iterations or bound.replay_capacity is None
  ):
    needs = 'run.replay_capacity = None'
    if bound.offline_iterations:
      needs = f'run.offline_iterations = {bound.offline_iterations}'
    raise ConfigError(
      f'{needs} needs run.dataset; give the path of a data set, such as '
      '--gin_bindings="run.dataset=\'datasets/HalfCheetah-v4/random-v0\'".'
    )
  if not bound.interactions and not bound.offline_iterations:
    raise ConfigError(
      'run.interactions is 0 and there are no run.offline_iterations: nothing '
      'to do; set one of them.'
    )
  return bound


def budgets(recorded: str, config: str) -> tuple[int, int] | None:
  """Interactions of two configurations; None if they differ in more."""
  name, default = 'run.interactions', Settings.interactions
  there, here = (gin_files.values(text) for text in (recorded, config))
  try:
    before, now = (int(v.pop(name, default)) for v in (there, here))
  except ValueError:  # A macro.
    return None
  return (before, now) if there == here else None


def prolongs(recorded: str, config: str) -> bool:
  """True if a configuration is a recorded one with a larger budget."""
  before, now = budgets(recorded, config) or (0, 0)
  return now > before


@gin.configurable
def by_environment(values: dict, default: Any) -> Any:
  """Looks up a value, such as a learning rate, by the run's environment.

  Args:
    values: by task, 'Ant' for any version of it.
    default: for environments that the table lacks.
  """
  environment = effective.value('run', 'environment')
  return values.get(environments.task(environment), default)


@gin.configurable
def steps_in_run() -> int:
  """Gradient steps that one network makes in the whole run.

  Within gin's scope `critic` those of the critic, else of the actor. For whole
  episodes an estimate: it assumes `Collector.env_steps` each.
  """
  value = effective.value
  env_steps = value('Collector', 'env_steps')
  interactions = value('run', 'interactions')
  online = 0  # Iterations.
  if interactions:
    later = interactions - (value('Collector', 'first_env_steps') or env_steps)
    online = 1 + max(math.ceil(later / env_steps), 0)
  network = 'critic' if 'critic' in gin.current_scope() else 'actor'
  of_phase = value('iterate', f'{network}_steps')
  steps_fn = value('iterate', 'steps_fn')
  steps = value('run', 'offline_iterations') * int(steps_fn(0, of_phase))
  steps += online * int(steps_fn(env_steps, of_phase))
  return max(steps * value('iterate', 'rounds'), 1)


@gin.configurable
def target_period() -> int:
  """Critic steps between changes of the target network, as its update says."""
  agent = effective.value('make_agent', 'agent_class').__name__
  update = effective.value(agent, 'target_update_fn').__name__
  try:
    return effective.value(update, 'period_train_steps')
  # No such parameter: polyak_update moves the target at every step.
  except KeyError:
    return 1


def configuration(files: Sequence[str], bindings: Sequence[str]) -> str:
  """Parses a configuration into gin and returns it as text.

  A data set without an environment has none to play in, `NoSimulator`. That
  gets the spaces that the data set describes, as bindings: the policy can then
  be exported where the data are not.

  Raises:
    ConfigError: if they are none, or contradict those of the data set.
  """
  config = gin_files.parse(files, bindings)
  if _bound('run.dataset') and _bound('run.environment') is None:
    bindings = [*bindings, f'run.environment = {environments.NO_SIMULATOR!r}']
    config = gin_files.parse(files, bindings)
  try:
    bound = Settings()
  except RuntimeError:  # No environment, which `settings` refuses.
    return config
  if bound.environment != environments.NO_SIMULATOR or bound.dataset is None:
    return config
  try:
    data = offline.open_data_set(bound.dataset, bound.environment)
    with contextlib.closing(data):
      described = data.spaces()
  except ValueError as error:
    raise ConfigError(gin_files.describe(error)) from error
  added = []
  for name, of_data in described.items():
    binding = f'load_environment.{name}'
    given = _bound(binding)
    space = re.sub('(shape|dtype)$', 'space', binding)
    if not data.describes_spaces and _bound(space) is not None:
      continue  # A space that arrays of this shape and dtype may be of.
    if given is None:
      added.append(f'{binding} = {of_data!r}')
    elif not _is_same(given, of_data):
      raise ConfigError(
        f'{binding} is {given!r}, but {bound.dataset} has {of_data!r}; leave '
        'it out, or choose another run.dataset.'
      )
  return gin_files.parse(files, [*bindings, *added])


def _bound(parameter: str) -> Any:
  """The value that gin binds a parameter to; None if it does not."""
  try:
    return gin.query_parameter(parameter)
  except ValueError:
    return None


def general_preset(bindings: Sequence[str]) -> str:
  """The preset for the bound environment, if that has none of its own.

  Returns:
    `pixels.gin` if there are images in its observations, else `vector.gin`.

  Raises:
    ConfigError: if no environment is bound, or it cannot be made.
  """
  configuration(['vector.gin'], bindings)
  with load_environment(settings().environment) as env:
    spec = tensor_spec.from_spec(env.time_step_spec().observation)
  images = observations.Features(spec).images
  return 'pixels.gin' if images else 'vector.gin'


def _is_same(given: Any, of_data: Any) -> bool:
  """True if a binding means the value of the data; a bound may be a number."""
  if isinstance(of_data, str | dict):
    return given == of_data
  one, other = np.asarray(given), np.asarray(of_data)
  return (one.shape == other.shape or not one.shape) and np.allclose(one, other)


def effective_values() -> list[effective.Value]:
  """Every value of a run with the configuration that gin holds.

  Raises:
    ConfigError: if there is no environment.
  """
  bound = _bound_settings()
  roots = ['run', 'load_environment', 'Collector', 'ReplayTable', 'iterate']
  if bound.dataset is not None or bound.offline_iterations:
    roots.insert(2, 'DataSet')
  makers = {'load_environment': environments.factory(bound.environment)}
  roots += ['make_agent', *_default_heads(bound.environment)]
  return effective.values(roots, makers)


def _default_heads(environment: str) -> list[str]:
  """What `ActorNetwork.head_fn` stands for; both where nothing can tell."""
  actor = effective.value('make_agent', 'actor_network').__name__
  if actor != 'ActorNetwork' or effective.value(
    'actors.ActorNetwork', 'head_fn'
  ):
    return []
  try:
    spec = load_environment(environment).action_spec()
  except ValueError:
    return ['CategoricalHead', 'GaussianHead']
  is_discrete = tensor_spec.is_discrete(tensor_spec.from_spec(spec))
  return ['CategoricalHead' if is_discrete else 'GaussianHead']


class RunParts(NamedTuple):
  """All that a run is made of.

  Attributes:
    agent: the agent.
    table: where its steps are.
    collector: fills the table (at first not at all, if there are offline
      iterations).
    iterations: the generator of Algorithm 2, `qwr_agent.iterate`.
    evaluator: plays episodes in an environment of its own; None without a
      simulator.
    data: the data set in the table; None if the table began empty.
    split: the data set's training and held-out episodes.
    data_digest: `DataSet.digest`, by which a resumed run knows its data.
    off_policy: evaluates on the held-out episodes; only without a simulator.
  """

  agent: qwr_agent.QwrAgent
  table: replay.ReplayTable
  collector: collect.Collector | offline.OfflineFirst
  iterations: Iterator
  evaluator: evaluate.Evaluator | None
  data: datasets.Summary | None = None
  split: datasets.Split | None = None
  data_digest: str | None = None
  off_policy: off_policy_lib.OffPolicyEvaluator | None = None


def build(
  settings: Settings,
  seed: int,
  strategy: tf.distribute.Strategy | None = None,
  jit: bool = False,
  source_fn: Callable[..., segments.Source] | None = None,
) -> RunParts:
  """Builds everything for one run from the settings and gin.

  Args:
    strategy: the agent is made in its scope, the table is not; default
      TensorFlow's own.
    jit: whether loss and gradients are compiled with XLA.
    source_fn: makes the source of experience that comes from elsewhere, given
      the acting network; None: this process acts.

  Raises:
    ConfigError: in one line, if the environment or a slot does not fit.
  """
  try:
    strategy = strategy or tf.distribute.get_strategy()
    return _build(settings, seed, strategy, jit, source_fn)
  except (tf.errors.ResourceExhaustedError, MemoryError) as error:
    raise ConfigError(
      f'{gin_files.describe(error)}: the networks or the replay buffer do not '
      'fit into memory.'
    ) from error
  except (
    ValueError,
    TypeError,
    OverflowError,
    tf.errors.InvalidArgumentError,
  ) as error:
    raise ConfigError(gin_files.describe(error)) from error


def score_environment(settings: Settings, seed: int, **kwargs):
  """The run's environment without reward clipping and the like, for scores."""
  name = settings.environment
  kwargs |= environments.score_settings(name)
  return load_environment(name, seed=seed, **kwargs)


def _experience(
  settings: Settings, env, agent, seed: int, source_fn: Callable | None
):
  """(table, collector, `datasets.Summary` or None) of a run."""
  source = None
  if settings.dataset is not None:
    source = offline.open_data_set(settings.dataset, settings.environment, seed)
  table = replay.ReplayTable(
    agent.collect_data_spec, _capacity(settings, source), seed=seed
  )
  elsewhere = source_fn(agent.acting_network) if source_fn else None
  acting = collect.Collector(
    env if elsewhere else _collecting_environment(settings, env, seed),
    agent,
    table,
    seed=seed + ranges.ACTING_SEED,
    source=elsewhere,
  )
  if source is None:
    return table, acting, None
  split = offline.split_of(source, settings.environment)
  data = offline.fill(source, table, agent, env, split)
  waits = settings.offline_iterations
  return table, offline.OfflineFirst(acting, waits, data), data


def _collecting_environment(
  settings: Settings, env, seed: int, first_number: int = 0
):
  """The environment to collect in: env, or a vector of its like.

  Args:
    env: a PyEnvironment.
    first_number: of the environments among all that collect for the run.
  """
  count = effective.value('Collector', 'num_environments')
  if count == 1:
    return env
  numbers = range(first_number, first_number + count)
  seeds = [environments.seed_of(seed, number) for number in numbers]
  return environments.VectorEnvironment(
    [
      functools.partial(load_environment, settings.environment, seed=s)
      for s in seeds
    ],
    mode=effective.value('Collector', 'vectorization_mode'),
  )


def collecting_source(
  settings: Settings, seed: int, number: int, is_only_source: bool
) -> tuple[Any, segments.Source]:
  """(acting network, source) of one of several collecting processes.

  Args:
    number: of the process. Number 0 acts as the run's own process would.
    is_only_source: whether there is no other process.
  """
  count = effective.value('Collector', 'num_environments')
  first = number * count
  seeds = environments.seed_of(seed, first), seed + ranges.ACTING_SEED
  env = load_environment(settings.environment, seed=seeds[0])
  network = agent_for(env, seed=seed).acting_network
  single_frames = effective.value('ReplayTable', 'single_frames')
  options = {
    'seed': environments.seed_of(seeds[1], number),
    'is_single_frame': replay.is_single_frame(
      network.input_tensor_spec, single_frames
    ),
    'whole_episodes': effective.value('Collector', 'whole_episodes'),
  }
  if count == 1:
    return network, sources.EnvironmentSource(
      env, network, is_only_source=is_only_source, **options
    )
  vector = _collecting_environment(settings, env, seed, first)
  return network, sources.VectorSource(vector, network, **options)


def _capacity(settings: Settings, source: datasets.DataSet | None) -> int:
  if settings.replay_capacity is None and source is not None:
    return source.steps + settings.interactions
  return settings.replay_capacity or 0


def _build(
  settings: Settings,
  seed: int,
  strategy,
  jit: bool,
  source_fn: Callable | None,
) -> RunParts:
  env = load_environment(settings.environment, seed=seed)
  with strategy.scope():
    agent = agent_for(env, seed=seed)
  agent.replicas.jit_compile = jit
  table, collector, data = _experience(settings, env, agent, seed, source_fn)
  evaluator = _evaluator(settings, agent, seed + ranges.EVALUATION_SEED)
  _check_target_copies()
  iterations = qwr_agent.iterate(agent, table, collector)
  parts = RunParts(agent, table, collector, iterations, evaluator, data)
  if settings.dataset is None:
    return parts
  source = offline.open_data_set(settings.dataset, settings.environment)
  split = offline.split_of(source, settings.environment)
  digest = source.digest(
    agent.time_step_spec.observation,
    agent.action_spec,
    environments.action_bounds(env.env.action_space),
  )
  instead = None
  if evaluator is None:
    instead = off_policy_lib.evaluator(
      agent, env, settings.dataset, split, seed
    )
  return parts._replace(split=split, data_digest=digest, off_policy=instead)


def _check_target_copies() -> None:
  """Raises ValueError where every critic step would copy the target network."""
  agent = effective.value('make_agent', 'agent_class').__name__
  update = effective.value(agent, 'target_update_fn').__name__
  steps = effective.value('iterate', 'critic_steps')
  rounds = effective.value('iterate', 'rounds')
  if update == 'hard_update' and rounds > 1 and steps < target_period():
    raise ValueError(
      f'hard_update copies at the start of every round, of {steps} critic '
      f'steps; use {agent}.target_update_fn = @periodic_update, which counts '
      'all steps, or iterate.rounds = 1.'
    )


def _evaluator(settings: Settings, agent, seed: int):
  if settings.environment == environments.NO_SIMULATOR:
    return None
  makers = [
    functools.partial(score_environment, settings, seed + i)
    for i in range(settings.eval_environments)
  ]
  in_processes = (
    len(makers) > 1
    and effective.value('Collector', 'num_environments') > 1
    and effective.value('Collector', 'vectorization_mode') == 'async'
  )
  if in_processes:
    envs: Any = environments.VectorEnvironment(makers)
  else:
    envs = [make() for make in makers]
  act = numpy_actor.NumpyActor(agent.acting_network)
  return evaluate.Evaluator(envs, act, seed=seed)
