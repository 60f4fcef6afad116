"""Calibration of the critic's advantages on states it was not trained on.

    python -m benchmarks.advantage_calibration --root_dirs=runs/...,runs/...
        [--decisions=6000]

The newest policy of each run (of an unfinished run that of its last checkpoint)
plays on, and Q(s, a) - V(s) is compared with the outcome of the action: the
n-step TD error of V, n = T of the run. Where V is the policy's value, the
error's expectation given (s, a) is the advantage, so that the slope of the
errors on the advantages is 1 for those that hold and 0 for noise. Adds a row
per run to results/benchmarks/advantage_calibration.csv.
"""

from qwr_tf.config import startup  # noqa: F401, before TensorFlow.

# isort: split
import json
import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import gin
import numpy as np
import tensorflow as tf
from absl import flags
from tf_agents.specs import tensor_spec
from tf_agents.trajectories import time_step as ts
from tf_agents.trajectories import trajectory

from benchmarks import raw_rows
from qwr_tf import replay
from qwr_tf import serving
from qwr_tf.acting import collect
from qwr_tf.agents import slots
from qwr_tf.config import command
from qwr_tf.config.errors import ConfigError
from qwr_tf.networks import precision
from qwr_tf.ops import backups
from qwr_tf.ops import returns
from qwr_tf.runs import provenance
from qwr_tf.runs import run_json
from qwr_tf.training import experiment

_ROOT_DIRS = flags.DEFINE_list('root_dirs', [], 'Folders of runs.')
_DECISIONS = flags.DEFINE_integer(
  'decisions', 6000, 'How long each policy plays.', lower_bound=100
)

_SEED = 2**30  # Of what is played; no run has it.
_CHUNK_ROWS = 256  # Through the networks at once.
_SAMPLES = 32  # Behind a V(s) where actions cannot be enumerated.
_BLOCKS = 20  # Of consecutive decisions: neighbours are not independent.


class Values(NamedTuple):
  """Of rows in time order, float [N] each.

  Attributes:
    q_values: Q(s, a) of the action that was taken.
    state_values: V(s), the mean of Q under the policy.
    other_state_values: the same from other samples. The noise of one V in
      both the advantage and the error would look like an advantage that holds.
  """

  q_values: np.ndarray
  state_values: np.ndarray
  other_state_values: np.ndarray


def values(agent, rows: trajectory.Trajectory, seed: tf.Tensor) -> Values:
  """Asks the critic about rows [N, ...]."""

  def state_values(seed: tf.Tensor) -> tf.Tensor:
    states = agent.states(rows, seed)
    if tensor_spec.is_discrete(agent.action_spec):
      actions = slots.enumerated_behavior_actions(states)
    else:
      actions = slots.sampled_behavior_actions(states, num_actions=_SAMPLES)
    q_values = states.q_values(actions.actions)
    return backups.mean_backup(q_values, actions.log_weights)

  taken = agent.q_values(rows.observation, rows.action[tf.newaxis])[0]
  one, other = tf.unstack(tf.random.experimental.stateless_split(seed, 2))
  arrays = taken, state_values(one), state_values(other)
  return Values(*(value.numpy() for value in arrays))


def td_errors(
  rows: trajectory.Trajectory,
  state_values: np.ndarray,
  gamma: float,
  num_steps: int,
) -> tuple[np.ndarray, np.ndarray]:
  """N-step returns less V(s), where an episode ends in between shorter ones.

  Args:
    rows: [N, ...] in time order, final observations among them.
    state_values: V, float [N].
    gamma: discount per step.
    num_steps: n.

  Returns:
    (rows [M] that have n rows after them and an action, errors [M]).
  """
  count = len(state_values)
  first = np.flatnonzero(rows.step_type.numpy() != ts.StepType.LAST)
  first = first[first + num_steps < count]
  windows = first[:, np.newaxis] + np.arange(num_steps)
  targets = returns.lambda_returns(
    tf.gather(rows.reward, windows),
    gamma * tf.gather(rows.discount, windows),
    tf.gather(tf.constant(state_values), windows + 1),
    tf.gather(rows.is_last(), windows),
    td_lambda=1.0,
  )
  return first, targets[:, 0].numpy() - state_values[first]


