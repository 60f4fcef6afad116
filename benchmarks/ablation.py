"""Which details carry the score: one factor at a time around the default.

    python -m benchmarks.ablation [--environments=…] [--seeds=0-1] [--factors=…]

Sweeps `mujoco_100k.gin` once as it is and once for each factor below, with one
pinned process per core, into results/ablation.csv: a row per evaluation, the
factor in the column `bindings`. What is in the CSV is not run again, so the
same command goes on where it was cut. The backups are the QWR paper's Figure 2.
"""

import subprocess
import sys

from absl import app
from absl import flags

_ENVIRONMENTS = flags.DEFINE_list(
  'environments', ['HalfCheetah-v4', 'Hopper-v4'], 'MuJoCo environments.'
)
_SEEDS = flags.DEFINE_string('seeds', '0-1', 'Such as 0-4 or 0,2.')
_PRESET = flags.DEFINE_string('preset', 'mujoco_100k.gin', 'The centre.')
_RESULTS = flags.DEFINE_string('results', 'results/ablation.csv', 'CSV.')
_RUNS_DIR = flags.DEFINE_string('runs_dir', 'runs', 'Folders of the runs.')

# Each differs from the default in one thing; the comment is the default.
FACTORS = {
  'default': (),
  'no normaliser': ('make_agent.normalizer = None',),
  'no LayerNorm': ('critic/mlp_torso.layer_norm = False',),
  'small actor head': ('GaussianHead.output_limit = 0.01',),  # Keras' own
  'clipped gradients': ('Adam.global_clipnorm = 50.0',),  # none
  'scale per minibatch': ('mean_absolute_deviation.per_state = False',),
  'no scale': ('log_sum_exp_backup.scale_fn = @unit_scale',),
  'T = 3': ('QwrAgent.horizon = 3',),  # 1
  'MAX': ('QwrAgent.backup_fn = @max_backup',),  # LSE
  'AVG': ('QwrAgent.backup_fn = @mean_backup',),
  'k = 1': ('sampled_behavior_actions.num_actions = 1',),  # 4
  'k = 8': ('sampled_behavior_actions.num_actions = 8',),
  'beta = 1': ('exp_weights.beta = 1.0',),  # 0.5
  'copies every 100': ('hard_update.period_train_steps = 100',),  # 25
  'constant step sizes': (
    'actor/PolynomialDecay.end_learning_rate = 1e-4',
    'critic/PolynomialDecay.end_learning_rate = 5e-4',
  ),
}
_FACTORS = flags.DEFINE_list(
  'factors', list(FACTORS), f'Some of: {", ".join(FACTORS)}.'
)


def main(_):
  """A sweep per factor."""
  unknown = [name for name in _FACTORS.value if name not in FACTORS]
  if unknown:
    raise app.UsageError(f'--factors={unknown[0]}: not one of {list(FACTORS)}')
  for name in _FACTORS.value:
    print(name, flush=True)
    command = (
      f'--gin_file={_PRESET.value}',
      *(f'--gin_bindings={binding}' for binding in FACTORS[name]),
      f'--envs={",".join(_ENVIRONMENTS.value)}',
      f'--seeds={_SEEDS.value}',
      f'--results={_RESULTS.value}',
      f'--runs_dir={_RUNS_DIR.value}',
    )
    subprocess.run([sys.executable, '-m', 'qwr_tf.sweep', *command], check=True)


if __name__ == '__main__':
  app.run(main)
