"""Who may import whom, and that BUILD says the same as the imports.

The files are parsed, not imported. Every fault is a line that names the fix,
so `pytest tests/architecture_test.py` is also the way to see what BUILD
lacks after a module was added.
"""

import ast
import graphlib
import pathlib

import pytest

_ROOT = pathlib.Path(__file__).resolve().parents[1]

# Room -> floor. Imports point down; rooms of one floor may know each other,
# except on floor 1, where each can be replaced without the others.
_FLOORS = {
  'qwr_tf': 0,
  'qwr_tf.ops': 0,
  'qwr_tf.atomic_files': 0,
  'qwr_tf.errors': 0,
  'qwr_tf.networks': 1,
  'qwr_tf.environments': 1,
  'qwr_tf.replay': 1,
  'qwr_tf.datasets': 1,
  'qwr_tf.agents': 2,
  'qwr_tf.algorithms': 3,
  'qwr_tf.collect': 3,
  'qwr_tf.evaluate': 3,
  'qwr_tf.bad_batch': 3,
  'qwr_tf.checkpoint_files': 3,
  'qwr_tf.checkpoints': 3,
  'qwr_tf.deadlines': 3,
  'qwr_tf.interruption': 3,
  'qwr_tf.provenance': 3,
  'qwr_tf.run_lock': 3,
  'qwr_tf.learning_curve': 3,
  'qwr_tf.metrics': 3,
  'qwr_tf.numpy_actor': 3,
  'qwr_tf.gin_files': 3,
  'qwr_tf.gin_values': 3,
  'qwr_tf.run_folder': 3,
  'qwr_tf.experiment': 3,
  'qwr_tf.offline': 3,
  'qwr_tf.recording': 3,
  'qwr_tf.reporting': 3,
  'qwr_tf.serving': 3,
  'qwr_tf.sweeping': 3,
  'qwr_tf.command': 4,
  'qwr_tf.distributed': 4,
  'qwr_tf.launch': 4,
  'qwr_tf.record': 4,
  'qwr_tf.report': 4,
  'qwr_tf.strategies': 4,
  'qwr_tf.sweep': 4,
  'qwr_tf.sweep_flags': 4,
  'qwr_tf.train': 4,
  'qwr_tf.training_run': 4,
  'qwr_tf.video': 4,
  'export': 5,
}

# Import -> the only files that may have it. Flags belong to what is run.
_ONLY_IN = {
  'reverb': ('qwr_tf/replay/',),
  'gymnasium': ('qwr_tf/environments/', 'export/run_policy.py'),
  'absl.flags': (
    'qwr_tf/command.py',
    'qwr_tf/distributed/__main__.py',
    'qwr_tf/distributed/role_flags.py',
    'qwr_tf/launch.py',
    'qwr_tf/record.py',
    'qwr_tf/report.py',
    'qwr_tf/strategies.py',
    'qwr_tf/sweep.py',
    'qwr_tf/sweep_flags.py',
    'qwr_tf/train.py',
    'export/',
  ),
}

_MAX_FILE_LINES = 300
_MAX_FUNCTION_LINES = 30  # Below signature and docstring.
_ALGORITHM = 'iterate'  # The paper's Algorithm 2, which is read in one piece.


def _modules(root):
  """Returns {module name: path below root} of qwr_tf/ and export/."""
  modules = {}
  for folder in ('qwr_tf', 'export'):
    for file in sorted((root / folder).rglob('*.py')):
      path = file.relative_to(root)
      parts = path.with_suffix('').parts
      name = '.'.join(parts[:-1] if parts[-1] == '__init__' else parts)
      modules[name] = str(path)
  return modules


def _imports(root, name, path):
  """Yields (imported name, line); `from a import b` is `a.b`."""
  package = (
    name.split('.') if path.endswith('__init__.py') else (name.split('.')[:-1])
  )
  for node in ast.walk(ast.parse((root / path).read_text('utf-8'))):
    if isinstance(node, ast.Import):
      for alias in node.names:
        yield alias.name, node.lineno
    elif isinstance(node, ast.ImportFrom):
      above = package[: len(package) - node.level + 1] if node.level else []
      base = '.'.join(above + ([node.module] if node.module else []))
      for alias in node.names:
        yield f'{base}.{alias.name}', node.lineno


def _longest_prefix(name, known):
  """Returns the member of `known` that is `name` or an ancestor of it."""
  parts = name.split('.')
  ancestors = ('.'.join(parts[:n]) for n in range(len(parts), 0, -1))
  return next((a for a in ancestors if a in known), None)


def _room(name):
  """Returns the room of a module; the package itself is one on its own."""
  room = _longest_prefix(name, _FLOORS)
  return None if room == 'qwr_tf' and name != 'qwr_tf' else room


