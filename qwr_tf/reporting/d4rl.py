"""D4RL's normalised scores: 0 is a random policy, 100 an expert."""

from collections.abc import Mapping
from typing import Any

from qwr_tf.environments import env_names
from qwr_tf.reporting import published

# Returns of D4RL's random and expert policies (d4rl/infos.py), on gym's v2 of
# MuJoCo and on Adroit; Fu et al. 2020.
_REFERENCE = {
  'Ant': (-325.6, 3879.7),
  'HalfCheetah': (-280.178953, 12135.0),
  'Hopper': (-20.272305, 3234.3),
  'Walker2d': (1.629008, 4592.3),
  'AdroitHandDoor': (-56.512833, 2880.5693087298737),
  'AdroitHandHammer': (-274.856578, 12794.134825156867),
  'AdroitHandPen': (96.262799, 3076.8331017826877),
  'AdroitHandRelocate': (-6.425911, 4233.877797728884),
  'FrankaKitchen': (0.0, 4.0),
}


def normalised(
  environment: str,
  score: float,
  reference: published.Scale | None = None,
) -> float | None:
  """A return on D4RL's scale.

  Args:
    environment: its name; the version does not count.
    reference: returns that are 0 and 100 (Minari's ref_min_score and
      ref_max_score) in place of D4RL's.

  Returns:
    100 (score - random) / (expert - random); None where the two are unknown.
  """
  scale = reference or _REFERENCE.get(env_names.task(environment))
  if scale is None:
    return None
  return 100.0 * published.normalised(score, scale)


def data_set_lines(
  results: Mapping[str, Any], environment: str, score: float | None
) -> list[str]:
  """The data set's mean return, and both on D4RL's scale.

  Args:
    results: of run.json.
    score: the run's own, if it has one.

  Returns:
    Lines to print; none for a run without a data set.
  """
  data = results.get('data')
  if data is None:
    return []
  mean = data['mean_return']
  mean_return = '-' if mean is None else f'{mean:.4g}'
  lines = [
    f'data    {data["name"]}: mean return {mean_return} of '
    f'{data["episodes"]} episodes, {data["transitions"]} transitions, '
    f'mu {data["mu"]}'
  ]
  scaled, of_data = (
    None if x is None else normalised(environment, x, data['reference'])
    for x in (score, mean)
  )
  if scaled is not None:
    beside = '' if of_data is None else f', the data {of_data:.1f}'
    lines.append(
      f'd4rl-normalised: {scaled:.1f}{beside} (0 is random play, 100 an expert)'
    )
  return lines
