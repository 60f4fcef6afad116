"""TF-Agents' own SacAgent in this project's environments and evaluations.

    python -m benchmarks.tf_agents_sac [--environments=…] [--seeds=0-1]

Agent, networks and settings are those of TF-Agents' example for MuJoCo
(agents/examples/sac/haarnoja18), drivers and replay buffer are stock: 10K
random interactions (a tenth of shorter runs), then a train step on 256
transitions for each. Environments and evaluations are `mujoco_100k.gin`'s. Adds
rows to results/mujoco_100k.csv as each run ends; runs that have theirs are
skipped.
"""

import os
import pathlib
import statistics
import time

import numpy as np
import tensorflow as tf
import tqdm
from absl import flags
from tf_agents.agents.ddpg import critic_network
from tf_agents.agents.sac import sac_agent
from tf_agents.agents.sac import tanh_normal_projection_network
from tf_agents.drivers import py_driver
from tf_agents.networks import actor_distribution_network
from tf_agents.policies import greedy_policy
from tf_agents.policies import py_tf_eager_policy
from tf_agents.policies import random_py_policy
from tf_agents.replay_buffers import tf_uniform_replay_buffer
from tf_agents.specs import tensor_spec
from tf_agents.trajectories import time_step as ts
from tf_agents.utils import common

from qwr_tf.acting import evaluate
from qwr_tf.config import command
from qwr_tf.config import gin_files
from qwr_tf.config import startup  # noqa: F401, before TensorFlow.
from qwr_tf.config.errors import ConfigError
from qwr_tf.reporting import results
from qwr_tf.runs import provenance
from qwr_tf.sweeping import run_rows
from qwr_tf.sweeping import sweep_plan
from qwr_tf.training import experiment

_ENVIRONMENTS = flags.DEFINE_list(
  'environments', ['HalfCheetah-v4', 'Hopper-v4'], 'MuJoCo environments.'
)
_SEEDS = flags.DEFINE_string('seeds', '0-1', 'Such as 0-4 or 0,2.')
_RESULTS = flags.DEFINE_string('results', 'results/mujoco_100k.csv', 'CSV.')
_BINDINGS = flags.DEFINE_multi_string('bindings', [], 'Of the run.')

_GIN_FILE = 'mujoco_100k.gin'
_RANDOM_INTERACTIONS = 10_000
_LEAST_INTERACTIONS = 20  # Of which two are random: one transition.
_BATCH_SIZE = 256
_UNITS = (256, 256)


def make_agent(env) -> sac_agent.SacAgent:
  """SacAgent as in TF-Agents' example for HalfCheetah."""
  action_spec = tensor_spec.from_spec(env.action_spec())
  time_step_spec = tensor_spec.from_spec(env.time_step_spec())
  observation_spec = time_step_spec.observation
  adam = tf.keras.optimizers.legacy.Adam
  agent = sac_agent.SacAgent(
    time_step_spec,
    action_spec,
    actor_network=actor_distribution_network.ActorDistributionNetwork(
      observation_spec,
      action_spec,
      fc_layer_params=_UNITS,
      continuous_projection_net=(
        tanh_normal_projection_network.TanhNormalProjectionNetwork
      ),
    ),
    critic_network=critic_network.CriticNetwork(
      (observation_spec, action_spec),
      joint_fc_layer_params=_UNITS,
      kernel_initializer='glorot_uniform',
      last_kernel_initializer='glorot_uniform',
    ),
    actor_optimizer=adam(3e-4),
    critic_optimizer=adam(3e-4),
    alpha_optimizer=adam(3e-4),
    target_update_tau=0.005,
    td_errors_loss_fn=tf.math.squared_difference,
    gamma=0.99,
    reward_scale_factor=0.1,
  )
  agent.initialize()
  agent.train = common.function(agent.train)
  return agent


class Act:
  """What `Evaluator` asks for actions: SAC's mode, or its samples."""

  def __init__(self, agent: sac_agent.SacAgent):
    """Compiles both policies."""
    # The agent's own policy draws samples, like the one that collects.
    greedy = greedy_policy.GreedyPolicy(agent.policy)
    self._mode = common.function(greedy.action)
    self._sample = common.function(agent.collect_policy.action)

  def refresh(self) -> None:
    """The policies are the agent's own; nothing is to be copied."""

  def __call__(self, observation: np.ndarray, rng):
    """Actions [B, A] for observations [B, O]; TensorFlow's own random ones."""
    batch = ts.restart(tf.constant(observation), len(observation))
    act = self._mode if rng is None else self._sample
    return act(batch).action.numpy(), {}


