"""Discrete actions: their number, and all of them."""

import math

import numpy as np
import tensorflow as tf
from tf_agents.specs import tensor_spec
from tf_agents.typing import types

from qwr_tf.networks import categories


def number_of_actions(
  action_spec: types.BoundedTensorSpec, who: str, instead: str
) -> int:
  """Number of values of one discrete action.

  Args:
    action_spec: a scalar integer spec with minimum 0.
    who: name of the caller, for the error.
    instead: what to use for other actions, for the error.

  Raises:
    ValueError: for any other action spec.
  """
  if not tensor_spec.is_discrete(action_spec) or action_spec.shape.rank:
    raise ValueError(
      f'{who} is for one discrete action; this environment has '
      f'{action_spec}. {instead}'
    )
  check_start(action_spec)
  return int(action_spec.maximum) + 1


def check_start(action_spec: types.BoundedTensorSpec) -> None:
  """Raises ValueError unless discrete actions count from 0."""
  if np.any(action_spec.minimum != 0):
    raise ValueError(
      'Discrete actions must start at 0, not at '
      f'{action_spec.minimum}; shift them in the environment.'
    )


# All combinations of a vector's values are listed up to this number.
MAX_COMBINATIONS = 64


def num_combinations(action_spec: types.BoundedTensorSpec) -> int:
  """Number of different actions, of a scalar or a vector of integers."""
  return math.prod(categories.sizes(action_spec).tolist())


def is_enumerable(action_spec: types.BoundedTensorSpec) -> bool:
  """True for action specs that `all_actions` can list."""
  return tensor_spec.is_discrete(action_spec) and (
    not action_spec.shape.rank
    or num_combinations(action_spec) <= MAX_COMBINATIONS
  )


def all_actions(
  action_spec: types.BoundedTensorSpec, outer_rank: int
) -> tf.Tensor:
  """Every discrete action, [n, 1, ..., *shape] with outer_rank ones.

  Of vectors every combination, the last number changing fastest.

  Raises:
    ValueError: for continuous actions, and vectors with too many combinations.
  """
  if not is_enumerable(action_spec):
    what = 'a continuous action space'
    if tensor_spec.is_discrete(action_spec):
      what = f'{num_combinations(action_spec)} combinations of actions'
    raise ValueError(
      f'Only discrete actions can be enumerated, up to {MAX_COMBINATIONS} '
      f'combinations; for {what} use @sampled_behavior_actions or '
      '@sampled_policy_actions.'
    )
  every = np.indices(categories.sizes(action_spec).tolist())  # [k, *sizes]
  actions = tf.constant(every.reshape(len(every), -1).T, action_spec.dtype)
  return tf.reshape(actions, [-1, *[1] * outer_rank, *action_spec.shape])


def indices(
  actions: tf.Tensor, action_spec: types.BoundedTensorSpec
) -> tf.Tensor:
  """Places of actions [..., *shape] in `all_actions`, int [...]."""
  if not action_spec.shape.rank:
    return actions
  sizes = categories.sizes(action_spec)
  steps = np.cumprod([1, *sizes[:0:-1]])[::-1]
  return tf.reduce_sum(actions * steps.astype(np.int32), axis=-1)


def chosen_outputs(
  q_vectors: tf.Tensor,
  actions: tf.Tensor,
  action_spec: types.BoundedTensorSpec,
  outer_rank: int,
) -> tf.Tensor:
  """A critic's outputs for actions [n, ...], of those for all actions.

  Args:
    q_vectors: [..., actions] and the critic's own axes.
    actions: [n, ...] and the action's own axes.
    action_spec: of the actions.
    outer_rank: number of the axes [...].

  Returns:
    [n, ...] and the critic's own axes.
  """
  num_axes = q_vectors.shape.rank - outer_rank - 1
  axis = -1 - num_axes
  chosen = tf.one_hot(indices(actions, action_spec), q_vectors.shape[axis])
  for _ in range(num_axes):
    chosen = chosen[..., tf.newaxis]
  return tf.reduce_sum(chosen * q_vectors, axis=axis)
