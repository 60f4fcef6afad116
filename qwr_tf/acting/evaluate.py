"""Scores of a policy: undiscounted returns of whole episodes."""

import numpy as np
import tree
from absl import logging
from tf_agents.trajectories import time_step as ts

from qwr_tf import environments
from qwr_tf.acting import stop_request

_ENDLESS = (
  'an episode of an evaluation was stopped after %d steps without an end; set '
  'load_environment.max_episode_steps.'
)


class Evaluator:
  """Plays episodes in several environments at once, for their returns."""

  def __init__(self, envs, act, *, seed: int):
    """Stores the arguments.

    Args:
      envs: PyEnvironments, used for evaluation only, or an
        `environments.VectorEnvironment`.
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
    if isinstance(self._envs, environments.VectorEnvironment):
      return self._vector_returns(self._envs, episodes, draws, rng)
    envs = list(self._envs[:episodes])
    for env in envs:
      env.seed(int(draws.integers(2**31)))
    left = episodes - len(envs)  # Not begun yet.
    steps = [env.reset() for env in envs]
    totals = [0.0] * len(envs)
    lengths = [0] * len(envs)
    done: list[float] = []
    while envs:
      stop_request.check()
      observations = [s.observation for s in steps]
      batch = tree.map_structure(lambda *x: np.stack(x), *observations)
      actions, _ = self._act(batch, rng)
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

  def _vector_returns(
    self,
    vector: environments.VectorEnvironment,
    episodes: int,
    draws: np.random.Generator,
    rng: np.random.Generator | None,
  ) -> list[float]:
    """`returns` of a vector; all of it is stepped to the last end."""
    seeds = draws.integers(2**31, size=vector.num_envs).tolist()
    now = vector.reset(seeds=seeds)
    is_played = np.arange(vector.num_envs) < episodes
    left = episodes - int(is_played.sum())
    totals, lengths = np.zeros(vector.num_envs), np.zeros(vector.num_envs)
    done: list[float] = []
    while is_played.any():
      stop_request.check()
      is_step = is_played & (now.step_type != ts.StepType.LAST)
      now = vector.step(self._act(now.observation, rng)[0])
      totals += np.where(is_step, now.reward, 0.0)
      lengths += is_step
      is_last = now.step_type == ts.StepType.LAST
      is_endless = ~is_last & (lengths >= vector.longest_episode)
      for i in np.flatnonzero(is_step & (is_last | is_endless)):
        if is_endless[i]:
          logging.log_first_n(logging.WARNING, _ENDLESS, 1, lengths[i])
        done.append(float(totals[i]))
        totals[i] = lengths[i] = 0
        is_played[i] = left > 0
        left -= left > 0
      if is_endless.any():
        now = vector.reset(mask=is_endless)
    return done
