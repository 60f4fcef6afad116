"""Both clients against a server that translates as TensorFlow Serving does.

No TensorFlow Serving binary can run here. Its part is played by two servers of
a few lines, one per protocol, which turn a request into tensors in the way the
server's documentation says, call the SavedModel's signature, and turn the
outputs back.
"""

import http.server
import json
import pathlib
import re
import sys
import threading
from concurrent import futures

import grpc
import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import text_format
from tensorflow_serving.apis import predict_pb2
from tensorflow_serving.apis import prediction_service_pb2_grpc
from tensorflow_serving.config import model_server_config_pb2

from export.serving import grpc_client
from export.serving import rest_client
from qwr_tf.serving import warmup
from tests.serving import policies

_CONFIGS = pathlib.Path(rest_client.__file__).parent


@pytest.fixture(scope='module', name='run')
def _run(tmp_path_factory):
  folder = tmp_path_factory.mktemp('run')
  run = policies.make_run(folder, 'bitflip.gin', environment='BitFlip-8')
  policies.export(run)
  return run


@pytest.fixture(scope='module', name='signatures')
def _signatures(run):
  return tf.saved_model.load(str(run.folder / 'policy' / '1')).signatures


# REST


def _to_tensors(request, specs):
  """A request's JSON as tensors of the signature's types.

  Row format: a list of instances, each a value or, with several inputs, an
  object. Column format: one value per input; the name of an only input may be
  left out.
  """
  if ('instances' in request) == ('inputs' in request):
    raise ValueError("give one of 'instances' and 'inputs'")
  columns = request.get('inputs')
  if columns is None:
    rows = request['instances']
    if not isinstance(rows[0], dict):
      rows = [{name: row for name in specs} for row in rows]
    columns = {name: [row[name] for row in rows] for name in rows[0]}
  elif not isinstance(columns, dict):
    columns = {name: columns for name in specs}
  if set(columns) != set(specs):
    raise ValueError(f'inputs {sorted(columns)}, not {sorted(specs)}')
  return {k: tf.constant(v, specs[k].dtype) for k, v in columns.items()}


def _to_reply(request, outputs):
  """Rows for rows, columns for columns; an only output goes without name."""
  columns = {name: value.numpy().tolist() for name, value in outputs.items()}
  (only,) = columns.values() if len(columns) == 1 else (None,)
  if 'inputs' in request:
    return {'outputs': columns if only is None else only}
  if only is not None:
    return {'predictions': only}
  rows = zip(*columns.values(), strict=True)
  return {'predictions': [dict(zip(columns, r, strict=True)) for r in rows]}


def _answer(signatures, path, body):
  if path != '/v1/models/policy:predict':
    return 404, {'error': f'Servable not found for request: {path}'}
  try:
    request = json.loads(body)
    name = request.get('signature_name', 'serving_default')
    specs = signatures[name].structured_input_signature[1]
    outputs = signatures[name](**_to_tensors(request, specs))
    return 200, _to_reply(request, outputs)
  except (ValueError, tf.errors.InvalidArgumentError) as error:
    return 400, {'error': str(error)}


@pytest.fixture(scope='module', name='rest_url')
def _rest_url(signatures):
  class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):  # noqa: N802
      body = self.rfile.read(int(self.headers['Content-Length']))
      code, reply = _answer(signatures, self.path, body)
      self.send_response(code)
      self.end_headers()
      self.wfile.write(json.dumps(reply).encode())

    def log_message(self, *arguments):
      pass

  server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler)
  threading.Thread(target=server.serve_forever, daemon=True).start()
  yield f'http://127.0.0.1:{server.server_port}/v1/models/policy'
  server.shutdown()
  server.server_close()


