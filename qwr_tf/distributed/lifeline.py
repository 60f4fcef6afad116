"""The end of a role whose launcher has died without ending it.

A launcher gives every role the read end of a pipe, and keeps the write end: at
its death, SIGKILL included, the kernel closes the pipe.
"""

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator

from qwr_tf.training import deadlines

# In a role's environment: the number of the pipe's read end.
VARIABLE = 'QWR_TF_LIFELINE'
# Exit code of a role that would end in the same way if it were started again.
WOULD_FAIL_AGAIN = 3


@contextlib.contextmanager
def pipe() -> Iterator[int]:
  """The read end of a pipe that closes at the death of this process."""
  reader, writer = os.pipe()
  try:
    yield reader
  finally:
    os.close(reader)
    os.close(writer)


def watch(seconds: float) -> None:
  """Interrupts this process once its launcher is gone.

  Does nothing in a role that was started by hand.

  Args:
    seconds: from the interruption to the end of the process.
  """
  number = os.environ.pop(VARIABLE, None)
  if number is not None:
    threading.Thread(
      target=_watch, args=[int(number), seconds], daemon=True
    ).start()


def _watch(descriptor: int, seconds: float) -> None:
  os.set_inheritable(descriptor, False)
  os.read(descriptor, 1)  # Nobody writes: it returns at the end of the pipe.
  with contextlib.suppress(OSError):  # Of a terminal that is gone, too.
    print('the launcher is gone.', file=sys.stderr, flush=True)
  os.kill(os.getpid(), signal.SIGTERM)
  time.sleep(seconds)
  deadlines.end_process(f'not ended {seconds:g} s after its launcher.', 1)
