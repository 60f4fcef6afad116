"""Parts of environments' names."""

import re

NO_SIMULATOR = 'NoSimulator'


def env_id(name: str) -> str:
  """The registered id: of 'gymnasium.envs.mujoco:Ant-v4' it is 'Ant-v4'."""
  return name.rpartition(':')[2]


def task(name: str) -> str:
  """The task: of 'ALE/Pong-v5' it is Pong, of 'Ant-v4' it is Ant.

  Other collections keep their names: MinAtar/Breakout is not Breakout.
  """
  return re.sub(r'^ALE/|-v\d+$', '', env_id(name))
