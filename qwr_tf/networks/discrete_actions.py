"""What networks ask of discrete actions."""

from tf_agents.specs import tensor_spec
from tf_agents.typing import types


def number_of_actions(
  action_spec: types.BoundedTensorSpec, who: str, instead: str
) -> int:
  """Values of one discrete action.

  Args:
    action_spec: a scalar integer spec with minimum 0.
    who: wants to know, for the error.
    instead: what to do about other actions.

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
