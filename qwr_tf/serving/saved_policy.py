"""A policy that acts, from an exported SavedModel."""

import pathlib
import textwrap
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from qwr_tf import environments
from qwr_tf import evaluation
from qwr_tf.acting import recording
from qwr_tf.config.errors import ConfigError
from qwr_tf.networks import actors
from qwr_tf.serving import metadata
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
    return lambda observation: (_only(serve(observation), 'action'), {})

  def sampler(self, seed: int) -> recording.Policy:
    """The stochastic policy; the n-th sample depends on seed and n alone.

    Raises:
      ConfigError: if the export has the deterministic policy only.
    """
    sample = self._signature('sample')
    distribution = self._signature('distribution')
    numbers = iter(range(2**62))

    def act(observation: Any):
      pair = tf.constant([seed, next(numbers)], tf.int64)
      outputs = distribution(observation)
      params = {name: outputs[name].numpy()[0] for name in outputs}
      return _only(sample(observation, seed=pair), 'action'), params

    return act

  def distribution(self, observations: Any):
    """The distribution at observations [B, ...], in the agent's units.

    Raises:
      ConfigError: if the export has the deterministic policy only.
    """
    self._signature('distribution')  # Raises.
    inputs = signatures.feed(observations)
    outputs = self._signatures['distribution'](**inputs)
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
      outputs = self._signatures['serving_default'](observation=observations)
    else:
      self._signature('sample')  # Raises.
      outputs = self._signatures['sample'](
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

  def check_observation(self, env) -> None:
    """Raises ConfigError for an environment with other observations.

    Args:
      env: gymnasium's own.
    """
    wanted = {k: tuple(s.shape[1:]) for k, s in self._inputs().items()}
    spec = environments.observation_spec(env.observation_space)
    shapes = {k: s.shape for k, s in signatures.feed(spec).items()}
    if wanted != shapes:
      raise ConfigError(
        f'{self.path} is for observations {_in_words(wanted)}, {env.spec.id} '
        f'has {_in_words(shapes)}; choose another --env.'
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

  def _inputs(self) -> dict[str, tf.TensorSpec]:
    """The entries of an observation by input."""
    _, inputs = self._signatures['serving_default'].structured_input_signature
    return inputs

  def _signature(self, name: str) -> Callable:
    """A signature that takes one observation."""
    if name not in self._signatures:
      raise ConfigError(
        f'{self.path} has no signature {name!r}; export it anew, or record '
        'the mode action (--mode_action).'
      )
    function, specs = self._signatures[name], self._inputs()

    def answer(observation: Any, **inputs):
      entries = signatures.feed(observation)
      if not all(np.isfinite(x).all() for x in entries.values()):
        raise FloatingPointError(
          f'{self.path}: the environment gave an observation with NaN or Inf.'
        )
      for key, value in entries.items():
        batch = np.asarray(value)[np.newaxis]
        inputs[key] = tf.constant(batch, specs[key].dtype)
      return function(**inputs)

    return answer


def _in_words(shapes: dict[str, tuple[int, ...]]) -> str:
  """'(17,)', or 'goal (3,), time ()'."""
  if [*shapes] == ['observation']:
    return str(shapes['observation'])
  return ', '.join(f'{key} {shape}' for key, shape in sorted(shapes.items()))


def _only(outputs, name: str) -> np.ndarray:
  """The one element of a batch of one."""
  return outputs[name].numpy()[0]
