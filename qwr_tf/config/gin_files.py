"""Gin files: search, parsing, the source of each value, errors in one line."""

import contextlib
import difflib
import inspect
import io
import itertools
import logging
import os
import pathlib
import re
import sys
import tokenize
from collections.abc import Collection, Iterator, Mapping, Sequence

import gin

from qwr_tf.config import gin_values
from qwr_tf.config.errors import ConfigError

_PACKAGE = pathlib.Path(__file__).resolve().parents[1]

# gin_configs/: inside the package in a wheel, beside it in a checkout.
_FOLDERS = (_PACKAGE / 'gin_configs', _PACKAGE.parent / 'gin_configs')

# Folders in which a file of the package is found by its name alone. The first
# edition had all presets in one folder, and what they shared in `parts`.
_BY_NAME = ('.', 'gin_configs', 'parts', 'gin_configs/parts')

_BINDINGS = '--gin_bindings'

# Parameters that the trainer sets itself, and what to write instead.
_SET_BY_TRAINER = {
  r'(\w+Agent|make_agent|load_environment|DataSet)\.seed': '--seed',
  r'(Collector|ReplayTable)\.seed': '--seed',
  r'Collector\.source': 'qwr_tf.launch',
  r'ReplayTable\.capacity': 'run.replay_capacity',
  r'(?!make_agent)\w+\.normalizer': 'make_agent.normalizer',
  r'\w+Critic\.critic_fn': 'make_agent.critic_network',
  r'\w+Network\.num_outputs': 'DistributionalCritic.num_atoms',
}


# 'file: comment' of each binding by (scope, configurable without modules,
# parameter). Set by `parse`; belongs to the values that gin holds now.
sources: dict[tuple[str, str, str], str] = {}

# Place of each statement by hand (in a binding, or a file that neither the
# package nor a run wrote) by its left side. Of the last `parse`.
given: dict[str, str] = {}

# Names of the macros that something refers to, in any file or binding read.
_used_macros: set[str] = set()


def find(name: str) -> pathlib.Path:
  """Path of a gin file given by path or by bare name.

  Raises:
    ConfigError: if there is none; lists the presets of the package.
  """
  path = _search(name)
  if path is None:
    raise ConfigError(
      f'gin file {name!r} not found; give a path or one of '
      f'{", ".join(presets())}.'
    )
  return path


def _search(
  name: str, folders: Sequence[pathlib.Path] = ()
) -> pathlib.Path | None:
  path = pathlib.Path(name)
  for folder in (*folders, pathlib.Path(), *_FOLDERS):
    if os.path.isfile(folder / path):  # False, too, for what no name can be.
      return folder / path
  bundled = {p.stem: p for p in _bundled()}
  is_by_name = str(path.parent) in _BY_NAME
  return bundled.get(path.name.removesuffix('.gin')) if is_by_name else None


def _included(name: str, path: pathlib.Path | None) -> pathlib.Path:
  included = _search(name, _beside(path))
  if included is None:
    raise ConfigError(
      f'{path or "bindings"}: the included file {name!r} is missing; it is '
      'searched beside the file that includes it, in the current folder and in '
      'gin_configs.'
    )
  return included


def presets() -> list[str]:
  """Names of the package's files that are whole configurations."""
  return sorted(
    path.name
    for path in _bundled()
    # The others are what presets share.
    if path.parent.name not in ('environments', path.stem)
    and not path.stem.endswith('_networks')
  )


def purpose(name: str) -> str:
  """The first paragraph of a gin file's comments."""
  lines = find(name).read_text('utf-8').splitlines()
  paragraph = itertools.takewhile(lambda x: x.startswith('# '), lines)
  return '\n'.join(line[2:] for line in paragraph)


def _bundled() -> list[pathlib.Path]:
  return [path for folder in _FOLDERS for path in folder.glob('*/*.gin')]


def parse(files: Sequence[str], bindings: Sequence[str]) -> str:
  """Reads files and bindings into gin, in place of what it held.

  Args:
    files: paths or bare names; later ones override. They may include files
      that stand beside them.

  Returns:
    The configuration as sorted text, so that the order of files and bindings
    does not matter.

  Raises:
    ConfigError: for an unknown file or binding, a value that does not fit, or
      a syntax error.
  """
  paths = [find(name) for name in files]
  for store in (sources, given, _used_macros):
    store.clear()
  gin.clear_config()
  for path in paths:
    with _errors_in_one_line(str(path)):
      _parse_file(path)
  with _errors_in_one_line(_BINDINGS):
    for binding in bindings:
      _check_is_one(binding)
      _parse_text(binding, None)
    _finalize()
    _check_macros()
    _check_set_by_trainer()
    _check_agent()
  return gin.config_str()


