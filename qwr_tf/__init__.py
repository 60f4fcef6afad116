"""Q-Value Weighted Regression and its family on TF-Agents."""

import os

# Before TensorFlow is imported, which reads it only then: no CUDA lines on a
# machine without a GPU.
os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')

# tf_agents imports gym, which prints a page about its own age.
try:
  import gym_notices.notices as _gym_notices

  _gym_notices.notices.clear()
except ImportError:
  pass

__version__ = '0.1.0'
