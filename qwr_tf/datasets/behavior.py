"""A behaviour policy mu made of logged actions, where none was recorded."""

from collections.abc import Mapping
from typing import Annotated

import gin
import numpy as np
from tf_agents.typing import types

from qwr_tf.config.ranges import PositiveFloat
from qwr_tf.config.ranges import Range
from qwr_tf.networks import actors
from qwr_tf.networks import categories


@gin.configurable
def logged_action_behavior(
  actions: np.ndarray,
  action_spec: types.BoundedTensorSpec,
  names: Mapping[str, types.TensorSpec],
  scale: PositiveFloat = 0.4,
  epsilon: Annotated[float, Range(0, 1, is_open=True)] = 0.1,
) -> dict[str, np.ndarray]:
  """Parameters of a distribution around the logged action (QWR paper, 4.4).

  Continuous: a Gaussian at the action, with the policy's deviation if that is
  constant. Discrete, for which nothing is published: the action with
  probability 1 - epsilon + epsilon / n, every other one with epsilon / n.

  Args:
    actions: [N, ...] of the agent: bounds are +-1, or integers from 0 on.
    action_spec: of the agent.
    names: parameters that the table holds: `loc`, `scale_diag`, `logits`.
    scale: deviation, if the table holds one; in units where the action bounds
      are +-1.
    epsilon: share of the uniform distribution.

  Returns:
    {name: float32 [N, ...]}.

  Raises:
    ValueError: for other parameters.
  """

  def logits() -> np.ndarray:
    sizes = categories.sizes(action_spec)
    one_hot = np.eye(sizes.max(), dtype=np.float32)[actions]
    if action_spec.shape.rank:
      shares = np.float32(epsilon / sizes[:, np.newaxis])
      missing = actors.missing_logits(action_spec)
      return np.log((1.0 - epsilon) * one_hot + shares) + missing
    return np.log((1.0 - epsilon) * one_hot + np.float32(epsilon / sizes[0]))

  rules = {
    'loc': lambda: actions.astype(np.float32),
    'scale_diag': lambda: np.full(actions.shape, scale, np.float32),
    'logits': logits,
  }
  unknown = sorted(set(names) - set(rules))
  if unknown:
    raise ValueError(
      f'there is no rule for {", ".join(unknown)} of the behaviour policy; '
      'write one and bind it to DataSet.behavior_fn.'
    )
  return {name: rules[name]() for name in names}
