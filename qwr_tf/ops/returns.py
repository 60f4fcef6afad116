"""Windows of experience, their returns, and how critics represent them.

Lambda-returns over windows [B, T + 1] and over whole tables (Algorithm 2, line
13), and representations (lines 13-14): what the outputs of a critic stand for.
A representation says how outputs become values, how F and the Bellman equation
act on them, and what the loss towards a target is. Most critics have one
number per action; an ensemble has several, and a distributional critic the
logits of a distribution.
"""

import dataclasses
import operator
from collections.abc import Callable

import tensorflow as tf
from tf_agents.trajectories import trajectory
from tf_agents.typing import types

from qwr_tf.ops import categorical
from qwr_tf.ops import regression

_FIRST = operator.itemgetter((slice(None), 0))
_NEXT = operator.itemgetter((slice(None), slice(1, None)))


def check_windows(
  experience: trajectory.Trajectory,
  num_steps: int,
  weights: types.Tensor | None = None,
) -> None:
  """Raises ValueError for experience that cannot be learned from.

  Args:
    experience: windows [B, T + 1] that must have mu.
    num_steps: T + 1.
    weights: must be a number, or one for each window; other shapes would
      broadcast silently.
  """
  if not experience.policy_info:
    raise ValueError(
      'experience must have the policy_info that collect_policy writes; '
      'collect with it from the first step on.'
    )
  length = experience.step_type.shape[1]
  if length is not None and length != num_steps:
    raise ValueError(
      f'experience must have {num_steps} steps (horizon + 1), not {length}; '
      f'sample with num_steps={num_steps}.'
    )
  shape = tf.convert_to_tensor(1.0 if weights is None else weights).shape
  if (shape.rank or 0) > 1:
    raise ValueError(
      f'weights must be one number for each window, not of shape {shape}.'
    )


def first_steps(experience: trajectory.Trajectory) -> trajectory.Trajectory:
  """The steps windows start with, [B, T + 1] -> [B]."""
  return tf.nest.map_structure(_FIRST, experience)


def next_steps(experience: trajectory.Trajectory) -> trajectory.Trajectory:
  """The steps after the first, [B, T + 1] -> [B, T]."""
  return tf.nest.map_structure(_NEXT, experience)


def transition_mask(steps: trajectory.Trajectory) -> tf.Tensor:
  """1 for transitions, 0 for rows that only hold a final observation; [B]."""
  return tf.cast(~steps.is_boundary(), tf.float32)


def bootstrap_mask(experience: trajectory.Trajectory) -> tf.Tensor:
  """True where the target bootstraps from the next state.

  That state is not terminal and in the window's first episode. All False for a
  window that starts with a final observation. F's scale over the minibatch is
  taken over the states that are True.

  Args:
    experience: windows [B, T + 1].

  Returns:
    bool [B, T].
  """
  is_last = tf.cast(experience.is_last()[:, :-1], tf.int32)
  ends_before = tf.cumsum(is_last, axis=1, exclusive=True)
  in_episode = tf.equal(ends_before, 0) & ~experience.is_boundary()[:, :1]
  return in_episode & (experience.discount[:, :-1] > 0)


def n_step_transitions(
  steps: trajectory.Trajectory, gamma: float
) -> tuple[trajectory.Trajectory, tf.Tensor]:
  """Windows of T + 1 steps as windows of two with the same target, lambda 1.

  Args:
    steps: windows [B, T + 1]; observations are not used.

  Returns:
    (windows [B, 2] without observations, places [B, 2]). A window holds the
    first step, with the summed reward and the total discount until the episode
    or the window ends, and the step after that; places index the window of
    T + 1 steps.
  """
  is_last = tf.cast(steps.is_boundary()[:, 1:], tf.int32)  # [B, T]
  # The first step, and all others before a final observation.
  counts = tf.equal(tf.cumsum(is_last, axis=1, exclusive=True), 0)
  ends = tf.reduce_sum(tf.cast(counts, tf.int32), axis=1)  # [B], 1 ... T
  past = tf.where(counts, gamma * steps.discount[:, :-1], 1.0)
  before = tf.math.cumprod(past, axis=1, exclusive=True)
  rewards = tf.where(counts, before * steps.reward[:, :-1], 0.0)
  reward = tf.reduce_sum(rewards, axis=1)
  # The agent multiplies by gamma once more.
  discount = tf.math.divide_no_nan(tf.reduce_prod(past, axis=1), gamma)
  places = tf.stack([tf.zeros_like(ends), ends], axis=1)  # [B, 2]
  pairs = tf.nest.map_structure(
    lambda x: tf.gather(x, places, axis=1, batch_dims=1),
    steps._replace(observation=()),
  )
  pairs = pairs._replace(
    reward=tf.stack([reward, pairs.reward[:, 1]], axis=1),
    discount=tf.stack([discount, pairs.discount[:, 1]], axis=1),
  )
  return pairs, places


