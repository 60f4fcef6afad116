"""Exports of an agent, or of a finished run, as the next version."""

import contextlib
import json
import pathlib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from unittest import mock

import gin
import numpy as np
import tensorflow as tf
import tree
from tensorflow.python.eager import context
from tf_agents.policies import policy_saver
from tf_agents.specs import tensor_spec

from qwr_tf import environments
from qwr_tf import serving
from qwr_tf.config import quiet
from qwr_tf.config.errors import ConfigError
from qwr_tf.config.gin_files import describe
from qwr_tf.networks import precision
from qwr_tf.runs import checkpoints
from qwr_tf.runs import run_json
from qwr_tf.serving import checks
from qwr_tf.serving import conversions
from qwr_tf.serving import metadata
from qwr_tf.serving import signatures
from qwr_tf.serving import trust
from qwr_tf.serving import versions
from qwr_tf.serving import warmup
from qwr_tf.training import experiment

# As TF-Agents' PolicySavedModelTrigger names them.
GREEDY_POLICY, COLLECT_POLICY = 'greedy_policy', 'collect_policy'

SAVED_MODEL, TFLITE, ONNX = serving.KINDS

# What TensorFlow takes in no name of an input.
_NO_NAME = re.compile(r'[^A-Za-z0-9_.\\/>-]|/$')

# Number and seed of the states for int8; checks visit others.
_VISITED, _VISITED_SEED = 1000, 2**30


def export(
  agent,
  facts: Mapping[str, Any],
  output: pathlib.Path,
  kind: str = SAVED_MODEL,
) -> pathlib.Path:
  """Writes the next version of an agent's policy, complete or not at all.

  Args:
    output: folder of the versions, whose names are increasing integers.
    kind: 'saved_model', 'tflite' or 'onnx'.

  Returns:
    The folder of the new version.

  Raises:
    ConfigError: if the output holds other files or another format, or if a
      package for the format is not installed.
  """
  _check_kind(output, kind)
  name = facts['environment']
  with experiment.load_environment(
    name, seed=facts['seed'], **environments.score_settings(name)
  ) as env:
    content = {'format': kind, **metadata.metadata(facts, agent, env)}
    inputs = _example_inputs(agent, env)
    space = env.env.action_space

  def write(folder: pathlib.Path) -> None:
    (folder / versions.EXTRA).mkdir(parents=True)
    text = json.dumps(content, indent=2)
    (folder / versions.EXTRA / versions.METADATA).write_text(text + '\n')
    if kind == SAVED_MODEL:
      _write_saved_model(agent, space, inputs, folder)
    elif kind == TFLITE:
      visited = checks.visited_observations(
        agent, name, _VISITED, _VISITED_SEED
      )
      conversions.write_tflite(agent, space, folder, visited)
    else:
      conversions.write_onnx(agent, space, folder)

  return versions.write_new(output, write)


def export_run(
  root_dir: pathlib.Path,
  output: pathlib.Path,
  kind: str = SAVED_MODEL,
  trusted: Sequence[str] = (),
  best: bool = False,
) -> pathlib.Path:
  """Exports a run's newest policy; returns the folder of the version.

  Args:
    root_dir: folder of a run, finished or not.
    output: folder of the versions.
    kind: 'saved_model', 'tflite' or 'onnx'.
    trusted: as in `load_agent`.
    best: as in `load_agent`.

  Raises:
    ConfigError: if there is no run or no checkpoint, and as `export`.
  """
  facts = run_json.required(root_dir)
  _check_kind(output, kind)
  float32 = kind != SAVED_MODEL
  agent = load_agent(
    root_dir, facts, float32=float32, trusted=trusted, best=best
  )
  if best:
    evaluation = facts.get('best') or {}
    facts = {**facts, **evaluation, 'scores': evaluation, 'weights': 'best'}
  return export(agent, facts, output, kind)


def load_agent(
  root_dir: pathlib.Path,
  facts: Mapping[str, Any],
  *,
  float32: bool = False,
  trusted: Sequence[str] = (),
  best: bool = False,
):
  """A run's agent with its newest weights; parses the run's configuration.

  Args:
    root_dir: folder of a run, finished or not.
    float32: whether a run with bfloat16 calculates in float32, as LiteRT and
      ONNX do. Weights are float32 in any case.
    trusted: modules that run.json may name beside `trust.MODULES`.
    best: whether it gets the weights of the best evaluation instead.

  Raises:
    ConfigError: if there are no weights, if they do not fit the agent
      that this version of the library makes, or if run.json names a module
      that is not trusted.
  """
  weights = checkpoints.weights_of_run(root_dir, best)
  source = root_dir / 'run.json'
  trust.check_environment(facts['environment'], source, trusted)
  trust.parse(_config(facts, float32), source, trusted)
  try:
    agent = _agent(facts)
    checkpoints.restore(agent, weights)
  except (ValueError, TypeError) as error:
    raise ConfigError(
      f'{root_dir} cannot be loaded: {describe(error)}; its run.json has the '
      'commit and the versions that made it.'
    ) from error
  return agent


