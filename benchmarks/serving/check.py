"""Serves an exported policy with software that is not this project's.

    python -m benchmarks.serving.check --policy=POLICY --onnx=VERSION

onnxruntime under Node and WebAssembly, KServe with
`export/serving/rest_client.py` unchanged, and Triton with batching while the
policy is exchanged. Each gets an environment of its own below --keep, from npm
and PyPI. Answers are compared with those of TensorFlow here. Writes
results/benchmarks/serving.csv. TensorFlow Serving's own server is in neither
registry, and is not tried.
"""

import argparse
import contextlib
import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator, Sequence

import qwr_tf  # noqa: F401 (first: it chooses Keras 2)

# isort: split
import numpy as np
import tensorflow as tf

from export.serving import rest_client
from qwr_tf.runs import atomic_files

_HERE = pathlib.Path(__file__).resolve().parent
_ROOT = _HERE.parents[1]
_RESULTS = _ROOT / 'results' / 'benchmarks' / 'serving.csv'
_COLUMNS = 'server', 'protocol', 'requests', 'wrong', 'seconds', 'note'
_TENSORFLOW = 'tensorflow-cpu==2.15.1'  # That of KServe's and Triton's Python.

_TRITON_CONFIG = """
name: "policy"
backend: "python"
max_batch_size: 64
input [{{ name: "observation" data_type: TYPE_FP32 dims: {shape} }}]
output [
  {{ name: "action" data_type: TYPE_INT32 dims: [1] reshape {{ shape: [] }} }}
]
dynamic_batching {{ max_queue_delay_microseconds: 1000 }}
version_policy {{ latest {{ num_versions: 1 }} }}
"""


def _run(*command: object, **kwargs) -> str:
  return subprocess.run(
    list(map(str, command)),
    check=True,
    text=True,
    stdout=subprocess.PIPE,
    **kwargs,
  ).stdout


def _environment(folder: pathlib.Path, *packages: str) -> pathlib.Path:
  """A Python 3.11 with packages; its interpreter."""
  python = folder / 'bin' / 'python'
  if not (folder / '.done').exists():
    uv = pathlib.Path(sys.executable).with_name('uv')
    system = '/usr/bin/python3.11'
    wanted = system if pathlib.Path(system).exists() else '3.11'
    _run(uv, 'venv', '-q', '--clear', '--python', wanted, folder)
    # Elsewhere: uv would take the versions that pyproject.toml here overrides.
    _run(uv, 'pip', 'install', '-q', '--python', python, *packages, cwd='/')
    (folder / '.done').touch()
  return python


def _free_port() -> int:
  with socket.socket() as s:
    s.bind(('127.0.0.1', 0))
    return s.getsockname()[1]


@contextlib.contextmanager
def _server(*command: object, ready_url: str, **kwargs) -> Iterator[None]:
  """A process, once it answers at a URL; ended at the end."""
  process = subprocess.Popen(list(map(str, command)), **kwargs)
  try:
    _wait(ready_url, process)
    yield
  finally:
    process.terminate()
    try:
      process.wait(60)
    except subprocess.TimeoutExpired:
      process.kill()
      process.wait()


def _onnx(keep, onnx, observations, answers) -> Iterator[dict]:
  """Node and WebAssembly."""
  folder = keep / 'node'
  folder.mkdir(exist_ok=True)
  libraries = 'onnxruntime-node', 'onnxruntime-web'
  if not (folder / 'node_modules').is_dir():
    _run('npm', 'install', '--silent', '--no-audit', '--no-fund',
         '--ignore-scripts', '--prefix', folder, *libraries)  # fmt: skip
  shutil.copy(onnx / 'policy.onnx', folder)
  cases = {
    'shape': observations.shape[1:],
    'observations': observations.reshape(len(observations), -1).tolist(),
    'actions': answers.tolist(),
  }
  (folder / 'cases.json').write_text(json.dumps(cases))
  for library in libraries:
    line = _run('node', _HERE / 'onnx_check.mjs', library, folder, cwd=folder)
    package = folder / 'node_modules' / library / 'package.json'
    version = json.loads(package.read_text())['version']
    yield {
      'server': f'{library} {version}',
      'protocol': 'in process',
      **json.loads(line.splitlines()[-1]),
    }


