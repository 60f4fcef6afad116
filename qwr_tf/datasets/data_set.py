"""A logged data set, and its way into a replay table."""

import contextlib
import hashlib
import json
import pathlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Annotated, Any, NamedTuple

import gin
import numpy as np
import tensorflow as tf
from absl import logging
from tf_agents.trajectories import trajectory

from qwr_tf import environments
from qwr_tf.config.ranges import PositiveInt
from qwr_tf.config.ranges import Range
from qwr_tf.datasets import actions
from qwr_tf.datasets import behavior
from qwr_tf.datasets import rows as rows_lib
from qwr_tf.datasets import sources
from qwr_tf.datasets import splits
from qwr_tf.datasets import steps
from qwr_tf.datasets import table_layout
from qwr_tf.datasets import writer
from qwr_tf.networks import categories
from qwr_tf.policies import behavior_policy

# As in the policy_info of a table's rows.
_LOC, _SCALE = 'loc', 'scale_diag'
_DIGESTED = 100  # Steps.
_ENDINGS = ('.hdf5', '.h5', '.npz', *table_layout.FORMATS)


class Summary(NamedTuple):
  """Counts and returns of a data set.

  Attributes:
    name: of the data set.
    steps: logged steps.
    transitions: steps that are learned from.
    episodes: episodes that were recorded to their end.
    mean_return: undiscounted, of these episodes; None if there are none.
    mu: 'recorded', or 'from logged actions'.
    reference: returns that count as scores 0 and 100 (Minari's ref_min_score
      and ref_max_score); None if the data set has none.
  """

  name: str
  steps: int
  transitions: int
  episodes: int
  mean_return: float | None
  mu: str
  reference: tuple[float, float] | None