@pytest.mark.slow
@pytest.mark.parametrize(
  'build', [rest_client.row_request, rest_client.column_request]
)
@pytest.mark.parametrize(
  'name', ['serving_default', 'q_values', 'distribution']
)
def test_rest(build, name, run, signatures, rest_url):
  observations = policies.observations(run.agent)
  (only,) = signatures[name].structured_outputs
  reply = rest_client.post(rest_url, build({'observation': observations}, name))
  (found,) = reply.values()  # An only output goes without name.
  expected = signatures[name](observation=tf.constant(observations))
  np.testing.assert_allclose(found, expected[only], rtol=1e-6)


@pytest.mark.slow
def test_rest_samples_with_a_seed(run, signatures, rest_url):
  inputs = {
    'observation': policies.observations(run.agent),
    'seed': np.array([3, 2**40]),
  }
  request = rest_client.column_request(inputs, 'sample')
  reply = rest_client.post(rest_url, request)
  expected = signatures['sample'](
    **{k: tf.constant(v) for k, v in inputs.items()}
  )
  np.testing.assert_array_equal(reply['outputs'], expected['action'])
  with pytest.raises(ValueError, match='zip'):  # A seed has no rows.
    rest_client.row_request(inputs, 'sample')


@pytest.mark.slow
@pytest.mark.parametrize(
  'observation, message',
  [
    (np.zeros([2, 8]), r'400: .*\[2,8\] is not compatible'),
    (np.zeros([2, 9, 1]), r'400: .*\[2,9,1\] is not compatible'),
  ],
)
def test_rest_says_what_is_wrong(observation, message, rest_url):
  request = rest_client.row_request({'observation': observation})
  with pytest.raises(rest_client.ServerError, match=f'(?s){message}'):
    rest_client.post(rest_url, request)


@pytest.mark.parametrize(
  'build', [rest_client.row_request, rest_client.column_request]
)
def test_rest_names_the_row_that_json_cannot_say(build):
  for value in (np.nan, np.inf, -np.inf):
    observations = np.zeros([5, 9], np.float32)
    observations[3, 2] = value
    with pytest.raises(ValueError, match='observation: row 3 '):
      build({'observation': observations})


def test_what_rest_prints_is_json():
  reply = {'outputs': {'action': [[1.5, float('nan')], [float('inf'), 2]]}}
  text = json.dumps(rest_client.strict(reply), allow_nan=False)
  assert json.loads(text) == {'outputs': {'action': [[1.5, None], [None, 2]]}}


@pytest.mark.slow
def test_grpc_answers_the_rows_beside_one_that_is_not_finite(run, grpc_server):
  observations = policies.observations(run.agent, 3)
  expected, broken = (
    grpc_client.predict(
      grpc_server, grpc_client.predict_request({'observation': x})
    )['action']
    for x in (observations, np.where([[0], [1], [0]], np.inf, observations))
  )
  least = np.iinfo(broken.dtype).min
  assert broken.tolist() == [expected[0], least, expected[2]]


@pytest.mark.slow
def test_rest_without_the_model_or_a_server(rest_url):
  request = rest_client.row_request({'observation': np.zeros([1, 9])})
  with pytest.raises(rest_client.ServerError, match='404: Servable not found'):
    rest_client.post(rest_url + 'X', request)
  with pytest.raises(rest_client.ServerError, match='does not answer'):
    rest_client.post('http://127.0.0.1:9/v1/models/policy', request)
  with pytest.raises(rest_client.ServerError, match='does not answer'):
    rest_client.post('http://127.0.0.1:9/v1/models/my policy', request)


@pytest.mark.slow
def test_what_is_no_http_server_is_said(grpc_server):
  url = f'http://{grpc_server}/v1/models/policy'
  request = rest_client.row_request({'observation': np.zeros([1, 9])})
  with pytest.raises(rest_client.ServerError, match='does not answer'):
    rest_client.post(url, request)


# gRPC