class Training:
  """Stock drivers and replay buffer around the agent."""

  def __init__(
    self,
    env,
    agent: sac_agent.SacAgent,
    capacity: int,
    seed: int,
    random_interactions: int = _RANDOM_INTERACTIONS,
  ):
    """Collects the random interactions.

    Args:
      env: to collect in.
      agent: to train.
      capacity: of the replay buffer.
      seed: of the random interactions.
      random_interactions: how many, 2 or more.
    """
    self._agent = agent
    self._env = env
    self._buffer = tf_uniform_replay_buffer.TFUniformReplayBuffer(
      agent.collect_data_spec, batch_size=1, max_length=capacity
    )
    policy = py_tf_eager_policy.PyTFEagerPolicy(
      agent.collect_policy, use_tf_function=True, batch_time_steps=True
    )
    random = random_py_policy.RandomPyPolicy(
      env.time_step_spec(), env.action_spec(), seed=seed
    )
    self._step = env.reset()
    self._collect(random, random_interactions)
    self._driver = self._driver_of(policy, 1)
    data = self._buffer.as_dataset(
      sample_batch_size=_BATCH_SIZE,
      num_steps=2,
      single_deterministic_pass=False,
    )
    # A pair from an episode's end to the next one's start is no transition.
    pairs = data.unbatch().filter(lambda pair, _: ~pair.is_boundary()[0])
    self._batches = iter(pairs.batch(_BATCH_SIZE).prefetch(2))

  def _driver_of(self, policy, steps: int) -> py_driver.PyDriver:
    return py_driver.PyDriver(
      self._env,
      policy,
      [self._add],
      max_steps=steps,
      end_episode_on_boundary=False,
    )

  def _collect(self, policy, steps: int) -> None:
    self._step, _ = self._driver_of(policy, steps).run(self._step)

  def _add(self, item) -> None:
    self._buffer.add_batch(
      tf.nest.map_structure(lambda x: tf.constant(x)[tf.newaxis], item)
    )

  def interact(self) -> None:
    """One interaction and one train step."""
    self._step, _ = self._driver.run(self._step)
    experience, _ = next(self._batches)
    self._agent.train(experience)


def run(environment: str, seed: int) -> list[results.Row]:
  """Rows of one run."""
  gin_files.parse(
    [_GIN_FILE],
    [*_BINDINGS.value, f"run.environment = '{environment}'"],
  )
  settings = experiment.settings()
  total = settings.interactions
  random = min(_RANDOM_INTERACTIONS, total // 10)
  tf.keras.utils.set_random_seed(seed)
  env = experiment.load_environment(environment, seed=seed)
  agent = make_agent(env)
  score_env = experiment.score_environment(settings, seed + 10_000)
  evaluator = evaluate.Evaluator([score_env], Act(agent), seed=seed + 10_000)
  start, rows = time.perf_counter(), []
  training = Training(env, agent, total, seed, random)
  for done in tqdm.trange(random + 1, total + 1, mininterval=30):
    training.interact()
    if done == total or not done % settings.eval_every_env_steps:
      rows.append(
        _row(environment, seed)
        | {
          'interactions': done,
          'critic_steps': done - random,
          'actor_steps': done - random,
          'wall_seconds': round(time.perf_counter() - start, 1),
        }
        | _scores(evaluator, settings, done)
      )
  return [{c: str(row.get(c, '')) for c in results.COLUMNS} for row in rows]


def _scores(evaluator, settings: experiment.Settings, done: int) -> dict:
  """The evaluation after so many interactions."""
  last = done == settings.interactions
  episodes = settings.final_eval_episodes if last else settings.eval_episodes
  scores = {'episodes': episodes}
  for name, sampled in (('mode', False), ('sampled', True)):
    returns = evaluator.returns(episodes, sampled=sampled, number=done)
    scores[f'return_{name}'] = round(statistics.fmean(returns), 4)
  print(done, scores, flush=True)
  return scores


def _row(environment: str, seed: int) -> dict:
  """What all rows of a run have in common."""
  return {
    'experiment': pathlib.Path(_RESULTS.value).stem,
    'algorithm': 'SAC',
    'preset': 'tf_agents_sac',
    'bindings': run_rows.binding_cell(_BINDINGS.value),
    'dataset': '',
    'environment': environment,
    'seed': str(seed),
    'commit': provenance.commit(),
    'host_cores': os.cpu_count(),
    'threads': provenance.threads(),
    **provenance.versions(),
  }


def main() -> None:
  """Every environment and seed that has no rows yet."""
  path = pathlib.Path(_RESULTS.value)
  recipe = sweep_plan.Recipe(
    _GIN_FILE, tuple(_BINDINGS.value), 'SAC', path, pathlib.Path('runs')
  )
  seeds = sweep_plan.parse_seeds(_SEEDS.value)
  # Nothing of the plan is run; what is wrong with it ends here.
  for job, _ in sweep_plan.plan(recipe, _ENVIRONMENTS.value, seeds):
    if job.interactions < _LEAST_INTERACTIONS:
      raise ConfigError(
        f'run.interactions must be {_LEAST_INTERACTIONS} or more here, not '
        f'{job.interactions}.'
      )
    present = {results.identity(row) for row in results.read(path)}
    if results.identity(_row(job.environment, job.seed)) in present:
      print(f'{job} has its rows')
    else:
      results.add(path, run(job.environment, job.seed))


if __name__ == '__main__':
  command.run(main)
