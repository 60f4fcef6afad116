"""The signatures of an exported SavedModel.

Observations go in as the environment gives them: normalising and scaling are
inside. Actions are in the environment's units. The signatures are traced from
the agent's `acting_network` and `q_values`.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp
import tree
from tf_agents.distributions import utils as distribution_utils
from tf_agents.typing import types

from qwr_tf import environments
from qwr_tf.networks import discrete_actions
from qwr_tf.networks import observations

SERVING_DEFAULT = tf.saved_model.DEFAULT_SERVING_SIGNATURE_DEF_KEY


class ActionUnits:
  """The map between the agent's actions [B, ...] and the environment's.

  The agent's start at 0, or are vectors in [-1, 1].
  """

  def __init__(self, space):
    """Takes gymnasium's action space."""
    self._is_integer = environments.is_integer(space)
    self._low, self._high = environments.action_bounds(space)
    if not self._is_integer:
      self._scale, self._offset = (
        np.asarray(x, np.float32) for x in environments.action_scale(space)
      )
      # Inward, as the nearest float32 may lie beyond a float64.
      self._low = _float32(self._low, np.less, np.inf)
      self._high = _float32(self._high, np.greater, -np.inf)
    # The agent's vectors are reshaped, its scalars are not.
    self._shapes = None
    if len(space.shape) != 1 and environments.action_spec(space).shape:
      self._shapes = (-1, *space.shape), (-1, self._low.size)

  def to_environment(self, action: tf.Tensor) -> tf.Tensor:
    """Shifts discrete actions; scales and clips continuous ones."""
    if self._shapes is not None:
      action = tf.reshape(action, self._shapes[0])
    if self._is_integer:
      return action + tf.constant(self._low, action.dtype)
    scaled = action * self._scale + self._offset
    return tf.clip_by_value(scaled, self._low, self._high)

  def to_agent(self, action: tf.Tensor) -> tf.Tensor:
    """The inverse, without the clip; 0 where the bounds leave no choice."""
    if self._is_integer:
      action = action - tf.constant(self._low, action.dtype)
    else:
      action = tf.math.divide_no_nan(action - self._offset, self._scale)
    return (
      action if self._shapes is None else tf.reshape(action, self._shapes[1])
    )


def _float32(bound: np.ndarray, is_beyond: Callable, inward: float):
  nearest = np.asarray(bound, np.float32)
  next_one = np.nextafter(nearest, np.float32(inward))
  return np.where(is_beyond(nearest, bound), next_one, nearest)


class PolicyFunctions:
  """The signatures as methods, on batches of any size B.

  An observation is as the agent's specs have it, an array or a nest.
  """

  def __init__(self, agent, action_space):
    """Wraps an agent.

    Args:
      agent: a `QwrAgent`.
      action_space: gymnasium's own, for its bounds or its first action.
    """
    self._agent = agent
    self._units = ActionUnits(action_space)

  def mode(self, observation: types.NestedTensor) -> dict[str, tf.Tensor]:
    """{action [B, ...]}: the most likely ones, as evaluations take them."""
    action = mode_of(self._policy(observation))
    return {'action': self._units.to_environment(action)}

  def sample(
    self, observation: types.NestedTensor, seed: tf.Tensor
  ) -> dict[str, tf.Tensor]:
    """{action [B, ...]}: samples that only observations and seed decide."""
    # tfp takes int32 seeds only; this hashes all bits of the int64 ones.
    seed = tf.random.stateless_uniform([2], seed, None, None, dtype=tf.int32)
    action = self._policy(observation).sample(seed=seed)
    return {'action': self._units.to_environment(action)}

  def distribution(
    self, observation: types.NestedTensor
  ) -> dict[str, tf.Tensor]:
    """The parameters by name, float [B, ...], in the agent's units."""
    distribution = self._policy(observation)
    parameters = distribution_utils.get_parameters(distribution)
    leaves = _numbers(distribution_utils.parameters_to_dict(parameters))
    event_rank, batch = len(distribution.event_shape), self._batch(observation)

    def batched(value):
      if value.shape.rank > event_rank:
        return value
      # The same in every state: a constant, or a variable of its own.
      return tf.broadcast_to(value, tf.concat([batch, tf.shape(value)], 0))

    return {name: batched(value) for name, value in leaves.items()}

  def q_values(self, observation: types.NestedTensor) -> dict[str, tf.Tensor]:
    """{q_values [B, n]}: of all n discrete actions, the first one first."""
    actions = discrete_actions.all_actions(
      self._agent.action_spec, outer_rank=1
    )
    values = self._agent.q_values(observation, actions)
    return {'q_values': tf.transpose(values)}

  def q_values_of(
    self, observation: types.NestedTensor, action: tf.Tensor
  ) -> dict[str, tf.Tensor]:
    """{q_values [B]}: of one action [B, ...] for each observation."""
    tf.debugging.assert_equal(
      self._batch(observation)[0],
      tf.shape(action)[0],
      'There must be as many actions as observations.',
    )
    action = self._units.to_agent(action)
    values = self._agent.q_values(observation, action[tf.newaxis])
    return {'q_values': values[0]}

  def values(self, observation: types.NestedTensor) -> dict[str, tf.Tensor]:
    """{values [B]}: of the states, by a critic that ignores the action."""
    spec = self._agent.action_spec
    outer = tf.concat([[1], self._batch(observation), spec.shape], axis=0)
    values = self._agent.q_values(observation, tf.zeros(outer, spec.dtype))
    return {'values': values[0]}

  def _policy(self, observation: types.NestedTensor):
    return self._agent.acting_network(observation)[0]

  def _batch(self, observation: types.NestedTensor) -> tf.Tensor:
    spec = self._agent.time_step_spec.observation
    return observations.outer_shape(observation, spec)


