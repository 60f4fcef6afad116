"""Flags of runs and sweeps in a Ray cluster."""

from absl import flags

ENGINE = flags.DEFINE_enum(
  'engine',
  None,
  ['processes', 'ray'],
  'What runs the collectors of `launch` (default: ray), or the runs of `sweep` '
  '(default: processes of this machine).',
)
ADDRESS = flags.DEFINE_string(
  'address',
  None,
  'Of a Ray cluster: "auto" for the one that this machine is part of, or '
  'host:port of its head. Default: a local one, reachable from this machine '
  'alone, that ends with the run.',
)
COLLECTORS = flags.DEFINE_integer(
  'collectors', 1, 'Actors that act.', lower_bound=1
)
COLLECTOR_CPUS = flags.DEFINE_float(
  'collector_cpus', 1.0, 'Cores that Ray keeps for each.', lower_bound=0.0
)
ASYNCHRONOUS = flags.DEFINE_bool(
  'asynchronous',
  False,
  'Collectors act during the gradient steps, too, at most one iteration ahead '
  '(policy_lag in metrics.csv). Default: an iteration waits for its '
  'interactions, as Algorithm 2 says.',
)
COLLECTOR_SECONDS = flags.DEFINE_float(
  'collector_seconds',
  600.0,
  'How long a collector may take to start, or for its part of an iteration, '
  'before it is started anew.',
  lower_bound=0.1,
)
WAIT_SECONDS = flags.DEFINE_float(
  'wait_seconds',
  3600.0,
  'How long the learner waits for interactions, and collectors for a learner, '
  'before they give up. A long evaluation counts.',
  lower_bound=0.1,
)
