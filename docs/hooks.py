"""Pages that mkdocs generates from the code, and equations.

Nothing that this file writes is kept in the repository: a parameter's default
and meaning stand in the code alone.
"""

from __future__ import annotations

import inspect
import pathlib
import re
import subprocess
import sys
import typing

import gin
from latex2mathml import converter
from mkdocs.structure import files as mkdocs_files

_ROOT = pathlib.Path(__file__).resolve().parents[1]
_COMMANDS = (
  'train', 'play', 'export', 'check', 'evaluate', 'convert', 'record',
  'sweep', 'report', 'launch', 'presets',
)  # fmt: skip

# What a run reads, before networks and slots.
_FIRST = ('run', 'load_environment', 'Collector', 'iterate', 'QwrAgent')

_BLOCK = re.compile(r'^```math\n(.*?)^```$', re.DOTALL | re.MULTILINE)
_INLINE = re.compile(r'\$`(.+?)`\$')


def on_files(files, config):
  """Adds the generated pages."""
  pages = {
    'reference/commands.md': _commands,
    'reference/presets.md': _presets,
    'reference/parameters.md': _parameters,
  }
  for path, make in pages.items():
    files.append(mkdocs_files.File.generated(config, path, content=make()))
  # What stands outside of docs/, at the place that links of the pages name.
  for path in sorted((_ROOT / 'results').rglob('*.png')) + [
    _ROOT / 'results' / 'README.md'
  ]:
    name = f'results/{path.relative_to(_ROOT / "results")}'
    files.append(
      mkdocs_files.File.generated(config, name, abs_src_path=str(path))
    )
  return files


def on_page_markdown(markdown, **_):
  """Equations become MathML, which browsers draw without a script.

  Links to results/ and README's neighbours, which the site has copies of, are
  shortened by the folder docs/.
  """
  markdown = markdown.replace('](../../results/', '](../results/')
  markdown = _BLOCK.sub(
    lambda m: converter.convert(m[1].strip(), display='block') + '\n', markdown
  )
  return _INLINE.sub(lambda m: converter.convert(m[1]), markdown)


def _commands() -> str:
  """The --help of every command."""
  parts = [
    '# Commands\n\n`qwr_tf COMMAND [flags]` and `python -m qwr_tf COMMAND '
    '[flags]` are the same. [Exit codes](exit_codes.md) are those of all '
    'commands. A flag that can be repeated is written once for each value.\n'
  ]
  for name in _COMMANDS:
    done = subprocess.run(
      [sys.executable, '-m', 'qwr_tf', name, '--help'],
      capture_output=True,
      text=True,
      check=True,
      cwd=_ROOT,
    )
    first, _, rest = done.stdout.partition('\n')
    text = done.stdout if first.startswith('usage:') else rest
    text = re.sub(r'^(/.*:|flags:|Try --helpfull.*)\n\n?', '', text, flags=re.M)
    parts.append(f'## {name}\n\n')
    if text is rest or not first.startswith('usage:'):
      parts.append(f'{first.partition(": python")[0].rstrip(".")}.\n\n')
    parts.append(f'```text\n{text.strip()}\n```\n')
  return ''.join(parts)


def _presets() -> str:
  """Every gin file that --gin_file takes by name, and its purpose."""
  from qwr_tf.config import gin_files

  lines = [
    '# Presets\n\nThe gin files that `--gin_file` takes by name. [Choose a '
    'preset](../how-to/choose_preset.md) says which one fits what you have; '
    '`qwr_tf train --gin_file=NAME --print_config` prints every value of one.\n'
  ]
  folders: dict[str, list[str]] = {}
  for name in gin_files.presets():
    folders.setdefault(gin_files.find(name).parent.name, []).append(name)
  for folder in sorted(folders, key=lambda f: (f != 'qwr', f)):
    lines.append(f'\n## {folder}\n\n| preset | purpose |\n|---|---|\n')
    for name in folders[folder]:
      purpose = ' '.join(gin_files.purpose(name).split())
      lines.append(f'| `{name}` | {_cell(purpose)} |\n')
  return ''.join(lines)


