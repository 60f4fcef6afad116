"""Errors in the words of the Python API, which has arguments for flags."""

import contextlib
import re
from collections.abc import Iterator

from qwr_tf.config.errors import ConfigError

# What errors of the engine advise, and the same advice here.
_WORDS = {
  r'--gin_bindings="([\w./]+) ?= ?(.*?)"': r"bindings={'\1': \2}",
  '--gin_bindings': 'bindings',
  'with --overwrite': 'after deleting the folder',
  '--root_dir': 'folder',
  r'--trust_module=([\w.]*\w)': r"trusted=['\1']",
  r'--(env|seed)\b': r'\1',
}


@contextlib.contextmanager
def own() -> Iterator[None]:
  """Rewords a ConfigError that names flags."""
  try:
    yield
  except ConfigError as error:
    text = str(error)
    for pattern, words in _WORDS.items():
      text = re.sub(pattern, words, text)
    error.args = (text,)
    raise