@gin.configurable
class DataSet:
  """Logged steps in Minari's, D4RL's or RLDS' layout, or a table."""

  def __init__(
    self,
    path: str | Mapping[str, Any],
    *,
    behavior_fn: Callable = behavior.logged_action_behavior,
    recorded_behavior: bool = True,
    unclipped_actions: bool = True,
    clip_actions: bool = False,
    max_episode_steps: int | None = None,
    chunk_steps: PositiveInt = 10_000,
    held_out_share: Annotated[float, Range(0, 0.5)] | None = None,
    split_seed: int = 0,
    seed: int = 0,
  ):
    """Opens the data set.

    Args:
      path: file or folder, or an id in Minari's local store; or arrays by
        column, a pandas frame for instance.
      behavior_fn: makes mu of logged actions; see `behavior`.
      recorded_behavior: whether recorded parameters of mu are used instead, if
        the data set has those that the table holds.
      unclipped_actions: whether samples of a recorded Gaussian that were logged
        at a bound are drawn anew, from beyond it; see
        `actions.unclipped_samples`.
      clip_actions: whether logged actions out of bounds are clipped; else they
        are refused.
      max_episode_steps: time limit at which episodes are cut, for files of
        D4RL's layout without `timeouts`.
      chunk_steps: steps in memory beside the table.
      held_out_share: of the episodes, 0 or 1 / n, which a run does not learn
        from but is evaluated on; None: 0.2 without a simulator, else 0.
      split_seed: of the choice of these episodes.
      seed: of the samples that are drawn anew.

    Raises:
      ValueError: if there is no such data set, or it is damaged or empty.
    """
    self._source = sources.open_source(path, max_episode_steps)
    self.path = path if isinstance(path, str) else str(self._source.path)
    self.metadata: dict[str, Any] = self._source.metadata  # Minari's.
    self.held_out_share, self.split_seed = held_out_share, split_seed
    self._clip_actions = clip_actions
    self._behavior_fn = behavior_fn
    self._recorded_behavior = recorded_behavior
    self._unclipped_actions = unclipped_actions
    self._rng = np.random.default_rng(seed)
    self._chunk_steps = chunk_steps
    try:
      self.steps = self._source.num_steps()
      if not self.steps:
        raise ValueError(
          f'{self.path}, rewards: the data set is empty; record it anew.'
        )
    except BaseException:
      self.close()
      raise

  def close(self) -> None:
    """Closes the file; `name`, `metadata` and `steps` stay."""
    self._source.close()

  @property
  def name(self) -> str:
    """The last part of the id, or the file's name without its ending."""
    path = pathlib.Path(self.path).resolve()
    stem = path.stem if path.suffix.lower() in _ENDINGS else path.name
    return str(self.metadata.get('dataset_id') or stem).rpartition('/')[2]

  @property
  def environment(self) -> str | None:
    """Id of the recorded environment; None if the metadata have none."""
    try:
      name = json.loads(self.metadata['env_spec'])['id']
    except (KeyError, TypeError, ValueError, RecursionError):
      return None
    return name if isinstance(name, str) else None

  def spaces(self) -> dict[str, Any]:
    """Spaces in the data set's metadata, as arguments of `NoSimulatorEnv`.

    Without them the shapes of the first step, where they are known.

    Raises:
      ValueError: for metadata that describe no space.
    """
    described = {}
    try:
      for kind, content in self._space_entries().items():
        described[kind] = environments.space_of(content)
      arguments = environments.no_simulator_arguments(described)
    except ValueError as error:
      raise ValueError(f'{self.path}: {error}') from error
    return arguments if described else self._spaces_of_arrays()

  @property
  def describes_spaces(self) -> bool:
    """True if the metadata have spaces; otherwise only shapes are known.

    Raises:
      ValueError: for metadata that cannot be read.
    """
    return bool(self._space_entries())

  def _space_entries(self) -> dict[str, Any]:
    entries = {
      kind: table_layout.space_entry(self.metadata, f'{kind}_space')
      for kind in ('observation', 'action')
    }
    return {kind: entry for kind, entry in entries.items() if entry is not None}

  def _spaces_of_arrays(self) -> dict[str, Any]:
    first = {k: np.asarray(x) for k, x in self._source.first_step().items()}
    action = first.pop('action', None)
    boxes = {
      kind.partition('/')[2]: {
        'type': 'Box',
        'shape': x.shape or (1,),
        'dtype': 'uint8' if x.dtype == np.uint8 else 'float32',
      }
      for kind, x in first.items()
    }
    arguments: dict[str, Any] = {}
    if '' in boxes:
      arguments['observation_shape'] = boxes['']['shape']
      if boxes['']['dtype'] == 'uint8' and len(boxes['']['shape']) == 3:
        arguments['observation_dtype'] = 'uint8'
    elif boxes:
      arguments['observation_space'] = environments.dict_content(boxes)
    if action is not None and action.dtype.kind == 'f':
      arguments['action_shape'] = action.shape or (1,)
    return arguments

  def fill(
    self,
    table,
    action_bounds: actions.Bounds,
    *,
    behavior_scale: np.ndarray | None = None,
    normalizer: Any | None = None,
    reward_fn: Callable[[np.ndarray], np.ndarray] = lambda rewards: rewards,
    timeout_is_terminal: bool = False,
    keep: splits.Keep | None = None,
    as_logged: bool = False,
  ) -> Summary:
    """Appends the steps to an empty table, and closes the file.

    Warns of features without spread, if there is a normaliser, and of features
    that float32 cannot hold.

    Args:
      table: a `replay.ReplayTable` with enough capacity.
      action_bounds: of the environment. The table gets actions of the agent:
        bounds of +-1, or integers from 0 on.
      behavior_scale: constant deviation [A] of the policy, if the table holds
        none. A recorded deviation must equal it.
      normalizer: its `fit` gets all observations that have an action.
      reward_fn: logged rewards [N] to rewards to learn from; mean returns are
        of the logged rewards.
      timeout_is_terminal: whether a time limit is a terminal state, from which
        nothing is bootstrapped. The end of the data never is.
      keep: selects episodes by number; None: all.
      as_logged: whether actions stay as the bounds clipped them, and mu is made
        of them; for evaluations, whose policies are clipped as well.

    Raises:
      ValueError: in one line with file, episode and field, if the data do not
        fit the table or the environment.
    """
    spec = table.data_spec
    returns = steps.EpisodeReturns()
    transitions = 0
    with contextlib.closing(self):
      if keep is None:
        self._check_room(table)
      recorded = set() if as_logged else self._recorded(spec)
      fields = self._fields(spec, action_bounds, recorded)
      spread = {
        name: environments.Float32Spread() for name in fields.observation
      }
      chunks = self._watched(
        self._chunks(fields, keep), behavior_scale, returns, spread, normalizer
      )
      if timeout_is_terminal:
        chunks = map(steps.timeouts_as_terminal, chunks)
      for rows in rows_lib.rows(chunks):
        rows = rows._replace(
          reward=reward_fn(rows.reward),
          observation=_converted(rows.observation, spec),
          action=actions.to_agent(rows.action, action_bounds, spec.action),
        )
        rows = self._with_mu(rows, spec, behavior_scale, recorded)
        _append(table, rows)
        transitions += int(np.sum(~rows.is_boundary()))
    self._check_all_there(table, transitions)
    self._warn(spread, normalizer)
    mu = 'recorded' if recorded else 'from logged actions'
    return Summary(
      self.name,
      self.steps,
      transitions,
      len(returns.all),
      returns.mean(),
      mu,
      self._reference(),
    )

  def observations(
    self,
    data_spec: trajectory.Trajectory,
    action_bounds: actions.Bounds,
    number: int,
  ) -> Any:
    """A sample of the logged observations [n, ...]; closes the file.

    Args:
      data_spec: of a table that the data fit.
      action_bounds: as in `fill`.
      number: of observations, drawn without replacement; at most all.

    Raises:
      ValueError: as `fill`.
    """
    number = min(number, self.steps)
    is_drawn = np.zeros(self.steps, bool)
    is_drawn[self._rng.choice(self.steps, number, replace=False)] = True
    sample, first = [], 0
    fields = self._fields(data_spec, action_bounds, set())
    with contextlib.closing(self):
      for chunk in self._source.chunks(fields, self._chunk_steps):
        end = first + len(chunk.reward)
        sample.append(steps.selected(chunk.observation, is_drawn[first:end]))
        first = end
    joined = tf.nest.map_structure(lambda *x: np.concatenate(x), *sample)
    return _converted(joined, data_spec)

  def digest(
    self, observation_spec, action_spec, action_bounds: actions.Bounds
  ) -> str:
    """A hash of the first steps, the same in every layout; closes the file.

    A log that has grown, or has been converted, is known by it.

    Args:
      action_spec: of the agent, a tensor spec.
      action_bounds: as in `fill`.

    Raises:
      ValueError: as `fill`.
    """
    spec = _data_spec(observation_spec, action_spec, {})
    fields = self._fields(spec, action_bounds, set())
    with contextlib.closing(self):
      chunks = self._source.chunks(fields, _DIGESTED)
      first = next(steps.regrouped(chunks, _DIGESTED))
    arrays = _converted(first.observation, spec), first.action, first.reward
    values = [x[:_DIGESTED].tobytes() for x in tf.nest.flatten(arrays)]
    return hashlib.sha256(b''.join(values)).hexdigest()[:16]

  def logged(
    self,
    data_spec: trajectory.Trajectory,
    action_bounds: actions.Bounds,
    names: Iterable[str] = (),
    keep: splits.Keep | None = None,
  ) -> Iterator[steps.Steps]:
    """Yields chunks of logged steps, with actions of the agent.

    Args:
      data_spec: of a table that the data fit.
      action_bounds: as in `fill`.
      names: parameters of mu to read, among `recorded`.
      keep: selects episodes by number; None: all.

    Raises:
      ValueError: as `fill`.
    """
    fields = self._fields(data_spec, action_bounds, set(names))
    for chunk in self._chunks(fields, keep):
      action = actions.to_agent(chunk.action, action_bounds, data_spec.action)
      observation = _converted(chunk.observation, data_spec)
      yield chunk._replace(observation=observation, action=action)

  def episodes(
    self, observation_spec, action_spec, action_bounds: actions.Bounds
  ) -> Iterator[writer.Episode]:
    """Yields the episodes as they would be recorded; closes the file.

    The observation after the last step is that step's own where the data set
    has none: of tables, and of D4RL's layout unless the state was terminal.

    Args:
      action_spec: of the agent, a tensor spec.
      action_bounds: as in `fill`.

    Raises:
      ValueError: as `fill`.
    """
    parts: list[steps.Steps] = []
    with contextlib.closing(self):
      names = self.recorded
      params = dict.fromkeys(names, action_spec)
      if 'logits' in names:
        num_values = int(categories.sizes(action_spec).max())
        shape = [*action_spec.shape, num_values]
        params['logits'] = tf.TensorSpec(shape, tf.float32)
      spec = _data_spec(observation_spec, action_spec, params)
      fields = self._fields(spec, action_bounds, names)
      for chunk in self._chunks(fields, None):
        ends = np.flatnonzero(chunk.terminal | chunk.timeout | chunk.cut) + 1
        first = 0
        for end in ends:
          yield _episode([*parts, steps.piece(chunk, first, int(end))])
          parts, first = [], int(end)
        if first < len(chunk.reward):
          parts.append(steps.piece(chunk, first, len(chunk.reward)))

  @property
  def recorded(self) -> set[str]:
    """Names of the parameters of mu in the data set."""
    return self._source.recorded()

  def _chunks(self, fields: steps.Fields, keep) -> Iterator[steps.Steps]:
    chunks = self._source.chunks(fields, self._chunk_steps)
    if keep is None:
      return chunks
    return splits.select(chunks, keep, self._chunk_steps)

  def _fields(self, spec, action_bounds, recorded: set[str]) -> steps.Fields:
    return steps.fields(spec, action_bounds, recorded, self._clip_actions)

  def _reference(self) -> tuple[float, float] | None:
    low = self.metadata.get('ref_min_score')
    high = self.metadata.get('ref_max_score')
    if low is None or high is None:
      return None
    try:
      scores = float(low), float(high)
    except (TypeError, ValueError) as error:
      raise ValueError(
        f'{self.path}: ref_min_score and ref_max_score must be numbers, not '
        f'{low!r} and {high!r}; correct or delete them in metadata.json.'
      ) from error
    return scores if scores[0] != scores[1] else None

  def _recorded(self, spec: trajectory.Trajectory) -> set[str]:
    """Names of the parameters to read; none if mu is made of actions."""
    names = self._source.recorded() if self._recorded_behavior else set()
    needed = set(spec.policy_info[behavior_policy.DIST_PARAMS])
    return (needed | ({_SCALE} & names)) if needed <= names else set()

  def _with_mu(
    self, rows: trajectory.Trajectory, spec, behavior_scale, recorded: set[str]
  ) -> trajectory.Trajectory:
    """Rows with mu, and actions that are samples of it."""
    names = spec.policy_info[behavior_policy.DIST_PARAMS]
    if not recorded:
      params = self._behavior_fn(rows.action, spec.action, names)
      return rows._replace(policy_info=params)
    params = rows.policy_info
    scale = params.get(_SCALE, behavior_scale)
    if _LOC not in params or scale is None or not self._unclipped_actions:
      return rows
    return rows._replace(
      action=actions.unclipped_samples(
        rows.action, params[_LOC], scale, self._rng
      )
    )

  def _watched(
    self, chunks, behavior_scale, returns, spread, normalizer
  ) -> Iterator[steps.Steps]:
    """Yields the chunks and updates statistics of them."""
    for chunk in chunks:
      returns.add(chunk)
      for name in spread:
        entry = chunk.observation[name] if name else chunk.observation
        if entry.dtype == np.float64:
          spread[name].add(entry)
      if normalizer is not None:
        normalizer.fit(tf.nest.map_structure(tf.constant, chunk.observation))
      scale = chunk.dist_params.get(_SCALE)
      if scale is not None and behavior_scale is not None:
        if not np.allclose(scale, behavior_scale, rtol=1e-4):
          raise ValueError(
            f'{self.path}, {steps.DIST_PARAMS}/{_SCALE}: the policy that acted '
            f'had deviations like {scale.flat[0]:g}, this one has '
            f'{np.min(behavior_scale):g}; set GaussianHead.scale, or '
            'DataSet.recorded_behavior = False to make mu of logged actions.'
          )
      yield chunk

  def _warn(
    self, spread: dict[str, environments.Float32Spread], normalizer
  ) -> None:
    """Warns of features that will be of little use."""
    for name in spread:
      spread[name].warn(f'{self.path} {name}'.rstrip())
    features = normalizer.constant_features() if normalizer else []
    if len(features):
      logging.warning(
        '%s: no spread in %s; the normaliser divides by 1 instead of the '
        'deviation. Is run.dataset right?',
        self.path,
        environments.feature_names(features),
      )

  def _check_room(self, table) -> None:
    if table.capacity < self.steps:
      raise ValueError(
        f'{self.path} has {self.steps} steps, the table room for '
        f'{table.capacity}; raise run.replay_capacity or set it to None.'
      )

  def _check_all_there(self, table, transitions: int) -> None:
    if not transitions:
      raise ValueError(
        f'{self.path}: no step can be learned from, as every episode was cut '
        'after its first; record longer episodes.'
      )
    starts = int(table.num_starts())
    if starts != transitions:
      raise ValueError(
        f'{self.path}: the table holds {starts} of {transitions} transitions; '
        'raise ReplayTable.rows_per_interaction (2 always suffices).'
      )


