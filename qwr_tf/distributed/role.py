"""What the roles have in common: the same agent from the same configuration."""

from typing import Any, NamedTuple

import gin
from tf_agents.specs import tensor_spec

from qwr_tf import experiment
from qwr_tf import gin_files
from qwr_tf.agents import minibatches
from qwr_tf.replay import reverb_server

# Interactions between a collector's looks at the server.
CHUNK_ENV_STEPS = 50


class Role(NamedTuple):
  """A role's copy of the experiment.

  Attributes:
    env: a PyEnvironment.
    agent: with the networks of the configuration.
    specs: of the server's tables.
  """

  env: Any
  agent: Any
  specs: dict[str, Any]


def build(settings: experiment.Settings, seed: int, env_seed: int) -> Role:
  """The agent as all roles have it, and an environment.

  Args:
    settings: of the run.
    seed: of the agent.
    env_seed: of the environment; collectors differ in it.

  Raises:
    ConfigError: if something of the configuration does not fit.
  """
  check()
  try:
    env = experiment.load_environment(settings.environment, seed=env_seed)
    agent = experiment.make_agent(
      tensor_spec.from_spec(env.time_step_spec()),
      tensor_spec.from_spec(env.action_spec()),
      seed=seed,
    )
  except (ValueError, TypeError) as error:
    raise gin_files.ConfigError(gin_files.describe(error)) from error
  return Role(env, agent, specs_of(agent))


def specs_of(agent) -> dict[str, Any]:
  """Specs of the server's tables for an agent."""
  return reverb_server.signatures(
    agent.collect_data_spec, agent.horizon, agent.actor_network
  )


def check() -> None:
  """Refuses what needs the whole table in the learner's memory.

  Raises:
    ConfigError: with the fix.
  """
  try:
    source = gin.query_parameter('iterate.minibatches_fn')
  except ValueError:
    return
  made = source.configurable.wrapped
  if made is not minibatches.PerMinibatch:
    raise gin_files.ConfigError(
      f'iterate.minibatches_fn = @{made.__name__} needs the table in its own '
      'process; a Reverb server gives windows one minibatch at a time: set '
      'iterate.minibatches_fn = @PerMinibatch, or use qwr_tf.train.'
    )
