"""Pages that mkdocs generates from the code, equations, and links.

Nothing that this file writes is kept in the repository: a parameter's default
and meaning stand in the code alone.
"""

from __future__ import annotations

import inspect
import pathlib
import posixpath
import re
import subprocess
import sys
import typing

import gin
from latex2mathml import converter
from mkdocs.structure import files as mkdocs_files

_ROOT = pathlib.Path(__file__).resolve().parents[1]
# What a run reads, before networks and slots.
_FIRST = ('run', 'load_environment', 'Collector', 'iterate', 'QwrAgent')

# What stands outside of docs/, and its place on the site.
_OUTSIDE = {
  'CHANGELOG.md': 'changelog.md',
  'qwr_tf/distributed/README.md': 'qwr_tf/distributed/README.md',
  'results/README.md': 'results/README.md',
}

_BLOCK = re.compile(r'^```math\n(.*?)^```$', re.DOTALL | re.MULTILINE)
_INLINE = re.compile(r'\$`(.+?)`\$')


def on_files(files, config):
  """Adds the generated pages."""
  pages = {
    'reference/commands.md': _commands,
    'reference/presets.md': _presets,
    'reference/parameters.md': _parameters,
    'licence.md': _licence,
  }
  for path, make in pages.items():
    files.append(mkdocs_files.File.generated(config, path, content=make()))
  pictures = sorted((_ROOT / 'results').rglob('*.png'))
  names = (path.relative_to(_ROOT).as_posix() for path in pictures)
  for source, name in {**_OUTSIDE, **{name: name for name in names}}.items():
    path = str(_ROOT / source)
    files.append(mkdocs_files.File.generated(config, name, abs_src_path=path))
  return files


def on_page_markdown(markdown, page, **_):
  """Equations become MathML, which browsers draw without a script.

  Links to what stands outside of docs/ are shortened by that folder.
  """
  markdown = re.sub(r'\]\(\.\./\.\./(results|qwr_tf)/', r'](../\1/', markdown)
  if page.file.src_uri == 'results/README.md':  # Tables of the other pages.
    page.meta['search'] = {'exclude': True}
  markdown = _BLOCK.sub(
    lambda m: converter.convert(m[1].strip(), display='block') + '\n', markdown
  )
  return _INLINE.sub(lambda m: converter.convert(m[1]), markdown)


def on_page_content(html, page, files, **_):
  """Mends links of notebooks to pages; mkdocs mends those of Markdown."""
  here = page.file
  if not here.src_uri.endswith('.ipynb'):
    return html

  def mended(match):
    place = posixpath.join(posixpath.dirname(here.src_uri), match[1])
    target = files.get_file_from_path(posixpath.normpath(place))
    return f'href="{target.url_relative_to(here)}' if target else match[0]

  return re.sub(r'href="([^":#]+\.(?:md|ipynb))', mended, html)


def _licence() -> str:
  """The licence, and how to cite."""
  citation, licence = (
    (_ROOT / name).read_text('utf-8').strip()
    for name in ('CITATION.cff', 'LICENSE')
  )
  return (
    f'# Licence and citation\n\n`CITATION.cff`:\n\n```yaml\n{citation}\n```\n\n'
    f'```text\n{licence}\n```\n'
  )


def _commands() -> str:
  """The --help of every command."""
  parts = [
    '# Commands\n\n`qwr_tf COMMAND [flags]` and `python -m qwr_tf COMMAND '
    '[flags]` are the same. [Exit codes](exit_codes.md) are those of all '
    'commands. A flag that can be repeated is written once for each value.\n'
  ]
  for name in sorted(re.findall(r'^  (\w+) ', _help(), re.MULTILINE)):
    first, _, text = _help(name).partition('\n')
    text = re.sub(r'^(/.*:|flags:|Try --helpfull.*)\n\n?', '', text, flags=re.M)
    purpose = first.partition(': python')[0].rstrip('.')
    parts.append(f'## {name}\n\n{purpose}.\n\n```text\n{text.strip()}\n```\n')
  return ''.join(parts)


def _help(*command: str) -> str:
  """The output of `qwr_tf COMMAND --help`."""
  done = subprocess.run(
    [sys.executable, '-m', 'qwr_tf', *command, '--help'],
    capture_output=True,
    text=True,
    check=True,
    cwd=_ROOT,
  )
  return done.stdout


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
      lines.append(_parameter_table(name, target))
      if name == 'load_environment':
        lines += _environments()
  return ''.join(lines)


