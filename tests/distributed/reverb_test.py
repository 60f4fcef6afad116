"""The Reverb server's tables, who writes them, who reads them, and faults."""

import json
import os
import pathlib
import socket
import subprocess
import sys
import threading
import time
import types

import numpy as np
import pytest
import tensorflow as tf
from tf_agents.specs import tensor_spec
from tf_agents.trajectories import trajectory

pytest.importorskip('reverb')

from qwr_tf.agents import qwr_agent
from qwr_tf.distributed import reverb_client
from qwr_tf.distributed import reverb_server
from qwr_tf.distributed import reverb_table
from qwr_tf.distributed import reverb_writer
from qwr_tf.replicas import replicas
from tests.agents import replica_checks

_ROOT = pathlib.Path(__file__).resolve().parents[2]
_HORIZON = 3
_FIRST, _MID, _LAST = 0, 1, 2


class _Network(tf.Module):
  """Acts with two variables, one of them a part's."""

  def __init__(self):
    super().__init__()
    self.own = tf.Variable([1.0, 2.0])
    self.part = tf.Module()
    self.part.count = tf.Variable(3, dtype=tf.int64)


_SPEC = trajectory.Trajectory(
  step_type=tensor_spec.TensorSpec([], tf.int32),
  observation=tensor_spec.TensorSpec([2], tf.float32),
  action=tensor_spec.TensorSpec([1], tf.float32),
  policy_info={'dist_params': {'loc': tensor_spec.TensorSpec([1], tf.float32)}},
  next_step_type=tensor_spec.TensorSpec([], tf.int32),
  reward=tensor_spec.TensorSpec([], tf.float32),
  discount=tensor_spec.TensorSpec([], tf.float32),
)


def _free_port():
  with socket.socket() as listener:
    listener.bind(('127.0.0.1', 0))
    return listener.getsockname()[1]


class _Shared:
  """A server with its specs, and connections to it."""

  def __init__(self, folder, spec=_SPEC, network=None, horizon=_HORIZON):
    self.network = network or _Network()
    self.specs = reverb_server.signatures(spec, horizon, self.network)
    self._port, self._folder = _free_port(), folder
    self.connection = reverb_client.Connection(f'127.0.0.1:{self._port}', 20.0)
    self.start()

  def start(self):
    self.server = reverb_server.serve(
      self.specs, 100, self._port, self._folder / 'server'
    )

  def stop(self):
    self.server.stop()
    self.server = None

  def writer(self):
    return reverb_writer.WindowWriter(self.connection, _HORIZON)

  def size(self, table):
    return self.connection.tables()[table].current_size


@pytest.fixture(name='shared')
def _shared(tmp_path):
  shared = _Shared(tmp_path)
  yield shared
  if shared.server:
    shared.stop()


def _rows(step_types, first=0):
  """Rows whose observation, action, mu and reward all say their number."""
  count = len(step_types)
  numbers = np.arange(first, first + count, dtype=np.float32)
  following = [*step_types[1:], _MID]
  return trajectory.Trajectory(
    step_type=tf.constant(step_types, tf.int32),
    observation=tf.constant(np.stack([numbers, -numbers], 1)),
    action=tf.constant(numbers[:, None]),
    policy_info={'dist_params': {'loc': tf.constant(numbers[:, None])}},
    next_step_type=tf.constant(following, tf.int32),
    reward=tf.constant(numbers),
    discount=tf.ones([count]),
  )


def _windows(shared, count):
  """The actions of all windows, which the server draws at random."""
  table = reverb_table.ReverbTable(shared.connection, shared.specs, _SPEC)
  read = table.windows([1, 1], _HORIZON + 1, None)
  found = {}
  for _ in range(200):
    window = read(0)
    found[int(window.action[0, 0, 0])] = window
    if len(found) == count:
      break
  return found


# Writing and reading


def test_windows_start_at_transitions_and_hold_mu(shared):
  #              0       1     2      3       4     5     6
  step_types = [_FIRST, _MID, _LAST, _FIRST, _MID, _MID, _MID]
  shared.writer().append(_rows(step_types))
  # By hand: windows of 4 rows fit at 0, 1, 2 and 3; row 2 is no transition.
  assert shared.size(reverb_server.EXPERIENCE) == 3
  found = _windows(shared, 3)
  assert sorted(found) == [0, 1, 3]
  for start, window in found.items():
    numbers = np.arange(start, start + 4)
    np.testing.assert_array_equal(window.action[0, :, 0], numbers)
    np.testing.assert_array_equal(
      window.policy_info['dist_params']['loc'][0, :, 0], numbers
    )
    np.testing.assert_array_equal(
      window.step_type[0], step_types[start : start + 4]
    )