class _Service(prediction_service_pb2_grpc.PredictionServiceServicer):
  def __init__(self, signatures):
    self._signatures = signatures

  def Predict(self, request, context):  # noqa: N802
    if request.model_spec.name != 'policy':
      context.abort(grpc.StatusCode.NOT_FOUND, 'Servable not found')
    function = self._signatures[request.model_spec.signature_name]
    inputs = {k: tf.make_ndarray(v) for k, v in request.inputs.items()}
    try:
      outputs = function(**{k: tf.constant(v) for k, v in inputs.items()})
    except (TypeError, tf.errors.InvalidArgumentError) as error:
      context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
    response = predict_pb2.PredictResponse(model_spec=request.model_spec)
    for name, value in outputs.items():
      response.outputs[name].CopyFrom(tf.make_tensor_proto(value))
    return response


@pytest.fixture(scope='module', name='grpc_server')
def _grpc_server(signatures):
  server = grpc.server(futures.ThreadPoolExecutor(1))
  prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(
    _Service(signatures), server
  )
  port = server.add_insecure_port('127.0.0.1:0')
  server.start()
  yield f'127.0.0.1:{port}'
  server.stop(None)


@pytest.mark.slow
@pytest.mark.parametrize(
  'name', ['serving_default', 'sample', 'q_values', 'distribution']
)
def test_grpc(name, run, signatures, grpc_server):
  inputs = {'observation': policies.observations(run.agent)}
  if name == 'sample':
    inputs['seed'] = np.array([3, 2**40])
  request = grpc_client.predict_request(inputs, name, version=1)
  # What is sent is bytes.
  request = predict_pb2.PredictRequest.FromString(request.SerializeToString())
  assert request.model_spec.version.value == 1
  found = grpc_client.predict(grpc_server, request)
  expected = signatures[name](**{k: tf.constant(v) for k, v in inputs.items()})
  assert set(found) == set(expected)
  for key, value in expected.items():
    np.testing.assert_array_equal(found[key], value)


@pytest.mark.slow
def test_grpc_says_what_is_wrong(grpc_server):
  for observation, code in [
    (np.zeros([1, 8], np.float32), 'INVALID_ARGUMENT'),
    (np.zeros([1, 9]), 'INVALID_ARGUMENT'),
  ]:
    request = grpc_client.predict_request({'observation': observation})
    with pytest.raises(grpc.RpcError) as error:
      grpc_client.predict(grpc_server, request)
    assert error.value.code().name == code
    assert error.value.details()


# As commands


@pytest.fixture(name='ask')
def _ask(rest_url, grpc_server, tmp_path, monkeypatch, capsys):
  """Runs a client with files of its arrays: (exit code, stdout, stderr)."""
  places = {
    rest_client: f'--url={rest_url}',
    grpc_client: f'--server={grpc_server}',
  }

  def ask(client, *arguments, **arrays):
    for name, array in arrays.items():
      np.save(tmp_path / name, array)
    files = [f'--{name}={tmp_path / name}.npy' for name in arrays]
    argv = ['client.py', places[client], *files, *arguments]
    monkeypatch.setattr(sys, 'argv', argv)
    return client.run(), *capsys.readouterr()

  return ask


@pytest.mark.slow
@pytest.mark.parametrize('client', [rest_client, grpc_client])
def test_a_client_prints_what_the_server_says(client, ask, run, signatures):
  observations = policies.observations(run.agent, 3)
  code, out, err = ask(client, observations=observations)
  assert (code, err) == (0, '')
  expected = signatures['serving_default'](
    observation=tf.constant(observations)
  )
  numbers = [int(number) for number in re.findall(r'\d+', out)]
  assert numbers == expected['action'].numpy().tolist()
  sampled = ['--signature=sample', '--seed=3,4']
  code, out, _ = ask(client, *sampled, observations=observations)
  assert code == 0
  assert out == ask(client, *sampled, observations=observations)[1]


