"""Policies to record, and the episodes they play."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tree
from tf_agents.specs import tensor_spec

from qwr_tf import datasets
from qwr_tf import environments
from qwr_tf.config.errors import ConfigError
from qwr_tf.networks import actors
from qwr_tf.networks import categories

# Observation to (action in the environment's units, parameters of mu).
Policy = Callable[[Any], tuple[Any, dict[str, np.ndarray]]]


def random_policy(action_space, seed: int) -> Policy:
  """A policy of uniformly random actions.

  Only for discrete actions does it have parameters of mu.
  """
  action_space.seed(seed)
  params = {}
  if environments.is_integer(action_space):
    spec = tensor_spec.from_spec(environments.action_spec(action_space))
    logits = np.zeros(categories.sizes(spec), np.float32)
    if spec.shape.rank:
      logits = actors.missing_logits(spec)
    params['logits'] = logits
  return lambda _: (action_space.sample(), params)


def play(
  env, policy: Policy, seed: int, max_steps: int = 100_000
) -> Iterator[datasets.Episode]:
  """Yields episodes forever; episode i is reset with seed + i.

  Raises:
    FloatingPointError: for NaN or Inf in a step.
    ConfigError: for a longer episode, or a fault of the environment.
  """
  while True:
    yield _episode(env, policy, seed, max_steps)
    seed += 1


@contextlib.contextmanager
def _faults_in_one_line() -> Iterator[None]:
  """Turns what an environment raises into FaultyEnvironmentError."""
  try:
    yield
  except Exception as error:
    raise environments.FaultyEnvironmentError(
      f'{environments.describe_error(error)}; nothing was written.'
    ) from error


def _episode(
  env, policy: Policy, seed: int, max_steps: int
) -> datasets.Episode:
  flat = environments.observation_map(env.observation_space, raw=True)
  with _faults_in_one_line():
    start, _ = env.reset(seed=seed)
    observation = flat(start)
  observations = [observation]
  actions: list[np.ndarray] = []
  params: list[dict[str, np.ndarray]] = []
  rewards, terminations, truncations = [], [], []
  is_discrete = env.action_space.shape == () and environments.is_integer(
    env.action_space
  )
  over = False
  while not over:
    if len(actions) == max_steps:
      raise ConfigError(
        f'an episode has not ended in {max_steps} steps; nothing was written. '
        'Set --max_episode_steps.'
      )
    action, mu = policy(observation)
    action = np.asarray(action, env.action_space.dtype)
    with _faults_in_one_line():
      raw, reward, terminated, truncated, _ = env.step(
        action.item() if is_discrete else action
      )
      observation = flat(raw)
      rewards.append(np.asarray(reward, float).reshape([]))
      terminations.append(bool(terminated))
      truncations.append(bool(truncated))
    over = terminations[-1] or truncations[-1]
    actions.append(action)
    params.append(mu)
    observations.append(observation)
  params.append(policy(observation)[1])
  episode = datasets.Episode(
    tree.map_structure(lambda *x: np.stack(x), *observations),
    np.stack(actions),
    np.array(rewards),
    np.array(terminations),
    np.array(truncations),
    {name: np.stack([p[name] for p in params]) for name in params[0]},
    seed,
  )
  _check_finite(episode)
  return episode


def _check_finite(episode: datasets.Episode) -> None:
  for name in ('observations', 'actions', 'rewards'):
    arrays = tree.flatten(getattr(episode, name))
    if not all(np.isfinite(x).all() for x in arrays):
      raise FloatingPointError(
        f'NaN or Inf in the {name} of the episode with seed {episode.seed}; '
        'nothing was written.'
      )
