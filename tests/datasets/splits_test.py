"""Splits by episode."""

import numpy as np
import pytest

from qwr_tf.datasets import splits
from qwr_tf.datasets.steps import Steps


def test_one_of_every_block_is_held_out():
  split = splits.Split(0.2, seed=3)
  held_out = np.array([split.is_held_out(e) for e in range(100)])
  assert held_out.reshape([20, 5]).sum(axis=1).tolist() == [1] * 20
  assert not held_out[0]
  places = np.argmax(held_out.reshape([20, 5]), axis=1)
  assert len(set(places.tolist())) > 2
  other = [splits.Split(0.2, seed=4).is_held_out(e) for e in range(100)]
  assert other != held_out.tolist()


def test_shares_at_the_ends():
  assert not any(splits.Split(0.0).is_held_out(e) for e in range(9))
  assert all(splits.Split(1.0).is_held_out(e) for e in range(9))


def test_shares_that_no_blocks_have_are_refused():
  for share in (0.0, 0.05, 0.2, 0.33, 1 / 3, 0.5, 1.0):
    assert splits.Split(share).checked() == splits.Split(share)
  for share in (-0.1, 0.3, 0.4, 0.45, 0.7, float('nan')):
    with pytest.raises(ValueError, match='held_out_share'):
      splits.Split(share).checked()


def test_select_keeps_whole_episodes_across_chunks():
  # Episodes of 3, 2 (terminal) and 4 steps; chunks of 4 and 5.
  step = np.arange(9)
  terminal = np.isin(step, [4])
  timeout = np.isin(step, [2, 8])
  chunks = [
    Steps(
      step[rows, np.newaxis], step[rows], step[rows].astype(float),
      terminal[rows], timeout[rows], np.zeros(len(step[rows]), bool),
      np.full([int(terminal[rows].sum()), 1], 50), {'p': step[rows]},
    )
    for rows in (slice(0, 4), slice(4, 9))
  ]  # fmt: skip
  kept = {
    number: [
      chunk.action.tolist()
      for chunk in splits.select(chunks, lambda e, n=number: e == n)
    ]
    for number in range(3)
  }
  assert kept == {0: [[0, 1, 2]], 1: [[3], [4]], 2: [[5, 6, 7, 8]]}
  (_, last) = splits.select(chunks, lambda e: e == 1)
  assert last.final_observation.tolist() == [[50]]
  assert last.dist_params['p'].tolist() == [4]
