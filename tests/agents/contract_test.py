"""What every preset must do, whatever its slots: one test, all gin files.

Discrete and continuous: the environment of the file and one of the other
kind. Where a preset does not fit, it says so in a line when it is built.
"""

import itertools

import gin
import numpy as np
import pytest
import tensorflow as tf
from tf_agents.specs import tensor_spec
from tf_agents.trajectories import time_step as ts

from qwr_tf.config import gin_files
from qwr_tf.config.errors import ConfigError
from qwr_tf.runs import checkpoints
from qwr_tf.training import experiment

# Offline presets need a data set; their agents are those of other presets
# (offline_test.py).
_PRESETS = [p for p in gin_files.presets() if 'offline_' not in p]

# Preset -> what it says about the other kind of actions; the rest fit both.
_QWR = 'use @sampled_behavior_actions or @sampled_policy_actions'
_REFUSALS = {
  'awac_bitflip.gin': _QWR,
  'awac_mujoco.gin': 'TanhMeanGaussianHead is for one continuous action',
  'awr_lunarlander.gin': 'use @action_bound_penalty',
  'awr_mujoco.gin': 'use @logits_penalty',
  'awr_mujoco_no_baseline.gin': 'use @logits_penalty',
  'awr_mujoco_no_td_lambda.gin': 'use @logits_penalty',
  'awr_mujoco_on_policy.gin': 'use @logits_penalty',
  'bitflip.gin': _QWR,
  'crr_bitflip.gin': _QWR,
  'crr_bitflip_binary.gin': _QWR,
  'dqn_atari_100k.gin': 'DQN is for one discrete action',
  'dqn_atari.gin': 'DQN is for one discrete action',
  'dqn_bitflip.gin': 'DQN is for one discrete action',
  'rwr_mujoco.gin': 'use @logits_penalty',
}
_REFUSALS |= {
  file: 'the torso takes images of uint8'
  for file in _PRESETS
  if file.startswith('atari')
}
_REFUSALS |= {
  'atari_100k_iclr.gin': "unexpected keyword argument 'max_training_steps'",
  'atari_100k.gin': "unexpected keyword argument 'terminal_on_life_loss'",
  'atari_100k_stored_mu.gin': "keyword argument 'terminal_on_life_loss'",
}

_SMALL = (
  'run.replay_capacity = 60',
  'run.interactions = 20',
  'Collector.env_steps = 12',
  'Collector.first_env_steps = None',
  'load_environment.max_episode_steps = 20',
  'run.eval_environments = 1',
  'iterate.batch_size = 4',
  'iterate.critic_steps = 2',
  'iterate.actor_steps = 2',
  'iterate.rounds = 1',
  'mlp_torso.units = (8,)',
)


# One of each agent, critic, head, optimiser and schedule.
_ROUND_TRIPS = (
  'atari_100k.gin',
  'atari_100k_iclr.gin',
  'awac_mujoco.gin',
  'awr_mujoco.gin',
  'crr_mujoco.gin',
  'dqn_bitflip.gin',
  'mujoco_100k.gin',
  'mujoco_100k_iclr.gin',
  'rwr_bitflip.gin',
)


@pytest.fixture(autouse=True)
def _clear_gin():
  yield
  gin.clear_config()


def _build(file, environment=None, *bindings):
  """A run of a preset, small."""
  if environment:
    bindings = (*bindings, f"run.environment = '{environment}'")
  gin_files.parse([file], [*_SMALL, *bindings])
  return experiment.build(experiment.settings(), seed=0)


def _other_kind(file):
  """An environment with the other kind of actions."""
  gin_files.parse([file], [])
  name = experiment.settings().environment
  discrete = name.startswith(('BitFlip', 'LunarLander', 'ALE'))
  return 'Pendulum-v1' if discrete else 'CartPole-v1'


