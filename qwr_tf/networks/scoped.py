"""Base class of networks: copies are made in the gin scope of the original."""

from typing import Any

import gin
from tf_agents.networks import network


class ScopedNetwork(network.Network):
  """A network that `make_agent.critic_network = @critic/…` may name by scope.

  TF-Agents copies a network by calling its constructor again; layers bound
  under the scope must be found then, too.
  """

  def __init__(self, input_tensor_spec=None, state_spec=(), name=None):
    """As TF-Agents' `Network`."""
    super().__init__(input_tensor_spec, state_spec, name)
    self._gin_scope = gin.current_scope_str()

  def copy(self, **kwargs: Any) -> 'ScopedNetwork':
    """As TF-Agents' `Network.copy`."""
    with gin.config_scope(self._gin_scope):
      return super().copy(**kwargs)
