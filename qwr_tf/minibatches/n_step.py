"""Minibatches of n-step transitions, for targets with lambda = 1.

With td_lambda = 1 the target of a window's first step is the discounted sum of
its rewards and the value of one state, the one after the last of them. The
states in between need not be read or evaluated; with images those are most of
the cost of a critic step.
"""

from collections.abc import Callable

import gin
import tensorflow as tf
from tf_agents.specs import tensor_spec

from qwr_tf import replay
from qwr_tf.minibatches import minibatches
from qwr_tf.ops import returns
from qwr_tf.ops.streams import Stream


@gin.configurable
class NStepMinibatches(minibatches.PerMinibatch):
  """`PerMinibatch` for td_lambda = 1, at a lower cost.

  Draws equal those of `PerMinibatch`. Targets do too, up to rounding, unless
  actions are sampled or F has one scale for the minibatch. Windows have two
  steps in the critic phase and one in the actor phase: slots there may use
  first steps only.
  """

  def __init__(
    self,
    agent,
    table: replay.ReplayTable,
    batch_size: int,
    augment_fn: Callable | None = None,
  ):
    """As `PerMinibatch`.

    Raises:
      ValueError: unless td_lambda is 1, and for a slot that needs more than the
        first step of a window.
    """
    if agent.td_lambda != 1.0:
      raise ValueError(
        'NStepMinibatches needs QwrAgent.td_lambda = 1.0, not '
        f'{agent.td_lambda}; set it, or use @PerMinibatch.'
      )
    super().__init__(agent, table, batch_size, augment_fn=augment_fn)
    # A slot that does not fit fails here.
    steps = tensor_spec.zero_spec_nest(
      agent.collect_data_spec, outer_dims=[1, 1]
    )
    agent.weighted_actions(steps, agent.seed_for(Stream.CHECK, 0))

  def _gather(self, starts: tf.Tensor, draws: Stream):
    """Windows [B, 2], or [B, 1] for the actor."""
    table, window_rows = self._table, self._agent.horizon + 1
    if draws == Stream.ACTOR_DRAWS:
      return table.gather(starts, 1)
    steps = table.gather(starts, window_rows, observations=False)
    pairs, places = returns.n_step_transitions(steps, self._agent.gamma)
    slots = table.window_slots(starts, window_rows)
    slots = tf.gather(slots, places, axis=1, batch_dims=1)
    return pairs._replace(observation=table.observations(slots))