def _kserve(keep, policy, observations, answers, number) -> Iterator[dict]:
  python = _environment(keep / 'kserve', 'kserve==0.13.1', _TENSORFLOW)
  port = _free_port()
  url = f'http://127.0.0.1:{port}/v1/models/policy'
  log = open(keep / 'kserve.log', 'w')
  with _server(
    python, _HERE / 'kserve_server.py', policy, port, ready_url=url,
    stdout=log, stderr=log,
  ):  # fmt: skip
    wrong, errors = 0, []

    def ask(indices: Sequence[int]) -> None:
      nonlocal wrong
      try:
        for i in indices:
          rows = {'observation': observations[i : i + 1]}
          answer = rest_client.post(url, rest_client.row_request(rows))
          wrong += answer['predictions'] != [int(answers[i])]
      except Exception as error:
        errors.append(error)

    indices = np.arange(number) % len(observations)
    threads = [
      threading.Thread(target=ask, args=(part,))
      for part in np.array_split(indices, 8)
    ]
    start = time.perf_counter()
    for thread in threads:
      thread.start()
    for thread in threads:
      thread.join()
    seconds = time.perf_counter() - start
    if errors:
      raise errors[0]
  yield {
    'server': 'KServe 0.13.1', 'protocol': 'REST, V1', 'requests': number,
    'wrong': wrong, 'seconds': round(seconds, 2),
    'note': 'rest_client.py unchanged, 8 threads',
  }  # fmt: skip


def _triton(
  keep, policies, observations, answers, seconds=5.0
) -> Iterator[dict]:
  """HTTP and gRPC; the policy is exchanged while requests come."""
  python = _environment(keep / 'triton', 'nvidia-pytriton==0.7.0', _TENSORFLOW)
  (site,) = (keep / 'triton').glob('lib/python3.*/site-packages')
  home = site / 'pytriton' / 'tritonserver'
  version = site.parent.name.removeprefix('python')
  models, data = keep / 'models', keep / 'cases'
  for folder in (models, data):
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
  np.save(data / 'observations.npy', observations)
  for i, answer in enumerate(answers):
    np.save(data / f'answers_{i}.npy', answer)
  # The stub of the backend for the environment's Python.
  backends = keep / 'backends'
  if not backends.is_dir():
    shutil.copytree(home / 'backends', backends)
    for stub in (home / 'python_backend_stubs' / version).iterdir():
      shutil.copy(stub, backends / 'python')
  shape = list(observations.shape[1:])

  def add(number: int, policy: pathlib.Path) -> None:
    new = models / 'policy' / str(number)
    hidden = keep / f'new_{number}'
    shutil.rmtree(hidden, ignore_errors=True)
    hidden.mkdir()
    shutil.copy(_HERE / 'triton_model.py', hidden / 'model.py')
    shutil.copytree(policy, hidden / 'policy')
    os.replace(hidden, new)

  (models / 'policy').mkdir()
  (models / 'policy' / 'config.pbtxt').write_text(
    _TRITON_CONFIG.format(shape=shape)
  )
  add(1, policies[0])
  http, grpc, metrics = (_free_port() for _ in range(3))
  path = f'{python.parent}:{os.environ["PATH"]}'
  log = open(keep / 'triton.log', 'w')
  libraries = [site / 'nvidia_pytriton.libs', home / 'lib']
  with _server(
    home / 'bin' / 'tritonserver', f'--model-repository={models}',
    f'--backend-directory={backends}', '--model-control-mode=poll',
    '--repository-poll-secs=1', '--http-address=127.0.0.1',
    '--grpc-address=127.0.0.1', f'--http-port={http}', f'--grpc-port={grpc}',
    f'--metrics-port={metrics}', '--metrics-address=127.0.0.1',
    ready_url=f'http://127.0.0.1:{http}/v2/models/policy/ready',
    stdout=log, stderr=log,
    env={
      **os.environ, 'PATH': path, 'PYTHONPATH': str(site),
      'LD_LIBRARY_PATH': ':'.join(map(str, libraries)),
    },
  ):  # fmt: skip
    client = subprocess.Popen(
      [python, _HERE / 'triton_client.py', data, str(http), str(grpc)],
      stdout=subprocess.PIPE,
      text=True,
    )
    time.sleep(seconds)
    add(2, policies[1])
    base = f'http://127.0.0.1:{http}/v2/models/policy/versions'
    _wait(f'{base}/2/ready')
    time.sleep(seconds)
    (data / 'stop').touch()
    lines, _ = client.communicate()
  for line in lines.splitlines():
    row = json.loads(line)
    old, new = row.pop('old'), row.pop('new')
    yield {
      'server': 'Triton 2.51 (nvidia-pytriton 0.7.0)',
      **row,
      'wrong': row['wrong'] + (not old or not new),
      'note': 'dynamic batching, 4 threads beside 4 of the other protocol, '
      f'policy exchanged meanwhile: {old} answers that only the old policy '
      f'gives, {new} that only the new one gives',
    }


