"""Rows of metrics.csv, TensorBoard and the learning curve."""

import json
import math
import struct
import types
import warnings

import matplotlib
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing import event_accumulator

from qwr_tf.acting import collect
from qwr_tf.runs import run_folder
from qwr_tf.training import learning_curve
from qwr_tf.training import metrics

_INTERFACE = (
  'iteration, interactions, critic_steps, actor_steps, wall_seconds, '
  'train_return, eval_return_mode, eval_return_sampled, eval_episodes, '
  'critic_loss, actor_loss, q_mean, q_scale, weight_mean, weight_max, '
  'weight_clipped, collect_steps_per_second, train_steps_per_second'
)
_EVALUATION = {
  'eval_return_mode': 7.0,
  'eval_return_sampled': 6.0,
  'eval_episodes': 5,
}


class _Run:
  """A recorder with an agent and a clock that only this moves."""

  def __init__(self, monkeypatch, log_every):
    self.clock = 100.0
    self.agent = types.SimpleNamespace(
      critic_steps=0,
      actor_steps=0,
      critic_metrics=('critic_loss', 'q_mean'),
      actor_metrics=('actor_loss', 'weight_mean'),
    )
    monkeypatch.setattr(metrics.time, 'perf_counter', lambda: self.clock)
    self.recorder = metrics.Recorder(log_every, self.agent)

  def iteration(
    self,
    interactions=4,
    returns=(),
    scalars=None,
    critic_steps=6,
    actor_steps=3,
    between=0.0,
  ):
    """2 seconds of collecting, 3 of training; before them a checkpoint's."""
    self.clock += between
    self.recorder.begin()
    self.clock += 5.0
    self.agent.critic_steps += critic_steps
    self.agent.actor_steps += actor_steps
    self.recorder.add(
      collect.Collected(interactions, list(returns), 2.0), scalars or {}
    )


def test_columns_are_those_others_rely_on():
  assert ', '.join(metrics.COLUMNS) == f'{_INTERFACE}, offline_steps'


def test_offline_steps_count_until_the_first_interaction(monkeypatch):
  run = _Run(monkeypatch, log_every=10)
  rows = []
  # 3 actor steps an iteration; from the seventh on 4 interactions too.
  for interactions in (0, 0, 0, 0, 0, 0, 4, 4, 4):
    run.iteration(interactions)
    rows.append(run.recorder.row({}))
  # 3, 6, 9, 12, 15, 18, then 22, 26, 30: rows after 10, 20 and 30.
  assert [i for i, row in enumerate(rows) if row] == [3, 6, 8]
  found = [(r['offline_steps'], r['interactions']) for r in rows if r]
  assert found == [(12, 0), (18, 4), (18, 12)]


def test_offline_steps_of_a_critic_alone(monkeypatch):
  run = _Run(monkeypatch, log_every=10)
  run.iteration(0, actor_steps=0)
  assert run.recorder.progress == 6


def test_rows_when_another_multiple_is_reached(monkeypatch):
  run = _Run(monkeypatch, log_every=10)
  rows = []
  for _ in range(5):  # 4, 8, 12, 16, 20 interactions.
    run.iteration()
    rows.append(run.recorder.row({}))
  assert [row and row['interactions'] for row in rows] == [
    None,
    None,
    12,
    None,
    20,
  ]
  assert [row['iteration'] for row in rows if row] == [3, 5]


def test_row_holds_all_since_the_last_one(monkeypatch):
  run = _Run(monkeypatch, log_every=8)
  run.iteration(returns=[1.0, 2.0], scalars={'q_mean': tf.constant(3.0)})
  assert run.recorder.row({}) is None
  scalars = {'q_mean': tf.constant(5.0)}
  run.iteration(returns=[6.0], scalars=scalars, between=100.0)
  row = run.recorder.row({})
  assert row['train_return'] == 3.0  # (1 + 2 + 6) / 3
  assert row['q_mean'] == 4.0  # (3 + 5) / 2
  assert row['critic_steps'] == 12
  assert row['actor_steps'] == 6
  assert row['wall_seconds'] == 110.0
  assert row['collect_steps_per_second'] == 2.0  # 8 in 2 x 2 s
  assert row['train_steps_per_second'] == 3.0  # 2 x (6 + 3) in 2 x 3 s

  run.iteration()
  assert run.recorder.row({}) is None
  run.iteration()
  row = run.recorder.row({})
  assert row['train_return'] is None  # No episode ended since.
  assert row['train_steps_per_second'] == 3.0