def _parameters() -> str:
  """Every parameter that a gin file can set."""
  from qwr_tf.config import startup  # noqa: F401, before TensorFlow.

  # isort: split
  from qwr_tf import serving  # noqa: F401, its configurables.
  from qwr_tf.config import gin_values
  from qwr_tf.training import experiment  # noqa: F401, as above.

  by_module: dict[str, list[tuple[str, typing.Any]]] = {}
  # gin has no public list.
  for selector in sorted(gin.config._REGISTRY._selector_map):
    target = inspect.unwrap(gin.get_configurable(selector))
    module = target.__module__
    if module.startswith('qwr_tf.') or selector.startswith('tf.keras'):
      parts = module.split('.')
      room = '.'.join(parts[1:3]) if parts[0] == 'qwr_tf' else 'optimizers'
      by_module.setdefault(room, []).append((selector.split('.')[-1], target))

  def order(module):
    names = [name for name, _ in by_module[module]]
    firsts = [_FIRST.index(n) for n in names if n in _FIRST]
    return min(firsts, default=len(_FIRST)), module

  lines = [
    '# Parameters\n\nEvery parameter that a gin file, `--gin_bindings` or '
    '`qwr_tf.QWR(bindings=…)` can set, from the code. A binding is '
    '`name.parameter = value`, such as `run.interactions = 20_000`; '
    '`@name` stands for a function or class. Defaults are those of the code; a '
    'preset may have other values, and `qwr_tf train --gin_file=NAME '
    '--print_config` prints what a run will use.\n\nWhere a parameter has no '
    'unit in its meaning it is a pure number. *Interactions* are steps taken '
    'in the environment (on Atari: decisions, four frames each). Rewards and '
    'returns are in the environment\'s units.\n'
  ]  # fmt: skip
  for module in sorted(by_module, key=order):
    lines.append(f'\n## {_title(module)}\n')
    for name, target in by_module[module]:
      lines.append(_parameter_table(name, target, gin_values))
  return ''.join(lines)


def _title(module: str) -> str:
  return 'tf.keras.optimizers' if module == 'optimizers' else f'qwr_tf.{module}'


def _parameter_table(name: str, target: typing.Any, gin_values) -> str:
  rows = []
  for parameter in gin_values.parameters(target)[0].values():
    is_keras = not target.__module__.startswith('qwr_tf')
    if parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
      continue
    if parameter.name in ('batch', 'name') or (
      parameter.default is parameter.empty and not is_keras
    ):
      continue  # The caller's.
    meaning = _meaning(target, parameter.name)
    if not meaning:
      raise ValueError(f'no docstring says what {name}.{parameter.name} means')
    default = _default(parameter.default)
    kind = _kind(parameter.annotation)
    rows.append(
      f'| `{parameter.name}` | {default} | {_cell(kind)} | {_cell(meaning)} |'
    )
  purpose = inspect.getdoc(target) or ''
  first = ' '.join(purpose.partition('\n\n')[0].split())
  text = f'\n### {name}\n\n{_text(first)}\n'
  if rows:
    header = '\n| parameter | default | type | meaning |\n|---|---|---|---|\n'
    text += header + '\n'.join(rows) + '\n'
  return text


# Parameters of Keras' optimisers whose docstrings gin does not see.
_KERAS = {
  'clipnorm': 'largest norm of the gradient of each variable',
  'global_clipnorm': 'largest norm of the gradient of all variables together',
}


def _meaning(target: typing.Any, parameter: str) -> str:
  """From the docstring, else from that of a relative in the same module."""
  from qwr_tf import networks
  from qwr_tf.config import effective
  from qwr_tf.networks import actors

  module = sys.modules.get(target.__module__)
  relatives = [x for x in vars(module).values() if callable(x)]
  own = [x for x in relatives if x.__module__ == target.__module__]
  candidates = [target, *own, networks.GatedQNetwork, actors.GaussianHead]
  meanings = (effective.meaning(x, parameter) for x in candidates)
  return next(filter(None, meanings), _KERAS.get(parameter, ''))


def _default(value: typing.Any) -> str:
  if value is inspect.Parameter.empty:
    return '–'
  if callable(value) and hasattr(value, '__name__'):
    return f'`@{value.__name__}`'
  if value is gin.REQUIRED:
    return 'required'
  if type(value).__module__ not in ('builtins',):
    return f'`{type(value).__name__}`'
  return f'`{value!r}`'


def _kind(hint: typing.Any) -> str:
  """A type in a few words, with its range."""
  if hint is inspect.Parameter.empty or hint is typing.Any:
    return ''
  if typing.get_origin(hint) is typing.Annotated:
    base, bounds = typing.get_args(hint)[:2]
    return f'{_kind(base)} {_range(bounds)}'
  arguments = typing.get_args(hint)
  if typing.get_origin(hint) is typing.Literal:
    return ' or '.join(f'`{a!r}`' for a in arguments)
  origin = str(getattr(typing.get_origin(hint), '__name__', ''))
  if origin in ('Union', 'UnionType'):
    return ' or '.join(_kind(a) for a in arguments)
  if origin in ('Callable',) or getattr(hint, '_is_protocol', False):
    return '@function'
  if origin:
    inner = ', '.join(_kind(a) for a in arguments if a is not ...)
    return f'{origin.lower()} of {inner}' if inner else origin.lower()
  if hint is type(None):
    return 'None'
  name = getattr(hint, '__name__', str(hint))
  return '@function' if name == 'Callable' else name


def _range(bounds: typing.Any) -> str:
  """`> 0`, `≥ 1` or `0 to 1`; '' for every number."""
  if bounds.high < float('inf'):
    return f'{bounds.low} to {bounds.high}'
  if bounds.low == -float('inf'):
    return ''
  return f'{">" if bounds.is_open else "≥"} {bounds.low}'


def _cell(text: str) -> str:
  return _text(text).replace('|', '\\|')


def _text(text: str) -> str:
  return re.sub(r'[<>{}*_](?![^`]*`)', lambda m: f'\\{m[0]}', text)
