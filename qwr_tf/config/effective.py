"""The effective configuration: every value of a run, bound or default."""

import copy
import inspect
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import gin

from qwr_tf.config import gin_files
from qwr_tf.config import gin_values

_LITERALS = (bool, int, float, str, tuple, list, dict, type(None))
_COMMENT_COLUMN = 48

# Parameters that are arguments of a call rather than settings.
_BY_CALLERS = ('batch', 'name')


class Value(NamedTuple):
  """One parameter of one configurable within its scope.

  Attributes:
    name: such as 'critic/Adam.learning_rate'.
    text: the value as a gin file has it.
    comment: the value's source and meaning.
  """

  name: str
  text: str
  comment: str


def value(selector: str, parameter: str) -> Any:
  """The argument of a configurable: its binding, else its default."""
  bound = gin.get_bindings(selector, resolve_references=False)
  if parameter in bound:
    return copy.deepcopy(bound[parameter])  # gin calls what it refers to.
  return gin_values.parameters(gin.get_configurable(selector))[0][
    parameter
  ].default


def page(values: Sequence[Value]) -> str:
  """A gin file of the values with their comments."""
  lines: list[str] = []
  owner = ''
  for name, text, comment in values:
    if name.rpartition('.')[0] != owner:
      owner = name.rpartition('.')[0]
      lines.append('')
    lines.append(f'{f"{name} = {text}":<{_COMMENT_COLUMN}}  # {comment}')
  return '\n'.join(lines[1:])


def values(roots: Sequence[str], makers: Mapping[str, Callable]) -> list[Value]:
  """Values of the roots and of the configurables that they refer to.

  Values that functions of this package compute, such as a schedule's length,
  are given as numbers.

  Args:
    roots: configurables that a run calls.
    makers: by configurable, the function that gets its **kwargs.
  """
  values_by_name: dict[str, Value] = {}
  for root in roots:
    values_by_name.update((v.name, v) for v in _values(root, '', makers, set()))
  return list(values_by_name.values())


def _values(
  selector: str, scope: str, makers: Mapping[str, Callable], seen: set
) -> Iterator[Value]:
  """Depth first: a configurable's values, then those of what they name."""
  if (scope, selector) in seen:
    return
  seen.add((scope, selector))
  owner = f'{scope}/{_short(selector)}'.lstrip('/')
  bound = gin.get_bindings(f'{scope}/{selector}'.lstrip('/'), False)
  callables = [gin.get_configurable(selector)]
  callables += filter(None, [makers.get(selector)])
  parameters = {
    k: p for f in callables for k, p in gin_values.parameters(f)[0].items()
  }
  defaults = {
    n: p.default for n, p in parameters.items() if p.default is not p.empty
  }
  fixed = set(getattr(callables[0], 'fixed_parameters', ())) - set(bound)
  references = []
  for name, raw in {**defaults, **bound}.items():
    is_by_caller = name in _BY_CALLERS and name not in bound
    if (
      is_by_caller
      or name in fixed
      or gin_files.is_set_by_trainer(f'{owner}.{name}')
    ):
      continue
    if name in bound:
      comment = _source(scope, selector, name, raw)
    else:
      texts = (meaning(f, name) for f in callables)
      comment = f'default: {next(filter(None, texts), "")}'.removesuffix(': ')
    raw, computed = _evaluated(raw, scope)
    reference = _reference(raw)
    if reference:
      references.append((reference.split('/')[-1].strip('@()'), raw))
      text = reference
    elif type(raw) in _LITERALS:
      text = repr(raw)
    else:
      continue
    yield Value(f'{owner}.{name}', text, f'{computed}{comment}')
  for name, raw in references:
    scopes = getattr(raw, 'scopes', None)
    inner = '/'.join(scopes) if scopes else scope
    yield from _values(name, inner, makers, seen)


def _evaluated(raw: Any, scope: str) -> tuple[Any, str]:
  """The value of a macro or of a call to our function, and its name."""
  if not getattr(raw, 'evaluate', False):
    return raw, ''
  wrapped = raw.configurable.wrapped
  is_macro = str(raw).startswith('%')
  is_ours = wrapped.__module__.startswith('qwr_tf.')
  if not is_macro and (isinstance(wrapped, type) or not is_ours):
    return raw, ''
  if is_macro:
    inner = gin.get_bindings(raw.scoped_selector, False)['value']
    return _evaluated(inner, scope)
  with gin.config_scope(scope):
    return raw.scoped_configurable_fn(), f'{raw}, '


def _reference(raw: Any) -> str:
  """A configurable as a gin file names it; '' for anything else."""
  if isinstance(raw, gin.config.ConfigurableReference):
    return str(raw)
  if not callable(raw):
    return ''
  name = f'{raw.__module__}.{raw.__name__}'
  return f'@{_short(name)}' if gin_files.is_configurable(name) else ''


def _short(selector: str) -> str:
  """The shortest name of a configurable that is not ambiguous."""
  parts = selector.split('.')
  names = ('.'.join(parts[-i:]) for i in range(1, len(parts)))
  return next(filter(gin_files.is_configurable, names), selector)


def _source(scope: str, selector: str, parameter: str, raw: Any) -> str:
  """File and comment of a binding, of the macro if its value is one."""
  source = gin_files.source(scope, selector, parameter)
  while str(raw).startswith('%') and hasattr(raw, 'scopes'):
    source = gin_files.source('', '/'.join(raw.scopes), '') or source
    raw = gin.get_bindings(raw.scoped_selector, False)['value']
  return source


def meaning(configurable: Any, parameter: str) -> str:
  """The first sentence about a parameter in a docstring."""
  configurable = inspect.unwrap(configurable)
  owners = (
    configurable.__mro__ if isinstance(configurable, type) else (configurable,)
  )
  for owner in owners:
    for text in (
      owner.__doc__,
      getattr(vars(owner).get('__init__'), '__doc__', ''),
    ):
      pattern = rf'^ +`?{parameter}`?: (.+?)(?=\n *\w+: |\n\n|\n? *\Z)'
      if match := re.search(pattern, text or '', re.DOTALL | re.MULTILINE):
        sentence = ' '.join(match[1].split())
        return re.split(r'\.(?= |$)|; see ', sentence)[0]
  return ''
