"""Exports a trained policy as a SavedModel that plain TensorFlow can serve.

    python export/export_policy.py --root_dir=runs/... --output=policy

Writes <output>/<version>/ with the signature `serving_default`: observation
[B, ...] -> action [B, ...], the mode action in the environment's own units.
Normalisation, clipping and scaling are inside.
"""

import json
import pathlib

import gin
from absl import flags
from tf_agents.specs import tensor_spec

from qwr_tf import checkpoints
from qwr_tf import command
from qwr_tf import experiment
from qwr_tf import serving
from qwr_tf.gin_files import ConfigError

_ROOT_DIR = flags.DEFINE_string('root_dir', None, 'Folder of a finished run.')
_OUTPUT = flags.DEFINE_string(
  'output', None, 'Folder of the versions; default <root_dir>/policy.'
)


def _load(root_dir: pathlib.Path):
  """Rebuilds a run's agent with its final weights; returns (agent, env)."""
  try:
    facts = json.loads((root_dir / 'run.json').read_text())
  except (OSError, json.JSONDecodeError) as error:
    raise ConfigError(f'{root_dir} is no run folder: {error}.') from error
  gin.parse_config(facts['config'])
  env = experiment.load_environment(facts['environment'])
  agent = experiment.make_agent(
    tensor_spec.from_spec(env.time_step_spec()),
    tensor_spec.from_spec(env.action_spec()),
    seed=facts['seed'],
  )
  try:
    checkpoints.restore(agent, root_dir / 'checkpoints' / 'final')
  except ValueError as error:
    raise ConfigError(str(error)) from error
  return agent, env


def export(root_dir: pathlib.Path, output: pathlib.Path) -> pathlib.Path:
  """Exports a run's final policy; returns the folder of the version."""
  agent, env = _load(root_dir)
  return serving.export(agent.actor_network, env.env.action_space, output)


def main() -> None:
  """Exports and prints where to."""
  if _ROOT_DIR.value is None:
    raise ConfigError('--root_dir is missing: the folder of a finished run.')
  root_dir = pathlib.Path(_ROOT_DIR.value)
  output = pathlib.Path(_OUTPUT.value or root_dir / 'policy')
  print(f'policy  {export(root_dir, output)}')


if __name__ == '__main__':
  command.run(main)