def test_evaluation_makes_a_row_and_is_no_training(monkeypatch):
  run = _Run(monkeypatch, log_every=1000)
  run.iteration()
  run.clock += 50.0  # The evaluation.
  row = run.recorder.row(_EVALUATION)
  assert row.items() >= _EVALUATION.items()
  assert row['train_steps_per_second'] == 3.0  # 9 in 3 s
  run.iteration()
  row = run.recorder.row({}, last=True)
  assert row['train_steps_per_second'] == 3.0
  assert 'eval_return_mode' not in row
  assert run.recorder.returns() == {'eval_return_mode': '7.0'}


def test_what_was_not_measured_is_empty(monkeypatch):
  run = _Run(monkeypatch, log_every=4)
  scalars = {'critic_loss': 1.0, 'actor_loss': 0.0, 'weight_mean': 0.0}
  run.iteration(scalars=scalars, actor_steps=0)
  row = run.recorder.row({})
  assert row['critic_loss'] == 1.0
  assert row['actor_loss'] is None
  assert row['weight_mean'] is None


def test_maxima_stay_maxima(monkeypatch):
  run = _Run(monkeypatch, log_every=8)
  for value in (3.0, 1.0):
    run.iteration(scalars={'weight_max': value, 'weight_mean': value})
    row = run.recorder.row({})
  assert (row['weight_max'], row['weight_mean']) == (3.0, 2.0)


def test_a_metric_of_the_agent_is_a_column(monkeypatch, tmp_path):
  run = _Run(monkeypatch, log_every=4)
  facts = {'config': '', 'environment': 'BitFlip-20', 'seed': 0}
  folder = run_folder.RunFolder(tmp_path, facts)
  run.iteration()
  folder.add_row(run.recorder.row({}), metrics.COLUMNS)
  run.iteration(scalars={'entropy': tf.constant(0.5)})
  row = run.recorder.row({})
  folder.add_row(row, metrics.COLUMNS)
  lines = (tmp_path / 'metrics.csv').read_text().splitlines()
  assert lines[0] == ','.join([*metrics.COLUMNS, 'entropy'])
  assert lines[1].endswith(',') and lines[2].endswith(',0.5')
  metrics.TensorBoard(tmp_path).write(row)
  assert _events(tmp_path)['train/entropy'] == [8]


def test_nothing_collected_is_no_division_by_zero(monkeypatch):
  run = _Run(monkeypatch, log_every=4)
  run.iteration(interactions=0)
  row = run.recorder.row({}, last=True)
  assert row['collect_steps_per_second'] is None


@pytest.mark.parametrize('value', [math.nan, math.inf, -math.inf])
def test_check_finite_names_the_column(value):
  row = {'interactions': 3000, 'q_mean': 0.0, 'critic_loss': value}
  with pytest.raises(FloatingPointError, match='critic_loss.*3000'):
    metrics.check_finite(row)


def test_check_finite_passes_numbers_and_empty_cells():
  metrics.check_finite(
    {'interactions': 1, 'q_mean': 1e30, 'train_return': None}
  )


def test_tensorboard_holds_the_measured_cells(tmp_path):
  tensorboard = metrics.TensorBoard(tmp_path)
  tensorboard.write({'interactions': 10, 'q_mean': 0.5, 'train_return': None})
  tensorboard.write({'interactions': 20, 'q_mean': 0.25, 'train_return': -2.0})
  events = event_accumulator.EventAccumulator(str(tmp_path))
  events.Reload()
  found = {
    tag: [
      (event.step, float(tf.make_ndarray(event.tensor_proto)))
      for event in events.Tensors(tag)
    ]
    for tag in events.Tags()['tensors']
  }
  assert found == {
    'train/q_mean': [(10, 0.5), (20, 0.25)],
    'returns/train_return': [(20, -2.0)],
  }


