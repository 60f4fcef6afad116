"""Interruptions, for loops that wait for the end of an episode."""

import contextlib
import time
from collections.abc import Iterator

# The end of an iteration, which is saved, is worth so long a wait.
GRACE_SECONDS = 20.0

_grace_seconds = GRACE_SECONDS
_requested_at: float | None = None  # A process has one set of signals.


def request() -> None:
  """Called once the user has asked the process to stop."""
  global _requested_at
  _requested_at = time.monotonic()


def clear() -> None:
  """Forgets the request."""
  global _requested_at
  _requested_at = None


@contextlib.contextmanager
def at_once() -> Iterator[None]:
  """While it is entered, `check` raises without a wait."""
  global _grace_seconds
  _grace_seconds = 0.0
  try:
    yield
  finally:
    _grace_seconds = GRACE_SECONDS


def check() -> None:
  """Raises KeyboardInterrupt when a request is older than 20 seconds."""
  if _requested_at is not None:
    if time.monotonic() - _requested_at >= _grace_seconds:
      raise KeyboardInterrupt
