"""The agent and the environment that all roles build."""

from typing import Any, NamedTuple

import gin

from qwr_tf.agents import exact_reuse
from qwr_tf.agents import n_step
from qwr_tf.agents import whole_table
from qwr_tf.config import gin_files
from qwr_tf.config.errors import ConfigError
from qwr_tf.distributed import reverb_client
from qwr_tf.distributed import reverb_server
from qwr_tf.training import experiment

# Interactions between two requests of a collector.
CHUNK_ENV_STEPS = 50


class Role(NamedTuple):
  """The parts of a role.

  Attributes:
    env: a PyEnvironment.
    agent: with the networks of the configuration.
    specs: of the server's tables.
  """

  env: Any
  agent: Any
  specs: dict[str, Any]


def build(settings: experiment.Settings, seed: int, env_seed: int) -> Role:
  """Builds the agent, which is the same in all roles, and an environment.

  Args:
    settings: of the run.
    seed: of the agent.
    env_seed: of the environment; collectors differ in it.

  Raises:
    ConfigError: if the configuration does not fit.
  """
  adapt(settings)
  try:
    env = experiment.load_environment(settings.environment, seed=env_seed)
    agent = experiment.agent_for(env, seed=seed)
  except (ValueError, TypeError) as error:
    raise ConfigError(gin_files.describe(error)) from error
  return Role(env, agent, specs_of(agent))


def specs_of(agent) -> dict[str, Any]:
  """Specs of the server's tables for an agent."""
  return reverb_server.signatures(
    agent.collect_data_spec, agent.horizon, agent.acting_network
  )


def check_server(connection, specs: dict[str, Any], config: str) -> None:
  """Raises ConfigError for a server of another run, or none.

  Args:
    connection: to the server.
    specs: of its tables.
    config: the run's configuration and seed as text.
  """
  try:
    connection.check(specs, config)
  except (
    reverb_client.MismatchError,
    reverb_client.UnreachableError,
  ) as error:
    raise ConfigError(str(error)) from error


def adapt(settings: experiment.Settings) -> None:
  """Adapts the configuration to a table that is not in this process.

  `PerMinibatch` replaces `ExactReuse` and `NStepMinibatches`, whose results are
  the same.

  Raises:
    ConfigError: for slots that need the whole table.
  """
  if settings.dataset is not None:
    raise ConfigError('run.dataset is read by one process: use qwr_tf.train.')
  try:
    source = gin.query_parameter('iterate.minibatches_fn').configurable.wrapped
  except ValueError:  # Nothing is bound: it is PerMinibatch.
    return
  if source is whole_table.WholeTable:
    raise ConfigError(
      'iterate.minibatches_fn = @WholeTable needs the table in its own '
      'process; a Reverb server gives windows one minibatch at a time: set '
      'iterate.minibatches_fn = @PerMinibatch, or use qwr_tf.train.'
    )
  if source in (exact_reuse.ExactReuse, n_step.NStepMinibatches):
    with gin.unlock_config():
      gin.parse_config('iterate.minibatches_fn = @PerMinibatch')
      if source is n_step.NStepMinibatches:
        for name, value in gin.get_bindings('NStepMinibatches', False).items():
          gin.bind_parameter(f'PerMinibatch.{name}', value)
