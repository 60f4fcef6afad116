"""Ranges of numbers, in the annotations of the parameters that take them.

`gin_values` holds bindings to them before anything is built.
"""

import math
from typing import Annotated, NamedTuple


class Range(NamedTuple):
  """What a number may be, as metadata of `typing.Annotated`.

  Attributes:
    low: the least value.
    high: the largest one.
    is_open: whether `low` itself is too small.
  """

  low: float = 0
  high: float = math.inf
  is_open: bool = False

  def problem(self, number: float) -> str:
    """What the number must be; '' if it is."""
    if not math.isfinite(number):
      return 'finite'
    if isinstance(number, int) and abs(number) >= 2**63:
      return 'less than 2**63'
    is_inside = self.low <= number <= self.high
    if is_inside and not (self.is_open and number == self.low):
      return ''
    if self.high < math.inf:
      return f'between {self.low} and {self.high}'
    return f'more than {self.low}' if self.is_open else f'{self.low} or more'


# Numbers without an annotation of a range are 0 or more.
PositiveInt = Annotated[int, Range(is_open=True)]
PositiveFloat = Annotated[float, Range(is_open=True)]
Fraction = Annotated[float, Range(high=1)]
SignedFloat = Annotated[float, Range(low=-math.inf)]
# Of compiled loops.
Steps = Annotated[int, Range(high=2**31 - 1)]

# Offsets that keep the random streams of one seed apart.
EVALUATION_SEED, ACTING_SEED = 10_000, 20_000
MAX_SEED = 2**31 - 1 - ACTING_SEED
