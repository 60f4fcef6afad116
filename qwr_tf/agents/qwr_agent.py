"""Q-Value Weighted Regression, Algorithm 2 of Kozakowski et al. (2021).

`iterate` is the loop, `QwrAgent` has the updates; comments name these lines:

   4  for each iteration:
   5    collect interactions with pi; store them with its distribution mu
   6    target network <- critic
   7    for i in 0 ... critic steps - 1:
  8-9     every few steps: target network <- critic
  11      sample a minibatch of windows s_i, a_i, r_i, ..., s_{i+T}
  12      draw n actions a_l from the stored mu(.|s_j), for all j > i
  13      target <- lambda-return of r and V(s_j) = F({Q_target(s_j, a_l)})
  14      gradient step of the critic on (Q(s_i, a_i) - target)^2
  16    for each actor step:
  17      sample a minibatch of states s
  18      draw n actions a_j from the stored mu(.|s)
  19      V(s) <- mean of Q(s, a_j)
  20      w_j <- exp((Q(s, a_j) - V(s)) / beta)
  21      gradient step of the actor on - sum_j w_j log pi(a_j|s)

A slot is a function among the arguments of `iterate` or `QwrAgent`, which gin
sets. Related algorithms (AWR, RWR, AWAC, CRR, BC, DQN) put other functions
there.
"""

import copy
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import gin
import tensorflow as tf
from tf_agents.agents import tf_agent
from tf_agents.specs import tensor_spec
from tf_agents.trajectories import trajectory
from tf_agents.typing import types
from tf_agents.utils import common

from qwr_tf import replay
from qwr_tf.agents import minibatches
from qwr_tf.agents import penalties  # noqa: F401, gin files name them.
from qwr_tf.agents import slots
from qwr_tf.agents import target_updates
from qwr_tf.agents.slots import ActionSet
from qwr_tf.agents.slots import Networks
from qwr_tf.agents.slots import States
from qwr_tf.agents.slots import distribution
from qwr_tf.agents.streams import Stream
from qwr_tf.config.ranges import Fraction
from qwr_tf.config.ranges import PositiveFloat
from qwr_tf.config.ranges import PositiveInt
from qwr_tf.config.ranges import Steps
from qwr_tf.networks import critic_wrappers
from qwr_tf.networks import torsos
from qwr_tf.ops import averages
from qwr_tf.ops import backups
from qwr_tf.ops import regression
from qwr_tf.ops import returns
from qwr_tf.ops import step_counts
from qwr_tf.ops.regression import Batch
from qwr_tf.policies import behavior_policy
from qwr_tf.replicas import replicas


