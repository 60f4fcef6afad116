"""Gin files: search, parsing, the source of each value, errors in one line."""

import contextlib
import difflib
import inspect
import io
import itertools
import logging
import pathlib
import re
import sys
import tokenize
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import gin

from qwr_tf.config import gin_values
from qwr_tf.config.errors import ConfigError

_PACKAGE = pathlib.Path(__file__).resolve().parents[1]

# In a wheel they stand inside the package, in a checkout beside it.
_FOLDERS = (_PACKAGE / 'gin_configs', _PACKAGE.parent / 'gin_configs')

# Folders in which a file of the package is found by its name alone. The first
# edition had all presets in one folder, and what they shared in `parts`.
_BY_NAME = ('.', 'gin_configs', 'parts', 'gin_configs/parts')

# Parameters that the trainer passes itself, and the binding that sets them.
_PASSED = {
  r'(\w+Agent|make_agent|load_environment|DataSet)\.seed': '--seed',
  r'(Collector|ReplayTable)\.seed': '--seed',
  r'ReplayTable\.capacity': 'run.replay_capacity',
  r'(?!make_agent)\w+\.normalizer': 'make_agent.normalizer',
  r'\w+Critic\.critic_fn': 'make_agent.critic_network',
  r'\w+Network\.num_outputs': 'DistributionalCritic.num_atoms',
}


# 'file: comment' of each binding by scope, configurable without modules, and
# parameter; of the latest `parse`, as the values themselves are in gin.
_sources: dict[tuple[str, str, str], str] = {}


def find(name: str, folders: Sequence[pathlib.Path] = ()) -> pathlib.Path:
  """Path of a gin file given by path or by bare name.

  Args:
    name: path or bare name.
    folders: searched before the current folder and the package's.

  Raises:
    ConfigError: if there is none; lists the presets of the package.
  """
  path = pathlib.Path(name)
  for folder in (*folders, pathlib.Path(), *_FOLDERS):
    if (folder / path).is_file():
      return folder / path
  bundled = {p.name: p for p in _bundled()}
  if path.name in bundled and str(path.parent) in _BY_NAME:
    return bundled[path.name]
  raise ConfigError(
    f'gin file {name!r} not found; give a path or one of '
    f'{", ".join(presets())}.'
  )


def presets() -> list[str]:
  """Names of the package's files that are whole configurations."""
  return sorted(
    path.name
    for path in _bundled()
    # The others are what presets share.
    if path.parent.name not in ('environments', path.stem)
    and not path.stem.endswith('_networks')
  )


def _bundled() -> list[pathlib.Path]:
  return [path for folder in _FOLDERS for path in folder.glob('*/*.gin')]


def parse(files: Sequence[str], bindings: Sequence[str]) -> str:
  """Reads files and bindings into gin, in place of what it held.

  Args:
    files: paths or bare names; later ones override. They may include files
      that stand beside them.
    bindings: override the files.

  Returns:
    The configuration as text: the same one for the same values, in whatever
    order they were given.

  Raises:
    ConfigError: for an unknown file or binding, a value that does not fit, or
      a syntax error.
  """
  paths = [find(name) for name in files]
  _sources.clear()
  gin.clear_config()
  for path in paths:
    with _errors_name_the_fix(str(path)):
      _parse_file(path)
  with _errors_name_the_fix('--gin_bindings'):
    for binding in bindings:
      _check_is_one(binding)
      _parse_text(binding, None)
    gin.finalize()
    _check_macros(bindings)
    _check_passed()
    _check_agent()
  return gin.config_str()


def parse_text(config: str) -> None:
  """Reads a configuration as `parse` returns it, in place of what gin held.

  Raises:
    ConfigError: as `parse`.
  """
  _sources.clear()
  gin.clear_config()
  with _errors_name_the_fix('the configuration'):
    _parse_text(config, None)
    gin.finalize()


def source(scope: str, selector: str, parameter: str) -> str:
  """'file: comment' of the value that a configurable gets within a scope."""
  scopes = scope.split('/') if scope else []
  outer = ('/'.join(scopes[:i]) for i in range(len(scopes), -1, -1))
  keys = ((name, selector.split('.')[-1], parameter) for name in outer)
  return next((_sources[key] for key in keys if key in _sources), '')


def is_passed(name: str) -> bool:
  """Whether the trainer passes a parameter itself, whatever is bound."""
  return any(re.search(rf'\b({passed})$', name) for passed in _PASSED)


def _parse_file(path: pathlib.Path, including: tuple = ()) -> None:
  """Reads a file into gin; ConfigError for one that includes itself."""
  if path.resolve() in including:
    raise ConfigError(f'{path} includes itself; remove that line.')
  text = path.read_text('utf-8')
  _parse_text(text, path, (*including, path.resolve()))


