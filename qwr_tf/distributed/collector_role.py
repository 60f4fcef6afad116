"""The collector: acts with the newest policy and writes its experience."""

import time
from typing import Any

import numpy as np
from absl import logging

from qwr_tf.acting import collect
from qwr_tf.distributed import reverb_client
from qwr_tf.distributed import reverb_server
from qwr_tf.distributed import reverb_writer
from qwr_tf.distributed import role
from qwr_tf.training import experiment

_SECONDS_BETWEEN_LOOKS = 0.05
_MOST_SECONDS_BETWEEN_LOOKS = 1.0
# Every process draws its seed below this, whatever the seed of the run.
_SEEDS = 2**31


class NewestPolicy:
  """The newest policy of a server, copied into a network of this process."""

  def __init__(self, connection: reverb_client.Connection, network):
    """Copies nothing yet."""
    self._connection = connection
    self._variables = reverb_server.acting_variables(network)
    self._writes: int | None = None

  def pull(self, tables: dict[str, Any]) -> bool:
    """Copies the policy if it has changed, and returns whether it has.

    Args:
      tables: the newest answer of `Connection.tables`.
    """
    table = tables[reverb_server.VARIABLES]
    writes = table.rate_limiter_info.insert_stats.completed
    if not table.current_size or writes == self._writes:
      return False
    values = self._connection.read(reverb_server.VARIABLES)
    for variable, value in zip(self._variables, values, strict=True):
      variable.assign(value)
    self._writes = writes
    return True


class Collecting:
  """A collector that stays at most one iteration ahead of the learner."""

  def __init__(
    self,
    parts: role.Role,
    connection: reverb_client.Connection,
    seed: int,
    wait_seconds: float,
  ):
    """Asks and writes nothing yet.

    Args:
      parts: from `role.build`.
      connection: to the server.
      seed: of the sampled actions.
      wait_seconds: for a learner that takes no interactions.
    """
    agent = parts.agent
    self.writer = reverb_writer.WindowWriter(connection, agent.horizon)
    self._connection = connection
    self._newest = NewestPolicy(connection, agent.acting_network)
    self._backlog = env_steps(agent)
    self._collect = collect.Collector(
      parts.env,
      agent,
      self.writer,
      seed=seed,
      env_steps=min(role.CHUNK_ENV_STEPS, self._backlog),
      first_env_steps=None,
      whole_episodes=False,
      update_normalizer=False,
    )
    self._wait_seconds = wait_seconds
    self._last_sign = time.monotonic()

  def step(self) -> bool:
    """Collects a chunk, or waits shortly; False once training has ended.

    Raises:
      UnreachableError: if the server, or the learner, does not come back.
    """
    tables = self._connection.tables()
    if self._newest.pull(tables):
      self._last_sign = time.monotonic()
    if tables[reverb_server.ENDED].current_size:
      return False
    has_policy = tables[reverb_server.VARIABLES].current_size
    if has_policy and tables[reverb_server.ARRIVALS].current_size < (
      self._backlog
    ):
      self._collect()
      self._last_sign = time.monotonic()
    else:
      self._wait()
    return True

  def _wait(self) -> None:
    waited = time.monotonic() - self._last_sign
    if waited > self._wait_seconds:
      raise reverb_client.UnreachableError(
        f'No learner at Reverb server {self._connection.address}: nobody has '
        f'taken interactions for {self._wait_seconds:g} s.'
      )
    # Less often the longer it takes: a thousand may be waiting.
    pause = max(_SECONDS_BETWEEN_LOOKS, 0.1 * waited)
    time.sleep(min(pause, _MOST_SECONDS_BETWEEN_LOOKS))


def env_steps(agent) -> int:
  """Interactions of an iteration: `Collector.env_steps` of the run."""
  return collect.Collector(None, agent, None, seed=0).env_steps


def run(
  settings: experiment.Settings,
  config: str,
  seed: int,
  connection: reverb_client.Connection,
  wait_seconds: float,
  interrupted,
) -> None:
  """Collects until training has ended or a signal interrupts.

  Args:
    settings: of the run.
    config: the run's configuration and seed as text.
    seed: of the run; this process samples with another one.
    connection: to the server.
    wait_seconds: for a learner.
    interrupted: an `interruption.Interruption`.
  """
  process_seed = int(np.random.SeedSequence().generate_state(1)[0]) % _SEEDS
  parts = role.build(settings, seed, process_seed)
  role.check_server(connection, parts.specs, config)
  collecting = Collecting(parts, connection, process_seed, wait_seconds)
  logging.info('collecting for %s', connection.address)
  while not interrupted.requested and collecting.step():
    pass
  print(f'{collecting.writer.interactions} interactions written', flush=True)
