"""int8 weights for a LiteRT model that calculates in float32.

The converter's int8 models (dynamic range) round activations as well, which
changes the action wherever two are nearly equally good. Here weights alone are
rounded: the file holds int8 weights and a DEQUANTIZE operator for each tensor,
which the interpreter runs once, in its first call. After that the model is as
fast as the float32 model.

Scales belong to the inputs of a layer, not to its outputs: inputs differ in
size, normalised or not, and their weights with them. ai-edge-quantizer has
scales of outputs alone, and moves HalfCheetah's actions three times as far.
"""

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.tools import flatbuffer_utils

# The smallest tensors, up to this share of all weights, stay float32.
# Convolutions and the last layer would save little, and rounding them costs as
# much as rounding large tensors; `last_layer` needs the last layer in float32.
_FLOAT_SHARE = 1 / 8

# The first version of DEQUANTIZE with more than one scale.
_DEQUANTIZE_VERSION = 5


def with_int8_weights(content: bytes) -> bytes:
  """Rounds the large weights [outputs, ..., inputs] of a LiteRT model.

  Args:
    content: bytes of a float32 model with one graph, from TFLiteConverter.

  Returns:
    The bytes of the same model with int8 weights.
  """
  model = flatbuffer_utils.convert_bytearray_to_object(bytearray(content))
  (graph,) = model.subgraphs
  for index, weights in _large(_float_weights(model, graph)):
    rounded, scales = round_to_int8(weights)
    model.buffers[graph.tensors[index].buffer].data = _bytes(rounded)
    _dequantize(model, graph, index, scales)
  return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


def round_to_int8(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Rounds to multiples of a scale per input, without a zero point.

  Args:
    weights: float [..., inputs].

  Returns:
    (int8 [..., inputs] in -127..127, scales float32 [inputs]); their product
    differs from the weights by at most half a scale.
  """
  largest = np.abs(weights).max(axis=tuple(range(weights.ndim - 1)))
  scales = (largest / 127).astype(np.float32)
  scales[scales == 0] = 1
  rounded = np.clip(np.rint(weights / scales), -127, 127)
  return rounded.astype(np.int8), scales


def _float_weights(model, graph) -> list[tuple[int, np.ndarray]]:
  """(index of the tensor, values) of all weights but biases."""
  weights = []
  for i, tensor in enumerate(graph.tensors):
    data = model.buffers[tensor.buffer].data
    is_constant = data is not None and tensor.type == schema.TensorType.FLOAT32
    if is_constant and len(tensor.shape) > 1:
      values = np.frombuffer(_bytes(data), np.float32)
      weights.append((i, values.reshape(tensor.shape)))
  return weights


def _large(weights: list[tuple[int, np.ndarray]]):
  """The weights that become int8."""
  weights = sorted(weights, key=lambda pair: pair[1].size)
  up_to = np.cumsum([values.size for _, values in weights])
  small = up_to <= _FLOAT_SHARE * up_to[-1:]
  return weights[int(small.sum()) :]


def _bytes(values: np.ndarray) -> np.ndarray:
  return np.frombuffer(np.ascontiguousarray(values).tobytes(), np.uint8)


def _dequantize(model, graph, index: int, scales: np.ndarray) -> None:
  """Inserts a DEQUANTIZE between an int8 tensor and its readers."""
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
