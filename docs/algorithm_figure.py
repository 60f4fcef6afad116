"""Draws docs/explanation/algorithm.png: python docs/algorithm_figure.py."""

import pathlib

import matplotlib
import numpy as np
from matplotlib.figure import Figure

_BLUE, _ORANGE, _GREEN, _GREY = '#0072B2', '#D55E00', '#009E73', '0.45'
_SIGMA, _BETA = 0.4, 1.0
# Positions of four samples of mu, chosen so that their labels do not touch.
_SAMPLES = np.array([-0.62, -0.15, 0.22, 0.66])


def _normal(x, mean):
  return np.exp(-0.5 * ((x - mean) / _SIGMA) ** 2)


def _q(a):
  return 1.4 - 0.9 * (a - 0.75) ** 2 + 0.12 * np.sin(4 * a)


def draw() -> Figure:
  """Three panels: mu and its samples, the critic, the new actor."""
  figure = Figure(figsize=(9, 2.9), layout='constrained')
  axes = figure.subplots(1, 3, sharex=True)
  x = np.linspace(-1.5, 1.5, 301)
  values = _q(_SAMPLES)
  baseline = values.mean()
  weights = np.exp((values - baseline) / values.std() / _BETA)
  mean = float(np.average(_SAMPLES, weights=weights))

  axes[0].plot(x, _normal(x, 0), color=_BLUE)
  axes[0].fill_between(x, _normal(x, 0), color=_BLUE, alpha=0.12)
  axes[0].plot(_SAMPLES, np.zeros(4), 'o', color='0.1', clip_on=False)
  for i, sample in enumerate(_SAMPLES, 1):
    axes[0].annotate(
      f'$a_{i}$', (sample, 0), (0, 7), textcoords='offset points', ha='center'
    )
  axes[0].set_title('1. Draw actions from the stored μ')
  axes[0].text(0.42, 0.72, 'μ(·|s)', color=_BLUE)

  axes[1].plot(x, _q(x), color=_GREEN)
  axes[1].axhline(baseline, color=_GREY, ls='--', lw=1)
  for sample, value in zip(_SAMPLES, values, strict=True):
    colour = _GREEN if value > baseline else _ORANGE
    axes[1].plot([sample] * 2, [baseline, value], color=colour, lw=4, alpha=0.5)
    axes[1].plot(sample, value, 'o', color='0.1')
  axes[1].set_ylim(-0.9, 1.8)
  axes[1].set_title('2. Ask the critic: A = Q − mean')
  axes[1].text(-1.45, baseline + 0.08, 'mean of the four', color=_GREY)
  axes[1].text(0.75, 0.95, 'Q(s, ·)', color=_GREEN)

  axes[2].plot(x, _normal(x, 0), color=_BLUE, ls=':')
  axes[2].plot(x, _normal(x, mean), color=_ORANGE)
  axes[2].fill_between(x, _normal(x, mean), color=_ORANGE, alpha=0.12)
  axes[2].scatter(
    _SAMPLES, np.zeros(4), s=60 * weights, color='0.1', clip_on=False, zorder=3
  )
  axes[2].set_title('3. Regress onto all, weighted by exp(A / β)')
  axes[2].text(mean + 0.42, 0.72, 'new π', color=_ORANGE)
  for axis in axes:
    axis.set(xlabel='action', yticks=[], xlim=(-1.5, 1.5))
    axis.spines[['left', 'right', 'top']].set_visible(False)
  axes[0].set_ylim(0, 1.15)
  axes[2].set_ylim(0, 1.15)
  return figure


if __name__ == '__main__':
  matplotlib.rcParams.update({'font.size': 9, 'axes.titlesize': 10})
  path = pathlib.Path(__file__).parent / 'explanation' / 'algorithm.png'
  draw().savefig(path, dpi=110)
  print(path)