def test_windows_go_on_from_one_call_to_the_next(shared):
  writer = shared.writer()
  writer.append(_rows([_FIRST, _MID]))
  assert shared.size(reverb_server.EXPERIENCE) == 0
  writer.append(_rows([_MID, _MID, _MID], first=2))
  assert sorted(_windows(shared, 2)) == [0, 1]


def test_the_newest_windows_stay(shared):
  shared.writer().append(_rows([_FIRST] + [_MID] * 149))
  assert shared.size(reverb_server.EXPERIENCE) == 100
  assert min(_windows(shared, 60)) >= 150 - 3 - 100


def test_every_interaction_arrives_once_with_its_return(shared):
  writer = shared.writer()
  step_types = [_FIRST, _MID, _LAST, _FIRST, _MID]
  writer.append(_rows(step_types))
  assert writer.interactions == 4
  arrivals = reverb_table.Arrivals(shared.connection, shared.specs, _SPEC)
  assert shared.size(reverb_server.ARRIVALS) == 4
  observations, returns = arrivals.take(3)
  np.testing.assert_array_equal(observations[:, 0], [0, 1, 3])
  assert returns == [0.0 + 1.0]  # The rewards of rows 0 and 1.
  assert shared.size(reverb_server.ARRIVALS) == 1
  assert len(arrivals.take(1)[0]) == 1
  assert arrivals.lost == 0


def test_what_is_repeated_is_dropped_and_what_is_missing_counted(shared):
  arrivals = reverb_table.Arrivals(shared.connection, shared.specs, _SPEC)
  writer = shared.writer()
  writer.append(_rows([_FIRST, _MID]))
  assert len(arrivals.take(2)[0]) == 2
  writer.interactions = 1  # As if a server had come back from a checkpoint.
  writer.append(_rows([_MID, _MID], first=2))
  assert len(arrivals.take(2)[0]) == 1
  writer.interactions = 13  # 3 was to come.
  writer.append(_rows([_MID], first=4))
  assert len(arrivals.take(1)[0]) == 1
  assert arrivals.lost == 10


def test_an_episode_of_which_rows_are_missing_has_no_return(shared):
  arrivals = reverb_table.Arrivals(shared.connection, shared.specs, _SPEC)
  writer = shared.writer()
  writer.append(_rows([_FIRST, _MID]))
  writer.interactions = 5
  writer.append(_rows([_MID, _LAST, _FIRST, _MID, _LAST], first=5))
  assert arrivals.take(3)[1] == []  # The end of who knows which episode.
  assert arrivals.lost == 3
  again = reverb_table.Arrivals(shared.connection, shared.specs, _SPEC)
  again.restore(json.loads(json.dumps(arrivals.state())))
  assert again.take(2)[1] == [7.0 + 8.0]


def test_arrivals_go_on_from_a_state(shared):
  arrivals = reverb_table.Arrivals(shared.connection, shared.specs, _SPEC)
  writer = shared.writer()
  writer.append(_rows([_FIRST, _MID]))
  arrivals.take(2)
  again = reverb_table.Arrivals(shared.connection, shared.specs, _SPEC)
  again.restore(arrivals.state())
  writer.append(_rows([_MID, _LAST], first=2))
  _, returns = again.take(1)
  assert again.lost == 0
  assert returns == [0.0 + 1.0 + 2.0]


def test_variables_of_parts_are_variables(shared):
  names = [v.dtype for v in reverb_server.acting_variables(shared.network)]
  assert sorted(d.name for d in names) == ['float32', 'int64']


def test_a_policy_goes_from_here_to_there(shared):
  variables = reverb_server.acting_variables(shared.network)
  policy = tuple(v.numpy() for v in variables)
  for _ in range(2):
    shared.connection.write(reverb_server.VARIABLES, policy)
  found = shared.connection.read(reverb_server.VARIABLES)
  assert shared.size(reverb_server.VARIABLES) == 1
  tf.nest.map_structure(
    np.testing.assert_array_equal, list(found), list(policy)
  )


