"""ExactReuse against PerMinibatch: the same draws, the same numbers."""

import functools

import numpy as np
import pytest
import tensorflow as tf
from tf_agents.specs import tensor_spec
from tf_agents.trajectories import time_step as ts
from tf_agents.trajectories import trajectory

from qwr_tf import networks
from qwr_tf.agents import qwr_agent
from qwr_tf.agents import slots
from qwr_tf.agents import target_updates
from qwr_tf.minibatches import exact_reuse
from qwr_tf.minibatches import minibatches
from qwr_tf.networks import torsos
from qwr_tf.ops import backups
from qwr_tf.replay import ReplayTable

_ACTIONS = tensor_spec.BoundedTensorSpec([], tf.int32, 0, 2, 'action')
_IMAGES = tensor_spec.TensorSpec([6, 6, 3], tf.uint8, 'observation')
_BATCH = 16


def _torso():
  return tf.keras.Sequential(
    [
      tf.keras.layers.Rescaling(1 / 255),
      tf.keras.layers.Conv2D(4, 3, activation='relu'),
      tf.keras.layers.Flatten(),
      tf.keras.layers.Dense(8, activation='relu'),
    ]
  )


def _agent(action_spec=_ACTIONS, critic_class=networks.GatedQNetwork, **kwargs):
  tf.keras.utils.set_random_seed(1)
  sgd = tf.keras.optimizers.legacy.SGD
  return qwr_agent.QwrAgent(
    ts.time_step_spec(_IMAGES),
    action_spec,
    networks.ActorNetwork(_IMAGES, action_spec, torso_fn=_torso),
    critic_class(_IMAGES, action_spec, torso_fn=_torso),
    actor_optimizer=sgd(0.1),
    critic_optimizer=sgd(0.1),
    **kwargs,
  )


def _new_table():
  """Episodes of 1 to 6 steps; the table has wrapped and ends mid-episode."""
  rng = np.random.default_rng(0)
  table = ReplayTable(
    _agent().collect_data_spec, 40, rows_per_interaction=1.5, single_frames=True
  )
  for _ in range(20):
    length = rng.integers(1, 7)
    table.append(_episode(rng, length))
  table.append(tf.nest.map_structure(lambda x: x[:-1], _episode(rng, 5)))
  return table


@functools.cache
def _table():
  """A table that tests share: none of them appends to it."""
  return _new_table()


def _episode(rng, length):
  """Rows [length + 1] of random numbers; stacks repeat the first frame."""
  rows = np.arange(length + 1)
  frames = rng.integers(0, 256, [length + 1, 6, 6])
  stacks = np.stack([frames[np.maximum(rows - k, 0)] for k in (2, 1, 0)], -1)
  terminal = rng.random() < 0.5
  discount = np.where((rows == length - 1) & terminal, 0.0, 1.0)
  types = np.where(rows == 0, 0, np.where(rows == length, 2, 1))
  following = np.where(rows == length, 0, np.roll(types, -1))
  logits = rng.normal(size=[length + 1, 3])
  return trajectory.Trajectory(
    step_type=tf.constant(types, tf.int32),
    observation=tf.constant(stacks, tf.uint8),
    action=tf.constant(rng.integers(0, 3, length + 1), tf.int32),
    policy_info={'dist_params': {'logits': tf.constant(logits, tf.float32)}},
    next_step_type=tf.constant(following, tf.int32),
    reward=tf.constant(rng.normal(size=length + 1), tf.float32),
    discount=tf.constant(discount, tf.float32),
  )


def _targets(agent, minibatch):
  return agent.td_targets(**minibatch)[:, 0]


def _critic_steps(minibatches_fn, num_steps, **kwargs):
  """(targets [num_steps, B], first step of each window, critic's weights)."""
  agent = _agent(**kwargs)
  source = minibatches_fn(agent, _table(), _BATCH)

  @tf.function
  def phase():
    draw = source.critic_phase(num_steps)
    targets = tf.TensorArray(tf.float32, num_steps)
    firsts = tf.TensorArray(tf.uint8, num_steps)
    for i in tf.range(num_steps):
      agent.update_target(i)
      minibatch = draw(i)
      targets = targets.write(i, _targets(agent, minibatch))
      firsts = firsts.write(i, minibatch['experience'].observation[:, 0])
      agent.train_critic(**minibatch)
    return targets.stack(), firsts.stack()

  return *phase(), agent.critic_network.get_weights()


_UPDATES = {
  'every third': functools.partial(
    target_updates.hard_update, period_train_steps=3
  ),
  'always': target_updates.polyak_update,
}


@functools.cache
def _naive_steps(update):
  kwargs = {'horizon': 3, 'target_update_fn': _UPDATES[update]}
  return _critic_steps(minibatches.PerMinibatch, 7, **kwargs)


