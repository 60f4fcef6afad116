"""Rows of runs for the tests of reports."""

from qwr_tf.reporting import published
from qwr_tf.reporting import report_data
from qwr_tf.reporting import report_text
from qwr_tf.reporting import results
from qwr_tf.reporting import score_figures

NUMBERS = published.load(published.DEFAULT_PATH)


README = f'# Name\n\n{report_text.BEGIN}\nold\n{report_text.END}\n\nRest\n'


_HALF_CHEETAH = [2000.0, 3000.0, 2500.0, 1000.0, 2600.0]


def run(mode, seed=0, **cells):
  """Two evaluations of five episodes and a final one of ten."""
  row = dict.fromkeys(results.COLUMNS[1:], '') | {
    'algorithm': 'QWR-LSE',
    'preset': 'mujoco_100k',
    'environment': 'HalfCheetah-v4',
    'seed': str(seed),
    'critic_steps': '0',
    'actor_steps': '0',
    'gymnasium': '1.3.0',
    'commit': 'abc',
    'wall_seconds': '600',
  }
  evaluations = [(50_000, mode / 2, 5), (100_000, mode + 9, 5)]
  return [
    row
    | {
      'interactions': str(interactions),
      'return_mode': str(score),
      'return_sampled': str(score - 100),
      'episodes': str(episodes),
    }
    | cells
    for interactions, score, episodes in [*evaluations, (100_000, mode, 10)]
  ]


def write_csv(path, *runs):
  """Rows in a CSV, which the experiment is named after unless a row has one."""
  rows = [{'experiment': path.stem} | row for run in runs for row in run]
  results.add(path, [{c: row[c] for c in results.COLUMNS} for row in rows])
  return path


def experiment_of(tmp_path, *runs, numbers=()):
  """An experiment of these runs alone."""
  path = tmp_path / 'e.csv'
  path.unlink(missing_ok=True)
  (experiment,) = report_data.load([write_csv(path, *runs)], numbers)
  return experiment


def curve_of(experiment):
  """The only run's returns, mode action, over its progress."""
  return score_figures.band(experiment.evaluations, 'mode')[0.5].to_dict()


def five_runs(**cells):
  return [run(mode, i, **cells) for i, mode in enumerate(_HALF_CHEETAH)]


def offline_run(algorithm, dataset, scores, seed=0, interactions=(0, 0, 0)):
  row = run(0.0)[0]
  return [
    row
    | {
      'algorithm': algorithm,
      'preset': '' if algorithm == 'data' else 'offline_mujoco',
      'dataset': dataset,
      'seed': str(seed),
      'interactions': str(made),
      'actor_steps': str(1000 * (i + 1)),
      'return_mode': str(score),
    }
    for i, (score, made) in enumerate(zip(scores, interactions, strict=False))
  ]


def write_ablation(tmp_path, **cells):
  factors = {
    '': [100.0, 200.0, 300.0],
    'QwrAgent.horizon = 3': [90.0, 100.0, 400.0],
    'a.b = 1; c.d = 2': [250.0],
  }
  runs = [
    run(score, seed, bindings=bindings, **cells)
    for bindings, found in factors.items()
    for seed, score in enumerate(found)
  ]
  hopper = run(500.0, environment='Hopper-v4', return_sampled='', **cells)
  return write_csv(tmp_path / 'ablation.csv', hopper, *runs)


def cells_of(text, start):
  """Cells of the first table line that starts with something."""
  line = next(s for s in text.splitlines() if s.startswith(f'| {start}'))
  return [cell.strip() for cell in line.strip('| ').split('|')]


def report_of(tmp_path, *runs, numbers=NUMBERS):
  path = write_csv(tmp_path / 'mujoco_100k.csv', *runs)
  return report_text.report(report_data.load([path], numbers), {})
