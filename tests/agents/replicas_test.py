"""Replicas with shares of a minibatch make the steps of one device with all.

Each case runs in a process of its own (replica_checks.py): logical devices
are given to a process before it computes anything.
"""

import functools
import json
import os
import pathlib
import subprocess
import sys
import types

import numpy as np
import pytest
import tensorflow as tf

from qwr_tf.ops import regression
from qwr_tf.replicas import replicas
from tests.agents import replica_checks

_ROOT = pathlib.Path(__file__).resolve().parents[2]
_STEPS = 3


def _start(what, cases, **environment):
  return subprocess.Popen(
    [
      sys.executable,
      'tests/agents/replica_checks.py',
      what,
      cases,
      str(_STEPS),
    ],
    cwd=_ROOT,
    env={
      **os.environ,
      'PYTHONPATH': str(_ROOT),
      'TF_CPP_MIN_LOG_LEVEL': '3',
      **environment,
    },
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )


def _result(run):
  out, err = run.communicate(timeout=600)
  assert run.returncode == 0, err[-3000:]
  return json.loads(out.splitlines()[-1])


# The others are in benchmarks/replicas.py.
_EXACT = ['gaussian', 'entries']
_CASES = [*_EXACT, 'draws', 'stock', 'ops']


@functools.cache
def _all_checked():
  return _result(_start('main', ','.join(_CASES)))


def _checked(case):
  return _all_checked()[case]


@pytest.mark.slow
@pytest.mark.parametrize('case', _EXACT)
def test_replicas_together_make_the_step_of_one_device(case):
  found = _checked(case)
  assert found['gradients'] < 1e-6
  one, two = found['first_scalars']
  for name, value in one.items():
    assert two[name] == pytest.approx(value, rel=1e-5, abs=1e-6), name


@pytest.mark.slow
@pytest.mark.parametrize('case', [*_EXACT, 'draws'])
def test_replicas_stay_equal_bit_by_bit(case):
  found = _checked(case)
  assert found['replicas'] == 2
  assert found['weights_on_both']
  assert found['differ'] == []
  assert found['critic_steps'] == _STEPS


@pytest.mark.slow
@pytest.mark.parametrize('case', _EXACT)
def test_replicas_report_the_losses_of_one_device(case):
  one, two = _checked(case)['scalars']
  for name, value in one.items():
    assert two[name] == pytest.approx(value, rel=1e-2, abs=1e-3), name


@pytest.mark.slow
def test_a_stock_learner_trains_on_replicas():
  found = _checked('stock')
  one, two = found['losses']
  assert len(one) == _STEPS
  assert two == pytest.approx(one, rel=1e-5)
  assert found['apart'] < 1e-6
  assert found['differ'] == []
  assert found['train_steps'] == [_STEPS, _STEPS]


@pytest.mark.slow
def test_the_table_is_on_the_host_outside_the_strategy():
  found = _checked('gaussian')
  assert found['devices_of_table'] == ['CPU:0']
  assert not found['table_is_distributed']


def test_a_batch_that_replicas_cannot_share_is_refused():
  class _Three:
    num_replicas_in_sync = 3

  shared = replicas.Replicas()
  shared._strategy = _Three()
  with pytest.raises(ValueError, match='iterate.batch_size = 256'):
    shared.check_batch_size(256)
  shared.check_batch_size(255)


