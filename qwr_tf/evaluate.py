"""Estimates from logged data alone what a policy is worth.

    python -m qwr_tf.evaluate --policy=runs/... --dataset=datasets/... \
      [--mode_action] [--output=evaluations/...]

--policy is a run's folder, or an exported policy. Writes a page
(evaluation.md), its table (.csv) and picture (.png) and prints what can be
concluded. Episodes that the policy was trained on are left out. Columns of a
table are named with --gin_file or --gin_bindings, as for training. Exit codes:
0 done, 2 bad input, 1 anything else.
"""

from qwr_tf.config import startup  # noqa: F401, before TensorFlow.

# isort: split
import contextlib
import pathlib
import shlex
import sys
import tempfile
from collections.abc import Iterator

from absl import flags

from qwr_tf.config import command

flags.declare_key_flag('gin_file')
flags.declare_key_flag('gin_bindings')
_POLICY = flags.DEFINE_string(
  'policy', None, 'Folder of a run, or of an exported policy.'
)
_DATASET = flags.DEFINE_string('dataset', None, 'Logged episodes.')
_OUTPUT = flags.DEFINE_string(
  'output',
  None,
  'Folder of the page; default evaluations/<run>-<data>. Replaces the page of '
  'the same command alone.',
)
_MODE_ACTION = flags.DEFINE_bool(
  'mode_action', False, 'Evaluate the policy that takes its most likely action.'
)
_GAMMA = flags.DEFINE_float(
  'gamma', None, "Discount per step; default the run's QwrAgent.gamma."
)
_SHARE = flags.DEFINE_float(
  'held_out_share',
  None,
  'Share of the episodes to evaluate on, 1 / n, such as 0.2; 1: all of them. '
  'Default: those that the training run held out, or all of other data.',
)
_SPLIT_SEED = flags.DEFINE_integer(
  'split_seed', 0, 'Of --held_out_share.', lower_bound=0
)
_MEMBERS = flags.DEFINE_integer(
  'members', 5, 'Critics of the interval.', lower_bound=2
)
_STEPS = flags.DEFINE_integer(
  'steps', 5000, 'Gradient steps of a critic.', lower_bound=10
)
_MAX_STEPS = flags.DEFINE_integer(
  'max_steps',
  200_000,
  'Of larger data sets some episodes are left out.',
  lower_bound=1,
)
_SEED = flags.DEFINE_integer(
  'seed', 0, 'Of the critics.', lower_bound=0, upper_bound=2**30
)

command.answer_help(__name__)

# isort: split
from qwr_tf import evaluation
from qwr_tf.config import gin_files
from qwr_tf.config.errors import ConfigError
from qwr_tf.runs import progress_bar
from qwr_tf.serving import evaluation_of_export
from qwr_tf.training import experiment  # noqa: F401, gin files name it.


@contextlib.contextmanager
def _folder(policy: str, dataset: str, source: str) -> Iterator[pathlib.Path]:
  """Makes the folder of the page; removes it in the end if it is empty.

  Raises:
    ConfigError: if it cannot be written, or has the page of another command.
  """
  name = evaluation_of_export.policy_name(policy)
  name += f'-{pathlib.Path(dataset).resolve().name}'
  folder = pathlib.Path(_OUTPUT.value or f'evaluations/{name}')
  page = folder / 'evaluation.md'
  try:
    folder.mkdir(parents=True, exist_ok=True)
    tempfile.TemporaryFile(dir=folder).close()
    there = page.read_text('utf-8', 'replace') if page.exists() else source
  except OSError as error:
    raise ConfigError(
      f'{folder} cannot be written ({error.strerror}); choose another --output.'
    ) from error
  if source not in there:
    raise ConfigError(
      f'{folder} holds another evaluation; choose another --output.'
    )
  try:
    yield folder
  finally:
    with contextlib.suppress(OSError):  # It is not empty.
      folder.rmdir()


def main() -> None:
  """Evaluates the policy that the flags name."""
  policy, dataset = _POLICY.value, _DATASET.value
  if not policy or not dataset:
    raise ConfigError('--policy and --dataset are needed, both.')
  gin_files.parse(command.GIN_FILE.value, command.GIN_BINDINGS.value)
  line = shlex.join(['python', '-m', 'qwr_tf.evaluate', *sys.argv[1:]])
  source = f'Made by `{line}`.'
  with _folder(policy, dataset, source) as folder:
    with progress_bar.ProgressBar(total=_MEMBERS.value, unit=' critics') as bar:
      report = evaluation_of_export.evaluate(
        policy,
        dataset,
        mode_action=_MODE_ACTION.value,
        held_out_share=_SHARE.value,
        split_seed=_SPLIT_SEED.value,
        gamma=_GAMMA.value,
        fit=evaluation.Fit(
          steps=_STEPS.value, members=_MEMBERS.value, seed=_SEED.value
        ),
        max_steps=_MAX_STEPS.value,
        progress=bar.update,
      )
    print(report.summary())
    report.write(folder, source)
  print(f'page    {folder / "evaluation.md"}')


if __name__ == '__main__':
  command.run(main)
