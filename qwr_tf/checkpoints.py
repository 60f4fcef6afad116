"""Weights on disk: everything an agent has learned."""

import os
import pathlib
import shutil

import tensorflow as tf


def save(agent, path: pathlib.Path) -> None:
  """Writes an agent's networks, optimisers and counters into a folder.

  Args:
    agent: a `QwrAgent`.
    path: a folder that does not exist yet; it appears complete or not at all.
  """
  temporary = path.with_name(f'.{path.name}.{os.getpid()}.tmp')
  shutil.rmtree(temporary, ignore_errors=True)
  temporary.mkdir(parents=True)
  tf.train.Checkpoint(agent=agent).write(str(temporary / 'agent'))
  os.replace(temporary, path)


def restore(agent, path: pathlib.Path) -> None:
  """Reads what `save` wrote into an agent of the same configuration.

  Raises:
    ValueError: if there is no checkpoint, or one of another agent.
  """
  try:
    status = tf.train.Checkpoint(agent=agent).read(str(path / 'agent'))
    # Before the check: else what is left over is listed line by line.
    status.expect_partial().assert_existing_objects_matched()
  except (tf.errors.OpError, AssertionError, ValueError) as error:
    raise ValueError(
      f'{path} holds no checkpoint of this configuration: '
      f'{str(error).splitlines()[0]}'
    ) from error
