"""Checkpoints of version 0.1, whose normaliser summed in float32.

Version 0.2 sums in float64 and keeps the float64 mean apart. The upgraded
copy of a checkpoint has the old sums in the new variables.
"""

import pathlib

import tensorflow as tf
from tensorflow.core.protobuf import trackable_object_graph_pb2

_GRAPH = '_CHECKPOINTABLE_OBJECT_GRAPH'
_SUFFIX = '/.ATTRIBUTES/VARIABLE_VALUE'
_NORMALIZER = {'_count', '_mean', '_sum_of_squares', '_inverse_deviation'}
_EXACT_MEAN = '_exact_mean'


def upgraded(prefix: str, folder: pathlib.Path) -> str:
  """Path prefix of a checkpoint that this version can read.

  Args:
    prefix: path prefix of a TensorFlow checkpoint of either version.
    folder: for the upgraded copy, if one is needed.
  """
  reader = tf.train.load_checkpoint(prefix)
  tensors = {
    name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()
  }
  graph = trackable_object_graph_pb2.TrackableObjectGraph()
  graph.ParseFromString(tensors[_GRAPH])
  old = [node for node in graph.nodes if _is_old_normalizer(node)]
  if not old:
    return prefix
  for node in old:
    children = {child.local_name: child.node_id for child in node.children}
    key = graph.nodes[children['_mean']].attributes[0].checkpoint_key
    exact_key = key.replace(f'/_mean{_SUFFIX}', f'/{_EXACT_MEAN}{_SUFFIX}')
    node.children.add(node_id=len(graph.nodes), local_name=_EXACT_MEAN)
    attribute = graph.nodes.add().attributes.add(name='VARIABLE_VALUE')
    attribute.full_name = 'exact_mean'
    attribute.checkpoint_key = exact_key
    tensors[exact_key] = tensors[key].astype('float64')
    squares = graph.nodes[children['_sum_of_squares']].attributes[0]
    name = squares.checkpoint_key
    tensors[name] = tensors[name].astype('float64')
  tensors[_GRAPH] = graph.SerializeToString()
  path = str(folder / 'upgraded')
  tf.raw_ops.SaveV2(
    prefix=path,
    tensor_names=list(tensors),
    shape_and_slices=[''] * len(tensors),
    tensors=list(tensors.values()),
  )
  return path


def _is_old_normalizer(node) -> bool:
  names = {child.local_name for child in node.children}
  return _NORMALIZER <= names and _EXACT_MEAN not in names
