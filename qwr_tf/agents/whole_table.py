"""The numbers of lines 11-13 and 17-20, made for the whole table at once."""

import gin
import tensorflow as tf
from tf_agents.trajectories import time_step as ts
from tf_agents.trajectories import trajectory
from tf_agents.typing import types

from qwr_tf import replay
from qwr_tf.agents import action_sets
from qwr_tf.agents import regression_agent
from qwr_tf.agents import windows
from qwr_tf.ops import returns as returns_lib


@gin.configurable
class WholeTable:
  """Targets and weights of every row, once a phase (AWR, RWR).

  The target network says what states are worth as lines 8-9 have it at step 0
  of the phase: with `hard_update` it is the critic as the phase begins. The
  lambda-returns go to the end of each episode, with no horizon, and weights are
  normalised over all that is kept instead of over a minibatch.
  """

  def __init__(
    self,
    agent,
    table: replay.ReplayTable,
    batch_size: int,
    chunk_rows: int = 10_000,
  ):
    """Remembers where numbers come from.

    Args:
      agent: makes the numbers.
      table: its rows have an order.
      batch_size: steps in a minibatch.
      chunk_rows: rows that go through a network at once; fewer need less
        memory. Where a backup has one scale for many states, these are they.

    Raises:
      ValueError: if replicas cannot share a minibatch equally.
    """
    agent.replicas.check_batch_size(batch_size)
    self._agent = agent
    self._table = table
    self._batch_size = batch_size
    self._chunk_rows = chunk_rows

  def critic_phase(self, num_steps: int):
    """Returns step i -> (steps [B, 1], targets [B]), lines 11-13."""
    first, end = self._table.row_range()
    starts = self._starts(regression_agent.CRITIC_DRAWS, num_steps)
    seed = self._seed(regression_agent.CRITIC_STREAM)
    returns = self._returns(first, end, seed)

    def draw(i):
      rows = starts[i] - first
      split = self._agent.replicas.split
      return split(self._table.gather(starts[i], 1)), split(
        tf.gather(returns, rows)
      )

    return draw

  def actor_phase(self, num_steps: int):
    """Returns step i -> (steps, actions, weights, scalars), lines 17-20."""
    first, end = self._table.row_range()
    starts = self._starts(regression_agent.ACTOR_DRAWS, num_steps)
    seed = self._seed(regression_agent.ACTOR_STREAM)
    returns = self._returns(first, end, seed)
    actions, advantages, counts = self._advantages(first, returns, seed)
    # Final observations count neither in the normalisation nor in the means.
    kept = tf.where(counts)[:, 0]
    place = tf.cumsum(tf.cast(counts, tf.int64)) - 1
    actions, advantages = tf.nest.map_structure(
      lambda x: tf.gather(x, kept, axis=1), (actions, advantages)
    )
    weights, scalars = self._agent.weigh(advantages, actions.log_weights, None)

    def draw(i):
      places = tf.gather(place, starts[i] - first)
      chosen_actions, chosen_weights = tf.nest.map_structure(
        lambda x: tf.gather(x, places, axis=1), (actions, weights)
      )
      split = self._agent.replicas.split
      steps = split(self._table.gather(starts[i], 1))
      chosen = split((chosen_actions, chosen_weights), axis=1)
      return steps, *chosen, dict(scalars)

    return draw

  def _returns(self, first, end, seed: types.Seed) -> tf.Tensor:
    """Lambda-returns of rows first ... end - 1 in time order, [N]."""
    agent = self._agent
    # The critic's steps move the target, as often as there are steps. Here it
    # is looked at after the first move, and put back.
    target = agent.target_variables
    before = [variable.read_value() for variable in target]
    agent.update_target(tf.constant(0))

    def chunk(numbers):
      pairs = self._table.gather(numbers, 2)
      following = tf.nest.map_structure(lambda x: x[:, 1], pairs)
      mask = windows.bootstraps(pairs)[:, 0]
      values = agent.state_values(following, mask, _folded_in(seed, numbers))
      values = agent.critic_network.means(values)
      steps = windows.first_step(pairs)
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
      steps = self._table.gather(numbers, 2)
      episodes = _one_step_episodes(steps, tf.gather(returns, numbers - first))
      actions, advantages = agent.advantages(
        episodes, _folded_in(seed, numbers)
      )
      log_weights = actions.log_weights + tf.zeros_like(advantages)
      every = tf.broadcast_to(
        actions.actions,
        tf.concat(
          [tf.shape(advantages), agent.action_spec.shape.as_list()], axis=0
        ),
      )
      counts = ~windows.first_step(episodes).is_boundary()
      sets = tf.nest.map_structure(
        _rows_first, (every, log_weights, advantages)
      )
      return *sets, counts

    dtypes = (agent.action_spec.dtype, tf.float32, tf.float32, tf.bool)
    size = tf.size(returns, tf.int64)
    rows = self._by_chunks(chunk, first, size, dtypes)
    *sets, counts = rows
    every, log_weights, advantages = map(_rows_first, sets)
    return action_sets.ActionSet(every, log_weights), advantages, counts

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

  def _seed(self, stream: int) -> types.Seed:
    agent = self._agent
    return agent.seed_for(stream, agent.critic_steps + agent.actor_steps)

  def _starts(self, stream: int, num_steps: int) -> tf.Tensor:
    shape = [num_steps, self._batch_size]
    return self._table.sample_starts(shape, self._seed(stream))


def _folded_in(seed: types.Seed, numbers: tf.Tensor) -> types.Seed:
  """A seed of its own for every chunk."""
  place = tf.cast(numbers[0], tf.int32)
  return tf.random.experimental.stateless_fold_in(seed, place)


def _rows_first(x: tf.Tensor) -> tf.Tensor:
  """[n, N, ...] to [N, n, ...] and back."""
  return tf.transpose(x, [1, 0, *range(2, x.shape.rank)])


def _one_step_episodes(
  pairs: trajectory.Trajectory, returns: tf.Tensor
) -> trajectory.Trajectory:
  """Windows [N, 2] whose first step pays the rest of its episode and ends.

  Whatever asks for the return of such a window (`return_estimates`) is told
  the one that was computed along the whole episode.
  """
  return pairs._replace(
    reward=tf.stack([returns, returns], axis=1),
    discount=tf.zeros_like(pairs.discount),
    next_step_type=tf.fill(
      tf.shape(pairs.next_step_type), tf.constant(ts.StepType.LAST)
    ),
  )
