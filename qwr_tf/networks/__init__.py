"""Floor 1: actors, critics and what they are made of."""

from qwr_tf.networks.actors import ActorNetwork
from qwr_tf.networks.actors import CategoricalHead
from qwr_tf.networks.actors import GaussianHead
from qwr_tf.networks.critics import Critic
from qwr_tf.networks.critics import GatedQNetwork
from qwr_tf.networks.critics import ValueNetwork
from qwr_tf.networks.normalizer import ObservationNormalizer

__all__ = [
  'ActorNetwork',
  'CategoricalHead',
  'Critic',
  'GatedQNetwork',
  'GaussianHead',
  'ObservationNormalizer',
  'ValueNetwork',
]
