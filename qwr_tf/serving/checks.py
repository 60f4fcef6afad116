"""Comparisons of an export with its checkpoint, and latencies."""

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
import tree

from qwr_tf import environments
from qwr_tf.acting import numpy_actor
from qwr_tf.acting import offline
from qwr_tf.config.errors import ConfigError
from qwr_tf.config.gin_files import describe
from qwr_tf.serving import signatures
from qwr_tf.training import experiment

# Largest differences of the same weights in float32.
TOLERANCE = 1e-6
CONVERTED_TOLERANCE = 1e-5

# Smallest agreement and largest difference of a policy with int8 weights.
INT8_MIN_AGREEMENT = 0.99
INT8_MAX_MEAN_DIFFERENCE = 0.02  # Of the range of an action.


def visited_observations(
  agent, environment: str, number: int, seed: int
) -> Any:
  """Observations [number, ...] that the sampling policy visits.

  Without a simulator they are drawn from the data set, at most all of it.

  Raises:
    ConfigError: if the data set cannot be read.
  """
  env = experiment.load_environment(environment, seed=seed)
  if environment == environments.NO_SIMULATOR:
    return _logged_observations(agent, env.env.action_space, number, seed)
  act = numpy_actor.NumpyActor(agent.acting_network)
  rng = np.random.default_rng(seed)
  with env:
    step = env.reset()
    visited: list[Any] = []
    while len(visited) < number:
      visited.append(step.observation)
      step = env.step(act(step.observation, rng)[0])
  return tree.map_structure(lambda *x: np.stack(x), *visited)


def _logged_observations(agent, action_space, number: int, seed: int) -> Any:
  """Observations of the data set that is configured in gin."""
  settings = experiment.settings()
  bounds = environments.action_bounds(action_space)
  try:
    data = offline.open_data_set(
      settings.dataset or '', settings.environment, seed
    )
    return data.observations(agent.collect_data_spec, bounds, number)
  except ValueError as error:
    raise ConfigError(describe(error)) from error


def unusual_observations(observations: Any) -> Any:
  """Observations that no policy visits, and that must not matter.

  Args:
    observations: [B, ...], visited.

  Returns:
    [7, ...]: zeros and ±1e30; three visited rows with a NaN or an Inf in one
    element; and a visited row, which the others must not change. Of images
    [3, ...]: zeros, 255s, and a visited row. In a nest only the floats are
    unusual.
  """
  if tree.is_nested(observations):
    return tree.map_structure(
      lambda x: (
        unusual_observations(x)
        if np.issubdtype(x.dtype, np.floating)
        else np.repeat(x[:1], 7, axis=0)
      ),
      observations,
    )
  first = observations[:1]
  if not np.issubdtype(first.dtype, np.floating):
    return np.concatenate([0 * first, 0 * first + 255, first])
  broken = np.repeat(first, 3, axis=0)
  broken.reshape(3, -1)[:, -1] = [np.nan, np.inf, -np.inf]
  large = np.full_like(first, 1e30)
  return np.concatenate([0 * first, large, -large, broken, first])


class Difference(NamedTuple):
  """The difference of two arrays of actions or values.

  Attributes:
    largest: largest absolute difference.
    mean: mean absolute difference.
    agreement: share of equal entries.
  """

  largest: float
  mean: float
  agreement: float


def difference(one: np.ndarray, other: np.ndarray) -> Difference:
  """Compares element by element."""
  errors = np.abs(one.astype(np.float64) - other.astype(np.float64))
  return Difference(errors.max(), errors.mean(), float(np.mean(errors == 0)))


def signature_outputs(
  agent, action_space, exported: Mapping[str, Any], observations: Any
) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
  """Yields every output of every signature, of the agent and of the export.

  Args:
    agent: with the checkpoint's weights.
    exported: `signatures` of the loaded SavedModel.
    observations: [B, ...], an array or a nest.

  Yields:
    ('signature output', the agent's [B, ...], the export's [B, ...]).
  """
  functions = signatures.signatures(agent, action_space)
  inputs = {k: tf.constant(x) for k, x in signatures.feed(observations).items()}

  def answer(function):
    return function(*(inputs[x] for x in signatures.input_names(function)))

  inputs['action'] = answer(functions[signatures.SERVING_DEFAULT])['action']
  inputs['seed'] = tf.constant([1, 2], tf.int64)
  for name, function in functions.items():
    _, specs = exported[name].structured_input_signature
    ours = answer(function)
    theirs = exported[name](**{key: inputs[key] for key in specs})
    for key, value in ours.items():
      yield f'{name} {key}', value.numpy(), theirs[key].numpy()


def answers_alike(
  expected: np.ndarray, answers: np.ndarray, tolerance: float
) -> bool:
  """True if answers are equal up to a relative tolerance; NaN equals NaN.

  Args:
    expected: [B, ...].
    answers: [B, ...].
    tolerance: np.inf compares only which answers are missing, those to
      observations that are not finite.
  """
  if np.isinf(tolerance):
    return np.array_equal(_is_missing(expected), _is_missing(answers))
  return np.allclose(answers, expected, tolerance, tolerance, equal_nan=True)


def _is_missing(answers: np.ndarray) -> np.ndarray:
  if np.issubdtype(answers.dtype, np.floating):
    return np.isnan(answers)
  return answers == np.iinfo(answers.dtype).min


def actions(agent, action_space, observations: Any) -> np.ndarray:
  """The agent's deterministic actions [B, ...] in the environment's units.

  Compiled, like the exports: bfloat16 is rounded at other places otherwise.
  """
  functions = signatures.PolicyFunctions(agent, action_space)
  mode, _ = signatures.with_entries(agent, functions.mode)
  inputs = map(tf.constant, tree.flatten(observations))
  return tf.function(mode, autograph=False)(*inputs)['action'].numpy()


def relative_to_range(mean: float, action_space) -> float:
  """A mean difference of actions, divided by the smallest nonzero range."""
  ranges = action_space.high - action_space.low
  return float(mean / np.min(ranges, where=ranges > 0.0, initial=np.inf))


def latency(function: Callable[[], Any], seconds: float = 0.5) -> float:
  """Median seconds of a call, over about as many seconds."""
  for _ in range(10):
    function()
  times: list[float] = []
  end = time.perf_counter() + seconds
  while time.perf_counter() < end or len(times) < 10:
    start = time.perf_counter()
    function()
    times.append(time.perf_counter() - start)
  return float(np.median(times))


def bare_network(agent) -> Callable[[Any], tf.Tensor]:
  """The network alone as a tf.function, for comparing latencies."""
  spec = tf.nest.map_structure(
    lambda s: tf.TensorSpec([None, *s.shape], s.dtype),
    agent.time_step_spec.observation,
  )

  @tf.function(input_signature=[spec])
  def call(observation):
    return signatures.mode_of(agent.acting_network(observation)[0])

  return call
