"""Streams of random numbers, folded into the agent's seed."""

import enum


class Stream(enum.IntEnum):
  """Numbers of the streams; with others, no run could be reproduced."""

  CHECK = 0  # The trial of the slots in the constructor.
  CRITIC = 1
  ACTOR = 2
  CRITIC_DRAWS = 3
  ACTOR_DRAWS = 4
