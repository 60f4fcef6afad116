"""An environment in a process of its own, which never imports TensorFlow.

TensorFlow 2.19 and later crash beside Mesa's software renderer, with which
MuJoCo draws on machines without a GPU: both bring an LLVM.
"""

import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import cloudpickle
import gymnasium

_SERVE = 'from qwr_tf.environments import remote; remote.serve()'
_ATTRIBUTES = (
  'observation_space',
  'action_space',
  'metadata',
  'render_mode',
  'spec',
)


class RemoteEnv(gymnasium.Env):
  """Passes its calls on to an environment in a new process."""

  def __init__(self, make: Callable[[], gymnasium.Env]):
    """Makes the environment.

    Args:
      make: is called in the new process, and imports no TensorFlow.

    Raises:
      Exception: what `make` raises.
    """
    self._process: Any = subprocess.Popen(
      [sys.executable, '-c', _SERVE],
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      env={**os.environ, 'PYTHONPATH': os.pathsep.join(sys.path)},
    )
    self.__dict__.update(self._answer(make))

  def reset(self, *, seed=None, options=None):
    """See `gymnasium.Env`, as for the next three."""
    return self._answer(('reset', (), {'seed': seed, 'options': options}))

  def step(self, action):  # noqa: D102
    return self._answer(('step', (action,), {}))

  def render(self):  # noqa: D102
    return self._answer(('render', (), {}))

  def close(self):  # noqa: D102
    if not self._process.stdin.closed:
      self._process.stdin.close()  # Ends the process.
      self._process.wait()

  def __del__(self):
    self.close()

  def _answer(self, request: Any) -> Any:
    try:
      cloudpickle.dump(request, self._process.stdin)
      self._process.stdin.flush()
      error, answer = cloudpickle.load(self._process.stdout)
    except (BrokenPipeError, EOFError):
      raise RuntimeError(
        'the process of the environment ended with exit code '
        f'{self._process.wait()}'
      ) from None
    if error:
      raise error
    return answer


def serve() -> None:
  """Answers the requests on the standard input until it is closed."""
  answers = os.fdopen(os.dup(1), 'wb')
  os.dup2(2, 1)  # What the environment prints is no answer.
  env: Any = None
  while True:
    try:
      request = cloudpickle.load(sys.stdin.buffer)
    except (EOFError, KeyboardInterrupt):
      if env is not None:
        env.close()
      return
    try:
      if env is None:
        env = request()
        answer = {name: getattr(env, name) for name in _ATTRIBUTES}
      else:
        name, args, kwargs = request
        answer = getattr(env, name)(*args, **kwargs)
      reply = cloudpickle.dumps((None, answer))
    except Exception as error:
      reply = cloudpickle.dumps((error, None))
    answers.write(reply)
    answers.flush()
