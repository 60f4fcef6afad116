"""Learning from a data set: line 5 of Algorithm 2 is skipped or delayed."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf
from absl import logging
from tf_agents.specs import tensor_spec

from qwr_tf import datasets
from qwr_tf import environments
from qwr_tf import replay
from qwr_tf.acting import collect
from qwr_tf.config.errors import ConfigError
from qwr_tf.policies import behavior_policy


class OfflineFirst:
  """A collector that starts after iterations on a data set alone."""

  def __init__(
    self,
    collector: collect.Collector,
    offline_iterations: int,
    data: datasets.Summary,
  ):
    """Wraps a collector.

    Args:
      collector: called after the offline iterations.
      offline_iterations: iterations without interactions.
      data: summary of the data set in the table.
    """
    self._collector = collector
    self._left = offline_iterations
    self._facts = json.loads(json.dumps(facts(data)))

  def __call__(self) -> collect.Collected:
    """Collects nothing, or one iteration's interactions."""
    if self._left:
      self._left -= 1
      return collect.Collected(0, [], 0.0)
    return self._collector()

  def state(self) -> dict[str, Any]:
    """The collector's state and the iterations left, for a checkpoint."""
    return {
      'left': self._left,
      'data': self._facts,
      'collector': self._collector.state(),
    }

  def restore(self, state: Mapping[str, Any]) -> None:
    """Restores what `state` returned.

    Raises:
      ConfigError: if it is of another data set.
    """
    if state['data'] != self._facts:
      raise ConfigError(
        f'the data set was {state["data"]} when the run began, is {self._facts}'
      )
    self._left = state['left']
    self._collector.restore(state['collector'])


def open_data_set(
  path: str, environment: str, seed: int = 0
) -> datasets.DataSet:
  """Opens a data set, and warns if it was recorded in another environment.

  Args:
    path: file or folder; '{environment}' in it becomes the environment's name.
    environment: as for `environments.load`.
    seed: as in `datasets.DataSet`.

  Raises:
    ValueError: in one line, if it cannot be read.
  """
  name = environments.env_id(environment)
  data = datasets.DataSet(path.replace('{environment}', name), seed=seed)
  recorded = data.environment or name
  is_played = name != environments.NO_SIMULATOR
  if is_played and environments.task(recorded) != environments.task(name):
    logging.warning(
      '%s was recorded in %s; run.environment is %s.', data.path, recorded, name
    )
  return data


def split_of(data: datasets.DataSet, environment: str) -> datasets.Split:
  """The episodes that a run learns from, and those that are held out.

  Raises:
    ValueError: as `datasets.Split.checked`.
  """
  share = data.held_out_share
  if share is None:
    share = 0.2 if environment == environments.NO_SIMULATOR else 0.0
  return datasets.Split(share, data.split_seed).checked()


def fill(
  data: datasets.DataSet, table, agent, env, split: datasets.Split
) -> datasets.Summary:
  """Reads a data set into an empty table and into the agent's normaliser.

  Args:
    data: from `open_data_set`.
    table: a `replay.ReplayTable` of the agent's rows.
    agent: its rows hold mu.
    env: a `GymnasiumWrapper` like the recorded environment, with its action
      bounds, clipping of rewards and meaning of time limits.
    split: held-out episodes are left out.

  Raises:
    ValueError: in one line with file, episode and field.
  """
  try:
    return data.fill(
      table,
      environments.action_bounds(env.env.action_space),
      behavior_scale=_constant_scale(agent),
      normalizer=agent.acting_network.normalizer,
      reward_fn=env.clipped,
      timeout_is_terminal=env.timeout_is_terminal,
      keep=split.is_learned_from if split.share else None,
    )
  except tf.errors.InvalidArgumentError as error:
    if replay.OTHER_STACKS not in error.message:
      raise
    raise ValueError(
      f'{data.path}, observations: {replay.OTHER_STACKS}'
    ) from error


def _constant_scale(agent) -> np.ndarray | None:
  """The deviation [A] of mu, if the table holds none."""
  spec = agent.collect_data_spec.policy_info
  names = set(spec[behavior_policy.DIST_PARAMS])
  if names != {'loc'}:
    return None
  zeros = tensor_spec.zero_spec_nest(spec, outer_dims=[1])
  return agent.behavior_distribution(zeros).stddev().numpy()[0]


def facts(data: datasets.Summary | None) -> dict[str, Any]:
  """The data set's entries in run.json: name and summary."""
  if data is None:
    return {}
  return {'dataset': data.name, 'data': data._asdict()}
