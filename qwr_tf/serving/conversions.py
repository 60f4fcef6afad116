"""Conversions of the deterministic policy to LiteRT and ONNX.

Both take batches of any size and give the answers of the SavedModel's
`serving_default`, for rows that are not finite as well.
"""

import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from qwr_tf.config import quiet
from qwr_tf.config.errors import ConfigError
from qwr_tf.config.gin_files import describe
from qwr_tf.serving import signatures

FLOAT32, INT8 = 'policy_float32.tflite', 'policy_int8.tflite'
ONNX = 'policy.onnx'

_OPSET = 17

# A batch of observations, an array or a nest, to a batch of actions.
Act = Callable[[Any], np.ndarray]


def write_tflite(
  agent, action_space, folder: pathlib.Path, observations: Any
) -> None:
  """Writes a float32 model and one with int8 weights.

  Args:
    observations: [N, ...] or a nest, visited; the int8 model is fit to them.

  Raises:
    ConfigError: if LiteRT is not installed.
  """
  try:
    from qwr_tf.serving import int8_weights
    from qwr_tf.serving import last_layer
  except ImportError as error:
    raise _needs(
      '--format=tflite', 'ai-edge-litert', 'litert', error
    ) from error
  function, module = _mode_function(agent, action_space)
  converter = tf.lite.TFLiteConverter.from_concrete_functions(
    [function.get_concrete_function()], module
  )
  with quiet.errors_only(), quiet.quiet_stderr():
    exact = converter.convert()
    rounded = int8_weights.with_int8_weights(exact)
    rounded = last_layer.refit(rounded, exact, signatures.feed(observations))
  (folder / FLOAT32).write_bytes(exact)
  (folder / INT8).write_bytes(rounded)


def write_onnx(agent, action_space, folder: pathlib.Path) -> None:
  """Writes the ONNX model.

  Raises:
    ConfigError: if tf2onnx is not installed.
  """
  try:
    import tf2onnx
  except ImportError as error:
    raise _needs('--format=onnx', 'tf2onnx', 'onnx', error) from error
  function, _ = _mode_function(agent, action_space)
  with quiet.errors_only(), quiet.quiet_stderr():
    model, _ = tf2onnx.convert.from_function(
      function, function.input_signature, opset=_OPSET
    )
  (folder / ONNX).write_bytes(model.SerializeToString())


def _needs(
  what: object, package: str, extra: str, error: ImportError
) -> ConfigError:
  return ConfigError(
    f'{what} needs {package} ({error}); run `pip install "qwr_tf[{extra}]"`.'
  )


def unreadable(path: pathlib.Path, error: Exception) -> ConfigError:
  """The error for a damaged export."""
  return ConfigError(
    f'{path} cannot be loaded ({describe(error)}); export the policy again.'
  )


def load_tflite(path: pathlib.Path) -> Act:
  """Loads a model into LiteRT's interpreter.

  Raises:
    ConfigError: if LiteRT is not installed, or the file is no model.
  """
  try:
    from ai_edge_litert import interpreter as litert

    from qwr_tf.serving import last_layer
  except ImportError as error:
    raise _needs(path, 'ai-edge-litert', 'litert', error) from error
  try:
    with quiet.errors_only(), quiet.quiet_stderr():
      interpreter = litert.Interpreter(str(path))
      interpreter.allocate_tensors()
  except (RuntimeError, ValueError) as error:
    raise unreadable(path, error) from error
  (output_tensor,) = interpreter.get_output_details()

  def act(observations: Any) -> np.ndarray:
    last_layer.invoke(interpreter, signatures.feed(observations))
    return interpreter.get_tensor(output_tensor['index'])

  return act


def load_onnx(path: pathlib.Path) -> Act:
  """Loads a model into onnxruntime.

  Raises:
    ConfigError: if onnxruntime is not installed, or the file is no model.
  """
  try:
    import onnxruntime
  except ImportError as error:
    raise _needs(path, 'onnxruntime', 'onnx', error) from error
  try:
    session = onnxruntime.InferenceSession(
      str(path), providers=['CPUExecutionProvider']
    )
  except Exception as error:  # Its exceptions have no class in common.
    raise unreadable(path, error) from error

  def act(observations: Any) -> np.ndarray:
    return session.run(['action'], signatures.feed(observations))[0]

  return act


def _mode_function(agent, action_space):
  """(tf.function of the deterministic policy, a module with its variables)."""
  functions = signatures.PolicyFunctions(agent, action_space)
  mode, inputs = signatures.with_entries(agent, functions.mode)
  function = tf.function(mode, input_signature=inputs, autograph=False)
  module = tf.Module()
  module.policy_variables = agent.acting_network.variables
  return function, module
