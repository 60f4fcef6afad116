"""Windows of experience [B, T + 1]: their steps and masks."""

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
    weights: must be a number, or one for each window; others would broadcast.
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
  """1 for real transitions, 0 for final observations; float [B]."""
  return tf.cast(~steps.is_boundary(), tf.float32)


def bootstrap_mask(experience: trajectory.Trajectory) -> tf.Tensor:
  """Which states after a window's steps count for a scale of the minibatch.

  Those of the episode the window starts in, unless they are terminal, and
  none where the window starts with a final observation.

  Args:
    experience: windows [B, T + 1].

  Returns:
    bool [B, T].
  """
  is_last = tf.cast(experience.is_last()[:, :-1], tf.int32)
  ends_before = tf.cumsum(is_last, axis=1, exclusive=True)
  in_episode = tf.equal(ends_before, 0) & ~experience.is_boundary()[:, :1]
  return in_episode & (experience.discount[:, :-1] > 0)
