"""From a table of logged decisions to a served policy, without a simulator.

    python examples/offers.py --folder=runs/offers

A shop decides at each of up to eight visits of a customer: show nothing (0), a
reminder (1) or a discount (2). A sale ends the session; only then is anything
earned, the margin, which a discount lowers. What has been logged is a table,
one row per visit, sorted by session and visit, with the probability that the
shop's policy gave to its action:

    session visit  value loyalty  interest visits  offer earned probability

1. `write_log` makes such a table. It is the only part that knows how customers
   behave (`Customers`), which stands for the shop's own log.
2. QWR, BC, CRR and AWAC learn from it. A fifth of the sessions is held out, and
   each run ends with an evaluation on them (evaluation.md).
3. The runs are ranked by it, and the best one's export decides for a customer.

On a command line the same is, with the table's columns in columns.gin,

    python -m qwr_tf.sweep --gin_file=columns.gin --select ...
"""

import argparse
import pathlib
from typing import NamedTuple

import qwr_tf  # noqa: F401 (first: it chooses Keras 2)

# isort: split
import numpy as np
import pandas
import tensorflow as tf

from qwr_tf import serving
from qwr_tf.runs import run_folder
from qwr_tf.serving import saved_policy
from qwr_tf.sweeping import selection
from qwr_tf.training import experiment
from qwr_tf.training import training_run

NOTHING, REMINDER, DISCOUNT = 0, 1, 2
VISITS = 8
OBSERVATION = ['value', 'loyalty', 'interest', 'visits']

# The presets of BitFlip are those for discrete actions.
PRESETS = {
  'QWR': ('vector.gin',),
  'BC': ('bc_bitflip.gin',),
  'CRR': ('crr_bitflip.gin',),
  'AWAC': ('awac_bitflip.gin',),
}
STEPS = 200  # Gradient steps of an iteration.
BINDINGS = (
  "run.environment = 'NoSimulator'",
  'load_environment.num_actions = 3',
  "TableColumns.episode = 'session'",
  "TableColumns.step = 'visit'",
  f'TableColumns.observation = {OBSERVATION}',
  "TableColumns.action = 'offer'",
  "TableColumns.reward = 'earned'",
  'run.offline_iterations = 10',
  f'run.eval_every_env_steps = {5 * STEPS}',
  f'run.log_every_env_steps = {STEPS}',
  'mlp_torso.units = (64, 64)',
  'make_agent.normalizer = @ObservationNormalizer',
  'iterate.batch_size = 256',
)
_ROUNDS = f'iterate.rounds = {STEPS}'
_PHASES = (f'iterate.critic_steps = {STEPS}', f'iterate.actor_steps = {STEPS}')
_OWN_BINDINGS = {
  'QWR': (*_PHASES, 'logged_action_behavior.epsilon = 0.5'),
  'BC': (f'iterate.actor_steps = {STEPS}', 'actor/Adam.learning_rate = 1e-3'),
  'CRR': (_ROUNDS, 'Adam.learning_rate = 1e-3', 'exp_weights.beta = 0.1'),
  'AWAC': (_ROUNDS, 'Adam.learning_rate = 1e-3', 'softmax_weights.beta = 0.1'),
}


