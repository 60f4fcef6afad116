"""int8 weights for a LiteRT model that calculates in float32.

The converter's int8 models (dynamic range) also round what flows between the
layers, row by row, and that takes another action wherever two are nearly as
good as each other. Here weights alone are rounded: the file holds int8 and a
DEQUANTIZE operator for each of them, which the interpreter runs once, in the
first call at the latest. From then on it is as fast as the float32 model.

There is a scale for every input of a layer, not for every output: inputs
differ in size, normalised or not, and their weights with them.
"""

import numpy as np
from tensorflow.lite.python import schema_py_generated as schema
from tensorflow.lite.tools import flatbuffer_utils

# Of all weights, what the smallest ones may make up together: they stay
# float32. Convolutions and the last layer would save little, and their rounding
# costs as much as that of large weights; and `last_layer` wants the latter.
_FLOAT_SHARE = 1 / 8

# The first version of DEQUANTIZE with more than one scale.
_DEQUANTIZE_VERSION = 5


def with_int8_weights(content: bytes) -> bytes:
  """Rounds the large weights of a float32 LiteRT model with one graph.

  Args:
    content: the file's bytes, as TFLiteConverter makes them.

  Returns:
    The bytes of the same model with weights [outputs, ..., inputs] as int8.
  """
  model = flatbuffer_utils.convert_bytearray_to_object(bytearray(content))
  (graph,) = model.subgraphs
  for index, weights in _large(_float_weights(model, graph)):
    rounded, scales = round_to_int8(weights)
    model.buffers[graph.tensors[index].buffer].data = _bytes(rounded)
    _dequantize(model, graph, index, scales)
  return flatbuffer_utils.convert_object_to_bytearray(model)


def round_to_int8(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Rounds to multiples of a scale per input, without a zero point.

  Args:
    weights: float [..., inputs].

  Returns:
    (int8 [..., inputs] in -127..127, scales float32 [inputs]); their product
    is at most half a scale away from the weights.
  """
  largest = np.abs(weights).max(axis=tuple(range(weights.ndim - 1)))
  scales = (largest / 127).astype(np.float32)
  scales[scales == 0] = 1
  rounded = np.clip(np.rint(weights / scales), -127, 127)
  return rounded.astype(np.int8), scales


def _float_weights(model, graph) -> list[tuple[int, np.ndarray]]:
  """(number among the graph's tensors, values) of all but biases."""
  found = []
  for i, tensor in enumerate(graph.tensors):
    data = model.buffers[tensor.buffer].data
    is_constant = data is not None and tensor.type == schema.TensorType.FLOAT32
    if is_constant and len(tensor.shape) > 1:
      values = np.frombuffer(_bytes(data), np.float32)
      found.append((i, values.reshape(tensor.shape)))
  return found


def _large(weights: list[tuple[int, np.ndarray]]):
  """Those that do not stay float32."""
  weights = sorted(weights, key=lambda pair: pair[1].size)
  up_to = np.cumsum([values.size for _, values in weights])
  small = up_to <= _FLOAT_SHARE * up_to[-1:]
  return weights[int(small.sum()) :]


def _bytes(values: np.ndarray) -> np.ndarray:
  return np.frombuffer(np.ascontiguousarray(values).tobytes(), np.uint8)


def _dequantize(model, graph, index: int, scales: np.ndarray) -> None:
  """Puts a DEQUANTIZE between a tensor, now int8, and those who read it."""
  stored = graph.tensors[index]
  restored = schema.TensorT()
  restored.name = stored.name + b'/float32'
  restored.shape, restored.shapeSignature = stored.shape, stored.shapeSignature
  restored.type = schema.TensorType.FLOAT32
  stored.type = schema.TensorType.INT8
  stored.quantization = schema.QuantizationParametersT()
  stored.quantization.scale = scales
  stored.quantization.zeroPoint = np.zeros(len(scales), np.int64)
  stored.quantization.quantizedDimension = len(stored.shape) - 1
  for operator in graph.operators:
    operator.inputs = np.where(
      np.asarray(operator.inputs) == index, len(graph.tensors), operator.inputs
    ).astype(np.int32)
  graph.operators.insert(0, _operator(model, [index], [len(graph.tensors)]))
  graph.tensors.append(restored)


def _operator(model, inputs: list[int], outputs: list[int]):
  code = schema.OperatorCodeT()
  code.builtinCode = schema.BuiltinOperator.DEQUANTIZE
  code.deprecatedBuiltinCode = code.builtinCode
  code.version = _DEQUANTIZE_VERSION
  model.operatorCodes.append(code)
  operator = schema.OperatorT()
  operator.opcodeIndex = len(model.operatorCodes) - 1
  operator.inputs, operator.outputs = inputs, outputs
  return operator
