"""What the outputs of a critic stand for (lines 13-14).

A representation says how outputs become values, how F and the Bellman equation
act on them, and what the loss towards a target is. Most critics have one
number per action; an ensemble has several, and a distributional critic the
logits of a distribution.
"""

import dataclasses
from collections.abc import Callable

import tensorflow as tf

from qwr_tf.ops import categorical
from qwr_tf.ops import regression


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
