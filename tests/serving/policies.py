"""Runs with untrained policies, for the tests of exports."""

import collections
import json
import pathlib

import gin
import numpy as np
import pytest
import tensorflow as tf
from tf_agents.specs import tensor_spec

from qwr_tf import networks
from qwr_tf import serving
from qwr_tf.config import gin_files
from qwr_tf.runs import checkpoints
from qwr_tf.runs import provenance
from qwr_tf.serving import exporter
from qwr_tf.training import experiment

Run = collections.namedtuple('Run', 'folder agent space environment')


def make_run(folder, *files, environment=None, bindings=(), seed=3):
  """A finished run's folder, but for what nobody exports."""
  if environment:
    bindings = [f"run.environment = '{environment}'", *bindings]
  config = gin_files.parse(list(files), list(bindings))
  environment = experiment.settings().environment
  with experiment.load_environment(environment) as env:
    space = env.env.action_space
    agent = experiment.make_agent(
      tensor_spec.from_spec(env.time_step_spec()),
      tensor_spec.from_spec(env.action_spec()),
      seed=seed,
    )
  gin.clear_config()
  for module in agent.actor_network.submodules:
    if isinstance(module, networks.ObservationNormalizer):
      module.update(tf.constant(observations(agent)))
  checkpoints.save(agent, folder / 'checkpoints' / 'final')
  facts = {
    'config': config,
    'environment': environment,
    'seed': seed,
    'preset': pathlib.Path(files[0]).stem,
    'interactions': 7,
    'scores': {'eval_return_mode': 1.5},
    'commit': 'abc',
    'versions': provenance.versions(),
  }
  (folder / 'run.json').write_text(json.dumps(facts))
  return Run(folder, agent, space, environment)


def export(run):
  """Exports a run, but for what TF-Agents alone reads, which takes seconds."""
  with pytest.MonkeyPatch.context() as patches:
    patches.setattr(exporter, 'save_tf_agents_policies', lambda *_: None)
    return serving.export_run(run.folder, run.folder / 'policy')


def note_export(agent, facts, output):
  """In the place of an export, which takes a second; see serving_test.py."""
  assert agent.acting_network.variables
  output.mkdir()
  (output / 'facts.json').write_text(json.dumps(facts))


def observations(agent, count=16, seed=0):
  """Images, or vectors as far from zero as those of MuJoCo."""
  spec = agent.time_step_spec.observation
  rng = np.random.default_rng(seed)
  if spec.dtype == tf.uint8:
    return rng.integers(0, 256, (count, *spec.shape), np.uint8)
  return rng.normal(0, 5, (count, *spec.shape)).astype(np.float32)