# Going on from a checkpoint


def test_a_restored_recorder_goes_on_as_the_saved_one(monkeypatch):
  run = _Run(monkeypatch, log_every=10)
  scalars = {'q_mean': tf.constant(0.1)}
  for _ in range(4):  # A row, and 4 interactions that are in none.
    run.iteration(returns=[1.5], scalars=scalars)
    run.recorder.row({})
  state = json.loads(json.dumps(run.recorder.state()))
  run.iteration(returns=[4.0], scalars=scalars)
  expected = run.recorder.row({})
  shown = run.recorder.returns()
  assert expected['train_return'] == (1.5 + 4.0) / 2
  assert expected['wall_seconds'] == 25.0

  run.clock += 1000.0  # The process was dead.
  run.agent.critic_steps -= 6
  run.agent.actor_steps -= 3
  run.recorder = metrics.Recorder(10, run.agent)
  run.recorder.restore(state)
  run.iteration(returns=[4.0], scalars=scalars)
  assert run.recorder.row({}) == expected
  assert run.recorder.returns() == shown


def _events(path):
  """{tag: [steps]} of all files, as TensorBoard would see them."""
  steps = {}
  for file in sorted(path.glob('*tfevents*')):
    for event in tf.compat.v1.train.summary_iterator(str(file)):
      for value in event.summary.value:
        steps.setdefault(value.tag, []).append(event.step)
  return steps


@pytest.mark.parametrize('cut', [0, 7])
def test_events_after_a_checkpoint_are_dropped(tmp_path, cut):
  board = metrics.TensorBoard(tmp_path)
  for step in (10, 20, 30):
    board.write({'interactions': step, 'q_mean': step / 7})
  (file,) = tmp_path.iterdir()
  if cut:  # The process was killed while it wrote.
    file.write_bytes(file.read_bytes()[:-cut])
  again = metrics.TensorBoard(tmp_path, last_step=20)
  assert _events(tmp_path) == {'train/q_mean': [10, 20]}
  again.write({'interactions': 30, 'q_mean': 0.5})
  again.write({'interactions': 40, 'q_mean': 0.5})
  assert _events(tmp_path) == {'train/q_mean': [10, 20, 30, 40]}
  metrics.TensorBoard(tmp_path, last_step=0)
  assert _events(tmp_path) == {}


def _size(png):
  assert png.startswith(b'\x89PNG\r\n')
  return struct.unpack('>II', png[16:24])


def test_learning_curve_draws_what_there_is():
  rows = [
    {'interactions': 10, 'train_return': 1.0},
    {'interactions': 20, 'train_return': math.nan, **_EVALUATION},
  ]
  with warnings.catch_warnings():
    warnings.simplefilter('error')  # A legend of nothing, for instance.
    empty = learning_curve.draw([], 'title')
    full = learning_curve.draw(rows, 'title')
  assert _size(empty) == _size(full) == (1050, 630)
  assert full != empty != learning_curve.draw([], 'other title')


def test_tensorboard_counts_offline_steps(tmp_path):
  board = metrics.TensorBoard(tmp_path)
  board.write({'interactions': 0, 'offline_steps': 12, 'q_mean': 0.5})
  board.write({'interactions': 8, 'offline_steps': 18, 'q_mean': 0.5})
  assert _events(tmp_path) == {'train/q_mean': [12, 26]}


def test_a_learning_curve_leaves_the_programs_figures_alone():
  # As in a notebook, whose backend shows figures.
  before = matplotlib.get_backend(auto_select=False)
  row = {'interactions': 1000, 'train_return': 1.0}
  assert learning_curve.draw([row], 'title').startswith(b'\x89PNG')
  assert matplotlib.get_backend(auto_select=False) == before
