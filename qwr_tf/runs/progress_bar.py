"""Progress bars: smooth in a terminal, a line every 30 seconds in a log."""

import io
import sys
import threading

import tqdm

_SECONDS_BETWEEN_LINES = 30.0
_SECONDS_BETWEEN_FRAMES = 0.5


class ProgressBar(tqdm.tqdm):
  """A bar on standard error; arguments as of `tqdm.tqdm`."""

  def __init__(self, **kwargs):
    self._is_in_terminal = sys.stderr.isatty()
    interval = 0.1 if self._is_in_terminal else _SECONDS_BETWEEN_LINES
    super().__init__(
      **{
        'dynamic_ncols': True,
        'mininterval': interval,
        'maxinterval': interval,
        **kwargs,
      }
    )

  def say(self, line: str) -> None:
    """Prints a line to standard output, above the bar of a terminal."""
    if self._is_in_terminal:
      self.write(line, file=sys.stdout)
    else:  # `write` would print the bar once more.
      print(line, flush=True)


class PhaseBar(ProgressBar):
  """A bar that names the present phase and moves between updates, too.

  A thread draws it, because a phase is one call into TensorFlow. Without a
  terminal the thread prints a line at the start and every 30 seconds.
  """

  def __init__(self, phase_fn, **kwargs):
    """Starts the thread.

    Args:
      phase_fn: returns the phase in a word.
      **kwargs: for `tqdm.tqdm`.
    """
    is_in_terminal = sys.stderr.isatty()
    if not is_in_terminal:
      kwargs['file'] = io.StringIO()
    super().__init__(**kwargs)
    self._phase_fn = phase_fn
    self._closed = threading.Event()
    self._thread = threading.Thread(target=self._watch, daemon=True)
    if not self.disable:
      self._thread.start()

  def close(self) -> None:
    """Ends the thread, too."""
    if hasattr(self, '_closed') and not self.disable:
      self._closed.set()
      self._thread.join()
      if not self._is_in_terminal:
        print(self.line(), file=sys.stderr, flush=True)
    super().close()

  def _watch(self) -> None:
    seconds = _SECONDS_BETWEEN_FRAMES
    if not self._is_in_terminal:
      seconds = _SECONDS_BETWEEN_LINES
    while True:
      if self._is_in_terminal:
        self.set_description_str(self._phase_fn())
      else:
        print(self.line(), file=sys.stderr, flush=True)
      if self._closed.wait(seconds):
        return

  def line(self) -> str:
    """Phase, count, time spent and left, newest returns."""
    values = self.format_dict
    count = values['n'] - values['initial']
    left = ''
    if count:
      seconds = (values['total'] - values['n']) * values['elapsed'] / count
      left = f', {self.format_interval(seconds)} left'
    spent = self.format_interval(values['elapsed'])
    postfix = f', {values["postfix"]}' if values['postfix'] else ''
    return (
      f'{self._phase_fn()}: {values["n"]:,} of {values["total"]:,}'
      f'{values["unit"]}, {spent} spent{left}{postfix}'
    )
