"""TF-Agents 0.19 beside newer versions of what it needs."""

import importlib.util
import inspect
import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from tf_agents.networks import categorical_projection_network
from tf_agents.specs import tensor_spec

from qwr_tf import networks  # noqa: F401, applies the fixes.

_NEEDS_NUMPY_2 = pytest.mark.skipif(
  np.__version__ < '2.4', reason='TF-Agents works with older NumPy'
)
_NEEDS_TF_KERAS = pytest.mark.skipif(
  not importlib.util.find_spec('tf_keras'), reason='Keras 2 is the only one'
)
_PIXELS = tensor_spec.BoundedTensorSpec((4,), tf.uint8, 0, 255)


def _run(program, **environment):
  return subprocess.run(
    [sys.executable, '-c', program],
    capture_output=True,
    text=True,
    env={
      **{k: v for k, v in os.environ.items() if k != 'TF_USE_LEGACY_KERAS'},
      'PYTHONPATH': os.pathsep.join(sys.path),
      **environment,
    },
  )


def test_pixels_are_sampled_from_all_their_values():
  pixels = tensor_spec.sample_spec_nest(_PIXELS, seed=1, outer_dims=(2000,))
  assert pixels.dtype == tf.uint8
  assert set(np.unique(pixels)) == set(range(256))


def test_bounds_of_pixels_are_inclusive():
  spec = tensor_spec.BoundedTensorSpec((100,), tf.uint8, 3, [4] * 100)
  assert set(np.unique(tensor_spec.sample_bounded_spec(spec))) == {3, 4}


def test_the_categorical_head_of_tf_agents():
  spec = tensor_spec.BoundedTensorSpec((1,), tf.int32, 0, 2)
  head = categorical_projection_network.CategoricalProjectionNetwork(spec)
  distribution, _ = head(tf.zeros((5, 7)), outer_rank=1)
  assert distribution.logits.shape == (5, 1, 3)


@_NEEDS_NUMPY_2
def test_the_fixes_are_still_needed(monkeypatch):
  """If this fails, TF-Agents has the fix, and ours can go."""
  fixed = inspect.getclosurevars(tensor_spec.sample_bounded_spec)
  with pytest.raises(Exception, match='minval < maxval'):
    fixed.nonlocals['original'](_PIXELS)
  monkeypatch.delattr(categorical_projection_network, 'int')
  with pytest.raises(TypeError, match='0-dimensional'):
    test_the_categorical_head_of_tf_agents()


@pytest.mark.slow
@_NEEDS_TF_KERAS
def test_keras_3_ends_with_what_to_set():
  done = _run('import tensorflow\nimport qwr_tf.networks')
  assert 'TF_USE_LEGACY_KERAS=1' in done.stderr.splitlines()[-1]


@_NEEDS_TF_KERAS
def test_a_command_with_keras_3_is_one_line():
  done = _run('from qwr_tf.config import startup', TF_USE_LEGACY_KERAS='0')
  assert (done.returncode, done.stdout) == (2, '')
  assert done.stderr.count('\n') == 1
  assert 'TF_USE_LEGACY_KERAS=1' in done.stderr


@pytest.mark.parametrize('module', ['tf_agents', 'gym'])
def test_a_program_without_tf_agents_is_told_how_to_install_it(module):
  hide = f"""
import sys
from importlib import machinery
find = machinery.PathFinder.find_spec
machinery.PathFinder.find_spec = lambda name, *args: (
  None if name == {module!r} else find(name, *args)
)
"""
  done = _run(f'{hide}\nimport qwr_tf\nimport {module}')
  assert '--no-deps tf-agents' in done.stderr.splitlines()[-1]
  done = _run(f'{hide}\nfrom qwr_tf.config import startup')
  assert done.returncode == 2
  assert done.stderr.count('\n') == 1
  assert '--no-deps tf-agents' in done.stderr
