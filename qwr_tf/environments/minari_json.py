"""What Minari's metadata.json says of the environment it was recorded in."""

import json

import gymnasium
from gymnasium import spaces


def minari_metadata(env: gymnasium.Env) -> dict[str, str]:
  """JSON texts by Minari's names.

  Args:
    env: with Box or Discrete spaces.

  Returns:
    `observation_space`, `action_space`, and `env_spec` where the environment
    can be described by one.
  """
  metadata = {
    'observation_space': _space(env.observation_space),
    'action_space': _space(env.action_space),
  }
  try:
    if env.spec is not None:
      metadata['env_spec'] = env.spec.to_json()
  except (TypeError, ValueError):  # An argument or maker that is no JSON.
    pass
  return metadata


def _space(space: gymnasium.Space) -> str:
  if isinstance(space, spaces.Discrete):
    numbers = {'start': space.start.item(), 'n': space.n.item()}
    return json.dumps({'type': 'Discrete', 'dtype': 'int64', **numbers})
  assert isinstance(space, spaces.Box)
  return json.dumps(
    {
      'type': 'Box',
      'dtype': str(space.dtype),
      'shape': list(space.shape),
      'low': space.low.tolist(),
      'high': space.high.tolist(),
    }
  )
