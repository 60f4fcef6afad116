"""Scores of a policy: undiscounted returns of whole episodes."""

import numpy as np
from tf_agents.trajectories import time_step as ts

from qwr_tf import numpy_actor


class Evaluator:
  """Plays episodes in an environment of its own."""

  def __init__(self, env, agent, *, seed: int):
    """Gets ready.

    Args:
      env: a PyEnvironment that nothing else steps.
      agent: its actor is evaluated.
      seed: of the sampled actions.
    """
    self._env = env
    self._act = numpy_actor.NumpyActor(agent.actor_network)
    self._rng = np.random.default_rng(seed)

  def returns(self, episodes: int, *, sampled: bool) -> list[float]:
    """Plays and returns one undiscounted return per episode.

    Args:
      episodes: how many, each from a reset to its end.
      sampled: whether actions are sampled; else the distribution's mode acts.
    """
    self._act.refresh()
    rng = self._rng if sampled else None
    return [self._play(rng) for _ in range(episodes)]

  def _play(self, rng: np.random.Generator | None) -> float:
    time_step = self._env.reset()
    total = 0.0
    while time_step.step_type != ts.StepType.LAST:
      action, _ = self._act(time_step.observation, rng)
      time_step = self._env.step(action)
      total += float(time_step.reward)
    return total
