"""Torsos for images: shapes and sizes by hand, scaling, convolutions, use."""

import functools

import gin
import numpy as np
import pytest
import tensorflow as tf
from tf_agents.specs import tensor_spec

from qwr_tf import networks
from qwr_tf.acting import numpy_actor
from qwr_tf.config import gin_files
from qwr_tf.networks import encoders
from qwr_tf.networks import torsos

_IMAGE = tensor_spec.TensorSpec([84, 84, 4], tf.uint8, 'observation')
_ACTION = tensor_spec.BoundedTensorSpec([], tf.int32, 0, 5, 'action')
_TORSOS = pytest.mark.parametrize(
  'torso_fn',
  [torsos.dqn_2013_torso, torsos.nature_torso, torsos.data_efficient_torso],
)


def _images(*outer):
  rng = np.random.default_rng(0)
  return rng.integers(0, 256, [*outer, 84, 84, 4], np.uint8)


def _randomize(variables):
  """Biases are zero at first, and would hide whether they are used."""
  rng = np.random.default_rng(1)
  for variable in variables:
    noise = rng.normal(scale=0.02, size=variable.shape)
    variable.assign_add(noise.astype(np.float32))


def _built(torso_fn):
  torso = torso_fn()
  torso(_images(1))
  _randomize(torso.trainable_variables)
  return torso


def _outputs(torso, x):
  """What comes out of each layer."""
  outputs = []
  for layer in torso.layers:
    x = layer(x)
    outputs.append(x.numpy())
  return outputs


# (84 - 8) / 4 + 1 = 20, (20 - 4) / 2 + 1 = 9, (9 - 3) / 1 + 1 = 7.
@pytest.mark.parametrize(
  'torso_fn, shapes',
  [
    (
      torsos.dqn_2013_torso,
      [(84, 84, 4), (20, 20, 16), (9, 9, 32), (2592,), (256,)],
    ),
    (
      torsos.nature_torso,
      [
        (84, 84, 4),
        (20, 20, 32),
        (9, 9, 64),
        (7, 7, 64),
        (3136,),
        (512,),
      ],
    ),
    # (84 - 5) // 5 + 1 = 16, (16 - 5) // 5 + 1 = 3.
    (
      torsos.data_efficient_torso,
      [(84, 84, 4), (16, 16, 32), (3, 3, 64), (576,), (256,)],
    ),
  ],
)
def test_shapes_by_hand(torso_fn, shapes):
  torso = _built(torso_fn)
  outputs = _outputs(torso, _images(3))
  assert [x.shape for x in outputs] == [(3, *shape) for shape in shapes]
  assert all(x.dtype == np.float32 for x in outputs)
  np.testing.assert_array_equal(torso(_images(3)), outputs[-1])


# Each layer has inputs x outputs weights and as many biases as outputs.
@pytest.mark.parametrize(
  'torso_fn, sizes',
  [
    (torsos.dqn_2013_torso, [4096, 16, 8192, 32, 663_552, 256]),
    (
      torsos.nature_torso,
      [8192, 32, 32_768, 64, 36_864, 64, 1_605_632, 512],
    ),
    (torsos.data_efficient_torso, [3200, 32, 51_200, 64, 147_456, 256]),
    # The last two are the scale and the shift of the LayerNorm.
    (
      functools.partial(torsos.dqn_2013_torso, layer_norm=True),
      [4096, 16, 8192, 32, 663_552, 256, 256, 256],
    ),
  ],
)
def test_parameters_by_hand(torso_fn, sizes):
  torso = _built(torso_fn)
  assert [v.shape.num_elements() for v in torso.trainable_variables] == sizes
  assert len(torso.variables) == len(sizes)


@pytest.mark.parametrize(
  'torso_fn', [torsos.dqn_2013_torso, torsos.data_efficient_torso]
)
def test_layer_norm_is_the_last_layer(torso_fn):
  torso = torso_fn(layer_norm=True)
  features = torso(_images(3)).numpy()
  np.testing.assert_allclose(features.mean(-1), 0.0, atol=1e-5)
  np.testing.assert_allclose(features.std(-1), 1.0, rtol=0.1)


@_TORSOS
def test_pixels_are_divided_by_255(torso_fn):
  torso = _built(torso_fn)
  unscaled = tf.keras.Sequential(torso.layers[1:])
  for pixel, value in ((255, 1.0), (51, 0.2), (0, 0.0)):
    images = np.full([2, 84, 84, 4], pixel, np.uint8)
    np.testing.assert_allclose(
      torso(images),
      unscaled(np.full([2, 84, 84, 4], value, np.float32)),
      rtol=1e-4,
      atol=1e-6,
    )
  # Not because the weights let nothing through.
  assert np.std(unscaled(np.ones([1, 84, 84, 4], np.float32))) > 0.01


