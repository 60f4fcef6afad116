"""metadata.json of an export: the policy's run and its environment."""

import json
import pathlib
from collections.abc import Mapping
from typing import Any

from tf_agents.specs import tensor_spec

from qwr_tf import environments
from qwr_tf.config import algorithms
from qwr_tf.config.errors import ConfigError
from qwr_tf.serving import signatures
from qwr_tf.serving import versions

# Copied from run.json.
_FACTS = (
  'preset', 'seed', 'dataset', 'held_out', 'first_steps', 'weights',
  'interactions', 'critic_steps', 'actor_steps', 'scores', 'config', 'commit',
  'versions',
)  # fmt: skip


def read(version: pathlib.Path) -> dict[str, Any]:
  """metadata.json of an export.

  Raises:
    ConfigError: if it cannot be read.
  """
  path = version / versions.EXTRA / versions.METADATA
  try:
    content = json.loads(path.read_text('utf-8'))
    if not isinstance(content, dict) or 'format' not in content:
      raise ValueError('it does not say which format the export has')
    return content
  except (OSError, ValueError, RecursionError) as error:
    raise ConfigError(
      f'{path} cannot be read: {error}; export the policy again.'
    ) from error


def answers_every_row(version: pathlib.Path) -> bool:
  """True if an export says how it answers rows with NaN or Inf.

  Those of version 0.1 refuse the batch, or act, by format.
  """
  return 'not_finite' in read(version)


def metadata(facts: Mapping[str, Any], agent, env) -> dict[str, Any]:
  """The content of metadata.json.

  Args:
    env: a `GymnasiumWrapper`.
  """
  return {
    'algorithm': _algorithm(facts['config'], agent),
    'environment': facts['environment'],
    'gamma': agent.gamma,
    **environments.describe(env.env),
    'signatures': {
      'critic': signatures.critic_signature(agent),
      'distribution': _distribution(agent),
    },
    # The answer to rows with NaN or Inf; integers are their type's smallest.
    'not_finite': 'NaN',
    **{name: facts[name] for name in _FACTS if name in facts},
  }


def _algorithm(config: str, agent) -> str:
  try:
    return algorithms.algorithm_of(config)
  except ConfigError:  # A combination of slots without a name.
    return type(agent).__name__


def _distribution(agent) -> str:
  """The exported distribution's name in tfp."""
  spec = agent.time_step_spec.observation
  observation = tensor_spec.zero_spec_nest(spec, outer_dims=[1])
  return type(agent.acting_network(observation)[0]).__name__.strip('_')
