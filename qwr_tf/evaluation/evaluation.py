"""The evaluation of a policy on a data set, from files to a `Report`."""

import contextlib
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from tf_agents.trajectories import time_step as ts
from tf_agents.typing import types

from qwr_tf import datasets
from qwr_tf.config.errors import ConfigError
from qwr_tf.datasets import actions
from qwr_tf.evaluation import fitted_q
from qwr_tf.evaluation import logged_steps
from qwr_tf.evaluation import policies
from qwr_tf.evaluation import report


class Spaces(NamedTuple):
  """Specs of a policy's observations and actions.

  Attributes:
    time_step_spec: tensors.
    action_spec: of the agent, tensors.
    action_bounds: in the environment's units.
  """

  time_step_spec: ts.TimeStep
  action_spec: types.BoundedTensorSpec
  action_bounds: actions.Bounds


_ALL = datasets.Split(1.0)


def check_spaces(
  time_step_spec: ts.TimeStep, action_spec: types.BoundedTensorSpec
) -> None:
  """Raises ConfigError for Dict observations and several discrete actions."""
  is_combined = action_spec.dtype.is_integer and action_spec.shape.rank > 0
  if tf.nest.is_nested(time_step_spec.observation) or is_combined:
    raise ConfigError(
      'evaluations are of policies whose observation is one array and whose '
      'action is a Discrete or a Box; play others (qwr_tf.play).'
    )


def evaluate(
  policy: policies.EvaluatedPolicy,
  open_data: Callable[[], datasets.DataSet],
  spaces: Spaces,
  *,
  split: datasets.Split = _ALL,
  gamma: float = 0.99,
  fit: fitted_q.Fit = fitted_q.DEFAULT_FIT,
  max_steps: int = 200_000,
  caveats: tuple[str, ...] = (),
  progress: Callable[[], Any] = lambda: None,
) -> report.Report:
  """Evaluates a policy on the held-out episodes of a data set.

  Args:
    policy: in the agent's units.
    open_data: opens the data set, which is read several times.
    split: which episodes are held out; default all.
    max_steps: of larger data sets some episodes are left out.
    caveats: sentences for the report, for instance on the split.
    progress: called after each member of the ensemble.

  Raises:
    ConfigError: in one line, if the data do not fit the policy, or hold too
      little to conclude anything.
  """
  if not 0.0 <= gamma < 1.0:
    raise ConfigError(f'gamma must be at least 0 and below 1, not {gamma}.')
  if max_steps < 1:
    raise ConfigError(f'max_steps must be 1 or more, not {max_steps}.')
  if split.seed < 0:
    raise ConfigError(f'split_seed must be 0 or more, not {split.seed}.')
  time_step_spec, action_spec, bounds = spaces
  check_spaces(time_step_spec, action_spec)
  model = fitted_q.FittedQ(
    policy, time_step_spec, action_spec, gamma=gamma, fit=fit
  )
  try:
    with contextlib.closing(open_data()) as data:
      keep, steps = logged_steps.selection(
        data, model.data_spec, bounds, split, max_steps
      )
    logged = logged_steps.read(
      open_data(), model.actor, model.data_spec, bounds, keep, steps, fit.seed
    )
    model.load(open_data(), bounds, len(logged.terminal), keep)
    model.fit_ensemble(progress)
    values = [
      model.values(tf.constant(chunk.observation), chunk.action)
      for chunk in open_data().logged(model.data_spec, bounds, (), keep)
    ]
  except (ValueError, tf.errors.InvalidArgumentError) as error:
    raise ConfigError(' '.join(str(error).split())) from error
  state_values, q_values = (
    np.concatenate(x, axis=-1) for x in zip(*values, strict=True)
  )
  return report.make(
    policy.name, data.name, logged, model, state_values, q_values, caveats
  )