# Returns.


def lambda_returns(
  rewards: tf.Tensor,
  discounts: tf.Tensor,
  next_values: tf.Tensor,
  is_last: tf.Tensor,
  td_lambda: float,
  bellman: Callable = lambda r, discount, g: r + discount * g,
) -> tf.Tensor:
  """Truncated lambda-returns that stop at episode ends.

  G_j = r_j + discount_j [(1 - lambda) V_{j+1} + lambda G_{j+1}]. At the end of
  the window, and where the episode ends after step j, G_{j+1} = V_{j+1}. The
  weights of the n-step returns sum to one; those of the paper's Eq. 13 as
  printed sum to 1 - lambda^T. T = 1 is the one-step target, lambda = 1 the
  T-step one.

  Args:
    rewards: r_j, float [B, T].
    discounts: gamma (1 - d_j), float [B, T]; zero where step j is terminal, so
      that nothing is bootstrapped there. A time limit keeps its discount.
    next_values: V_{j+1}, float [B, T], or [B, T, ...] for a `bellman` that
      adds rewards to something else than numbers.
    is_last: bool [B, T], True where the episode ends after step j, whether by
      termination or by a time limit.
    td_lambda: lambda in [0, 1].
    bellman: (r [B], discount [B], G [B, ...]) -> r + discount G.

  Returns:
    G, float [B, T], or as next_values.
  """
  horizon = rewards.shape[1]
  if horizon is None:
    raise ValueError('lambda_returns needs a static window length [B, T].')
  if not tf.TensorShape(rewards.shape).is_compatible_with(
    next_values.shape[:2]
  ):
    raise ValueError(
      f'The backup returns values {next_values.shape} for states '
      f'{rewards.shape}: it has to combine the first axis of [n, B, T] alone.'
    )
  returns = [next_values[:, -1]]
  for j in reversed(range(horizon)):
    value = next_values[:, j]
    ends = tf.reshape(is_last[:, j], [-1] + [1] * (value.shape.rank - 1))
    following = tf.where(ends, value, returns[0])
    blend = (1.0 - td_lambda) * value + td_lambda * following
    returns.insert(0, bellman(rewards[:, j], discounts[:, j], blend))
  return tf.stack(returns[:-1], axis=1)


def episode_lambda_returns(
  rewards: tf.Tensor,
  discounts: tf.Tensor,
  next_values: tf.Tensor,
  is_last: tf.Tensor,
  td_lambda: float,
) -> tf.Tensor:
  """Lambda-returns up to the end of each episode, over rows in time order.

  The recursion of `lambda_returns` with no horizon, by prefix doubling: G_j is
  an affine map of G_{j+1}, and after k rounds the map of every row covers 2^k
  rows. 50,000 rows take 16 rounds instead of 50,000 steps.

  Args:
    rewards: r_j, float [N].
    discounts: gamma (1 - d_j), float [N].
    next_values: V_{j+1}, float [N]; the last is the value after the newest row.
    is_last: bool [N], True where the episode ends after row j.
    td_lambda: lambda in [0, 1].

  Returns:
    G, float [N].
  """
  size = tf.shape(rewards)[0]
  rows = tf.range(size)
  ends = is_last | tf.equal(rows, size - 1)
  # G_j = offset_j + slope_j G_{j+1}.
  slopes = tf.where(ends, 0.0, discounts * td_lambda)
  shares = tf.where(ends, 1.0, 1.0 - td_lambda)
  offsets = rewards + discounts * shares * next_values
  span = tf.constant(1)
  while span < size:
    inside = rows + span < size
    later_offsets = tf.where(inside, tf.roll(offsets, -span, 0), 0.0)
    later_slopes = tf.where(inside, tf.roll(slopes, -span, 0), 0.0)
    offsets += slopes * later_offsets
    slopes *= later_slopes
    span *= 2
  return offsets


