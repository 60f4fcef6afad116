"""Targets and weights of a whole table, made once a phase (AWR, RWR)."""

import gin
import tensorflow as tf
from tf_agents.typing import types

from qwr_tf import replay
from qwr_tf.config.ranges import PositiveInt
from qwr_tf.minibatches import minibatches
from qwr_tf.ops import regression
from qwr_tf.ops import returns as returns_lib
from qwr_tf.ops.regression import ActionSet
from qwr_tf.ops.streams import Stream
from qwr_tf.replicas import replicas


@gin.configurable
class WholeTable(minibatches.PerMinibatch):
  """Minibatches whose targets and weights were made for the whole table.

  State values come from the target network as updated at step 0 of the phase
  (lines 8-9); with `hard_update` that is a copy of the critic. Lambda-returns
  go to the end of each episode, with no horizon, and weights are normalised
  over the whole table instead of over a minibatch.
  """

  _is_cache = True

  def __init__(
    self,
    agent,
    table: replay.ReplayTable,
    batch_size: int,
    chunk_rows: PositiveInt = 10_000,
  ):
    """Prepares draws from a table.

    Args:
      chunk_rows: rows that go through a network at once; fewer need less
        memory. A backup whose scale is a minibatch's takes it over a chunk.
    """
    super().__init__(agent, table, batch_size, augment_fn=None)
    self._chunk_rows = chunk_rows

  def critic_phase(self, num_steps: tf.Tensor) -> minibatches.Minibatches:
    """Minibatches of lines 7-14."""
    first, end = self._table.row_range()
    starts = self._starts(Stream.CRITIC_DRAWS, num_steps)
    seed = self._phase_seed(Stream.CRITIC)
    returns = self._returns(first, end, seed)

    def minibatch(i):
      td_targets = tf.gather(returns, starts[i] - first)
      return self._minibatch(starts[i], seed) | {
        'td_targets': self._agent.replicas.split(td_targets)
      }

    return minibatch

  def actor_phase(self, num_steps: tf.Tensor) -> minibatches.Minibatches:
    """Minibatches of lines 16-21."""
    first, end = self._table.row_range()
    starts = self._starts(Stream.ACTOR_DRAWS, num_steps)
    seed = self._phase_seed(Stream.ACTOR)
    returns = self._returns(first, end, seed)
    actions, advantages, is_transition = self._advantages(first, returns, seed)
    # Final observations count neither in the normalisation nor in the means.
    kept = tf.where(is_transition)[:, 0]
    place = tf.cumsum(tf.cast(is_transition, tf.int64)) - 1
    actions, advantages = tf.nest.map_structure(
      lambda x: tf.gather(x, kept, axis=1), (actions, advantages)
    )
    weights, metrics = self._agent.weigh(
      advantages, actions.log_weights, regression.WHOLE
    )

    def minibatch(i):
      places = tf.gather(place, starts[i] - first)
      chosen = tf.nest.map_structure(
        lambda x: tf.gather(x, places, axis=1), (actions, weights)
      )
      split = self._agent.replicas.split(chosen, axis=1)
      return self._minibatch(starts[i], seed) | {
        'weighted_actions': (*split, dict(metrics))
      }

    return minibatch

  def _minibatch(self, starts: tf.Tensor, seed: types.Seed) -> dict:
    experience = self._agent.replicas.split(self._table.gather(starts, 1))
    return {'experience': experience, 'seed': seed}

  def _returns(self, first, end, seed: types.Seed) -> tf.Tensor:
    """Lambda-returns of rows first ... end - 1 in time order, [N]."""
    agent = self._agent
    representation = agent.critic_network.representation
    # Values are those of the target as `update_target` makes it at the phase's
    # first step. It is restored here, as the loop makes that update itself.
    target = agent.target_variables
    before = [variable.read_value() for variable in target]
    agent.update_target(tf.constant(0))

    def chunk(numbers):
      pairs = self._table.gather(numbers, 2)
      batch = replicas.batch(returns_lib.bootstrap_mask(pairs)[:, 0])
      next_steps = tf.nest.map_structure(lambda x: x[:, 1], pairs)
      states = agent.states(next_steps, _folded_in(seed, numbers))
      values, _ = agent.state_values(states, batch)
      steps = returns_lib.first_steps(pairs)
      values = representation.means(values)
      return steps.reward, steps.discount, values, steps.is_last()

    rows = self._by_chunks(
      chunk, first, end - first, (tf.float32, tf.float32, tf.float32, tf.bool)
    )
    for variable, value in zip(target, before, strict=True):
      variable.assign(value)
    rewards, discounts, values, is_last = rows
    return returns_lib.episode_lambda_returns(
      rewards, agent.gamma * discounts, values, is_last, agent.td_lambda
    )

  def _advantages(self, first, returns, seed: types.Seed):
    """(action sets, advantages [n, N], which rows are transitions [N])."""
    agent = self._agent

    def chunk(numbers):
      steps = returns_lib.first_steps(self._table.gather(numbers, 2))
      chunk_returns = tf.gather(returns, numbers - first)
      states = agent.states(
        steps, _folded_in(seed, numbers), lambda seed: chunk_returns
      )
      actions, advantages = agent.advantages(states)
      log_weights = actions.log_weights + tf.zeros_like(advantages)
      shape = tf.concat(
        [tf.shape(advantages), agent.action_spec.shape.as_list()], axis=0
      )
      sets = tf.broadcast_to(actions.actions, shape), log_weights, advantages
      rows = tf.nest.map_structure(_rows_first, sets)
      return *rows, ~steps.is_boundary()

    dtypes = (agent.action_spec.dtype, tf.float32, tf.float32, tf.bool)
    rows = self._by_chunks(chunk, first, tf.size(returns, tf.int64), dtypes)
    *sets, is_transition = rows
    actions, log_weights, advantages = map(_rows_first, sets)
    return ActionSet(actions, log_weights), advantages, is_transition

  def _by_chunks(self, fn, first, size, dtypes):
    """Maps fn over row numbers [C] of all rows; results [N, ...]."""
    chunk_rows = tf.minimum(tf.constant(self._chunk_rows, tf.int64), size)
    num_chunks = -(-size // chunk_rows)
    places = tf.range(num_chunks * chunk_rows)
    numbers = first + tf.minimum(places, size - 1)
    results = tf.map_fn(
      fn,
      tf.reshape(numbers, [num_chunks, chunk_rows]),
      fn_output_signature=dtypes,
      parallel_iterations=1,
    )
    return tf.nest.map_structure(
      lambda x: tf.reshape(x, tf.concat([[-1], tf.shape(x)[2:]], 0))[:size],
      results,
    )


def _folded_in(seed: types.Seed, numbers: tf.Tensor) -> types.Seed:
  """A seed of its own for every chunk."""
  place = tf.cast(numbers[0], tf.int32)
  return tf.random.experimental.stateless_fold_in(seed, place)


def _rows_first(x: tf.Tensor) -> tf.Tensor:
  """[n, N, ...] to [N, n, ...] and back."""
  return tf.transpose(x, [1, 0, *range(2, x.shape.rank)])
