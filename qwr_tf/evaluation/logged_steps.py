"""Logged steps beside what the evaluated policy would have done."""

import itertools
import math
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from tf_agents.typing import types

from qwr_tf import datasets
from qwr_tf.config.errors import ConfigError
from qwr_tf.datasets import actions as actions_lib
from qwr_tf.datasets import steps as steps_lib
from qwr_tf.evaluation import estimators
from qwr_tf.evaluation import policies
from qwr_tf.evaluation import support

_SAMPLE = 20_000  # Steps behind the diagnostics of support.


class Logged(NamedTuple):
  """Steps [N] of the episodes that were read.

  Attributes:
    episodes: rewards, log-ratios where mu is known; no values yet.
    terminal: whether a step ended in a terminal state, bool.
    log_pi: log pi(a|s) of the logged actions.
    log_mu: of the policy that acted; None where it is not known.
    sample: some of the steps.
    hardly_taken: see `support.hardly_taken`.
    no_weights: why there is no importance sampling; '' if there is.
  """

  episodes: estimators.Episodes
  terminal: np.ndarray
  log_pi: np.ndarray
  log_mu: np.ndarray | None
  sample: support.Sample
  hardly_taken: float | None
  no_weights: str


def selection(
  data: datasets.DataSet,
  data_spec: types.NestedTensorSpec,
  bounds: actions_lib.Bounds,
  split: datasets.Split,
  max_steps: int,
) -> tuple[datasets.Keep, int]:
  """Held-out episodes with about max_steps steps, and at most how many.

  Of more steps every n-th held-out episode is kept, but at least two.
  """
  if data.steps <= max_steps:
    return split.is_held_out, data.steps
  ends = [
    chunk.terminal | chunk.timeout | chunk.cut
    for chunk in data.logged(data_spec, bounds, (), split.is_held_out)
  ]
  lengths = np.diff(np.flatnonzero(np.concatenate([[], *ends])), prepend=-1)
  every = math.ceil(lengths.sum() / max_steps)
  every = max(1, min(every, len(lengths) - 1))
  held_out = filter(split.is_held_out, itertools.count())
  kept = set(itertools.islice(held_out, 0, len(lengths), every))
  return kept.__contains__, int(lengths[::every].sum())


