"""What a log shows of a run."""

import sys
import time

from qwr_tf.runs import progress_bar


def test_a_log_names_phase_count_and_time_left(capsys, monkeypatch):
  monkeypatch.setattr(progress_bar, '_SECONDS_BETWEEN_LINES', 0.05)
  phases = iter(['collecting', 'compiling'])
  kwargs = {'total': 3000, 'initial': 1000, 'unit': ' interactions'}
  with progress_bar.PhaseBar(
    lambda: next(phases, 'training'), file=sys.stderr, **kwargs
  ) as bar:
    time.sleep(0.2)
    bar.update(1000)
    bar.set_postfix({'eval_return_mode': '7.0'}, refresh=False)
  lines = capsys.readouterr().err.splitlines()
  assert lines[0] == 'collecting: 1,000 of 3,000 interactions, 00:00 spent'
  assert lines[1].startswith('compiling: 1,000 of 3,000 interactions, 00:0')
  assert lines[-1].startswith('training: 2,000 of 3,000 interactions, 00:0')
  assert ' left, eval_return_mode=7.0' in lines[-1]
  count = len(lines)
  time.sleep(0.1)
  assert count == len(lines) and not capsys.readouterr().err


def test_it_can_be_silent(capsys, monkeypatch):
  with progress_bar.PhaseBar(lambda: 'training', total=3, disable=True) as bar:
    bar.update(1)
  assert capsys.readouterr().err == ''
