"""A data set of any layout as a Minari data set."""

import contextlib
import json
import pathlib
from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np

from qwr_tf import environments
from qwr_tf.datasets import writer
from qwr_tf.datasets.data_set import DataSet


def convert(data: DataSet, env: gymnasium.Env, output: pathlib.Path) -> None:
  """Writes the episodes, and what the data set says of itself.

  Args:
    data: is closed.
    env: without a simulator; its spaces are written if the data set has none.
    output: as in `writer.write`.

  Raises:
    OSError: if nothing can be written there.
    ValueError: in one line, for what is wrong with the data.
  """
  described = environments.minari_metadata(env)
  described.pop('env_spec', None)  # That of no simulator.
  metadata = {'dataset_id': output.name} | described | _as_json(data.metadata)
  specs = environments.specs_of(env.observation_space, env.action_space)
  bounds = environments.action_bounds(env.action_space)
  episodes = data.episodes(specs[0].observation, specs[1], bounds)
  writer.write(output, episodes, metadata)


def _as_json(metadata: Mapping[str, Any]) -> dict[str, Any]:
  """Those entries that JSON can hold, numpy's numbers among them; no nulls."""
  kept = {}
  for name, value in metadata.items():
    if isinstance(value, np.generic | np.ndarray):
      value = value.tolist()
    with contextlib.suppress(TypeError, ValueError):
      if json.dumps(value) != 'null':
        kept[name] = value
  return kept
