"""LiteRT's int8 model is the float32 one but for the rounding of weights."""

import gin
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert import interpreter as litert

from qwr_tf.serving import conversions
from qwr_tf.serving import int8_weights
from qwr_tf.serving import last_layer
from tests.serving import policies


@pytest.fixture(autouse=True)
def _clear_gin():
  yield
  gin.clear_config()


def _stored(path):
  """(values, scales, axis of the scales) of each int8 tensor in a file."""
  interpreter = litert.Interpreter(str(path))
  interpreter.allocate_tensors()
  found = []
  for details in interpreter.get_tensor_details():
    if details['dtype'] == np.int8:
      values = interpreter.get_tensor(details['index'])
      parameters = details['quantization_parameters']
      assert not parameters['zero_points'].any()
      found.append(
        (values, parameters['scales'], parameters['quantized_dimension'])
      )
  return found


def _converter(function, size):
  spec = tf.TensorSpec([None, size], tf.float32, 'observation')
  function = tf.function(function, input_signature=[spec], autograph=False)
  return tf.lite.TFLiteConverter.from_concrete_functions(
    [function.get_concrete_function()], tf.Module()
  )


def _loaded(content, path):
  path.write_bytes(content)
  return conversions.load_tflite(path)


def test_each_input_has_a_scale_of_its_own():
  # The third is too small for a scale in float32, the last one is not there.
  weights = np.array(
    [[1.27, -300.0, 1e-44, 0.0], [-0.643, 0.9, 0.0, 0.0]], np.float32
  )
  rounded, scales = int8_weights.round_to_int8(weights)
  assert rounded.dtype == np.int8 and scales.dtype == np.float32
  np.testing.assert_array_equal(rounded, [[127, -127, 0, 0], [-64, 0, 0, 0]])
  np.testing.assert_allclose(scales, [0.01, 300 / 127, 1, 1], rtol=1e-6)


def test_rounding_is_off_by_half_a_scale_at_most():
  rng = np.random.default_rng(0)
  weights = rng.normal(size=[5, 3, 3, 7]) * np.geomspace(1e-6, 1e6, 7)
  rounded, scales = int8_weights.round_to_int8(weights)
  assert scales.shape == (7,) and np.all(rounded > -128)
  assert np.all(np.abs(rounded * scales - weights) <= 0.5001 * scales)


def _representable(shape, rng):
  """Kernel [inputs, outputs] of int8 times a power of two for each input."""
  integers = rng.integers(-127, 128, shape)
  integers[:, 0] = 127
  return integers, 2.0 ** rng.integers(-14, -8, shape[0])


@pytest.mark.slow
def test_weights_that_int8_holds_give_the_float32_actions(tmp_path):
  run = policies.make_run(tmp_path, 'mujoco_100k.gin', environment='Hopper-v4')
  (hidden,) = (
    v for v in run.agent.actor_network.variables if v.shape == [256, 256]
  )
  integers, scales = _representable((256, 256), np.random.default_rng(0))
  hidden.assign(integers * scales[:, np.newaxis])
  observations = policies.observations(run.agent, 40)
  conversions.write_tflite(run.agent, run.space, tmp_path, observations)
  ((values, stored_scales, axis),) = _stored(tmp_path / conversions.INT8)
  np.testing.assert_array_equal(values, integers.T)
  np.testing.assert_array_equal(stored_scales, scales)
  assert axis == 1
  exact, act = (
    conversions.load_tflite(tmp_path / name)
    for name in (conversions.FLOAT32, conversions.INT8)
  )
  expected = exact(observations)
  assert expected.std() > 0.01, 'nothing to compare'
  for batch in (1, 40, 7):
    np.testing.assert_array_equal(act(observations[:batch]), expected[:batch])


def test_a_convolution_has_a_scale_per_channel(tmp_path):
  rng = np.random.default_rng(0)
  integers, scales = _representable((5, 3 * 3 * 8), rng)
  kernel = (integers * scales[:, np.newaxis]).reshape(5, 3, 3, 8)
  kernel = tf.constant(kernel.transpose(1, 2, 0, 3), tf.float32)

  def convolve(x):
    return tf.nn.conv2d(tf.reshape(x, [-1, 6, 6, 5]), kernel, 1, 'VALID')

  content = _converter(convolve, 180).convert()
  exact = _loaded(content, tmp_path / 'float32')
  act = _loaded(int8_weights.with_int8_weights(content), tmp_path / 'int8')
  ((values, stored_scales, axis),) = _stored(tmp_path / 'int8')
  assert values.shape == (8, 3, 3, 5) and axis == 3
  np.testing.assert_array_equal(stored_scales, scales)
  observations = rng.normal(size=[4, 180]).astype(np.float32)
  np.testing.assert_array_equal(act(observations), exact(observations))