def slope(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
  """Least squares with an intercept: (slope of y on x, its standard error).

  The error is the jackknife's over blocks of consecutive entries.
  """
  if np.ptp(x) == 0.0:
    return np.nan, np.nan

  def fit(keep: np.ndarray) -> float:
    return float(np.polyfit(x[keep], y[keep], 1)[0])

  everything = np.arange(len(x))
  left_out = np.array(
    [
      fit(np.setdiff1d(everything, block))
      for block in np.array_split(everything, _BLOCKS)
    ]
  )
  squares = np.sum((left_out - left_out.mean()) ** 2)
  return fit(everything), float(np.sqrt(squares * (_BLOCKS - 1) / _BLOCKS))


def play(agent, environment: str) -> list[trajectory.Trajectory]:
  """What the sampling policy does in the environment it was trained in."""
  decisions = _DECISIONS.value
  table = replay.ReplayTable(agent.collect_data_spec, decisions)
  with experiment.load_environment(environment, seed=_SEED) as env:
    collect.Collector(
      env,
      agent,
      table,
      seed=_SEED,
      env_steps=decisions,
      first_env_steps=decisions,
      whole_episodes=False,
      on_policy=False,
      update_normalizer=False,
    )()
  first, end = (int(row) for row in table.row_range())
  return [
    table.read(start, min(start + _CHUNK_ROWS, end))
    for start in range(first, end, _CHUNK_ROWS)
  ]


def calibration(
  agent, chunks: list[trajectory.Trajectory]
) -> dict[str, object]:
  """What the critic expected of these rows, and what came, by column."""
  seed = tf.constant([_SEED, 0])
  arrays = [
    values(agent, chunk, seed + [0, i]) for i, chunk in enumerate(chunks)
  ]
  q_values, state_values, others = map(
    np.concatenate, zip(*arrays, strict=True)
  )
  rows = tf.nest.map_structure(
    lambda *pieces: tf.concat(pieces, axis=0),
    *(chunk._replace(observation=()) for chunk in chunks),
  )
  gamma = agent.gamma
  decisions, errors = td_errors(rows, others, gamma, agent.horizon)
  advantages = (q_values - state_values)[decisions]
  estimate, standard_error = slope(advantages, errors)
  played = returns.episode_lambda_returns(
    rows.reward,
    gamma * rows.discount,
    tf.roll(tf.constant(others), -1, axis=0),
    rows.is_last(),
    td_lambda=1.0,
  ).numpy()
  return {
    'decisions': len(decisions),
    'td_steps': agent.horizon,
    'slope': f'{estimate:.4f}',
    'slope_standard_error': f'{standard_error:.4f}',
    'advantage_std': f'{advantages.std():.4f}',
    'td_error_std': f'{errors.std():.4f}',
    'mean_q_value': f'{q_values[decisions].mean():.4f}',
    'mean_discounted_return': f'{played[decisions].mean():.4f}',
  }


def entropy(chunks: list[trajectory.Trajectory]) -> float:
  """Mean entropy of the sampling policy in nats; NaN without logits."""
  parameters = [chunk.policy_info['dist_params'] for chunk in chunks]
  if 'logits' not in parameters[0]:
    return np.nan
  logits = tf.concat([p['logits'] for p in parameters], axis=0)
  log_probs = tf.nn.log_softmax(logits)
  entropies = -tf.reduce_sum(tf.exp(log_probs) * log_probs, axis=-1)
  return float(tf.reduce_mean(entropies))


def load(root_dir: pathlib.Path, facts: Mapping[str, Any]):
  """(agent with the newest weights, interactions they have had).

  Raises:
    ConfigError: if there are no weights.
  """
  folder = root_dir / 'checkpoints'
  if (folder / 'final').is_dir():
    return serving.load_agent(root_dir, facts), facts.get('interactions')
  saved = sorted(folder.glob('[0-9]*/tensors.index'))
  if not saved:
    raise ConfigError(
      f'{root_dir} has no checkpoint; continue the run with the command in its '
      'run.json.'
    )
  gin.clear_config()
  gin.parse_config(facts['config'])
  precision.keep_dtype_policy(gin.config_str(), facts.get('dtype_policy'))
  with experiment.load_environment(facts['environment']) as env:
    agent = experiment.agent_for(env, seed=facts['seed'])
  tensors = tf.train.Checkpoint(agent=agent).read(
    str(saved[-1].with_suffix(''))
  )
  # The checkpoint holds more than the agent, but all of the agent.
  tensors.assert_existing_objects_matched().expect_partial()
  state = json.loads((saved[-1].parent / 'state.json').read_text())
  return agent, state['recorder'].get('interactions')


def row_of(root_dir: pathlib.Path) -> dict[str, object]:
  """A run's row."""
  facts = run_json.required(root_dir)
  agent, interactions = load(root_dir, facts)
  chunks = play(agent, facts['environment'])
  return {
    **{name: facts.get(name) for name in ('preset', 'environment')},
    'bindings': '; '.join(facts.get('bindings', ())),
    'run_seed': facts['seed'],
    'run_commit': facts.get('commit'),
    'interactions': interactions,
    **calibration(agent, chunks),
    'entropy': f'{entropy(chunks):.4f}',
  }


def main() -> None:
  """Prints the rows and adds them to the file."""
  if not _ROOT_DIRS.value:
    raise ConfigError('--root_dirs is missing: folders of runs.')
  for root_dir in _ROOT_DIRS.value:
    row = {**row_of(pathlib.Path(root_dir)), **provenance.facts()}
    raw_rows.add(raw_rows.path_of('advantage_calibration'), [row])
    print(row, flush=True)


if __name__ == '__main__':
  command.run(main)
