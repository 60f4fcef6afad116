"""Actors, critics and their parts."""

from qwr_tf.config import compatibility
from qwr_tf.networks.actors import ActorNetwork
from qwr_tf.networks.actors import CategoricalHead
from qwr_tf.networks.actors import GaussianHead
from qwr_tf.networks.actors import TanhMeanGaussianHead
from qwr_tf.networks.critic_wrappers import DistributionalCritic
from qwr_tf.networks.critic_wrappers import RemCritic
from qwr_tf.networks.critic_wrappers import TwinCritic
from qwr_tf.networks.critics import Critic
from qwr_tf.networks.critics import GatedQNetwork
from qwr_tf.networks.critics import NoCritic
from qwr_tf.networks.critics import ValueNetwork
from qwr_tf.networks.encoders import ObservationNormalizer
from qwr_tf.networks.falling_scale import FallingScaleGaussianHead
from qwr_tf.networks.joint_critics import JointQNetwork
from qwr_tf.networks.precision import fastest_dtype_policy
from qwr_tf.networks.q_actors import EpsilonGreedyActor
from qwr_tf.networks.q_actors import NoActor
from qwr_tf.networks.q_networks import ConcatQNetwork
from qwr_tf.networks.q_networks import DiscreteQNetwork
from qwr_tf.networks.q_networks import DuelingQNetwork

compatibility.fix_tf_agents()

__all__ = [
  'ActorNetwork',
  'CategoricalHead',
  'ConcatQNetwork',
  'Critic',
  'DiscreteQNetwork',
  'DistributionalCritic',
  'DuelingQNetwork',
  'EpsilonGreedyActor',
  'FallingScaleGaussianHead',
  'GatedQNetwork',
  'GaussianHead',
  'JointQNetwork',
  'NoActor',
  'NoCritic',
  'ObservationNormalizer',
  'RemCritic',
  'TanhMeanGaussianHead',
  'TwinCritic',
  'ValueNetwork',
  'fastest_dtype_policy',
]
