"""Checkpoints of version 0.1, whose normaliser summed in float32."""

import numpy as np
import tensorflow as tf

from qwr_tf import networks
from qwr_tf.runs import checkpoints

_MEAN, _SQUARES = [1.5, -2.0], [4.0, 36.0]


def _variable(values, dtype=tf.float32):
  return tf.Variable(tf.constant(values, dtype), trainable=False)


class _OldNormalizer(tf.Module):
  """The variables of version 0.1's normaliser after four observations."""

  def __init__(self):
    super().__init__()
    self._count = _variable(4, tf.int64)
    self._mean = _variable(_MEAN)
    self._sum_of_squares = _variable(_SQUARES)
    self._inverse_deviation = _variable([1.0, 1.0 / 3.0])


class _Agent(tf.Module):
  def __init__(self, normalizer):
    super().__init__()
    self.weights = tf.Variable([7.0])
    self.normalizer = normalizer


def _new_agent():
  spec = tf.TensorSpec([2])
  return _Agent(networks.ObservationNormalizer(spec, clip_value=None))


def test_sums_of_version_0_1_go_on_in_float64(tmp_path):
  checkpoints.save(_Agent(_OldNormalizer()), tmp_path / 'final')
  agent = _new_agent()
  checkpoints.restore(agent, tmp_path / 'final')
  observation = tf.constant([[2.5, 4.0]])
  # (2.5 - 1.5) * 1 and (4 + 2) / 3.
  np.testing.assert_allclose(agent.normalizer(observation), [[1.0, 2.0]])
  # A fifth observation: mean (4 * 1.5 + 6.5) / 5 = 2.5, squares 4 + 25 * 4 / 5
  # = 24; mean (4 * -2 + 3) / 5 = -1, squares 36 + 25 * 4 / 5 = 56.
  agent.normalizer.update(tf.constant([[6.5, 3.0]]))
  mean, inverse = agent.normalizer.parameters
  np.testing.assert_allclose(mean, [2.5, -1.0], rtol=1e-6)
  deviations = np.sqrt([24 / 5, 56 / 5])
  np.testing.assert_allclose(inverse, 1 / (deviations + 1e-5), rtol=1e-6)


def test_a_new_checkpoint_is_read_as_it_is(tmp_path):
  agent = _new_agent()
  agent.normalizer.update(tf.constant([[1e9, 0.5], [1e9 + 64, 1.5]]))
  checkpoints.save(agent, tmp_path / 'final')
  other = _new_agent()
  checkpoints.restore(other, tmp_path / 'final')
  for variable, expected in zip(other.variables, agent.variables, strict=True):
    np.testing.assert_array_equal(variable, expected)