def test_small_values_count_beside_large_ones(tmp_path):
  # Logits 0, x_1, x_2, 0, ...; x_0 = 1000 counts for nothing, but int8
  # activations would share its scale of 1000 / 255 and be zero.
  observations = np.zeros([1, 64], np.float32)
  observations[0, :3] = 1000, 0.5, 1
  weights = np.eye(64, dtype=np.float32)
  weights[0, 0] = 0
  converter = _converter(
    lambda x: tf.argmax(tf.matmul(x, tf.constant(weights)), -1), 64
  )
  content = int8_weights.with_int8_weights(converter.convert())
  act = _loaded(content, tmp_path / 'int8')
  assert len(_stored(tmp_path / 'int8')) == 1
  assert act(observations) == [2]
  converter.optimizations = [tf.lite.Optimize.DEFAULT]
  dynamic_range = _loaded(converter.convert(), tmp_path / 'dynamic_range')
  assert dynamic_range(observations) == [0], 'what this is the answer to'


def _perceptron(*sizes):
  """The bytes of a float32 model without biases."""
  rng = np.random.default_rng(0)
  layers = [
    tf.constant(rng.normal(size=shape) / shape[0] ** 0.5, tf.float32)
    for shape in zip(sizes, sizes[1:], strict=False)
  ]

  def act(x):
    for layer in layers[:-1]:
      x = tf.nn.relu(tf.matmul(x, layer))
    return tf.matmul(x, layers[-1])

  return _converter(act, sizes[0]).convert()


def test_the_smallest_weights_stay_float32(tmp_path):
  # 320, 4096 and 128 numbers: the small ones are 10 % of all.
  content = _perceptron(5, 64, 64, 2)
  (tmp_path / 'int8').write_bytes(int8_weights.with_int8_weights(content))
  assert [v.shape for v, _, _ in _stored(tmp_path / 'int8')] == [(64, 64)]


def test_a_model_without_weights_stays_as_it_is(tmp_path):
  content = _converter(lambda x: x + 1.0, 3).convert()
  act = _loaded(int8_weights.with_int8_weights(content), tmp_path / 'int8')
  np.testing.assert_array_equal(act(np.ones([2, 3], np.float32)), 2)
  assert not _stored(tmp_path / 'int8')


def test_the_last_layer_makes_up_for_features_that_are_off():
  # x' = 2 x, so that w' = w / 2 but for the ridge. What no state shows keeps
  # its weight.
  rounded, exact = np.array([[2.0, 0.0]]), np.array([[1.0, 5.0]])
  weights = np.array([[3.0], [0.0]])
  # The ridge is 0.01 of the mean square of both features: 0.01 * 4 / 2.
  np.testing.assert_allclose(
    last_layer.correction(rounded, exact, weights), [[-6 / 4.02], [0]]
  )
  assert not last_layer.correction(rounded, rounded, weights).any()
  zeros = np.zeros([3, 2])
  assert not last_layer.correction(zeros, zeros, weights).any()


def test_a_refit_is_closer_in_states_it_has_not_seen(tmp_path):
  exact = _perceptron(10, 64, 64, 4)
  rounded = int8_weights.with_int8_weights(exact)
  rng = np.random.default_rng(1)
  seen, others = rng.normal(size=[2, 1050, 10]).astype(np.float32)
  refitted = last_layer.refit(rounded, exact, {'observation': seen})
  assert len(refitted) == len(rounded)
  wanted, before, after = (
    _loaded(content, tmp_path / 'model')(others)
    for content in (exact, rounded, refitted)
  )
  assert np.abs(after - wanted).mean() < 0.7 * np.abs(before - wanted).mean()


@pytest.mark.parametrize('sizes', [(10, 64), (4, 4, 64)])
def test_a_last_layer_of_int8_stays_as_it_is(sizes):
  exact = _perceptron(*sizes)
  rounded = int8_weights.with_int8_weights(exact)
  seen = np.ones([5, sizes[0]], np.float32)
  assert last_layer.refit(rounded, exact, {'observation': seen}) == rounded