class Customers:
  """The simulator: how B customers at once react.

  A reminder raises interest, more so of loyal customers, and annoys at the
  third time. A discount sells at once to those with some interest, for half of
  the margin, and teaches them to wait: interest falls. Without an offer
  interest falls a little. So it pays to remind first and to let loyal customers
  buy at the full price, which no single visit shows.
  """

  def __init__(self, number: int, seed: int):
    """Begins sessions of B new customers."""
    self._rng = np.random.default_rng(seed)
    self.value = self._rng.uniform(0.5, 1.5, number)
    self.loyalty = self._rng.random(number)
    self.interest = self._rng.uniform(0.0, 0.4, number)
    self.reminders = np.zeros(number)
    self.visit = 0

  def observation(self) -> np.ndarray:
    """[B, 4], in the order of `OBSERVATION`."""
    visits = np.full(len(self.value), self.visit / VISITS)
    columns = [self.value, self.loyalty, self.interest, visits]
    return np.stack(columns, axis=-1).astype(np.float32)

  def step(self, offer: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(earned [B], whether the session is over [B])."""
    reminded, discounted = offer == REMINDER, offer == DISCOUNT
    self.reminders += reminded
    gain = np.where(self.reminders <= 2, 0.15 + 0.35 * self.loyalty, -0.3)
    change = np.select([reminded, discounted], [gain, -0.15], -0.03)
    buys_at = 0.9 - 0.35 * discounted
    chance = 1.0 / (1.0 + np.exp(-10.0 * (self.interest - buys_at)))
    chance *= np.where(reminded, 0.2, 1.0)
    sold = self._rng.random(len(offer)) < chance
    self.interest = np.clip(self.interest + change, 0.0, 1.2)
    self.visit += 1
    left = self._rng.random(len(offer)) < 0.05
    earned = sold * self.value * np.where(discounted, 0.5, 1.0)
    return earned, sold | left | (self.visit == VISITS)


class _Logged(NamedTuple):
  session: int
  visit: int
  value: float
  loyalty: float
  interest: float
  visits: float
  offer: int
  earned: float
  probability: float


def write_log(path: pathlib.Path, sessions: int, seed: int = 0) -> None:
  """A table as Parquet, logged by a mediocre stochastic policy."""
  customers = Customers(sessions, seed)
  rng = np.random.default_rng(seed + 1)
  playing, rows = np.ones(sessions, bool), []
  while playing.any():
    observation = customers.observation()
    # Discounts for half of all visits, reminders for every fourth.
    probs = np.tile([0.25, 0.25, 0.5], [sessions, 1])
    draws = rng.random(sessions)[:, np.newaxis]
    offer = (draws > np.cumsum(probs, axis=1)[:, :2]).sum(axis=1)
    visit = customers.visit
    earned, over = customers.step(offer)
    rows += [
      _Logged(
        i, visit, *map(float, observation[i]), offer[i], earned[i],
        probs[i, offer[i]],
      )
      for i in np.flatnonzero(playing)
    ]  # fmt: skip
    playing &= ~over
  table = pandas.DataFrame(rows).sort_values(['session', 'visit'])
  table.to_parquet(path, index=False)


def earnings(
  policy: saved_policy.SavedPolicy,
  sessions: int,
  seed: int,
  gamma: float = 0.99,
) -> float:
  """True discounted earnings per session; a log alone does not have them."""
  customers = Customers(sessions, seed)
  playing, total = np.ones(sessions, bool), 0.0
  for visit in range(VISITS):
    observation = tf.constant(customers.observation())
    earned, over = customers.step(policy.actions(observation, seed + visit))
    total += gamma**visit * float((earned * playing).sum())
    playing &= ~over
  return total / sessions


def learn(
  name: str, log: pathlib.Path, root_dir: pathlib.Path, bindings=()
) -> None:
  """One offline run, which ends with its evaluation and its export."""
  files = [*PRESETS[name], 'environments/offline.gin']
  bindings = [
    *BINDINGS, *_OWN_BINDINGS[name], f'run.dataset = {str(log)!r}', *bindings,
  ]  # fmt: skip
  config = experiment.configuration(files, bindings)
  settings = experiment.settings()
  folder = run_folder.RunFolder(
    root_dir,
    {
      'preset': pathlib.Path(files[0]).stem,
      'bindings': bindings,
      'environment': settings.environment,
      'seed': 0,
      'config': config,
    },
  )
  parts = experiment.build(settings, seed=0)
  with folder.claimed(False):
    training_run.Run(settings, parts, folder, serving.export).train()


def run(
  folder: pathlib.Path, sessions: int = 3000, bindings=()
) -> list[selection.Candidate]:
  """All steps; returns the runs, the best one first."""
  folder.mkdir(parents=True, exist_ok=True)
  log, runs = folder / 'offers.parquet', folder / 'runs'
  write_log(log, sessions)
  for name in PRESETS:
    learn(name, log, runs / name, bindings)
  ranked = selection.rank(runs, lambda facts: True)
  print(*selection.lines(ranked), sep='\n')
  best = saved_policy.SavedPolicy(selection.keep_best(runs, ranked) / 'policy')
  customer = tf.constant([[1.0, 0.9, 0.2, 0.0]])  # Loyal, hardly interested.
  offer = int(best.actions(customer, seed=0, mode=True)[0])
  print(
    f'offer for a loyal customer: {("nothing", "reminder", "discount")[offer]}'
  )
  return ranked


def main() -> None:
  """From flags to a policy."""
  parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
  parser.add_argument('--folder', type=pathlib.Path, default='runs/offers')
  parser.add_argument('--sessions', type=int, default=3000)
  arguments = parser.parse_args()
  run(arguments.folder, arguments.sessions)


if __name__ == '__main__':
  main()
