"""Compares an exported policy with its run.

    python -m qwr_tf.check --policy=runs/.../policy [--run=runs/...]

Prints signatures, sizes and latencies, and compares every answer with the
checkpoint the policy came from, on states that the policy visits and on some
that it does not: zeros, ±1e30, NaN and Inf. Exit codes: 0 all within the
tolerances, 2 bad input, 1 not the same policy.
"""

from qwr_tf.config import startup  # noqa: F401, before TensorFlow.

# isort: split
import functools
import pathlib
import sys
from collections.abc import Iterator
from typing import Any

from absl import flags

from qwr_tf.config import command

flags.declare_key_flag('trust_module')
_POLICY = flags.DEFINE_string(
  'policy', None, 'A version, or a folder of them, whose newest is taken.'
)
_RUN = flags.DEFINE_string(
  'run', None, 'Run it came from; default: the one it lies in.'
)
_STATES = flags.DEFINE_integer(
  'states', 1000, 'Visited states to compare on.', lower_bound=1
)
_SEED = flags.DEFINE_integer('seed', 0, 'Of the visited states.', lower_bound=0)
command.answer_help(__name__)

# isort: split
import numpy as np
import tensorflow as tf
import tree

from qwr_tf import serving
from qwr_tf.config.errors import ConfigError
from qwr_tf.runs import run_json
from qwr_tf.serving import checks
from qwr_tf.serving import conversions
from qwr_tf.serving import metadata
from qwr_tf.serving import signatures
from qwr_tf.serving import versions
from qwr_tf.training import experiment

_BATCH_SIZES = (1, 8, 64)


def _root_dir(version: pathlib.Path) -> pathlib.Path:
  if _RUN.value:
    return pathlib.Path(_RUN.value)
  run = version.resolve().parent.parent
  if not (run / 'run.json').is_file():
    raise ConfigError(
      f'{version} does not lie in its run; give that with --run.'
    )
  return run


def _facts_of_the_run(
  version: pathlib.Path, root_dir: pathlib.Path
) -> dict[str, Any]:
  """run.json of the run that an export comes from.

  Raises:
    ConfigError: if it is the run of another policy.
  """
  facts, recorded = run_json.required(root_dir), metadata.read(version)
  for name in ('environment', 'config'):
    if recorded.get(name) != facts[name]:
      raise ConfigError(
        f'{version} does not come from {root_dir}: another {name}; give its '
        'run with --run.'
      )
  return facts


def _print_sizes(version: pathlib.Path) -> None:
  files = sorted(p for p in version.rglob('*') if p.is_file())
  print(f'size  {sum(p.stat().st_size for p in files) / 1e6:.2f} MB')
  for path in files:
    kilobytes = path.stat().st_size / 1e3
    print(f'  {kilobytes:9.1f} kB  {path.relative_to(version)}')


def _print_signatures(signatures: dict[str, Any]) -> None:
  for name, function in signatures.items():
    inputs = function.structured_input_signature[1].values()
    outputs = function.structured_outputs.items()
    given = ', '.join(f'{s.name} {_in_words(s)}' for s in inputs)
    results = ', '.join(f'{n} {_in_words(s)}' for n, s in outputs)
    print(f'signature  {name}: {given} -> {results}')


def _in_words(spec: tf.TensorSpec) -> str:
  sizes = ', '.join('B' if n is None else str(n) for n in spec.shape)
  return f'{spec.dtype.name} [{sizes}]'


def _print_latencies(act, observations: Any, bare=None) -> None:
  """Prints milliseconds per call, and how much longer than a bare network."""
  for size in _BATCH_SIZES:
    batch = tree.map_structure(
      lambda x, size=size: np.resize(x, (size, *x.shape[1:])), observations
    )
    seconds = act(batch)
    line = f'latency  B = {size:2}: {1e3 * seconds:.3f} ms'
    if bare is not None:
      line += f', {seconds / bare(batch):.2f} of the bare network'
    print(line)