def _data_spec(observation_spec, action_spec, params) -> trajectory.Trajectory:
  number = tf.TensorSpec([], tf.float32)
  return trajectory.Trajectory(
    (), observation_spec, action_spec,
    {behavior_policy.DIST_PARAMS: params}, (), number, number,
  )  # fmt: skip


def _episode(parts: list[steps.Steps]) -> writer.Episode:
  whole = steps.joined(parts)
  final = whole.final_observation
  if not whole.terminal[-1]:
    final = steps.selected(whole.observation, slice(-1, None))
  return writer.Episode(
    tf.nest.map_structure(
      lambda *x: np.concatenate(x), whole.observation, final
    ),
    whole.action,
    whole.reward,
    whole.terminal,
    whole.timeout,
    whole.dist_params,
  )


def _converted(observation: Any, spec: trajectory.Trajectory) -> Any:
  """Observations in the dtypes of a table's rows."""
  return tf.nest.map_structure(
    lambda x, s: x.astype(s.dtype.as_numpy_dtype), observation, spec.observation
  )


def _append(table, rows: trajectory.Trajectory) -> None:
  """Appends rows of arrays, in pieces no larger than the table."""
  names = table.data_spec.policy_info[behavior_policy.DIST_PARAMS]
  params = {name: rows.policy_info[name] for name in names}
  rows = rows._replace(policy_info={behavior_policy.DIST_PARAMS: params})
  for first in range(0, len(rows.reward), table.capacity):
    piece = slice(first, first + table.capacity)
    table.append(
      tf.nest.map_structure(lambda x, p=piece: tf.constant(x[p]), rows)
    )