def _parse_text(
  text: str, path: pathlib.Path | None, including: tuple = ()
) -> None:
  """Reads a text into gin, part by part between its includes.

  gin's own search for included files looks for Python packages, too, and does
  not know which file includes.

  Args:
    text: of a gin file.
    path: of the file; None for a binding.
    including: the files that include it, itself among them.
  """
  lines = text.splitlines(keepends=True)
  comments = _comments(lines)
  statements = _statements(text, path)
  ends = [s.location.line_num for s in statements[1:]] + [len(lines) + 1]
  part: set[int] = set()  # Its lines.
  imports: set[int] = set()  # They count for all parts.
  for statement, end in zip(statements, ends, strict=True):
    span = range(statement.location.line_num, end)
    if isinstance(statement, gin.config_parser.IncludeStatement):
      _parse_lines(lines, part | imports, path)
      part.clear()
      _parse_file(find(statement.filename, _beside(path)), including)
      continue
    part.update(span)
    if isinstance(statement, gin.config_parser.ImportStatement):
      imports.update(span)
    elif isinstance(statement, gin.config_parser.BindingStatement):
      scope, selector, parameter = statement[:3]
      if not parameter:  # A macro.
        scope, selector = '', f'{scope}/{selector}'.strip('/')
      source = _label(path), _comment(comments, span)
      key = scope, selector.split('.')[-1], parameter
      _sources[key] = ': '.join(filter(None, source))
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
  """Where the files that a file includes are searched first."""
  if path is None:
    return []
  folder = path.resolve().parent
  return [folder, *(f for f in _FOLDERS if folder.is_relative_to(f))]


def _label(path: pathlib.Path | None) -> str:
  if path is None:
    return '--gin_bindings'
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
def _errors_name_the_fix(place: str) -> Iterator[None]:
  before = logging.root.manager.disable
  logging.disable(logging.CRITICAL)  # gin reports every folder it tries.
  try:
    yield
  except ConfigError:
    raise
  except UnicodeDecodeError as error:
    raise ConfigError(f'{place}: is no text file.') from error
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
  """An error in one line, with the innermost place gin has added to it."""
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
    return f'%{macro[1]} is used but nothing sets it.'
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
  """Whether gin knows exactly one configurable of this name."""
  try:
    return bool(gin.get_configurable(name))
  except (KeyError, ValueError):
    return False


def _check_is_one(binding: str) -> None:
  """Catches several bindings in one text, which a run's identity leaves out."""
  if len(_statements(binding)) > 1:
    raise ConfigError(
      f'{" ".join(binding.split())!r} is more than one; give one '
      '--gin_bindings for each.'
    )


def _check_macros(bindings: Sequence[str]) -> None:
  """Catches `batch_size=8` for `iterate.batch_size=8`: a macro nobody uses."""
  config = gin.config_str()
  for binding in bindings:
    match = re.match(r'\s*(\w+)\s*=', binding)
    if match and not re.search(rf'%{match[1]}\b', config):
      examples = ' or '.join(_owners(match[1])[:4])
      raise ConfigError(
        f'gin: {match[1]!r} is no parameter; write configurable.parameter'
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
  """The values in use, without those that `parse` refuses; to be run again."""
  refused = rf'(?m)^\S*?\b({"|".join(_PASSED)}) = (.*\\\n)*.*\n'
  return re.sub(refused, '', gin.operative_config_str())


def _check_passed() -> None:
  """Catches what would change nothing: the trainer passes it itself."""
  for name, instead in _PASSED.items():
    pattern = rf'^\S*?\b({name}) = '
    if match := re.search(pattern, gin.config_str(), re.MULTILINE):
      raise ConfigError(f'gin: {match[1]} changes nothing; use {instead}.')


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
        f"gin: {name} is another agent's; use {agent}.{parameter}, and no "
        'preset of another agent.'
      )


def _name(binding: str) -> str:
  return binding.partition('=')[0].strip()


def _is_called(name: str, bound: str) -> bool:
  """Whether `bound` is the name, maybe with modules in front."""
  return bound == name or bound.endswith(f'.{name}')


def unread(bindings: Sequence[str]) -> list[str]:
  """Names of bindings whose values no function has been called with so far."""

  def without_scope(name: str) -> str:
    return '.'.join(re.split(r'[./]', name)[-2:])

  given = values(gin.config_str())
  read = {
    (without_scope(name), value)
    for name, value in values(gin.operative_config_str()).items()
  }
  return [
    name
    for name, value in given.items()
    if '.' in name
    and any(_is_called(name, _name(b)) for b in bindings)
    and (without_scope(name), value) not in read
  ]


@gin.config.register_finalize_hook
def _check_values(config: dict[tuple[str, str], dict[str, Any]]) -> None:
  if problem := gin_values.problem(config):
    raise ConfigError(problem)


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
