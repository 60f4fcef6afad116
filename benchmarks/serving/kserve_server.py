"""Serves a SavedModel under KServe: kserve_server.py POLICY PORT.

Needs kserve and tensorflow, not this package. KServe's V1 protocol has
TensorFlow Serving's paths and bodies, so that `export/serving/rest_client.py`
is a client.
"""

import sys

import kserve
import tensorflow as tf


class Policy(kserve.Model):
  """Translates requests in row or column format to a signature."""

  def __init__(self, path: str):
    super().__init__('policy')
    self._signatures = tf.saved_model.load(path).signatures
    self.ready = True

  def predict(self, payload, headers=None):
    """Answers {'signature_name': ..., 'instances' or 'inputs': ...}."""
    signature = self._signatures[
      payload.get('signature_name', 'serving_default')
    ]
    rows = payload.get('instances')
    columns = payload.get('inputs')
    if rows is not None:
      columns = {name: [row[name] for row in rows] for name in rows[0]}
    _, specs = signature.structured_input_signature
    outputs = signature(
      **{
        name: tf.constant(columns[name], specs[name].dtype) for name in columns
      }
    )
    outputs = {name: value.numpy().tolist() for name, value in outputs.items()}
    if rows is None:
      return {'outputs': outputs}
    if len(outputs) == 1:
      return {'predictions': next(iter(outputs.values()))}
    listed = zip(*outputs.values(), strict=True)
    return {
      'predictions': [dict(zip(outputs, row, strict=True)) for row in listed]
    }


if __name__ == '__main__':
  sys.argv, (path, port) = sys.argv[:1], sys.argv[1:]
  server = kserve.ModelServer(
    http_port=int(port), enable_grpc=False, workers=1, enable_docs_url=False
  )
  server.start([Policy(path)])
