"""Streams of random numbers, folded into the agent's seed."""

import enum


class Stream(enum.IntEnum):
  """Streams of an agent's seed; other values would change every run."""

  CHECK = 0
  CRITIC = 1
  ACTOR = 2
  CRITIC_DRAWS = 3
  ACTOR_DRAWS = 4
