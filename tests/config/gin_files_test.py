"""Finding and reading gin files, and what is said about wrong ones."""

import ast
import logging
import pathlib

import gin
import pytest
import tensorflow as tf

from qwr_tf.config import effective
from qwr_tf.config import gin_files
from qwr_tf.config.errors import ConfigError
from qwr_tf.training import experiment

_FOLDER = pathlib.Path(__file__).resolve().parents[2] / 'gin_configs'
_FILES = sorted(_FOLDER.rglob('*.gin'))


@pytest.fixture(autouse=True)
def _clear_gin():
  yield
  gin.clear_config()


def _error(*bindings, files=('mujoco.gin',)):
  with pytest.raises(ConfigError) as caught:
    gin_files.parse(files, bindings)
  message = str(caught.value)
  assert '\n' not in message
  return message


def test_finds_by_bare_name_and_by_path(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  own = tmp_path / 'own.gin'
  own.touch()
  bitflip = _FOLDER / 'qwr' / 'bitflip.gin'
  for name in ('bitflip.gin', 'gin_configs/bitflip.gin', 'qwr/bitflip.gin'):
    assert gin_files.find(name) == bitflip
  assert gin_files.find(str(own)) == own
  assert gin_files.find('own.gin').resolve() == own


@pytest.mark.slow
@pytest.mark.skipif(
  not hasattr(tf, 'estimator'),
  reason='gin.tf 0.5.0 needs tf.estimator, which TensorFlow 2.16 dropped.',
)
def test_gin_s_own_names_for_tensorflow_may_be_there(run_program):
  """gin.tf has another Adam, which presets then cannot tell from ours."""
  program = (
    'import gin.tf.external_configurables\n'
    'from qwr_tf.training import experiment\n'
    'from qwr_tf.config import gin_files\n'
    'gin_files.parse([], ["legacy.Adam.epsilon = 1e-3"])\n'
    'try:\n'
    '  gin_files.parse([], ["Adam.epsilon = 1e-3"])\n'
    'except gin_files.ConfigError as error:\n'
    '  print(error)\n'
  )
  result = run_program(program)
  assert result.returncode == 0, result.stderr
  assert 'keras.optimizers.legacy.Adam' in result.stdout
  assert 'Write more of the name' in result.stdout


def test_unknown_file_lists_the_known_ones():
  with pytest.raises(ConfigError) as caught:
    gin_files.find('bitflop.gin')
  assert 'bitflip.gin, ' in str(caught.value)
  assert 'offline_mujoco.gin, ' in str(caught.value)
  assert 'run_bitflip.gin' not in str(caught.value)


# An empty name is that of a shell variable that is not set.
@pytest.mark.parametrize(
  'name',
  ['elsewhere/bitflip.gin', '/bitflip.gin', '', '.', '..', '/', 'x' * 300],
)
def test_a_wrong_path_is_not_taken_for_a_name(name):
  with pytest.raises(ConfigError, match='not found'):
    gin_files.find(name)


def test_names_of_the_package_s_files_are_unique():
  assert len({file.name for file in _FILES}) == len(_FILES) > 40


@pytest.mark.slow
def test_a_preset_includes_three_files_at_most(monkeypatch):
  opened = []
  path_open = pathlib.Path.open

  def note(path, *args, **kwargs):
    opened.append(path.resolve())
    return path_open(path, *args, **kwargs)

  monkeypatch.setattr(pathlib.Path, 'open', note)
  for file in _FILES:
    opened.clear()
    gin_files.parse([file.name], [])
    assert 0 <= len({*opened} - {file}) <= 3, file.name


@pytest.mark.parametrize('folder', ['', 'parts/', 'gin_configs/parts/'])
def test_files_may_include_what_once_stood_in_another_folder(folder, tmp_path):
  own = tmp_path / 'own.gin'
  includes = [f"include '{folder}{n}.gin'\n" for n in ('run_mujoco', 'qwr')]
  own.write_text(''.join(includes))
  assert gin_files.parse([str(own)], []) == gin_files.parse(['mujoco.gin'], [])


def test_a_file_that_includes_itself(tmp_path):
  (tmp_path / 'a.gin').write_text("include 'b.gin'\n")
  (tmp_path / 'b.gin').write_text("include 'a.gin'\n")
  assert 'a.gin includes itself' in _error(files=[str(tmp_path / 'a.gin')])


def test_a_folder_is_no_gin_file(tmp_path):
  with pytest.raises(ConfigError, match='not found'):
    gin_files.find(str(tmp_path))


def test_later_files_override_and_bindings_override_files(tmp_path):
  first, second = tmp_path / 'a.gin', tmp_path / 'b.gin'
  first.write_text('iterate.batch_size = 1\niterate.rounds = 1\n')
  second.write_text('iterate.batch_size = 2\niterate.rounds = 2\n')
  gin_files.parse([str(first), str(second)], ['iterate.rounds = 3'])
  assert gin.query_parameter('iterate.batch_size') == 2
  assert gin.query_parameter('iterate.rounds') == 3


def test_includes_are_found_beside_the_file_and_in_the_package(tmp_path):
  (tmp_path / 'beside.gin').write_text('iterate.rounds = 7\n')
  own = tmp_path / 'own.gin'
  own.write_text("include 'mujoco.gin'\ninclude 'beside.gin'\n")
  gin_files.parse([str(own)], [])
  assert gin.query_parameter('iterate.rounds') == 7
  assert gin.query_parameter('actor/Adam.learning_rate') == 1e-4


def test_parse_forgets_what_gin_held_before():
  gin_files.parse(['mujoco.gin'], ['iterate.rounds = 3'])
  gin_files.parse(['mujoco.gin'], [])
  assert effective.value('iterate', 'rounds') == 1


def test_text_is_that_of_the_values_not_of_their_order_or_spelling():
  bindings = ['iterate.batch_size = 8', 'iterate.rounds=2', 'Adam.epsilon=1e-3']
  one = gin_files.parse(['mujoco.gin'], bindings)
  other = gin_files.parse(['mujoco.gin'], bindings[::-1])
  spelled = gin_files.parse(
    ['mujoco.gin'],
    ['Adam.epsilon = 0.001', 'iterate.batch_size= 8', 'iterate.rounds  = 2'],
  )
  changed = gin_files.parse(['mujoco.gin'], [*bindings, 'iterate.rounds = 3'])
  assert one == other == spelled
  assert one != changed


def test_parse_says_nothing(capfd, caplog):
  gin_files.parse(['mujoco_100k.gin'], [])
  assert capfd.readouterr() == ('', '')
  assert not caplog.records


@pytest.mark.parametrize(
  ('binding', 'parts'),
  [
    ('QwrAgent.horizn = 2', ('horizn', 'Near it: horizon')),
    # Of the base class, where the rest goes.
    ('AwrAgent.max_weigt = 2', ('max_weigt', 'Near it: max_weight')),
    ('QwrAgnt.horizon = 2', ('QwrAgnt', 'Near it: QwrAgent')),
    ('QwrAgent.backup_fn = @max_bakup', ('Near it:', 'max_backup')),
    ('no_such_thing.x = 2', ('no_such_thing', 'line 1')),
    # Without its configurable a parameter would be a macro nobody reads.
    ('batch_size = 8', ('batch_size', 'such as iterate.batch_size')),
    # The trainer passes these itself.
    ('QwrAgent.seed = 3', ('QwrAgent.seed', '--seed')),
    (
      'ReplayTable.capacity = 9',
      ('ReplayTable.capacity', 'run.replay_capacity'),
    ),
    ('Collector.source = None', ('Collector.source', 'qwr_tf.launch')),
    ('run.environment = %NOWHERE', ('%NOWHERE', 'NOWHERE = ')),
    ('iterate.batch_size =', ('parse', 'line 1')),
    ('iterate.batch_size 8', ('iterate.batch_size 8',)),
    ('run.environment = Hopper-v4', ('Hopper is no value', 'quotation marks')),
    ('QwrAgent.backup_fn = max_backup', ('max_backup is no value; ', 'an @')),
    ('import no_such_module', ('no_such_module',)),
    ("include 'no_such.gin'", ('no_such.gin',)),
    # Rows of runs, and what is said of macros, tell bindings apart.
    ('iterate.batch_size = 8\nQwrAgent.horizon = 1', ('--gin_bindings once',)),
  ],
)
def test_unknown_names_and_syntax(binding, parts):
  message = _error(binding)
  for part in parts:
    assert part in message


def test_describe_leaves_out_what_libraries_put_first():
  error = ValueError(
    "Exception encountered when calling layer 'Critic'.\n\n"
    '{{function_node __wrapped__Mul}} Incompatible shapes: [3] vs. [4]\n\n'
    'Call arguments received by layer:\n  inputs=2\n'
    "  In call to configurable 'QwrAgent' (<class 'QwrAgent'>)\n"
    "  In call to configurable 'make_agent' (<function make_agent>)"
  )
  expected = 'QwrAgent: Incompatible shapes: [3] vs. [4]'
  assert gin_files.describe(error) == expected


def test_describe_says_who_fills_a_slot_already():
  gin_files.parse(['awac_bitflip.gin'], ['AwacAgent.horizon = 3'])
  with pytest.raises(ConfigError) as caught:
    experiment.build(experiment.settings(), 0)
  expected = 'AwacAgent: sets horizon itself; leave it out.'
  assert str(caught.value) == expected


@pytest.mark.parametrize('character', ['\x0c', '\x85', '\u2028'])
def test_lines_end_where_gin_ends_them(character, tmp_path):
  own = tmp_path / 'own.gin'
  own.write_text(f'# one{character}two\niterate.batch_size = 7\n', 'utf-8')
  gin_files.parse([str(own)], [])
  assert gin.query_parameter('iterate.batch_size') == 7


def test_an_include_that_is_missing_is_told_with_the_file_that_includes(
  tmp_path,
):
  own = tmp_path / 'own.gin'
  own.write_text("include 'no_such.gin'\n")
  message = _error(files=[str(own)])
  assert message.startswith(f'{own}: ') and "'no_such.gin'" in message


def test_syntax_error_names_file_and_line(tmp_path):
  own = tmp_path / 'own.gin'
  own.write_text('iterate.rounds = 1\niterate.batch_size = 3 4\n')
  assert f'{own} line 2: iterate.batch_size = 3 4' in _error(files=[str(own)])
  own.write_text('iterate.batch_size = (3\n')
  message = _error(files=['mujoco.gin', str(own)])
  assert message == f'{own}: a bracket or a quotation mark is not closed.'
  own.write_bytes(b'\xff\xfe')
  assert _error(files=[str(own)]) == f'{own}: is not a text file.'


@pytest.mark.parametrize(
  ('binding', 'expected'),
  [
    ("QwrAgent.horizon = 'three'", 'QwrAgent.horizon must be a whole number'),
    ("run.interactions = 'many'", 'run.interactions must be a whole number'),
    ('run.interactions = 1e5', 'run.interactions must be a whole number'),
    ("exp_weights.beta = 'x'", 'exp_weights.beta must be a number'),
    ('iterate.batch_size = 2.5', 'iterate.batch_size must be a whole number'),
    ('iterate.batch_size = True', 'iterate.batch_size must be a whole number'),
    ('iterate.batch_size = None', 'iterate.batch_size must be a whole number'),
    ('iterate.batch_size = @hard_update', 'batch_size must be a whole number'),
    ('run.environment = 3', 'run.environment must be a text in quotes'),
    ('mlp_torso.layer_norm = 1', 'mlp_torso.layer_norm must be True or False'),
    ('mlp_torso.units = 256', 'mlp_torso.units must be a tuple'),
    ("mlp_torso.units = (256, 'x')", 'each item a whole number'),
    ('GatedQNetwork.gate_units = 2.5', 'a whole number or None'),
    ("actor/Adam.learning_rate = 'x'", 'actor/Adam.learning_rate must be'),
    ("QwrAgent.weight_fn = 'exp_weights'", 'such as @name'),
    ('QwrAgent.weight_fn = None', 'QwrAgent.weight_fn must be a function'),
    ('make_agent.actor_optimizer = @Adam', 'such as @name()'),
    ('make_agent.actor_optimizer = 3', 'such as @name()'),
    # Macros are looked through.
    ('ENVIRONMENT = 20', 'run.environment must be a text in quotes, not 20'),
    # Numbers that cannot be meant.
    ('iterate.batch_size = 0', 'iterate.batch_size must be more than 0'),
    ('iterate.critic_steps = -1', 'critic_steps must be between 0 and'),
    ('run.replay_capacity = 0', 'run.replay_capacity must be more than 0'),
    ('exp_weights.beta = 0.0', 'exp_weights.beta must be more than 0'),
    ('critic/Adam.learning_rate = -1e-4', 'learning_rate must be more than 0'),
    ('PolynomialDecay.decay_steps = 0', 'decay_steps must be more than 0'),
    ('AwrAgent.gamma = 1.5', 'AwrAgent.gamma must be between 0 and 1'),
    ("AwacAgent.gamma = 'x'", 'AwacAgent.gamma must be a number'),
    ('DistributionalCritic.num_atoms = 0', 'num_atoms must be more than 0'),
    ('QwrAgent.gamma = 1.5', 'QwrAgent.gamma must be between 0 and 1'),
    ('QwrAgent.td_lambda = -0.1', 'QwrAgent.td_lambda must be between 0 and 1'),
    ('mlp_torso.units = (8, 0)', 'units must be between 1 and 1000000'),
    ('mlp_torso.units = (8, 10000000000)', 'units must be between 1 and'),
    ('run.eval_environments = 1000000', 'must be between 1 and 1000'),
    (
      'iterate.critic_steps = 99999999999999999999',
      'critic_steps must be less',
    ),
    ('iterate.rounds = 99999999999999999999', 'rounds must be less than 2**63'),
    ('iterate.critic_steps = 3000000000', 'critic_steps must be between 0 and'),
    ('epsilon_greedy_policies.final_epsilon = 2.0', 'between 0 and 1'),
    ('log_sum_exp_backup.backup_temperature = 0', 'must be more than 0'),
    ('sampled_behavior_actions.num_actions = 0', 'must be more than 0'),
    ('hard_update.period_train_steps = 0', 'must be more than 0'),
    ('GatedQNetwork.gate_units = 0', 'gate_units must be more than 0'),
    ('Adam.learning_rate = 1e400', 'Adam.learning_rate must be finite'),
    ('GaussianHead.scale = -1e400', 'GaussianHead.scale must be finite'),
    ('Adam.clipnorm = 0', 'Adam.clipnorm must be more than 0'),
    ('AdamW.weight_decay = -0.1', 'AdamW.weight_decay must be 0 or more'),
    ('SGD.momentum = 1.5', 'SGD.momentum must be between 0 and 1'),
    ('logged_action_behavior.epsilon = 0.0', 'epsilon must be between 0 and 1'),
    ('DataSet.chunk_steps = 0', 'DataSet.chunk_steps must be more than 0'),
    (
      'load_environment.healthy_reward = 1e400',
      'healthy_reward must be finite',
    ),
  ],
)
def test_values_that_do_not_fit(binding, expected):
  assert expected in _error(binding)


@pytest.mark.parametrize(
  'binding',
  [
    'QwrAgent.gamma = 1',  # A whole number is a number.
    'QwrAgent.td_lambda = 0',
    'iterate.actor_steps = 0',
    'DistributionalCritic.min_value = -3.0',
    'SGD.clipnorm = 2.0',
    'mlp_torso.units = [8, 8]',
    'GatedQNetwork.gate_units = None',
    'QwrAgent.backup_actions = None',
    'make_agent.normalizer = @ObservationNormalizer',
    'make_agent.actor_optimizer = @other/Adam()',
    'make_agent.actor_optimizer = @actor/AdamW()\nAdamW.weight_decay = None',
    'iterate.batch_size = %HALF\nHALF = 128',
    'load_environment.healthy_z_range = (-1.0, 2.0)',  # The environment's own.
  ],
)
def test_values_that_fit(binding):
  gin_files.parse(['mujoco.gin'], binding.splitlines())


@pytest.mark.parametrize('file', [file.name for file in _FILES])
def test_bundled_file_has_no_unknown_names(file):
  assert gin_files.parse([file], [])


# What QWR's paper, the ICLR text and the authors' code state (algorithms.md,
# 1.2-1.6), Table 4 first. None: off.
_TABLE_4 = {
  'make_agent.agent_class': '@QwrAgent',
  'make_agent.actor_network': '@actors.ActorNetwork',
  'make_agent.critic_network': '@GatedQNetwork',
  'QwrAgent.gamma': 0.99,
  'QwrAgent.td_lambda': 0.95,
  'QwrAgent.horizon': 3,
  'QwrAgent.estimate_fn': '@critic_estimates',
  'QwrAgent.baseline_fn': '@mean_estimate',
  'QwrAgent.weight_fn': '@exp_weights',
  'exp_weights.beta': 1,
  'exp_weights.normalize_fn': '@standardize',
  'QwrAgent.max_weight': 20,
  'QwrAgent.backup_fn': '@log_sum_exp_backup',
  'log_sum_exp_backup.backup_temperature': 0.3,
  'log_sum_exp_backup.scale_fn': '@mean_absolute_deviation',
  'mean_absolute_deviation.per_state': True,
  'QwrAgent.target_update_fn': '@hard_update',
  'hard_update.period_train_steps': 100,
  'make_agent.actor_optimizer': '@actor/Adam()',
  'make_agent.critic_optimizer': '@critic/Adam()',
  'actor/Adam.learning_rate': 1e-4,
  'critic/Adam.learning_rate': 5e-4,
  'Adam.epsilon': 1e-7,
  'Adam.global_clipnorm': None,
  'iterate.batch_size': 256,
  'iterate.critic_steps': 1000,
  'iterate.actor_steps': 1000,
  'Collector.env_steps': 1000,
  'Collector.whole_episodes': False,
  'run.interactions': 100_000,
  'run.replay_capacity': 50_000,
  'make_agent.normalizer': None,
  'GatedQNetwork.gate_units': None,
  'GatedQNetwork.post_gate_layer_norm': False,
  'GatedQNetwork.post_gate_units': None,
  'GatedQNetwork.value_scale': 1,
  'GatedQNetwork.output_limit': None,
  'GaussianHead.output_limit': None,
  'load_environment.timeout_is_terminal': False,
}
_MUJOCO = {
  'QwrAgent.backup_actions': '@sampled_behavior_actions',
  'QwrAgent.regression_actions': '@sampled_behavior_actions',
  'sampled_behavior_actions.num_actions': 4,
  'actors.ActorNetwork.torso_fn': '@actor/mlp_torso',
  'GatedQNetwork.torso_fn': '@critic/mlp_torso',
  'mlp_torso.units': (256, 256),
  'mlp_torso.layer_norm': False,
  'GaussianHead.scale': 0.4,
}
_ATARI = {
  'QwrAgent.backup_actions': '@enumerated_behavior_actions',
  'QwrAgent.regression_actions': '@enumerated_behavior_actions',
  'actors.ActorNetwork.torso_fn': '@actor/dqn_2013_torso',
  'GatedQNetwork.torso_fn': '@critic/dqn_2013_torso',
  'load_environment.frameskip': 1,
  'load_environment.repeat_action_probability': 0,
  'load_environment.max_episode_steps': 10_000,
  'load_environment.clip_rewards': True,
  'load_environment.terminal_on_life_loss': False,
}
# Of the authors' code, early and late.
_CODE = {
  'Adam.epsilon': 1e-5,
  'GatedQNetwork.gate_units': 256,
  'GatedQNetwork.post_gate_layer_norm': True,
  'GatedQNetwork.post_gate_units': 256,
  'GatedQNetwork.value_scale': 100,  # 1 / (1 - gamma)
  'GatedQNetwork.output_limit': 1e-6,
  'load_environment.timeout_is_terminal': True,
}
_MUJOCO_CODE = {
  'Adam.global_clipnorm': 50,
  'make_agent.normalizer': '@ObservationNormalizer',
  'ObservationNormalizer.freeze_after_env_steps': 300_000,
  'GaussianHead.output_limit': 0.01,
}
_ATARI_CODE = {
  'QwrAgent.backup_actions': '@sampled_behavior_actions',
  'QwrAgent.regression_actions': '@sampled_behavior_actions',
  'sampled_behavior_actions.num_actions': 8,
  'actors.ActorNetwork.torso_fn': '@actor/nature_torso',
  'GatedQNetwork.torso_fn': '@critic/nature_torso',
}
_ICLR = {
  'iterate.critic_steps': 3000,
  'iterate.actor_steps': 3000,
  'Collector.whole_episodes': True,
  'run.replay_capacity': 50_000,  # 50 iterations of 1000
  'log_sum_exp_backup.backup_temperature': 1,
  'log_sum_exp_backup.scale_fn': '@unit_scale',
  'mean_absolute_deviation.per_state': None,
  'sampled_behavior_actions.num_actions': 8,
  'Adam.global_clipnorm': 50,
}
_LATE_2020 = {
  'critic/Adam.learning_rate': 1e-3,
  'run.replay_capacity': 100_000,
  'hard_update.period_train_steps': 50,
  'mean_absolute_deviation.per_state': False,
}
_PUBLISHED = {
  'mujoco_100k_paper': _TABLE_4 | _MUJOCO,
  'mujoco_100k_iclr': _TABLE_4 | _MUJOCO | _CODE | _MUJOCO_CODE | _ICLR,
  'mujoco_100k_authors_code': _TABLE_4
  | _MUJOCO
  | _CODE
  | _MUJOCO_CODE
  | _LATE_2020
  | {'GatedQNetwork.output_limit': 0.01},
  'atari_100k_paper': _TABLE_4 | _ATARI,
  'atari_100k_iclr': _TABLE_4
  | _ATARI
  | _CODE
  | _ATARI_CODE
  | _ICLR
  | {'load_environment.max_training_steps': 2000},
  'atari_100k_authors_code': _TABLE_4
  | _ATARI
  | _CODE
  | _ATARI_CODE
  | _LATE_2020
  | {'Adam.global_clipnorm': 0.5},
}


@pytest.mark.parametrize('preset', _PUBLISHED)
def test_presets_after_publications_have_what_those_state(preset):
  gin_files.parse([f'{preset}.gin'], [])
  values = experiment.effective_values()
  for name, expected in _PUBLISHED[preset].items():
    texts = {v.text for v in values if f'/{v.name}'.endswith(f'/{name}')}
    if isinstance(expected, str):
      assert texts == {expected}, name
    else:  # What a library leaves alone is no value.
      assert {*map(ast.literal_eval, texts or ['None'])} == {expected}, name


def test_another_agent_s_bindings_are_refused():
  with pytest.raises(ConfigError, match='use AwacAgent.horizon'):
    gin_files.parse(['awac_bitflip.gin'], ['QwrAgent.horizon = 3'])
  with pytest.raises(ConfigError, match='use QwrAgent.max_weight'):
    gin_files.parse(['bitflip.gin'], ['AwrAgent.max_weight = 5.0'])
  # Of the preset's own lines, too: AwrAgent would take some of them over.
  with pytest.raises(ConfigError, match='make_agent.agent_class'):
    gin_files.parse(['bitflip.gin'], ['make_agent.agent_class = @AwrAgent'])
  gin_files.parse(['awac_bitflip.gin'], ['AwacAgent.horizon = 3'])
  gin_files.parse(['bitflip.gin'], ['qwr_agent.QwrAgent.horizon = 3'])


@pytest.mark.slow
def test_bindings_that_nothing_reads():
  bindings = [
    'Adam.epsilon = 1e-6',  # Read as that of both optimizers.
    'Adam.learning_rate = 0.5',  # Both have one of their own.
    'actor/Adam.learning_rate = 0.25',
    'polyak_update.target_update_tau = 0.5',
    "run.environment = 'BitFlip-8'",
  ]
  gin_files.parse(['bitflip.gin'], bindings)
  settings = experiment.Settings()
  experiment.build(settings, seed=0)
  assert gin_files.unread() == [
    'Adam.learning_rate',
    'polyak_update.target_update_tau',
  ]


@pytest.mark.slow
def test_values_of_ones_own_files_that_nothing_reads(tmp_path):
  (tmp_path / 'rates.gin').write_text('critci/Adam.learning_rate = 0.7\n')
  own = tmp_path / 'own.gin'
  own.write_text("include 'bitflip.gin'\ninclude 'rates.gin'\n")
  gin_files.parse([str(own)], ['actor/Adam.learning_rate = 0.25'])
  # As `QWR.learn` does for another number of interactions.
  gin_files.parse_text(gin.config_str())
  experiment.build(experiment.settings(), seed=0)
  # Those of the preset are not told, be they called nearly the same.
  assert gin_files.unread() == ['critci/Adam.learning_rate']


@pytest.mark.parametrize('text', ['batch_size = 8\n', 'a/batch_size = 8\n'])
def test_a_macro_of_ones_own_file_that_nobody_uses(text, tmp_path):
  own = tmp_path / 'own.gin'
  own.write_text(f"include 'bitflip.gin'\n{text}")
  message = _error(files=[str(own)])
  assert f"batch_size' ({own}) is not used as a macro" in message
  assert 'such as iterate.batch_size' in message


def test_a_macro_that_is_used_only_where_it_is_overridden(tmp_path):
  own = tmp_path / 'own.gin'
  own.write_text(
    "include 'bitflip.gin'\nENVIRONMENT = 'BitFlip-5'\n"
    'RATE = 0.1\nactor/Adam.learning_rate = %RATE\n'
  )
  bindings = [
    "run.environment = 'BitFlip-8'",
    'actor/Adam.learning_rate = 0.2',
  ]
  config = gin_files.parse([str(own)], bindings)
  # As a run that was killed leaves it, to go on with.
  (tmp_path / 'config.gin').write_text(config)
  (tmp_path / 'run.json').touch()
  assert gin_files.parse([str(tmp_path / 'config.gin')], []) == config


def test_a_preset_named_by_its_path_is_the_package_s(monkeypatch):
  monkeypatch.chdir(_FOLDER.parent)
  gin_files.parse(['gin_configs/qwr/bitflip.gin'], [])
  assert gin_files.unread() == []


def test_a_file_here_goes_before_one_of_the_package(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  (tmp_path / 'bitflip.gin').write_text('')
  assert gin_files.find('bitflip.gin').resolve() == tmp_path / 'bitflip.gin'


def test_differences_know_what_only_one_side_sets():
  assert gin_files.differences({'a': '1'}, {}) == {
    'a': 'a: 1 there, not set here'
  }


def test_parsing_leaves_logging_as_it_was():
  gin_files.parse(['bitflip.gin'], [])
  assert logging.root.manager.disable == logging.NOTSET


@pytest.mark.parametrize('name', gin_files.presets())
def test_a_preset_says_what_it_is_for(name):
  assert len(gin_files.purpose(name).split()) > 3
  assert gin_files.find(name.removesuffix('.gin')) == gin_files.find(name)
