"""Steps per second of collecting, against the environment alone.

    python -m benchmarks.collect_speed [--environments=HalfCheetah-v4]

Collecting acts with the policy, keeps mu, lays out frames, writes them to the
table and updates the normaliser. The plain `gymnasium.make` is given random
actions in turns with it.
"""

import statistics

from absl import app
from absl import flags

from benchmarks import environment_speed
from qwr_tf import environments
from qwr_tf.acting import collect
from qwr_tf.config import gin_files
from qwr_tf.config import startup  # noqa: F401, before TensorFlow.
from qwr_tf.replay import replay_table
from qwr_tf.training import experiment

_ENVIRONMENTS = flags.DEFINE_list(
  'environments', ['HalfCheetah-v4', 'Hopper-v4'], 'MuJoCo environments.'
)
_ROUNDS = flags.DEFINE_integer('rounds', 9, 'Calls of each kind.')


def collector(name: str) -> collect.Collector:
  """A collector with the default preset's networks."""
  env = environments.load(name, seed=0)
  agent = experiment.agent_for(env, seed=0)
  table = replay_table.ReplayTable(agent.collect_data_spec, 50_000)
  return collect.Collector(env, agent, table, seed=0, env_steps=3000)


def main(_):
  """Prints the table."""
  gin_files.parse(['mujoco_100k.gin'], [])
  print(f'{"":16} {"raw/s":>8} {"collect/s":>10} {"ratio":>6}')
  for name in _ENVIRONMENTS.value:
    run = environment_speed.raw_steps(name)
    actions = environment_speed.random_actions(name)
    collecting = collector(name)
    collecting()  # Compiles the table's functions.
    pairs = []
    for _ in range(_ROUNDS.value):
      raw = environment_speed.steps_per_second(run, actions)
      collected = collecting()
      pairs.append((raw, collected.interactions / collected.seconds))
    raw, ours = (statistics.median(x) for x in zip(*pairs, strict=True))
    ratio = statistics.median(b / a for a, b in pairs)
    print(f'{name:16} {raw:8.0f} {ours:10.0f} {ratio:6.2f}')


if __name__ == '__main__':
  app.run(main)