def _floor_faults(root):
  for name, path in _modules(root).items():
    room = _room(name)
    if room is None:
      yield f'{path}: has no floor; add {name} to _FLOORS in {__name__}.py'
      continue
    for imported, line in _imports(root, name, path):
      target = _room(imported)
      if target in (None, room):
        continue
      floor, below = _FLOORS[room], _FLOORS[target]
      if below > floor:
        yield (
          f'{path}:{line}: {room} (floor {floor}) imports {target} (floor '
          f'{below}); hand it in as an argument or move it down'
        )
      elif below == floor == 1:
        yield (
          f'{path}:{line}: {room} imports its sibling {target}; hand it in '
          'as an argument'
        )


def _place_faults(root):
  for name, path in _modules(root).items():
    for imported, line in _imports(root, name, path):
      for limited, places in _ONLY_IN.items():
        if f'{imported}.'.startswith(f'{limited}.') and not path.startswith(
          places
        ):
          yield (
            f'{path}:{line}: imports {limited}; only {", ".join(places)} may'
          )


def _body_lines(node):
  """Lines of a function below its signature and docstring."""
  documented = ast.get_docstring(node) is not None
  body = node.body[1:] if documented else node.body
  return node.end_lineno - body[0].lineno + 1 if body else 0


def _size_faults(root):
  for path in _modules(root).values():
    text = (root / path).read_text('utf-8')
    lines = len(text.splitlines())
    if lines > _MAX_FILE_LINES:
      yield f'{path}: {lines} lines, at most {_MAX_FILE_LINES}; split it'
    for node in ast.walk(ast.parse(text)):
      if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        length = _body_lines(node)
        if length > _MAX_FUNCTION_LINES and node.name != _ALGORITHM:
          yield (
            f'{path}:{node.lineno}: {node.name} has {length} lines, at most '
            f'{_MAX_FUNCTION_LINES}; split it'
          )


def _sources(root, node):
  """Returns the files of a `srcs`: a list of names or a glob."""
  if node is None:
    return []
  if isinstance(node, ast.List):
    return ast.literal_eval(node)
  keywords = {k.arg: ast.literal_eval(k.value) for k in node.keywords}

  def match(patterns):
    return {
      str(p.relative_to(root)) for glob in patterns for p in root.glob(glob)
    }

  found = match(ast.literal_eval(node.args[0]))
  return sorted(found - match(keywords.get('exclude', [])))


def _targets(root):
  """Returns {target: (srcs, deps)} of BUILD, which is Python to the parser."""
  targets = {}
  for node in ast.parse((root / 'BUILD').read_text('utf-8')).body:
    call = getattr(node, 'value', None)
    rule = getattr(getattr(call, 'func', None), 'id', None)
    if rule not in ('py_library', 'py_binary'):
      continue
    args = {keyword.arg: keyword.value for keyword in call.keywords}
    srcs = _sources(root, args.get('srcs'))
    above = 'tests/', 'examples/', 'benchmarks/'
    if not any(src.startswith(above) for src in srcs):
      deps = ast.literal_eval(args['deps']) if 'deps' in args else []
      deps = {dep.removeprefix(':') for dep in deps}
      targets[ast.literal_eval(args['name'])] = (srcs, deps)
  return targets


def _needs(root, modules, name, path):
  """Yields (file, line) that a file imports, packages on the way included."""
  imports = [(name, 1), *_imports(root, name, path)]
  for imported, line in imports:
    module = _longest_prefix(imported, modules)
    while module:
      yield modules[module], line
      module = _longest_prefix(module.rpartition('.')[0], modules)


def _build_faults(root):
  modules, targets = _modules(root), _targets(root)
  names = {path: name for name, path in modules.items()}
  owner = {}
  for target, (srcs, _) in targets.items():
    for path in srcs:
      if path not in names:
        yield f'BUILD: remove {path} from {target}; there is no such file'
      elif owner.setdefault(path, target) != target:
        yield f'BUILD: {path} is in {owner[path]} and in {target}; keep one'
  for path in sorted(set(names) - set(owner)):
    yield f'BUILD: {path} is in no target; add it to the srcs of one'
  for target, (srcs, deps) in targets.items():
    reasons = {}
    for path in filter(names.get, srcs):
      for needed, line in _needs(root, modules, names[path], path):
        reasons.setdefault(owner.get(needed), f'{path}:{line}')
    # A target without sources gathers all others, for the tests to use.
    wanted = set(reasons if srcs else targets) - {target, None}
    for dep in sorted(wanted - deps):
      reason = reasons.get(dep, 'the tests')
      yield f'BUILD: add ":{dep}" to deps of "{target}" for {reason}'
    for dep in sorted(deps - wanted):
      yield f'BUILD: remove ":{dep}" from deps of "{target}"; not imported'
  try:
    graphlib.TopologicalSorter(
      {t: d for t, (_, d) in targets.items()}
    ).prepare()
  except graphlib.CycleError as error:
    yield f'BUILD: cycle {" -> ".join(error.args[1])}; break one import'


