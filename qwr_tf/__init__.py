"""Q-Value Weighted Regression and its family on TF-Agents."""

from qwr_tf.config import compatibility

__version__ = '0.1.0'

compatibility.prepare_imports()
