"""Final scores of one preset on two stacks of libraries, seed by seed.

    python -m benchmarks.stack_scores

For `mujoco_100k.gin` on Python 3.11 and 3.13, per environment and action: both
medians, the 95 % bootstrap interval of the older median, the share of pairs of
runs (one of each stack) in which the newer one ends higher, and the p of the
exact two-sided Mann-Whitney test. The raw rows are those of results/.
"""

import numpy as np
import pandas as pd
from scipy import stats

from qwr_tf.reporting import scores

_PRESET = 'mujoco_100k'


def _finals(path: str) -> pd.DataFrame:
  rows = pd.read_csv(path)
  of_preset = rows[(rows.preset == _PRESET) & rows.bindings.isna()]
  return (
    of_preset.sort_values('interactions')
    .groupby(['environment', 'seed'], as_index=False)
    .tail(1)
  )


def main() -> None:
  """Prints a line per environment and action."""
  older = _finals(f'results/{_PRESET}.csv')
  newer = _finals(f'results/{_PRESET}_python313.csv')
  for environment in newer.environment.unique():
    for action in ('return_mode', 'return_sampled'):
      old, new = (
        rows[rows.environment == environment][action].to_numpy()
        for rows in (older, newer)
      )
      low, high = scores.bootstrap([old], scores.mean_of_medians) or (0.0, 0.0)
      better = scores.probability_of_improvement(new, old)
      p = stats.mannwhitneyu(new, old, method='exact').pvalue
      print(
        f'{environment} {action}: {np.median(old):.0f} [{low:.0f}, {high:.0f}] '
        f'({len(old)}), then {np.median(new):.0f} ({len(new)}); '
        f'higher in {better:.2f} of the pairs, p {p:.2f}'
      )


if __name__ == '__main__':
  main()
