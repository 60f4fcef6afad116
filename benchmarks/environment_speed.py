"""Steps per second of environments, raw and behind the wrapper.

The same actions go to a plain `gymnasium.make` and to `environments.load`,
in turns, because the speed of a shared machine drifts; medians are printed.
Atari's plain environment plays 4 frames per step as well, but nothing is done
to its screen: the ratio there is the price of the preprocessing.

  python -m benchmarks.environment_speed
"""

import statistics
import time
from collections.abc import Callable

import gymnasium
import numpy as np

from qwr_tf import environments

_ENVIRONMENTS = ('HalfCheetah-v4', 'Hopper-v4', 'BitFlip-20', 'ALE/Pong-v5')
_NUM_ROUNDS = 9
_NUM_STEPS = 3000


def raw_steps(name: str) -> Callable[[np.ndarray], None]:
  """Returns a function that steps the plain environment."""
  env = gymnasium.make(gymnasium.spec(name), disable_env_checker=True)
  env.reset(seed=0)

  def run(actions):
    for action in actions:
      _, _, terminated, truncated, _ = env.step(action)
      if terminated or truncated:
        env.reset()

  return run


def wrapped_steps(name: str) -> Callable[[np.ndarray], None]:
  """Returns a function that steps the wrapped environment."""
  env = environments.load(name, seed=0)
  env.reset()

  def run(actions):
    for action in actions:
      env.step(action)  # Resets by itself.

  return run


def random_actions(name: str) -> np.ndarray:
  """Draws actions both can take, [_NUM_STEPS, ...]."""
  spec = environments.load(name).action_spec()
  rng = np.random.default_rng(0)
  if np.issubdtype(spec.dtype, np.integer):
    return rng.integers(0, spec.maximum + 1, _NUM_STEPS, dtype=np.int32)
  return rng.uniform(-1, 1, (_NUM_STEPS, *spec.shape)).astype(np.float32)


def steps_per_second(run, actions) -> float:
  """Times one pass over the actions."""
  start = time.perf_counter()
  run(actions)
  return len(actions) / (time.perf_counter() - start)


def main() -> None:
  """Prints one line per environment."""
  print(f'{"environment":16}{"raw":>10}{"wrapped":>10}{"ratio":>8}')
  for name in _ENVIRONMENTS:
    actions = random_actions(name)
    runs = (raw_steps(name), wrapped_steps(name))
    speeds = np.array(
      [
        [steps_per_second(run, actions) for run in runs]
        for _ in range(_NUM_ROUNDS)
      ]
    )
    raw, wrapped = np.median(speeds, axis=0)
    ratio = statistics.median(speeds[:, 1] / speeds[:, 0])
    print(f'{name:16}{raw:10.0f}{wrapped:10.0f}{ratio:8.2f}')


if __name__ == '__main__':
  main()