@pytest.mark.parametrize('client', [rest_client, grpc_client])
def test_inputs_by_name(client, tmp_path):
  entries = {
    'camera': np.zeros([2, 4, 4, 3], np.uint8),
    'joints': np.ones([2, 3], np.float32),
  }
  np.savez(tmp_path / 'observations.npz', **entries)
  inputs = client.arrays(str(tmp_path / 'observations.npz'), 'observation')
  assert inputs.keys() == entries.keys()
  if client is rest_client:
    request = client.row_request(inputs)
    specs = {k: tf.TensorSpec(x.shape, x.dtype) for k, x in entries.items()}
    sent = _to_tensors(json.loads(json.dumps(request)), specs)
  else:
    request = client.predict_request(inputs)
    sent = {k: tf.make_ndarray(x) for k, x in request.inputs.items()}
  for name, value in entries.items():
    np.testing.assert_array_equal(sent[name], value)
    assert sent[name].dtype == value.dtype


@pytest.mark.slow
@pytest.mark.parametrize('client', [rest_client, grpc_client])
def test_a_client_s_errors_are_one_line(client, ask):
  zeros = np.zeros([1, 9], np.float32)
  for arguments, arrays, wanted in [
    (['--observations=nowhere.npy'], {}, 2),
    (['--seed=one'], {'observations': zeros}, 2),
    (
      [f'--seed=1,{2**64}', '--signature=sample'],
      {'observations': zeros},
      {rest_client: 1, grpc_client: 2},
    ),
    ([], {}, 2),
    (['--nonsense'], {'observations': zeros}, 2),
    ([], {'observations': np.float32(0)}, {rest_client: 2, grpc_client: 1}),
    ([], {'observations': zeros[:, 1:]}, 1),
    # This policy's q_values takes observations alone.
    (['--signature=q_values'], {'observations': zeros, 'actions': zeros}, 1),
  ]:
    code, out, err = ask(client, *arguments, **arrays)
    wanted = wanted[client] if isinstance(wanted, dict) else wanted
    assert (code, out) == (wanted, ''), err
    assert err.startswith('error: ') and err.count('\n') == 1


@pytest.mark.slow
@pytest.mark.parametrize('client', [rest_client, grpc_client])
@pytest.mark.parametrize('flag', ['observations', 'actions'])
def test_files_that_hold_no_array(flag, client, ask, tmp_path):
  (tmp_path / 'empty.npy').touch()
  (tmp_path / 'damaged.npz').write_bytes(b'PK\x03\x04')
  np.save(tmp_path / 'objects.npy', np.array([{}]), allow_pickle=True)
  arrays = {'observations': np.zeros([1, 9], np.float32)}
  for name in ('empty.npy', 'damaged.npz', 'objects.npy'):
    code, out, err = ask(client, f'--{flag}={tmp_path / name}', **arrays)
    assert (code, out) == (2, '')
    assert err.startswith(f'error: {tmp_path / name}') and err.count('\n') == 1


# Configuration


def test_the_server_reads_models_config():
  text = (_CONFIGS / 'models.config').read_text()
  config = text_format.Parse(text, model_server_config_pb2.ModelServerConfig())
  (model,) = config.model_config_list.config
  assert model.name == warmup.MODEL_NAME == rest_client.URL.split('/')[-1]
  page = _CONFIGS.parents[1] / 'docs/tutorials/serving.md'
  assert f'policy:{model.base_path}:ro' in page.read_text('utf-8')
  assert model.model_version_policy.latest.num_versions == 2


def test_batching_config_names_batching_parameters():
  # Its proto is no part of tensorflow-serving-api.
  lines = (_CONFIGS / 'batching.config').read_text().splitlines()
  settings = [line for line in lines if not line.startswith('#')]
  scalars = {line.split()[0] for line in settings if '{ value: ' in line}
  assert scalars == {
    'max_batch_size',
    'batch_timeout_micros',
    'max_enqueued_batches',
    'num_batch_threads',
  }
  allowed = [int(line.split(':')[1]) for line in settings if 'allowed' in line]
  assert allowed == sorted(allowed)
  assert f'max_batch_size {{ value: {allowed[-1]} }}' in settings
