"""The memory that a replay buffer needs, and what the machine has."""

import math
import os
import pathlib

import tensorflow as tf
from tf_agents.typing import types

# What a container may use, where there is a limit.
_CONTAINER_LIMIT = pathlib.Path('/sys/fs/cgroup/memory.max')


def row_size(spec: types.NestedTensorSpec) -> int:
  """Bytes of one row of a nest of specs."""
  leaves = tf.nest.flatten(spec)
  return sum(math.prod(s.shape) * s.dtype.size for s in leaves)


def total_memory() -> int:
  """Bytes that this process may use at most; 2**63 if no limit is known."""
  try:
    limit = int(_CONTAINER_LIMIT.read_text())
  except (OSError, ValueError):  # None, or 'max'.
    limit = 2**63
  try:
    pages = os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE')
  except (AttributeError, ValueError, OSError):
    pages = 2**63
  return min(limit, pages)


def check(wanted: int, capacity: int) -> None:
  """Compares a replay buffer's bytes with the memory of the machine.

  Raises:
    ValueError: for more bytes than there are; names the binding.
  """
  there = total_memory()
  if wanted > there:
    raise ValueError(
      f'run.replay_capacity = {capacity} needs {wanted / 1e9:.1f} GB of '
      f'memory, and this machine has {there / 1e9:.1f} GB; set it to '
      f'{capacity * there // (2 * wanted)} or less.'
    )
