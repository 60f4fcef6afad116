"""The collector: an actor that acts with the weights it is called with."""

from qwr_tf.config import startup  # noqa: F401, before TensorFlow.

# isort: split
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import ray
import tensorflow as tf

from qwr_tf.acting import segments
from qwr_tf.config import gin_files
from qwr_tf.distributed import tasks
from qwr_tf.training import experiment


def acting_variables(network: tf.Module) -> list[tf.Variable]:
  """All variables that an acting network reads, its normaliser's too."""
  modules = (network, *network.submodules)
  by_id = {id(v): v for module in modules for v in module.variables}
  return list(by_id.values())


class CollectorActor:
  """A source of segments in a process that Ray started."""

  def __init__(self, task: tasks.Task, number: int):
    """Builds environments and the acting network.

    Args:
      number: of the collector. Its environments' numbers and seeds follow from
        it; a collector that was started anew draws other seeds.
    """
    gin_files.parse_text(task.config)
    settings, seed = experiment.settings(), task.seed
    context = ray.get_runtime_context()
    if context.was_current_actor_reconstructed:
      seed = int(np.random.SeedSequence().generate_state(1)[0]) >> 1
    network, self._source = experiment.collecting_source(
      settings, seed, number, task.is_only_source
    )
    self._variables = acting_variables(network)
    self._begin = self._source.state()
    self._version = -1
    self._last_call = time.monotonic()
    self._is_called = False
    threading.Thread(
      target=self._watch,
      args=[context.current_actor, task.wait_seconds],
      daemon=True,
    ).start()

  def _watch(self, actor, seconds: float) -> None:
    """Ends this actor for good once nobody calls it."""
    while self._is_called or time.monotonic() - self._last_call < seconds:
      time.sleep(min(seconds / 4, 5.0))
    ray.kill(actor, no_restart=True)

  def ready(self) -> None:
    """Returns once the actor is built."""

  def collect(
    self, weights: Sequence[np.ndarray], version: int, env_steps: int
  ) -> tuple[int, segments.Experience]:
    """(version, experience) of a policy.

    Args:
      weights: values of `acting_variables`.
      version: of the weights.
      env_steps: as in `segments.Source`.
    """
    self._is_called = True
    if version != self._version:
      for variable, value in zip(self._variables, weights, strict=True):
        variable.assign(value)
      self._version = version
    try:
      # Its limit is the time of the call.
      return version, self._source.collect(env_steps, lambda *_: None)
    finally:
      self._is_called, self._last_call = False, time.monotonic()

  def state(self) -> dict[str, Any]:
    """As in `segments.Source`."""
    return self._source.state()

  def restore(self, state: Mapping[str, Any] | None) -> None:
    """As in `segments.Source`; None begins new episodes.

    A learner that was started again calls it; its versions count from 0.
    """
    self._version = -1
    self._source.restore(state or self._begin)
