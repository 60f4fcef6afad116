"""A grid of runs as tasks of Ray, with trainers that only pretend."""

import os
import sys

import pytest

from qwr_tf.distributed import cluster
from qwr_tf.sweeping import grid

os.environ |= cluster.LOCAL
ray = pytest.importorskip('ray')

from qwr_tf.distributed import ray_sweep  # noqa: E402

pytestmark = pytest.mark.slow

# Fails for seed 1; else writes a finished run, with its threads.
_TRAINER = """
import json, os, pathlib, sys
folder, seed = pathlib.Path(sys.argv[1]), int(sys.argv[2])
if seed == 1:
  sys.exit('error: critic_loss is nan')
folder.mkdir(parents=True)
facts = {'finished': True, 'config': '', 'environment': 'E', 'seed': seed}
facts['threads'] = os.environ['OMP_NUM_THREADS']
(folder / 'run.json').write_text(json.dumps(facts))
(folder / 'metrics.csv').write_text('interactions\\n7\\n')
"""


def test_runs_of_a_grid_end_with_their_outcomes(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)  # Folders may be relative.
  (tmp_path / 'trainer.py').write_text(_TRAINER)
  jobs = [
    grid.Job('E', seed, folder, (str(folder), str(seed)), 7)
    for seed in range(3)
    for folder in [(tmp_path / 'runs' / str(seed)).relative_to(tmp_path)]
  ]
  outcomes, progress = {}, []
  cluster.start_local(num_cpus=2)
  try:
    ray_sweep.run(
      jobs,
      2,
      lambda job, error: outcomes.update({job.seed: error}),
      lambda *numbers: progress.append(numbers),
      trainer=(sys.executable, str(tmp_path / 'trainer.py')),
    )
  finally:
    ray.shutdown()
    os.environ.pop('RAY_ADDRESS')
  assert outcomes.pop(1).startswith('error: critic_loss is nan')
  assert outcomes == {0: None, 2: None}
  assert progress[0][1] == 3
  assert '"1"' in (tmp_path / 'runs' / '2' / 'run.json').read_text()
