"""Ablation of the default: one change at a time.

    python -m benchmarks.ablation [--environments=…] [--seeds=0-1] [--factors=…]

Sweeps `mujoco_100k.gin` as it is and with each factor below, all with the first
seed before any with the second, with one pinned process per core, into
results/ablation.csv: a row per evaluation, the factor in the column `bindings`.
What is in the CSV is not run again, so the same command goes on where it was
cut. The backups are the QWR paper's Figure 2.
`python -m qwr_tf.report results` prints the differences to the default.
--results, --runs_dir and --processes are those of `qwr_tf.sweep`.
"""

import pathlib

from absl import flags

from qwr_tf.config import command
from qwr_tf.config import startup  # noqa: F401, before TensorFlow.
from qwr_tf.config.errors import ConfigError
from qwr_tf.sweeping import sweep_flags
from qwr_tf.sweeping import sweep_plan
from qwr_tf.sweeping import sweep_run

_ENVIRONMENTS = flags.DEFINE_list(
  'environments', ['HalfCheetah-v4', 'Hopper-v4'], 'MuJoCo environments.'
)
_PRESET = flags.DEFINE_string('preset', 'mujoco_100k.gin', 'The centre.')

# Each differs from the default in one thing; the comment is the default.
FACTORS = {
  'default': (),
  'no normaliser': ('make_agent.normalizer = None',),
  'no LayerNorm': ('critic/mlp_torso.layer_norm = False',),
  'observations not clipped': ('ObservationNormalizer.clip_value = None',),
  "Keras' actor head": ('GaussianHead.output_limit = None',),  # 0.01
  'small critic head': ('GatedQNetwork.output_limit = 0.01',),  # Keras'
  'clipped gradients': ('Adam.global_clipnorm = 50.0',),  # none
  'scale per minibatch': ('mean_absolute_deviation.per_state = False',),
  'no scale': ('log_sum_exp_backup.scale_fn = @unit_scale',),
  'T = 3': ('QwrAgent.horizon = 3',),  # 1
  'MAX': ('QwrAgent.backup_fn = @max_backup',),  # LSE
  'AVG': ('QwrAgent.backup_fn = @mean_backup',),
  'k = 1': ('sampled_behavior_actions.num_actions = 1',),  # 4
  'k = 8': ('sampled_behavior_actions.num_actions = 8',),
  'beta = 0.5': ('exp_weights.beta = 0.5',),  # 1
  'copies every 100': ('hard_update.period_train_steps = 100',),  # 25
  'constant step sizes': (
    'actor/PolynomialDecay.end_learning_rate = 1e-4',
    'critic/PolynomialDecay.end_learning_rate = 5e-4',
  ),
}
_FACTORS = flags.DEFINE_list(
  'factors', list(FACTORS), f'Some of: {", ".join(FACTORS)}.'
)


def recipes() -> list[sweep_plan.Recipe]:
  """The default and what each factor makes of it."""
  unknown = [name for name in _FACTORS.value if name not in FACTORS]
  if unknown:
    raise ConfigError(
      f'--factors={unknown[0]}: not one of {", ".join(FACTORS)}.'
    )
  path = pathlib.Path(sweep_flags.RESULTS.value or 'results/ablation.csv')
  runs_dir = pathlib.Path(sweep_flags.RUNS_DIR.value)
  return [
    sweep_plan.Recipe(_PRESET.value, FACTORS[name], None, path, runs_dir)
    for name in _FACTORS.value
  ]


def main() -> None:
  """One grid of all; a run that fails does not end the others."""
  seeds = sweep_plan.parse_seeds(sweep_flags.SEEDS.value or '0-1')
  processes = sweep_flags.process_count()
  failed = sweep_run.run(recipes(), _ENVIRONMENTS.value, seeds, processes)
  sweep_flags.tell_failed(failed)


if __name__ == '__main__':
  command.run(main)
