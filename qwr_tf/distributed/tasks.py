"""Arguments of collectors; imported without TensorFlow."""

from typing import NamedTuple


class Task(NamedTuple):
  """The arguments that all collectors of a run share.

  Attributes:
    config: text of gin's configuration.
    seed: of the run.
    num_collectors: of the run.
    is_only_source: whether segments come from one environment.
    wait_seconds: for calls.
  """

  config: str
  seed: int
  num_collectors: int
  is_only_source: bool
  wait_seconds: float
