"""run.json, the description of a run, and its only reader."""

import pathlib
from collections.abc import Mapping
from typing import Any

from qwr_tf.config.errors import ConfigError
from qwr_tf.runs import regular_files

NAME = 'run.json'

# Two runs with the same values are the same run.
_IDENTITY = {'config': str, 'environment': str, 'seed': int}

# What may be missing; 'scores' and 'data' hold null where nobody plays.
_OPTIONAL = {
  'preset': str,
  'bindings': list,
  'versions': dict,
  'scores': dict,
  'data': dict,
  'resumed': list,
  'prolonged': list,
}


def read(folder: pathlib.Path) -> dict[str, Any] | None:
  """The content of a folder's run.json; None if there is none of a run.

  Raises:
    ConfigError: if the file cannot be read or is damaged.
  """
  path = folder / NAME
  try:
    facts = regular_files.read_json(path)
  except (FileNotFoundError, NotADirectoryError):
    return None
  except (OSError, ValueError) as error:
    raise ConfigError(f'{path} cannot be read ({error})') from error
  if not isinstance(facts, dict) or not _IDENTITY.keys() <= facts.keys():
    return None
  for name, kind in {**_OPTIONAL, **_IDENTITY}.items():
    may_be_null = name in _OPTIONAL
    if not isinstance(facts.get(name), kind | None if may_be_null else kind):
      raise ConfigError(f'{path} cannot be read ({name} is no {kind.__name__})')
  return facts


def read_finished(folder: pathlib.Path) -> dict[str, Any] | None:
  """As `read`, but None for a run that is not finished."""
  facts = read(folder)
  return facts if facts and facts.get('finished') else None


def required(folder: pathlib.Path) -> dict[str, Any]:
  """As `read`, but with a ConfigError where there is no run."""
  facts = read(folder)
  if facts is None:
    raise ConfigError(f'{folder} is no run folder: it holds no {NAME} of a run')
  return facts


def is_same_run(facts: Mapping[str, Any], others: Mapping[str, Any]) -> bool:
  """True if two descriptions are of the same run."""
  return all(facts[name] == others[name] for name in _IDENTITY)
