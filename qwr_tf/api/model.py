"""A model: an agent, its environment and its run on disk."""

import contextlib
import hashlib
import os
import pathlib
import random
import re
import shutil
import statistics
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import gin
import h5py
import numpy as np
import tree

from qwr_tf import environments
from qwr_tf import evaluation
from qwr_tf import serving
from qwr_tf.acting import evaluate
from qwr_tf.acting import numpy_actor
from qwr_tf.api import arguments
from qwr_tf.api import wording
from qwr_tf.config import effective
from qwr_tf.config import gin_files
from qwr_tf.config import gin_state
from qwr_tf.config import ranges
from qwr_tf.config.errors import ConfigError
from qwr_tf.networks import precision
from qwr_tf.runs import atomic_files
from qwr_tf.runs import checkpoints
from qwr_tf.runs import run_folder
from qwr_tf.runs import run_json
from qwr_tf.runs import run_lock
from qwr_tf.serving import evaluation_of_export
from qwr_tf.serving import trust
from qwr_tf.training import experiment
from qwr_tf.training import training_run

_DATA = 'data'  # Folder of arrays in the copy of a run.

# (model, newest row of metrics.csv or counts) -> False to stop.
Callback = Callable[['QWR', dict[str, Any]], bool | None]


class QWR:
  """An agent that learns in an environment, or from logged data.

  Engine and presets are those of `python -m qwr_tf.train`, and either can
  continue a run of the other. Each model has gin bindings of its own, apart
  from those of the program and of other models. Only one model may learn at a
  time, because gin is one for all threads.
  """

  def __init__(
    self,
    env: Any = None,
    preset: str | os.PathLike | Sequence[str | os.PathLike] | None = None,
    *,
    seed: int = 0,
    folder: str | pathlib.Path | None = None,
    dataset: str | pathlib.Path | Mapping[str, Any] | None = None,
    bindings: Mapping[str, Any] | None = None,
    **overrides: Any,
  ):
    """Checks the configuration; networks are made when they are needed.

    Args:
      env: an id (`module:id` imports the module), an environment, or a function
        that makes one; None: the preset's. If that has none, as
        'offline_vector', the dataset's spaces take its place and nothing is
        played. For evaluations an environment of `gymnasium.make` is made a
        second time, any other is deep-copied.
      preset: a gin file or several; `qwr_tf presets` lists the package's. None:
        'vector', or 'pixels' for images; with a dataset 'offline_vector'.
      seed: of all random numbers.
      folder: of the run, which goes on if it is there; None: a temporary one.
      dataset: logged steps to begin with: a path, as `run.dataset` (a table
        with discrete actions needs `load_environment.num_actions`); or a table,
        a pandas frame or arrays by column, named as `TableColumns` says
        (`episode`, `observation`, `action`, `reward`, `terminal`, a row per
        step); or arrays `observations` (one, or a dictionary of them),
        `actions`, `rewards`, `terminals` and `timeouts` [N].
      bindings: values by their full names in gin, such as
        {'critic/Adam.learning_rate': 1e-3}; '@name' refers to a function.
      **overrides: values by the last part of these names, such as gamma=0.9,
        where one setting of the run has it.

    Raises:
      ConfigError: in one line, if something is wrong.
    """
    self._state = gin_state.GinState()
    self._functions: dict[str, Callable] = {}  # By id of an environment.
    self._seed = arguments.whole_number('seed', seed, high=ranges.MAX_SEED)
    self._scratch: tempfile.TemporaryDirectory | None = None
    if folder is None:
      self._scratch = tempfile.TemporaryDirectory(prefix='qwr_tf-')
      folder = pathlib.Path(self._scratch.name, 'run')
    self.folder = pathlib.Path(folder)
    values: dict[str, Any] = {}
    spaces: dict[str, Any] = {}
    if dataset is not None and not isinstance(dataset, str | os.PathLike):
      spaces = arguments.spaces(dataset)
      dataset = _written(dataset, self.folder)
    if dataset is not None:
      values['run.dataset'] = str(dataset)
    if env is not None:
      bound, self._functions = arguments.environment(env)
      values |= bound
    values |= bindings or {}
    with self._entered():
      if preset is None:
        preset = 'offline_vector'
        if dataset is None:
          preset = experiment.general_preset(_bindings(values))
      if isinstance(preset, str | os.PathLike):
        preset = [preset]
      files = [os.fspath(name) for name in preset]
      self._parse(files, values)
      chosen = effective.value('run', 'environment')
      if spaces and chosen == environments.NO_SIMULATOR:
        values = spaces | values
        self._parse(files, values)
      if overrides:
        self._parse(files, values | _full_names(overrides))
    self._facts: dict[str, Any] = {
      'command': f'qwr_tf.QWR(preset={files}, seed={self._seed})',
      'preset': '+'.join(pathlib.Path(f).stem for f in files),
      'seed': self._seed,
    }
    self._forget()

  def _parse(self, files: Sequence[str], values: Mapping[str, Any]) -> None:
    self._bindings = _bindings(values)
    self._config = experiment.configuration(files, self._bindings)

  def _forget(self) -> None:
    """Begins without an agent, a run and environments."""
    self._agent: Any = None
    self._run: training_run.Run | None = None
    self._env: Any = None
    self._evaluator: evaluate.Evaluator | None = None
    self._act: numpy_actor.NumpyActor | None = None
    self._rng = np.random.default_rng(self._seed)

  @classmethod
  def load(
    cls,
    folder: str | pathlib.Path,
    env: Callable | None = None,
    *,
    trusted: Sequence[str] = (),
  ) -> 'QWR':
    """The model of a run's folder, by `save` or by the command.

    Args:
      folder: of the run; `learn` goes on in it.
      env: the function that makes its environment, where it has no id.
      trusted: modules that its run.json may import, as --trust_module.

    Raises:
      ConfigError: if there is no run, or it names other modules.
    """
    path = pathlib.Path(folder)
    model = cls.__new__(cls)
    model._state, model._functions = gin_state.GinState(), {}
    model._scratch, model.folder = None, path
    with model._entered():
      facts = run_json.required(path)
      source = path / run_json.NAME
      trust.check_environment(facts['environment'], source, trusted)
      if env is not None:
        model._functions = arguments.function(facts['environment'], env)
      trust.parse(facts['config'], source, trusted)
      model._bind_copied_data()
    model._seed, model._config = facts['seed'], facts['config']
    model._bindings = facts.get('bindings') or []
    names = ('command', 'preset', 'seed')
    model._facts = {n: facts[n] for n in names if n in facts}
    model._forget()
    return model

  @property
  def agent(self) -> Any:
    """The TF-Agents agent: `policy`, `collect_policy`, `train` and so on."""
    if self._agent is None:
      with self._entered():
        facts = self._recorded() or {}
        precision.keep_dtype_policy(self._config, facts.get('dtype_policy'))
        with experiment.load_environment(self._environment) as env:
          self._agent = experiment.agent_for(env, seed=self._seed)
        if facts:
          weights = checkpoints.weights_of_run(self.folder)
          checkpoints.restore(self._agent, weights)
    return self._agent

  @property
  def env(self) -> Any:
    """The gymnasium environment of scores, with all wrappers."""
    return self._played.env

  @property
  def metrics(self) -> dict[str, Any]:
    """The newest row of metrics.csv, None for no value; {} without a row."""
    with self._entered():
      rows = run_folder.read_rows(self.folder) if self._recorded() else []
    return {k: _number(cell) for k, cell in rows[-1].items()} if rows else {}

  def learn(
    self,
    total_interactions: int | None = None,
    callback: Callback | None = None,
    *,
    progress_bar: bool = True,
  ) -> 'QWR':
    """Trains until the run's interactions are `total_interactions` in all.

    Those of earlier calls count. A larger number prolongs a run that is
    finished; the same one does nothing then, and goes on with a run that was
    interrupted.

    Args:
      total_interactions: of the whole run; None: as the preset says.
      callback: called after each iteration (1000 interactions as a rule) with
        the model and the row that the iteration added to metrics.csv, or, if
        it added none, `iteration` and `interactions` alone; False ends the
        training, which `learn` goes on with later.
      progress_bar: whether phase, count and time left are shown.

    Returns:
      The model.

    Raises:
      ConfigError: in one line, if the environment or the preset does not fit.
      FloatingPointError: for NaN or Inf.
      KeyboardInterrupt: at Ctrl-C, after an iteration, with everything saved.
    """
    with self._entered(), contextlib.ExitStack() as stack:
      with self._state.kept_on_error():  # Nothing has changed then.
        config = self._budgeted(total_interactions)
        folder = self._run_folder(config)
        self._check_budget(folder, config)
        folder.check(overwrite=False)
        run = None
        if folder.finished() is None:
          run = self._begun(folder, stack, callback, progress_bar)
      self._config = config
      if run is not None:
        self._forget()
        self._run, self._agent = run, run.parts.agent
        self._evaluator = run.parts.evaluator
        run.train()
    return self

  def _budgeted(self, total_interactions: Any) -> str:
    """Binds a budget, if one is given; returns the configuration."""
    if total_interactions is None:
      return self._config
    number = arguments.whole_number('total_interactions', total_interactions)
    gin_files.parse_text(f'{self._config}\nrun.interactions = {number}\n')
    config = gin.config_str()
    self._bind_copied_data()
    return config

  def _bind_copied_data(self) -> None:
    """Binds run.dataset to the arrays that `save` copied, if there are some.

    The configuration as text, which identifies the run, stays.
    """
    dataset = effective.value('run', 'dataset')
    if isinstance(dataset, str):
      copied = self.folder.absolute() / _DATA / pathlib.Path(dataset).name
      if copied.is_file():
        with gin.unlock_config():
          gin.bind_parameter('run.dataset', str(copied))

  def _run_folder(self, config: str) -> run_folder.RunFolder:
    facts = self._facts | {
      'bindings': self._bindings,
      'environment': self._environment,
      'config': config,
    }
    folder = run_folder.RunFolder(self.folder, facts)
    if experiment.prolongs(folder.recorded('config') or '', config):
      folder.prolong()
    return folder

  def _check_budget(self, folder: run_folder.RunFolder, config: str) -> None:
    recorded = folder.recorded('config') or ''
    before, now = experiment.budgets(recorded, config) or (0, 0)
    if before > now and folder.recorded('seed') == self._seed:
      raise ConfigError(
        f'{self.folder} holds a run of {before} interactions in all, more than '
        f'{now}; give as many or more to learn.'
      )

  def _recorded(self) -> dict[str, Any] | None:
    """run.json of the model's run, with any budget; None if there is no run.

    Raises:
      ConfigError: if the folder holds another run.
    """
    facts = run_json.read(self.folder)
    if facts is not None:
      there = facts['config']
      is_same = experiment.budgets(there, self._config) is not None
      self._run_folder(there if is_same else self._config).check(False)
    return facts

  def _begun(
    self,
    folder: run_folder.RunFolder,
    stack: contextlib.ExitStack,
    callback: Callback | None,
    progress_bar: bool,
  ) -> training_run.Run:
    """A run that is ready to train, in a folder that is claimed."""

    def hook(phase: str, run: training_run.Run) -> None:
      if phase == 'iterated' and callback is not None:
        row = {'iteration': run.iteration, 'interactions': run.interactions}
        if run.newest_row.get('iteration') == run.iteration:
          row = run.newest_row
        elsewhere = arguments.registered(dict.fromkeys(self._functions))
        with self._state.left(), elsewhere:
          goes_on = callback(self, row)
        if isinstance(goes_on, bool | np.bool_) and not goes_on:
          run.stop()

    settings = experiment.settings()
    policy = precision.keep_dtype_policy(
      self._config, folder.recorded('dtype_policy')
    )
    folder.add_fact('dtype_policy', policy)
    parts = experiment.build(settings, self._seed)
    stack.enter_context(folder.claimed(overwrite=False))
    return training_run.Run(
      settings,
      parts,
      folder,
      serving.export,
      hook=hook,
      warm_start_fn=serving.warm_start,
      progress_bar=progress_bar,
    )

  def predict(
    self,
    observation: Any,
    state: None = None,
    episode_start: Any = None,
    deterministic: bool = True,
  ) -> tuple[Any, None]:
    """Actions, in the environment's units, as Stable-Baselines3 returns them.

    Args:
      observation: of `env`, or a batch of them.
      state: for Stable-Baselines3's `evaluate_policy`; there is none.
      episode_start: likewise, not used.
      deterministic: whether the distribution's mode is taken, not a sample.

    Returns:
      (action or batch of actions, None).
    """
    if self._act is None:  # One for all calls: it may trace a function.
      self._act = numpy_actor.NumpyActor(self.agent.acting_network)
    self._act.refresh()  # The agent may have learned since.
    played = self._played
    values, is_batch = played.batch(observation)
    actions, _ = self._act(values, None if deterministic else self._rng)
    taken = [played.to_env_action(action) for action in actions]
    return (np.stack(taken) if is_batch else taken[0]), None

  def evaluate(
    self, episodes: int = 10, deterministic: bool = True
  ) -> tuple[float, float]:
    """Mean and standard deviation of undiscounted returns.

    Args:
      episodes: played from their start to their end; the same ones each time.
      deterministic: as in `predict`.
    """
    episodes = arguments.whole_number('episodes', episodes, low=1)
    if self._evaluator is None:
      act = numpy_actor.NumpyActor(self.agent.acting_network)
      seed = self._seed + ranges.EVALUATION_SEED
      self._evaluator = evaluate.Evaluator([self._played], act, seed=seed)
    with self._entered():
      returns = self._evaluator.returns(episodes, sampled=not deterministic)
    return statistics.fmean(returns), statistics.pstdev(returns)

  def evaluate_off_policy(
    self, dataset: str | Mapping[str, Any], **settings: Any
  ) -> evaluation.Report:
    """Estimates what the policy is worth from logged episodes alone.

    Args:
      dataset: a path, an id of Minari's store, or arrays by column (`episode`,
        `observation`, `action`, `reward`, `terminal`, a row per step).
      **settings: `mode_action`, `held_out_share`, `gamma`, `max_steps` and so
        on, as of `evaluation_of_export.evaluate`.

    Returns:
      A report: `summary()`, `write(folder)`, and the numbers.

    Raises:
      ConfigError: in one line, if the data do not fit the policy, or the model
        has learned from all of them.
    """
    with tempfile.TemporaryDirectory() as scratch:
      policy = pathlib.Path(scratch, self.folder.name)
      self.export(policy)
      with self._entered():
        return evaluation_of_export.evaluate(policy, dataset, **settings)

  def save(self, folder: str | pathlib.Path) -> pathlib.Path:
    """Copies the run's folder; `load` and the command go on from there.

    Arrays of a model without a folder are copied, too, for `load` alone.

    Raises:
      ConfigError: if the model has not learned yet, or the folder holds
        anything else than an earlier copy or is in use.
    """
    path = pathlib.Path(folder)
    with self._entered(), contextlib.ExitStack() as stack:
      facts = self._recorded() or run_json.required(self.folder)
      if self._run is not None:
        self._run.checkpoint()
      if path.resolve() == self.folder.resolve():
        return path
      if os.path.lexists(path):
        there = run_json.read(path)
        earlier = run_folder.run_ids(facts)
        if there is None or run_folder.run_ids(there)[0] not in earlier:
          raise ConfigError(f'{path} holds something else; choose another one.')
        stack.enter_context(run_lock.held(path))
      with atomic_files.new_folder(path) as copy:
        left_out = shutil.ignore_patterns(run_lock.NAME, '.*.tmp')
        shutil.copytree(self.folder, copy, dirs_exist_ok=True, ignore=left_out)
        if self._scratch is not None:  # It is deleted with the model.
          for file in self.folder.parent.glob(f'{self.folder.name}-data-*'):
            (copy / _DATA).mkdir(exist_ok=True)
            shutil.copy2(file, copy / _DATA)
        if others := run_folder.foreign(path, copy):
          raise ConfigError(
            f'{others[0]} is not of this run; move it, or choose another one.'
          )
    return path

  def export(
    self, folder: str | pathlib.Path, format: str = 'saved_model'
  ) -> pathlib.Path:
    """Writes the policy for other runtimes, in a numbered folder.

    Args:
      folder: parent of the versions.
      format: 'saved_model', 'tflite' or 'onnx'.

    Returns:
      The folder of the new version.
    """
    if format not in serving.KINDS:
      raise ConfigError(f'format {format!r} is none of {serving.KINDS}.')
    with self._entered():
      facts = self._recorded() or {
        **self._facts,
        'environment': self._environment,
        'config': self._config,
      }
      return serving.export(self.agent, facts, pathlib.Path(folder), format)

  @property
  def _environment(self) -> str:
    return experiment.settings().environment

  @property
  def _played(self) -> Any:
    """The environment of scores, as a GymnasiumWrapper."""
    if self._env is None:
      with self._entered():
        settings = experiment.settings()
        self._env = experiment.score_environment(settings, self._seed)
    return self._env

  @contextlib.contextmanager
  def _entered(self) -> Iterator[None]:
    """Activates the model's gin bindings and ids of environments.

    Afterwards Python's and NumPy's random numbers are where they were.
    """
    states = random.getstate(), np.random.get_state()
    ids = arguments.registered(self._functions)
    with wording.own(), self._state.entered(), ids:
      try:
        yield
      finally:
        random.setstate(states[0])
        np.random.set_state(states[1])


