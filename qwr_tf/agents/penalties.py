"""What line 21 adds to the loss beside the regression.

A penalty is a function (agent, policy) -> [B] or scalar, of the policy's
distribution at the states of a minibatch.
"""

import gin
import tensorflow as tf
import tensorflow_probability as tfp


@gin.configurable
def no_penalty(agent, policy: tfp.distributions.Distribution) -> tf.Tensor:
  """Zero: the regression alone."""
  del agent, policy
  return tf.zeros([])


@gin.configurable
def action_bound_penalty(
  agent, policy: tfp.distributions.Distribution, coefficient: float = 10.0
) -> tf.Tensor:
  """Half the squared distance of the mean from the bounds +-1, [B] (AWR).

  Args:
    agent: not used.
    policy: over action vectors.
    coefficient: multiplies it; more of it keeps the mean inside.

  Raises:
    ValueError: for a policy over discrete actions.
  """
  del agent
  if isinstance(policy, tfp.distributions.Categorical):
    raise ValueError(
      'Discrete actions have no bounds; use @logits_penalty or @no_penalty.'
    )
  mean = policy.mean()
  outside = mean - tf.clip_by_value(mean, -1.0, 1.0)
  return 0.5 * coefficient * tf.reduce_sum(outside**2, axis=-1)


@gin.configurable
def logits_penalty(
  agent, policy: tfp.distributions.Distribution, coefficient: float = 1e-3
) -> tf.Tensor:
  """Half the squared norm of the logits, [B] (AWR on LunarLander).

  Args:
    agent: not used.
    policy: over discrete actions.
    coefficient: multiplies it; more of it keeps the policy random.

  Raises:
    ValueError: for a policy over action vectors.
  """
  del agent
  if not isinstance(policy, tfp.distributions.Categorical):
    raise ValueError(
      'Continuous actions have no logits; use @action_bound_penalty or '
      '@no_penalty.'
    )
  return 0.5 * coefficient * tf.reduce_sum(policy.logits**2, axis=-1)


@gin.configurable
def weight_decay(
  agent, policy: tfp.distributions.Distribution, coefficient: float = 1e-4
) -> tf.Tensor:
  """Half the squared norm of the actor's variables, scalar (AWAC).

  Its gradient is what the `weight_decay` of PyTorch's Adam adds, which AWAC's
  code uses; Keras' AdamW decays apart from the gradient, by 1e-4 times the
  step size, which is next to nothing.
  """
  del policy
  variables = agent.actor_network.trainable_variables
  return coefficient * tf.add_n([tf.nn.l2_loss(v) for v in variables])
