"""BitFlip, the QWR paper's Figure 1: returns of QWR and AWR over the bits.

    python -m benchmarks.bitflip [--seeds=0-2] [--sizes=5,8,10] [--variants]

Runs bitflip.gin and awr_bitflip.gin, which share every setting that both have,
adds their rows to results/bitflip.csv and draws results/bitflip_sizes.png:
medians over seeds and the range between the worst and the best. What has its
rows is not run again. `--variants` adds AWR with other settings, one at a time,
each of which might be what lies between a re-implementation and the paper's
curve. --results, --runs_dir and --processes are those of
`qwr_tf.sweep`.
"""

import pathlib
import statistics

from absl import flags

from qwr_tf.config import command
from qwr_tf.config import startup  # noqa: F401, before TensorFlow.
from qwr_tf.config.errors import ConfigError
from qwr_tf.reporting import report_data
from qwr_tf.sweeping import sweep_flags
from qwr_tf.sweeping import sweep_plan
from qwr_tf.sweeping import sweep_run

_SIZES = flags.DEFINE_list('sizes', '5,8,10,15,20,25,30', 'Bits, N.')
_VARIANTS = flags.DEFINE_bool('variants', False, 'AWR with other settings too.')

PRESETS = ('bitflip.gin', 'awr_bitflip.gin')

# What might have been different in the paper's AWR.
VARIANTS = {
  'Monte-Carlo returns': ('AwrAgent.td_lambda = 1.0',),
  'advantages of a minibatch': (
    'iterate.minibatches_fn = @PerMinibatch',
    'AwrAgent.horizon = 5',
  ),
  "AWR's first beta": ('exp_weights.beta = 0.05',),
  'raw advantages': ('exp_weights.normalize_fn = @keep',),
  "AWR's step sizes": (
    'make_agent.actor_optimizer = @actor/SGD()',
    'make_agent.critic_optimizer = @critic/SGD()',
    'SGD.momentum = 0.9',
    'actor/SGD.learning_rate = 5e-5',
    'critic/SGD.learning_rate = 5e-3',
  ),
  'start with zeros': ('load_environment.zero_start = True',),
}


def recipes() -> list[sweep_plan.Recipe]:
  """The grids: each preset, and each variant of AWR if asked for."""
  settings = [(preset, ()) for preset in PRESETS]
  if _VARIANTS.value:
    settings += [(PRESETS[1], bindings) for bindings in VARIANTS.values()]
  paths = _csv(), pathlib.Path(sweep_flags.RUNS_DIR.value)
  return [
    sweep_plan.Recipe(preset, tuple(bindings), None, *paths)
    for preset, bindings in settings
  ]


def _csv() -> pathlib.Path:
  return pathlib.Path(sweep_flags.RESULTS.value or 'results/bitflip.csv')


def _label(setting: report_data.Setting) -> str:
  """The algorithm, and what is different about it."""
  names = {'; '.join(sorted(b)): name for name, b in VARIANTS.items()}
  different = names.get(setting.bindings, setting.bindings)
  return ', '.join(filter(None, (setting.algorithm, different)))


def draw(experiment: report_data.Experiment, path: pathlib.Path) -> None:
  """Returns over the number of bits, a panel for each way of acting."""
  import matplotlib  # A second to import; needs no screen.

  matplotlib.use('Agg')
  from matplotlib import pyplot

  figure, panels = pyplot.subplots(
    1, 2, figsize=(10, 5), sharey=True, layout='constrained'
  )
  titles = ('mode action', 'sampled')
  for panel, action, title in zip(
    panels, report_data.ACTIONS, titles, strict=True
  ):
    for setting in experiment.learned:
      finals = {
        int(environment.removeprefix('BitFlip-')): scores
        for environment in experiment.environments
        if (scores := experiment.finals(setting, environment, action))
      }
      medians = list(map(statistics.median, finals.values()))
      worst, best = (list(map(f, finals.values())) for f in (min, max))
      (line,) = panel.plot(
        list(finals), medians, marker='o', ms=4, label=_label(setting)
      )
      panel.fill_between(
        list(finals), worst, best, color=line.get_color(), alpha=0.15
      )
    panel.set(title=title, xlabel='bits N', ylim=(-0.5, 5.3))
    panel.grid(alpha=0.3)
  panels[0].set_ylabel('final return (at most 5)')
  lines, labels = panels[0].get_legend_handles_labels()
  figure.legend(
    lines, labels, loc='outside lower center', ncols=3, frameon=False
  )
  temporary = path.with_name(f'.{path.name}.tmp.png')
  figure.savefig(temporary, dpi=120)
  temporary.replace(path)
  pyplot.close(figure)


def main() -> None:
  """Runs what is missing and draws."""
  try:
    envs = [f'BitFlip-{int(size)}' for size in _SIZES.value]
  except ValueError as error:
    raise ConfigError(f'--sizes={",".join(_SIZES.value)}: {error}') from error
  seeds = sweep_plan.parse_seeds(sweep_flags.SEEDS.value or '0-2')
  path, processes = _csv(), sweep_flags.process_count()
  failed = sweep_run.run(recipes(), envs, seeds, processes)
  if path.exists():  # It does not if the first runs failed.
    (experiment,) = report_data.load([path])
    picture = path.with_name(f'{path.stem}_sizes.png')
    draw(experiment, picture)
    print(f'{path}\n{picture}')
  sweep_flags.tell_failed(failed)


if __name__ == '__main__':
  command.run(main)