_CHECKS = [_floor_faults, _place_faults, _size_faults, _build_faults]


@pytest.mark.parametrize('check', _CHECKS)
def test_repository(check):
  faults = list(check(_ROOT))
  assert not faults, '\n' + '\n'.join(faults)


# The rest tests the test: each check passes a good tree and reports a bad one.

_BUILD = """
py_library(name = "package", srcs = ["qwr_tf/__init__.py"])
py_library(name = "ops", srcs = glob(["qwr_tf/ops/*.py"]), deps = [":package"])
py_library(
    name = "agents",
    srcs = glob(["qwr_tf/agents/*.py"]),
    deps = [":ops", ":package"],
)
"""
_GOOD = {
  'qwr_tf/__init__.py': '',
  'qwr_tf/ops/__init__.py': '',
  'qwr_tf/ops/weights.py': 'import math\n',
  'qwr_tf/agents/agent.py': 'from qwr_tf.ops import weights\n',
  'BUILD': _BUILD,
}


def _tree(root, files):
  for name, text in files.items():
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, 'utf-8')
  return root


@pytest.mark.parametrize('check', _CHECKS)
def test_good_tree_has_no_faults(check, tmp_path):
  assert not list(check(_tree(tmp_path, _GOOD)))


_UPWARD = 'from qwr_tf.agents import agent\n'
_LONG = 'def f():\n' + '  pass\n' * 41
_LONG_DOC = 'def f():\n  """Says\n' + '  more.\n' * 40 + '  """\n'


@pytest.mark.parametrize(
  ('check', 'path', 'text', 'fault'),
  [
    (_floor_faults, 'qwr_tf/ops/weights.py', _UPWARD, 'ops/weights.py:1'),
    (_floor_faults, 'qwr_tf/ops/weights.py', f'def f():\n  {_UPWARD}', ':2'),
    (_floor_faults, 'qwr_tf/ops/weights.py', 'from ..agents import a', ':1'),
    (_floor_faults, 'qwr_tf/ops/__init__.py', 'from ..agents import a', ':1'),
    (_floor_faults, 'qwr_tf/extra.py', '', 'has no floor'),
    (_place_faults, 'qwr_tf/ops/weights.py', 'import reverb', 'reverb'),
    (_place_faults, 'qwr_tf/agents/a.py', 'import gymnasium.spaces', ':1'),
    (_place_faults, 'qwr_tf/agents/a.py', 'from absl import flags', 'flags'),
    (_size_faults, 'qwr_tf/ops/weights.py', '\n' * 301, '301 lines'),
    (_size_faults, 'qwr_tf/ops/weights.py', _LONG, 'f has 41 lines'),
    (_build_faults, 'qwr_tf/extra.py', '', 'extra.py is in no target'),
    (_build_faults, 'BUILD', _BUILD.replace('":ops", ', ''), 'add ":ops"'),
    (_build_faults, 'qwr_tf/agents/agent.py', '', 'remove ":ops" from deps'),
    (
      _build_faults,
      'BUILD',
      _BUILD.replace('qwr_tf/__init__', 'qwr_tf/ops/weights'),
      'weights.py is in package and in ops',
    ),
    (
      _build_faults,
      'BUILD',
      _BUILD + 'py_library(name = "everything", deps = [":package", ":ops"])',
      'add ":agents" to deps of "everything" for the tests',
    ),
  ],
)
def test_bad_tree_is_reported(check, path, text, fault, tmp_path):
  faults = list(check(_tree(tmp_path, _GOOD | {path: text})))
  assert any(fault in line for line in faults), faults


def test_siblings_of_floor_1_are_reported(tmp_path):
  files = {
    'qwr_tf/networks/a.py': 'from qwr_tf.replay import b\n',
    'qwr_tf/replay/b.py': '',
  }
  (fault,) = _floor_faults(_tree(tmp_path, files))
  assert 'sibling' in fault


def test_cycle_is_reported(tmp_path):
  build = _BUILD.replace('deps = [":package"]', 'deps = [":agents"]')
  faults = list(_build_faults(_tree(tmp_path, _GOOD | {'BUILD': build})))
  assert any('cycle' in line for line in faults)


def test_docstrings_do_not_count(tmp_path):
  files = {'qwr_tf/ops/weights.py': _LONG_DOC}
  assert not list(_size_faults(_tree(tmp_path, files)))
