"""An evaluation as a page: a table, a picture, and what can be concluded."""

import functools
import io
import math
import pathlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from qwr_tf.evaluation import estimators
from qwr_tf.evaluation import fitted_q
from qwr_tf.evaluation import support
from qwr_tf.evaluation.estimators import Interval
from qwr_tf.evaluation.logged_steps import Logged
from qwr_tf.runs import atomic_files

# Above these an estimate is an extrapolation, or below: the rest of a table.
MAX_OFF_SUPPORT = 0.15
MAX_HARDLY_TAKEN = 0.5
MIN_SAMPLE_SIZE = 10.0
_FEW_EPISODES = 20
_BINS = 10  # Of advantages in the picture.

DATA, FQE, GAIN = 'logged return', 'FQE', 'FQE less logged return'
WIS, DR = 'weighted importance sampling', 'doubly robust'
DR_GAIN = f'{DR} less {DATA}'


class Row(NamedTuple):
  """A line of the table; NaN where there is no number."""

  name: str
  value: float
  low: float = math.nan
  high: float = math.nan
  note: str = ''


class Report(NamedTuple):
  """Estimates, diagnostics and doubts of one evaluation.

  Attributes:
    policy: its name.
    data: name of the data set.
    gamma: discount per step; values are discounted.
    rows: of the table.
    conclusions: sentences: what can be concluded.
    doubts: sentences: why the estimate may be wrong; empty if nothing says so.
    calibration: mean advantage and mean TD error of bins, [2, bins].
  """

  policy: str
  data: str
  gamma: float
  rows: tuple[Row, ...]
  conclusions: tuple[str, ...]
  doubts: tuple[str, ...]
  calibration: np.ndarray

  def row(self, name: str) -> Row:
    """A line of the table by its name."""
    return next(row for row in self.rows if row.name == name)

  @property
  def value(self) -> float:
    """The estimate, by which policies are ranked."""
    return self.row(FQE).value

  def summary(self) -> str:
    """Conclusions and doubts, a line each, for a terminal."""
    doubts = [f'but     {doubt}' for doubt in self.doubts]
    weighed = self.row(WIS)
    if math.isnan(weighed.value):
      doubts.append(f'note    importance sampling: {weighed.note}')
    return '\n'.join([*(f'so      {c}' for c in self.conclusions), *doubts])

  def markdown(self, source: str = '') -> str:
    """The page; `source` says in a line how it was made."""
    lines = [f'# {self.policy} on {self.data}', '', *self.conclusions, '']
    if self.doubts:
      lines += ['What speaks against the estimate:', '']
      lines += [f'* {doubt}' for doubt in self.doubts] + ['']
    lines += ['| | value | low | high | |', '|---|---:|---:|---:|---|']
    for row in self.rows:
      numbers = ' | '.join(_number(x, '–') for x in row[1:4])
      lines.append(f'| {row.name} | {numbers} | {row.note} |')
    lines += ['', f'Values are discounted with {self.gamma:g} per step.']
    lines += ['', source] if source else []
    return '\n'.join([*lines, '', '![](evaluation.png)', ''])

  def picture(self) -> bytes:
    """Intervals beside each other, and TD errors over advantages; a PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.4), layout='constrained')
    left, right = figure.subplots(1, 2)
    drawn = [r for r in self.rows if r.name in (DATA, FQE, WIS, DR)]
    drawn = [r for r in drawn if not math.isnan(r.value)][::-1]
    for place, row in enumerate(drawn):
      left.plot([row.low, row.high], [place] * 2, color='0.4')
      left.plot(row.value, place, 'o')
    left.set_yticks(range(len(drawn)), [row.name for row in drawn])
    left.set(xlabel='discounted return', ylim=(-0.5, len(drawn) - 0.5))
    right.plot(*self.calibration, marker='.', label='episodes held out')
    right.axline((0, 0), slope=1, color='0.4', ls=':', label='calibrated')
    right.set(xlabel='advantage', ylabel='TD error of V')
    right.legend(frameon=False)
    figure.suptitle(f'{self.policy} on {self.data}', fontsize=10)
    content = io.BytesIO()
    figure.savefig(content, format='png', dpi=150)
    return content.getvalue()

  def write(self, folder: pathlib.Path, source: str = '') -> None:
    """Writes evaluation.md, .csv and .png; raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    write = atomic_files.write_atomically
    write(folder / 'evaluation.png', self.picture())
    write(folder / 'evaluation.md', self.markdown(source))
    common = {'policy': self.policy, 'data': self.data, 'gamma': self.gamma}
    numbers = 'value', 'low', 'high'
    rows = [
      common
      | row._asdict()
      | {n: _number(getattr(row, n), '') for n in numbers}
      for row in self.rows
    ]
    atomic_files.write_csv(folder / 'evaluation.csv', rows[0], rows)


