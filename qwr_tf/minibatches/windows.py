"""Windows of experience [B, T + 1]: steps, masks, n-step transitions."""

import operator

import tensorflow as tf
from tf_agents.trajectories import trajectory
from tf_agents.typing import types

_FIRST = operator.itemgetter((slice(None), 0))
_NEXT = operator.itemgetter((slice(None), slice(1, None)))


def check(
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
  """True where the next state is in the window's first episode, not terminal.

  These states count in F's scale over the minibatch: none of a window that
  starts with a final observation.

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