def _wait(url: str, process: subprocess.Popen | None = None) -> None:
  """Returns when something answers at a URL."""
  for _ in range(1200):
    if process is not None and process.poll() is not None:
      raise RuntimeError(f'{process.args} ended with {process.returncode}')
    with contextlib.suppress(OSError):
      urllib.request.urlopen(url, timeout=5).close()
      return
    time.sleep(0.5)
  raise RuntimeError(f'{url} does not answer')


def main() -> None:
  """Tries all of them."""
  parser = argparse.ArgumentParser(description=(__doc__ or '').split('\n')[0])
  folder = dict(required=True, type=pathlib.Path)
  parser.add_argument(
    '--policy', help='versions, of discrete actions', **folder
  )
  parser.add_argument('--onnx', help='a version of the same policy', **folder)
  parser.add_argument('--keep', default='build/serving', type=pathlib.Path)
  parser.add_argument('--requests', type=int, default=2000)
  parser.add_argument('--only', default='onnx,kserve,triton')
  flags = parser.parse_args()
  keep = flags.keep.resolve()
  keep.mkdir(parents=True, exist_ok=True)
  versions = sorted(
    flags.policy.resolve().glob('[0-9]*'), key=lambda p: int(p.name)
  )
  models = [tf.saved_model.load(str(path)).signatures for path in versions]
  shape = (
    models[0]['serving_default']
    .structured_input_signature[1]['observation']
    .shape[1:]
  )
  rng = np.random.default_rng(0)
  observations = rng.normal(0, 0.3, [500, *shape]).astype(np.float32)
  answers = [
    m['serving_default'](observation=tf.constant(observations))[
      'action'
    ].numpy()
    for m in models
  ]
  rows = []
  trials = {
    'onnx': lambda: _onnx(
      keep, flags.onnx.resolve(), observations, answers[-1]
    ),
    'kserve': lambda: _kserve(
      keep, versions[-1], observations, answers[-1], flags.requests
    ),
    'triton': lambda: _triton(
      keep,
      (versions[0], versions[-1]),
      observations,
      (answers[0], answers[-1]),
    ),
  }
  for name in flags.only.split(','):
    for row in trials[name]():
      rows.append(row)
      print(row, flush=True)
  atomic_files.write_csv(_RESULTS, _COLUMNS, rows)
  sys.exit(any(row['wrong'] for row in rows))


if __name__ == '__main__':
  main()