@pytest.mark.slow
@pytest.mark.parametrize(
  'update, reuse_train_steps',
  [('always', 1), ('always', 5), ('every third', 3), ('every third', 5)],
)
def test_targets_and_gradients_are_those_of_the_naive_way(
  update, reuse_train_steps
):
  """Whatever the period, and for windows that cross ends of episodes."""
  reuse = functools.partial(
    exact_reuse.ExactReuse, reuse_train_steps=reuse_train_steps
  )
  naive = _naive_steps(update)
  reused = _critic_steps(reuse, 7, horizon=3, target_update_fn=_UPDATES[update])
  np.testing.assert_allclose(reused[0], naive[0], rtol=1e-5, atol=1e-6)
  np.testing.assert_array_equal(reused[1], naive[1])
  for a, b in zip(reused[2], naive[2], strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_a_phase_does_not_keep_what_an_earlier_one_computed():
  """The table has changed in between, and the target with it."""
  agent = _agent(horizon=2)
  table = _new_table()
  both = [
    fn(agent, table, _BATCH)
    for fn in (minibatches.PerMinibatch, exact_reuse.ExactReuse)
  ]
  for _ in range(3):
    agent.update_target(tf.constant(1))  # Not due: the target stays.
    naive, reused = (
      tf.function(
        lambda s=s: _targets(agent, s.critic_phase(2)(tf.constant(1)))
      )()
      for s in both
    )
    np.testing.assert_allclose(reused, naive, rtol=1e-5, atol=1e-6)
    table.append(_episode(np.random.default_rng(5), 6))


@pytest.mark.slow
@pytest.mark.parametrize(
  'actions',
  [
    slots.enumerated_behavior_actions,
    slots.sampled_behavior_actions,
    slots.stored_actions,
  ],
)
def test_weights_and_gradients_are_those_of_the_naive_way(actions):
  """For every action set that does not ask the policy being trained."""
  chosen = {'regression_actions': actions, 'backup_actions': actions}
  if actions is slots.stored_actions:
    # The mean of one estimate would be this estimate, and every weight one.
    chosen['baseline_fn'] = functools.partial(
      slots.critic_baseline,
      baseline_actions=slots.enumerated_behavior_actions,
    )
  results = []
  for fn in (minibatches.PerMinibatch, exact_reuse.ExactReuse):
    agent = _agent(**chosen)
    for variable in agent.target_variables:  # Weights are of the critic.
      variable.assign_add(tf.ones_like(variable))
    draw = fn(agent, _table(), _BATCH).actor_phase(5)
    weights = []
    for i in tf.range(5):
      minibatch = draw(i)
      weights.append(agent.weighted_actions(**minibatch)[1])
      agent.train_actor(**minibatch)
    results.append((tf.stack(weights), agent.actor_network.get_weights()))
  (naive, naive_weights), (reused, reused_weights) = results
  assert np.ptp(naive) > 0.1
  np.testing.assert_allclose(reused, naive, rtol=1e-3, atol=1e-5)
  for a, b in zip(reused_weights, naive_weights, strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)


@pytest.mark.slow
def test_later_steps_draw_the_actions_of_the_naive_way():
  """Their numbers since training began decide, not those in the phase."""
  results = []
  for fn in (minibatches.PerMinibatch, exact_reuse.ExactReuse):
    agent = _agent(
      backup_actions=slots.sampled_behavior_actions,
      regression_actions=slots.sampled_behavior_actions,
    )
    agent.critic_steps.assign(3)
    agent.actor_steps.assign(5)
    source = fn(agent, _table(), _BATCH)
    targets = _targets(agent, source.critic_phase(1)(tf.constant(0)))
    actions, _, _ = agent.weighted_actions(
      **source.actor_phase(1)(tf.constant(0))
    )
    results.append((targets, actions.actions))
  (targets, actions), (reused_targets, reused_actions) = results
  np.testing.assert_allclose(reused_targets, targets, rtol=1e-5, atol=1e-6)
  np.testing.assert_array_equal(reused_actions, actions)


def _counting_agent(seen, **kwargs):
  """An agent whose critics add to a list how many rows they are asked for."""

  class Counting(networks.GatedQNetwork):
    def outputs(self, observation, actions):
      rows = tf.shape(observation)[0]
      tf.py_function(lambda n: seen.append(int(n)), [rows], [])
      return super().outputs(observation, actions)

  return _agent(critic_class=Counting, **kwargs)


@pytest.mark.slow
def test_critic_steps_between_two_copies_share_what_is_computed(monkeypatch):
  """Each of the 40 interactions has one row after it to bootstrap from."""
  monkeypatch.setattr(exact_reuse, '_CHUNK_ROWS', 8)
  seen = []
  agent = _counting_agent(seen, horizon=1)
  source = exact_reuse.ExactReuse(agent, _table(), _BATCH)
  seen.clear()
  draw = source.critic_phase(10)
  for i in range(10):
    draw(tf.constant(i))
  assert 30 < sum(seen) <= 40


@pytest.mark.slow
def test_each_drawn_row_is_computed_once_per_target(monkeypatch):
  """160 draws from 40 interactions: the torso sees at most the table."""
  monkeypatch.setattr(exact_reuse, '_CHUNK_ROWS', 8)
  seen = []
  agent = _counting_agent(seen)
  source = exact_reuse.ExactReuse(agent, _table(), _BATCH)
  seen.clear()
  tf.function(lambda: source.actor_phase(10)(tf.constant(0)))()
  assert 30 < sum(seen) <= 40  # Five chunks.


@pytest.mark.slow
def test_a_target_that_always_moves_is_not_computed_ahead(monkeypatch):
  monkeypatch.setattr(exact_reuse, '_CHUNK_ROWS', 1)
  agent = _agent(horizon=1, target_update_fn=target_updates.polyak_update)
  source = exact_reuse.ExactReuse(agent, _table(), _BATCH)
  rows, compute = [], source._fill_cache

  def counting(outputs_of, slots):
    rows.append(tf.size(slots))
    compute(outputs_of, slots)

  monkeypatch.setattr(source, '_fill_cache', counting)
  draw = source.critic_phase(10)
  for i in range(10):
    agent.update_target(tf.constant(i))
    draw(tf.constant(i))
  # At first it is taken for one that stands still.
  assert [int(n) for n in rows] == [10 * _BATCH] + 9 * [_BATCH]


@pytest.mark.slow
def test_a_target_that_moves_early_is_computed_for_as_long_as_it_stays(
  monkeypatch,
):
  update = functools.partial(target_updates.hard_update, period_train_steps=3)
  agent = _agent(horizon=1, target_update_fn=update)
  source = exact_reuse.ExactReuse(agent, _table(), _BATCH)
  steps = []
  monkeypatch.setattr(
    source, '_fill_cache', lambda _, slots: steps.append(int(slots.shape[0]))
  )
  draw = source.critic_phase(10)
  for i in range(10):
    agent.update_target(tf.constant(i))
    draw(tf.constant(i))
  assert steps == [10, 3, 3, 1]  # From 0, 3, 6 and 9 on.


@pytest.mark.slow
def test_slots_that_want_the_state_are_refused():
  """In one line, when the loop is made."""
  for actions in (
    slots.sampled_policy_actions,
    slots.sampled_target_policy_actions,
  ):
    agent = _agent(backup_actions=actions)
    with pytest.raises(ValueError, match='PerMinibatch'):
      exact_reuse.ExactReuse(agent, _table(), _BATCH)
  agent = _agent(
    baseline_fn=functools.partial(
      slots.critic_baseline,
      baseline_actions=slots.sampled_policy_actions,
    )
  )
  with pytest.raises(ValueError, match='PerMinibatch'):
    exact_reuse.ExactReuse(agent, _table(), _BATCH)


@pytest.mark.slow
@pytest.mark.parametrize(
  'slot',
  [
    {'backup_actions': slots.greedy_actions},  # Double Q.
    {
      'estimate_fn': slots.return_estimates,
      'baseline_fn': slots.critic_baseline,
    },
  ],
)
def test_slots_that_want_the_other_critic_are_refused(slot):
  """A phase has the Q-vectors of one: they would stand for both."""
  agent = _agent(**slot)
  with pytest.raises(ValueError, match='PerMinibatch'):
    exact_reuse.ExactReuse(agent, _table(), _BATCH)


def test_continuous_actions_are_refused():
  """They cannot be enumerated."""
  line = tensor_spec.BoundedTensorSpec([1], tf.float32, -1, 1, 'action')
  observation = tensor_spec.TensorSpec([2], tf.float32, 'observation')
  torso = functools.partial(torsos.mlp_torso, (4,))
  adam = tf.keras.optimizers.legacy.Adam
  agent = qwr_agent.QwrAgent(
    ts.time_step_spec(observation),
    line,
    networks.ActorNetwork(observation, line, torso_fn=torso),
    networks.GatedQNetwork(observation, line, torso_fn=torso),
    actor_optimizer=adam(),
    critic_optimizer=adam(),
    backup_fn=backups.mean_backup,
  )
  table = ReplayTable(agent.collect_data_spec, 4)
  with pytest.raises(ValueError, match='PerMinibatch'):
    exact_reuse.ExactReuse(agent, table, 2)
