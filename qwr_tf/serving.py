"""Policies as SavedModels that plain TensorFlow can serve."""

import json
import os
import pathlib
import shutil

import gin
import tensorflow as tf
from tf_agents.specs import tensor_spec

from qwr_tf import checkpoints
from qwr_tf import experiment
from qwr_tf.gin_files import ConfigError


class ServedPolicy(tf.Module):
  """An actor's mode action as the signature `serving_default`."""

  def __init__(self, actor_network, action_space):
    """Wraps an actor.

    Args:
      actor_network: a `networks.ActorNetwork`.
      action_space: gymnasium's own, for its bounds or its first action.
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
    """Observations [B, ...] to {action: [B, ...]} in the space's units."""
    mode = self._actor_network(observation)[0].mode()
    return {'action': self._to_environment(mode)}

  def _to_environment(self, action: tf.Tensor) -> tf.Tensor:
    space = self._action_space
    if action.dtype.is_integer:
      return action + tf.cast(space.start, action.dtype)
    low, high = tf.constant(space.low), tf.constant(space.high)
    unit = (tf.clip_by_value(action, -1.0, 1.0) + 1.0) / 2.0
    return low + unit * (high - low)


def export(actor_network, action_space, output: pathlib.Path) -> pathlib.Path:
  """Writes the next version of a policy, complete or not at all.

  Args:
    actor_network: a `networks.ActorNetwork`.
    action_space: gymnasium's own.
    output: folder of the versions; theirs are whole numbers that only grow.

  Returns:
    The folder of the new version.
  """
  module = ServedPolicy(actor_network, action_space)
  output.mkdir(parents=True, exist_ok=True)
  versions = [int(p.name) for p in output.glob('*') if p.name.isdigit()]
  version = output / str(max(versions, default=0) + 1)
  temporary = output / f'.{version.name}.{os.getpid()}.tmp'
  shutil.rmtree(temporary, ignore_errors=True)
  tf.saved_model.save(
    module,
    str(temporary),
    signatures={'serving_default': module.serving_default},
  )
  os.replace(temporary, version)
  return version


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


def export_run(root_dir: pathlib.Path, output: pathlib.Path) -> pathlib.Path:
  """Exports a run's final policy; returns the folder of the version."""
  agent, env = _load(root_dir)
  return export(agent.actor_network, env.env.action_space, output)
