"""Collectors that need no TensorFlow, for tests and benchmarks."""

import json
import os
import pathlib
import time

import numpy as np

from qwr_tf.acting import segments


class FakeCollector:
  """Delivers what it was asked for; `task.config` says when it does not.

  The configuration is JSON: the folder for marks, and lists of the collectors
  that are slow, or that once die or hang, or that always raise.
  """

  def __init__(self, task, number):
    self._options = {'slow': [], 'dies': [], 'hangs': [], 'raises': []}
    self._options |= json.loads(task.config)
    self._number = number
    self._count = 0

  def _once(self, what: str) -> bool:
    """Whether this is the first call, of any life, that does so."""
    mark = pathlib.Path(self._options['folder'], f'{what}-{self._number}')
    if self._number not in self._options[what] or mark.exists():
      return False
    mark.touch()
    return True

  def ready(self):
    """Built."""

  def collect(self, weights, version, env_steps):
    """One row: (collector, interactions, first weight)."""
    if self._number in self._options['raises']:
      raise ValueError('a wheel came off')
    if self._number in self._options['slow']:
      time.sleep(0.5)
    if self._once('dies'):
      os._exit(1)
    if self._once('hangs'):
      time.sleep(1000)
    self._count += env_steps
    rows = np.array([[self._number, env_steps, weights[0]]])
    return version, segments.Experience(
      rows, np.ones(1, bool), env_steps, [1.0], {'cut_transitions': 1.0}
    )

  def state(self):
    """The interactions made, and the process."""
    return {'count': self._count, 'process': os.getpid()}

  def restore(self, state):
    """The interactions made."""
    self._count = state['count'] if state else -1
