"""Every value of a run, and where it comes from."""

import inspect

import gin
import pytest

from qwr_tf.agents import awac_agent
from qwr_tf.agents import awr_agent
from qwr_tf.agents import qwr_agent
from qwr_tf.config import effective
from qwr_tf.config import gin_files
from qwr_tf.config.errors import ConfigError
from qwr_tf.training import experiment

_NETWORKS = 'actor', 'critic'


@pytest.fixture(autouse=True)
def _clear_gin():
  yield
  gin.clear_config()


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch):
  """Pages ask an environment for its kind of action only."""

  def cannot_load(name, **kwargs):
    raise ValueError(name)

  monkeypatch.setattr(experiment, 'load_environment', cannot_load)


def _page(*bindings, files=('mujoco_100k.gin',)):
  """{name: (value, comment)} of the page."""
  gin_files.parse(files, bindings)
  text = effective.page(experiment.effective_values())
  lines = filter(None, text.splitlines())
  pairs = [line.partition('  # ') for line in lines]
  split = [(*b.strip().partition(' = '), c) for b, _, c in pairs]
  return {name: (value, comment) for name, _, value, comment in split}


def test_values_of_files_bindings_and_code():
  page = _page('actor/Adam.epsilon = 1e-3  # a try')
  assert page['QwrAgent.horizon'][0] == '1'
  assert 'mujoco_100k.gin: ours; the paper: 3' in page['QwrAgent.horizon'][1]
  assert page['actor/Adam.epsilon'] == ('0.001', '--gin_bindings: a try')
  assert page['critic/Adam.epsilon'][0] == '1e-07'
  assert page['QwrAgent.gamma'][0] == '0.99'
  assert page['iterate.rounds'][0] == '1'
  assert page['iterate.rounds'][1].startswith('default: ')
  assert page['critic/mlp_torso.layer_norm'][0] == 'True'
  assert page['actor/mlp_torso.layer_norm'][0] == 'False'
  # Of functions that only a default names, of a library, and of macros.
  assert page['sampled_behavior_actions.num_actions'][0] == '4'
  assert page['actor/Adam.beta_1'][0] == '0.9'
  assert page['run.environment'][0] == "'HalfCheetah-v4'"


def test_what_no_binding_reaches_is_left_out():
  names = _page()
  assert not [n for n in names if n.endswith(('.seed', '.name', '.batch'))]
  assert 'GatedQNetwork.normalizer' not in names
  assert 'ReplayTable.capacity' not in names
  # AwacAgent sets these itself.
  names = _page(files=['awac_bitflip.gin'])
  assert 'AwacAgent.weight_fn' in names
  assert 'AwacAgent.horizon' not in names


@pytest.mark.parametrize(
  'agent_class', [awac_agent.AwacAgent, awr_agent.AwrAgent]
)
def test_fixed_parameters_are_those_an_agent_passes(agent_class, monkeypatch):
  passed = set()
  monkeypatch.setattr(
    qwr_agent.QwrAgent, '__init__', lambda self, **given: passed.update(given)
  )
  agent_class()
  taken = set(inspect.signature(agent_class).parameters)
  assert agent_class.fixed_parameters == passed - taken


def test_numbers_of_tables_and_the_makers_defaults():
  page = _page("run.environment = 'Ant-v4'", files=['awr_mujoco.gin'])
  assert page['GaussianHead.scale'][0] == '0.2'
  assert page['GaussianHead.scale'][1].startswith('@scale/by_environment()')
  page = _page("GAME = 'Boxing'", files=['atari_100k_paper.gin'])
  assert page['run.environment'][0] == "'ALE/Boxing-v5'"
  assert page['load_environment.noop_max'][0] == '30'


