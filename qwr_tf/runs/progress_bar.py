"""Progress bars: smooth in a terminal, a line every 30 seconds in a log."""

import sys

import tqdm

_SECONDS_BETWEEN_LINES = 30.0


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