# 1 in one replica and 3 in the other; by hand.
@pytest.mark.slow
@pytest.mark.parametrize(
  ('name', 'expected'),
  [
    ('sum', [4, 4]),
    ('mean', [2, 2]),
    ('masked_mean', [2.5, 2.5]),  # (1 + 2 + 3 + 4) / 4, not (2 + 4) / 2.
    ('maximum', [3, 3]),
    ('exp_of_log_sum_exp', [4, 4]),  # Of log 1 and log 3.
    # Rows 1, 2 and 3, 4, where the device adds 0, 10, 20, 30 to its four.
    ('sample', [[[1, 12]], [[23, 34]]]),
    ('softmax_weights', [[[0.5]], [[1.5]]]),  # 1 and 3 over their mean, 2.
  ],
)
def test_what_replicas_know_of_each_other(name, expected):
  for found, wanted in zip(_checked('ops')[name], expected, strict=True):
    np.testing.assert_allclose(found, wanted, rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(
  'name', ['own_seed', 'policy_actions', 'target_policy_actions']
)
def test_replicas_draw_with_seeds_of_their_own(name):
  one, other = _checked('ops')[name]
  assert one != other


def test_one_device_is_left_alone():
  shared = replicas.Replicas()
  x = tf.constant([1.0, 2.0])
  assert shared.split(x) is x
  assert shared.run(lambda y: y, y=x) is x
  assert replicas.together(lambda: x) is x
  assert replicas.own_seed(x) is x
  assert replicas.batch(None) == regression.WHOLE


# XLA


def _programs(case):
  """(name, function, arguments) of what a step computes."""
  training = replica_checks.Training(
    case, tf.distribute.get_strategy(), tf.keras.optimizers.legacy.Adam
  )
  agent = training.agent
  windows = training.table.sample(8, agent.horizon + 1, [0, 1])
  seed = tf.constant([1, 2])
  targets = agent.td_targets(windows, seed)[:, 0]
  actions, weights, _ = agent.weighted_actions(windows, seed)
  critic, actor = agent._step_critic, agent._step_actor
  steps = tf.nest.map_structure(lambda x: x[:, 0], windows)
  yield 'targets', agent.td_targets, (windows, seed)
  yield 'weighted_actions', agent.weighted_actions, (windows, seed)
  yield 'critic', critic.loss_and_gradients, (steps, targets)
  yield 'actor', actor.loss_and_gradients, (steps, actions, weights)


def _compiled(fn, arguments):
  """(Fn compiled by XLA, its inputs): tensors, the nests stay outside."""

  def flat(*tensors):
    return tf.nest.flatten(fn(*tf.nest.pack_sequence_as(arguments, tensors)))

  return tf.function(flat, jit_compile=True), tf.nest.flatten(arguments)


@pytest.mark.slow
@pytest.mark.parametrize('case', ['gaussian', 'discrete', 'images'])
def test_compiled_programs_are_the_same_and_fit_for_a_tpu(case):
  for name, fn, arguments in _programs(case):
    compiled, inputs = _compiled(fn, arguments)
    # XLA draws other normal deviates from a seed.
    if case != 'gaussian' or name in ('critic', 'actor'):
      results = tf.nest.flatten(fn(*arguments)), compiled(*inputs)
      for pair in zip(*results, strict=True):
        # A gradient of a table may be rows of it.
        ours, theirs = (tf.convert_to_tensor(x).numpy() for x in pair)
        scale = max(1.0, np.abs(ours).max())
        np.testing.assert_allclose(theirs, ours, 1e-5, 1e-5 * scale, name)
    text = compiled.experimental_get_compiler_ir(*inputs)(stage='hlo')
    assert 'custom-call' not in text and 'custom_call' not in text
    assert '<=' not in text  # A size that is only known when it runs.
    assert 'outfeed' not in text


def test_the_switch_compiles():
  variable, switch = tf.Variable(1.0), replicas.Replicas()

  def losses():
    is_eager = tf.constant(float(tf.executing_eagerly()))
    return {'loss': variable**2, 'is_eager': is_eager}

  step = replicas.GradientStep(
    losses,
    'loss',
    types.SimpleNamespace(name='Network', trainable_variables=[variable]),
    tf.keras.optimizers.legacy.SGD(0.25),
    switch,
    counts=(tf.Variable(0), tf.Variable(0)),
  )
  assert step(regression.Batch(tf.ones([1])))['is_eager'] == 1.0
  switch.jit_compile = True
  assert step(regression.Batch(tf.ones([1])))['is_eager'] == 0.0
  assert variable == 0.25  # Two steps that halve it.