def parse_text(config: str) -> None:
  """Reads a configuration as `parse` returns it, in place of what gin held.

  Raises:
    ConfigError: as `parse`.
  """
  sources.clear()
  gin.clear_config()
  with _errors_in_one_line('the configuration'):
    _parse_text(config, None, label='the configuration')
    _finalize()


def source(scope: str, selector: str, parameter: str) -> str:
  """'file: comment' of the value that a configurable gets within a scope."""
  scopes = scope.split('/') if scope else []
  outer = ('/'.join(scopes[:i]) for i in range(len(scopes), -1, -1))
  keys = ((name, selector.split('.')[-1], parameter) for name in outer)
  return next((sources[key] for key in keys if key in sources), '')


def is_set_by_trainer(name: str) -> bool:
  """True for parameters that the trainer sets: a binding has no effect."""
  return any(re.search(rf'\b({x})$', name) for x in _SET_BY_TRAINER)


def _parse_file(path: pathlib.Path, including: tuple = ()) -> None:
  """Reads a file into gin; ConfigError for one that includes itself."""
  if path.resolve() in including:
    raise ConfigError(f'{path} includes itself; remove that line.')
  text = path.read_text('utf-8')
  _parse_text(text, path, (*including, path.resolve()))


def _parse_text(
  text: str,
  path: pathlib.Path | None,
  including: tuple = (),
  label: str = _BINDINGS,
) -> None:
  """Reads a text into gin, part by part between its includes.

  gin's own search for included files looks for Python packages, too, and does
  not know which file includes.

  Args:
    path: of the file; None for a binding.
    including: the files that include it, itself among them.
    label: source of the values where there is no file.
  """
  lines = io.StringIO(text).readlines()  # At \n alone, as gin counts them.
  comments = _comments(lines)
  _used_macros.update(re.findall(r'%([\w./]+)', text))
  statements = _statements(text, path)
  ends = [s.location.line_num for s in statements[1:]] + [len(lines) + 1]
  part: set[int] = set()  # Line numbers read since the last include.
  imports: set[int] = set()  # Imports are repeated for every part.
  for statement, end in zip(statements, ends, strict=True):
    span = range(statement.location.line_num, end)
    if isinstance(statement, gin.config_parser.IncludeStatement):
      _parse_lines(lines, part | imports, path)
      part.clear()
      _parse_file(_included(statement.filename, path), including)
      continue
    part.update(span)
    if isinstance(statement, gin.config_parser.ImportStatement):
      imports.update(span)
    elif isinstance(statement, gin.config_parser.BindingStatement):
      scope, selector, parameter = statement[:3]
      if not parameter:  # A macro.
        scope, selector = '', f'{scope}/{selector}'.strip('/')
      place = label if path is None else _label(path)
      key = scope, selector.split('.')[-1], parameter
      sources[key] = ': '.join(filter(None, [place, _comment(comments, span)]))
      if _is_by_hand(path) if path else label == _BINDINGS:
        name = f'{scope}/{selector}.{parameter}'.strip('/.')
        given[name] = place
  _parse_lines(lines, part | imports, path)


def _statements(text: str, path: pathlib.Path | None = None) -> list:
  delegate = gin.config.ParserDelegate(skip_unknown=True)
  return list(gin.config_parser.ConfigParser(_file(text, path), delegate))


def _parse_lines(
  lines: Sequence[str], numbers: Collection[int], path: pathlib.Path | None
) -> None:
  """Reads some lines of a file into gin, which counts all of them."""
  chosen = (x if i in numbers else '\n' for i, x in enumerate(lines, start=1))
  gin.parse_config(_file(''.join(chosen), path))


def _file(text: str, path: pathlib.Path | None) -> io.StringIO:
  """A text as a file with a name, for errors."""
  file = io.StringIO(text)
  if path:
    file.name = str(path)
  return file


def _beside(path: pathlib.Path | None) -> list[pathlib.Path]:
  """The folder in which a file's includes are searched first."""
  if path is None:
    return []
  folder = path.resolve().parent
  return [folder, *(f for f in _FOLDERS if folder.is_relative_to(f))]


