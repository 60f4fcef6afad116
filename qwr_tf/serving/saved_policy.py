"""A policy that acts, from an exported SavedModel."""

import pathlib
import textwrap
from collections.abc import Callable

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from qwr_tf import environments
from qwr_tf import evaluation
from qwr_tf.acting import recording
from qwr_tf.config.errors import ConfigError
from qwr_tf.serving import metadata
from qwr_tf.serving import versions


class SavedPolicy:
  """An exported policy."""

  def __init__(self, path: pathlib.Path):
    """Loads a version, or the newest one of a folder of versions.

    Raises:
      ConfigError: if the folder holds none, or it cannot be read.
    """
    self.path = versions.newest(path)
    self.metadata = metadata.read(self.path)
    try:
      self._model = tf.saved_model.load(str(self.path))
      self._signatures = self._model.signatures
    except (OSError, ValueError, LookupError, tf.errors.OpError) as error:
      reason = ' '.join(str(error).split())
      raise ConfigError(f'{self.path} cannot be read: {reason}') from error

  def mode(self) -> recording.Policy:
    """The deterministic policy, which has no parameters to log."""
    serve = self._signature('serving_default')
    return lambda observation: (_only(serve(observation), 'action'), {})

  def sampler(self, seed: int) -> recording.Policy:
    """The stochastic policy; the n-th sample depends on seed and n alone.

    Raises:
      ConfigError: if the export has the deterministic policy only.
    """
    sample = self._signature('sample')
    distribution = self._signature('distribution')
    numbers = iter(range(2**62))

    def act(observation: np.ndarray):
      pair = tf.constant([seed, next(numbers)], tf.int64)
      outputs = distribution(observation)
      params = {name: outputs[name].numpy()[0] for name in outputs}
      return _only(sample(observation, seed=pair), 'action'), params

    return act

  def distribution(self, observations: tf.Tensor):
    """The distribution at observations [B, ...], in the agent's units.

    Raises:
      ConfigError: if the export has the deterministic policy only.
    """
    self._signature('distribution')  # Raises.
    outputs = self._signatures['distribution'](observation=observations)
    if 'logits' in outputs:
      return tfp.distributions.Categorical(logits=outputs['logits'])
    if {'loc', 'scale_diag'} <= set(outputs):
      return tfp.distributions.MultivariateNormalDiag(
        outputs['loc'], outputs['scale_diag']
      )
    raise ConfigError(
      f'{self.path}: a distribution of {", ".join(sorted(outputs))} cannot be '
      'evaluated; Categorical and Gaussian ones can.'
    )

  def actions(
    self, observations: tf.Tensor, seed: int, mode: bool = False
  ) -> np.ndarray:
    """Sampled or most likely actions for [B, ...], as the environment's."""
    if mode:
      outputs = self._signatures['serving_default'](observation=observations)
    else:
      self._signature('sample')  # Raises.
      outputs = self._signatures['sample'](
        observation=observations, seed=tf.constant([seed, 1], tf.int64)
      )
    return outputs['action'].numpy()

  def spaces(self) -> evaluation.Spaces:
    """What the policy observes and does.

    Raises:
      ConfigError: if metadata.json does not say it.
    """
    try:
      observation, action = (
        environments.space_of(self.metadata[name])
        for name in ('observation_space', 'action_space')
      )
      time_step, action_spec = environments.specs_of(observation, action)
      bounds = environments.action_bounds(action)
      return evaluation.Spaces(time_step, action_spec, bounds)
    except (KeyError, ValueError) as error:
      raise ConfigError(f'{self.path}: {error}') from error

  def check_observation(self, shape: tuple[int, ...], environment: str) -> None:
    """Raises ConfigError for observations of another shape."""
    wanted = self._observation('serving_default').shape[1:]
    if tuple(wanted) != tuple(shape):
      raise ConfigError(
        f'{self.path} is for observations {tuple(wanted)}, {environment} has '
        f'{tuple(shape)}; choose another --env.'
      )

  def check_actions(self, env) -> None:
    """Raises ConfigError for an environment with other actions.

    Args:
      env: gymnasium's own.
    """
    wanted = self.metadata.get('action_space')
    if wanted != environments.describe(env)['action_space']:
      raise ConfigError(
        f'{self.path} is for the action_space '
        f'{textwrap.shorten(str(wanted), 150)}, {env.spec.id} has '
        f'{textwrap.shorten(str(env.action_space), 150)}; choose another --env.'
      )

  def _observation(self, name: str) -> tf.TensorSpec:
    _, inputs = self._signatures[name].structured_input_signature
    return inputs['observation']

  def _signature(self, name: str) -> Callable:
    """A signature that takes one observation."""
    if name not in self._signatures:
      raise ConfigError(
        f'{self.path} has no signature {name!r}; export it anew, or record '
        'the mode action (--mode_action).'
      )
    function, dtype = self._signatures[name], self._observation(name).dtype

    def answer(observation: np.ndarray, **inputs):
      if not np.isfinite(observation).all():
        raise FloatingPointError(
          f'{self.path}: the environment gave an observation with NaN or Inf.'
        )
      batch = tf.constant(np.asarray(observation)[np.newaxis], dtype)
      return function(observation=batch, **inputs)

    return answer


def _only(outputs, name: str) -> np.ndarray:
  """The one element of a batch of one."""
  return outputs[name].numpy()[0]
