"""The policy to evaluate, and its log-probabilities of logged actions."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp
from scipy import special
from tf_agents.networks import utils as network_utils
from tf_agents.typing import types

from qwr_tf.datasets import actions as actions_lib
from qwr_tf.networks import actors

_MODE_SCALE = 1e-3  # Deviation that stands for none.


class EvaluatedPolicy(NamedTuple):
  """A policy in the agent's units: actions in [-1, 1], or integers from 0 on.

  Attributes:
    distribution: observations [B, ...] to a Categorical or a
      MultivariateNormalDiag whose samples the environment clips.
    is_deterministic: whether the most likely action is always taken.
    name: for reports.
  """

  distribution: Callable[[tf.Tensor], tfp.distributions.Distribution]
  is_deterministic: bool = False
  name: str = 'policy'


class EvaluatedActor(actors.Actor):
  """The policy in an actor's place; has no weights."""

  def __init__(
    self,
    observation_spec: types.TensorSpec,
    action_spec: types.BoundedTensorSpec,
    policy: EvaluatedPolicy,
    name: str = 'EvaluatedActor',
  ):
    """Takes the specs that all actors take, and the policy."""
    super().__init__(observation_spec, state_spec=(), name=name)
    self._observation_rank = observation_spec.shape.rank
    self._action_spec = action_spec
    self._policy = policy

  def distribution(
    self, observation: tf.Tensor
  ) -> tfp.distributions.Distribution:
    """The policy's distribution at observations with any batch axes."""
    rank = observation.shape.rank - self._observation_rank
    squash = network_utils.BatchSquash(rank)
    policy = self._policy.distribution(squash.flatten(observation))
    if self._action_spec.dtype.is_integer:
      logits = policy.logits_parameter()
      if self._policy.is_deterministic:
        best = tf.one_hot(tf.argmax(logits, axis=-1), logits.shape[-1])
        logits = tf.math.log(tf.maximum(best, 1e-8))
      return tfp.distributions.Categorical(
        logits=squash.unflatten(logits), dtype=self._action_spec.dtype
      )
    loc, scale = policy.mean(), policy.stddev()
    if self._policy.is_deterministic:
      scale = tf.fill(tf.shape(loc), _MODE_SCALE)
    scale = tf.broadcast_to(scale, tf.shape(loc))
    return tfp.distributions.MultivariateNormalDiag(
      squash.unflatten(loc), scale_diag=squash.unflatten(scale)
    )


def parameters(distribution) -> dict[str, np.ndarray]:
  """{'logits'} or {'loc', 'scale_diag'} of an `EvaluatedActor`'s, [B, ...]."""
  if isinstance(distribution, tfp.distributions.Categorical):
    return {'logits': distribution.logits_parameter().numpy()}
  loc = distribution.mean().numpy()
  scale = np.broadcast_to(distribution.stddev().numpy(), loc.shape)
  return {'loc': loc, 'scale_diag': scale}


def log_probs(
  parameters: dict[str, np.ndarray],
  actions: np.ndarray,
  half_widths: np.ndarray | None = None,
) -> np.ndarray:
  """Log-probabilities of logged actions, [N].

  A Gaussian's samples are logged after the environment has clipped them: at a
  bound counts the probability of all that lies beyond it, in between the
  density.

  Args:
    parameters: of one distribution per action: `logits` [N, n]; or `loc` and
      `scale_diag` [N, A]; or `probability` [N] of the action itself, a
      density per unit of the environment if continuous.
    actions: in the agent's units.
    half_widths: of the environment's bounds, [A]: they make densities those of
      the agent's units; None for probabilities.
  """
  at_bound = np.abs(actions) >= actions_lib.AT_BOUND
  if 'probability' in parameters:
    with np.errstate(divide='ignore'):
      logs = np.log(np.asarray(parameters['probability'], np.float64))
    if half_widths is not None:
      logs += np.where(at_bound, 0.0, np.log(half_widths)).sum(axis=-1)
    return logs
  if 'logits' in parameters:
    logs = special.log_softmax(parameters['logits'].astype(np.float64), axis=-1)
    return np.take_along_axis(logs, actions[:, np.newaxis], axis=-1)[:, 0]
  loc, scale = (
    parameters[name].astype(np.float64) for name in ('loc', 'scale_diag')
  )
  side = np.sign(actions)
  z = (actions - loc) / scale
  density = -0.5 * z**2 - np.log(scale) - 0.5 * np.log(2.0 * np.pi)
  beyond = special.log_ndtr((side * loc - 1.0) / scale)
  return np.where(at_bound, beyond, density).sum(axis=-1)


def is_deterministic(parameters: dict[str, np.ndarray]) -> bool:
  """True if a recorded policy took one action only in (nearly) every state."""
  if 'probability' in parameters:
    share = parameters['probability']
  elif 'logits' in parameters:
    share = special.softmax(parameters['logits'], axis=-1).max(axis=-1)
  else:
    return float(np.median(parameters['scale_diag'])) < 2 * _MODE_SCALE
  return float(np.mean(np.asarray(share) > 0.9999)) > 0.99
