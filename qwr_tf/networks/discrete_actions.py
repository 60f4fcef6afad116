"""Discrete actions: their number, and all of them."""

import tensorflow as tf
from tf_agents.specs import tensor_spec
from tf_agents.typing import types


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
  if action_spec.minimum != 0:
    raise ValueError(
      'Discrete actions must start at 0, not at '
      f'{action_spec.minimum}; shift them in the environment.'
    )
  return int(action_spec.maximum) + 1


def all_actions(
  action_spec: types.BoundedTensorSpec, outer_rank: int
) -> tf.Tensor:
  """Every value of a discrete action, [n, 1, ...] with outer_rank ones.

  Raises:
    ValueError: for continuous actions.
  """
  if not tensor_spec.is_discrete(action_spec):
    raise ValueError(
      'Only discrete actions can be enumerated; for a continuous action space '
      'use @sampled_behavior_actions or @sampled_policy_actions.'
    )
  actions = tf.range(action_spec.maximum + 1, dtype=action_spec.dtype)
  return tf.reshape(actions, [-1] + [1] * outer_rank)
