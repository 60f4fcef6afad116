"""Where gin files are found, and how a configuration is read and checked."""

import contextlib
import difflib
import functools
import inspect
import itertools
import logging
import pathlib
import re
import sys
import tokenize
import types
import typing
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import gin

_PACKAGE = pathlib.Path(__file__).resolve().parent

# In a wheel they stand inside the package, in a checkout beside it.
_FOLDERS = (_PACKAGE / 'gin_configs', _PACKAGE.parent / 'gin_configs')

# Parameters have one meaning each, so that a name says what can be meant.
# Other numbers are 0 or more, but for the signed ones.
_FRACTIONS = frozenset(
  'final_epsilon gamma initial_epsilon momentum target_update_tau '
  'td_lambda'.split()
)
_POSITIVE = frozenset(
  'backup_temperature batch_size beta chunk_rows chunk_steps '
  'decay_critic_steps decay_steps env_steps epsilon eval_environments '
  'eval_episodes eval_every_env_steps final_eval_episodes first_env_steps '
  'gate_units global_clipnorm horizon initial_learning_rate learning_rate '
  'log_every_env_steps max_scale max_weight min_scale num_actions num_atoms '
  'num_critics num_heads output_limit period_train_steps post_gate_units '
  'replay_capacity reuse_train_steps rounds scale units value_scale'.split()
)
_SIGNED = frozenset(['max_value', 'min_value'])
_IN_WORDS = {
  int: 'a whole number',
  float: 'a number',
  bool: 'True or False',
  str: 'a text in quotes',
  types.NoneType: 'None',
}


class ConfigError(ValueError):
  """A configuration that cannot be used; says in one line what to change."""


def find(name: str) -> pathlib.Path:
  """Path of a gin file given by path or by bare name.

  Raises:
    ConfigError: if there is none; lists the ones that come with the package.
  """
  for candidate in (pathlib.Path(name), *(f / name for f in _FOLDERS)):
    if candidate.is_file():
      return candidate
  known = sorted(p.name for f in _FOLDERS for p in f.glob('*.gin'))
  raise ConfigError(
    f'gin file {name!r} not found; give a path or one of {", ".join(known)}.'
  )


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
  for folder in (*_FOLDERS, *(path.parent for path in paths)):
    _search_in(folder.resolve())
  gin.clear_config()
  for path in paths:
    with _errors_name_the_fix(str(path)):
      gin.parse_config_file(str(path))
  with _errors_name_the_fix('--gin_bindings'):
    gin.parse_config(bindings)
    gin.finalize()
    _check_macros(bindings)
  return gin.config_str()


@functools.cache
def _search_in(folder: pathlib.Path) -> None:
  gin.add_config_file_search_path(str(folder))


@contextlib.contextmanager
def _errors_name_the_fix(place: str) -> Iterator[None]:
  before = logging.root.manager.disable
  logging.disable(logging.CRITICAL)  # gin reports every folder it tries.
  try:
    yield
  except ConfigError:
    raise
  except tokenize.TokenError as error:
    raise ConfigError(
      f'{place}: a bracket or a quotation mark is not closed.'
    ) from error
  except Exception as error:  # An `import` in a gin file raises anything.
    message = describe(error)
    raise ConfigError(f'gin: {message}{_near(message)}') from error
  finally:
    logging.disable(before)


def describe(error: Exception) -> str:
  """An error in one line, with the innermost place gin has added to it."""
  if isinstance(error, SyntaxError):
    place = f'{error.filename or "bindings"} line {error.lineno}'
    text = f'{place}: {error.text or ""}'.strip(': \n')
    return f'{error.msg} ({text})'
  # Keras says first where it was, TensorFlow's kernels how they are called.
  text = re.sub(r'Exception encountered when .*\n+|{{.*?}} ', '', str(error))
  lines = [line.strip() for line in text.strip('"\n ').splitlines()]
  head = lines[0] if lines else type(error).__name__
  if macro := re.match(r"No bindings specified for '(.+)/gin.macro'", head):
    return f'%{macro[1]} is used but nothing sets it.'
  for place, text in itertools.pairwise([*lines[1:], '']):
    if call := re.match(r"In call to configurable '([\w.]+)'", place):
      return head if head.startswith(call[1]) else f'{call[1]}: {head}'
    if place.startswith('In '):
      return f'{head} ({place[3:]}: {text})'
  return head


def _near(message: str) -> str:
  """Names like the unknown one that gin's message is about."""
  if match := re.search(
    r"Configurable '(.+)' doesn't have a parameter named '(\w+)'", message
  ):
    near = difflib.get_close_matches(match[2], _parameters(match[1])[0])
  elif match := re.search(r"No configurable matching .*?'@?([\w./]+)", message):
    name = re.split('[./]', match[1])[-1]
    near = difflib.get_close_matches(name, _names(), n=5)
    near = [name for name in near if _is_configurable(name)]
  else:
    return ''
  return f' Near it: {", ".join(near)}.' if near else ''


def _names() -> set[str]:
  """Names this package defines or imports, configurables among them."""
  modules = [m for n, m in list(sys.modules.items()) if n.startswith('qwr_tf.')]
  return {'run', 'Adam', *(name for module in modules for name in vars(module))}