def _number(value: float, missing: str) -> str:
  return missing if math.isnan(value) else f'{value:.4g}'


def make(
  policy: str,
  data: str,
  logged: Logged,
  model: fitted_q.FittedQ,
  state_values: np.ndarray,
  q_values: np.ndarray,
  caveats: tuple[str, ...] = (),
) -> Report:
  """Draws the conclusions.

  Args:
    model: after `fit_ensemble`.
    state_values: V of each member, twice from other samples, [K, 2, N].
    q_values: Q of the logged actions, [K, N].
    caveats: sentences that come first among the doubts.
  """
  gamma, episodes = model.gamma, logged.episodes
  counts = _counts(model.counts, episodes, logged.terminal)
  returns = estimators.discounted_returns(episodes, gamma)
  starts = state_values[:, :, episodes.is_first].mean(axis=1)  # [K, E]
  weights = counts / counts.sum(axis=1, keepdims=True)
  estimate = estimators.of_resamples(np.sum(weights * starts, axis=1))
  gain = estimators.of_resamples(np.sum(weights * (starts - returns), axis=1))
  mean_return = estimators.bootstrap(
    lambda c: float(np.average(returns, weights=c)), episodes.number
  )
  plain = estimators.discounted_returns(episodes, 1.0)
  weighing, size = _weighing(
    episodes._replace(
      q_values=q_values.mean(axis=0),
      state_values=state_values.mean(axis=(0, 1)),
    ),
    gamma,
    logged.no_weights,
  )
  calibration, slope, error, bias = _calibration(
    logged, gamma, counts == 0, state_values, q_values
  )
  far = support.off_support(logged.sample)
  rows = (
    Row(DATA, *mean_return, f'{episodes.number} episodes'),
    Row('not discounted', float(plain.mean()), note='of the logged episodes'),
    Row(FQE, *estimate, f'{len(counts)} critics, each of a resample'),
    Row(GAIN, *gain),
    *weighing,
    *_checks(logged, far, slope, error, bias),
  )
  doubts = (
    *caveats,
    *_doubts(rows, estimate, far, logged, slope + 2 * error, bias, size),
  )
  gains: list[Interval | Row] = [gain]
  if size >= MIN_SAMPLE_SIZE:
    gains.append(next(row for row in rows if row.name == DR_GAIN))
  conclusions = _conclusions(estimate, gains, mean_return, bool(doubts))
  return Report(policy, data, gamma, rows, conclusions, doubts, calibration)


def _checks(
  logged: Logged, far: float | None, slope: float, error: float, bias: float
) -> tuple[Row, ...]:
  """Rows on whether data and critics can carry the conclusions."""
  return (
    Row(
      'states off support',
      math.nan if far is None else far,
      note='share whose action is far from those logged nearby',
    ),
    Row(
      'states mu hardly covers',
      math.nan if logged.hardly_taken is None else logged.hardly_taken,
      note='share whose action the recorded policy would hardly take',
    ),
    Row(
      'log pi of logged actions',
      float(logged.log_pi.mean()),
      note=''
      if logged.log_mu is None
      else f'log mu: {np.mean(logged.log_mu):.4g}',
    ),
    Row(
      'TD error on advantage',
      slope,
      slope - 2 * error,
      slope + 2 * error,
      'slope on episodes held out: 1 calibrated, 0 noise',
    ),
    Row(
      'bias by TD errors',
      bias,
      note='discounted sum of TD errors of Q on episodes held out',
    ),
  )


def _counts(
  counts: np.ndarray, episodes: estimators.Episodes, terminal: np.ndarray
) -> np.ndarray:
  """Resampling counts [K, E] by episode.

  0 for a cut episode of one step, which the table does not hold.
  """
  lengths = np.bincount(episodes.episode)
  has_rows = (lengths > 1) | terminal[episodes.is_first]
  all_counts = np.zeros([len(counts), episodes.number])
  all_counts[:, has_rows] = counts
  return all_counts


def _weighing(
  episodes: estimators.Episodes, gamma: float, refusal: str
) -> tuple[list[Row], float]:
  """Rows of the estimates by importance weights; the effective sample size."""
  if refusal:
    return [
      Row(name, math.nan, note=f'none: {refusal}') for name in (WIS, DR)
    ], 0
  rows = []
  for name, function in (
    (WIS, estimators.importance_sampling),
    (DR, estimators.doubly_robust),
  ):
    estimate = functools.partial(function, episodes, gamma, True)
    rows.append(Row(name, *estimators.bootstrap(estimate, episodes.number)))
  returns = estimators.discounted_returns(episodes, gamma)
  gain = estimators.bootstrap(
    lambda counts: (
      estimators.doubly_robust(episodes, gamma, counts=counts)
      - float(np.average(returns, weights=counts))
    ),
    episodes.number,
  )
  rows.append(Row(DR_GAIN, *gain))
  size = estimators.effective_sample_size(episodes)
  note = f'of {episodes.number} episodes'
  return [*rows, Row('effective sample size', size, note=note)], size


