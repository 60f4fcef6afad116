"""The dtype policy of image torsos: what the hardware has, what a run keeps."""

import gin
import pytest

from qwr_tf.config import gin_files
from qwr_tf.networks import precision
from qwr_tf.networks import torsos
from qwr_tf.runs import run_folder
from qwr_tf.training import experiment  # noqa: F401, gin files name what it imports.

_CONFIG = 'dqn_2013_torso.dtype_policy = @fastest_dtype_policy()'


@pytest.fixture
def processor(monkeypatch, tmp_path):
  """Says which instruction sets this machine's processor has."""

  def set_flags(flags: str) -> None:
    file = tmp_path / 'cpuinfo'
    monkeypatch.delenv('ONEDNN_MAX_CPU_ISA', raising=False)
    file.write_text(f'processor\t: 0\nflags\t\t: {flags}\nbugs\t\t: spectre\n')
    monkeypatch.setattr(precision, '_CPU_INFO', file)

  return set_flags


@pytest.mark.parametrize(
  'flags, policy',
  [
    ('fpu sse2 avx2 fma', 'float32'),  # AMD Zen 3, Intel before 2020.
    ('fpu avx2 avx512f avx512bw', 'float32'),  # Intel Skylake-X.
    ('fpu avx2 avx512f avx512_bf16', 'mixed_bfloat16'),  # AMD Zen 4.
    ('fpu avx512f amx_bf16 amx_tile', 'mixed_bfloat16'),  # Sapphire Rapids.
  ],
)
def test_bfloat16_only_where_the_processor_has_units(processor, flags, policy):
  processor(flags)
  assert precision.fastest_dtype_policy() == policy


@pytest.mark.parametrize(
  'limit, policy',
  [
    ('AVX2', 'float32'),
    ('avx512_core', 'float32'),
    ('AVX512_CORE_BF16', 'mixed_bfloat16'),
    ('ALL', 'mixed_bfloat16'),
  ],
)
def test_no_bfloat16_where_onednn_is_limited(
  processor, monkeypatch, limit, policy
):
  processor('avx2 avx512f avx512_bf16')
  monkeypatch.setenv('ONEDNN_MAX_CPU_ISA', limit)
  assert precision.fastest_dtype_policy() == policy


def test_no_cpuinfo_is_no_bfloat16(monkeypatch, tmp_path):
  monkeypatch.setattr(precision, '_CPU_INFO', tmp_path / 'missing')
  assert precision.fastest_dtype_policy() == 'float32'


@pytest.mark.parametrize('recorded', ['float32', 'mixed_bfloat16'])
@pytest.mark.parametrize('flags', ['avx2', 'avx2 avx512_bf16'])
def test_a_resumed_run_keeps_its_policy(processor, recorded, flags):
  processor(flags)
  gin.parse_config(_CONFIG)
  assert precision.keep_dtype_policy(_CONFIG, recorded) == recorded
  first_layer = torsos.dqn_2013_torso().layers[0]
  assert first_layer.dtype_policy.name == recorded


def test_a_policy_bound_by_the_user_is_not_touched(processor):
  processor('avx2')
  gin.parse_config(_CONFIG)
  config = "dqn_2013_torso.dtype_policy = 'mixed_bfloat16'"
  gin.parse_config(config)
  assert precision.keep_dtype_policy(config, None) is None
  first_layer = torsos.dqn_2013_torso().layers[0]
  assert first_layer.dtype_policy.name == 'mixed_bfloat16'


def test_run_json_records_the_policy(tmp_path):
  facts = {'config': '', 'environment': 'X', 'seed': 0, 'bindings': []}
  folder = run_folder.RunFolder(tmp_path, facts)
  assert folder.recorded('dtype_policy') is None
  folder.add_fact('dtype_policy', 'float32')
  folder.write_json({})
  again = run_folder.RunFolder(tmp_path, facts)
  assert again.recorded('dtype_policy') == 'float32'


def test_the_atari_preset_asks_the_hardware(processor):
  config = gin_files.parse(['atari_100k.gin'], [])
  processor('avx2')
  assert precision.keep_dtype_policy(config, None) == 'float32'