def _is_by_hand(path: pathlib.Path) -> bool:
  """False for a preset, and for what a run has written of its presets."""
  is_bundled = any(path.resolve().is_relative_to(f) for f in _FOLDERS)
  is_of_run = path.name == 'config.gin' and path.with_name('run.json').exists()
  return not is_bundled and not is_of_run


def _label(path: pathlib.Path) -> str:
  bundled = [f for f in _FOLDERS if path.is_relative_to(f)]
  return str(path.relative_to(bundled[0]) if bundled else path)


def _comments(lines: Sequence[str]) -> dict[int, tuple[int, str]]:
  """{line number: (column, text)} of the comments."""
  tokens = tokenize.generate_tokens(iter(lines).__next__)
  return {
    token.start[0]: (token.start[1], token.string.lstrip('# '))
    for token in tokens
    if token.type == tokenize.COMMENT
  }


def _comment(comments: Mapping[int, tuple[int, str]], span: range) -> str:
  """The comment beside the lines of a binding; else the one right above it."""
  beside = [comments.get(line, (0, '')) for line in span]
  text = ' '.join(text for column, text in beside if column and text)
  if text:
    return text
  lines = range(span[0] - 1, 0, -1)
  above = itertools.takewhile(lambda n: comments.get(n, (1,))[0] == 0, lines)
  return ' '.join(comments[line][1] for line in reversed([*above]))


@contextlib.contextmanager
def _errors_in_one_line(place: str) -> Iterator[None]:
  before = logging.root.manager.disable
  logging.disable(logging.CRITICAL)  # gin reports every folder it tries.
  try:
    yield
  except ConfigError:
    raise
  except UnicodeDecodeError as error:
    raise ConfigError(f'{place}: is not a text file.') from error
  except tokenize.TokenError as error:
    raise ConfigError(
      f'{place}: a bracket or a quotation mark is not closed.'
    ) from error
  except Exception as error:  # An `import` in a gin file raises anything.
    message = describe(error)
    raise ConfigError(f'gin: {message}{_hint(message)}') from error
  finally:
    logging.disable(before)


def describe(error: Exception) -> str:
  """One line for an error, with the innermost place that gin appended."""
  if isinstance(error, SyntaxError):
    place = f'{error.filename or "bindings"} line {error.lineno}'
    text = f'{place}: {error.text or ""}'.strip(': \n')
    message = error.msg
    if token := re.search("Failed to parse token '(.+)'", message):
      message = (
        f'{token[1]} is no value; text needs quotation marks, a function an @ '
        'before it'
      )
    return f'{message} ({text})'
  # Keras says first where it was, TensorFlow's kernels how they are called.
  text = re.sub(r'Exception encountered when .*\n+|{{.*?}} ', '', str(error))
  lines = [line.strip() for line in text.strip('"\n ').splitlines()]
  head = lines[0] if lines else type(error).__name__
  if macro := re.match(r"No bindings specified for '(.+)/gin.macro'", head):
    return (
      f'%{macro[1]} has no value; add "{macro[1]} = …" to the gin file or '
      'bindings.'
    )
  for place, text in itertools.pairwise([*lines[1:], '']):
    if call := re.match(r"In call to configurable '([\w.]+)'", place):
      head = re.sub(
        r".* multiple values for keyword argument '(\w+)'",
        r'sets \1 itself; leave it out.',
        head,
      )
      return head if head.startswith(call[1]) else f'{call[1]}: {head}'
    if place.startswith('In '):
      return f'{head} ({place[3:]}: {text})'
  return head


def _hint(message: str) -> str:
  """What to write instead of the name that gin's message is about."""
  if match := re.search(
    r"Configurable '(.+)' doesn't have a parameter named '(\w+)'", message
  ):
    parameters, _ = gin_values.parameters(gin.get_configurable(match[1]))
    near = difflib.get_close_matches(match[2], parameters)
  elif match := re.search(r"No configurable matching .*?'@?([\w./]+)", message):
    name = re.split('[./]', match[1])[-1]
    near = difflib.get_close_matches(name, _names(), n=5)
    near = [name for name in near if is_configurable(name)]
  elif 'Ambiguous selector' in message:
    return ' Write more of the name, or leave out the import of the other one.'
  else:
    return ''
  return f' Near it: {", ".join(near)}.' if near else ''


