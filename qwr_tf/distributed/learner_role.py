"""The learner: `qwr_tf.train` with experience from a Reverb server."""

import contextlib
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf
from absl import logging

from qwr_tf.acting import collect
from qwr_tf.distributed import reverb_client
from qwr_tf.distributed import reverb_server
from qwr_tf.distributed import reverb_table
from qwr_tf.distributed import role
from qwr_tf.training import deadlines
from qwr_tf.training import experiment

_SECONDS_BETWEEN_LOOKS = 0.05
_SECONDS_BETWEEN_WATCHES = 2.0
_SECONDS_BETWEEN_MESSAGES = 30.0


class RemoteCollector(collect.Collector):
  """Line 5: takes one iteration's interactions from the collectors.

  Collectors are at most one iteration ahead, so that the ratio of interactions
  to gradient steps is Algorithm 2's, however many collectors there are. All
  waiting is done here and not inside the server, where nothing could end it.
  """

  def __init__(
    self,
    agent,
    connection: reverb_client.Connection,
    specs: dict[str, Any],
    wait_seconds: float,
  ):
    """Takes nothing yet.

    Args:
      agent: whose policy is published and whose normaliser is updated.
      connection: to the server.
      specs: from `reverb_server.signatures`.
      wait_seconds: for the next interaction.

    Raises:
      ValueError: for `Collector.whole_episodes`.
    """
    super().__init__(None, agent, None, seed=0)
    if self._whole_episodes:
      raise ValueError(
        'Collector.whole_episodes needs one collector; many write steps.'
      )
    self._connection = connection
    self._arrivals = reverb_table.Arrivals(
      connection, specs, agent.collect_data_spec
    )
    self._variables = reverb_server.acting_variables(agent.acting_network)
    self._wait_seconds = wait_seconds
    self._policy: tuple[np.ndarray, ...] | None = None  # As published.
    self._writes = 0  # Policies written, by the server's count.
    self._lock = threading.Lock()  # Of the two above.
    self.is_learning = False  # A training phase reads windows.

  @property
  def lost(self) -> int:
    """Interactions that collectors made and the learner never counted."""
    return self._arrivals.lost

  def __call__(self) -> collect.Collected:
    """Publishes the policy, and takes an iteration's interactions."""
    start = time.perf_counter()
    self.is_learning = False
    self.publish()
    wanted, self._next_env_steps = self._next_env_steps, self._env_steps
    taken, returns = 0, []
    while taken < wanted:
      # Collectors write no more than an iteration's interactions ahead.
      count = self._wait(min(wanted - taken, self.env_steps))
      observations, ended = self._arrivals.take(count)
      taken += len(observations)
      returns += ended
      self._normalize(observations)
    self.is_learning = True
    return collect.Collected(taken, returns, time.perf_counter() - start)

  def publish(self) -> None:
    """Writes the newest policy for the collectors."""
    policy = tuple(v.numpy() for v in self._variables)
    with self._lock:
      self._write(policy)

  def publish_again(self, tables: dict[str, Any]) -> None:
    """Writes the same policy again if the server has lost it.

    Args:
      tables: the newest answer of `Connection.tables`.
    """
    with self._lock:
      if self._policy is not None and _writes(tables) < self._writes:
        self._write(self._policy)

  def _write(self, policy: tuple[np.ndarray, ...]) -> None:
    self._connection.write(reverb_server.VARIABLES, policy)
    self._policy = policy
    self._writes = _writes(self._connection.tables())

  def _wait(self, count: int) -> int:
    """Waits until `count` interactions are there; returns it."""
    start = last_message = last_change = time.monotonic()
    seen = -1
    while (waiting := self._waiting()) < count:
      now = time.monotonic()
      if waiting != seen:
        seen, last_change = waiting, now
      if now - last_change > self._wait_seconds:
        raise reverb_client.UnreachableError(
          f'No interactions have arrived for {self._wait_seconds:g} s at '
          f'Reverb server {self._connection.address}: is a collector running?'
        )
      if now - last_message > _SECONDS_BETWEEN_MESSAGES:
        last_message = now
        logging.warning(
          '%d of %d interactions have arrived in %d s.',
          *(waiting, count, now - start),
        )
      time.sleep(_SECONDS_BETWEEN_LOOKS)
    return count

  def _waiting(self) -> int:
    """The number of interactions that wait in the server."""
    tables = self._connection.tables()
    self.publish_again(tables)
    return tables[reverb_server.ARRIVALS].current_size

  def _normalize(self, observations: np.ndarray) -> None:
    normalizer = self._agent.acting_network.normalizer
    if normalizer is not None and len(observations):
      normalizer.update(tf.constant(observations))

  def state(self) -> dict[str, Any]:
    """The counts, for a checkpoint."""
    return {
      'next_env_steps': self._next_env_steps,
      'arrivals': self._arrivals.state(),
    }

  def restore(self, state) -> None:
    """Restores the counts of `state`."""
    self._next_env_steps = state['next_env_steps']
    self._arrivals.restore(state['arrivals'])