@gin.configurable
def iterate(
  agent: 'QwrAgent',
  table: replay.ReplayTable,
  collect: Callable[[], Any],
  *,
  minibatches_fn: Callable = minibatches.PerMinibatch,
  steps_fn: Callable = step_counts.fixed_steps,
  critic_steps: Steps = 1000,
  actor_steps: Steps = 1000,
  rounds: PositiveInt = 1,
  batch_size: PositiveInt = 256,
) -> 'Iterations':
  """Algorithm 2; all gradient steps of an iteration are one `tf.function`.

  Args:
    agent: with its networks.
    table: the replay table; some `minibatches_fn` need a `replay.ReplayTable`.
    collect: line 5, adds to the table; returns an object that has
      `interactions`, their number, and is passed on to the caller.
    minibatches_fn: lines 11 and 17, (agent, table, batch_size) ->
      `minibatches.PerMinibatch` or a relative.
    steps_fn: lines 7 and 16, (interactions just collected, `critic_steps` or
      `actor_steps`) -> gradient steps to make.
    critic_steps: line 7.
    actor_steps: line 16.
    rounds: how often both phases repeat in an iteration; AWAC and CRR make
      many rounds of one step each.
    batch_size: B, of both phases.

  Returns:
    An iterator of (what collect returned, metrics of the iteration by name).
    Metrics are means over the gradient steps. Those whose name ends in `_max`
    are maxima; they start from 0, so they must not be negative.
  """
  source = minibatches_fn(agent, table, batch_size)

  def critic_phase(num_steps):
    minibatch = source.critic_phase(num_steps)
    totals = tf.zeros([len(agent.critic_metrics)])
    for i in tf.range(num_steps):  # Line 7
      agent.update_target(i)  # Lines 8-9
      metrics = agent.train_critic(**minibatch(i))  # Lines 11-14
      totals = averages.add(totals, metrics, agent.critic_metrics)
    return averages.averages(totals, num_steps, agent.critic_metrics)

  def actor_phase(num_steps):
    minibatch = source.actor_phase(num_steps)
    totals = tf.zeros([len(agent.actor_metrics)])
    for i in tf.range(num_steps):  # Line 16
      metrics = agent.train_actor(**minibatch(i))  # Lines 17-21
      totals = averages.add(totals, metrics, agent.actor_metrics)
    return averages.averages(totals, num_steps, agent.actor_metrics)

  @agent.replicas.function
  def train_phases(critic_steps, actor_steps):
    names = agent.critic_metrics + agent.actor_metrics
    totals = tf.zeros([len(names)])
    for _ in tf.range(rounds):
      phases = tf.concat(
        [critic_phase(critic_steps), actor_phase(actor_steps)], axis=0
      )
      metrics = dict(zip(names, tf.unstack(phases), strict=True))
      totals = averages.add(totals, metrics, names)
    agent.count_train_steps(rounds * (critic_steps + actor_steps))
    means = averages.averages(totals, rounds, names)
    result.phase = 'training'  # Runs while the function is traced.
    return dict(zip(names, tf.unstack(means), strict=True))

  def iterations():
    phase = 'compiling'
    while True:  # Line 4
      result.phase = 'collecting'
      collected = collect()  # Line 5
      result.phase, phase = phase, 'training'
      steps = [
        steps_fn(collected.interactions, n) for n in (critic_steps, actor_steps)
      ]
      result.begin(steps)
      yield collected, train_phases(*steps)  # Lines 6-22

  result = Iterations(agent, source, iterations())
  return result


