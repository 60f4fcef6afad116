"""A model of Triton's Python backend: `model.py` in a version's folder.

The SavedModel lies beside it, in `policy/`. Triton puts requests together
(dynamic_batching of config.pbtxt); they are answered by one call.
"""

import os

import numpy as np
import tensorflow as tf
import triton_python_backend_utils as utils


class TritonPythonModel:
  """Observation to mode action."""

  def initialize(self, args):
    """Loads the policy of this version."""
    folder = os.path.join(
      args['model_repository'], args['model_version'], 'policy'
    )
    self._act = tf.saved_model.load(folder).signatures['serving_default']

  def execute(self, requests):
    """Answers the requests of a batch."""
    observations = [
      utils.get_input_tensor_by_name(request, 'observation').as_numpy()
      for request in requests
    ]
    outputs = self._act(observation=tf.constant(np.concatenate(observations)))
    actions = outputs['action'].numpy()
    ends = np.cumsum([len(o) for o in observations])[:-1]
    return [
      utils.InferenceResponse([utils.Tensor('action', part)])
      for part in np.split(actions, ends)
    ]