def _writes(tables: dict[str, Any]) -> int:
  info = tables[reverb_server.VARIABLES].rate_limiter_info
  return info.insert_stats.completed


class Learner:
  """The experience of a server, for `experiment.build`."""

  def __init__(
    self,
    connection: reverb_client.Connection,
    config: str,
    wait_seconds: float,
  ):
    """Asks nothing yet; arguments as in `collector_role.run`."""
    self._connection = connection
    self._config = config
    self._wait_seconds = wait_seconds
    self._collector: RemoteCollector | None = None

  def experience(self, settings: experiment.Settings, env, agent, seed: int):
    """Replaces `experiment.own_experience`.

    Raises:
      ConfigError: if the server is of another run, or does not answer.
    """
    del env, seed
    role.adapt(settings)
    specs = role.specs_of(agent)
    role.check_server(self._connection, specs, self._config)
    self._collector = RemoteCollector(
      agent, self._connection, specs, self._wait_seconds
    )
    table = reverb_table.ReverbTable(
      self._connection, specs, agent.collect_data_spec
    )
    return table, self._collector, None

  def finish(self) -> None:
    """Ends all roles, and prints the number of lost interactions."""
    if self._collector is None and not self._is_awaited():
      return
    self._connection.write(reverb_server.ENDED, np.bool_(True))
    if self._collector is not None:
      print(f'lost    {self._collector.lost} interactions')

  def _is_awaited(self) -> bool:
    """Whether roles of this run, finished earlier, wait at the server."""
    if self._connection.tables_now() is None:
      return False
    try:
      self._connection.check({}, self._config)
    except reverb_client.MismatchError:
      return False  # They are another run's.
    return True

  @contextlib.contextmanager
  def watched(self) -> Iterator[None]:
    """A thread that ends the process when a phase waits for too long.

    A training phase waits for windows inside one call into TensorFlow, which
    nothing else can end. The thread also writes the policy again when the
    server has come back without it.
    """
    ended = threading.Event()
    thread = threading.Thread(target=self._watch, args=[ended], daemon=True)
    thread.start()
    try:
      yield
    finally:
      ended.set()
      thread.join(1.0)

  def _watch(self, ended: threading.Event) -> None:
    fine = time.monotonic()
    while not ended.wait(_SECONDS_BETWEEN_WATCHES):
      complaint, seconds = self._complaint()
      if not complaint:
        fine = time.monotonic()
      elif time.monotonic() - fine > seconds:
        address = self._connection.address
        deadlines.end_process(
          f'Reverb server {address} {complaint} for {seconds:g} s; the same '
          'command goes on from the last checkpoint.',
          code=1,
        )

  def _complaint(self) -> tuple[str, float]:
    """(what is wrong or '', seconds that it may last)."""
    collector = self._collector
    if collector is None:
      return '', 0.0  # Nothing has been asked yet.
    tables = self._connection.tables_now()
    if tables is None:
      return 'has been away', self._connection.seconds
    if not collector.is_learning:
      return '', 0.0  # It waits by itself.
    with contextlib.suppress(reverb_client.UnreachableError):
      collector.publish_again(tables)
    if tables[reverb_server.EXPERIENCE].current_size:
      return '', 0.0
    return 'has held no windows (is a collector running?)', self._wait_seconds