def warm_start(agent, path: pathlib.Path, environment: str) -> None:
  """Reads networks and normaliser of a run or a SavedModel into an agent.

  Optimisers and counters stay as they are; target networks become copies.

  Args:
    agent: a `QwrAgent` with the same networks.
    path: folder of a run, of an export or of its versions.
    environment: of the agent.

  Raises:
    ConfigError: if there are none, or they do not fit.
  """
  step = int(agent.train_step_counter)  # Of a head's schedule, too.
  try:
    if run_json.read(path):
      folder = checkpoints.weights_of_run(path)
      networks = tf.train.Checkpoint(
        _actor_network=agent.actor_network, _critic_network=agent.critic_network
      )
      run = tf.train.Checkpoint(agent=networks)
      status = run.read(str(checkpoints.prefix(folder)))
    else:
      status = _read_export(agent, path, environment)
    status.expect_partial().assert_existing_objects_matched()
    agent.train_step_counter.assign(step)
    agent.copy_targets()
  except (tf.errors.OpError, AssertionError, ValueError) as error:
    raise ConfigError(
      f'run.warm_start: {path} has no weights for these networks '
      f'({describe(error)}); give a run or a SavedModel of a policy with the '
      'same networks and spaces.'
    ) from error


def _read_export(agent, path: pathlib.Path, environment: str):
  """The status of reading an export's variables."""
  version = versions.newest(path)
  with experiment.load_environment(environment) as env:
    functions = signatures.signatures(agent, env.env.action_space)
  # As `save_signatures` wrote them.
  variables = tf.train.Checkpoint(policy_variables=_variables(functions))
  return variables.read(str(version / 'variables' / 'variables'))


def _config(facts: Mapping[str, Any], float32: bool) -> str:
  config = facts['config']
  if not float32:
    return config
  dtype_policy = r"(\bdtype_policy) = ('\w+'|@\w+\(\))"
  return re.sub(dtype_policy, r"\1 = 'float32'", config)


def _agent(facts: Mapping[str, Any]):
  """The agent of the configuration that gin holds."""
  precision.keep_dtype_policy(gin.config_str(), facts.get('dtype_policy'))
  with experiment.load_environment(facts['environment']) as env:
    return experiment.agent_for(env, seed=facts['seed'])


def _check_kind(output: pathlib.Path, kind: str) -> None:
  """Raises ConfigError for a folder with versions of another format."""
  earlier = versions.versions(output)
  other = metadata.read(earlier[-1]).get('format') if earlier else kind
  if other != kind:
    raise ConfigError(
      f'{output} holds exports of the format {other}, not {kind}; choose '
      'another --output.'
    )


def _write_saved_model(
  agent, action_space, inputs: Mapping[str, np.ndarray], folder: pathlib.Path
) -> None:
  functions = signatures.signatures(agent, action_space)
  save_signatures(functions, folder)
  save_tf_agents_policies(agent, folder)
  if warmup.predict_pb2:  # The extra `serving` is installed.
    requests = {
      signature: {
        name: inputs[name] for name in signatures.input_names(function)
      }
      for signature, function in functions.items()
    }
    # A server with batching refuses a seed, which has no batch axis, and does
    # not load a model that it cannot warm up.
    del requests['sample']
    warmup.write(folder / versions.EXTRA, requests)


def save_signatures(functions: Mapping[str, Any], folder: pathlib.Path) -> None:
  """Writes concrete functions as a SavedModel for plain TensorFlow."""
  module = tf.Module()
  module.policy_variables = _variables(functions)
  with quiet.errors_only():
    tf.saved_model.save(module, str(folder), signatures=dict(functions))


def _variables(functions: Mapping[str, Any]) -> list[tf.Variable]:
  """The variables that the functions read: no targets, no optimisers.

  In the order of reading: the order of `variables` differs between processes,
  and the files of the same policy would differ with it.
  """
  by_reference: dict[Any, tf.Variable] = {}
  for function in functions.values():
    place = {id(x): i for i, x in enumerate(function.captured_inputs)}
    read = sorted(function.variables, key=lambda v: place[id(v.handle)])
    by_reference |= {variable.ref(): variable for variable in read}
  return list(by_reference.values())


def save_tf_agents_policies(agent, folder: pathlib.Path) -> None:
  """Writes both policies for TF-Agents' drivers."""
  for name, policy in (
    (GREEDY_POLICY, agent.policy),
    (COLLECT_POLICY, agent.collect_policy),
  ):
    with quiet.errors_only(), _no_global_seed(), _names_for_tensorflow():
      saver = policy_saver.PolicySaver(
        policy, batch_size=None, train_step=agent.train_step_counter
      )
      saver.save(str(folder / name))


@contextlib.contextmanager
def _no_global_seed() -> Iterator[None]:
  """Traces without TensorFlow's global seed, which graphs keep.

  With it every process that loads a policy draws the same actions.
  """
  seed = context.global_seed()
  tf.random.set_seed(None)
  try:
    yield
  finally:
    tf.random.set_seed(seed)


@contextlib.contextmanager
def _names_for_tensorflow() -> Iterator[None]:
  """Lets `PolicySaver` name inputs for entries with any sign in their names.

  It takes 'observation/<entry>', and TensorFlow refuses a space, for instance.
  """
  by_path = policy_saver.rename_spec_with_nest_paths

  def by_name(spec):
    return tf.nest.map_structure(
      lambda s: tf.TensorSpec(s.shape, s.dtype, _NO_NAME.sub('_', s.name)),
      by_path(spec),
    )

  with mock.patch.object(policy_saver, by_path.__name__, by_name):
    yield


def _example_inputs(agent, env) -> dict[str, np.ndarray]:
  """An initial observation, an action and a seed, for the warm-up."""
  action = tensor_spec.zero_spec_nest(agent.action_spec, outer_dims=[1])
  units = signatures.ActionUnits(env.env.action_space)
  first = tree.map_structure(lambda x: x[np.newaxis], env.reset().observation)
  return {
    **signatures.feed(first),
    'action': units.to_environment(action).numpy(),
    'seed': np.zeros([2], np.int64),
  }