def _experience(agent, batch=4):
  """Windows like those of a table, of moderate size."""
  spec = agent.collect_data_spec
  outer = [batch, agent.horizon + 1]
  windows = tensor_spec.sample_spec_nest(spec, seed=1, outer_dims=outer)

  def normal(s):
    return tf.random.stateless_normal([*outer, *s.shape], [3, 4])

  if spec.observation.dtype.is_floating:
    windows = windows._replace(observation=normal(spec.observation))
  return windows._replace(
    step_type=tf.ones(outer, tf.int32),
    next_step_type=tf.ones(outer, tf.int32),
    discount=tf.ones(outer),
    reward=normal(spec.reward),
    policy_info=tf.nest.map_structure(
      lambda s: tf.abs(normal(s)), spec.policy_info
    ),
  )


@pytest.mark.slow
@pytest.mark.parametrize('file', _PRESETS)
def test_a_preset_keeps_the_contract(file, tmp_path):
  """Specs, one step of training, checkpoint; serving_test.py has the export."""
  parts = _build(file)
  agent = parts.agent
  assert agent.train_sequence_length == agent.horizon + 1
  tf.nest.assert_same_structure(agent.collect_data_spec, parts.table.data_spec)
  experience = _experience(agent)
  assert np.isfinite(agent.train(experience).loss)
  assert agent.train_step_counter == 1
  assert (agent.critic_steps, agent.actor_steps) == (1, 1)
  if file in _ROUND_TRIPS:
    checkpoints.save(agent, tmp_path / 'checkpoint')
    restored = _build(file).agent
    checkpoints.restore(restored, tmp_path / 'checkpoint')
    _assert_same(agent, restored, experience)


def _assert_same(agent, restored, experience):
  observation = experience.observation[:, 0]
  mode = agent.acting_network(observation)[0].mode()
  np.testing.assert_array_equal(
    restored.acting_network(observation)[0].mode(), mode
  )
  # Optimisers, counters and targets are in it: both go on alike.
  losses = [a.train(experience).loss for a in (agent, restored)]
  np.testing.assert_array_equal(*losses)


@pytest.mark.slow
@pytest.mark.parametrize('file', _PRESETS)
def test_a_preset_fits_the_other_actions_or_says_why_not(file):
  environment = _other_kind(file)
  if file not in _REFUSALS:
    agent = _build(file, environment).agent
    assert np.isfinite(agent.train(_experience(agent)).loss)
    return
  with pytest.raises(ConfigError) as caught:
    _build(file, environment)
  message = str(caught.value)
  assert _REFUSALS[file] in message and '\n' not in message


@pytest.mark.parametrize(
  'file, bindings, message',
  [
    (
      'vector.gin',
      ('iterate.rounds = 2', 'hard_update.period_train_steps = 3'),
      'periodic_update',
    ),
    ('vector.gin', ('PerMinibatch.augment_fn = @random_shifts',), 'images'),
    (
      'vector.gin',
      ('make_agent.critic_network = @critics.ValueNetwork',),
      'advantages are 0',
    ),
    (
      'vector.gin',
      ('make_agent.critic_network = @NoCritic',),
      'advantages are 0',
    ),
    (
      'vector.gin',
      ('QwrAgent.estimate_fn = @return_estimates',),
      'advantages are 0',
    ),
    (
      'awr_mujoco_no_td_lambda.gin',
      ('iterate.minibatches_fn = @NStepMinibatches',),
      'no returns for these states',
    ),
  ],
)
def test_slots_that_do_not_go_together_are_refused(file, bindings, message):
  with pytest.raises(ConfigError, match=message):
    _build(file, None, *bindings)


def test_a_copy_of_a_network_has_the_layers_of_its_scope():
  agent = _build(
    'vector.gin',
    None,
    'make_agent.critic_network = @critic/DiscreteQNetwork',
    'make_agent.actor_network = @actor/actors.ActorNetwork',
    'actors.ActorNetwork.torso_fn = @mlp_torso',
    'DiscreteQNetwork.torso_fn = @mlp_torso',
    'critic/mlp_torso.layer_norm = True',
    'actor/mlp_torso.units = (4,)',
  ).agent
  online, target = (
    [v.shape for v in network.trainable_variables]
    for network in (agent.critic_network, agent.target_network)
  )
  assert online == target
  # A hidden layer of eight, its LayerNorm, and the head.
  assert len(online) == 6


