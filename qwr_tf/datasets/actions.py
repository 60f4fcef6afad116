"""Logged actions as actions of the agent."""

import numpy as np
from scipy import special
from tf_agents.typing import types

# Lowest and highest action, in the environment's units.
Bounds = tuple[np.ndarray, np.ndarray]

AT_BOUND = 1.0 - 1e-6  # Of the agent's actions; but for rounding.


def to_agent(
  action: np.ndarray, bounds: Bounds, spec: types.BoundedTensorSpec
) -> np.ndarray:
  """Actions [N, ...] in the environment's units as actions of the agent.

  Args:
    action: [N, ...] and the bounds' shape; floats out of bounds are clipped.
    bounds: lowest and highest.
    spec: of the agent: integers from 0 on, or floats in [-1, 1]; vectors where
      the environment has matrices.
  """
  low, high = bounds
  dtype = spec.dtype.as_numpy_dtype
  shape = [len(action), *spec.shape]
  if spec.dtype.is_integer:
    return (action - low).astype(dtype).reshape(shape)
  half = np.where(high > low, (high - low) / 2.0, 1.0)
  clipped = np.clip((action - (low + high) / 2.0) / half, -1.0, 1.0)
  return clipped.astype(dtype).reshape(shape)


def unclipped_samples(
  actions: np.ndarray,
  loc: np.ndarray,
  scale: np.ndarray,
  rng: np.random.Generator,
) -> np.ndarray:
  """Samples of a Gaussian mu whose clipped values are the logged actions.

  A replay table holds samples as they were drawn. A sample that was logged at a
  bound lay there or beyond: it is drawn from the Gaussian's tail beyond the
  bound, so that rows have the distribution of rows that a collector makes.

  Args:
    actions: [N, A] in [-1, 1].
    loc: mean [N, A] of mu.
    scale: deviation [A] or [N, A] of mu.

  Returns:
    [N, A] in the actions' dtype; inside the bounds the actions themselves.
  """
  side = np.sign(actions).astype(np.float64)
  to_bound = (1.0 - side * loc) / scale  # In deviations.
  uniform = 1.0 - rng.random(actions.shape)  # In (0, 1].
  # z >= b has probability Phi(-b); in logarithms, as b may be large.
  log_tail = special.log_ndtr(-to_bound) + np.log(uniform)
  beyond = side * (side * loc - special.ndtri_exp(log_tail) * scale)
  samples = np.where(np.abs(actions) >= AT_BOUND, beyond, actions)
  return samples.astype(actions.dtype)
