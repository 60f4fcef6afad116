"""Asks a served policy for actions over gRPC; needs tensorflow-serving-api.

    python export/serving/grpc_client.py --observations=observations.npy
        [--server=localhost:8500] [--signature=sample --seed=1,2]
        [--signature=q_values --actions=actions.npy]

`--observations` is an array [B, ...] of the signature's type, or a .npz file of
such arrays by the name of the input; `--actions` is one [B, A]. Prints the
outputs.
"""

import argparse
import os
import sys
import zipfile
from collections.abc import Mapping

os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
os.environ.setdefault('TF_ENABLE_ONEDNN_OPTS', '0')  # It writes a line if on.

import grpc  # noqa: E402
import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402
from tensorflow_serving.apis import predict_pb2  # noqa: E402
from tensorflow_serving.apis import prediction_service_pb2_grpc  # noqa: E402


def predict_request(
  inputs: Mapping[str, np.ndarray],
  signature: str = 'serving_default',
  model: str = 'policy',
  version: int | None = None,
) -> predict_pb2.PredictRequest:
  """A request.

  Args:
    inputs: arrays by name.
    signature: of the SavedModel.
    model: its name in models.config.
    version: None is the newest.
  """
  request = predict_pb2.PredictRequest()
  request.model_spec.name = model
  request.model_spec.signature_name = signature
  if version is not None:
    request.model_spec.version.value = version
  for name, value in inputs.items():
    request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
  return request


def predict(
  server: str, request: predict_pb2.PredictRequest, seconds: float = 10.0
) -> dict[str, np.ndarray]:
  """Sends a request and returns the outputs by name.

  Args:
    server: host:port.
    request: of `predict_request`.
    seconds: to wait.

  Raises:
    grpc.RpcError: what the server says is wrong, or that there is none.
  """
  with grpc.insecure_channel(server) as channel:
    stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
    response = stub.Predict(request, timeout=seconds)
  return {k: tf.make_ndarray(v) for k, v in response.outputs.items()}


def arrays(path: str, name: str) -> dict[str, np.ndarray]:
  """{name: array} of a .npy file; the arrays of an .npz file, by input.

  Raises:
    ValueError: if it is neither, or holds other than numbers.
  """
  try:
    content = np.load(path, allow_pickle=False)
    if isinstance(content, np.ndarray):
      return {name: content}
    return {key: content[key] for key in content.files}
  except (ValueError, EOFError, zipfile.BadZipFile) as error:
    raise ValueError(
      f'{path} is no .npy or .npz file of numbers: {error}'
    ) from error


class _Parser(argparse.ArgumentParser):
  """Says what is wrong in one line."""

  def error(self, message: str):
    raise ValueError(f'{message} (--help lists the flags).')


def main() -> None:
  """Sends one request."""
  parser = _Parser(description=(__doc__ or '').split('\n')[0])
  parser.add_argument('--server', default='localhost:8500')
  parser.add_argument(
    '--observations', required=True, help='a .npy file, or .npz by input'
  )
  parser.add_argument('--actions', help='likewise, for q_values of them')
  parser.add_argument('--signature', default='serving_default')
  parser.add_argument('--seed', help='two whole numbers, for sample: 1,2')
  flags = parser.parse_args()
  inputs = arrays(flags.observations, 'observation')
  if flags.actions:
    inputs |= arrays(flags.actions, 'action')
  if flags.seed:
    numbers = [int(n) for n in flags.seed.split(',')]
    inputs['seed'] = np.array(numbers, np.int64)
  request = predict_request(inputs, flags.signature)
  for name, value in predict(flags.server, request).items():
    print(f'{name}\n{value}')


def run() -> int:
  """Calls main; turns the expected errors into one line and an exit code."""
  try:
    main()
    print(end='', flush=True)
    return 0
  except BrokenPipeError:  # Whoever read has seen enough, `head` for instance.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0
  except grpc.RpcError as error:
    message, code = f'{error.code().name}: {error.details()}', 1
  except (OSError, ValueError, OverflowError) as error:  # Of a file, a number.
    message, code = str(error), 2
  print(f'error: {" ".join(message.split())}', file=sys.stderr)
  return code


if __name__ == '__main__':
  sys.exit(run())
