"""NaN and Inf: the step that is not taken, its name and its batch."""

import gin
import numpy as np
import pytest
import tensorflow as tf

from qwr_tf.config import gin_files
from qwr_tf.ops.streams import Stream
from qwr_tf.replicas import replicas
from qwr_tf.training import bad_batch
from qwr_tf.training import experiment

_STEPS, _BATCH = 40, 8


@gin.configurable
def infinite_weights(advantages, *_):
  return advantages / 0.0


@pytest.fixture(autouse=True)
def _clear():
  yield
  gin.clear_config()


def _parts(*bindings):
  gin_files.parse(
    ['bitflip.gin'],
    [
      'run.replay_capacity=300',
      'Collector.env_steps=200',
      f'iterate.critic_steps={_STEPS}',
      f'iterate.actor_steps={_STEPS}',
      f'iterate.batch_size={_BATCH}',
      'mlp_torso.units=(8,)',
      *bindings,
    ],
  )
  return experiment.build(experiment.settings(), seed=0)


def _variables(agent):
  networks = agent.actor_network, agent.critic_network
  return [v.numpy() for network in networks for v in network.variables]


def _stopped(parts):
  """Runs an iteration that has to fail; returns the error."""
  with pytest.raises(tf.errors.InvalidArgumentError) as caught:
    next(parts.iterations)
  return caught.value


def _poison(parts, column, row):
  """Lets collecting write NaN into a column of a row."""
  append = parts.table.append_frames

  def poisoned(rows):
    values = np.array(getattr(rows, column))
    values[row] = np.nan
    append(rows._replace(**{column: tf.constant(values)}))

  parts.table.append_frames = poisoned


@pytest.mark.slow
@pytest.mark.parametrize('column', ['reward', 'observation'])
def test_a_bad_row_stops_at_the_first_step_that_draws_it(tmp_path, column):
  parts = _parts('QwrAgent.horizon=1')
  # The first of an episode's six: no window has it as its next state, whose
  # NaN some kernels of ReLU keep and others turn into 0.
  agent, row = parts.agent, 72
  _poison(parts, column, row)
  error = _stopped(parts)
  step = replicas.bad_step(error)

  # The draws of the phase are a function of the seed.
  seed = agent.seed_for(Stream.CRITIC_DRAWS, 0)
  starts = parts.table.sample_starts([_STEPS, _BATCH], seed).numpy()
  first = np.flatnonzero((starts == row).any(axis=1))[0]
  assert 0 < first < _STEPS
  assert step == (agent.critic_network.name, first, 0)

  message = bad_batch.explain(error, parts, tmp_path)
  assert f'NaN or Inf in {column} of critic step {first + 1}; ' in message
  file = tmp_path / 'offending_batch.npz'
  assert message.endswith(f'see {file}')
  with np.load(file) as batch:
    np.testing.assert_array_equal(batch['window_starts'], starts[first])
    assert batch['reward'].shape == (_BATCH, 2)
    assert np.isnan(batch[column]).any()
    assert np.isnan(batch['td_targets']).any() == (column == 'reward')
    # Nothing of it has reached the weights.
    weights = [n for n in batch if n.startswith(agent.critic_network.name)]
    assert weights and all(np.isfinite(batch[name]).all() for name in weights)


@pytest.mark.slow
def test_a_step_that_would_break_the_weights_is_not_taken(tmp_path):
  # The first step is finite and makes weights of 1e30; the second overflows.
  parts = _parts('critic/Adam.learning_rate=1e30')
  error = _stopped(parts)
  assert replicas.bad_step(error) == (parts.agent.critic_network.name, 1, 0)
  assert all(np.isfinite(v).all() for v in _variables(parts.agent))
  message = bad_batch.explain(error, parts, tmp_path)
  assert 'of critic step 2; lower the learning rates' in message


@pytest.mark.slow
def test_the_actor_s_steps_are_watched_too(tmp_path):
  parts = _parts(
    'QwrAgent.weight_fn=@infinite_weights',
    'QwrAgent.max_weight=1e39',
    'iterate.critic_steps=0',
  )
  error = _stopped(parts)
  assert replicas.bad_step(error) == (parts.agent.actor_network.name, 0, 0)
  message = bad_batch.explain(error, parts, tmp_path)
  assert message.startswith('NaN or Inf in weights of actor step 1; ')


@pytest.mark.slow
def test_an_actor_that_learns_while_the_critic_acts(tmp_path):
  parts = _parts(
    'QwrAgent.policies_fn=@epsilon_greedy_policies',
    'QwrAgent.weight_fn=@infinite_weights',
    'QwrAgent.max_weight=1e39',
    'iterate.critic_steps=0',
  )
  agent = parts.agent
  assert agent.acting_network is not agent.actor_network
  error = _stopped(parts)
  bad_batch.explain(error, parts, tmp_path)
  with np.load(tmp_path / 'offending_batch.npz') as batch:
    for variable in agent.actor_network.trainable_variables:
      name = f'{agent.actor_network.name}/{variable.name}'
      np.testing.assert_array_equal(batch[name.replace('/', '.')], variable)


@pytest.mark.parametrize('compiled', [False, True])
def test_check_says_which_step(compiled):
  steps = tf.Variable(12), tf.Variable(34)

  def check(loss, gradient):
    with replicas.check(loss, [gradient], 'Critic', *steps):
      return tf.identity(loss)

  if compiled:
    check = tf.function(check)
  one, ones = tf.constant(1.0), tf.ones([3])
  assert check(one, ones) == 1.0
  for bad in (np.nan, np.inf, -np.inf):
    for loss, gradient in ((one * bad, ones), (one, ones * [1.0, bad, 1.0])):
      with pytest.raises(tf.errors.InvalidArgumentError) as caught:
        check(loss, gradient)
      assert replicas.bad_step(caught.value) == ('Critic', 12, 34)


@pytest.mark.slow
def test_errors_about_something_else_stay_what_they_are(tmp_path):
  parts = _parts()
  error = tf.errors.InvalidArgumentError(None, None, 'The table is empty.')
  with pytest.raises(tf.errors.InvalidArgumentError, match='table is empty'):
    bad_batch.explain(error, parts, tmp_path)
  message = bad_batch.explain(FloatingPointError('q is nan'), parts, tmp_path)
  assert message == 'q is nan'
  assert not list(tmp_path.iterdir())


def test_an_environment_s_tensors_are_written(tmp_path):
  error = FloatingPointError('X-v0: NaN or Inf in the reward of step 3')
  error.tensors = {'action': np.ones(2), 'reward': np.array(np.nan)}
  message = bad_batch.explain(error, None, tmp_path)
  assert message.endswith(f'of step 3; see {tmp_path / "offending_batch.npz"}')
  with np.load(tmp_path / 'offending_batch.npz') as batch:
    assert set(batch) == {'action', 'reward'}


def test_first_not_finite():
  tensors = {
    'a': np.arange(3),
    'b': np.array([1.0, np.inf]),
    'c': np.array(np.nan),
  }
  assert bad_batch.first_not_finite(tensors) == 'b'
  assert bad_batch.first_not_finite({'a': np.ones(2, np.float32)}) == ''
