"""A policy that acts, from an exported SavedModel."""

import pathlib
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from qwr_tf import environments
from qwr_tf import evaluation
from qwr_tf.acting import recording
from qwr_tf.config.errors import ConfigError
from qwr_tf.networks import actors
from qwr_tf.serving import metadata
from qwr_tf.serving import run_policy
from qwr_tf.serving import signatures
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

    def act(observation: Any):
      entries = signatures.feed(observation)
      inputs = run_policy.batch_of_one(self._signatures, entries)
      return serve(**inputs)['action'].numpy()[0], {}

    return act

  def sampler(self, seed: int) -> recording.Policy:
    """The stochastic policy; the n-th sample depends on seed and n alone.

    Raises:
      ConfigError: if the export has the deterministic policy only.
    """
    sample = self._signature('sample')
    distribution = self._signature('distribution')
    numbers = iter(range(2**62))

    def act(observation: Any):
      entries = signatures.feed(observation)
      inputs = run_policy.batch_of_one(self._signatures, entries)
      pair = tf.constant([seed, next(numbers)], tf.int64)
      outputs = distribution(**inputs)
      params = {name: outputs[name].numpy()[0] for name in outputs}
      return sample(**inputs, seed=pair)['action'].numpy()[0], params

    return act

  def distribution(self, observations: Any):
    """The distribution at observations [B, ...], in the agent's units.

    Raises:
      ConfigError: if the export has the deterministic policy only.
    """
    inputs = signatures.feed(observations)
    outputs = self._signature('distribution')(**inputs)
    if 'logits' in outputs:
      logits = outputs['logits']
      kinds = tfp.distributions.Categorical, actors.MultiCategorical
      return kinds[logits.shape.rank == 3](logits=logits)
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
      outputs = self._signature('serving_default')(observation=observations)
    else:
      outputs = self._signature('sample')(
        observation=observations, seed=tf.constant([seed, 1], tf.int64)
      )
    return outputs['action'].numpy()

  def spaces(self) -> evaluation.Spaces:
    """Specs of the policy's observations and actions.

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

  def check_spaces(self, env: gymnasium.Env) -> None:
    """Raises ConfigError for an environment with other spaces.

    Args:
      env: gymnasium's own.
    """
    try:
      run_policy.check_spaces(env, self.metadata)
    except (KeyError, TypeError, ValueError) as error:
      raise ConfigError(f'{self.path}: {error}') from error

  def _signature(self, name: str) -> Callable:
    if name not in self._signatures:
      raise ConfigError(
        f'{self.path} has no signature {name!r}; export it anew, or record '
        'the mode action (--mode_action).'
      )
    return self._signatures[name]
