"""An agent that answers some of its questions otherwise."""

import copy
from typing import Any


def view(agent, **methods: Any):
  """A shallow copy, with the same variables and other methods.

  What the agent's own methods call is found here first: with another
  `critic_outputs`, `regression` is made of those.

  Args:
    agent: stays as it is.
    **methods: by name, functions without `self`.
  """
  other = copy.copy(agent)
  vars(other).update(methods)  # Not by setattr: tf.Module would track them.
  return other