def _names() -> set[str]:
  """Names this package defines or imports, configurables among them."""
  modules = [m for n, m in list(sys.modules.items()) if n.startswith('qwr_tf.')]
  return {'run', 'Adam', *(name for module in modules for name in vars(module))}


def is_configurable(name: str) -> bool:
  """True if gin knows exactly one configurable of this name."""
  try:
    return bool(gin.get_configurable(name))
  except (KeyError, ValueError):
    return False


def _check_is_one(binding: str) -> None:
  """Catches several bindings in one text, which a run's identity leaves out."""
  if len(_statements(binding)) > 1:
    raise ConfigError(
      f'{" ".join(binding.split())!r} holds several bindings; give '
      '--gin_bindings once for each.'
    )


def _check_macros() -> None:
  """Catches `batch_size=8` for `iterate.batch_size=8`: a macro nobody uses."""
  for name, place in given.items():
    if '.' not in name and name not in _used_macros:
      examples = ' or '.join(_owners(name.split('/')[-1])[:4])
      raise ConfigError(
        f'gin: {name!r} ({place}) is not used as a macro; write its owner too'
        f'{", such as " * bool(examples)}{examples}.'
      )


def _owners(parameter: str) -> list[str]:
  """'configurable.parameter' for each that has a default of that name."""
  owners = filter(is_configurable, sorted(_names()))
  by_owner = {
    n: gin_values.parameters(gin.get_configurable(n))[0] for n in owners
  }
  return [
    f'{name}.{parameter}'
    for name, parameters in by_owner.items()
    if parameter in parameters
    and parameters[parameter].default is not inspect.Parameter.empty
  ]


def operative_config() -> str:
  """Operative configuration of gin, without values that the trainer sets.

  `parse` would refuse those.
  """
  refused = rf'(?m)^\S*?\b({"|".join(_SET_BY_TRAINER)}) = (.*\\\n)*.*\n'
  return re.sub(refused, '', gin.operative_config_str())


def _check_set_by_trainer() -> None:
  """Catches what would have no effect: the trainer sets it itself."""
  for name, instead in _SET_BY_TRAINER.items():
    pattern = rf'^\S*?\b({name}) = '
    if match := re.search(pattern, gin.config_str(), re.MULTILINE):
      raise ConfigError(
        f'gin: {match[1]} is set by the trainer; use {instead} instead.'
      )


def _check_agent() -> None:
  """Raises ConfigError for parameters of an agent that is not made.

  Some would be read all the same: a relative calls what it is derived from.
  """
  bound = values(gin.config_str())
  agent = bound.get('make_agent.agent_class', '@QwrAgent')
  agent = re.split(r'[./@]', agent)[-1]
  for name in bound:
    owner, _, parameter = name.rpartition('.')
    owner = re.split(r'[./]', owner)[-1]
    if owner.endswith('Agent') and owner != agent:
      raise ConfigError(
        f'gin: {name} belongs to another agent than make_agent.agent_class; '
        f'use {agent}.{parameter}, and do not mix presets of two agents.'
      )


def unread() -> list[str]:
  """Names of `given` whose values no function has been called with so far."""

  def without_scope(name: str) -> str:
    return '.'.join(re.split(r'[./]', name)[-2:])

  by_hand = [f'.{name}' for name in given]
  read = {
    (without_scope(name), value)
    for name, value in values(gin.operative_config_str()).items()
  }
  return [
    name
    for name, value in values(gin.config_str()).items()
    if '.' in name
    and any(x.endswith(f'.{name}') for x in by_hand)  # Maybe behind modules.
    and (without_scope(name), value) not in read
  ]


def _finalize() -> None:
  """Holds the values to their annotations, and locks them."""
  if problem := gin_values.problem(gin.config._CONFIG):
    raise ConfigError(problem)
  gin.finalize()


def values(config: str) -> dict[str, str]:
  """{name: value} of a configuration as text, as `parse` returns it."""
  # gin breaks long values into indented lines.
  lines = re.sub(r'\\?\n +', ' ', config).splitlines()
  pairs = (line.partition('=') for line in lines if line[:1] not in '# ')
  return {name.strip(): value.strip() for name, _, value in pairs}


def differences(
  there: Mapping[str, str], here: Mapping[str, str]
) -> dict[str, str]:
  """{name: 'name: value there, value here'} of the values that differ."""
  return {
    name: f'{name}: {there.get(name, "not set")} there, '
    f'{here.get(name, "not set")} here'
    for name in {**here, **there}
    if there.get(name) != here.get(name)
  }
