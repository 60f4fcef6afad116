"""What an environment's name says of itself, without making it."""

import re


def env_id(name: str) -> str:
  """What is registered: 'gymnasium.envs.mujoco:Ant-v4' is 'Ant-v4'."""
  return name.rpartition(':')[2]


def task(name: str) -> str:
  """'ALE/Pong-v5' is Pong, 'gymnasium.envs.mujoco:Ant-v4' Ant.

  Other collections' names stay with the games: MinAtar/Breakout is no Breakout.
  """
  return re.sub(r'^ALE/|-v\d+$', '', env_id(name))