# Representations.


@dataclasses.dataclass(frozen=True)
class Numbers:
  """One number per action: outputs are values, float [n, ...].

  Attributes:
    value_scale: the loss is divided by its square; outputs are in units of
      return already.
  """

  value_scale: float = 1.0

  def values(self, outputs: tf.Tensor) -> tf.Tensor:
    """Outputs [n, ...] and the critic's own axes -> values, float [n, ...]."""
    return outputs

  def backup(
    self,
    backup_fn: Callable,
    outputs: tf.Tensor,
    log_weights: tf.Tensor,
    batch: regression.Batch,
    seed: tf.Tensor,
  ) -> tf.Tensor:
    """Line 13: F over the outputs for n actions per state.

    Args:
      backup_fn: F, a `backups.Backup`.
      outputs: of the target network, [n, ...] and the critic's own axes.
      log_weights: of the actions, broadcasts to [n, ...].
      batch: the states that count, [...].
      seed: stateless seed, for representations that sample (REM).

    Returns:
      State values in the format of targets, [...] and the critic's own axes.
    """
    return backup_fn(self.values(outputs), log_weights, batch)

  def bellman(
    self, rewards: tf.Tensor, discounts: tf.Tensor, returns: tf.Tensor
  ) -> tf.Tensor:
    """R + discount G; rewards and discounts [B], G in `backup`'s format."""
    return rewards + discounts * returns

  def means(self, td_targets: tf.Tensor) -> tf.Tensor:
    """Targets -> their expected returns, float [...]."""
    return td_targets

  def losses(self, outputs: tf.Tensor, td_targets: tf.Tensor) -> tf.Tensor:
    """Squared error per element (line 14), [n, ...] from targets [n, ...]."""
    errors = tf.math.squared_difference(outputs, td_targets)
    return errors / self.value_scale**2


class Nothing(Numbers):
  """Zero loss, for critics without variables."""

  def losses(self, outputs: tf.Tensor, td_targets: tf.Tensor) -> tf.Tensor:
    """Zeros [n, ...]."""
    return tf.zeros_like(outputs)


@dataclasses.dataclass(frozen=True)
class Minimum(Numbers):
  """The smallest of several critics' numbers, outputs [n, ..., critics]."""

  def values(self, outputs: tf.Tensor) -> tf.Tensor:
    """The minimum, float [n, ...]."""
    return tf.reduce_min(outputs, axis=-1)

  def losses(self, outputs: tf.Tensor, td_targets: tf.Tensor) -> tf.Tensor:
    """The sum of the critics' squared errors towards one target, [n, ...]."""
    errors = super().losses(outputs, td_targets[..., tf.newaxis])
    return tf.reduce_sum(errors, axis=-1)


