"""gin's global state, taken by turns with the program around this package."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import gin

from qwr_tf.config import gin_files

# Everything that `gin.clear_config` clears but gin's constants, which are
# never bound anew, and what `gin_files` knows of the values.
_STORES: tuple[Any, ...] = (
  gin.config._CONFIG,
  gin.config._OPERATIVE_CONFIG,
  gin.config._SINGLETONS,
  gin.config._IMPORTS,
  gin_files.sources,
  gin_files.given,
)


class GinState:
  """A private set of gin bindings, active only inside `entered`.

  Two states in one process know nothing of each other; in two threads at a
  time they would, since gin holds one configuration.
  """

  def __init__(self):
    """Begins without a binding."""
    self._stored = [type(store)() for store in _STORES]
    self._is_locked = False
    self._is_entered = False

  def entered(self) -> contextlib.AbstractContextManager[None]:
    """Makes these the bindings that gin holds."""
    return self._turned(True)

  def left(self) -> contextlib.AbstractContextManager[None]:
    """Within `entered`: gin holds what it held before."""
    return self._turned(False)

  @contextlib.contextmanager
  def kept_on_error(self) -> Iterator[None]:
    """Within `entered`: after an error the bindings are those of before."""
    held = [store.copy() for store in _STORES]
    is_locked = gin.config_is_locked()
    try:
      yield
    except BaseException:
      _hold(held, is_locked)
      raise

  @contextlib.contextmanager
  def _turned(self, is_entered: bool) -> Iterator[None]:
    if self._is_entered == is_entered:
      yield
      return
    self._exchange()
    try:
      yield
    finally:
      self._exchange()

  def _exchange(self) -> None:
    held = [store.copy() for store in _STORES]
    is_locked = gin.config_is_locked()
    _hold(self._stored, self._is_locked)
    self._stored, self._is_locked = held, is_locked
    self._is_entered = not self._is_entered


def _hold(stored: Sequence[Any], is_locked: bool) -> None:
  for store, values in zip(_STORES, stored, strict=True):
    store.clear()
    store.update(values)
  gin.config._set_config_is_locked(is_locked)
