"""Asks a served policy for actions over HTTP; needs NumPy only.

    python export/serving/rest_client.py --observations=observations.npy
        [--url=http://localhost:8501/v1/models/policy]
        [--signature=sample --seed=1,2]
        [--signature=q_values --actions=actions.npy]

`--observations` is an array [B, ...], or a .npz file of such arrays by the name
of the input; `--actions` is one [B, A]. Prints the outputs as JSON. Exit
codes: 0 done, 2 bad input, 1 the server has no answer.
"""

import argparse
import http.client
import json
import os
import sys
import urllib.error
import urllib.request
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np

URL = 'http://localhost:8501/v1/models/policy'


class ServerError(RuntimeError):
  """What the server says is wrong, or that there is none."""


def row_request(
  inputs: Mapping[str, np.ndarray], signature: str = 'serving_default'
) -> dict[str, Any]:
  """A request with one instance per observation.

  Args:
    inputs: by name, all with the same first axis [B].
    signature: of the SavedModel.

  Raises:
    ValueError: for NaN and Inf, which JSON does not have; names the row.
  """
  _check_finite(inputs)
  names = list(inputs)
  rows = zip(
    *(np.asarray(inputs[name]).tolist() for name in names), strict=True
  )
  instances = [dict(zip(names, row, strict=True)) for row in rows]
  return {'signature_name': signature, 'instances': instances}


def column_request(
  inputs: Mapping[str, np.ndarray], signature: str = 'serving_default'
) -> dict[str, Any]:
  """The same with one array per input; the only way to hand in a seed."""
  _check_finite(inputs)
  columns = {name: np.asarray(value).tolist() for name, value in inputs.items()}
  return {'signature_name': signature, 'inputs': columns}


def _check_finite(inputs: Mapping[str, np.ndarray]) -> None:
  for name, value in inputs.items():
    value = np.asarray(value)
    if value.dtype.kind == 'f' and not np.isfinite(value).all():
      row = np.argwhere(~np.isfinite(value))[0][0]
      raise ValueError(
        f'{name}: row {row} holds NaN or Inf, which JSON cannot say; '
        'mend the row, or ask with grpc_client.py.'
      )


def post(url: str, request: Mapping[str, Any], seconds: float = 10.0) -> Any:
  """Sends a request to `<url>:predict`; returns the reply's JSON.

  Args:
    url: of the model, `/versions/<n>` appended for a certain one.
    request: `row_request` or `column_request`.
    seconds: to wait.

  Raises:
    ServerError: with the server's own words where it has some.
  """
  call = urllib.request.Request(
    f'{url}:predict',
    json.dumps(request, allow_nan=False).encode(),
    {'Content-Type': 'application/json'},
  )
  try:
    with urllib.request.urlopen(call, timeout=seconds) as reply:
      return json.load(reply)
  except urllib.error.HTTPError as error:
    text = error.read().decode(errors='replace')
    try:
      text = json.loads(text)['error']
    except (ValueError, KeyError, TypeError):
      pass
    raise ServerError(f'{error.code}: {text}') from error
  except (OSError, http.client.HTTPException) as error:
    raise ServerError(f'{url} does not answer: {error}') from error


def strict(value: Any) -> Any:
  """A reply with None for NaN and Inf, which servers write and JSON lacks."""
  if isinstance(value, dict):
    return {name: strict(part) for name, part in value.items()}
  if isinstance(value, list):
    return [strict(part) for part in value]
  return value if not isinstance(value, float) or np.isfinite(value) else None


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
  parser.add_argument('--url', default=URL)
  parser.add_argument(
    '--observations', required=True, help='a .npy file, or .npz by input'
  )
  parser.add_argument('--actions', help='likewise, for q_values of them')
  parser.add_argument('--signature', default='serving_default')
  parser.add_argument('--seed', help='two whole numbers, for sample: 1,2')
  flags = parser.parse_args()
  inputs = arrays(flags.observations, 'observation')
  if not all(x.ndim for x in inputs.values()):
    raise ValueError(f'{flags.observations} is no array [B, ...].')
  if flags.actions:
    inputs |= arrays(flags.actions, 'action')
  if flags.seed:
    inputs['seed'] = np.array([int(n) for n in flags.seed.split(',')])
  build = column_request if flags.seed else row_request
  reply = post(flags.url, build(inputs, flags.signature))
  print(json.dumps(strict(reply), allow_nan=False))


def run() -> int:
  """Calls main; turns the expected errors into one line and an exit code."""
  try:
    main()
    print(end='', flush=True)
    return 0
  except BrokenPipeError:  # Whoever read has seen enough, `head` for instance.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0
  except ServerError as error:
    message, code = str(error), 1
  except (OSError, ValueError) as error:  # Of a file, or a number that is none.
    message, code = str(error), 2
  print(f'error: {" ".join(message.split())}', file=sys.stderr)
  return code


if __name__ == '__main__':
  sys.exit(run())
