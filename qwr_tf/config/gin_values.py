"""Whether the values of a configuration can be meant: names, types, ranges."""

import inspect
import re
import types
import typing
from collections.abc import Callable, Sequence
from typing import Any

import gin

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


def problem(config: dict[tuple[str, str], dict[str, Any]]) -> str:
  """Holds every binding to its parameter's annotation and range.

  Args:
    config: as gin hands it to its finalize hooks: bindings by name, by (scope,
      selector).

  Returns:
    The first binding that does not fit and what it must be; '' if all fit.

  Raises:
    ValueError: for a parameter that does not exist, in gin's own words.
  """
  for (scope, selector), bindings in config.items():
    known, are_all = parameters(gin.get_configurable(selector))
    for name, value in bindings.items():
      parameter = known.get(name)
      if are_all and parameter is None:
        raise ValueError(
          f"Configurable '{selector}' doesn't have a parameter named '{name}'."
        )
      value = _resolve(value, config)
      wanted = parameter and _misfit(value, parameter)
      if wanted := wanted or _out_of_range(value, name, parameter):
        key = f'{scope}/{selector}'.removeprefix('/')
        key = re.sub(r'[\w.]+\.(?=\w+$)', '', key)
        return f'{key}.{name} must be {wanted}, not {value!r}.'
  return ''


def parameters(made: Any) -> tuple[dict[str, inspect.Parameter], bool]:
  """What a function or class takes, and whether that is all.

  The **kwargs of a class of this package are its base class's parameters.
  """
  known: dict[str, inspect.Parameter] = {}
  for owner in made.__mro__ if isinstance(made, type) else (made,):
    found = _signature(owner)
    known = {**found, **known}
    if all(p.kind is not p.VAR_KEYWORD for p in found.values()):
      return known, True
    if not owner.__module__.startswith('qwr_tf.agents'):
      break
  return known, False


def _signature(made: Any) -> dict[str, inspect.Parameter]:
  if not isinstance(made, type):
    return dict(inspect.signature(made).parameters)
  # gin gives the classes of libraries a metaclass that takes anything.
  constructor = inspect.unwrap(made.__init__)  # type: ignore[misc]
  return dict(list(inspect.signature(constructor).parameters.items())[1:])


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
