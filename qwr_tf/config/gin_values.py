"""Validates gin bindings: names, types, ranges."""

import inspect
import math
import re
import types
import typing
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal

import gin

from qwr_tf.config.ranges import Range

_NOT_NEGATIVE = Range()

# By class of a library: annotations of its parameters.
_LIBRARIES: dict[type, dict[str, Any]] = {}

_IN_WORDS = {
  int: 'a whole number',
  float: 'a number',
  bool: 'True or False',
  str: 'a text in quotes',
  types.NoneType: 'None',
}


def problem(config: dict[tuple[str, str], dict[str, Any]]) -> str:
  """Holds every binding to its parameter's annotation and range.

  Args:
    config: as gin holds it: bindings by name, by (scope, selector).

  Returns:
    The first binding that does not fit and what it must be; '' if all fit.

  Raises:
    ValueError: for a parameter that does not exist, in gin's own words.
  """
  for (scope, selector), bindings in config.items():
    by_name, are_all = parameters(gin.get_configurable(selector))
    for name, value in bindings.items():
      parameter = by_name.get(name)
      if are_all and parameter is None:
        raise ValueError(
          f"Configurable '{selector}' doesn't have a parameter named '{name}'."
        )
      value = _resolve(value, config)
      if parameter and value is parameter.default:
        continue
      hint = parameter.annotation if parameter else Any
      if wanted := _misfit(value, hint):
        key = f'{scope}/{selector}'.removeprefix('/')
        key = re.sub(r'[\w.]+\.(?=\w+$)', '', key)
        return f'{key}.{name} must be {wanted}, not {value!r}.'
  return ''


def annotate(target: type, hints: dict[str, Any]) -> None:
  """Registers types and ranges for the parameters of a library's class."""
  _LIBRARIES[target] = hints


def parameters(target: Any) -> tuple[dict[str, inspect.Parameter], bool]:
  """Parameters by name, and whether no further ones are accepted.

  The **kwargs of a class of this package are its base class's parameters.
  """
  by_name: dict[str, inspect.Parameter] = {}
  for owner in target.__mro__ if isinstance(target, type) else (target,):
    signature = _signature(owner)
    by_name = {**signature, **by_name}
    if all(p.kind is not p.VAR_KEYWORD for p in signature.values()):
      return by_name, True
    if not owner.__module__.startswith('qwr_tf.agents'):
      break
  return by_name, False


def _signature(target: Any) -> dict[str, inspect.Parameter]:
  if not isinstance(target, type):
    return dict(inspect.signature(target).parameters)
  # gin gives the classes of libraries a metaclass that takes anything.
  constructor = inspect.unwrap(target.__init__)  # type: ignore[misc]
  by_name = dict(list(inspect.signature(constructor).parameters.items())[1:])
  # gin derives its own class from the library's.
  hints = [_LIBRARIES[base] for base in target.__mro__ if base in _LIBRARIES]
  for name, hint in (hints[0] if hints else {}).items():
    default = inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY)
    by_name[name] = by_name.get(name, default).replace(annotation=hint)
  return by_name


def _resolve(value: Any, config) -> Any:
  """What a macro stands for; anything else as it is."""
  while str(value).startswith('%') and hasattr(value, 'config_key'):
    if value.config_key not in config:
      break  # One of gin's constants.
    value = config[value.config_key]['value']
  return value


def _misfit(value: Any, hint: Any, bounds: Range = _NOT_NEGATIVE) -> str:
  """What the value must be; '' if it is."""
  arguments, kind = typing.get_args(hint), _kind(hint)
  if kind is Annotated:
    return _misfit(value, *arguments)
  if kind is Literal:
    return '' if value in arguments else _in_words(hint)
  if kind in (typing.Union, types.UnionType):
    problems = {_misfit(value, a, bounds): _in_words(a) for a in arguments}
    of_range = [p for p, kind in problems.items() if p != kind]
    return min(of_range, default=_in_words(hint))
  if isinstance(value, gin.config.ConfigurableReference):
    fits = value.evaluate or _takes_uncalled(value, kind)
    return '' if fits else _in_words(hint)
  if kind is Sequence:
    items = value if isinstance(value, list | tuple) else [None]
    wrong = {_misfit(item, arguments[0], bounds) for item in items} - {''}
    is_of_kind = _in_words(arguments[0]) not in wrong
    return min(wrong, default='') if is_of_kind else _in_words(hint)
  if not _is_of_kind(value, kind):
    return _in_words(hint)
  is_number = isinstance(value, int | float) and not isinstance(value, bool)
  if kind not in (int, float):  # Of any sign.
    bounds = Range(-math.inf)
  return bounds.problem(value) if is_number else ''


def _kind(hint: Any) -> Any:
  """An annotation without its arguments; a protocol counts as a function."""
  kind = typing.get_origin(hint) or hint
  return Callable if getattr(kind, '_is_protocol', False) else kind


def _is_of_kind(value: Any, kind: Any) -> bool:
  if kind in (int, float):
    numbers = (int,) if kind is int else (int, float)
    return isinstance(value, numbers) and not isinstance(value, bool)
  if kind is Any or kind is inspect.Parameter.empty:
    return True
  return not isinstance(kind, type) or isinstance(value, kind)


def _takes_uncalled(reference: gin.config.ConfigurableReference, kind) -> bool:
  """True if a parameter of a kind can be @f, not @f()."""
  if kind is Callable or not isinstance(kind, type):
    return True
  target = reference.configurable.wrapped
  forgot_to_call = isinstance(target, type) and issubclass(target, kind)
  return kind not in (*_IN_WORDS, Sequence) and not forgot_to_call


def _in_words(hint: Any) -> str:
  arguments, kind = typing.get_args(hint), _kind(hint)
  if kind is Annotated:
    return _in_words(arguments[0])
  if kind is Literal:
    return ' or '.join(map(repr, arguments))
  if kind in (typing.Union, types.UnionType):
    return ' or '.join(_in_words(argument) for argument in arguments)
  if kind is Callable:
    return 'a function or class such as @name'
  if kind is Sequence:
    return f'a tuple, each item {" ".join(map(_in_words, arguments))}'
  return _IN_WORDS.get(kind, 'an object such as @name()')
