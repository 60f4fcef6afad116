"""A grid of training runs over the nodes of a Ray cluster."""

import os
from collections.abc import Callable, Sequence

import ray
from ray import exceptions

from qwr_tf.sweeping import grid

# Of a run whose node was lost; it resumes from its checkpoint.
_MAX_RETRIES = 5


def run(
  jobs: Sequence[grid.Job],
  processes: int,
  ended: Callable[[grid.Job, str | None], None],
  progress: Callable[[int, int, int], None],
  *,
  trainer: Sequence[str] = grid.TRAINER,
) -> None:
  """As `grid.run`, with Ray's scheduler: one core for each run.

  Args:
    jobs: their folders are on a disk that all nodes share.
    ended: as in `grid.run`.
    progress: as in `grid.run`.
    trainer: as in `grid.run`, on every node.
  """
  del processes
  remote_run = ray.remote(_run).options(
    num_cpus=1, max_retries=_MAX_RETRIES, scheduling_strategy='SPREAD'
  )
  calls = {remote_run.remote(os.getcwd(), job, trainer): job for job in jobs}
  try:
    with grid.signals_interrupt():
      while calls:
        interactions = sum(job.done() for job in calls.values())
        progress(interactions, len(calls), 0)
        for reference in ray.wait(list(calls), timeout=1.0)[0]:
          ended(calls.pop(reference), _outcome(reference))
  finally:
    for reference in calls:
      ray.cancel(reference)  # As by Ctrl-C: the runs save.
    if calls:
      ray.wait(list(calls), num_returns=len(calls), timeout=600.0)


def _run(folder: str, job: grid.Job, trainer: Sequence[str]) -> str | None:
  """Runs one job on a node, from the folder of the sweep."""
  os.chdir(folder)
  outcomes: list[str | None] = []
  grid.run(
    [job],
    1,
    lambda _, error: outcomes.append(error),
    lambda *_: None,
    trainer=trainer,
  )
  return outcomes[0]


def _outcome(reference) -> str | None:
  try:
    return ray.get(reference)
  except exceptions.RayError as error:
    return str(error).strip().rpartition('\n')[2]
