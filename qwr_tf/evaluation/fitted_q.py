"""Fitted Q evaluation (FQE): the value of a policy from logged steps.

The critic of Algorithm 2 with other slots: line 12 takes actions of the
evaluated policy, F of line 13 is their mean, lines 16-21 are left out. Its
fixed point is Q of that policy (Le et al. 2019). An ensemble, each member
fitted to a resample of the episodes, has the interval.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from tf_agents.specs import tensor_spec
from tf_agents.trajectories import time_step as ts
from tf_agents.trajectories import trajectory
from tf_agents.typing import types

from qwr_tf import datasets
from qwr_tf import networks
from qwr_tf import replay
from qwr_tf.agents import qwr_agent
from qwr_tf.agents import slots
from qwr_tf.agents import target_updates
from qwr_tf.datasets import actions as actions_lib
from qwr_tf.evaluation import estimators
from qwr_tf.evaluation import policies
from qwr_tf.networks import torsos
from qwr_tf.ops import backups
from qwr_tf.ops.streams import Stream
from qwr_tf.policies import behavior_policy

_CHUNK = 4096  # Rows through the networks at once.
_VALUE_ACTIONS = 16  # Samples behind a V(s) of continuous actions.
_WARM_UP_SHARE = 0.2  # Of the steps, on the returns that were logged.


class Fit(NamedTuple):
  """Settings of the fit.

  Attributes:
    steps: gradient steps of a member.
    members: of the ensemble.
    batch_size: transitions in a minibatch.
    learning_rate: of Adam at first.
    end_share: of it that is left in the last step.
    target_tau: share by which the target network follows in each step.
    num_actions: samples of the policy behind a target, if continuous.
    units: widths of the critic's layers.
    seed: of everything random.
  """

  steps: int = 5000
  members: int = 5
  batch_size: int = 128
  learning_rate: float = 1e-3
  end_share: float = 1.0
  target_tau: float = 0.1
  num_actions: int = 2
  units: tuple[int, ...] = (128, 128)
  seed: int = 0


DEFAULT_FIT = Fit()


def policy_actions(states: slots.States, num_actions: int) -> slots.ActionSet:
  """All discrete actions, or samples, clipped as the environment does."""
  if tensor_spec.is_discrete(states.action_spec):
    return slots.enumerated_policy_actions(states)
  actions, weights = slots.sampled_policy_actions(
    states, num_actions=num_actions
  )
  return slots.ActionSet(tf.clip_by_value(actions, -1.0, 1.0), weights)


def default_critic(observation_spec, action_spec, fit: Fit, **kwargs):
  """Layers over vectors or images, with LayerNorm against divergence."""
  if observation_spec.shape.rank == 3:
    torso_fn: Callable = functools.partial(
      torsos.dqn_2013_torso, dtype_policy='float32', layer_norm=True
    )
  else:
    torso_fn = functools.partial(
      torsos.mlp_torso, units=fit.units, layer_norm=True
    )
  is_vector = observation_spec.shape.rank == 1
  concat = is_vector and not tensor_spec.is_discrete(action_spec)
  kind = networks.ConcatQNetwork if concat else networks.GatedQNetwork
  return kind(
    observation_spec,
    action_spec,
    torso_fn=torso_fn,
    output_limit=None,
    num_outputs=None,
    **kwargs,
  )


class FittedQ:
  """Critics of a policy over a table of logged steps.

  `load` a data set (or `allocate` the table, fill it and `prepare` the critic),
  then `fit` or `fit_ensemble`.
  """

  def __init__(
    self,
    policy: policies.EvaluatedPolicy,
    time_step_spec: ts.TimeStep,
    action_spec: types.BoundedTensorSpec,
    *,
    gamma: float = 0.99,
    fit: Fit = DEFAULT_FIT,
    critic_fn: Callable = default_critic,
  ):
    """Wraps a policy.

    Args:
      policy: to evaluate.
      time_step_spec: of the environment, tensors.
      action_spec: of the agent, tensors.
      fit: how critics are fitted.
      critic_fn: (observation spec, action spec, fit, normalizer=,
        value_scale=) to a critic.
    """
    self.gamma, self.options = gamma, fit
    self._specs = time_step_spec, action_spec
    self._critic_fn = critic_fn
    observation_spec = time_step_spec.observation
    self.actor = policies.EvaluatedActor(observation_spec, action_spec, policy)
    self.normalizer = None
    if observation_spec.dtype.is_floating:
      self.normalizer = networks.ObservationNormalizer(
        observation_spec, min_deviation=None, clip_value=10.0
      )
    collect_policy = behavior_policy.BehaviorPolicy(
      time_step_spec, action_spec, self.actor
    )
    self.data_spec = collect_policy.trajectory_spec
    self._members: list[list[np.ndarray]] = []

  def load(
    self,
    data: datasets.DataSet,
    bounds: actions_lib.Bounds,
    steps: int,
    keep: datasets.Keep,
  ) -> None:
    """Fills the table with logged steps, and makes the critic.

    Args:
      data: the logged steps; the data set is closed afterwards.
      bounds: of actions in the environment's units.
      steps: number of steps in the kept episodes.
      keep: the episodes that are kept.
    """
    self.allocate(steps)
    data.fill(
      self.table, bounds, normalizer=self.normalizer, keep=keep, as_logged=True
    )
    self.prepare()

  def allocate(self, steps: int) -> None:
    """Makes `table`, with room for this many steps."""
    self.table = replay.ReplayTable(
      self.data_spec, steps, rows_per_interaction=2.0, single_frames=False
    )

  def prepare(self) -> None:
    """Makes the critic, once the table is full."""
    first, end = (int(row) for row in self.table.row_range())
    rows = self.table.gather(
      tf.range(first, end, dtype=tf.int64), 1, observations=False
    )
    step_type, reward, discount = (
      x.numpy()[:, 0] for x in (rows.step_type, rows.reward, rows.discount)
    )
    is_first = step_type == ts.StepType.FIRST
    self._episode = np.cumsum(is_first) - 1
    self._starts = first + np.flatnonzero(is_first)
    is_transition = step_type != ts.StepType.LAST
    self._transitions = first + np.flatnonzero(is_transition)
    self._episode_of = self._episode[is_transition]
    returns = _returns_to_go(
      reward, self.gamma * discount, step_type == ts.StepType.LAST
    )
    scale = float(np.sqrt(np.mean(returns[is_transition] ** 2))) or 1.0
    self._make_agent(scale)
    self._returns = tf.constant(returns, tf.float32)
    self._first = first
    self._drawn = tf.Variable(
      self._transitions, shape=[None], trainable=False, dtype=tf.int64
    )
    self._train = self.agent.replicas.function(self._fit_phase)
    self._initial = self._weights()

  def _make_agent(self, value_scale: float) -> None:
    time_step_spec, action_spec = self._specs
    options = self.options
    self._optimizer = _adam(
      tf.keras.optimizers.schedules.PolynomialDecay(
        options.learning_rate,
        options.steps,
        options.end_share * options.learning_rate,
      )
    )
    # Every slot is given: gin holds those of a training run.
    self.agent = qwr_agent.QwrAgent(
      time_step_spec,
      action_spec,
      self.actor,
      self._critic_fn(
        time_step_spec.observation,
        action_spec,
        options,
        normalizer=self.normalizer,
        value_scale=value_scale,
      ),
      actor_optimizer=_adam(options.learning_rate),
      critic_optimizer=self._optimizer,
      gamma=self.gamma,
      td_lambda=0.0,
      horizon=1,
      backup_actions=functools.partial(
        policy_actions, num_actions=options.num_actions
      ),
      backup_fn=backups.mean_backup,
      target_update_fn=functools.partial(
        target_updates.polyak_update, target_update_tau=options.target_tau
      ),
      regression_actions=slots.stored_actions,
      estimate_fn=slots.critic_estimates,
      baseline_fn=slots.mean_estimate,
      seed=options.seed,
    )

  @property
  def episodes(self) -> int:
    """Episodes of the table."""
    return len(self._starts)

  def fit(self, member: int = 0) -> None:
    """Fits one critic; the same numbers for the same data and member.

    The first steps are on logged returns. They are close to the answer where
    the policy is close to the data, and save the steps over which values would
    have to grow from zero.
    """
    self.reset(self.options.seed + member)
    steps = self.options.steps
    first = int(_WARM_UP_SHARE * steps)
    for count, on_returns in ((first, True), (steps - first, False)):
      if count:
        self._train(tf.constant(count), tf.constant(on_returns))
    self._members = [self._weights()]

  def fit_ensemble(self, progress: Callable[[], Any] = lambda: None) -> None:
    """Fits every member anew, to a resample of the episodes.

    `counts` are how often an episode is in each resample, int [K, E].

    Args:
      progress: called after each member.
    """
    rng = np.random.default_rng(self.options.seed)
    members, counts = [], []
    for member in range(self.options.members):
      counts.append(estimators.resample(self.episodes, rng))
      repeats = counts[-1][self._episode_of]
      if not repeats.any():  # Drawn episodes without transitions.
        repeats = np.ones_like(repeats)
      self._drawn.assign(np.repeat(self._transitions, repeats))
      self.fit(member)
      members += self._members
      progress()
    self._drawn.assign(self._transitions)
    self._members, self.counts = members, np.array(counts)

  def start_values(self) -> np.ndarray:
    """V of each episode's first state by each member, float [K, E]."""
    observations = [
      self.table.gather(tf.constant(rows), 1).observation[:, 0]
      for rows in np.array_split(self._starts, -(-len(self._starts) // _CHUNK))
    ]
    values = [self.values(x)[0].mean(axis=1) for x in observations]
    return np.concatenate(values, axis=1)

  def values(
    self, observations: tf.Tensor, actions: np.ndarray | None = None
  ) -> tuple[np.ndarray, np.ndarray | None]:
    """(V(s) [K, 2, B], Q(s, a) [K, B] or None) by each of the members.

    V is the mean of Q over two independent samples of actions; over all actions
    where they are discrete.
    """
    state_values, q_values = [], []
    present = self._weights()
    for member in self._members:
      self._assign(member)
      state_values.append(self._state_values(observations).numpy())
      if actions is not None:
        q_values.append(
          self._q_values(observations, tf.constant(actions)[tf.newaxis])[0]
        )
    self._assign(present)
    return np.array(state_values), np.array(q_values) if q_values else None

  def _q_values(self, observations, actions) -> tf.Tensor:
    critic = self.agent.target_network
    return critic.representation.values(critic.outputs(observations, actions))

  @functools.cached_property
  def _state_values(self):
    @tf.function(reduce_retracing=True)
    def state_values(observations):
      states = self.agent.states(
        _steps(observations), self.agent.seed_for(Stream.CHECK, 1)
      )
      actions, log_weights = policy_actions(states, _VALUE_ACTIONS)
      q_values = self._q_values(observations, actions)
      if tensor_spec.is_discrete(states.action_spec):
        values = backups.mean_backup(q_values, log_weights)
        return tf.stack([values, values])
      halves = tf.split(q_values, 2)
      return tf.stack([tf.reduce_mean(half, axis=0) for half in halves])

    return state_values

  def _fit_phase(self, num_steps: tf.Tensor, on_returns: tf.Tensor):
    """Lines 7-14 over the drawn transitions."""
    agent = self.agent
    size = self.options.batch_size
    seed = agent.seed_for(Stream.CRITIC_DRAWS, agent.critic_steps.read_value())
    draws = tf.random.stateless_uniform(
      [num_steps, size], seed, 0, tf.size(self._drawn), tf.int32
    )
    for i in tf.range(num_steps):
      agent.update_target(i)
      rows = tf.gather(self._drawn, draws[i])
      experience = agent.replicas.split(self.table.gather(rows, 2))
      if on_returns:
        targets = tf.gather(self._returns, rows - self._first)
      else:
        step = agent.critic_steps.read_value()
        targets = agent.td_targets(
          experience, agent.seed_for(Stream.CRITIC, step)
        )[:, 0]
      agent.train_critic(experience=experience, seed=seed, td_targets=targets)
    agent.update_target(num_steps)

  def reset(self, seed: int) -> None:
    """Resets the weights (by seed) and the optimiser's state."""
    rng = np.random.default_rng(seed)
    critic, target = self.agent.critic_network, self.agent.target_network
    pairs = zip(
      critic.trainable_variables,
      target.trainable_variables,
      self._initial,
      strict=True,
    )
    for variable, copy, value in pairs:
      if value.ndim > 1:  # Biases and scales have no random start.
        fan = np.prod(value.shape[:-1]) + value.shape[-1]
        limit = np.sqrt(6.0 / fan)
        value = rng.uniform(-limit, limit, value.shape).astype(value.dtype)
      variable.assign(value)
      copy.assign(value)
    for variable in self._optimizer.variables():
      variable.assign(tf.zeros_like(variable))
    self.agent.critic_steps.assign(seed * 10_000_000)

  def _weights(self) -> list[np.ndarray]:
    return [x.numpy() for x in self.agent.target_network.trainable_variables]

  def _assign(self, weights: list[np.ndarray]) -> None:
    variables = self.agent.target_network.trainable_variables
    for variable, value in zip(variables, weights, strict=True):
      variable.assign(value)


def _adam(learning_rate: Any):
  return tf.keras.optimizers.legacy.Adam(learning_rate)


def _steps(observations: tf.Tensor) -> trajectory.Trajectory:
  """Observations [B, ...] as time steps without anything else."""
  nothing = tf.zeros(tf.shape(observations)[:1], tf.int32)
  return trajectory.Trajectory(
    nothing, observations, nothing, (), nothing, nothing, nothing
  )


def _returns_to_go(
  rewards: np.ndarray, discounts: np.ndarray, is_last: np.ndarray
) -> np.ndarray:
  """Logged discounted returns from each row on, [N].

  After a cut, rewards go on at the mean of the data.
  """
  gamma = discounts.max()
  mean = float(np.mean(rewards[~is_last]))
  later = mean / (1.0 - gamma) if gamma < 1.0 else 0.0
  returns = np.full(len(rewards), later)
  for row in range(len(rewards) - 2, -1, -1):
    if not is_last[row]:
      returns[row] = rewards[row] + discounts[row] * returns[row + 1]
  return returns
