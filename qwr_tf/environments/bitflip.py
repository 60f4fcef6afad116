"""BitFlip, the QWR paper's test of covering many actions with few data."""

from typing import Any

import gymnasium
import numpy as np
from gymnasium.envs.registration import EnvSpec

NUM_STEPS = 5
_MAX_BITS = 1_000_000
_PAPER_SIZES = (5, 8, 10, 15, 20, 25, 30)


class BitFlipEnv(gymnasium.Env):
  """N bits, five steps, action i flips bit i: +1 for 0 to 1, -1 for 1 to 0.

  An observation is float32 [N + 1]: the bits, then t / 5 for the t steps taken
  so far, so that all inputs of a network lie in [0, 1]. Starts are uniform
  among the states with at least five zeros; hence the maximum return is 5.

  The fifth step *terminates*: the horizon belongs to the MDP and the clock is
  observed, so beyond it there is no value to bootstrap from. It is not a time
  limit put on a task that would go on.
  """

  metadata: dict[str, Any] = {'render_modes': []}
  max_episode_steps = NUM_STEPS

  def __init__(self, num_bits: int, zero_start: bool = False):
    """Creates the environment.

    Args:
      num_bits: N, at least 5. Optimal play is as easy for any N; covering the
        actions gets harder as it grows.
      zero_start: start with zeros only; the paper does not say where it does.

    Raises:
      ValueError: if there are fewer bits than steps.
    """
    if num_bits < NUM_STEPS:
      raise ValueError(
        f'BitFlip-{num_bits} has fewer than {NUM_STEPS} bits; use '
        f'BitFlip-{NUM_STEPS} or larger'
      )
    self.observation_space = gymnasium.spaces.Box(
      0.0, 1.0, (num_bits + 1,), np.float32
    )
    self.action_space = gymnasium.spaces.Discrete(num_bits)
    self._num_bits = num_bits
    self._zero_start = zero_start
    self._bits = np.zeros(num_bits, np.int64)
    self._num_steps = 0

  def reset(
    self, *, seed: int | None = None, options: dict | None = None
  ) -> tuple[np.ndarray, dict]:
    """Draws a start by rejection; returns the observation and no info."""
    super().reset(seed=seed, options=options)
    self._num_steps = 0
    if self._zero_start:
      self._bits = np.zeros(self._num_bits, np.int64)
      return self._observation(), {}
    while True:
      self._bits = self.np_random.integers(0, 2, self._num_bits)
      if self._num_bits - self._bits.sum() >= NUM_STEPS:
        return self._observation(), {}

  def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict]:
    """Flips a bit.

    Args:
      action: index of the bit, in [0, N - 1].

    Returns:
      Observation, reward, terminated, truncated (never) and no info.

    Raises:
      ValueError: if there is no such bit.
    """
    if not 0 <= action < self._num_bits:
      raise ValueError(f'no bit {action} in BitFlip-{self._num_bits}')
    reward = 1.0 - 2.0 * float(self._bits[action])
    self._bits[action] ^= 1
    self._num_steps += 1
    return self._observation(), reward, self._num_steps == NUM_STEPS, False, {}

  def _observation(self) -> np.ndarray:
    """Returns the bits and the clock, float32 [N + 1]."""
    observation = np.empty(self._num_bits + 1, np.float32)
    observation[:-1] = self._bits
    observation[-1] = self._num_steps / NUM_STEPS
    return observation


def spec(num_bits: int) -> EnvSpec:
  """Describes BitFlip-<N> to gymnasium, whose ids need no version.

  Raises:
    ValueError: for more bits than any network takes.
  """
  if num_bits > _MAX_BITS:
    raise ValueError(f'BitFlip-{num_bits} has more than {_MAX_BITS} bits.')
  return EnvSpec(
    id=f'BitFlip-{num_bits}',
    entry_point='qwr_tf.environments.bitflip:BitFlipEnv',
    kwargs={'num_bits': num_bits},
  )


for _size in _PAPER_SIZES:
  gymnasium.registry.setdefault(f'BitFlip-{_size}', spec(_size))
