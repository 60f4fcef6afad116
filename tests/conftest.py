"""What every test file may rely on."""

from qwr_tf.config import startup  # noqa: F401, before TensorFlow.

# isort: split
import os
import subprocess
import sys

import gin
import pytest


@pytest.fixture(autouse=True, scope='module')
def _own_configuration():
  """No file sees the gin bindings of another that ran before it."""
  gin.clear_config()
  yield
  gin.clear_config()


@pytest.fixture
def eagerly():
  """Functions run without being compiled, which few steps are not worth."""
  import tensorflow as tf  # Some files need no TensorFlow.

  tf.config.run_functions_eagerly(True)
  yield
  tf.config.run_functions_eagerly(False)


@pytest.fixture
def run_program():
  """Runs a text as a Python program of its own; see `subprocess.run`."""

  def run(program: str) -> subprocess.CompletedProcess:
    return subprocess.run(
      [sys.executable, '-c', program],
      capture_output=True,
      text=True,
      env={
        **os.environ,
        'TF_CPP_MIN_LOG_LEVEL': '3',  # TensorFlow's own lines about CUDA.
        'PYTHONPATH': os.pathsep.join(sys.path),
      },
    )

  return run