def _environments() -> list[str]:
  """Arguments that `load_environment` passes on to the environment."""
  from qwr_tf.environments import atari
  from qwr_tf.environments import bitflip
  from qwr_tf.environments import no_simulator

  families = {
    'Atari (`ALE/<Game>-v5`)': atari.make,
    '`NoSimulator`': no_simulator.NoSimulatorEnv.__init__,
    '`BitFlip-<N>`': bitflip.BitFlipEnv.__init__,
  }
  lines = [
    '\nFurther parameters go to the environment. One of gymnasium takes '
    '`max_episode_steps` and the arguments of its constructor; these families '
    'have parameters of their own:\n'
  ]
  for family, make in families.items():
    lines.append(f'\n### load_environment: {family}\n{_table(make)}')
  return lines


def _title(module: str) -> str:
  return 'tf.keras.optimizers' if module == 'optimizers' else f'qwr_tf.{module}'


def _parameter_table(name: str, target: typing.Any) -> str:
  purpose = inspect.getdoc(target) or ''
  first = ' '.join(purpose.partition('\n\n')[0].split())
  return f'\n### {name}\n\n{_text(first)}\n{_table(target)}'


def _table(target: typing.Any) -> str:
  """Parameters of a function or class; '' if it has none."""
  from qwr_tf.config import gin_values

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
      raise ValueError(f'no docstring says what {target}: {parameter} means')
    default = _default(parameter.default)
    kind = _kind(parameter.annotation)
    rows.append(
      f'| `{parameter.name}` | {default} | {_cell(kind)} | {_cell(meaning)} |'
    )
  if not rows:
    return ''
  header = '\n| parameter | default | type | meaning |\n|---|---|---|---|\n'
  return header + '\n'.join(rows) + '\n'


# Keras' own docstrings begin with types, and gin does not see all of them.
_KERAS = {
  'learning_rate': 'step size, a number or a schedule such as '
  '`@PolynomialDecay()`',
  'beta_1': 'decay per step of the mean of gradients; larger is a longer mean',
  'beta_2': 'decay per step of the mean of squared gradients',
  'epsilon': 'added to the root of that mean; with a larger one small '
  'gradients count less',
  'amsgrad': 'divide by the largest mean of squared gradients so far',
  'momentum': 'share of the last step that is added to the next',
  'nesterov': "Nesterov's form of momentum",
  'weight_decay': 'share of a weight that is taken off per step, times the '
  'step size',
  'clipnorm': 'largest norm of the gradient of each variable',
  'clipvalue': 'largest magnitude of each element of a gradient',
  'global_clipnorm': 'largest norm of the gradient of all variables together',
  'use_ema': 'keep a moving average of the weights, and put it in their place',
  'ema_momentum': 'decay of that average per step',
  'ema_overwrite_frequency': 'steps between these replacements; None: only '
  'when the program asks for it',
  'jit_compile': 'compile the step with XLA',
  'initial_learning_rate': 'step size at the beginning',
  'decay_steps': 'steps over which it falls; `@steps_in_run()`: the whole run',
  'end_learning_rate': 'step size from then on',
  'power': 'of the polynomial; 1 is a straight line',
  'cycle': 'begin again at the end instead of staying there',
}


def _meaning(target: typing.Any, parameter: str) -> str:
  """From the docstrings of the class and its bases, else of its like."""
  from qwr_tf.config import effective

  if not target.__module__.startswith('qwr_tf'):
    return _KERAS.get(parameter, '')
  meanings = (effective.meaning(x, parameter) for x in [target, *_like(target)])
  return next(filter(None, meanings), '')


def _like(target: typing.Any) -> typing.Iterator[typing.Any]:
  """Whose docstring has the parameters that a target does not repeat."""
  from qwr_tf.networks import actors
  from qwr_tf.networks import critics

  if not isinstance(target, type):  # Variants of a function share a module.
    functions = vars(sys.modules[target.__module__]).values()
    yield from (f for f in functions if inspect.isfunction(f))
  elif issubclass(target, critics.Critic):
    yield critics.GatedQNetwork
  elif issubclass(target, actors.Actor):
    yield actors.ActorNetwork
  elif 'Head' in target.__name__:
    yield actors.GaussianHead


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
    kinds = (_kind(a) for a in arguments if a is not ...)
    inner = ', '.join(filter(None, kinds))
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
