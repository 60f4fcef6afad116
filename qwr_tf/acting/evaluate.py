"""Scores of a policy: undiscounted returns of whole episodes."""

from collections.abc import Sequence

import numpy as np
from tf_agents.trajectories import time_step as ts


class Evaluator:
  """Plays episodes in environments of its own, one in each at a time."""

  def __init__(self, envs: Sequence, act, *, seed: int):
    """Gets ready.

    Args:
      envs: PyEnvironments that nothing else steps.
      act: a `NumpyActor`, or what acts and refreshes like one.
      seed: of the episodes and of the sampled actions.
    """
    self._envs = envs
    self._act = act
    self._seed = seed

  def returns(
    self, episodes: int, *, sampled: bool, number: int = 0
  ) -> list[float]:
    """Plays and returns one undiscounted return per episode.

    Every episode that begins is counted: to take the first ones that end
    would favour the short ones.

    Args:
      episodes: how many, each from a reset to its end.
      sampled: whether actions are sampled; else the distribution's mode acts.
      number: of the evaluation. All that is random comes from it and the
        seed, nothing from evaluations before.

    Returns:
      Returns in the order in which the episodes ended.
    """
    self._act.refresh()
    draws = np.random.default_rng([self._seed, number, sampled])
    rng = draws if sampled else None
    envs = list(self._envs[:episodes])
    for env in envs:
      env.seed(int(draws.integers(2**31)))
    left = episodes - len(envs)  # Not begun yet.
    steps = [env.reset() for env in envs]
    totals = [0.0] * len(envs)
    done: list[float] = []
    while envs:
      actions, _ = self._act(np.stack([s.observation for s in steps]), rng)
      for i in reversed(range(len(envs))):  # So that one can be taken out.
        steps[i] = envs[i].step(actions[i])
        totals[i] += float(steps[i].reward)
        if steps[i].step_type != ts.StepType.LAST:
          continue
        done.append(totals[i])
        if left:
          steps[i], totals[i] = envs[i].reset(), 0.0
          left -= 1
        else:
          del envs[i], steps[i], totals[i]
    return done
