"""A least-squares fit of the last layer of a LiteRT model with int8 weights.

Layers with int8 weights compute features X' that differ from the exact ones X.
The last layer is small, stays float32 and makes up for the difference on
visited states: its weights W' minimise

  |X' W' - X W|^2 / N + c |W' - W|^2.
"""

from collections.abc import Mapping

import numpy as np
from ai_edge_litert import interpreter as litert
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.tools import flatbuffer_utils

# c, divided by the mean square of a feature: keeps W where no state decides.
_RIDGE = 1e-2

_BATCH = 100


def refit(
  rounded: bytes, exact: bytes, observations: Mapping[str, np.ndarray]
) -> bytes:
  """The rounded model with a fitted last layer, as bytes.

  Args:
    rounded: from `int8_weights.with_int8_weights`.
    observations: [N, ...] by input, visited.
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
  return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


def correction(
  rounded: np.ndarray, exact: np.ndarray, weights: np.ndarray
) -> np.ndarray:
  """The change W' - W of the weights that best restores the exact outputs.

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
  """The last FULLY_CONNECTED operator; None if its weights are no constant."""
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


def invoke(interpreter, inputs: Mapping[str, np.ndarray]) -> None:
  """Runs a LiteRT model for inputs [B, ...] by name."""
  details = interpreter.get_input_details()
  # 'serving_default_<input>:0', or '<input>' of a model without signatures.
  names = [
    x['name'].removeprefix('serving_default_').removesuffix(':0')
    for x in details
  ]
  indices = {name: x['index'] for name, x in zip(names, details, strict=True)}
  for name, values in inputs.items():
    interpreter.resize_tensor_input(indices[name], values.shape)
  interpreter.allocate_tensors()
  for name, values in inputs.items():
    interpreter.set_tensor(indices[name], values)
  interpreter.invoke()


def _features(
  content: bytes, index: int, inputs: Mapping[str, np.ndarray]
) -> np.ndarray:
  """Values [N, features] of the tensor with an index."""
  interpreter = litert.Interpreter(
    model_content=content, experimental_preserve_all_tensors=True
  )
  batches = []
  for start in range(0, len(next(iter(inputs.values()))), _BATCH):
    batch = {name: x[start : start + _BATCH] for name, x in inputs.items()}
    invoke(interpreter, batch)
    features = interpreter.get_tensor(index)
    batches.append(features.reshape(-1, features.shape[-1]))
  return np.concatenate(batches)
