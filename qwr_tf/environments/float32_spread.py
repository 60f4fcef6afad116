"""Checks whether float32 can hold the spread of a feature."""

import numpy as np
from absl import logging

_MIN_STEPS = 1000  # Numbers that float32 should have within a feature's range.
_FLOAT64_ROUNDING = 1e-12  # Relative; a smaller range is a constant.


class Float32Spread:
  """Lowest and highest value of every feature, in float64."""

  def __init__(self):
    """Starts without values."""
    self._low, self._high = np.float64(np.inf), np.float64(-np.inf)

  def add(self, values: np.ndarray) -> None:
    """Takes in float64 or integer values [N, ...]."""
    self._low = np.minimum(self._low, values.min(axis=0))
    self._high = np.maximum(self._high, values.max(axis=0))

  def coarse_features(self) -> np.ndarray:
    """Flat indices of features with fewer than 1000 float32s in their range."""
    size = np.maximum(np.abs(self._low), np.abs(self._high))
    spread = self._high - self._low
    with np.errstate(over='ignore', invalid='ignore'):
      steps = spread / np.spacing(size.astype(np.float32))
    varies = spread > _FLOAT64_ROUNDING * size
    return np.flatnonzero(varies & (steps < _MIN_STEPS))

  def warn(self, place: str) -> None:
    """Warns of the coarse features, if there are any."""
    features = self.coarse_features()
    if len(features):
      logging.warning(
        '%s: float32 hardly distinguishes the values of %s; subtract an offset '
        'before they become observations (such as the first time stamp).',
        place,
        feature_names(features),
      )


def feature_names(features: np.ndarray) -> str:
  """Flat indices in words: 'observation features 0, 3 and 7 more'."""
  shown = ', '.join(str(i) for i in features[:10])
  more = f' and {len(features) - 10} more' if len(features) > 10 else ''
  return f'observation feature{"s" * (len(features) > 1)} {shown}{more}'
