"""Exported policies: SavedModels for plain TensorFlow, LiteRT and ONNX.

Names are imported at their first use, so that flags are read without
TensorFlow.
"""

import importlib
from typing import Any

KINDS = ('saved_model', 'tflite', 'onnx')

_EXPORTER = ('export', 'export_run', 'load_agent', 'warm_start')

__all__ = ['KINDS', *_EXPORTER]  # noqa: PLE0605


def __getattr__(name: str) -> Any:
  if name not in _EXPORTER:
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
  return getattr(importlib.import_module(f'{__name__}.exporter'), name)
