"""Q-Value Weighted Regression, Algorithm 2 of Kozakowski et al. (2021).

The lines of Algorithm 2 are named where they stand. Slots hold what its
relatives (AWR, RWR, AWAC, CRR, BC, DQN) do differently; none of them is asked
for by name here.
"""

from collections.abc import Callable, Iterator
from typing import Any

import gin
import tensorflow as tf
from tf_agents.trajectories import trajectory
from tf_agents.typing import types

from qwr_tf import replay
from qwr_tf.agents import action_sets
from qwr_tf.agents import advantages as advantages_lib
from qwr_tf.agents import behavior_policy
from qwr_tf.agents import minibatches
from qwr_tf.agents import penalties
from qwr_tf.agents import regression_agent
from qwr_tf.agents import step_counts
from qwr_tf.agents import target_updates
from qwr_tf.agents import windows
from qwr_tf.ops import backups
from qwr_tf.ops import losses
from qwr_tf.ops import returns
from qwr_tf.ops import weights as weights_lib


@gin.configurable
class QwrAgent(regression_agent.RegressionAgent):
  """A critic that backs up over mu, an actor that regresses onto its samples.

  The defaults are the paper's (Table 4). `train` takes windows of `horizon` +
  1 steps from any TF-Agents replay buffer and makes one critic and one actor
  step; `iterate` below runs the whole of Algorithm 2. Experience has the mu
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
    gamma: float = 0.99,
    td_lambda: float = 0.95,
    horizon: int = 3,
    backup_actions: Callable | None = None,
    backup_fn: Callable = backups.log_sum_exp_backup,
    target_update_fn: Callable = target_updates.hard_update,
    regression_actions: Callable | None = None,
    estimate_fn: Callable = advantages_lib.critic_estimates,
    baseline_fn: Callable = advantages_lib.mean_estimate,
    weight_fn: Callable = weights_lib.exp_weights,
    max_weight: float = 20.0,
    penalty_fn: Callable = penalties.no_penalty,
    policies_fn: Callable = behavior_policy.actor_policies,
    seed: int = 0,
    debug_summaries: bool = False,
    summarize_grads_and_vars: bool = False,
    train_step_counter: tf.Variable | None = None,
    name: str = 'QwrAgent',
  ):
    """Fills the slots.

    Args:
      time_step_spec: of the environment.
      action_spec: one bounded spec, an integer or a float vector.
      actor_network: TF-Agents network of an unsquashed distribution, no RNN.
      critic_network: a `networks.Critic`; its copy becomes the target network.
      actor_optimizer: of line 21.
      critic_optimizer: of line 14.
      gamma: discount per step.
      td_lambda: weight of longer returns in the critic's target, in [0, 1].
      horizon: T, the steps in a window ("margin" in the authors' code).
      backup_actions: line 12, where the actions behind a state value come
        from; see `action_sets`. Default: all, or 4 samples from mu.
      backup_fn: line 13, F; see `backups`.
      target_update_fn: lines 8-9; see `target_updates`.
      regression_actions: line 18, like `backup_actions`.
      estimate_fn: line 20, what stands for Q(s, a_j); see `advantages`.
      baseline_fn: line 19, what stands for V(s).
      weight_fn: line 20, advantages to weights; see `ops.weights`.
      max_weight: clips the weights; not in the paper, in its code.
      penalty_fn: line 21, added to the loss (AWR, AWAC); see `penalties`.
      policies_fn: line 5, who acts; see `behavior_policy.actor_policies`.
      seed: of all sampling while training.
      debug_summaries: `train` writes its scalars as summaries.
      summarize_grads_and_vars: gradient steps write summaries of both.
      train_step_counter: counts calls of `train` and steps of `iterate`.
      name: of the module and its summaries.

    Raises:
      ValueError: if a slot does not fit the action space.
    """
    if horizon < 1:
      raise ValueError(f'horizon must be 1 or more, not {horizon}.')
    self._gamma = gamma
    self._td_lambda = td_lambda
    default_actions = action_sets.default(action_spec)
    self._backup_actions = backup_actions or default_actions
    self._backup_fn = backup_fn
    self._target_update_fn = target_update_fn
    self._regression_actions = regression_actions or default_actions
    self._estimate_fn = estimate_fn
    self._baseline_fn = baseline_fn
    self._weight_fn = weight_fn
    self._max_weight = max_weight
    self._penalty_fn = penalty_fn
    super().__init__(
      time_step_spec,
      action_spec,
      actor_network,
      critic_network,
      actor_optimizer=actor_optimizer,
      critic_optimizer=critic_optimizer,
      policies_fn=policies_fn,
      horizon=horizon,
      seed=seed,
      debug_summaries=debug_summaries,
      summarize_grads_and_vars=summarize_grads_and_vars,
      train_step_counter=train_step_counter,
      name=name,
    )
    self._check_slots()

  # Lines 8-14: the critic.

  def update_target(self, step: tf.Tensor) -> None:
    """Lines 8-9, before the critic step of this number in its phase."""
    online, target = self._online_and_target_variables()
    changed = self._target_update_fn(online, target, step, self.critic_steps)
    self.target_updates.assign_add(tf.cast(changed, tf.int64))

  def state_values(self, steps, mask, seed: types.Seed) -> tf.Tensor:
    """Lines 12-13, F: values of steps [...] as the critic has them, [...]."""
    # Line 12: n actions for each state, from the policy stored with it.
    actions = self._backup_actions(self, steps, seed)  # [n, ...]
    outputs = self.target_outputs(steps.observation, actions.actions)
    # Line 13: F.
    return self._target_network.backup(
      self._backup_fn, outputs, actions.log_weights, mask, seed
    )

  def td_targets(self, experience, seed: types.Seed) -> tf.Tensor:
    """Of every step in windows [B, T + 1]: [B, T] and the critic's own axes."""
    next_steps = tf.nest.map_structure(lambda x: x[:, 1:], experience)
    mask = windows.bootstraps(experience)
    # Line 13: the lambda-return of F.
    targets = returns.lambda_returns(
      experience.reward[:, :-1],
      self._gamma * experience.discount[:, :-1],
      self.state_values(next_steps, mask, seed),
      experience.is_last()[:, :-1],
      self._td_lambda,
      self._target_network.bellman,
    )
    return tf.stop_gradient(targets)

  def critic_loss(self, experience, td_targets, weights=None):
    """Line 14 on the first steps of windows, scalars by name.

    Args:
      experience: windows, [B, T + 1] or at least [B, 1].
      td_targets: of the first steps: `td_targets`' [:, 0], or float [B].
      weights: of the elements, float [B].
    """
    first = windows.first_step(experience)
    taken = first.action[tf.newaxis]
    outputs = self.critic_outputs(first.observation, taken)  # [1, B]
    elements = self._critic_network.losses(outputs, td_targets[tf.newaxis])[0]
    q_values = self._critic_network.values(outputs)[0]  # [B]
    mask = windows.mask_of(first)
    return {
      'critic_loss': losses.masked_mean(elements, mask, weights),
      'q_mean': losses.masked_mean(q_values, mask),
    }

  # Lines 17-21: the actor.

  def advantages(
    self, experience: trajectory.Trajectory, seed: types.Seed
  ) -> tuple[action_sets.ActionSet, tf.Tensor]:
    """Lines 18-20: (actions, their advantages [n, B])."""
    first = windows.first_step(experience)
    seeds = tf.random.experimental.stateless_split(seed, 3)
    # Line 18: n actions from the policy stored with the state.
    actions = self._regression_actions(self, first, seeds[0])  # [n, B]
    # Lines 19-20: their advantages.
    estimates = self._estimate_fn(self, experience, actions, seeds[1])
    baseline = self._baseline_fn(
      self, experience, actions, estimates, seeds[2]
    )  # [B]
    return actions, estimates - baseline  # [n, B]

  def weigh(self, advantages, log_weights, mask):
    """Line 20: normalised, exponentiated, clipped; (weights, scalars)."""
    raw = self._weight_fn(advantages, log_weights, mask)  # [n, B]
    weights = tf.stop_gradient(tf.minimum(raw, self._max_weight))
    return weights, weights_lib.weight_scalars(
      advantages, weights, log_weights, mask, self._max_weight
    )

  def regression(
    self, experience: trajectory.Trajectory, seed: types.Seed
  ) -> tuple[action_sets.ActionSet, tf.Tensor, dict[str, tf.Tensor]]:
    """Lines 18-20: (actions, weights [n, B], scalars by name)."""
    actions, advantages = self.advantages(experience, seed)
    mask = windows.mask_of(windows.first_step(experience))
    return actions, *self.weigh(advantages, actions.log_weights, mask)

  def actor_loss(self, experience, actions, regression_weights, weights=None):
    """Line 21 with what `regression` returned. As `critic_loss`."""
    first = windows.first_step(experience)
    policy = self.policy_distribution(first.observation)
    log_probs = policy.log_prob(actions.actions)  # [n, B]
    elements = losses.weighted_log_likelihood_losses(
      log_probs, regression_weights, actions.log_weights
    )  # [B]
    elements += self._penalty_fn(self, policy)
    mask = windows.mask_of(first)
    return {'actor_loss': losses.masked_mean(elements, mask, weights)}


@gin.configurable
def iterate(
  agent: QwrAgent,
  table: replay.Table,
  collect: Callable[[], Any],
  *,
  minibatches_fn: Callable = minibatches.PerMinibatch,
  steps_fn: Callable = step_counts.fixed_steps,
  critic_steps: int = 1000,
  actor_steps: int = 1000,
  rounds: int = 1,
  batch_size: int = 256,
) -> Iterator[tuple[Any, dict[str, tf.Tensor]]]:
  """Algorithm 2, lines 4-22; both phases are one compiled graph loop.

  Args:
    agent: with its networks.
    table: of steps; some `minibatches_fn` want a `replay.ReplayTable`.
    collect: line 5, adds to the table; whatever it returns is yielded.
    minibatches_fn: lines 11-13 and 17-20, (agent, table, batch_size) ->
      `minibatches.PerMinibatch` or a relative: when the numbers are made.
    steps_fn: lines 7 and 16, (what collect returned, steps) -> steps.
    critic_steps: line 7.
    actor_steps: line 16.
    rounds: pairs of phases per iteration (AWAC, CRR: many, of one step).
    batch_size: B, of both phases.

  Returns:
    An iterator of (what collect returned, means over the steps by name).
  """
  source = minibatches_fn(agent, table, batch_size)
  critic_names = regression_agent.CRITIC_SCALARS
  actor_names = regression_agent.ACTOR_SCALARS
  names = critic_names + actor_names

  def critic_phase(num_steps):
    draw = source.critic_phase(num_steps)
    sums = tf.zeros([len(critic_names)])
    for i in tf.range(num_steps):  # Line 7
      agent.update_target(i)  # Lines 8-9
      experience, targets = draw(i)  # Lines 11-13
      scalars = agent.critic_step(experience, targets)  # Line 14
      sums += tf.stack([scalars[name] for name in critic_names])
    return sums / tf.cast(tf.maximum(num_steps, 1), tf.float32)

  def actor_phase(num_steps):
    draw = source.actor_phase(num_steps)
    sums = tf.zeros([len(actor_names)])
    for i in tf.range(num_steps):  # Line 16
      experience, actions, weights, scalars = draw(i)  # Lines 17-20
      scalars |= agent.actor_step(experience, actions, weights)  # Line 21
      sums += tf.stack([scalars[name] for name in actor_names])
    return sums / tf.cast(tf.maximum(num_steps, 1), tf.float32)

  @agent.replicas.function
  def train_phases(critic, actor):
    sums = tf.zeros([len(names)])
    for _ in tf.range(rounds):
      sums += tf.concat([critic_phase(critic), actor_phase(actor)], axis=0)
    agent.count_train_steps(rounds * (critic + actor))
    return dict(zip(names, tf.unstack(sums / rounds), strict=True))

  def iterations():
    while True:  # Line 4
      collected = collect()  # Line 5
      steps = [steps_fn(collected, n) for n in (critic_steps, actor_steps)]
      yield collected, train_phases(*steps)  # Lines 6-22

  return iterations()