@dataclasses.dataclass(frozen=True)
class RandomMixture(Numbers):
  """A random convex combination of K heads, outputs [n, ..., K] (REM).

  A minibatch draws one combination: the same weights mix the target network's
  heads in F and the critic's heads in the loss. Values are the plain mean.
  Targets have 1 + K numbers on their last axis: the value, and the K weights
  that mixed it.

  Attributes:
    num_heads: K.
  """

  num_heads: int = 4

  def values(self, outputs: tf.Tensor) -> tf.Tensor:
    """The mean over heads, float [n, ...]."""
    return tf.reduce_mean(outputs, axis=-1)

  def mixture(self, seed: tf.Tensor) -> tf.Tensor:
    """Weights of the heads: uniform numbers over their sum, float [K]."""
    draws = tf.random.stateless_uniform([self.num_heads], seed)
    return draws / tf.reduce_sum(draws)

  def backup(self, backup_fn, outputs, log_weights, batch, seed) -> tf.Tensor:
    """F of a random mixture, and the mixture, [..., 1 + K]."""
    mixture = self.mixture(seed)
    mixed = tf.linalg.matvec(outputs, mixture)  # [n, ...]
    values = backup_fn(mixed, log_weights, batch)[..., tf.newaxis]
    shape = tf.concat([tf.shape(values)[:-1], tf.shape(mixture)], axis=0)
    return tf.concat([values, tf.broadcast_to(mixture, shape)], axis=-1)

  def bellman(self, rewards, discounts, returns) -> tf.Tensor:
    """The Bellman equation of the number; the mixture stays."""
    values = super().bellman(rewards, discounts, returns[..., 0])
    return tf.concat([values[..., tf.newaxis], returns[..., 1:]], axis=-1)

  def means(self, td_targets: tf.Tensor) -> tf.Tensor:
    """Targets without the mixture."""
    return td_targets[..., 0]

  def losses(self, outputs: tf.Tensor, td_targets: tf.Tensor) -> tf.Tensor:
    """Squared errors of the mixture, float [n, ...].

    Plain numbers as targets are compared with the heads' mean.
    """
    if td_targets.shape.rank < outputs.shape.rank:
      return super().losses(self.values(outputs), td_targets)
    mixed = tf.reduce_sum(outputs * td_targets[..., 1:], axis=-1)
    return super().losses(mixed, td_targets[..., 0])


@dataclasses.dataclass(frozen=True, eq=False)
class Categorical(Numbers):
  """A distribution of returns on a grid, outputs are logits [n, ..., atoms].

  A state's distribution mixes those of its n actions with weights dF / dQ: one
  for the best action under the maximum, the actions' weights under the mean, a
  softmax under log-sum-exp. The mixture is then shifted so that its mean is F
  (C51, Bellemare et al. 2017; CRR). Targets are probabilities.

  Attributes:
    atoms: the grid, evenly spaced returns, float [atoms].
  """

  atoms: tf.Tensor = None

  def values(self, outputs: tf.Tensor) -> tf.Tensor:
    """Expected returns, float [n, ...]."""
    return categorical.mean(tf.nn.softmax(outputs), self.atoms)

  def backup(self, backup_fn, outputs, log_weights, batch, seed) -> tf.Tensor:
    """The distribution behind F, float [..., atoms]."""
    probabilities = tf.nn.softmax(outputs)  # [n, ..., atoms]
    q_values = categorical.mean(probabilities, self.atoms)  # [n, ...]
    with tf.GradientTape() as tape:
      tape.watch(q_values)
      values = backup_fn(q_values, log_weights, batch)  # [...]
    shares = tape.gradient(values, q_values)[..., tf.newaxis]
    mixture = tf.reduce_sum(shares * probabilities, axis=0)  # [..., atoms]
    shift = values - categorical.mean(mixture, self.atoms)
    return categorical.project(
      mixture, self.atoms + shift[..., tf.newaxis], self.atoms
    )

  def bellman(self, rewards, discounts, returns) -> tf.Tensor:
    """The distribution of r + discount Z on the same atoms."""
    discounted = discounts[..., tf.newaxis] * self.atoms
    locations = rewards[..., tf.newaxis] + discounted
    return categorical.project(returns, locations, self.atoms)

  def means(self, td_targets: tf.Tensor) -> tf.Tensor:
    """Expected returns, float [...]."""
    return categorical.mean(td_targets, self.atoms)

  def losses(self, outputs: tf.Tensor, td_targets: tf.Tensor) -> tf.Tensor:
    """Cross entropies, float [n, ...]; numbers become point masses."""
    if td_targets.shape.rank < outputs.shape.rank:
      locations = td_targets[..., tf.newaxis]
      certain = tf.ones_like(locations)
      td_targets = categorical.project(certain, locations, self.atoms)
    return tf.nn.softmax_cross_entropy_with_logits(td_targets, outputs)