@_TORSOS
def test_images_of_floats_are_refused(torso_fn):
  # In 0 ... 1, as they may be, they would be divided by 255 once more.
  spec = tf.TensorSpec([84, 84, 4], tf.float32)
  with pytest.raises(ValueError, match='uint8 in 0..255, not float32'):
    encoders.Encoder(spec, torso_fn, None)


@_TORSOS
def test_layers_equal_numpy(torso_fn):
  torso = _built(torso_fn)
  inputs = _images(2)
  for layer, outputs in zip(torso.layers, _outputs(torso, inputs), strict=True):
    if isinstance(layer, tf.keras.layers.Conv2D):
      _assert_equals_a_crop(layer, inputs, outputs)
    if isinstance(layer, tf.keras.layers.Dense):
      kernel, bias = layer.get_weights()
      expected = np.maximum(inputs @ kernel + bias, 0)
      np.testing.assert_allclose(outputs, expected, rtol=1e-3, atol=1e-4)
      assert 0 < np.mean(outputs == 0) < 1  # The ReLU matters.
    inputs = outputs


def _assert_equals_a_crop(layer, inputs, outputs):
  """Compares a few pixels with sums over the crops they see."""
  kernel, bias = layer.get_weights()
  size, stride = kernel.shape[0], layer.strides[0]
  expected, actual = [], []
  last = outputs.shape[1] - 1
  for i, j in ((0, 0), (1, 2), (last, 0), (last, last)):
    top, left = i * stride, j * stride
    crop = inputs[:, top : top + size, left : left + size]
    expected.append(np.einsum('bhwc,hwcf->bf', crop, kernel) + bias)
    actual.append(outputs[:, i, j])
  np.testing.assert_allclose(
    actual, np.maximum(expected, 0), rtol=1e-3, atol=1e-4
  )
  assert 0 < np.mean(np.less(expected, 0)) < 1  # The ReLU matters.


# In the networks


def _critic(torso_fn):
  critic = networks.GatedQNetwork(_IMAGE, _ACTION, torso_fn=torso_fn)
  critic.create_variables()
  _randomize(critic.trainable_variables)
  return critic


@_TORSOS
@pytest.mark.parametrize('outer', [[2], [2, 3]])
def test_the_critic_takes_all_actions_of_every_state(torso_fn, outer):
  critic = _critic(torso_fn)
  images = _images(*outer)
  actions = np.arange(6, dtype=np.int32).reshape([6] + [1] * len(outer))
  values = critic((images, actions))[0].numpy()  # [6, ...]
  assert values.shape == (6, *outer)
  # One state, one action at a time.
  for index in np.ndindex(*outer):
    for action in range(6):
      value = critic((images[index][None], np.array([action], np.int32)))[0]
      np.testing.assert_allclose(
        value[0], values[(action, *index)], rtol=1e-3, atol=1e-5
      )
  assert np.ptp(values, axis=0).min() > 1e-3  # Actions make a difference.


def test_the_torso_runs_once_per_state():
  batches = []

  class Counting(tf.keras.layers.Layer):
    def call(self, x):
      batches.append(x.shape[0])
      return x

  def torso_fn():
    layers = torsos.dqn_2013_torso().layers
    return tf.keras.Sequential([layers[0], Counting(), *layers[1:]])

  critic = _critic(torso_fn)
  batches.clear()
  critic((_images(3), np.arange(6, dtype=np.int32)[:, None]))
  # Keras may trace the layer first, with a batch of None.
  assert batches[-1] == 3 and 18 not in batches


@_TORSOS
def test_gradients_reach_every_weight(torso_fn):
  actor = networks.ActorNetwork(_IMAGE, _ACTION, torso_fn=torso_fn)
  actor.create_variables()
  critic = _critic(torso_fn)
  images, actions = _images(4), np.array([0, 5, 2, 3], np.int32)
  for network, loss_fn in (
    (actor, lambda: actor(images)[0].log_prob(actions)),
    (critic, lambda: critic((images, actions))[0]),
  ):
    with tf.GradientTape() as tape:
      loss = tf.reduce_sum(loss_fn())
    variables = network.encoder.torso.trainable_variables
    assert len(variables) in (6, 8)
    for variable, gradient in zip(
      variables, tape.gradient(loss, variables), strict=True
    ):
      assert np.abs(gradient).max() > 0, variable.name


