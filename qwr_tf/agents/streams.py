"""Streams of random numbers, folded into the agent's seed."""

import enum


class Stream(enum.IntEnum):
  """What is drawn; the values are part of what makes runs repeatable."""

  CHECK = 0
  CRITIC = 1
  ACTOR = 2
  CRITIC_DRAWS = 3
  ACTOR_DRAWS = 4
