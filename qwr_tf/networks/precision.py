"""The floating-point type in which image torsos compute.

bfloat16 takes a third less time on hardware with units for it. Other
processors emulate it, ten times slower than float32.
"""

import os
import pathlib
import re

import gin
import tensorflow as tf
from absl import logging

BFLOAT16, FLOAT32 = 'mixed_bfloat16', 'float32'

# Linux's names of the instructions that multiply bfloat16 numbers.
_CPU_FLAGS = {'avx512_bf16', 'amx_bf16'}
_CPU_INFO = pathlib.Path('/proc/cpuinfo')
# NVIDIA's Ampere and later.
_COMPUTE_CAPABILITY = (8, 0)


@gin.configurable
def fastest_dtype_policy(dtype_policy: str | None = None) -> str:
  """Keras' dtype policy that computes fastest on this machine.

  Args:
    dtype_policy: the answer of an earlier start of the same run; None asks the
      hardware.

  Returns:
    'mixed_bfloat16' (compute in bfloat16, learn in float32) or 'float32'.
  """
  return dtype_policy or (BFLOAT16 if has_bfloat16_units() else FLOAT32)


def has_bfloat16_units() -> bool:
  """True if the device that trains multiplies bfloat16 numbers in hardware."""
  if tf.config.list_logical_devices('TPU'):
    return True
  gpus = tf.config.list_physical_devices('GPU')
  if gpus:
    details = [tf.config.experimental.get_device_details(gpu) for gpu in gpus]
    capabilities = [d.get('compute_capability', (0, 0)) for d in details]
    return min(capabilities) >= _COMPUTE_CAPABILITY
  # oneDNN may be held to older instructions than the processor has.
  limit = os.environ.get('ONEDNN_MAX_CPU_ISA', 'ALL').upper()
  if limit.startswith(('SSE', 'AVX2', 'AVX512')) and not re.search(
    'BF16|FP16|AMX', limit
  ):
    return False
  return bool(_CPU_FLAGS & cpu_flags(_CPU_INFO))


def cpu_flags(path: pathlib.Path) -> set[str]:
  """Instruction sets of the first processor in a /proc/cpuinfo file."""
  try:
    text = path.read_text()
  except OSError:  # macOS and Windows have no such file.
    return set()
  flags = re.search(r'^flags\s*:(.*)$', text, re.MULTILINE)
  return set(flags[1].split()) if flags else set()


def keep_dtype_policy(config: str, recorded: str | None) -> str | None:
  """Fixes what `fastest_dtype_policy` answers for the rest of the process.

  Args:
    config: the run's configuration as text.
    recorded: the policy an earlier start of the run used; None for a new run.

  Returns:
    The policy, for run.json; None where the configuration does not ask for it.
  """
  if '@fastest_dtype_policy' not in config:
    return None
  policy = fastest_dtype_policy(recorded)
  if policy == FLOAT32 and recorded is None:
    logging.warning(
      'Computing in float32: this machine has no units for bfloat16.'
    )
  elif policy == BFLOAT16 and not has_bfloat16_units():
    logging.warning(
      'The run goes on in bfloat16, which this machine emulates slowly.'
    )
  with gin.unlock_config():
    gin.bind_parameter('fastest_dtype_policy.dtype_policy', policy)
  return policy
