"""HalfCheetah-v4 that counts its steps in files which outlive the process.

`benchmarks.counted_environment:CountedHalfCheetah-v4`; a file for each process
in the folder that QWR_TF_STEPS names, in actors of Ray alone.
"""

import mmap
import os
import pathlib
import struct
import sys

import gymnasium

_FOLDER = 'QWR_TF_STEPS'


class _Counter(gymnasium.Wrapper):
  """Adds one to the process's file with every step."""

  def __init__(self, env):
    super().__init__(env)
    path = pathlib.Path(os.environ[_FOLDER], str(os.getpid()))
    path.write_bytes(bytes(8))
    with open(path, 'r+b') as f:
      self._count = mmap.mmap(f.fileno(), 8)
    self._steps = 0

  def step(self, action):
    self._steps += 1
    self._count[:] = struct.pack('<q', self._steps)
    return super().step(action)


def make(**kwargs) -> gymnasium.Env:
  """The environment, counted where a collector steps it."""
  env = gymnasium.make('HalfCheetah-v4', disable_env_checker=True, **kwargs)
  return _Counter(env) if 'default_worker' in sys.argv[0] else env


def counted(folder: pathlib.Path) -> int:
  """Steps of all processes that had this folder."""
  return sum(
    struct.unpack('<q', path.read_bytes())[0] for path in folder.iterdir()
  )


gymnasium.register('CountedHalfCheetah-v4', entry_point=make)
