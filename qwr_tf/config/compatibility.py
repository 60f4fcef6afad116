"""All that depends on the versions of TensorFlow, Keras, NumPy and TF-Agents.

TF-Agents 0.19 needs Keras 2, which is a package of its own (tf-keras) since
TensorFlow 2.16, and two of its functions fail with NumPy 2.
"""

import importlib.abc
import importlib.util
import os
import sys

# pip's resolver refuses TF-Agents' outdated bounds on Python 3.12 and later.
INSTALL_TF_AGENTS = (
  'TF-Agents is not installed; run '
  '`pip install --no-deps tf-agents==0.19.0 gym==0.23.0`.'
)
KERAS_3 = (
  'TensorFlow uses Keras 3, but TF-Agents needs Keras 2; set '
  'TF_USE_LEGACY_KERAS=1 in the environment before TensorFlow is imported.'
)
# TF-Agents imports gym.
LACKS_TF_AGENTS = None in map(importlib.util.find_spec, ('tf_agents', 'gym'))


class _NotInstalled(importlib.abc.MetaPathFinder):
  """The last finder, asked for modules that no other finder knows."""

  def find_spec(self, fullname, path=None, target=None):
    if fullname in ('tf_agents', 'gym'):
      raise ModuleNotFoundError(INSTALL_TF_AGENTS, name=fullname)


def prepare_imports() -> None:
  """Selects Keras 2 for an import of TensorFlow that is yet to come."""
  if importlib.util.find_spec('tf_keras'):
    os.environ.setdefault('TF_USE_LEGACY_KERAS', '1')
  if LACKS_TF_AGENTS:
    sys.meta_path.append(_NotInstalled())


def problem() -> str:
  """A setting that no command works with, in a line; '' without one."""
  if LACKS_TF_AGENTS:
    return INSTALL_TF_AGENTS
  legacy = os.environ.get('TF_USE_LEGACY_KERAS')
  # TensorFlow knows these spellings of yes.
  if importlib.util.find_spec('tf_keras') and legacy not in (
    '1',
    'true',
    'True',
  ):
    return KERAS_3
  return ''


def fix_tf_agents() -> None:
  """Applies two fixes that TF-Agents has made since its last release.

  Raises:
    ImportError: if this process uses Keras 3.
  """
  import numpy as np
  import tensorflow as tf
  from tf_agents.networks import categorical_projection_network
  from tf_agents.specs import tensor_spec

  if getattr(tf.keras, '__version__', '2').startswith('3'):
    raise ImportError(KERAS_3)
  original = tensor_spec.sample_bounded_spec

  def sample_bounded_spec(spec, seed=None, outer_dims=None):
    if spec.dtype != tf.uint8:
      return original(spec, seed, outer_dims)
    # The function adds 1 to a maximum of 255 in uint8.
    bounds = (np.int32(bound) for bound in (spec.minimum, spec.maximum))
    wide = tensor_spec.BoundedTensorSpec(spec.shape, tf.int32, *bounds)
    return tf.cast(original(wide, seed, outer_dims), tf.uint8)

  tensor_spec.sample_bounded_spec = sample_bounded_spec
  # The module calls int() for an array of one element.
  categorical_projection_network.int = lambda array: np.asarray(array).item()
