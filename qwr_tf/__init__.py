"""Q-Value Weighted Regression and its family on TF-Agents."""

import os
import sys

# Before TensorFlow is imported, which reads them only then: no CUDA lines on a
# machine without a GPU, and oneDNN's kernels on every processor. TensorFlow
# takes them by itself on newer ones only, where others need twice the time for
# a convolution and round otherwise.
os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
os.environ.setdefault('TF_ENABLE_ONEDNN_OPTS', '1')

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
