"""Wall clock of 100K HalfCheetah interactions: this project and its peers.

    python -m benchmarks.peers [--peers=qwr_tf,sbx_sac,sbx_crossq,…]

Adds a row per timed segment to results/benchmarks/peers.csv.

Every round runs each peer once, one after the other, in a process of its own
with all cores. A peer warms up, is then timed over a segment of interactions
(`INTERACTIONS`), and the segment is extrapolated to 100K; evaluations are left
out on all sides. Peers that do not fit this project's stack get a virtual
environment of their own below --venvs_dir (made once). Defaults of each
library but for batch size 256 and 256-256 networks (CrossQ keeps its critic of
1024-1024). Their scores: `benchmarks.peer_scores`.
"""

import json
import os
import pathlib
import statistics
import subprocess
import sys
import venv
from typing import Any

from absl import app
from absl import flags

from benchmarks import raw_rows
from qwr_tf.runs import provenance

_PEERS = flags.DEFINE_list(
  'peers',
  ['qwr_tf', 'tf_agents_sac', 'sb3_sac', 'sbx_sac', 'sbx_crossq'],
  'Who runs.',
)
_ROUNDS = flags.DEFINE_integer(
  'rounds', 3, 'Timed segments of each peer.', lower_bound=1
)
_VENVS_DIR = flags.DEFINE_string(
  'venvs_dir',
  str(pathlib.Path.home() / '.cache' / 'qwr_tf_peers'),
  'Where the virtual environments of the peers are kept.',
)

INTERACTIONS = 3000

# The paper's network and settings; the first iteration compiles.
QWR = f"""
import json, time
from qwr_tf.config import gin_files, startup
from qwr_tf.training import experiment
gin_files.parse(['mujoco_100k_paper.gin'], [])
parts = experiment.build(experiment.settings(), 0)
next(parts.iterations)
start, done = time.perf_counter(), 0
while done < {INTERACTIONS}:
  done += next(parts.iterations)[0].interactions
rate = done / (time.perf_counter() - start)
"""

# The first 1000 steps fill the buffer and warm up.
SB3 = f"""
import json, time
import gymnasium
from {{module}} import {{agent}}
env = gymnasium.make('HalfCheetah-v4')
model = {{agent}}('MlpPolicy', env, seed=0, batch_size=256)
model.learn(1000)
start = time.perf_counter()
model.learn({INTERACTIONS}, reset_num_timesteps=False)
rate = {INTERACTIONS} / (time.perf_counter() - start)
"""

# Of TF-Agents: its agent, drivers and replay buffer; see tf_agents_sac.py.
TF_AGENTS = f"""
import json, time
from qwr_tf.config import gin_files, startup
from benchmarks import tf_agents_sac
from qwr_tf.training import experiment
gin_files.parse(['mujoco_100k_paper.gin'], [])
env = experiment.load_environment('HalfCheetah-v4', seed=0)
agent = tf_agents_sac.make_agent(env)
training = tf_agents_sac.Training(env, agent, 20000, seed=0)
for _ in range(200):
  training.interact()
start = time.perf_counter()
for _ in range({INTERACTIONS}):
  training.interact()
rate = {INTERACTIONS} / (time.perf_counter() - start)
"""

# Ends each of them.
LIBRARIES = ('tensorflow', 'tf-agents', 'stable-baselines3', 'torch')
LIBRARIES += ('sbx-rl', 'jax', 'gymnasium', 'mujoco')
REPORT = f"""
from importlib import metadata
versions = {{
  d.name.lower().replace('_', '-'): d.version for d in metadata.distributions()
}}
names = [name for name in {LIBRARIES} if name in versions]
libraries = '; '.join(name + ' ' + versions[name] for name in names)
print(json.dumps({{'steps_per_second': rate, 'libraries': libraries}}))
"""

_MUJOCO = 'mujoco==3.15.0', 'gymnasium[mujoco]<1.4'

# Peer: (program, packages it needs in a virtual environment of its own).
PROGRAMS = {
  'qwr_tf': (QWR, ()),
  'tf_agents_sac': (TF_AGENTS, ()),
  'sb3_sac': (
    SB3.format(module='stable_baselines3', agent='SAC'),
    ('stable-baselines3', *_MUJOCO),
  ),
  'sbx_sac': (SB3.format(module='sbx', agent='SAC'), ('sbx-rl', *_MUJOCO)),
  'sbx_crossq': (
    SB3.format(module='sbx', agent='CrossQ'),
    ('sbx-rl', *_MUJOCO),
  ),
}


def interpreter(peer: str) -> str:
  """Python with what the peer needs; installs it the first time."""
  packages = PROGRAMS[peer][1]
  if not packages:
    return sys.executable
  folder = pathlib.Path(_VENVS_DIR.value) / peer
  python = folder / 'bin' / 'python'
  if not (folder / 'ready').exists():
    venv.create(folder, with_pip=True, clear=True)
    subprocess.run(
      [python, '-m', 'pip', 'install', '--quiet', *packages], check=True
    )
    (folder / 'ready').touch()
  return str(python)


def measured(peer: str) -> dict[str, Any]:
  """One timed segment: steps per second, and the libraries it ran on."""
  done = subprocess.run(
    [interpreter(peer), '-W', 'ignore', '-c', PROGRAMS[peer][0] + REPORT],
    stdout=subprocess.PIPE,
    text=True,
    check=True,
    env={**os.environ, 'TF_CPP_MIN_LOG_LEVEL': '3'},
  )
  return json.loads(done.stdout.strip().splitlines()[-1])


def _row(peer: str, number: int, row: dict[str, Any]) -> dict[str, Any]:
  return {
    'peer': peer,
    'round': number,
    'interactions': INTERACTIONS,
    'steps_per_second': round(row['steps_per_second'], 2),
    'libraries': row['libraries'],
    'commit': provenance.commit(),
    'threads': provenance.threads(),
    'host_cores': os.cpu_count(),
  }


def main(_):
  """Prints the table."""
  unknown = [peer for peer in _PEERS.value if peer not in PROGRAMS]
  if unknown:
    raise app.UsageError(f'--peers={unknown[0]}: not one of {list(PROGRAMS)}')
  for peer in _PEERS.value:
    interpreter(peer)
  rates = {peer: [] for peer in _PEERS.value}
  for number in range(_ROUNDS.value):
    for peer in _PEERS.value:
      row = measured(peer)
      rates[peer].append(row['steps_per_second'])
      raw_rows.add(raw_rows.path_of('peers'), [_row(peer, number, row)])
  minutes = {p: 1e5 / 60 / statistics.median(r) for p, r in rates.items()}
  print(f'{"":13} {"steps/s":>8} {"minutes for 100K":>17}')
  for peer, whole in minutes.items():
    rate = statistics.median(rates[peer])
    print(f'{peer:13} {rate:8.1f} {whole:17.1f}')
  if {'qwr_tf', 'sb3_sac'} <= set(rates):
    pairs = zip(rates['sb3_sac'], rates['qwr_tf'], strict=True)
    ratio = statistics.median(a / b for a, b in pairs)
    print(f'qwr_tf takes {ratio:.2f} of the time of sb3_sac')


if __name__ == '__main__':
  app.run(main)