def _bindings(values: Mapping[str, Any]) -> list[str]:
  return [f'{name} = {_text(value)}' for name, value in values.items()]


def _text(value: Any) -> str:
  """A value in gin's syntax."""
  if isinstance(value, str) and value[:1] in ('@', '%'):
    return value
  return repr(tree.map_structure(_python, value))


def _python(value: Any) -> Any:
  """A number or array of NumPy as Python's; anything else as it is."""
  is_numpy = isinstance(value, np.generic | np.ndarray)
  return value.tolist() if is_numpy else value


def _number(cell: str) -> int | float | None:
  """A cell of metrics.csv."""
  if not cell:
    return None
  return int(cell) if re.fullmatch('-?[0-9]+', cell) else float(cell)


def _full_names(overrides: Mapping[str, Any]) -> dict[str, Any]:
  """Overrides by the names that the run's configuration has for them.

  Raises:
    ConfigError: for a name that no setting or several settings have.
  """
  names = [value.name for value in experiment.effective_values()]
  full = {}
  for key, value in overrides.items():
    matches = [name for name in names if name.rpartition('.')[2] == key]
    if len(matches) != 1:
      problem = (
        f'{key!r} may be {", ".join(matches)}'
        if matches
        else (f'no setting of the run is called {key!r}')
      )
      raise ConfigError(
        f"{problem}; give bindings={{'<configurable>.{key}': …}}, "
        'such as --print_config shows.'
      )
    full[matches[0]] = value
  return full


def _written(arrays: Mapping[str, Any], folder: pathlib.Path) -> pathlib.Path:
  """Writes arrays beside the run's folder: in D4RL's layout, or as a table.

  The name has a hash of them: other arrays are another run.
  """
  is_table = arguments.is_table(arrays)
  flat: dict[str, Any] = dict(
    (arguments.columns if is_table else arguments.flat)(arrays)
  )
  digest = hashlib.sha256()
  for name, values in flat.items():
    digest.update(f'{name} {values.dtype} {values.shape}'.encode())
    digest.update(values.tobytes())
  ending = 'npz' if is_table else 'hdf5'
  name = f'{folder.name}-data-{digest.hexdigest()[:8]}.{ending}'
  path = folder.absolute().with_name(name)
  if not path.exists():
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_files.new_file(path) as temporary:
      if is_table:
        np.savez(temporary, **flat)
      else:
        with h5py.File(temporary, 'w') as file:
          for name, values in flat.items():
            file[name] = values
  return path
