"""Replicas of tf.distribute: shares of a minibatch, and gradient steps."""
