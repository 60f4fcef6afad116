"""Diagnosis of NaN and Inf: the first bad tensor, its step, its batch."""

import io
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from qwr_tf.ops import returns
from qwr_tf.ops.streams import Stream
from qwr_tf.replicas import replicas
from qwr_tf.runs import atomic_files

NAME = 'offending_batch.npz'


# What NaN or Inf ends training with; gin may put a class of its own around.
ERRORS = (FloatingPointError, tf.errors.InvalidArgumentError)


def explain(error: Exception, parts, folder: pathlib.Path) -> str:
  """Writes the offending batch; returns the error message.

  Args:
    parts: the run's `agent` and `iterations`.

  Raises:
    Exception: the error itself, if it is about something else.
  """
  step = replicas.bad_step(error)
  if step is None and not isinstance(error, FloatingPointError):
    raise error
  message, tensors = str(error), getattr(error, 'tensors', None)
  if step is not None:
    tensors = of_step(parts.agent, parts.iterations, step)
    name, steps_before = 'actor', step.actor_steps
    if _is_critic(parts.agent, step):
      name, steps_before = 'critic', step.critic_steps
    message = (
      f'NaN or Inf in {first_not_finite(tensors) or "the gradients"} of '
      f'{name} step {steps_before + 1}; lower the learning rates or look at '
      'the rewards'
    )
  return f'{message}; see {write(folder, tensors)}' if tensors else message


def _is_critic(agent, step: replicas.BadStep) -> bool:
  return step.network == agent.critic_network.name


def of_step(agent, iterations, step: replicas.BadStep) -> dict[str, np.ndarray]:
  """Recomputes the tensors of the rejected step, in order of computation.

  They come from the step's windows alone; `WholeTable` makes targets and
  weights of all rows, so its tensors differ.

  Args:
    agent: with the weights it had before the step.
    step: from `replicas.bad_step`.

  Returns:
    Arrays by name: weights, windows [B, T + 1, ...], and what became of them.
  """
  is_critic = _is_critic(agent, step)
  starts, experience = _redraw(iterations, step, is_critic)
  tensors = {'window_starts': starts}
  network = agent.critic_network if is_critic else agent.actor_network
  tensors |= {f'{network.name}/{v.name}': v.value() for v in network.variables}
  for name in experience._fields:
    leaves = tf.nest.flatten(getattr(experience, name))
    tensors |= {f'{name}{i or ""}': leaf for i, leaf in enumerate(leaves)}
  numbers = _critic_numbers if is_critic else _actor_numbers
  tensors |= numbers(agent, experience, step)
  return {name: np.asarray(tensor) for name, tensor in tensors.items()}


def _redraw(iterations, step: replicas.BadStep, is_critic: bool):
  """(Window starts [B], windows [B, T + 1]) of the newest iteration's step."""
  phase = 0 if is_critic else 1
  counts = step.critic_steps, step.actor_steps
  num_steps = iterations.steps[phase]
  i = (counts[phase] - iterations.steps_before[phase]) % num_steps
  stream = Stream.CRITIC_DRAWS if is_critic else Stream.ACTOR_DRAWS
  # The draws of a phase depend on the steps made when it began.
  return iterations.source.redraw(stream, sum(counts) - i, num_steps, i)


def _critic_numbers(agent, experience, step) -> dict[str, tf.Tensor]:
  seed = agent.seed_for(Stream.CRITIC, step.critic_steps)
  targets = agent.td_targets(experience, seed)
  first = returns.first_steps(experience)
  return {'td_targets': targets, **agent.critic_loss(first, targets[:, 0])}


def _actor_numbers(agent, experience, step) -> dict[str, tf.Tensor]:
  seed = agent.seed_for(Stream.ACTOR, step.actor_steps)
  actions, weights, scalars = agent.weighted_actions(experience, seed)
  first = returns.first_steps(experience)
  loss = agent.actor_loss(first, actions, weights)
  return {'actions': actions.actions, 'weights': weights, **scalars, **loss}


def first_not_finite(tensors: Mapping[str, np.ndarray]) -> str:
  """Name of the first tensor with NaN or Inf; '' if none has."""
  for name, tensor in tensors.items():
    if tensor.dtype.kind == 'f' and not np.isfinite(tensor).all():
      return name
  return ''


def write(folder: pathlib.Path, tensors: Mapping[str, Any]) -> pathlib.Path:
  """Writes the tensors into a run's folder; returns the file."""
  content = io.BytesIO()
  # Names with a slash would be folders to unzip.
  np.savez(content, **{n.replace('/', '.'): t for n, t in tensors.items()})
  atomic_files.write_atomically(folder / NAME, content.getvalue())
  return folder / NAME