def _calibration(
  logged: Logged,
  gamma: float,
  is_out: np.ndarray,
  state_values: np.ndarray,
  q_values: np.ndarray,
) -> tuple[np.ndarray, float, float, float]:
  """TD errors of members that have not seen an episode.

  Args:
    is_out: whether a member has not seen an episode, [K, E].
    state_values: [K, 2, N].
    q_values: [K, N].

  Returns:
    (binned advantages and errors, slope, its standard error, bias of the
    value by the mean error).
  """
  episode = logged.episodes.episode
  is_out = is_out[:, episode]
  number = is_out.sum(axis=0)
  share = is_out / np.maximum(number, 1)
  q_value = np.sum(share * q_values, axis=0)
  one, other = np.sum(share[:, np.newaxis] * state_values, axis=0)
  is_end = np.append(logged.episodes.is_first[1:], True)
  after = np.where(is_end, 0.0, np.append((one + other)[1:] / 2.0, 0.0))
  target = logged.episodes.rewards + gamma * after
  usable = (number > 0) & (~is_end | logged.terminal)
  if usable.sum() < _BINS:
    return np.full([2, 1], np.nan), math.nan, math.nan, math.nan
  # Noise of one V in both would look like an advantage that holds.
  advantage, error = (q_value - one)[usable], (target - other)[usable]
  # What a doubly robust estimate would add with weights of one.
  errors_of_q = gamma**logged.episodes.age * np.where(
    usable, target - q_value, 0
  )
  bias = float(errors_of_q.sum()) / max(len(np.unique(episode[usable])), 1)
  bins = np.array_split(np.argsort(advantage, kind='stable'), _BINS)
  binned = np.array(
    [[x[rows].mean() for rows in bins] for x in (advantage, error)]
  )
  value, deviation = support.slope(advantage, error, episode[usable])
  return binned, value, deviation, bias


def _doubts(
  rows, estimate: Interval, far, logged: Logged, steepest, bias, size
) -> list[str]:
  doubts = []
  if far is not None and far > MAX_OFF_SUPPORT:
    doubts.append(
      f'In {far:.0%} of the states the policy takes an action that is far from '
      'all that were logged nearby: its value there is extrapolated.'
    )
  hardly = logged.hardly_taken
  if far is None and hardly is not None and hardly > MAX_HARDLY_TAKEN:
    doubts.append(
      f'In {hardly:.0%} of the states the recorded policy would hardly take '
      "the policy's action: its value there is extrapolated."
    )
  if steepest < 0.2:
    doubts.append(
      "The critics' advantages do not hold on episodes they have not seen: "
      'they cannot tell good actions from bad ones.'
    )
  half = (estimate.high - estimate.low) / 2.0
  if half > max(abs(estimate.value), abs(rows[0].value)):
    doubts.append(
      'The critics contradict each other: the interval is wider than the value '
      'itself; more data or more --members would narrow it.'
    )
  if abs(bias) > 2.0 * max(half, 0.1 * abs(estimate.value)):
    doubts.append(
      f'TD errors on episodes that the critics have not seen add up to '
      f'{bias:+.3g}: the estimate has not converged, or the episodes are few.'
    )
  if size >= MIN_SAMPLE_SIZE:
    robust = next(row for row in rows if row.name == DR)
    if robust.low > estimate.high or robust.high < estimate.low:
      doubts.append(
        'FQE and the doubly robust estimate contradict each other: '
        f'{estimate.value:.4g} and {robust.value:.4g}.'
      )
  if logged.episodes.number < _FEW_EPISODES:
    doubts.append(
      f'{logged.episodes.number} episodes are few: the intervals are rough.'
    )
  return doubts


def _conclusions(
  estimate: Interval,
  gains: Sequence[Interval | Row],
  logged: Interval,
  doubtful: bool,
) -> tuple[str, ...]:
  text = (
    f'The policy is estimated at {estimate.value:.4g} (95 %: '
    f'{estimate.low:.4g} to {estimate.high:.4g}), the logged episodes had '
    f'{logged.value:.4g} ({logged.low:.4g} to {logged.high:.4g}).'
  )
  is_better = any(gain.low > 0 for gain in gains)
  is_worse = any(gain.high < 0 for gain in gains)
  if is_better != is_worse:  # Not neither, nor both.
    better = 'better' if is_better else 'worse'
    claim = f'It is {better} than the policy that acted'
    if doubtful:
      claim = f'It looks {better} than the policy that acted'
  else:
    claim = (
      'The data do not say whether it is better than the policy that acted'
    )
    if not doubtful:
      return text, f'{claim}.'
  return text, f'{claim}, as far as ' + (
    'the estimate can be trusted; try it before relying on it.'
    if doubtful
    else 'these data go.'
  )
