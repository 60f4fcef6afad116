"""Off-policy evaluation of runs without a simulator, on episodes held out."""

import functools

import gin
import tensorflow as tf
from absl import logging

from qwr_tf import datasets
from qwr_tf import environments
from qwr_tf import evaluation
from qwr_tf.acting import offline
from qwr_tf.config import gin_files
from qwr_tf.config.ranges import PositiveInt
from qwr_tf.evaluation import fitted_q


@gin.configurable
class OffPolicyEvaluator:
  """FQE of a run's policy on the episodes that it does not learn from."""

  def __init__(
    self,
    agent,
    env,
    path: str,
    split: datasets.Split,
    seed: int,
    *,
    curve_steps: PositiveInt = 1500,
    steps: PositiveInt = 5000,
    members: PositiveInt = 5,
  ):
    """Reads the held-out episodes.

    Args:
      agent: its policy samples actions.
      env: a `GymnasiumWrapper` with the data set's spaces.
      path: of the data set.
      split: of its episodes.
      seed: of the critics.
      curve_steps: gradient steps behind a point of the learning curve.
      steps: gradient steps of each critic of the final report.
      members: critics of the final report.
    """
    evaluation.check_spaces(agent.time_step_spec, agent.action_spec)
    self._open = functools.partial(
      offline.open_data_set, path, environments.NO_SIMULATOR
    )
    self._split = split
    self._gamma = agent.gamma
    self._fit = evaluation.Fit(steps=steps, members=max(members, 2), seed=seed)
    self._policy = evaluation.EvaluatedPolicy(
      lambda observations: agent.acting_network(observations)[0]
    )
    self._spaces = evaluation.Spaces(
      agent.time_step_spec,
      agent.action_spec,
      environments.action_bounds(env.env.action_space),
    )
    bounds, keep = self._spaces.action_bounds, split.is_held_out
    self._model = fitted_q.FittedQ(
      self._policy,
      agent.time_step_spec,
      agent.action_spec,
      gamma=self._gamma,
      fit=self._fit._replace(steps=curve_steps),
    )
    spec = self._model.data_spec
    data = self._open()
    steps = sum(len(x.reward) for x in data.logged(spec, bounds, (), keep))
    data.close()
    self._model.load(self._open(), bounds, steps, keep)

  def value(self) -> float:
    """The policy's discounted value by one critic, fitted anew."""
    self._model.fit()
    return float(self._model.start_values().mean())

  def report(self, name: str) -> evaluation.Report:
    """The page with intervals and diagnostics, under the policy's name."""
    return evaluation.evaluate(
      self._policy._replace(name=name),
      self._open,
      self._spaces,
      split=self._split,
      gamma=self._gamma,
      fit=self._fit,
    )


def evaluator(
  agent, env, path: str, split: datasets.Split, seed: int
) -> OffPolicyEvaluator | None:
  """An `OffPolicyEvaluator`; None, with a warning, where there can be none."""
  if not split.share:
    reason = 'DataSet.held_out_share is 0'
  elif agent.gamma >= 1.0:
    reason = 'QwrAgent.gamma is 1'
  else:
    try:
      return OffPolicyEvaluator(agent, env, path, split, seed)
    except (ValueError, tf.errors.InvalidArgumentError) as error:
      # What was learned from could be read: the episodes are too few.
      reason = gin_files.describe(error).rstrip('.')
  logging.warning('The run ends without an evaluation: %s.', reason)
  return None
