"""Exports a trained policy as a SavedModel that plain TensorFlow can serve.

    python export/export_policy.py --root_dir=runs/... --output=policy

Writes <output>/<version>/ with the signature `serving_default`: observation
[B, ...] -> action [B, ...], the mode action in the environment's own units.
Normalisation, clipping and scaling are inside.
"""

import json
import os
import pathlib
import shutil

import gin
import tensorflow as tf
from absl import flags
from tf_agents.specs import tensor_spec

import qwr_tf  # noqa: F401 (first: it quiets TensorFlow)
from qwr_tf import checkpoints
from qwr_tf import command
from qwr_tf import experiment
from qwr_tf.gin_files import ConfigError

_ROOT_DIR = flags.DEFINE_string('root_dir', None, 'Folder of a finished run.')
_OUTPUT = flags.DEFINE_string(
  'output', None, 'Folder of the versions; default <root_dir>/policy.'
)


class ServedPolicy(tf.Module):
  """The mode action of an actor as a serving signature."""

  def __init__(self, actor_network, action_space):
    """Wraps an actor.

    Args:
      actor_network: a `networks.ActorNetwork`.
      action_space: gymnasium's own, for its bounds or its start.
    """
    super().__init__(name='ServedPolicy')
    self._actor_network = actor_network
    self._action_space = action_space
    spec = actor_network.input_tensor_spec
    self.serving_default = tf.function(
      self._serve,
      input_signature=[
        tf.TensorSpec([None, *spec.shape], spec.dtype, 'observation')
      ],
    )

  def _serve(self, observation):
    mode = self._actor_network(observation)[0].mode()
    return {'action': self._to_environment(mode)}

  def _to_environment(self, action: tf.Tensor) -> tf.Tensor:
    space = self._action_space
    if action.dtype.is_integer:
      return action + tf.cast(space.start, action.dtype)
    low, high = tf.constant(space.low), tf.constant(space.high)
    unit = (tf.clip_by_value(action, -1.0, 1.0) + 1.0) / 2.0
    return low + unit * (high - low)


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


def _next_version(output: pathlib.Path) -> pathlib.Path:
  versions = [int(p.name) for p in output.glob('*') if p.name.isdigit()]
  return output / str(max(versions, default=0) + 1)


def export(root_dir: pathlib.Path, output: pathlib.Path) -> pathlib.Path:
  """Writes the next version; it appears complete or not at all."""
  agent, env = _load(root_dir)
  module = ServedPolicy(agent.actor_network, env.env.action_space)
  output.mkdir(parents=True, exist_ok=True)
  version = _next_version(output)
  temporary = output / f'.{version.name}.{os.getpid()}.tmp'
  shutil.rmtree(temporary, ignore_errors=True)
  tf.saved_model.save(
    module,
    str(temporary),
    signatures={'serving_default': module.serving_default},
  )
  os.replace(temporary, version)
  return version


def main() -> None:
  """Exports and prints where to."""
  if _ROOT_DIR.value is None:
    raise ConfigError('--root_dir is missing: the folder of a finished run.')
  root_dir = pathlib.Path(_ROOT_DIR.value)
  output = pathlib.Path(_OUTPUT.value or root_dir / 'policy')
  print(f'policy  {export(root_dir, output)}')


if __name__ == '__main__':
  command.run(main)
