"""Scores of a policy: undiscounted returns of whole episodes."""

from collections.abc import Sequence

import numpy as np
from absl import logging
from tf_agents.trajectories import time_step as ts

from qwr_tf.acting import interrupts

_ENDLESS = (
  'an episode of an evaluation was stopped after %d steps without an end; set '
  'load_environment.max_episode_steps.'
)


class Evaluator:
  """Plays episodes in several environments at once, for their returns."""

  def __init__(self, envs: Sequence, act, *, seed: int):
    """Stores the arguments.

    Args:
      envs: PyEnvironments, used for evaluation only.
      act: a `NumpyActor`, or an object with its `__call__` and `refresh`.
      seed: of the episodes and of the sampled actions.
    """
    self._envs = envs
    self._act = act
    self._seed = seed

  def returns(
    self, episodes: int, *, sampled: bool, number: int = 0
  ) -> list[float]:
    """Undiscounted returns of episodes, sorted by the step they ended at.

    Every episode that begins is counted: counting the first ones to end would
    favour short ones. An episode that goes on beyond the environment's
    `longest_episode` is stopped there, with a warning.

    Args:
      episodes: number of episodes.
      sampled: whether actions are samples; else they are the distribution's
        mode.
      number: of the evaluation. Random numbers depend on it and the seed, not
        on earlier evaluations.

    Raises:
      KeyboardInterrupt: 20 seconds after an interruption was requested.
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
    lengths = [0] * len(envs)
    done: list[float] = []
    while envs:
      interrupts.check()
      actions, _ = self._act(np.stack([s.observation for s in steps]), rng)
      for i in reversed(range(len(envs))):  # So that one can be taken out.
        steps[i] = envs[i].step(actions[i])
        totals[i] += float(steps[i].reward)
        lengths[i] += 1
        if steps[i].step_type != ts.StepType.LAST:
          if lengths[i] < getattr(envs[i], 'longest_episode', np.inf):
            continue
          logging.log_first_n(logging.WARNING, _ENDLESS, 1, lengths[i])
        done.append(totals[i])
        if left:
          steps[i], totals[i], lengths[i] = envs[i].reset(), 0.0, 0
          left -= 1
        else:
          del envs[i], steps[i], totals[i], lengths[i]
    return done