def _check_saved_model(version, agent, space, observations) -> Iterator[str]:
  """Prints; yields what is not as it should be."""
  try:
    exported = tf.saved_model.load(str(version)).signatures
  except (OSError, ValueError, LookupError, tf.errors.OpError) as error:
    raise conversions.unreadable(version, error) from error
  _print_signatures(exported)
  serve, network = exported['serving_default'], checks.bare_network(agent)

  def act(batch):
    inputs = {k: tf.constant(x) for k, x in signatures.feed(batch).items()}
    return checks.latency(lambda: serve(**inputs))

  def bare(batch):
    batch = tree.map_structure(tf.constant, batch)
    return checks.latency(lambda: network(batch))

  _print_latencies(act, observations, bare)
  for name, *pair in checks.signature_outputs(
    agent, space, exported, observations
  ):
    largest = checks.difference(*pair).largest
    print(f'difference  {name}: {largest:.1e}')
    if not largest <= checks.TOLERANCE:  # Or NaN.
      yield f'{name} differs by {largest:.1e}'
  unusual = checks.unusual_observations(observations)
  try:
    for name, expected, answers in checks.signature_outputs(
      agent, space, exported, unusual
    ):
      if not checks.answers_alike(expected, answers, checks.TOLERANCE):
        yield f'{name} differs on states that no policy visits'
  except tf.errors.InvalidArgumentError:
    if metadata.answers_every_row(version):
      raise
    # An export of version 0.1 refuses the batch.


def _check_converted(
  version, act, is_int8, agent, space, observations
) -> Iterator[str]:
  """Prints; yields what is not as it should be."""
  _print_latencies(
    lambda batch: checks.latency(functools.partial(act, batch)), observations
  )
  expected = checks.actions(agent, space, observations)
  apart = checks.difference(expected, act(observations))
  unusual = checks.unusual_observations(observations)
  if not checks.answers_alike(
    checks.actions(agent, space, unusual),
    act(unusual),
    np.inf if is_int8 else checks.CONVERTED_TOLERANCE,
  ):
    if metadata.answers_every_row(version):
      yield 'differs on states that no policy visits'
    else:
      print(
        'warning: takes an action where an observation is NaN or Inf, as '
        'exports of version 0.1 do; export the policy again.',
        file=sys.stderr,
      )
  if np.issubdtype(expected.dtype, np.integer):
    print(f'same action  {100 * apart.agreement:.2f} % of the states')
    wanted = checks.INT8_MIN_AGREEMENT if is_int8 else 1.0
    if apart.agreement < wanted:
      yield f'the same action in {100 * apart.agreement:.2f} % of the states'
    return
  share = checks.relative_to_range(apart.mean, space)
  print(
    f'difference  largest {apart.largest:.1e}, mean {100 * share:.3f} % of '
    'the range'
  )
  if is_int8 and not share <= checks.INT8_MAX_MEAN_DIFFERENCE:  # Or NaN.
    yield f'actions differ by {100 * share:.2f} % of the range'
  elif not is_int8 and not apart.largest <= checks.CONVERTED_TOLERANCE:
    yield f'actions differ by {apart.largest:.1e}'


def _problems(version: pathlib.Path) -> Iterator[str]:
  recorded = metadata.read(version)
  kind = recorded['format']
  root_dir = _root_dir(version)
  facts = _facts_of_the_run(version, root_dir)
  agent = serving.load_agent(
    root_dir,
    facts,
    float32=kind != 'saved_model',
    trusted=command.TRUST_MODULE.value,
    best=recorded.get('weights') == 'best',
  )
  with experiment.load_environment(facts['environment']) as env:
    space = env.env.action_space
  observations = checks.visited_observations(
    agent, facts['environment'], _STATES.value, _SEED.value
  )
  print(f'policy  {version}, {kind}')
  _print_sizes(version)
  if kind == 'saved_model':
    yield from _check_saved_model(version, agent, space, observations)
    return
  loaders = {'.tflite': conversions.load_tflite, '.onnx': conversions.load_onnx}
  for path in sorted(version.glob('policy*')):
    print(path.name)
    act, is_int8 = loaders[path.suffix](path), path.name == conversions.INT8
    yield from _check_converted(
      version, act, is_int8, agent, space, observations
    )


def main() -> None:
  """Prints everything; exits with 1 if something differs."""
  if _POLICY.value is None:
    raise ConfigError('--policy is missing: a folder with exports.')
  problems = [*_problems(versions.newest(pathlib.Path(_POLICY.value)))]
  for problem in problems:
    print(f'error: {problem}', file=sys.stderr)
  if problems:
    sys.exit(1)
  print('the same policy as the checkpoint')


if __name__ == '__main__':
  command.run(main)