@_TORSOS
def test_copies_share_nothing(torso_fn):
  for network in (
    _critic(torso_fn),
    networks.ActorNetwork(_IMAGE, _ACTION, torso_fn=torso_fn),
  ):
    copy = network.copy(name='Copy')
    network.create_variables()
    copy.create_variables()
    own = {v.ref() for v in network.trainable_variables}
    theirs = {v.ref() for v in copy.trainable_variables}
    assert len(own) == len(theirs) > 6 and not own & theirs


@_TORSOS
def test_the_actor_acts_for_one_image(torso_fn):
  actor = networks.ActorNetwork(_IMAGE, _ACTION, torso_fn=torso_fn)
  actor.create_variables()
  _randomize(actor.trainable_variables)
  image = _images()
  logits = actor(image[None])[0].logits[0].numpy()
  assert logits.shape == (6,) and np.ptp(logits) > 1e-3
  action, params = numpy_actor.NumpyActor(actor)(image, None)
  np.testing.assert_allclose(params['logits'], logits, rtol=1e-3, atol=1e-5)
  assert action == np.argmax(logits)


@pytest.mark.parametrize(
  'name, width', [('dqn_2013_torso', 256), ('nature_torso', 512)]
)
def test_gin_knows_the_torsos(name, width):
  with gin.unlock_config():
    gin.parse_config(f'actors.ActorNetwork.torso_fn = @{name}')
    try:
      actor = networks.ActorNetwork(_IMAGE, _ACTION)
    finally:
      gin.clear_config()
  assert actor.encoder.width == width


@pytest.mark.parametrize(
  'shape, torso_fn, fix',
  [
    ([16, 16, 4], torsos.dqn_2013_torso, 'images, of 36 x 36 pixels or more'),
    ([32, 32, 4], torsos.nature_torso, 'images, of 36 x 36 pixels or more'),
    ([9], torsos.dqn_2013_torso, 'GatedQNetwork.torso_fn to @mlp_torso'),
    ([4, 84, 84], torsos.dqn_2013_torso, 'load_environment.channels_first'),
  ],
)
def test_a_torso_that_does_not_fit_names_the_one_that_does(
  shape, torso_fn, fix
):
  spec = tensor_spec.TensorSpec(shape, tf.uint8, 'observation')
  for make in (networks.ActorNetwork, networks.GatedQNetwork):
    with pytest.raises(ValueError) as caught:
      make(spec, _ACTION, torso_fn=torso_fn)
    message = gin_files.describe(caught.value)
    assert f'observations {tuple(shape)}; ' in message and fix in message


def test_torsos_take_the_smallest_images_that_are_named():
  spec = tensor_spec.TensorSpec([36, 36, 1], tf.uint8, 'observation')
  for torso_fn in (torsos.dqn_2013_torso, torsos.nature_torso):
    networks.ActorNetwork(spec, _ACTION, torso_fn=torso_fn).create_variables()


@_TORSOS
def test_bfloat16_computes_nearly_the_same(torso_fn):
  """8 bits of mantissa: about 1 % of the size of what is added up."""
  exact = _built(torso_fn)
  rounded = torso_fn(dtype_policy='mixed_bfloat16')
  rounded(_images(1))
  assert all(v.dtype == tf.float32 for v in rounded.trainable_variables)
  rounded.set_weights(exact.get_weights())
  features, expected = rounded(_images(4)), exact(_images(4))
  assert features.dtype == tf.float32
  scale = np.std(expected)
  assert 0 < np.max(np.abs(features - expected)) < 0.1 * scale


@_TORSOS
def test_bfloat16_gradients_reach_float32_weights(torso_fn):
  torso = torso_fn(dtype_policy='mixed_bfloat16')
  with tf.GradientTape() as tape:
    loss = tf.reduce_sum(torso(_images(2)))
  gradients = tape.gradient(loss, torso.trainable_variables)
  assert all(g.dtype == tf.float32 for g in gradients)
  assert all(np.any(g != 0) for g in gradients)


@pytest.mark.parametrize('side', [16, 40, 64, 84, 97])
def test_image_torso_sees_every_pixel(side):
  tf.keras.utils.set_random_seed(0)
  torso = torsos.image_torso((side, side, 3))
  images = tf.Variable(tf.random.uniform([8, side, side, 3], 0, 255))
  with tf.GradientTape() as tape:
    loss = tf.reduce_sum(torso(images) ** 2)
  gradient = np.abs(tape.gradient(loss, images)).sum(axis=(0, 3))
  assert np.all(gradient > 0)
