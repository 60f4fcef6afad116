"""Q-Value Weighted Regression and its family on TF-Agents."""

import os
import sys

# Before TensorFlow is imported, which reads it only then: no CUDA lines on a
# machine without a GPU.
os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')

# tf_agents imports gym, which prints a page about its own age.
try:
  import gym_notices.notices as _gym_notices

  _gym_notices.notices.clear()
except ImportError:
  pass

# `python -m qwr_tf.<command>` is looking for its module, and takes seconds to
# import TensorFlow before there is a `main` that could be guarded.
if sys.argv[:1] == ['-m']:
  _excepthook = sys.excepthook

  def _interrupted_in_one_line(kind, error, traceback):
    if issubclass(kind, KeyboardInterrupt):
      print('error: interrupted.', file=sys.stderr)
    else:
      _excepthook(kind, error, traceback)

  sys.excepthook = _interrupted_in_one_line  # Python exits as by SIGINT: 130.

__version__ = '0.1.0'
