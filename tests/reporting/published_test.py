"""Published numbers, their scales, and scores beside them."""

import numpy as np
import pytest

from qwr_tf.environments import env_names
from qwr_tf.reporting import d4rl
from qwr_tf.reporting import published
from tests.reporting import rows


def test_published_numbers():
  qwr = {
    n.task: (n.score, n.spread)
    for n in published.at_budget(rows.NUMBERS, 100_000)
    if (n.algorithm, n.table) == ('QWR-LSE', 'Table 1')
  }
  assert qwr == {
    'HalfCheetah': (2323, 332),
    'Walker2d': (1301, 445),
    'Hopper': (1758, 735),
    'Humanoid': (511, 57),
  }
  scale = published.scales(rows.NUMBERS)
  assert scale['HalfCheetah'] == (0, 11321)
  assert scale['Pong'] == (-20.7, 14.6)
  assert published.normalised(14.6, scale['Pong']) == 1


def test_published_index():
  scale = published.scales(rows.NUMBERS)
  index = [
    published.normalised(n.score, scale[n.task])
    for n in published.at_budget(rows.NUMBERS, 100_000)
    if (n.algorithm, n.statistic) == ('CrossQ', 'mean')
  ]
  assert np.mean(index) == pytest.approx(0.78, abs=0.005)


def test_budgets():
  assert published.at_budget(
    rows.NUMBERS, 101_500
  )  # Ends with a whole episode.
  assert not published.at_budget(rows.NUMBERS, 50_000)
  assert not published.at_budget(rows.NUMBERS, 100_000, dataset='mine')


@pytest.mark.parametrize(
  ('environment', 'task'),
  [
    ('HalfCheetah-v4', 'HalfCheetah'),
    ('ALE/Pong-v5', 'Pong'),
    ('my_package.mazes:Maze-v0', 'Maze'),
    ('ale_py:ALE/Pong-v5', 'Pong'),
    ('MinAtar/Breakout-v1', 'MinAtar/Breakout'),
    ('BitFlip-20', 'BitFlip-20'),
  ],
)
def test_task(environment, task):
  assert env_names.task(environment) == task


def test_a_game_without_a_random_score_has_no_scale(tmp_path):
  left = [
    n for n in rows.NUMBERS if (n.task, n.algorithm) != ('Pong', 'random')
  ]
  assert published.games(left) == {
    'Boxing', 'Breakout', 'Freeway', 'Gopher', 'Seaquest',
  }  # fmt: skip


def test_a_score_stands_beside_the_published_ones():
  """Table 2's row, both OTRainbow numbers; human = 14.6, random = -20.7."""
  lines = published.beside('ALE/Pong-v5', 100_000, -3.05)
  assert 'QWR-LSE -7.6 (QWR paper, mean)' in lines[0]
  assert 'OTRainbow -19.3' in lines[0] and 'OTRainbow 1.3' in lines[0]
  assert 'OTRainbow 1.3 (OTRainbow paper, statistic not stated)' in lines[0]
  # (-3.05 + 20.7) / (14.6 + 20.7) = 17.65 / 35.3 = 0.5
  assert lines[1].startswith('human-normalised: 0.500 ')
  (line,) = published.beside('Hopper-v4', 100_000, 1.0)
  assert 'QWR-LSE 1758 (QWR paper, median)' in line
  assert 'CrossQ 3169 (SimbaV2 repository, median)' in line
  assert 'CrossQ 2764' not in line  # Its mean.
  assert published.beside('ALE/Pong-v5', 3_000, -3.05) == lines[1:]
  # Those runs did not begin with logged data.
  assert published.beside('Hopper-v4', 100_000, 1.0, 'set-v0') == []
  assert published.beside('BitFlip-20', 10_000, 5.0) == []


def test_only_returns_on_gymnasium_v4_are_compared_and_scale():
  number = published.Number(
    'paper',
    '',
    'gymnasium v4',
    '',
    'SAC',
    'Hopper',
    1_000_000,
    'return',
    'mean',
    2787.0,
    None,
    '',
    '',
  )
  other = number._replace(metric='d4rl-normalised', score=50.0)
  assert published.at_budget([number, other], 1_000_000) == [number]
  old = number._replace(environments='gym v2', score=3167.0)
  assert published.scales([number, old]) == {'Hopper': (0.0, 2787.0)}


@pytest.mark.parametrize(
  ('environment', 'expert'),
  [
    ('Ant-v4', 3879.7),
    ('HalfCheetah-v4', 12135.0),
    ('Hopper-v4', 3234.3),
    ('Walker2d-v4', 4592.3),
    ('AdroitHandDoor-v1', 2880.5693),
    ('AdroitHandHammer-v1', 12794.1348),
    ('AdroitHandPen-v1', 3076.8331),
    ('AdroitHandRelocate-v1', 4233.8778),
    ('FrankaKitchen-v1', 4.0),
  ],
)
def test_d4rl_experts_have_100(environment, expert):
  assert d4rl.normalised(environment, expert) == pytest.approx(100.0, abs=1e-4)


@pytest.mark.parametrize(
  ('interactions', 'is_same'),
  [(97_900, False), (98_100, True), (101_900, True), (102_100, False)],
)
def test_the_same_budget_is_within_two_percent(interactions, is_same):
  number = published.at_budget(rows.NUMBERS, 100_000)[0]
  number = number._replace(interactions=100_000)
  assert bool(published.at_budget([number], interactions)) == is_same
