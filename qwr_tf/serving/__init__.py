"""Exported policies: SavedModels for plain TensorFlow, LiteRT and ONNX."""

from qwr_tf.serving.exporter import KINDS
from qwr_tf.serving.exporter import export
from qwr_tf.serving.exporter import export_run
from qwr_tf.serving.exporter import load_agent

__all__ = ['KINDS', 'export', 'export_run', 'load_agent']
