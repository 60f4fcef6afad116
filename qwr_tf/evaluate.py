"""Estimates from logged data alone what a policy is worth.

    python -m qwr_tf.evaluate --policy=runs/... --dataset=datasets/... \
      [--mode_action] [--output=evaluations/...]

--policy is a run's folder, or an exported policy. Writes a page
(evaluation.md), its table (.csv) and picture (.png) and prints what can be
concluded. Episodes that the policy was trained on are left out. Columns of a
table are named with --gin_bindings, as for training. Exit codes: 0 done, 2 bad
input, 1 anything else.
"""

from qwr_tf.config import startup  # noqa: F401, before TensorFlow.

# isort: split
import functools
import pathlib

from absl import flags

from qwr_tf.config import command

flags.declare_key_flag('gin_file')
flags.declare_key_flag('gin_bindings')
_POLICY = flags.DEFINE_string(
  'policy', None, 'Folder of a run, or of an exported policy.'
)
_DATASET = flags.DEFINE_string('dataset', None, 'Logged episodes.')
_OUTPUT = flags.DEFINE_string(
  'output', None, 'Folder of the page; default evaluations/<policy>-<data>.'
)
_MODE_ACTION = flags.DEFINE_bool(
  'mode_action', False, 'Evaluate the policy that takes its most likely action.'
)
_GAMMA = flags.DEFINE_float('gamma', 0.99, 'Discount per step.')
_SHARE = flags.DEFINE_float(
  'held_out_share',
  None,
  'Share of the episodes to evaluate on, 0.5 or less; 1: all of them. Default: '
  'those that the training run held out, or all of other data.',
)
_SPLIT_SEED = flags.DEFINE_integer('split_seed', 0, 'Of --held_out_share.')
_MEMBERS = flags.DEFINE_integer(
  'members', 5, 'Critics of the interval.', lower_bound=2
)
_STEPS = flags.DEFINE_integer(
  'steps', 5000, 'Gradient steps of a critic.', lower_bound=10
)
_MAX_STEPS = flags.DEFINE_integer(
  'max_steps', 200_000, 'Of larger data sets some episodes are left out.'
)
_SEED = flags.DEFINE_integer('seed', 0, 'Of the critics.', lower_bound=0)

command.answer_help(__name__)

# isort: split
from qwr_tf import datasets
from qwr_tf import evaluation
from qwr_tf.acting import offline
from qwr_tf.config import gin_files
from qwr_tf.config.errors import ConfigError
from qwr_tf.runs import progress_bar
from qwr_tf.serving import saved_policy


def _split(
  policy: saved_policy.SavedPolicy, data: str
) -> tuple[datasets.Split, tuple[str, ...]]:
  """The episodes to evaluate on, and what speaks against them."""
  was_learned_from = policy.metadata.get('dataset') == data
  held_out = datasets.Split(*(policy.metadata.get('held_out') or (0.0, 0)))
  share = _SHARE.value
  if share is None:
    share = held_out.share if was_learned_from else 1.0
    if not share:
      raise ConfigError(
        f'{policy.path} was trained on all episodes of {data}, which says '
        'little about others; train with DataSet.held_out_share = 0.2, or '
        'evaluate on them all the same with --held_out_share=1.'
      )
    return datasets.Split(share, held_out.seed), ()
  if not (0 < share <= 0.5 or share == 1):
    raise ConfigError(f'--held_out_share={share:g} must be 0 ... 0.5, or 1.')
  split = datasets.Split(share, _SPLIT_SEED.value)
  if was_learned_from and split != held_out:
    return split, ('The policy was trained on these episodes.',)
  return split, ()


def main() -> None:
  """From flags to a page."""
  if not _POLICY.value or not _DATASET.value:
    raise ConfigError('--policy and --dataset are needed, both.')
  path = pathlib.Path(_POLICY.value)
  folder = path / 'policy' if (path / 'run.json').is_file() else path
  saved = saved_policy.SavedPolicy(folder)
  gin_files.parse(command.GIN_FILE.value, command.GIN_BINDINGS.value)
  open_data = functools.partial(
    offline.open_data_set,
    _DATASET.value,
    saved.metadata.get('environment', ''),
  )
  try:
    data = open_data()
    data.close()
  except ValueError as error:
    raise ConfigError(gin_files.describe(error)) from error
  split, caveats = _split(saved, data.name)
  with progress_bar.ProgressBar(total=_MEMBERS.value, unit=' critics') as bar:
    report = evaluation.evaluate(
      evaluation.EvaluatedPolicy(
        saved.distribution, _MODE_ACTION.value, path.name
      ),
      open_data,
      saved.spaces(),
      split=split,
      gamma=_GAMMA.value,
      fit=evaluation.Fit(
        steps=_STEPS.value, members=_MEMBERS.value, seed=_SEED.value
      ),
      max_steps=_MAX_STEPS.value,
      caveats=caveats,
      progress=bar.update,
    )
  output = pathlib.Path(_OUTPUT.value or f'evaluations/{path.name}-{data.name}')
  report.write(output)
  print(report.summary())
  print(f'page    {output / "evaluation.md"}')


if __name__ == '__main__':
  command.run(main)
