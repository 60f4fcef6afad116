"""A small logged decision problem, for tests of evaluations.

Episodes of three steps; the reward is 1 for the action of the context's sign,
discrete, or falls with the distance from half of the context. Contexts do not
depend on actions, so that values are known.
"""

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from qwr_tf import datasets
from qwr_tf import environments
from qwr_tf import evaluation

STEPS, SCALE = 3, 0.4
_BOX = {'type': 'Box', 'dtype': 'float32'}
OBSERVATION = _BOX | {'shape': [2]}
DISCRETE = {'type': 'Discrete', 'n': 2, 'start': 0}
CONTINUOUS = _BOX | {'shape': [1], 'low': [-1.0], 'high': [1.0]}

FIT = evaluation.Fit(steps=300, members=3, batch_size=64, units=(32,))


def spaces(action=DISCRETE) -> evaluation.Spaces:
  space = environments.space_of(action)
  specs = environments.specs_of(environments.space_of(OBSERVATION), space)
  return evaluation.Spaces(*specs, environments.action_bounds(space))


def policy(slope: float, action=DISCRETE, **kwargs):
  """The higher the slope, the better; 0 acts at random."""

  def distribution(observations):
    context = observations[:, :1]
    if action is DISCRETE:
      return tfp.distributions.Categorical(
        logits=tf.concat([-slope * context, slope * context], axis=-1)
      )
    scale = SCALE * tf.ones_like(context)
    return tfp.distributions.MultivariateNormalDiag(slope * context, scale)

  return evaluation.EvaluatedPolicy(distribution, **kwargs)


def write(
  path, episodes=60, action=DISCRETE, slope=0.0, params=True, reward=None
):
  """Logs a policy; `params` False leaves mu out, a dict replaces it."""
  rng = np.random.default_rng(0)

  def episode():
    observations = rng.normal(size=[STEPS + 1, 2]).astype(np.float32)
    mu = policy(slope, action).distribution(tf.constant(observations))
    # A stateless seed: the log does not depend on TensorFlow's global seed.
    seed = rng.integers(2**31, size=2).astype(np.int32)
    actions = mu.sample(seed=seed).numpy()
    context = observations[:, 0]
    if action is DISCRETE:
      recorded = {'logits': mu.logits.numpy()}
      rewards = (actions > 0) == (context > 0)
    else:
      recorded = {'loc': mu.mean().numpy(), 'scale_diag': mu.stddev().numpy()}
      actions = np.clip(actions, -1.0, 1.0)
      rewards = -np.abs(actions[:, 0] - 0.5 * context)
    rewards = np.asarray(rewards[:-1], float)
    if reward is not None:
      rewards[:] = reward
    over = np.arange(STEPS) == STEPS - 1
    none = np.zeros(STEPS, bool)
    if params is not True:
      recorded = params or {}
    return datasets.Episode(
      observations, actions[:-1], rewards,
      none if reward is not None else over, over, recorded,
    )  # fmt: skip

  datasets.write(path, (episode() for _ in range(episodes)), {})
  return path


def opener(path):
  return lambda: datasets.DataSet(str(path))