def critic_signature(agent) -> str | None:
  """'q_values', 'values', or None where no critic has learned anything."""
  critic = agent.critic_network
  if not critic.trainable_variables:
    return None
  return 'q_values' if critic.is_action_value else 'values'


def finite_rows_only(function: Callable) -> Callable:
  """Wraps a signature so that rows with NaN or Inf get NaN, not an action.

  Args:
    function: from tensors [B, ...] to tensors [B, ...] by name.

  Returns:
    The same function, but for rows of which a floating-point input is not
    finite: their outputs are NaN, or the smallest number of an integer type,
    which is no action of any space. Comparing with the largest float works in
    LiteRT and ONNX as well, which have no checks that raise.
  """

  def masked(*inputs):
    outputs = function(*inputs)
    for value in inputs:
      if value.dtype.is_floating:
        is_finite = tf.abs(value) <= value.dtype.max
        is_finite = tf.reduce_all(is_finite, axis=[*range(1, value.shape.rank)])
        outputs = {
          name: _where(is_finite, output) for name, output in outputs.items()
        }
    return outputs

  return masked


def _where(is_finite: tf.Tensor, value: tf.Tensor) -> tf.Tensor:
  nothing = np.nan if value.dtype.is_floating else value.dtype.min
  for _ in value.shape[1:]:
    is_finite = is_finite[..., tf.newaxis]
  return tf.where(is_finite, value, tf.constant(nothing, value.dtype))


def signatures(agent, action_space) -> dict[str, Any]:
  """Concrete functions by name, each of them `finite_rows_only`.

  Args:
    agent: a `QwrAgent`.
    action_space: gymnasium's own.
  """
  functions = PolicyFunctions(agent, action_space)
  spec = agent.action_spec
  action = tf.TensorSpec([None, *action_space.shape], spec.dtype, 'action')
  seed = tf.TensorSpec([2], tf.int64, 'seed')
  methods = {
    SERVING_DEFAULT: (functions.mode,),
    'sample': (functions.sample, seed),
    'distribution': (functions.distribution,),
  }
  critic = critic_signature(agent)
  if critic == 'values':
    methods[critic] = (functions.values,)
  elif critic and discrete_actions.is_enumerable(spec):
    methods[critic] = (functions.q_values,)
  elif critic:
    methods[critic] = (functions.q_values_of, action)
  return {
    name: _traced(*with_entries(agent, method, *others))
    for name, (method, *others) in methods.items()
  }


def with_entries(
  agent, method: Callable, *others: tf.TensorSpec
) -> tuple[Callable, list[tf.TensorSpec]]:
  """(a signature's function with an input for each entry, specs of inputs).

  Args:
    method: of `PolicyFunctions`.
    *others: inputs after the observation.
  """
  spec = agent.time_step_spec.observation
  entries = [
    tf.TensorSpec([None, *s.shape], s.dtype, _input_name(path))
    for path, s in tree.flatten_with_path(spec)
  ]

  def function(*tensors):
    count = len(entries)
    observation = tf.nest.pack_sequence_as(spec, tensors[:count])
    return method(observation, *tensors[count:])

  return finite_rows_only(function), [*entries, *others]


def feed(observation: Any) -> dict[str, Any]:
  """Inputs of a signature by name: 'observation', or one for each entry."""
  entries = tree.flatten_with_path(observation)
  return {_input_name(path): value for path, value in entries}


def _input_name(path: tuple) -> str:
  return environments.input_name('/'.join(map(str, path)))


def _traced(function: Callable, inputs: Sequence[tf.TensorSpec]):
  """A concrete function that checks the shapes of its inputs first."""

  def checked(*tensors):
    return function(
      *(
        tf.ensure_shape(tensor, spec.shape, name=spec.name)
        for tensor, spec in zip(tensors, inputs, strict=True)
      )
    )

  return tf.function(checked, autograph=False).get_concrete_function(*inputs)


def input_names(function) -> list[str]:
  """Of a concrete function's inputs, in their order."""
  specs = tf.nest.flatten(function.structured_input_signature)
  return [spec.name for spec in specs]


def mode_of(distribution) -> tf.Tensor:
  """The most likely action, in as few operations as there are."""
  if isinstance(distribution, tfp.distributions.MultivariateNormalDiag):
    # tfp's broadcasts shapes at run time, which ONNX cannot.
    return distribution.loc
  return distribution.mode()


def _numbers(parameters: Any, prefix: str = '') -> dict[str, tf.Tensor]:
  """Leaves of nested parameters that are numbers; names joined with '_'."""
  leaves: dict[str, tf.Tensor] = {}
  for name, value in parameters.items():
    if isinstance(value, dict):
      leaves |= _numbers(value, f'{prefix}{name}_')
    elif tf.is_tensor(value) or isinstance(value, np.ndarray | float):
      leaves[prefix + name] = tf.convert_to_tensor(value)
  return leaves
