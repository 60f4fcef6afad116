"""Name of the algorithm that a configuration's slots make."""

import re
from collections.abc import Mapping

from qwr_tf.config import gin_files
from qwr_tf.config.errors import ConfigError

_BACKUPS = {
  '@log_sum_exp_backup': 'QWR-LSE',
  '@max_backup': 'QWR-MAX',
  '@mean_backup': 'QWR-AVG',
}


def algorithm_of(config: str) -> str:
  """The name in the column `algorithm`, from the slots a config fills.

  Args:
    config: gin's own text of the configuration.

  Raises:
    ConfigError: if the slots are none of the family's known members.
  """
  values = gin_files.values(config)
  agent = _bound(values, 'make_agent.agent_class', '@QwrAgent').strip('@')

  def slot(name: str, default: str = '') -> str:
    return _bound(values, f'{agent}.{name}', default)

  if _bound(values, 'iterate.actor_steps') == '0':
    return 'DQN'
  if _bound(values, 'iterate.critic_steps') == '0':
    returns = slot('estimate_fn') == '@return_estimates'
    return 'RWR' if returns or agent == 'AwrAgent' else 'BC'
  if agent in ('AwrAgent', 'AwacAgent'):
    return agent.removesuffix('Agent').upper()
  backup = slot('backup_fn', '@log_sum_exp_backup')
  copies = slot('regression_actions') == '@stored_actions'
  is_qwr = agent == 'QwrAgent'
  if is_qwr and copies and slot('baseline_fn') == '@critic_baseline':
    return 'CRR'
  if not is_qwr or copies or backup not in _BACKUPS:
    raise ConfigError(
      "the configuration has no algorithm's name; give one with --algorithm."
    )
  return _BACKUPS[backup]


def _bound(values: Mapping[str, str], name: str, default: str = '') -> str:
  """A value behind its macro, a function without scope and module."""
  value = values.get(name, default)
  if value.startswith('%'):
    value = values.get(value[1:], '')
  return re.sub(r'^@[\w./]*[./]', '@', value)
