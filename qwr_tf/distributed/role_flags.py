"""What every role of a distributed run is told, beside the configuration."""

from absl import flags

SERVER = flags.DEFINE_string(
  'server',
  '127.0.0.1:12889',
  'host:port of the Reverb server. The replay role listens on that port, on '
  'all interfaces and to anybody: keep it inside a network you trust.',
)
SERVER_SECONDS = flags.DEFINE_float(
  'server_seconds',
  300.0,
  'How long the server may be away before a role gives up.',
  lower_bound=0.1,
)
WAIT_SECONDS = flags.DEFINE_float(
  'wait_seconds',
  3600.0,
  'How long the learner waits for interactions, and collectors for a learner '
  'that takes them, before they give up. A long evaluation counts.',
  lower_bound=0.1,
)
