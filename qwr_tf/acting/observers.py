"""Observers for TF-Agents' drivers."""

from collections.abc import Callable

import tensorflow as tf
from tf_agents.agents import tf_agent
from tf_agents.trajectories import trajectory


def normalizer_observer(
  agent: tf_agent.TFAgent,
) -> Callable[[trajectory.Trajectory], None]:
  """An observer that keeps an agent's observation normaliser up to date.

  `qwr_tf.train` updates it while collecting. In a driver of TF-Agents the
  statistics stay at the identity unless this observer is among those of the
  driver that collects.

  Args:
    agent: a `QwrAgent`, with or without a normaliser.

  Returns:
    A function for `observers=[...]` of Python and TensorFlow drivers: adds the
    observations of a trajectory [*batch, ...] to the statistics.
  """
  normalizer = getattr(agent.acting_network, 'normalizer', None)
  spec = agent.time_step_spec.observation

  def observe(step: trajectory.Trajectory) -> None:
    if normalizer is not None:
      batch = tf.nest.map_structure(
        lambda x, s: tf.reshape(x, [-1, *s.shape]), step.observation, spec
      )
      normalizer.update(batch)

  return observe