@gin.configurable
class QwrAgent(tf_agent.TFAgent):
  """A critic that backs up over mu, an actor that regresses onto samples of mu.

  The defaults are the paper's (Table 4). `train` takes windows of `horizon` +
  1 steps from any TF-Agents replay buffer and makes one critic and one actor
  step; `iterate` runs the whole of Algorithm 2. Experience must contain the mu
  that `collect_policy` writes; continuous actions have bounds of +-1, at which
  the environment clips.
  """

  def __init__(
    self,
    time_step_spec: types.TimeStep,
    action_spec: types.NestedTensorSpec,
    actor_network,
    critic_network,
    *,
    actor_optimizer: types.Optimizer,
    critic_optimizer: types.Optimizer,
    gamma: Fraction = 0.99,
    td_lambda: Fraction = 0.95,
    horizon: PositiveInt = 3,
    backup_actions: slots.ActionSource | None = None,
    backup_fn: backups.Backup = backups.log_sum_exp_backup,
    target_update_fn: Callable = target_updates.hard_update,
    regression_actions: slots.ActionSource | None = None,
    estimate_fn: Callable = slots.critic_estimates,
    baseline_fn: Callable = slots.mean_estimate,
    weight_fn: regression.WeightFn = regression.exp_weights,
    max_weight: PositiveFloat = 20.0,
    penalty_fn: Callable | None = None,
    policies_fn: Callable = behavior_policy.actor_policies,
    seed: int = 0,
    debug_summaries: bool = False,
    summarize_grads_and_vars: bool = False,
    train_step_counter: tf.Variable | None = None,
    name: str = 'QwrAgent',
  ):
    """Builds networks, policies and gradient steps.

    Args:
      time_step_spec: of the environment.
      action_spec: one bounded spec, an integer or a float vector.
      actor_network: TF-Agents network of an unsquashed distribution, no RNN.
      critic_network: a `networks.Critic`, or a critic network of TF-Agents for
        (observation, action); its copy becomes the target network.
      actor_optimizer: of line 21.
      critic_optimizer: of line 14.
      gamma: discount per step.
      td_lambda: weight of longer returns in the critic's target, in [0, 1].
      horizon: T, the transitions in a window of T + 1 rows ("margin" in the
        authors' code).
      backup_actions: line 12, chooses the actions whose Q-values F combines;
        see `slots`. Default: all, or 4 samples from mu.
      backup_fn: line 13, F; see `ops.backups`.
      target_update_fn: lines 8-9; see `target_updates`.
      regression_actions: line 18, like `backup_actions`.
      estimate_fn: line 20, stands for Q(s, a_j); see `slots`.
      baseline_fn: line 19, stands for V(s).
      weight_fn: line 20, advantages to weights; see `ops.regression`.
      max_weight: clips the weights; not mentioned in the paper, but used in
        its code.
      penalty_fn: line 21, added to the loss (AWR, AWAC); see `penalties`.
        None adds nothing.
      policies_fn: line 5, who acts; see `behavior_policy.actor_policies`.
      seed: of all sampling while training.
      debug_summaries: `train` writes its metrics as summaries.
      summarize_grads_and_vars: gradient steps write summaries of both.
      train_step_counter: grows by 1 with every call of `train`, and with every
        gradient step of `iterate`.
      name: of the module and its summaries.

    Raises:
      ValueError: if a slot does not fit the action space.
    """
    if horizon < 1:
      raise ValueError(f'horizon must be 1 or more, not {horizon}.')
    if horizon > 1 and torsos.has_batch_norm(critic_network):
      raise ValueError(
        f'A critic with BatchNorm needs horizon 1, not {horizon}.'
      )
    if torsos.has_batch_norm(actor_network):
      raise ValueError(
        'BatchNorm is for critics: an actor plays one observation at a time.'
      )
    tf.Module.__init__(self, name=name)
    default_actions = slots.default(action_spec)
    self.gamma = gamma
    self.td_lambda = td_lambda
    self.horizon = horizon
    self.max_weight = max_weight
    self._backup_actions = backup_actions or default_actions
    self._backup_fn = backup_fn
    self._target_update_fn = target_update_fn
    self._regression_actions = regression_actions or default_actions
    self._estimate_fn = estimate_fn
    self._baseline_fn = baseline_fn
    self._weight_fn = weight_fn
    self._penalty_fn = penalty_fn
    self._seed = tf.constant([seed, 0], tf.int32)
    self.replicas = replicas.Replicas()
    self.critic_steps = _counter('critic_steps')
    self.actor_steps = _counter('actor_steps')
    self.target_updates = _counter('target_updates')
    observation_spec = time_step_spec.observation
    self._make_networks(actor_network, critic_network, observation_spec)
    self._actor_optimizer = actor_optimizer
    self._critic_optimizer = critic_optimizer
    actors = behavior_policy.Actors(
      actor_network, self._critic_network, self.critic_steps
    )
    policy, collect_policy = policies_fn(actors, time_step_spec, action_spec)
    self._make_target_actor(observation_spec)
    super().__init__(
      time_step_spec,
      action_spec,
      policy,
      collect_policy,
      train_sequence_length=horizon + 1,
      debug_summaries=debug_summaries,
      summarize_grads_and_vars=summarize_grads_and_vars,
      train_step_counter=train_step_counter,
    )
    self._make_gradient_steps()
    self._try_slots()

  # Lines 8-14: the critic.

  def update_target(self, step: tf.Tensor) -> None:
    """Lines 8-9; step is the index of the coming critic step in its phase."""
    online, target = self._online_and_target_variables()
    changed = self._target_update_fn(online, target, step, self.critic_steps)
    self.target_updates.assign_add(tf.cast(changed, tf.int64))

  def train_critic(self, **minibatch: Any) -> dict[str, tf.Tensor]:
    """`critic_update` on all replicas: the same arguments and results."""
    metrics = self.replicas.run(self.critic_update, **minibatch)
    self.critic_steps.assign_add(1)
    return metrics

  def critic_update(
    self,
    experience: trajectory.Trajectory,
    seed: types.Seed,
    q_vectors: tf.Tensor | None = None,
    td_targets: tf.Tensor | None = None,
    weights: tf.Tensor | None = None,
  ) -> dict[str, tf.Tensor]:
    """Lines 12-14: one gradient step of the critic.

    Args:
      experience: windows [B, T + 1].
      seed: stateless seed, int [2].
      q_vectors: cached outputs of the target network for all actions, [B, T,
        actions] and the critic's own axes; None computes them.
      td_targets: known targets of the first steps, [B] and the critic's own
        axes (heads of an ensemble, atoms of a distribution); None computes
        them.
      weights: importance weight of each window, float [B].

    Returns:
      Scalars by name.
    """
    steps = returns.first_steps(experience)
    mask = returns.transition_mask(steps)
    if self._critic_network.has_batch_norm:
      if q_vectors is not None or td_targets is not None:
        raise ValueError(
          'A critic with BatchNorm makes its own targets; use '
          'iterate.minibatches_fn = @PerMinibatch.'
        )
      inputs, td_targets = self.joint_batch(experience, seed)  # Lines 12-13
      return self._step_critic(  # Line 14
        mask, steps, td_targets, weights, inputs
      )
    if td_targets is None:  # Lines 12-13
      td_targets = self.td_targets(experience, seed, q_vectors)[:, 0]
    return self._step_critic(mask, steps, td_targets, weights)  # Line 14

  def td_targets(
    self,
    experience: trajectory.Trajectory,
    seed: types.Seed,
    q_vectors: tf.Tensor | None = None,
  ) -> tf.Tensor:
    """Lines 12-13: targets of windows, [B, T] and the critic's own axes."""
    states = self.states(
      returns.next_steps(experience),
      seed,
      q_vectors=q_vectors,
      q_vectors_of=self._target_network,
    )
    batch = replicas.batch(returns.bootstrap_mask(experience))
    return self._lambda_returns(experience, self.state_values(states, batch))

  def _lambda_returns(
    self, experience: trajectory.Trajectory, values: tf.Tensor
  ) -> tf.Tensor:
    """Line 13: targets [B, T] of the values of the next states [B, T]."""
    targets = returns.lambda_returns(
      experience.reward[:, :-1],
      self.gamma * experience.discount[:, :-1],
      values,
      experience.is_last()[:, :-1],
      self.td_lambda,
      self._critic_network.representation.bellman,
    )
    return tf.stop_gradient(targets)

  def state_values(self, states: States, batch: Batch) -> tf.Tensor:
    """Lines 12-13, F: states [...] -> values, [...] and own axes."""
    # Line 12: n actions for each state, from the policy stored with it.
    actions = self._backup_actions(states)  # [n, ...]
    # Line 13: F over the target network's values.
    outputs = states.target_outputs(actions.actions)
    return self._critic_network.representation.backup(
      self._backup_fn, outputs, actions.log_weights, batch, states.seed
    )

  def joint_batch(
    self, experience: trajectory.Trajectory, seed: types.Seed
  ) -> tuple[tuple[tf.Tensor, tf.Tensor], tf.Tensor]:
    """Lines 12-13 for critics with BatchNorm, which see s and s' together.

    Both then have the same statistics. Of batches of their own (s, a) and
    (s', a') would each be centred, and the difference between them, which is
    the policy's distance from the data, would be lost (CrossQ, Bhatt et al.
    2024).

    Args:
      experience: windows [B, 2].
      seed: stateless seed, int [2].

    Returns:
      The critic's inputs, observations [2 B] and actions [n, 2 B], s first;
      and the targets, [B] and the critic's own axes.
    """
    steps = returns.first_steps(experience)
    next_steps = returns.next_steps(experience)  # [B, 1]
    states = self.states(next_steps, seed)
    actions = self._backup_actions(states)  # Line 12
    observation = tf.nest.map_structure(
      lambda now, then: tf.concat([now, then[:, 0]], axis=0),
      steps.observation,
      next_steps.observation,
    )
    n = tf.shape(actions.actions)[:1]
    shape = tf.concat([n, tf.shape(steps.action)], axis=0)  # [n, B]
    taken = tf.broadcast_to(steps.action, shape)
    drawn = tf.broadcast_to(actions.actions[:, :, 0], shape)
    inputs = observation, tf.concat([taken, drawn], axis=1)
    outputs, _ = self._target_network(inputs, training=True)
    outputs = tf.split(outputs, 2, axis=1)[1][:, :, tf.newaxis]  # [n, B, 1]
    batch = replicas.batch(returns.bootstrap_mask(experience))
    values = self._critic_network.representation.backup(
      self._backup_fn, outputs, actions.log_weights, batch, states.seed
    )
    return inputs, self._lambda_returns(experience, values)[:, 0]

  def critic_loss(
    self,
    steps: trajectory.Trajectory,
    td_targets: tf.Tensor,
    weights: tf.Tensor | None = None,
    joint_inputs: tuple[tf.Tensor, tf.Tensor] | None = None,
  ) -> dict[str, tf.Tensor]:
    """Line 14 for steps [B], scalars by name.

    Args:
      steps: one time step for each state.
      td_targets: as in `critic_update`.
      weights: likewise.
      joint_inputs: of `joint_batch`, for critics with BatchNorm. None takes
        running averages for the batch's.
    """
    representation = self._critic_network.representation
    taken = steps.action[tf.newaxis]
    if joint_inputs is None:
      outputs = self._critic_network.outputs(steps.observation, taken)  # [1, B]
    else:
      outputs, _ = self._critic_network(joint_inputs, training=True)
      outputs = tf.split(outputs, 2, axis=1)[0][:1]
    errors = representation.losses(outputs, td_targets[tf.newaxis])[0]
    q_values = representation.values(outputs)[0]
    mask = returns.transition_mask(steps)
    return {
      'critic_loss': regression.masked_mean(errors, mask, weights),
      'q_mean': regression.masked_mean(q_values, mask),
    }

  # Lines 17-21: the actor.

  def train_actor(self, **minibatch: Any) -> dict[str, tf.Tensor]:
    """`actor_update` on all replicas: the same arguments and results."""
    metrics = self.replicas.run(self.actor_update, **minibatch)
    self.actor_steps.assign_add(1)
    return metrics

  def actor_update(
    self,
    experience: trajectory.Trajectory,
    seed: types.Seed,
    q_vectors: tf.Tensor | None = None,
    regression: tuple[ActionSet, tf.Tensor, dict] | None = None,
    weights: tf.Tensor | None = None,
  ) -> dict[str, tf.Tensor]:
    """Lines 18-21: one gradient step of the actor.

    Args:
      experience: windows [B, T + 1].
      seed: stateless seed, int [2].
      q_vectors: cached outputs of the critic for all actions at the first
        steps, [B, actions] and its own axes; None computes them.
      regression: known result of `self.regression`; None computes it.
      weights: importance weight of each window, float [B].

    Returns:
      Scalars by name.
    """
    if regression is None:  # Lines 18-20
      regression = self.regression(experience, seed, q_vectors)
    actions, regression_weights, metrics = regression
    steps = returns.first_steps(experience)
    mask = returns.transition_mask(steps)
    return metrics | self._step_actor(  # Line 21
      mask, steps, actions, regression_weights, weights
    )

  def regression(
    self,
    experience: trajectory.Trajectory,
    seed: types.Seed,
    q_vectors: tf.Tensor | None = None,
  ) -> tuple[ActionSet, tf.Tensor, dict[str, tf.Tensor]]:
    """Lines 18-20: (actions [n, B], weights [n, B], scalars by name)."""

    def window_returns(seed):
      targets = self.td_targets(experience, seed)[:, 0]
      return self._critic_network.representation.means(targets)

    steps = returns.first_steps(experience)
    states = self.states(
      steps,
      seed,
      window_returns if q_vectors is None else None,
      q_vectors=q_vectors,
      q_vectors_of=self._critic_network,
    )
    actions, advantages = self.advantages(states)
    batch = replicas.batch(returns.transition_mask(steps))
    weights, metrics = self.weigh(advantages, actions.log_weights, batch)
    return actions, weights, metrics

  def advantages(self, states: States) -> tuple[ActionSet, tf.Tensor]:
    """Lines 18-20: (actions, their advantages [n, B]) at states [B]."""
    seeds = tf.random.experimental.stateless_split(states.seed, 3)
    states = copy.copy(states)  # Each slot has a seed of its own.
    # Line 18: n actions from the policy stored with the state.
    states.seed = seeds[0]
    actions = self._regression_actions(states)  # [n, B]
    # Lines 19-20: their advantages.
    states.seed = seeds[1]
    estimates = self._estimate_fn(states, actions)  # [n, B]
    states.seed = seeds[2]
    baseline = self._baseline_fn(states, actions, estimates)  # [B]
    return actions, estimates - baseline

  def weigh(
    self, advantages: tf.Tensor, log_weights: tf.Tensor, batch: Batch
  ) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
    """Line 20: (clipped weights [n, B], scalars by name)."""
    raw = self._weight_fn(advantages, log_weights, batch)  # [n, B]
    weights = tf.stop_gradient(tf.minimum(raw, self.max_weight))
    return weights, regression.weight_metrics(
      advantages, weights, log_weights, batch, self.max_weight
    )

  def actor_loss(
    self,
    steps: trajectory.Trajectory,
    actions: ActionSet,
    regression_weights: tf.Tensor,
    weights: tf.Tensor | None = None,
  ) -> dict[str, tf.Tensor]:
    """Line 21 for steps [B], scalars by name.

    Args:
      steps: one time step for each state.
      actions: onto which the policy regresses, [n, B].
      regression_weights: of line 20, float [n, B].
      weights: importance weight of each state, float [B].
    """
    policy = distribution(self._actor_network, steps.observation)
    elements = regression.weighted_log_likelihood_losses(
      policy.log_prob(actions.actions), regression_weights, actions.log_weights
    )  # [B]
    if self._penalty_fn is not None:
      elements += self._penalty_fn(policy, self.states(steps, self._seed))
    mask = returns.transition_mask(steps)
    return {'actor_loss': regression.masked_mean(elements, mask, weights)}

  # Networks and seeds.

  def q_values(self, observation, actions) -> tf.Tensor:
    """Q(s, a) for actions [n, ...], float [n, ...], no gradient."""
    outputs = self._critic_network((observation, actions))[0]
    values = self._critic_network.representation.values(outputs)
    return tf.stop_gradient(values)

  def behavior_distribution(self, policy_info):
    """mu(.|s) from what was stored."""
    spec = self._collect_policy.behavior_spec
    return slots.restore_distribution(spec, policy_info)

  def seed_for(self, stream: int, step: tf.Tensor) -> tf.Tensor:
    """A stateless seed, int32 [2], from (agent's seed, stream, step) alone."""
    fold_in = tf.random.experimental.stateless_fold_in
    step = tf.cast(step, tf.int32)  # Keeps the seed int32, as tfp requires.
    return fold_in(fold_in(self._seed, int(stream)), step)

  def count_train_steps(self, steps: tf.Tensor) -> None:
    """Adds to TF-Agents' own counter."""
    self.train_step_counter.assign_add(tf.cast(steps, tf.int64))

  @property
  def actor_network(self):
    """The network of line 21."""
    return self._actor_network

  @property
  def acting_network(self):
    """The network that acts: the one of line 21, or one made of the critic."""
    return self._collect_policy.actor_network

  @property
  def critic_network(self):
    """The critic being trained."""
    return self._critic_network

  @property
  def target_network(self):
    """The critic's target network."""
    return self._target_network

  @property
  def target_variables(self) -> list[tf.Variable]:
    """Variables of both target networks, which lines 8-9 change."""
    return self._online_and_target_variables()[1]

  def copy_targets(self) -> None:
    """Makes the target networks copies of the others."""
    common.soft_variables_update(*self._online_and_target_variables())

  def warm_start(self, prefix: str) -> None:
    """Reads networks and normaliser of an agent's TensorFlow checkpoint.

    Optimisers and counters stay as they are; targets become copies.

    Raises:
      ValueError, AssertionError, tf.errors.OpError: if they do not fit.
    """
    networks = tf.train.Checkpoint(
      _actor_network=self._actor_network, _critic_network=self._critic_network
    )
    status = tf.train.Checkpoint(agent=networks).read(prefix)
    status.expect_partial().assert_existing_objects_matched()
    self.copy_targets()

  def states(
    self, steps: trajectory.Trajectory, seed: types.Seed, *args, **kwargs
  ) -> States:
    """States of steps [...] for the slots; further arguments go to `States`."""
    networks = Networks(
      self._actor_network,
      self._critic_network,
      self._target_actor,
      self._target_network,
      self._collect_policy.behavior_spec,
      self.action_spec,
    )
    return States(networks, steps, seed, *args, **kwargs)

  def _online_and_target_variables(self):
    """Variables of critic and actor, and of their targets."""
    online = self._critic_network, self._actor_network
    targets = self._target_network, self._target_actor
    return tuple(
      sum([list(n.trainable_variables) for n in networks], [])
      for networks in (online, targets)
    )

  def _make_networks(self, actor_network, critic_network, spec) -> None:
    critic_network = critic_wrappers.as_critic(critic_network)
    if actor_network.state_spec:
      raise ValueError(
        'actor_network must not have a state; use a network without '
        f'recurrent layers, not {type(actor_network).__name__}.'
      )
    self._actor_network = actor_network
    self._critic_network = critic_network
    self._target_network = critic_network.copy(name='TargetCritic')
    actor_network.create_variables(spec)
    critic_network.create_variables()
    self._target_network.create_variables()

  def _make_target_actor(self, spec) -> None:
    self._target_actor = self._actor_network.copy(name='TargetActor')
    self._target_actor.create_variables(spec)
    self.copy_targets()

  def _make_gradient_steps(self) -> None:
    counts = self.critic_steps, self.actor_steps
    writes = self.summarize_grads_and_vars
    shared = (
      self.replicas,
      counts,
      self.train_step_counter if writes else None,
    )
    self._step_critic = replicas.GradientStep(
      self.critic_loss,
      'critic_loss',
      self._critic_network,
      self._critic_optimizer,
      *shared,
    )
    self._step_actor = replicas.GradientStep(
      self.actor_loss,
      'actor_loss',
      self._actor_network,
      self._actor_optimizer,
      *shared,
    )

  def _try_slots(self) -> None:
    """Names the metrics, which are the scalars of both losses.

    Both are computed once, so that a slot that does not fit fails here.
    """
    experience = tensor_spec.zero_spec_nest(
      self.collect_data_spec, outer_dims=[1, self.horizon + 1]
    )
    critic, actor = self._losses(experience, self.seed_for(Stream.CHECK, 0))
    self.critic_metrics = tuple(critic)
    self.actor_metrics = tuple(actor)

  # TF-Agents' interface.

  def _losses(self, experience, seed, weights=None):
    """Scalars of both losses, without a gradient step."""
    steps = returns.first_steps(experience)
    td_targets = self.td_targets(experience, seed)[:, 0]
    actions, regression_weights, metrics = self.regression(experience, seed)
    return self.critic_loss(steps, td_targets, weights), {
      **metrics,
      **self.actor_loss(steps, actions, regression_weights, weights),
    }

  def _train(
    self,
    experience: trajectory.Trajectory,
    weights: tf.Tensor | None = None,
  ) -> tf_agent.LossInfo:
    returns.check_windows(experience, self.horizon + 1, weights)
    if normalizer := getattr(self.acting_network, 'normalizer', None):
      normalizer.warn_if_empty()
    step = self.critic_steps.read_value()
    self.update_target(step)
    critic = self.train_critic(
      experience=experience,
      seed=self.seed_for(Stream.CRITIC, step),
      weights=weights,
    )
    actor = self.train_actor(
      experience=experience,
      seed=self.seed_for(Stream.ACTOR, self.actor_steps),
      weights=weights,
    )
    if self.debug_summaries:
      for name, value in {**critic, **actor}.items():
        tf.summary.scalar(f'{self.name}/{name}', value, self.train_step_counter)
    self.train_step_counter.assign_add(1)
    return _loss_info(critic, actor)

  def _loss(
    self,
    experience: trajectory.Trajectory,
    weights: tf.Tensor | None = None,
    training: bool = False,
  ) -> tf_agent.LossInfo:
    returns.check_windows(experience, self.horizon + 1, weights)
    seed = self.seed_for(Stream.CRITIC, self.critic_steps)
    return _loss_info(*self._losses(experience, seed, weights))