def read(
  data: datasets.DataSet,
  actor: policies.EvaluatedActor,
  data_spec: types.NestedTensorSpec,
  bounds: actions_lib.Bounds,
  keep: datasets.Keep,
  steps: int,
  seed: int = 0,
) -> Logged:
  """Reads a data set and asks the policy about every step.

  Args:
    data: is closed in the end.
    bounds: of actions in the environment's units.
    keep: the episodes to read.
    steps: at most so many in these.

  Raises:
    ConfigError: if nothing is left to evaluate on, or nothing to learn.
  """
  names, reason = _mu_names(data.recorded)
  is_discrete = data_spec.action.dtype.is_integer
  half_widths = None if is_discrete else _half_widths(bounds)
  stride = max(1, steps // _SAMPLE)
  chunks, count = [], 0
  for chunk in data.logged(data_spec, bounds, names, keep):
    if steps_lib.PROBABILITY in names:
      _check_probability(
        data.path, chunk.dist_params[steps_lib.PROBABILITY], is_discrete
      )
    rows = np.arange(-count % stride, len(chunk.reward), stride)
    chunks.append(_arrays(chunk, actor, half_widths, [seed, count], rows))
    count += len(chunk.reward)
  data.close()
  if not count:
    raise ConfigError(
      f'{data.path} has too few episodes to hold one out; evaluate on all of '
      'them (--held_out_share=1), or log more.'
    )
  arrays = tf.nest.map_structure(lambda *x: np.concatenate(x), *chunks)
  is_first = np.append(True, arrays['ends'][:-1])
  log_mu = arrays['log_mu'] if names else None
  episodes = estimators.Episodes(arrays['reward'], is_first)
  sample = arrays['sample']
  sample = sample._replace(
    probs=tf.nn.softmax(sample.probs).numpy() if sample.probs.size else None,
    episode=episodes.episode[sample.episode],
  )
  _check(data.path, episodes, arrays['terminal'])
  is_density = steps_lib.PROBABILITY in names and not is_discrete
  reason = reason or _refusal(arrays['mu'], arrays['log_mu'], is_density)
  if not reason:
    episodes = episodes._replace(log_ratios=arrays['log_pi'] - log_mu)
  return Logged(
    episodes,
    arrays['terminal'],
    arrays['log_pi'],
    log_mu,
    sample,
    support.hardly_taken(sample, arrays['mu'] if names else None),
    reason,
  )


def _arrays(
  chunk,
  actor: policies.EvaluatedActor,
  half_widths: np.ndarray | None,
  seed: list[int],
  rows: np.ndarray,
) -> dict[str, Any]:
  """The policy's answers at a chunk's steps; `sample` and `mu` of some rows.

  seed[1] is the number of steps before the chunk.
  """
  distribution = actor(tf.constant(chunk.observation))[0]
  pi = policies.parameters(distribution)
  taken = distribution.sample(seed=seed).numpy()
  if taken.dtype.kind == 'f':
    taken = np.clip(taken, -1.0, 1.0)
  mu = chunk.dist_params
  return {
    'reward': chunk.reward.astype(np.float64),
    'terminal': chunk.terminal,
    'ends': chunk.terminal | chunk.timeout | chunk.cut,
    'log_pi': policies.log_probs(pi, chunk.action),
    'log_mu': policies.log_probs(mu, chunk.action, half_widths) if mu else (),
    'sample': support.Sample(
      chunk.observation[rows],
      chunk.action[rows],
      taken[rows],
      pi['logits'][rows] if 'logits' in pi else np.zeros([len(rows), 0]),
      seed[1] + rows,
    ),
    'mu': {name: x[rows] for name, x in mu.items()},
  }


def _mu_names(recorded: set[str]) -> tuple[set[str], str]:
  """Parameters of mu to read, and why there are none."""
  for names in ({'logits'}, {'loc', 'scale_diag'}, {steps_lib.PROBABILITY}):
    if names <= recorded:
      return names, ''
  return set(), 'the data set does not hold what the policy that acted did'


def _half_widths(bounds: actions_lib.Bounds) -> np.ndarray:
  low, high = (bound.ravel() for bound in bounds)
  return np.where(high > low, high / 2.0 - low / 2.0, 1.0)


def _check_probability(path: str, given: np.ndarray, is_discrete: bool) -> None:
  most = 1.0 + 1e-5 if is_discrete else np.inf  # But for rounding.
  wrong = given[(given < 0.0) | (given > most)]
  if len(wrong):
    raise ConfigError(
      f'{path}, probability: {wrong[0]:g} is none; give shares of 1 (of '
      'continuous actions densities), no percentages and no logarithms.'
    )


def _refusal(
  mu: dict[str, np.ndarray], log_mu: np.ndarray, is_density: bool
) -> str:
  if not is_density and policies.is_deterministic(mu):
    return 'the policy that acted was deterministic: other actions have no data'
  if not np.isfinite(log_mu).all():
    return 'the data set gives some of its own actions a probability of zero'
  return ''


def _check(
  path: str, episodes: estimators.Episodes, terminal: np.ndarray
) -> None:
  if episodes.number < 2:
    raise ConfigError(
      f'{path}: one episode alone says nothing of other ones, so that there '
      'is no interval; log more episodes.'
    )
  rewards = episodes.rewards
  if np.ptp(rewards) == 0 and (not terminal.any() or not rewards[0]):
    raise ConfigError(
      f'{path}: all rewards are {rewards[0]:g}: every policy is worth the '
      'same; is the column of rewards right?'
    )
