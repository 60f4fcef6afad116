"""Interruptions, for loops that wait for the end of an episode."""

import time

# The end of an iteration, which is saved, is worth so long a wait.
GRACE_SECONDS = 20.0

_requested_at: float | None = None  # A process has one set of signals.


def request() -> None:
  """Called once the user has asked the process to stop."""
  global _requested_at
  _requested_at = time.monotonic()


def clear() -> None:
  """Forgets the request."""
  global _requested_at
  _requested_at = None


def check() -> None:
  """Raises KeyboardInterrupt when a request is older than 20 seconds."""
  if _requested_at is not None:
    if time.monotonic() - _requested_at >= GRACE_SECONDS:
      raise KeyboardInterrupt