def test_a_comment_above_counts_where_there_is_none_beside(tmp_path):
  own = tmp_path / 'own.gin'
  own.write_text(
    '# The file.\n\n'
    'iterate.rounds = 2  # beside,\n'
    '                    # two lines\n'
    '# Above.\n'
    'iterate.critic_steps = 3\n'
    'iterate.actor_steps = 4\n'
    'mlp_torso.units = (\n'
    '    8,  # within\n'
    ')\n'
  )
  page = _page(files=['mujoco.gin', str(own)])
  assert page['iterate.rounds'] == ('2', f'{own}: beside, two lines')
  assert page['iterate.critic_steps'] == ('3', f'{own}: Above.')
  assert page['iterate.actor_steps'] == ('4', str(own))
  assert page['actor/mlp_torso.units'] == ('(8,)', f'{own}: within')


@pytest.mark.parametrize('preset', gin_files.presets())
def test_a_page_is_a_gin_file_of_the_same_values(preset, tmp_path):
  page = _page(files=[preset])
  gin_files.parse([preset], [])
  copy = tmp_path / 'copy.gin'
  copy.write_text(effective.page(experiment.effective_values()))
  again = _page(files=[str(copy)])
  assert {n: v for n, (v, _) in again.items()} == {
    n: v for n, (v, _) in page.items()
  }
  assert len(page) > 50


@pytest.mark.parametrize(
  ('preset', 'bindings', 'expected'),
  [
    ('mujoco_100k.gin', (), (100_000, 100_000)),
    # By itself: the schedule ends with the run.
    ('mujoco_100k.gin', ('run.interactions=1000000',), (10**6, 10**6)),
    ('mujoco_100k.gin', ('run.interactions=1500',), (2000, 2000)),
    ('mujoco_100k.gin', ('iterate.critic_steps=10',), (100_000, 1000)),
    ('mujoco_100k.gin', ('iterate.rounds=2',), (200_000, 200_000)),
    ('mujoco_100k.gin', ('Collector.first_env_steps=50500',), (51_000, 51_000)),
    ('mujoco_100k.gin', ('PolynomialDecay.decay_steps=5',), (5, 5)),
    ('mujoco_1m.gin', (), (10**6, 10**6)),
    ('offline_mujoco.gin', (), (30_000, 30_000)),
    ('offline_mujoco.gin', ('run.offline_iterations=1',), (1000, 1000)),
    ('offline_online_mujoco.gin', (), (130_000, 130_000)),
    ('offline_awr_mujoco.gin', (), (30_000, 30_000)),
    # 200 and 1000 steps for 2048 interactions.
    (
      'offline_awr_mujoco.gin',
      ('iterate.steps_fn=@proportional_steps', 'run.interactions=204800'),
      (130_000, 130_000),
    ),
    # Offline iterations make the whole number of steps.
    (
      'offline_awr_mujoco.gin',
      ('iterate.steps_fn=@proportional_steps', 'Collector.env_steps=1024'),
      (30_000, 30_000),
    ),
  ],
)
def test_step_sizes_fall_over_the_whole_run(preset, bindings, expected):
  page = _page(*bindings, files=[preset])
  lengths = [page[f'{n}/PolynomialDecay.decay_steps'] for n in _NETWORKS]
  assert tuple(int(value) for value, _ in lengths) == expected


@pytest.mark.parametrize(
  ('preset', 'bindings', 'expected'),
  [
    ('atari_100k_paper.gin', (), '100'),
    ('atari_100k_authors_code.gin', (), '50'),
    ('atari_100k_paper.gin', ('hard_update.period_train_steps=7',), '7'),
    (
      'atari_100k_paper.gin',
      ('QwrAgent.target_update_fn=@polyak_update',),
      '1',
    ),
    ('atari_100k_paper.gin', ('ExactReuse.reuse_train_steps=3',), '3'),
  ],
)
def test_reuse_lasts_as_long_as_a_target_network(preset, bindings, expected):
  page = _page(*bindings, files=[preset])
  assert page['ExactReuse.reuse_train_steps'][0] == expected


def test_a_missing_environment_is_one_line():
  with pytest.raises(ConfigError, match=r'run\.environment'):
    _page(files=['mujoco_authors_networks.gin'])


def test_value_is_the_binding_or_the_default():
  gin_files.parse(['bitflip.gin'], ['iterate.rounds = 3'])
  assert effective.value('iterate', 'rounds') == 3
  assert effective.value('run', 'checkpoint_every_seconds') == 120.0
