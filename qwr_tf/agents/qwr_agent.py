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

n is the paper's k. A slot is an argument of `iterate` or `QwrAgent` that gin
sets, mostly a function; related algorithms (AWR, RWR, AWAC, CRR, BC, DQN) put
other functions there.
"""

import functools
import operator
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import gin
import tensorflow as tf
from tf_agents.agents import tf_agent
from tf_agents.networks import network as tf_network
from tf_agents.specs import tensor_spec
from tf_agents.trajectories import trajectory
from tf_agents.typing import types
from tf_agents.utils import common

from qwr_tf import replay
from qwr_tf.agents import penalties  # noqa: F401, gin files name them.
from qwr_tf.agents import slots
from qwr_tf.agents import target_updates
from qwr_tf.agents.slots import ActionSet
from qwr_tf.agents.slots import States
from qwr_tf.config.ranges import Fraction
from qwr_tf.config.ranges import PositiveFloat
from qwr_tf.config.ranges import PositiveInt
from qwr_tf.config.ranges import Steps
from qwr_tf.minibatches import minibatches
from qwr_tf.networks import critic_wrappers
from qwr_tf.networks import critics
from qwr_tf.networks import torsos
from qwr_tf.ops import averages
from qwr_tf.ops import backups
from qwr_tf.ops import regression
from qwr_tf.ops import returns
from qwr_tf.ops import step_counts
from qwr_tf.ops.regression import Batch
from qwr_tf.ops.streams import Stream
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
    table: the replay table.
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
    An iterator of (what collect returned, the iteration's metrics by name,
    `ops.averages` over its gradient steps).
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
    steps = rounds * (critic_steps + actor_steps)
    agent.train_step_counter.assign_add(tf.cast(steps, tf.int64))
    means = averages.averages(totals, rounds, names)
    result.phase = 'training'  # Runs in a trace, not in later calls.
    return dict(zip(names, tf.unstack(means), strict=True))

  def iterations():
    phase = 'compiling'
    while True:  # Line 4
      result.phase = 'collecting'
      collected = collect()  # Line 5
      result.phase, phase = phase, 'training'
      num_steps = functools.partial(steps_fn, collected.interactions)
      steps = num_steps(critic_steps), num_steps(actor_steps)
      result.begin(steps, agent.critic_steps, agent.actor_steps)
      yield collected, train_phases(*steps)  # Lines 6-21

  result = Iterations(source, iterations())
  return result


class Iterations:
  """Iterator over the iterations of Algorithm 2; attributes say what runs.

  Attributes:
    source: of the minibatches.
    phase: 'collecting', 'compiling' or 'training'.
    steps_before: critic and actor steps made before the newest iteration.
    steps: of its critic and of its actor phase.
  """

  phase = 'collecting'
  steps_before: Sequence[int] = (0, 0)
  steps: Sequence[int] = (0, 0)

  def __init__(self, source, iterator: Iterator):
    """Wraps an iterator of (what line 5 collected, metrics by name)."""
    self.source = source
    self._iterator = iterator

  def __iter__(self) -> 'Iterations':
    return self

  def __next__(self) -> tuple[Any, dict[str, tf.Tensor]]:
    return next(self._iterator)

  def begin(self, steps, *counts: tf.Variable) -> None:
    """Notes the steps made so far and those to make."""
    self.steps_before = [int(count.read_value()) for count in counts]
    self.steps = [int(n) for n in steps]


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
    actor_network: tf_network.Network,
    critic_network: tf_network.Network,
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
    tf.Module.__init__(self, name=name)
    default_actions = slots.default_actions(action_spec)
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
    policy, collect_policy = self._make_networks(
      actor_network, critic_network, policies_fn, time_step_spec, action_spec
    )
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
    slots.check_advantages(
      estimate_fn, baseline_fn, weight_fn, self._critic_network
    )
    for network in (self._actor_network, self._target_actor):
      head = getattr(network, 'head', None)
      if head is not None and hasattr(head, 'train_step_counter'):
        head.train_step_counter = self.train_step_counter  # For its schedule.
    self._make_gradient_steps(actor_optimizer, critic_optimizer)

  # Lines 8-14: the critic.

  def update_target(self, step: tf.Tensor) -> None:
    """Lines 6, 8-9; step counts the critic steps within the phase."""
    online = _trainable(self._critic_network, self._actor_network)
    changed = self._target_update_fn(
      online, self.target_variables, step, self.critic_steps
    )
    self.target_updates.assign_add(tf.cast(changed, tf.int64))

  def train_critic(self, **minibatch: Any) -> dict[str, tf.Tensor]:
    """`critic_update` on all replicas; counts the step."""
    metrics = self.replicas.run(self.critic_update, **minibatch)
    self.critic_steps.assign_add(1)
    return metrics

  def critic_update(
    self,
    experience: trajectory.Trajectory,
    seed: types.Seed,
    q_vectors: tf.Tensor | None = None,
    td_targets: tf.Tensor | None = None,
    sample_weights: tf.Tensor | None = None,
  ) -> dict[str, tf.Tensor]:
    """Lines 12-14: one gradient step of the critic; returns metrics.

    Args:
      experience: windows [B, T + 1].
      seed: stateless seed, int [2].
      q_vectors: outputs of the target network for all actions, [B, T, actions]
        and the critic's own axes (heads of an ensemble, atoms of a
        distribution), where a cache has them.
      td_targets: of the first steps, [B] and the critic's own axes, if cached.
      sample_weights: importance weight of each window, float [B].
    """
    steps, next_rows = returns.first_steps(experience), None
    if td_targets is None:  # Lines 12-13
      td_targets, next_rows = self._targets(experience, seed, q_vectors, steps)
      td_targets = td_targets[:, 0]
    batch = replicas.batch(returns.transition_mask(steps))
    return self._step_critic(  # Line 14
      batch, steps, td_targets, sample_weights, next_rows
    )

  def td_targets(
    self,
    experience: trajectory.Trajectory,
    seed: types.Seed,
    q_vectors: tf.Tensor | None = None,
  ) -> tf.Tensor:
    """Lines 12-13: targets of windows, [B, T] and the critic's own axes."""
    return self._targets(experience, seed, q_vectors)[0]

  def _targets(
    self, experience, seed, q_vectors=None, steps=None
  ) -> tuple[tf.Tensor, critics.Rows]:
    """Lines 12-13: (targets, next states and the actions there).

    A critic with BatchNorm needs `steps`, the first ones, to normalise them in
    one batch with the next states.
    """
    next_steps = returns.next_steps(experience)
    states = self.states(
      next_steps,
      seed,
      q_vectors=q_vectors,
      q_vectors_of=self._target_network,
      previous=steps,
    )
    batch = replicas.batch(returns.bootstrap_mask(experience))
    values, actions = self.state_values(states, batch)
    targets = returns.lambda_returns(
      experience.reward[:, :-1],
      self.gamma * experience.discount[:, :-1],
      values,
      experience.is_last()[:, :-1],
      self.td_lambda,
      self._critic_network.representation.bellman,
    )
    return tf.stop_gradient(targets), (next_steps.observation, actions)

  def state_values(
    self, states: States, batch: Batch
  ) -> tuple[tf.Tensor, tf.Tensor]:
    """Lines 12-13, F: (values [...] and own axes, actions [n, ...])."""
    # Line 12: n actions for each state, from the policy stored with it.
    actions, log_weights = self._backup_actions(states)  # [n, ...]
    # Line 13: F over the target network's values.
    outputs = states.target_outputs(actions)
    values = self._critic_network.representation.backup(
      self._backup_fn, outputs, log_weights, batch, states.seed
    )
    return values, actions

  def critic_loss(
    self,
    steps: trajectory.Trajectory,
    td_targets: tf.Tensor,
    sample_weights: tf.Tensor | None = None,
    next_rows: critics.Rows | None = None,
  ) -> dict[str, tf.Tensor]:
    """Line 14 for steps [B], as metrics; arguments as in `critic_update`.

    With `next_rows` a critic with BatchNorm trains, see `Critic.taken_outputs`.
    """
    representation = self._critic_network.representation
    outputs = self._critic_network.taken_outputs(steps, next_rows)  # [1, B]
    errors = representation.losses(outputs, td_targets[tf.newaxis])[0]
    q_values = representation.values(outputs)[0]
    # Means of this replica; `GradientStep` adds those of the others.
    batch = Batch(returns.transition_mask(steps))
    return {
      'critic_loss': batch.mean(errors, sample_weights),
      'q_mean': batch.mean(q_values),
    }

  # Lines 17-21: the actor.

  def train_actor(self, **minibatch: Any) -> dict[str, tf.Tensor]:
    """`actor_update` on all replicas; counts the step."""
    metrics = self.replicas.run(self.actor_update, **minibatch)
    self.actor_steps.assign_add(1)
    return metrics

  def actor_update(
    self,
    experience: trajectory.Trajectory,
    seed: types.Seed,
    q_vectors: tf.Tensor | None = None,
    weighted_actions: tuple[ActionSet, tf.Tensor, dict] | None = None,
    sample_weights: tf.Tensor | None = None,
  ) -> dict[str, tf.Tensor]:
    """Lines 18-21: one gradient step of the actor; returns metrics.

    Args:
      experience: windows [B, T + 1].
      seed: stateless seed, int [2].
      q_vectors: outputs of the critic for all actions at the first steps, [B,
        actions] and its own axes, where a cache has them.
      weighted_actions: result of `self.weighted_actions`, if cached.
      sample_weights: importance weight of each window, float [B].
    """
    steps = returns.first_steps(experience)
    if weighted_actions is None:  # Lines 18-20
      weighted_actions = self.weighted_actions(experience, seed, q_vectors)
    actions, weights, metrics = weighted_actions
    batch = replicas.batch(returns.transition_mask(steps))
    return metrics | self._step_actor(  # Line 21
      batch, steps, actions, weights, sample_weights
    )

  def weighted_actions(
    self,
    experience: trajectory.Trajectory,
    seed: types.Seed,
    q_vectors: tf.Tensor | None = None,
  ) -> tuple[ActionSet, tf.Tensor, dict[str, tf.Tensor]]:
    """Lines 18-20: (actions [n, B], weights [n, B], metrics)."""

    def window_returns(seed):
      targets = self.td_targets(experience, seed)[:, 0]
      return self._critic_network.representation.means(targets)

    steps = returns.first_steps(experience)
    # Cached outputs and `NStepMinibatches` come without the next steps.
    has_next = q_vectors is None and experience.reward.shape[1] != 1
    states = self.states(
      steps,
      seed,
      window_returns if has_next else None,
      q_vectors=q_vectors,
      q_vectors_of=self._critic_network,
    )
    actions, advantages = self.advantages(states)
    batch = replicas.batch(returns.transition_mask(steps))
    weights, metrics = self.weigh(advantages, actions.log_weights, batch)
    return actions, weights, metrics

  def advantages(self, states: States) -> tuple[ActionSet, tf.Tensor]:
    """Lines 18-20: (actions, their advantages [n, B]) at states [B]."""
    for_actions, for_estimates, for_baseline = states.split_seed(3)
    # Line 18: n actions from the policy stored with the state.
    actions = self._regression_actions(for_actions)  # [n, B]
    # Lines 19-20: their advantages.
    estimates = self._estimate_fn(for_estimates, actions)  # [n, B]
    baseline = self._baseline_fn(for_baseline, actions, estimates)  # [B]
    return actions, estimates - baseline

  def weigh(
    self, advantages: tf.Tensor, log_weights: tf.Tensor, batch: Batch
  ) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
    """Line 20: (clipped weights [n, B], metrics)."""
    raw = self._weight_fn(advantages, log_weights, batch)  # [n, B]
    weights = tf.stop_gradient(tf.minimum(raw, self.max_weight))
    return weights, regression.weight_metrics(
      advantages, weights, log_weights, batch, self.max_weight
    )

  def actor_loss(
    self,
    steps: trajectory.Trajectory,
    actions: ActionSet,
    weights: tf.Tensor,
    sample_weights: tf.Tensor | None = None,
  ) -> dict[str, tf.Tensor]:
    """Line 21 for steps [B] and weighted actions [n, B]; returns metrics."""
    policy = slots.distribution(self._actor_network, steps.observation)
    elements = regression.weighted_log_likelihood_losses(
      policy.log_prob(actions.actions), weights, actions.log_weights
    )  # [B]
    if self._penalty_fn is not None:
      elements += self._penalty_fn(policy, self.states(steps, self._seed))
    # Of this replica, as in `critic_loss`.
    batch = Batch(returns.transition_mask(steps))
    return {'actor_loss': batch.mean(elements, sample_weights)}

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

  # Checkpoints have the names with an underscore, which must therefore stay.
  actor_network = property(operator.attrgetter('_actor_network'))
  critic_network = property(operator.attrgetter('_critic_network'))
  target_network = property(operator.attrgetter('_target_network'))

  @property
  def acting_network(self):
    """The network that acts: the one of line 21, or one made of the critic."""
    return self._collect_policy.actor_network

  @property
  def target_variables(self) -> list[tf.Variable]:
    """Variables of both target networks, which lines 8-9 change."""
    return _trainable(self._target_network, self._target_actor)

  def copy_targets(self) -> None:
    """Makes the target networks copies of the others."""
    online = _trainable(self._critic_network, self._actor_network)
    common.soft_variables_update(online, self.target_variables)

  def _make_networks(
    self, actor, critic, policies_fn, time_step_spec, action_spec
  ) -> behavior_policy.Policies:
    """Counts, networks and `states`; returns the policies."""
    self.replicas = replicas.Replicas()
    critic = critic_wrappers.as_critic(critic)
    if self.horizon > 1 and critic.has_batch_norm:
      raise ValueError(
        f'A critic with BatchNorm needs horizon 1, not {self.horizon}.'
      )
    if self.replicas.count > 1 and critic.has_batch_norm:
      raise ValueError(
        'A critic with BatchNorm needs a single replica: each would normalise '
        'by its own share of the minibatch.'
      )
    if torsos.has_batch_norm(actor):
      raise ValueError(
        'BatchNorm is for critics: an actor plays one observation at a time.'
      )
    if actor.state_spec:
      raise ValueError(
        'actor_network must not have a state; use a network without '
        f'recurrent layers, not {type(actor).__name__}.'
      )
    self.critic_steps = counter('critic_steps')
    self.actor_steps = counter('actor_steps')
    self.target_updates = counter('target_updates')
    self._actor_network = actor
    self._critic_network = critic
    self._target_network = critic.copy(name='TargetCritic')
    actor.create_variables(time_step_spec.observation)
    critic.create_variables()
    self._target_network.create_variables()
    actors = behavior_policy.Actors(actor, critic, self.critic_steps)
    policy, collect_policy = policies_fn(actors, time_step_spec, action_spec)
    self._target_actor = actor.copy(name='TargetActor')
    self._target_actor.create_variables(time_step_spec.observation)
    self.copy_targets()
    # (steps [...], seed) -> `States` for the slots.
    self.states = functools.partial(
      States,
      slots.Networks(
        actor,
        critic,
        self._target_actor,
        self._target_network,
        collect_policy.behavior_spec,
        action_spec,
      ),
    )
    return policy, collect_policy

  def _make_gradient_steps(self, actor_optimizer, critic_optimizer) -> None:
    """Line 14 and line 21, and the names of their metrics."""
    self._actor_optimizer = actor_optimizer
    self._critic_optimizer = critic_optimizer
    writes = self.summarize_grads_and_vars
    shared = (
      self.replicas,
      (self.critic_steps, self.actor_steps),
      self.train_step_counter if writes else None,
    )
    self._step_critic = replicas.GradientStep(
      self.critic_loss,
      'critic_loss',
      self._critic_network,
      critic_optimizer,
      *shared,
    )
    self._step_actor = replicas.GradientStep(
      self.actor_loss,
      'actor_loss',
      self._actor_network,
      actor_optimizer,
      *shared,
    )
    # A slot that does not fit fails here. B = T + 1 is not T, so that a backup
    # that mixes up the axes of [n, B, T] fails, too.
    experience = tensor_spec.zero_spec_nest(
      self.collect_data_spec, outer_dims=[self.horizon + 1] * 2
    )
    losses = self._losses(experience, self.seed_for(Stream.CHECK, 0))
    self.critic_metrics, self.actor_metrics = map(tuple, losses)

  # TF-Agents' interface.

  def _losses(self, experience, seed, sample_weights=None):
    """Scalars of both losses, without a gradient step."""
    steps = returns.first_steps(experience)
    td_targets = self.td_targets(experience, seed)[:, 0]
    actions, weights, metrics = self.weighted_actions(experience, seed)
    actor = self.actor_loss(steps, actions, weights, sample_weights)
    return self.critic_loss(steps, td_targets, sample_weights), metrics | actor

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
      sample_weights=weights,
    )
    actor = self.train_actor(
      experience=experience,
      seed=self.seed_for(Stream.ACTOR, self.actor_steps),
      sample_weights=weights,
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


def _trainable(*networks) -> list[tf.Variable]:
  return [v for network in networks for v in network.trainable_variables]


def counter(name: str) -> tf.Variable:
  """A count of steps, the same however many replicas make them."""
  once = tf.VariableAggregation.ONLY_FIRST_REPLICA
  return tf.Variable(
    0, trainable=False, dtype=tf.int64, aggregation=once, name=name
  )


def _loss_info(critic: dict, actor: dict) -> tf_agent.LossInfo:
  # A stock Learner sums over replicas; the parts add up to the mean.
  num_replicas = replicas.batch(None).num_replicas
  critic_loss = critic['critic_loss'] / num_replicas
  actor_loss = actor['actor_loss'] / num_replicas
  return tf_agent.LossInfo(
    critic_loss + actor_loss, RegressionLossInfo(critic_loss, actor_loss)
  )
