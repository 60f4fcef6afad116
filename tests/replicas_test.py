"""Replicas with shares of a minibatch make the steps of one device with all.

Each case runs in a process of its own (replica_checks.py): logical devices
are given to a process before it computes anything.
"""

import functools
import json
import os
import pathlib
import socket
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from qwr_tf.agents import replicas
from qwr_tf.ops import cross_replica
from tests import replica_checks

_ROOT = pathlib.Path(__file__).resolve().parents[1]
_STEPS = 3


def _start(what, cases, **environment):
  return subprocess.Popen(
    [sys.executable, 'tests/replica_checks.py', what, cases, str(_STEPS)],
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


@functools.cache
def _all_checked():
  return _result(_start('main', ','.join(replica_checks.CASES)))


def _checked(case):
  return _all_checked()[case]


def _free_port():
  with socket.socket() as listener:
    listener.bind(('127.0.0.1', 0))
    return listener.getsockname()[1]


# AWAC's replicas draw actions of the policy each for themselves: other numbers
# than one device's, so that only the replicas can be compared.
_EXACT = ['gaussian', 'discrete', 'images', 'awr']


@pytest.mark.parametrize('case', _EXACT)
def test_replicas_together_make_the_step_of_one_device(case):
  found = _checked(case)
  assert found['gradients'] < 1e-6
  one, two = found['first_scalars']
  for name, value in one.items():
    assert two[name] == pytest.approx(value, rel=1e-5, abs=1e-6), name


@pytest.mark.parametrize('case', [*_EXACT, 'awac'])
def test_replicas_stay_equal_bit_by_bit(case):
  found = _checked(case)
  assert found['replicas'] == 2
  assert found['weights_on_both']
  assert found['differ'] == []
  assert found['critic_steps'] == [_STEPS, _STEPS]


@pytest.mark.parametrize('case', _EXACT)
def test_replicas_report_the_losses_of_one_device(case):
  one, two = _checked(case)['scalars']
  for name, value in one.items():
    assert two[name] == pytest.approx(value, rel=1e-2, abs=1e-3), name


def test_a_stock_learner_trains_on_replicas():
  found = _checked('stock')
  one, two = found['losses']
  assert len(one) == _STEPS
  assert two == pytest.approx(one, rel=1e-5)
  assert found['apart'] < 1e-6
  assert found['differ'] == []
  assert found['train_steps'] == [_STEPS, _STEPS]


def test_workers_on_two_hosts_stay_equal():
  ports = [_free_port(), _free_port()]
  cluster = {'worker': [f'127.0.0.1:{port}' for port in ports]}
  runs = [
    _start(
      'worker',
      'gaussian',
      TF_CONFIG=json.dumps(
        {'cluster': cluster, 'task': {'type': 'worker', 'index': i}}
      ),
    )
    for i in range(2)
  ]
  first, second = map(_result, runs)
  assert first['replicas'] == 2
  assert first == second


def test_the_table_is_on_the_host_outside_the_strategy():
  found = _checked('gaussian')
  assert found['devices_of_table'] == ['CPU:0']
  assert not found['table_is_distributed']


def test_a_batch_that_replicas_cannot_share_is_refused():
  class _Three:
    num_replicas_in_sync = 3

  shared = replicas.Replicas()
  shared._strategy = _Three()
  with pytest.raises(ValueError, match='256 .* 3 replicas.* multiple of 3'):
    shared.check_batch_size(256)
  shared.check_batch_size(255)


def test_one_device_is_left_alone():
  shared = replicas.Replicas()
  x = tf.constant([1.0, 2.0])
  assert shared.split(x) is x
  assert shared.one(x) is x
  assert shared.run(lambda y: y, x) is x
  assert replicas.together(lambda: x) is x
  for fn in (
    cross_replica.total,
    cross_replica.mean,
    cross_replica.part,
    cross_replica.maximum,
    cross_replica.log_sum_exp,
    cross_replica.tiled,
    cross_replica.own,
    cross_replica.own_seed,
  ):
    assert fn(x) is x
  assert cross_replica.share(x) is None


# XLA


def _training(case, jit=False):
  optimizer = tf.keras.optimizers.legacy.Adam
  strategy = tf.distribute.get_strategy()
  return replica_checks.Training(case, strategy, optimizer, jit)


@pytest.mark.parametrize('case', ['gaussian', 'discrete', 'images'])
def test_compiled_steps_equal_the_others(case):
  plain, compiled = (_training(case, jit) for jit in (False, True))
  ours, theirs = plain.scalars(2), compiled.scalars(2)
  for name, value in ours.items():
    assert theirs[name] == pytest.approx(value, rel=1e-5, abs=1e-5), name
  for v, w in zip(
    plain.agent.trainable_variables,
    compiled.agent.trainable_variables,
    strict=True,
  ):
    np.testing.assert_allclose(w, v, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('case', ['gaussian', 'discrete', 'images'])
def test_what_xla_compiles_is_fit_for_a_tpu(case):
  training = _training(case)
  agent = training.agent
  windows = training.table.sample(8, agent.horizon + 1, [0, 1])
  seed = tf.constant([1, 2])
  targets = agent.td_targets(windows, seed)[:, 0]
  actions, weights, _ = agent.regression(windows, seed)

  # A graph's inputs are tensors; the nests around them stay here.
  def program(fn, *arguments):
    flat = tf.nest.flatten(arguments)
    compiled = tf.function(
      lambda *xs: fn(*tf.nest.pack_sequence_as(arguments, xs)),
      jit_compile=True,
    )
    return compiled.experimental_get_compiler_ir(*flat)(stage='hlo')

  critic, actor = agent._take_critic_step, agent._take_actor_step
  for fn, *arguments in (
    (critic.loss_and_gradients, windows, targets),
    (actor.loss_and_gradients, windows, actions, weights),
    (agent.td_targets, windows, seed),
    (agent.regression, windows, seed),
  ):
    text = program(fn, *arguments)
    assert 'custom-call' not in text and 'custom_call' not in text
    assert '<=' not in text  # A size that is only known when it runs.
    assert 'outfeed' not in text
