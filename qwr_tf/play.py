"""Plays an exported policy: python -m qwr_tf.play --policy=runs/.../policy.

Runs `qwr_tf/serving/run_policy.py`. That script works without this package: it
needs TensorFlow, gymnasium and what the environment needs.
"""

from qwr_tf.config import startup  # noqa: F401, before TensorFlow.

# isort: split
import sys

from qwr_tf.serving import run_policy

if __name__ == '__main__':
  sys.exit(run_policy.run())
