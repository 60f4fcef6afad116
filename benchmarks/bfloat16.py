"""Loss curves of bfloat16 and float32 torsos on the same data and draws.

    python -m benchmarks.bfloat16 [--game=Pong] [--iterations=20]

Two agents of one seed train on one table, filled once by the first policy.
Draws depend on the seed alone, so the curves differ by rounding only, and by
what rounding leads to. How far apart curves are anyway, a third one tells: of
float32 with another seed, on the same table. Writes results/atari_bfloat16.csv
and its figure.
"""

import io
import pathlib

from absl import app
from absl import flags
from matplotlib import figure

from qwr_tf import environments
from qwr_tf.acting import collect
from qwr_tf.agents import qwr_agent
from qwr_tf.config import gin_files
from qwr_tf.config import startup  # noqa: F401, before TensorFlow.
from qwr_tf.replay import ReplayTable
from qwr_tf.runs import atomic_files
from qwr_tf.training import experiment

_GAME = flags.DEFINE_string('game', 'Pong', 'As in ALE/<Game>-v5.')
_ROWS = flags.DEFINE_integer('rows', 5_000, 'Interactions in the table.')
_ITERATIONS = flags.DEFINE_integer('iterations', 20, 'Points of a curve.')
_STEPS = flags.DEFINE_integer('steps', 100, 'Steps of each phase in a point.')

# Curve: the torsos' dtype policy, seed.
_CURVES = {
  'float32': ('float32', 0),
  'mixed_bfloat16': ('mixed_bfloat16', 0),
  'float32, another seed': ('float32', 1),
}
_NAMES = ('critic_loss', 'q_mean', 'actor_loss', 'weight_mean', 'q_scale')
_CSV = pathlib.Path('results/atari_bfloat16.csv')


def losses(
  dtype_policy: str, seed: int, rows
) -> tuple[list[dict[str, float]], list]:
  """Trains; returns (scalars of each point, the table's rows).

  Args:
    dtype_policy: of the torsos.
    seed: of initial weights and draws.
    rows: what the table holds; None collects it.
  """
  gin_files.parse(
    ['atari_100k_paper.gin'],
    [
      f"GAME = '{_GAME.value}'",
      f"dqn_2013_torso.dtype_policy = '{dtype_policy}'",
    ],
  )
  env = environments.load(environments.atari_id(_GAME.value), seed=0)
  agent = experiment.agent_for(env, seed=seed)
  table = ReplayTable(agent.collect_data_spec, _ROWS.value)
  if rows is None:
    collect.Collector(env, agent, table, seed=0, env_steps=_ROWS.value)()
  else:
    for chunk in rows:
      table.append(chunk)
  steps = _STEPS.value
  iterations = qwr_agent.iterate(
    agent,
    table,
    lambda: collect.Collected(0, [], 0.0),
    critic_steps=steps,
    actor_steps=steps,
  )
  points = []
  for _ in range(_ITERATIONS.value):
    _, scalars = next(iterations)
    points.append({name: float(scalars[name]) for name in _NAMES})
  first, end = (int(row) for row in table.row_range())
  return points, [
    table.read(start, min(start + 1000, end))
    for start in range(first, end, 1000)
  ]


def draw(curves: dict[str, list[dict[str, float]]]) -> bytes:
  """PNG of the losses."""
  names = ('critic_loss', 'actor_loss', 'q_scale')
  picture = figure.Figure(figsize=(10, 3), layout='constrained')
  for axes, name in zip(picture.subplots(1, len(names)), names, strict=True):
    for (curve, points), style in zip(
      curves.items(), ('C0-', 'C1--', 'C0:'), strict=True
    ):
      x = [(i + 1) * _STEPS.value for i in range(len(points))]
      axes.plot(x, [p[name] for p in points], style, label=curve)
    axes.set_title(name)
    axes.set_xlabel('steps')
    axes.set_yscale('log' if name != 'actor_loss' else 'linear')
  axes.legend()
  png = io.BytesIO()
  picture.savefig(png, format='png', dpi=120)
  return png.getvalue()


def main(_):
  """The curves, how far from the first the others are, the files."""
  curves, rows = {}, None
  for curve, (dtype_policy, seed) in _CURVES.items():
    curves[curve], rows = losses(dtype_policy, seed, rows)
  cells = [
    {
      'game': _GAME.value,
      'dtype_policy': _CURVES[curve][0],
      'seed': _CURVES[curve][1],
      'steps': i * _STEPS.value,
      **{name: f'{point[name]:.6g}' for name in _NAMES},
    }
    for curve, points in curves.items()
    for i, point in enumerate(points, start=1)
  ]
  atomic_files.write_csv(_CSV, cells[0], cells)
  atomic_files.write_atomically(_CSV.with_suffix('.png'), draw(curves))
  exact = curves.pop('float32')
  for curve, points in curves.items():
    print(f'{curve}: mean |difference from float32| / mean')
    for name in _NAMES:
      pairs = [(p[name], q[name]) for p, q in zip(exact, points, strict=True)]
      difference = sum(abs(a - b) for a, b in pairs)
      print(f'  {name:12} {difference / sum(abs(a) for a, _ in pairs):.4f}')


if __name__ == '__main__':
  app.run(main)
