"""SIGINT and SIGTERM end a run after its current iteration."""

import os
import signal
import sys
import threading
from typing import Any

from qwr_tf.acting import stop_request

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interruption:
  """Handler of SIGINT and SIGTERM while it is entered.

  `requested` is True from the first signal on; the second signal ends the
  process at once. A phase of training is one call into TensorFlow, during which
  Python runs no signal handler: a thread reads the signals' numbers from a pipe
  then. While Python code runs, the handler sets `requested` before the next
  line.
  """

  def __init__(self, stop_at_once=os._exit):
    """Nothing happens before it is entered.

    Args:
      stop_at_once: called with the exit code at the second signal.
    """
    self.requested = False
    self._stop_at_once = stop_at_once
    self._before: dict[int, Any] = {}

  def __enter__(self) -> 'Interruption':
    # Other threads may not handle signals.
    if threading.current_thread() is not threading.main_thread():
      return self
    self._reader, self._writer = os.pipe()
    os.set_blocking(self._writer, False)
    self._fd_before = signal.set_wakeup_fd(self._writer)
    for number in _SIGNALS:
      self._before[number] = signal.signal(number, self._request)
    self._thread = threading.Thread(target=self._watch, daemon=True)
    self._thread.start()
    return self

  def __exit__(self, *_) -> None:
    if not self._before:
      return
    for number, handler in self._before.items():
      signal.signal(number, handler)
    signal.set_wakeup_fd(self._fd_before)
    os.close(self._writer)  # Ends the thread.
    self._thread.join()
    stop_request.clear()
    os.close(self._reader)

  def _request(self, *_) -> None:
    self.requested = True
    stop_request.request()

  def _watch(self) -> None:
    signals = 0
    while number := os.read(self._reader, 1):
      if number[0] not in _SIGNALS:
        continue
      signals += 1
      if signals > 1:
        self._stop_at_once(1)
      self._request()
      print(
        '\ninterrupted: the run ends after this iteration and is saved; once '
        'more ends it at once.',
        file=sys.stderr,
        flush=True,
      )
