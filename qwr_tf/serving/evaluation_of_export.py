"""Evaluation of an exported policy on logged episodes."""

import contextlib
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

from qwr_tf import datasets
from qwr_tf import environments
from qwr_tf import evaluation
from qwr_tf.acting import offline
from qwr_tf.config import gin_files
from qwr_tf.config.errors import ConfigError
from qwr_tf.serving import saved_policy


def policy_name(policy: str | pathlib.Path) -> str:
  """The name of a policy's folder, after that of the run that it is in."""
  path = pathlib.Path(policy).resolve()
  runs = (p for p in (path, *path.parents) if (p / 'run.json').is_file())
  run = next(runs, path)
  return '-'.join([run.name, *path.relative_to(run).parts])


def evaluate(
  policy: str | pathlib.Path,
  dataset: str | Mapping[str, Any],
  *,
  mode_action: bool = False,
  held_out_share: float | None = None,
  split_seed: int = 0,
  gamma: float | None = None,
  fit: evaluation.Fit = evaluation.DEFAULT_FIT,
  max_steps: int = 200_000,
  progress: Callable[[], Any] = lambda: None,
) -> evaluation.Report:
  """Estimates what a policy is worth from logged episodes alone.

  Args:
    policy: folder of a run, or of an exported policy.
    dataset: path, id in Minari's local store, or arrays by column.
    mode_action: whether the most likely action is taken, no samples.
    held_out_share: of the episodes to evaluate on, 1 / n; 1: all of them. None:
      those that the training run held out, or all of other data.
    split_seed: of `held_out_share`.
    gamma: discount per step; None: the run's, 0.99 of exports of version 0.1.
    max_steps: of larger data sets some episodes are left out.
    progress: called after each critic.

  Raises:
    ConfigError: in one line, if there is no policy or data set, they do not fit
      each other, or the policy was trained on all episodes.
  """
  path = pathlib.Path(policy)
  is_run = (path / 'run.json').is_file()
  saved = saved_policy.SavedPolicy(path / 'policy' if is_run else path)
  environment = saved.metadata.get('environment', environments.NO_SIMULATOR)

  def open_data() -> datasets.DataSet:
    if isinstance(dataset, str):
      return offline.open_data_set(dataset, environment)
    return datasets.DataSet(dataset)

  try:
    with contextlib.closing(open_data()) as data:
      _check_spaces(saved, data)
      split, caveats = _split(saved, data, held_out_share, split_seed)
  except ValueError as error:
    raise ConfigError(gin_files.describe(error)) from error
  return evaluation.evaluate(
    evaluation.EvaluatedPolicy(
      saved.distribution, mode_action, policy_name(path)
    ),
    open_data,
    saved.spaces(),
    split=split,
    gamma=saved.metadata.get('gamma', 0.99) if gamma is None else gamma,
    fit=fit,
    max_steps=max_steps,
    caveats=caveats,
    progress=progress,
  )


def _check_spaces(
  policy: saved_policy.SavedPolicy, data: datasets.DataSet
) -> None:
  """Raises ConfigError for a policy of other shapes or actions."""
  wanted = environments.no_simulator_arguments(
    {
      name: environments.space_of(policy.metadata[f'{name}_space'])
      for name in ('observation', 'action')
      if f'{name}_space' in policy.metadata
    }
  )
  there = data.spaces()
  names = ['observation_shape', 'num_actions', 'action_shape']
  names += ['observation_space', 'action_space']
  if not data.describes_spaces:  # Shapes of arrays, which may be of any space.
    names = [
      name
      for name in ('observation_shape', 'action_shape')
      if name in there and name.replace('shape', 'space') not in wanted
    ]
  for name in names:
    if wanted.get(name) != there.get(name):
      raise ConfigError(
        f'{policy.path} is for {name} {wanted.get(name)}, {data.path} has '
        f'{there.get(name)}; choose another policy or data set.'
      )


def _split(
  policy: saved_policy.SavedPolicy,
  data: datasets.DataSet,
  share: float | None,
  seed: int,
) -> tuple[datasets.Split, tuple[str, ...]]:
  """The episodes to evaluate on, and what speaks against them.

  Raises:
    ValueError: if there are none, or the data cannot be read.
  """
  first_steps = policy.metadata.get('first_steps')
  was_learned_from = policy.metadata.get('dataset') == data.name
  caveats: tuple[str, ...] = ()
  if first_steps:
    specs = policy.spaces()
    is_same = first_steps == data.digest(
      specs.time_step_spec.observation, specs.action_spec, specs.action_bounds
    )
    if was_learned_from and not is_same:
      caveats = (
        'The policy was trained on other data with this name; episodes that '
        'are in both count as held out.',
      )
    was_learned_from = is_same
  held_out = datasets.Split(*(policy.metadata.get('held_out') or (0.0, 0)))
  if share is None:
    share = held_out.share if was_learned_from else 1.0
    if not share:
      raise ConfigError(
        f'{policy.path} was trained on all episodes of {data.name}, which says '
        'little about others; train with DataSet.held_out_share = 0.2, or '
        'evaluate on them all the same with --held_out_share=1.'
      )
    return datasets.Split(share, held_out.seed), caveats
  if not share:
    raise ConfigError('--held_out_share is 0 and must be 1 / n, or 1.')
  split = datasets.Split(share, seed).checked()
  if was_learned_from and split != held_out:
    caveats = ('The policy was trained on these episodes.',)
  return split, caveats
