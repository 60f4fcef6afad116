"""The picture of a preset beside published scores."""

from qwr_tf.reporting import headline_figures
from qwr_tf.reporting import published
from tests.reporting import rows


def test_every_published_method_is_named_once_per_panel(tmp_path):
  experiment = rows.experiment_of(
    tmp_path, *rows.five_runs(), numbers=rows.NUMBERS
  )
  figure = headline_figures.headline(experiment)
  (axis,) = figure.axes
  texts = sorted(text.get_text() for text in axis.texts)
  others = published.medians(experiment.rivals)
  assert len(texts) == sum(n.task == 'HalfCheetah' for n in others) + 1
  assert 'this project 2,500' in texts
  for name in ('REDQ', 'CrossQ', 'DroQ', 'FlashSAC', 'MR.Q', 'XQC'):
    assert sum(text.startswith(name) for text in texts) == 1
  # 2500 is above the paper's 2323 and below FlashSAC's 9738.
  title = figure.get_suptitle()
  assert 'above its paper in 1 of 1' in title
  assert 'above the best of the others in 0 of 1' in title


def test_names_do_not_overlap_and_stay_in_the_panel(tmp_path):
  experiment = rows.experiment_of(
    tmp_path, *rows.five_runs(), numbers=rows.NUMBERS
  )
  (axis,) = headline_figures.headline(experiment).axes
  low, high = axis.get_ylim()
  heights = sorted(
    (t.get_position()[1] - low) / (high - low) for t in axis.texts
  )
  steps = [b - a for a, b in zip(heights, heights[1:], strict=False)]
  assert min(steps) > 0.04
  assert heights[0] >= 0 and heights[-1] <= 1.001