@pytest.mark.parametrize(
  'environment, step, scale',
  [
    ('HalfCheetah-v4', 5e-5, 0.4),
    ('Hopper-v4', 1e-4, 0.4),
    ('Walker2d-v4', 2.5e-5, 0.4),
    ('Humanoid-v4', 1e-5, 0.4),
    ('Ant-v4', 5e-5, 0.2),
    ('gymnasium.envs.mujoco:Ant-v4', 5e-5, 0.2),
  ],
)
def test_awr_knows_the_environments_step_size(environment, step, scale):
  bindings = f"run.environment = '{environment}'"
  gin_files.parse(['awr_mujoco.gin'], [bindings])
  with gin.config_scope('step'):
    assert experiment.by_environment() == step
  with gin.config_scope('scale'):
    assert experiment.by_environment() == scale


@pytest.mark.slow
def test_a_tape_inside_the_compiled_loop():
  # The distributional critic asks for dF / dQ at every step of a phase.
  parts = _build(
    'crr_bitflip.gin',
    None,
    'make_agent.critic_wrapper = @DistributionalCritic',
    'QwrAgent.backup_fn = @log_sum_exp_backup',
  )
  before = [np.array(v) for v in parts.agent.critic_network.variables]
  _, scalars = next(parts.iterations)
  assert all(np.isfinite(v) for v in scalars.values())
  after = parts.agent.critic_network.variables
  assert any(np.any(a != b) for a, b in zip(before, after, strict=True))


# Presets that learn from an iteration's own data.


@pytest.mark.slow
@pytest.mark.parametrize(
  'file, environment, interactions, episodes',
  [
    # Whole episodes until there are 2048: 11 of 200, or 3 of 1000 steps.
    ('awr_mujoco_on_policy.gin', 'Pendulum-v1', 2200, 11),
    ('awr_mujoco_on_policy.gin', 'HalfCheetah-v4', 3000, 3),
    ('rwr_mujoco.gin', 'Pendulum-v1', 2200, 11),
    ('rwr_bitflip.gin', 'BitFlip-20', 1000, 200),
  ],
)
def test_no_iteration_is_cut_and_none_is_older(
  file, environment, interactions, episodes
):
  gin_files.parse([file], [f"run.environment = '{environment}'"])
  parts = experiment.build(experiment.settings(), seed=0)
  oldest = []
  for _ in range(2):
    assert parts.collector().interactions == interactions
    assert int(parts.table.num_frames()) == interactions
    first, end = (int(row) for row in parts.table.row_range())
    assert end - first == interactions + episodes
    rows = parts.table.read(first, end)
    assert np.sum(rows.step_type == ts.StepType.FIRST) == episodes
    assert np.sum(rows.step_type == ts.StepType.LAST) == episodes
    oldest.append(rows.observation[0].numpy())
  assert np.any(oldest[0] != oldest[1])


# One gin line each, on any preset.

_EXTENSIONS = {
  'twin': 'make_agent.critic_wrapper = @TwinCritic',
  'rem': 'make_agent.critic_wrapper = @RemCritic',
  'distributional': 'make_agent.critic_wrapper = @DistributionalCritic',
  'double Q': '{agent}.backup_actions = @greedy_actions',
  'Polyak': '{agent}.target_update_fn = @polyak_update',
}
_EXTENDED = {
  'awac_mujoco.gin': 'AwacAgent',
  'awr_bitflip.gin': 'AwrAgent',
  'bitflip.gin': 'QwrAgent',
  'dqn_bitflip.gin': 'QwrAgent',
  'mujoco.gin': 'QwrAgent',
}


@pytest.mark.slow
@pytest.mark.parametrize(
  'file, extension',
  [
    (file, extension)
    for file, extension in itertools.product(_EXTENDED, _EXTENSIONS)
    # V has no actions to choose from.
    if (file, extension) != ('awr_bitflip.gin', 'double Q')
  ],
)
def test_extensions_fit_presets_with_a_line(file, extension):
  binding = _EXTENSIONS[extension].format(agent=_EXTENDED[file])
  agent = _build(file, None, binding).agent
  before = [np.array(v) for v in agent.critic_network.trainable_variables]
  assert np.isfinite(agent.train(_experience(agent)).loss)
  after = agent.critic_network.trainable_variables
  assert any(np.any(a != b) for a, b in zip(before, after, strict=True))