def _is_configurable(name: str) -> bool:
  try:
    return bool(gin.get_configurable(name))
  except (KeyError, ValueError):
    return False


def _check_macros(bindings: Sequence[str]) -> None:
  """Catches `batch_size=8` for `iterate.batch_size=8`: a macro nobody uses."""
  config = gin.config_str()
  for binding in bindings:
    match = re.match(r'\s*(\w+)\s*=', binding)
    if match and not re.search(rf'%{match[1]}\b', config):
      known = re.findall(rf'^(\S+\.{match[1]}) = ', config, re.MULTILINE)
      raise ConfigError(
        f'gin: {match[1]!r} is no parameter; write configurable.parameter'
        f'{", such as " * bool(known)}{" or ".join(known)}.'
      )


# Values.


@gin.config.register_finalize_hook
def _check_values(config: dict[tuple[str, str], dict[str, Any]]) -> None:
  """Holds every binding to its parameter's annotation and range."""
  for (scope, selector), bindings in config.items():
    parameters, are_all = _parameters(selector)
    for name, value in bindings.items():
      parameter = parameters.get(name)
      if are_all and parameter is None:
        raise ValueError(
          f"Configurable '{selector}' doesn't have a parameter named '{name}'."
        )
      value = _resolve(value, config)
      problem = parameter and _misfit(value, parameter)
      if problem := problem or _out_of_range(value, name, parameter):
        key = f'{scope}/{selector}'.removeprefix('/')
        key = re.sub(r'[\w.]+\.(?=\w+$)', '', key)
        raise ConfigError(f'{key}.{name} must be {problem}, not {value!r}.')


def _parameters(selector: str) -> tuple[dict[str, inspect.Parameter], bool]:
  """What a configurable takes, and whether that is all.

  The **kwargs of a class of this package are its base class's parameters.
  """
  made = gin.get_configurable(selector)
  parameters: dict[str, inspect.Parameter] = {}
  for owner in made.__mro__ if isinstance(made, type) else (made,):
    found = inspect.signature(owner).parameters
    parameters = {**found, **parameters}
    if all(p.kind is not p.VAR_KEYWORD for p in found.values()):
      return parameters, True
    if not owner.__module__.startswith('qwr_tf.agents'):
      break
  return parameters, False


def _resolve(value: Any, config) -> Any:
  """What a macro stands for; anything else as it is."""
  while str(value).startswith('%') and hasattr(value, 'config_key'):
    if value.config_key not in config:
      break  # One of gin's constants.
    value = config[value.config_key]['value']
  return value


def _misfit(value: Any, parameter: inspect.Parameter) -> str:
  """What the value should be, or '' if it is."""
  hint = parameter.annotation
  if hint is parameter.empty or value is parameter.default:
    return ''
  return '' if _fits(value, hint) else _in_words(hint)


def _fits(value: Any, hint: Any) -> bool:
  arguments = typing.get_args(hint)
  kind = typing.get_origin(hint) or hint
  if kind in (typing.Union, types.UnionType):
    return any(_fits(value, argument) for argument in arguments)
  if kind is Any or not isinstance(kind, type):
    return True  # Nothing that could be held to.
  if isinstance(value, gin.config.ConfigurableReference):
    return value.evaluate or _takes_uncalled(value, kind)
  if kind in (int, float):
    numbers = (int,) if kind is int else (int, float)
    return isinstance(value, numbers) and not isinstance(value, bool)
  if kind is Sequence:
    return isinstance(value, list | tuple) and all(
      _fits(item, argument) for item in value for argument in arguments
    )
  try:
    return isinstance(value, kind)
  except TypeError:  # A protocol.
    return True


def _takes_uncalled(reference: gin.config.ConfigurableReference, kind) -> bool:
  """Whether a parameter of a kind can be @f, not @f()."""
  if kind is Callable:
    return True
  made = reference.configurable.wrapped
  forgot_to_call = isinstance(made, type) and issubclass(made, kind)
  return kind not in (*_IN_WORDS, Sequence) and not forgot_to_call


def _in_words(hint: Any) -> str:
  arguments = typing.get_args(hint)
  kind = typing.get_origin(hint) or hint
  if kind in (typing.Union, types.UnionType):
    return ' or '.join(_in_words(argument) for argument in arguments)
  if kind is Callable:
    return 'a function or class such as @name'
  if kind is Sequence:
    return f'a tuple, each item {" ".join(map(_in_words, arguments))}'
  return _IN_WORDS.get(kind, 'an object such as @name()')


def _out_of_range(value: Any, name: str, parameter) -> str:
  """What the number should be, or '' if it is or is none."""
  values = value if isinstance(value, list | tuple) else [value]
  for item in values:
    if name in _POSITIVE | _FRACTIONS and isinstance(item, str):
      return 'a number'
    if isinstance(item, bool) or not isinstance(item, int | float):
      continue
    if name in _FRACTIONS and not 0 <= item <= 1:
      return 'between 0 and 1'
    if name in _POSITIVE and not item > 0:
      return 'more than 0'
    if name in _SIGNED:
      continue
    if item < 0 and parameter and parameter.annotation is not parameter.empty:
      return '0 or more'
  return ''