@pytest.mark.slow
def test_an_agent_learns_from_windows_of_a_server(tmp_path):
  optimizer = tf.keras.optimizers.legacy.Adam
  agent = replica_checks.make('gaussian', optimizer)
  shared = _Shared(
    tmp_path, agent.collect_data_spec, agent.acting_network, agent.horizon
  )
  writer = shared.writer()

  class _Rows:
    """Takes what `fill` makes, in pieces."""

    append = staticmethod(writer.append)

  replica_checks.fill(_Rows, agent, 60)
  table = reverb_table.ReverbTable(
    shared.connection, shared.specs, agent.collect_data_spec
  )
  before = [v.numpy() for v in agent.trainable_variables]
  iterations = qwr_agent.iterate(
    agent,
    table,
    lambda: types.SimpleNamespace(interactions=0),
    critic_steps=3,
    actor_steps=2,
    batch_size=8,
  )
  _, scalars = next(iterations)
  assert all(np.isfinite(float(value)) for value in scalars.values())
  assert int(agent.critic_steps) == 3 and int(agent.actor_steps) == 2
  assert any(
    (v.numpy() != b).any()
    for v, b in zip(agent.trainable_variables, before, strict=True)
  )
  # What NaN would have been explained with.
  bad_step = replicas.BadStep(agent.actor_network.name, 3, 1)
  starts, windows = iterations.redraw(bad_step)
  assert starts.shape == [0]  # A server has no row numbers.
  assert windows.step_type.shape == [8, agent.horizon + 1]
  shared.stop()


# Faults


def test_a_server_that_comes_back_is_used_again(shared):
  writer = shared.writer()
  writer.append(_rows([_FIRST, _MID, _MID, _MID]))
  connection = shared.connection
  connection.write(
    reverb_server.CONFIGURATION, reverb_client.as_item('a = 1\n')
  )
  path = connection.checkpoint()
  assert path
  shared.stop()
  assert connection.tables_now() is None
  shared.start()
  connection.check({}, 'a = 1\n')
  assert shared.size(reverb_server.EXPERIENCE) == 1
  assert shared.size(reverb_server.ARRIVALS) == 4
  writer.append(_rows([_MID, _MID], first=4))
  assert shared.size(reverb_server.EXPERIENCE) >= 2


def serve(port, folder):
  """A server in a process of its own: one's own is read without a network."""
  specs = reverb_server.signatures(_SPEC, _HORIZON, _Network())
  reverb_server.serve(specs, 100, int(port), pathlib.Path(folder)).wait()


@pytest.fixture(name='start_server')
def _start_server(tmp_path):
  port = _free_port()
  connection = reverb_client.Connection(f'127.0.0.1:{port}', 300.0)
  code = (
    'import sys; from tests.distributed import reverb_test as t; '
    't.serve(*sys.argv[1:])'
  )
  command = [sys.executable, '-c', code, str(port), str(tmp_path)]
  servers = []

  def start():
    for server in servers:
      server.kill()
      server.wait()
    servers.append(subprocess.Popen(command, cwd=_ROOT))
    connection.tables()  # Waits for it.
    return connection

  yield start
  for server in servers:
    server.kill()
    server.wait()


@pytest.mark.slow
def test_a_phase_goes_on_when_a_killed_server_has_come_back(start_server):
  connection = start_server()
  specs = reverb_server.signatures(_SPEC, _HORIZON, _Network())
  writer = reverb_writer.WindowWriter(connection, _HORIZON)
  writer.append(_rows([_FIRST, *[_MID] * 9]))
  table = reverb_table.ReverbTable(connection, specs, _SPEC)
  read = table.windows([1, 2], _HORIZON + 1, None)

  def reward_of_a_row_after(number):
    while (largest := float(tf.reduce_max(read(0).reward))) < number:
      pass
    return largest

  def come_back():
    start_server()
    writer.append(_rows([_FIRST, *[_MID] * 9], first=50))

  assert reward_of_a_row_after(0) < 50
  thread = threading.Thread(target=come_back)
  thread.start()
  # It reads while nobody is there, then a table without a window.
  assert reverb_client.within(300.0, reward_of_a_row_after, 50) >= 50
  thread.join()


def test_only_the_newest_checkpoint_stays(shared, tmp_path):
  shared.writer().append(_rows([_FIRST, _MID, _MID, _MID]))
  paths = [shared.connection.checkpoint() for _ in range(2)]
  (complete,) = (tmp_path / 'server').glob('*/DONE')
  assert str(complete.parent) == paths[1]


