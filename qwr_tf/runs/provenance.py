"""Provenance of a score: commit, versions and threads."""

import importlib.metadata
import os
import pathlib
import platform
import subprocess
from typing import Any

_VERSIONS_OF = (
  'tensorflow',
  'tf-agents',
  'tensorflow-probability',
  'gymnasium',
  'mujoco',
  'ale-py',
  'numpy',
)


def facts() -> dict[str, Any]:
  """Commit, threads and versions, by name."""
  return {'commit': commit(), 'threads': threads(), **versions()}


def threads() -> int:
  """Threads of one TensorFlow operation: as set, else all cores."""
  setting = os.environ.get('TF_NUM_INTRAOP_THREADS', '')
  if setting.isdigit() and int(setting):
    return int(setting)
  if hasattr(os, 'sched_getaffinity'):  # Not on macOS.
    return len(os.sched_getaffinity(0))
  return os.cpu_count() or 1


def versions() -> dict[str, str]:
  """Of Python and of the libraries a score may depend on."""
  versions_by_name = {'python': platform.python_version()}
  for name in _VERSIONS_OF:
    versions_by_name[name.replace('-', '_')] = _version(name)
  if not versions_by_name['tensorflow']:
    versions_by_name['tensorflow'] = _version('tensorflow-cpu')
  return versions_by_name


def _version(name: str) -> str:
  try:
    return importlib.metadata.version(name)
  except importlib.metadata.PackageNotFoundError:
    return ''


def commit() -> str:
  """The checkout's commit, with '-dirty' if it has changes; '' outside one.

  Changes in results/ do not count: they are what is measured.
  """
  folder = pathlib.Path(__file__).resolve().parents[1]

  def git(*arguments: str) -> str:
    return subprocess.run(
      ['git', '-C', str(folder), *arguments],
      capture_output=True,
      text=True,
      check=True,
      timeout=10,
    ).stdout.strip()

  try:
    if not (folder.parent / '.git').exists():
      return ''  # Installed inside somebody else's checkout.
    paths = '--', ':/', ':(top,exclude)results'
    changes = git('status', '--porcelain', '--untracked-files=no', *paths)
    return git('rev-parse', '--short=12', 'HEAD') + '-dirty' * bool(changes)
  except (OSError, subprocess.SubprocessError):
    return ''
