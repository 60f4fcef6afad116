"""The flag --trust_module of commands that read stored files."""

from absl import flags

TRUST_MODULE = flags.DEFINE_multi_string(
  'trust_module',
  [],
  'Module that the stored files may name beside qwr_tf, gymnasium and ale_py; '
  'importing it runs its code.',
)