def test_a_server_that_is_not_there_is_named_in_time():
  connection = reverb_client.Connection(f'127.0.0.1:{_free_port()}', 1.0)
  start = time.monotonic()
  with pytest.raises(reverb_client.UnreachableError, match=connection.address):
    connection.tables()
  assert time.monotonic() - start < 30.0


def test_another_signature_is_named(shared):
  other = reverb_server.signatures(
    _SPEC._replace(observation=tensor_spec.TensorSpec([5], tf.float32)),
    _HORIZON,
    shared.network,
  )
  with pytest.raises(
    reverb_client.MismatchError,
    match=r'float32 is float32\[4, 6\] there, .*\[4, 9\]',
  ):
    shared.connection.check(other, '')
  longer = reverb_server.signatures(_SPEC, _HORIZON + 1, shared.network)
  with pytest.raises(
    reverb_client.MismatchError, match=r'\[4, 6\] there, .*\[5, 6\]'
  ):
    shared.connection.check(longer, '')


def test_another_configuration_is_named(shared):
  item = reverb_client.as_item('a = 1\nb = 2\n')
  shared.connection.write(reverb_server.CONFIGURATION, item)
  shared.connection.check(shared.specs, 'a = 1\nb = 2\n')
  with pytest.raises(
    reverb_client.MismatchError, match="'b = 2' there, 'b = 3' here"
  ):
    shared.connection.check(shared.specs, 'a = 1\nb = 3\n')


def test_a_server_of_something_else_is_named(shared):
  with pytest.raises(reverb_client.MismatchError, match="no table 'mine'"):
    shared.connection.check({'mine': None}, '')


def test_a_server_without_a_configuration_is_something_else(
  shared, monkeypatch
):
  tables = shared.connection.tables()
  del tables[reverb_server.CONFIGURATION]
  monkeypatch.setattr(shared.connection, 'tables', lambda: tables)
  with pytest.raises(
    reverb_client.MismatchError, match="no table 'configuration'"
  ):
    shared.connection.check({}, '')


def test_a_taken_port_is_an_error(shared, tmp_path):
  port = int(shared.connection.address.split(':')[1])
  with pytest.raises(OSError, match=f'port {port}: .*in use'):
    reverb_server.serve(shared.specs, 10, port, tmp_path / 'other')


def _interfaces(port):
  """The interfaces that this process's listeners of a port are tied to."""
  for file in pathlib.Path('/proc/self/fd').iterdir():
    if not file.is_socket():
      continue
    with socket.socket(fileno=os.dup(int(file.name))) as one:
      if one.family in (socket.AF_INET, socket.AF_INET6) and one.getsockopt(
        socket.SOL_SOCKET, socket.SO_ACCEPTCONN
      ):
        if one.getsockname()[1] == port:
          name = one.getsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, 16)
          yield name.rstrip(b'\0')


def test_a_server_listens_to_its_machine_unless_it_is_told(shared, tmp_path):
  port = int(shared.connection.address.split(':')[1])
  assert set(_interfaces(port)) == {b'lo'}
  assert shared.connection.tables_now()
  port = _free_port()
  server = reverb_server.serve(
    shared.specs, 10, port, tmp_path / 'open', all_interfaces=True
  )
  assert set(_interfaces(port)) == {b''}
  server.stop()


def test_a_server_that_cannot_be_kept_to_its_machine_is_refused(
  shared, tmp_path, monkeypatch
):
  monkeypatch.setattr(socket, 'SO_BINDTODEVICE', -1)
  with pytest.raises(OSError, match='kept to this machine') as found:
    reverb_server.serve(shared.specs, 10, _free_port(), tmp_path / 'other')
  assert '--trusted_network' in found.value.filename


def test_a_call_that_hangs_is_left():
  start = time.monotonic()
  assert reverb_client.within(0.1, time.sleep, 3.0) is None
  assert time.monotonic() - start < 2.0
  assert reverb_client.within(5.0, lambda x: x + 1, 1) == 2


@pytest.mark.parametrize('overwrite', [False, True])
def test_a_folder_of_something_else_is_left_alone(overwrite, shared, tmp_path):
  # The server's own folder is removed when training has ended.
  folder = tmp_path / 'recordings'
  folder.mkdir()
  (folder / 'own.npz').touch()
  with pytest.raises(OSError, match='not of a replay server') as found:
    reverb_server.serve(shared.specs, 10, _free_port(), folder, overwrite)
  assert found.value.filename == str(folder)
  assert [path.name for path in folder.iterdir()] == ['own.npz']
