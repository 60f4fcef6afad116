"""Lists the presets: python -m qwr_tf.presets.

The gin files that --gin_file takes by name, and what they are for.
"""

from qwr_tf.config import startup  # noqa: F401, before TensorFlow.

# isort: split
import textwrap

from qwr_tf.config import command

command.answer_help(__name__)

# isort: split
from qwr_tf.config import gin_files


def main() -> None:
  """Prints a paragraph for each preset, those for any environment first."""
  general = ('vector.gin', 'pixels.gin')
  for name in sorted(gin_files.presets(), key=lambda n: n not in general):
    print(name)
    print(textwrap.indent(gin_files.purpose(name), '    '))


if __name__ == '__main__':
  command.run(main)
