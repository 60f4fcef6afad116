"""Warm-up requests, which TensorFlow Serving runs before it is ready."""

import pathlib
from collections.abc import Mapping

import numpy as np
import tensorflow as tf

try:
  from tensorflow_serving.apis import predict_pb2
  from tensorflow_serving.apis import prediction_log_pb2
except ImportError:  # The extra `serving`.
  predict_pb2 = prediction_log_pb2 = None

FILE = 'tf_serving_warmup_requests'

# In TensorFlow Serving's files; the name in export/serving/models.config.
MODEL_NAME = 'policy'


def write(
  folder: pathlib.Path, requests: Mapping[str, Mapping[str, np.ndarray]]
) -> None:
  """Writes one PredictionLog per signature as a TFRecord file.

  Args:
    folder: the export's assets.extra.
    requests: inputs by name, by signature.
  """
  with tf.io.TFRecordWriter(str(folder / FILE)) as writer:
    for signature, inputs in requests.items():
      writer.write(_log(signature, inputs).SerializeToString())


def _log(signature: str, inputs: Mapping[str, np.ndarray]):
  request = predict_pb2.PredictRequest()
  request.model_spec.name = MODEL_NAME
  request.model_spec.signature_name = signature
  for name, value in inputs.items():
    request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
  return prediction_log_pb2.PredictionLog(
    predict_log=prediction_log_pb2.PredictLog(request=request)
  )
