"""Off-policy evaluation: a policy's value from logged episodes."""

from qwr_tf.evaluation.evaluation import Spaces
from qwr_tf.evaluation.evaluation import check_spaces
from qwr_tf.evaluation.evaluation import evaluate
from qwr_tf.evaluation.fitted_q import DEFAULT_FIT
from qwr_tf.evaluation.fitted_q import Fit
from qwr_tf.evaluation.policies import EvaluatedPolicy
from qwr_tf.evaluation.report import FQE
from qwr_tf.evaluation.report import Report

__all__ = [
  'DEFAULT_FIT',
  'FQE',
  'EvaluatedPolicy',
  'Fit',
  'Report',
  'Spaces',
  'check_spaces',
  'evaluate',
]
