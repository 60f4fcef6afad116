"""The learner's source of experience: segments from actors of Ray."""

import contextlib
import hashlib
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, NamedTuple

import ray
from absl import flags
from absl import logging
from ray import exceptions

from qwr_tf.acting import segments
from qwr_tf.acting import stop_request
from qwr_tf.acting.segments import Experience
from qwr_tf.config import startup
from qwr_tf.distributed import collector_actor
from qwr_tf.distributed import ray_flags
from qwr_tf.distributed import tasks

# Failures one after the other, of all collectors, without any interaction.
MAX_FAILURES = 20
_SECONDS_BETWEEN_LOOKS = 1.0
_SECONDS_BETWEEN_STARTS = 0.1
_SECONDS_BETWEEN_MESSAGES = 30.0


class NoCollectorsError(RuntimeError):
  """No interactions come any more."""


class _Call(NamedTuple):
  """A call of a collector: number, interactions, place, when it is late."""

  number: int
  env_steps: int
  place: int
  deadline: float


class RaySource:
  """A source whose segments come back by reference, in a bounded number.

  A collector has at most one call: what waits in the object store is at most
  one iteration's interactions. A call that fails, or takes too long, is made
  again by the next collector that is free; a collector that was lost is
  started anew by Ray and takes part again once it is ready.

  Attributes:
    collector_seconds: for the start of a collector, and for a call.
    lost: interactions of calls that failed.
  """

  def __init__(
    self,
    network,
    task: tasks.Task,
    name: str,
    *,
    asynchronous: bool = False,
    collector_cpus: float = 1.0,
    collector_seconds: float = 600.0,
    actor_class: type = collector_actor.CollectorActor,
  ):
    """Starts the collectors, or finds those of a learner that died.

    Args:
      network: acts; its variables are broadcast once per iteration.
      task: of the collectors.
      name: of the run in the cluster.
      asynchronous: whether collectors go on during the gradient steps.
      collector_cpus: cores that Ray keeps for each.
      collector_seconds: see above.
      actor_class: a `CollectorActor`, or a substitute.
    """
    self._task = task
    self._variables = collector_actor.acting_variables(network)
    self._asynchronous = asynchronous
    self.collector_seconds = collector_seconds
    self._handles: list[Any] = [
      ray.remote(actor_class)
      .options(
        name=f'{name}-{number}',
        namespace='qwr_tf',
        get_if_exists=True,
        lifetime='detached',
        max_restarts=-1,
        num_cpus=collector_cpus,
        scheduling_strategy='SPREAD',
        runtime_env={
          'env_vars': startup.ENVIRONMENT
          | {
            'CUDA_VISIBLE_DEVICES': '-1',
            'OMP_NUM_THREADS': '1',
            'TF_NUM_INTRAOP_THREADS': '1',
            'TF_NUM_INTEROP_THREADS': '1',
          }
        },
      )
      .remote(task, number)
      for number in range(task.num_collectors)
    ]
    self._starting: dict[Any, int] = {}
    for number in range(task.num_collectors):
      self._start(number)
    self._ready: set[int] = set()  # Without a call.
    self._calls: dict[Any, _Call] = {}
    self._has_begun = False
    self._version = 0
    self._weights: Any = None
    self._surplus = 0  # Interactions taken beyond those asked for.
    self._failures = 0
    self.lost = 0

  def collect(
    self, env_steps: int, check_fn: Callable[[int, int], None]
  ) -> Experience:
    """As in `segments.Source`; check_fn is not called.

    Raises:
      NoCollectorsError: if none comes within `wait_seconds`, or all fail.
      Exception: what the environment or the agent of a collector raised.
    """
    del check_fn
    self._version += 1
    # A copy, which the next gradient step does not change.
    self._weights = ray.put([v.numpy() for v in self._variables])
    lost = self.lost
    self._wait_for_start()
    wanted = env_steps - self._surplus
    run = self._run_ahead if self._asynchronous else self._run_shares
    arrived = run(wanted) if wanted > 0 else []
    experience = segments.join([part for _, part in arrived])
    if self._asynchronous:
      self._surplus += experience.interactions - env_steps
    lags = [self._version - version for version, _ in arrived]
    experience.metrics |= {
      'lost_interactions': float(self.lost - lost),
      'policy_lag': sum(lags) / max(len(lags), 1),
      'policy_lag_max': float(max(lags, default=0)),
    }
    return experience

  def _run_shares(self, env_steps: int) -> list[tuple[int, Experience]]:
    """Results of one call of every collector, in their order."""
    numbers = sorted(self._ready)[:env_steps]
    share, rest = divmod(env_steps, len(numbers))
    todo = {i: share + (i < rest) for i in range(len(numbers))}
    arrived: dict[int, tuple[int, Experience]] = {}
    for place, number in enumerate(numbers):
      self._call(number, todo[place], place)
    failed: list[int] = []
    while len(arrived) < len(numbers):
      for call, result in self._next():
        if result is None:
          failed.append(call.place)
        else:
          arrived[call.place] = result
      while failed and self._ready:
        place = failed.pop()
        self._call(min(self._ready), todo[place], place)
    return [arrived[place] for place in sorted(arrived)]

  def _run_ahead(self, env_steps: int) -> list[tuple[int, Experience]]:
    """Results in the order of arrival; every collector is called again."""
    share = -(-env_steps // self._task.num_collectors)
    arrived: list[tuple[int, Experience]] = []
    count = 0
    while True:
      for number in sorted(self._ready):
        self._call(number, share, number)
      if count >= env_steps:
        return arrived
      for _, result in self._next():
        if result is not None:
          arrived.append(result)
          count += result[1].interactions

  def _call(self, number: int, env_steps: int, place: int) -> None:
    self._ready.remove(number)
    reference = self._handles[number].collect.remote(
      self._weights, self._version, env_steps
    )
    deadline = time.monotonic() + self.collector_seconds
    self._calls[reference] = _Call(number, env_steps, place, deadline)

  def _start(self, number: int) -> None:
    self._starting[self._handles[number].ready.remote()] = number

  def _wait_for_start(self) -> None:
    """Waits for collectors: at first for all of them, later for one."""
    end = time.monotonic() + self.collector_seconds
    self._look(0.0)
    if not self._has_begun:
      self._has_begun = True
      while self._starting and time.monotonic() < end:
        self._look(_SECONDS_BETWEEN_LOOKS)
      if self._starting:
        logging.warning(
          '%d of %d collectors have not started in %g s; the others begin.',
          *(len(self._starting), len(self._handles), self.collector_seconds),
        )
    for _ in self._waiting(lambda: self._ready or self._calls):
      self._look(_SECONDS_BETWEEN_LOOKS)

  def _look(self, seconds: float) -> None:
    """Waits up to `seconds` for starting collectors and marks ready ones."""
    stop_request.check()
    if not self._starting:
      return
    restarting = []
    for reference in _ended(self._starting, seconds):
      number = self._starting.pop(reference)
      try:
        ray.get(reference)
        self._ready.add(number)
      except exceptions.ActorUnavailableError:
        restarting.append(number)
      except exceptions.RayError as error:
        self._fail(number, error)
    if restarting:  # Ray answers at once until their processes are there.
      time.sleep(min(seconds, _SECONDS_BETWEEN_STARTS))
    for number in restarting:
      self._start(number)

  def _next(self) -> Iterator[tuple[_Call, tuple[int, Experience] | None]]:
    """Calls that have ended with their results; None: it failed.

    Returns without any once another collector is ready.
    """
    before = set(self._ready)
    for _ in self._waiting(lambda: self._ready - before):
      ready: list[Any] = []
      if self._calls:
        ready = _ended(self._calls, _SECONDS_BETWEEN_LOOKS)
      self._look(0.0 if self._calls else _SECONDS_BETWEEN_LOOKS)
      for reference in ready:
        call = self._calls.pop(reference)
        try:
          result = ray.get(reference)
        except exceptions.RayTaskError as error:
          raise error.cause from error
        except exceptions.RayError as error:
          self.lost += call.env_steps
          self._fail(call.number, error)
          yield call, None
        else:
          self._failures = 0
          self._ready.add(call.number)
          yield call, result
      self._end_late_calls()
      if ready:
        return

  def _end_late_calls(self) -> None:
    now = time.monotonic()
    for reference, call in self._calls.items():
      if now > call.deadline:
        logging.warning(
          'Collector %d has not answered for %g s and is started anew.',
          *(call.number, self.collector_seconds),
        )
        ray.kill(self._handles[call.number], no_restart=False)
        later = now + self.collector_seconds
        self._calls[reference] = call._replace(deadline=later)

  def _fail(self, number: int, error: Exception) -> None:
    self._failures += 1
    reason = str(error).strip().partition('\n')[0]
    if self._failures >= MAX_FAILURES:
      raise NoCollectorsError(
        f'{MAX_FAILURES} calls of collectors have failed one after the other; '
        f'the last one: {error}'
      ) from error
    logging.warning('Collector %d was lost: %s', number, reason)
    self._start(number)

  def _waiting(self, is_over: Callable[[], Any]) -> Iterator[None]:
    """Looks that end with a message when nothing has come for too long."""
    start = message = time.monotonic()
    while not is_over():
      yield
      now = time.monotonic()
      if now - start > self._task.wait_seconds:
        raise NoCollectorsError(
          f'No interactions have come for {self._task.wait_seconds:g} s: is '
          'there room in the cluster for a collector (ray status)?'
        )
      if now - message > _SECONDS_BETWEEN_MESSAGES:
        message = now
        logging.warning('Waiting for collectors since %d s.', now - start)

  def state(self) -> dict[str, Any]:
    """As in `segments.Source`; without episodes if asynchronous."""
    states: list[Any] = [None] * len(self._handles)
    if not self._asynchronous:
      self._wait_for_start()
      for number in self._ready:
        try:
          reference = self._handles[number].state.remote()
          states[number] = ray.get(reference, timeout=self.collector_seconds)
        except exceptions.RayError as error:
          logging.warning('Collector %d: %s', number, error)
    return {'surplus': self._surplus, 'collectors': states}

  def restore(self, state: Mapping[str, Any]) -> None:
    """As in `segments.Source`; collectors without a state begin episodes."""
    self._surplus = state['surplus']
    states = [*state['collectors'], *([None] * len(self._handles))]
    todo = dict(zip(self._handles, states, strict=False))
    for _ in self._waiting(lambda: not todo):
      calls = [(handle, handle.restore.remote(todo[handle])) for handle in todo]
      for handle, restored in calls:
        # Ray may be starting it again, after what the learner died of.
        with contextlib.suppress(exceptions.ActorUnavailableError):
          ray.get(restored, timeout=self._task.wait_seconds)
          del todo[handle]
      time.sleep(_SECONDS_BETWEEN_STARTS if todo else 0.0)

  def finish(self) -> None:
    """Ends the collectors."""
    for handle in self._handles:
      ray.kill(handle, no_restart=True)


def _ended(references: Collection[Any], seconds: float) -> list[Any]:
  """Those that have ended; waits some seconds for one."""
  if not ray.wait(list(references), timeout=seconds)[0]:
    return []
  count = len(references)
  return ray.wait(list(references), num_returns=count, timeout=0.0)[0]


def from_flags(network, folder: str, config: str) -> RaySource:
  """The source that the flags describe.

  Args:
    folder: of the run; with config and seed it names the collectors, which a
      learner that was started again finds.
    config: text of gin's configuration.
  """
  seed, count = flags.FLAGS.seed, ray_flags.COLLECTORS.value
  asynchronous = ray_flags.ASYNCHRONOUS.value
  task = tasks.Task(
    config,
    seed,
    count,
    is_only_source=count == 1 and not asynchronous,
    wait_seconds=ray_flags.WAIT_SECONDS.value,
  )
  text = f'{folder}\n{task}'
  return RaySource(
    network,
    task,
    hashlib.sha256(text.encode()).hexdigest()[:16],
    asynchronous=asynchronous,
    collector_cpus=ray_flags.COLLECTOR_CPUS.value,
    collector_seconds=ray_flags.COLLECTOR_SECONDS.value,
  )
