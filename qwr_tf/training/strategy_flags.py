"""Flags of strategies of `tf.distribute`; without TensorFlow, for --help."""

from absl import flags

STRATEGY = flags.DEFINE_enum(
  'strategy',
  'default',
  ['default', 'mirrored', 'multi_worker', 'tpu'],
  'Where train steps run: one device; all GPUs of this host; those of all '
  'hosts in the environment variable TF_CONFIG, each started with the same '
  'command; a TPU.',
)
REPLICAS = flags.DEFINE_integer(
  'replicas',
  None,
  'Of --strategy=mirrored; default one per GPU. Without GPUs: logical CPU '
  'devices, to try it out.',
  lower_bound=1,
)
TPU = flags.DEFINE_string(
  'tpu',
  None,
  'Of --strategy=tpu: local (on a Cloud TPU VM; the default), a name, or '
  'grpc://host:port.',
)
JIT = flags.DEFINE_bool(
  'jit', False, 'Compile loss and gradients with XLA. On a TPU all is.'
)
CONNECT_SECONDS = flags.DEFINE_float(
  'connect_seconds',
  120.0,
  'How long to wait for other hosts or a TPU before giving up.',
  lower_bound=0.1,
)
