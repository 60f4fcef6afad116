"""Refits the last layer of a rounded LiteRT model to the float32 model's.

Layers with int8 weights hand on features that are slightly off. The last layer
is small and stays float32, so that it can make up for it: its weights W' are
those that give, on states that the policy visits, what W makes of the exact
features X out of the rounded model's X',

  min over W'  |X' W' - X W|^2 / N + c |W' - W|^2.
"""

import numpy as np
import tensorflow as tf
from tensorflow.lite.python import schema_py_generated as schema
from tensorflow.lite.tools import flatbuffer_utils

# c over the mean square of a feature: what no visited state tells stays W.
_RIDGE = 1e-2

_BATCH = 100


def refit(rounded: bytes, exact: bytes, observations: np.ndarray) -> bytes:
  """Returns the rounded model with another last layer.

  Args:
    rounded: what `int8_weights.with_int8_weights` made of the exact model.
    exact: the float32 model.
    observations: [N, ...], visited.
  """
  model = flatbuffer_utils.convert_bytearray_to_object(bytearray(rounded))
  layer = _last_layer(model)
  if layer is None:
    return rounded
  inputs, weights = (int(i) for i in layer.inputs[:2])
  tensor = model.subgraphs[0].tensors[weights]
  buffer = model.buffers[tensor.buffer]
  values = np.frombuffer(bytes(buffer.data), np.float32).reshape(tensor.shape)
  change = correction(
    _features(rounded, inputs, observations),
    _features(exact, inputs, observations),
    values.T,
  )
  refitted = (values + change.T).astype(np.float32)
  buffer.data = np.frombuffer(refitted.tobytes(), np.uint8)
  return flatbuffer_utils.convert_object_to_bytearray(model)


def correction(
  rounded: np.ndarray, exact: np.ndarray, weights: np.ndarray
) -> np.ndarray:
  """W' - W.

  Args:
    rounded: X' [N, features].
    exact: X [N, features].
    weights: W [features, outputs].
  """
  rounded, exact = rounded.astype(np.float64), exact.astype(np.float64)
  second_moment = rounded.T @ rounded / len(rounded)
  ridge = _RIDGE * np.trace(second_moment) / len(second_moment) or 1.0
  return np.linalg.solve(
    second_moment + ridge * np.eye(len(second_moment)),
    rounded.T @ (exact - rounded) @ weights / len(rounded),
  )


def _last_layer(model):
  """The last FULLY_CONNECTED; None if it has no float32 weights of its own."""
  (graph,) = model.subgraphs
  layers = [
    operator
    for operator in graph.operators
    if model.operatorCodes[operator.opcodeIndex].builtinCode
    == schema.BuiltinOperator.FULLY_CONNECTED
  ]
  if not layers:
    return None
  weights = graph.tensors[layers[-1].inputs[1]]
  return None if model.buffers[weights.buffer].data is None else layers[-1]


def _features(content: bytes, index: int, observations) -> np.ndarray:
  """[N, features] of the tensor of a number, the same in both models."""
  interpreter = tf.lite.Interpreter(
    model_content=content, experimental_preserve_all_tensors=True
  )
  given = interpreter.get_input_details()[0]['index']
  found = []
  for start in range(0, len(observations), _BATCH):
    batch = observations[start : start + _BATCH]
    interpreter.resize_tensor_input(given, batch.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(given, batch)
    interpreter.invoke()
    features = interpreter.get_tensor(index)
    found.append(features.reshape(-1, features.shape[-1]))
  return np.concatenate(found)
