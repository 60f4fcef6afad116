"""Ctrl-C and kill: at the end of an iteration, or at once where told."""

import os
import signal
import threading
import time

import pytest

from qwr_tf.acting import stop_request
from qwr_tf.training import stop_signals

_SIGNALS = [signal.SIGINT, signal.SIGTERM]


def _wait(condition):
  deadline = time.monotonic() + 20.0
  while not condition():
    assert time.monotonic() < deadline
    time.sleep(0.01)


@pytest.mark.parametrize('number', _SIGNALS)
def test_the_first_signal_is_noted_the_second_ends(number, capsys):
  codes = []
  with stop_signals.Interruption(codes.append) as interrupted:
    assert not interrupted.requested
    os.kill(os.getpid(), number)
    _wait(lambda: interrupted.requested)
    assert not codes
    os.kill(os.getpid(), number)
    _wait(lambda: codes)
  assert codes == [1]
  assert 'once more ends it at once' in capsys.readouterr().err


@pytest.mark.parametrize('number', _SIGNALS)
def test_the_next_line_knows_of_a_signal(number):
  codes = []
  for _ in range(20):
    with stop_signals.Interruption(codes.append) as interrupted:
      signal.raise_signal(number)
      assert interrupted.requested
  assert not codes


@pytest.mark.parametrize('number', _SIGNALS)
def test_where_it_is_told_to_a_signal_raises_at_once(number):
  codes = []
  with stop_signals.Interruption(codes.append) as interrupted:
    os.kill(os.getpid(), number)
    _wait(lambda: interrupted.requested)
    stop_request.check()  # An iteration has its time to end.
    with pytest.raises(KeyboardInterrupt), stop_request.at_once():
      stop_request.check()
  stop_request.check()  # It is forgotten.
  assert not codes


def test_other_signals_are_left_alone():
  seen = []
  before = signal.signal(signal.SIGUSR1, lambda *_: seen.append(1))
  try:
    with stop_signals.Interruption() as interrupted:
      os.kill(os.getpid(), signal.SIGUSR1)
      _wait(lambda: seen)
    assert not interrupted.requested  # The thread has read all by now.
  finally:
    signal.signal(signal.SIGUSR1, before)


@pytest.fixture(name='python_handler')
def _python_handler():
  """SIGINT raises, also where the tests are a shell's background job."""
  before = signal.signal(signal.SIGINT, signal.default_int_handler)
  yield
  signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures('python_handler')
def test_everything_is_as_before_afterwards():
  before = [signal.getsignal(number) for number in _SIGNALS]
  threads = threading.active_count()
  with stop_signals.Interruption():
    assert threading.active_count() == threads + 1
  assert [signal.getsignal(number) for number in _SIGNALS] == before
  assert threading.active_count() == threads
  with pytest.raises(KeyboardInterrupt):
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(5.0)