class RegressionLossInfo(NamedTuple):
  """Losses that `train` reports beside their sum."""

  critic_loss: tf.Tensor
  actor_loss: tf.Tensor


class Iterations:
  """The iterations of Algorithm 2, one after the other.

  Attributes:
    phase: 'collecting', 'compiling' or 'training'.
  """

  def __init__(self, agent: QwrAgent, source, iterator: Iterator):
    """Wraps an iterator of (what line 5 collected, metrics by name)."""
    self._agent = agent
    self._source = source
    self._iterator = iterator
    self.phase = 'collecting'

  def __iter__(self) -> 'Iterations':
    return self

  def __next__(self) -> tuple[Any, dict[str, tf.Tensor]]:
    return next(self._iterator)

  def begin(self, steps) -> None:
    """Remembers what `redraw` needs: steps made so far and steps to make."""
    agent = self._agent
    counts = agent.critic_steps, agent.actor_steps
    self._before = [int(tf.convert_to_tensor(n)) for n in counts]
    self._steps = [int(n) for n in steps]

  def redraw(self, bad_step: replicas.BadStep) -> tuple[tf.Tensor, Any]:
    """Redraws the windows of a gradient step that was rejected.

    Args:
      bad_step: of the newest iteration.

    Returns:
      (window starts [B], windows [B, T + 1]).
    """
    is_critic = bad_step.network == self._agent.critic_network.name
    kind = 0 if is_critic else 1
    counts = bad_step.critic_steps, bad_step.actor_steps
    since = [n - before for n, before in zip(counts, self._before, strict=True)]
    i = since[kind] % self._steps[kind]
    stream = Stream.CRITIC_DRAWS if is_critic else Stream.ACTOR_DRAWS
    # The draws of a phase depend on the steps made when it began.
    steps_before = sum(counts) - i
    return self._source.redraw(stream, steps_before, self._steps[kind], i)


def _counter(name: str) -> tf.Variable:
  """A count of steps, the same however many replicas make them."""
  once = tf.VariableAggregation.ONLY_FIRST_REPLICA
  return tf.Variable(
    0, trainable=False, dtype=tf.int64, aggregation=once, name=name
  )


def _loss_info(critic: dict, actor: dict) -> tf_agent.LossInfo:
  # A stock Learner sums over replicas; the parts add up to the mean.
  critic_loss = replicas.part(critic['critic_loss'])
  actor_loss = replicas.part(actor['actor_loss'])
  return tf_agent.LossInfo(
    critic_loss + actor_loss, RegressionLossInfo(critic_loss, actor_loss)
  )
