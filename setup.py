"""Packaging of qwr_tf; the bounds are those the stack was tried with."""

import pathlib
import re

import setuptools

_HERE = pathlib.Path(__file__).resolve().parent
_README = _HERE / 'README.md'
_VERSION = re.search(
  r"^__version__ = '(.+?)'",
  (_HERE / 'qwr_tf' / '__init__.py').read_text('utf-8'),
  re.MULTILINE,
)[1]

# Two stacks, by the version of Python. Up to 3.11: TensorFlow 2.15, to which
# TF-Agents 0.19 and Reverb 0.14 are tied by their bounds. From 3.12 on: today's
# TensorFlow, beside which TF-Agents and gym are installed with --no-deps
# (docs/how-to/install.md); what they import is listed here.
# `tensorflow-cpu` of the same version is a drop-in.
_OLD, _NEW = 'python_version < "3.12"', 'python_version >= "3.12"'

_REQUIRED = [
  'absl-py>=1,<3',
  'ale-py>=0.10.2',  # From this version on the ROMs are bundled.
  f'cloudpickle>=1.3; {_NEW}',  # TF-Agents
  'dm-tree>=0.1.8,<0.2',
  'filelock>=3.20',
  'gin-config>=0.5,<0.6',
  f'gym-notices; {_NEW}',  # gym
  'gymnasium>=1.1,<2',
  'h5py>=3.1',  # Data sets; TensorFlow brings it.
  'matplotlib',  # The learning curve at the end of a run.
  'mujoco>=3.1.6,<5',
  'numpy>=1.23.5,<3',
  'opencv-python-headless>=4.5,<6',  # Atari's preprocessing.
  'pandas>=2.2',
  f'pillow; {_NEW}',  # TF-Agents
  'scipy>=1.15',  # Statistics, and tails of Gaussians.
  f'setuptools<81; {_OLD}',  # TensorBoard 2.15's command needs pkg_resources.
  f'six; {_NEW}',  # TF-Agents
  f'tensorboard; {_NEW}',  # TensorFlow 2.15 brings its own.
  f'tensorflow~=2.15.1; {_OLD}',
  f'tensorflow>=2.21,<3; {_NEW}',
  f'tensorflow-probability~=0.23.0; {_OLD}',
  f'tensorflow-probability>=0.25; {_NEW}',
  f'tf-agents==0.19.0; {_OLD}',
  f'tf-keras>=2.21,<3; {_NEW}',
  'tqdm',
]

# Reverb is published for this platform alone.
_LINUX = 'sys_platform == "linux" and platform_machine == "x86_64"'

_EXTRAS = {
  'box2d': ['box2d==2.3.10', f'pygame-ce; {_NEW}'],  # TF-Agents had pygame.
  # Tables; 22 and later need NumPy 2.
  'data': [f'pyarrow>=17,<22; {_OLD}', f'pyarrow>=21; {_NEW}'],
  # For runtimes that are not TensorFlow; LiteRT's converter is part of it.
  'litert': ['ai-edge-litert>=2'],
  'onnx': [
    f'onnx>=1.17,<1.18; {_OLD}',
    f'onnx>=1.19; {_NEW}',
    'onnxruntime',
    'tf2onnx~=1.17.0',
  ],
  'ray': ['ray>=2.50,<3'],  # Collectors beyond one process.
  # For TF-Agents' own ReverbReplayBuffer, in the examples.
  'reverb': [f'dm-reverb~=0.14.0; {_OLD} and {_LINUX}'],
  # Data sets of TensorFlow Datasets on disk.
  'rlds': [
    'tensorflow-datasets>=4.9.10',
    f'tensorflow-metadata<1.17; {_OLD}',  # Newer ones need protobuf 5.
  ],
  # 1.4.2 fails an assertion on MuJoCo 3.11 and later (FetchReach-v4).
  'robotics': ['gymnasium-robotics>=1.4', 'mujoco<3.11'],
  # Warm-up requests and the gRPC client; the server comes from Docker.
  'serving': [
    f'tensorflow-serving-api~=2.15.1; {_OLD}',
    f'tensorflow-serving-api>=2.21,<3; {_NEW}',
  ],
  'video': ['imageio', 'imageio-ffmpeg'],
}
_EXTRAS['all'] = sorted(
  # MuJoCo stays the scores' version.
  sum((v for k, v in _EXTRAS.items() if k != 'robotics'), [])
)
_EXTRAS['docs'] = [
  'ipykernel',
  'latex2mathml',
  'mkdocs-jupyter',
  'mkdocs-material>=9.8',
  'mkdocs>=1.6,<2',
  'mkdocstrings[python]>=1',
  'nbclient',
]
_EXTRAS['test'] = [
  'build',
  'import-linter',
  f'mypy==1.10.1; {_OLD}',  # Newer ones clash with tf-agents' bounds.
  f'mypy; {_NEW}',
  'pytest',
  'pytest-xdist',
  'ruff',
  'wheel',
]

setuptools.setup(
  name='qwr_tf',
  version=_VERSION,
  description='Q-Value Weighted Regression on TensorFlow and TF-Agents',
  long_description=_README.read_text('utf-8') if _README.exists() else '',
  long_description_content_type='text/markdown',
  author='The qwr_tf Authors',
  project_urls={'Paper': 'https://arxiv.org/abs/2102.06782'},
  keywords='reinforcement learning, offline, TF-Agents, QWR, AWR',
  license='Apache-2.0',
  license_files=['LICENSE'],
  python_requires='>=3.10',
  packages=[
    *setuptools.find_packages(include=['qwr_tf', 'qwr_tf.*']),
    'qwr_tf.gin_configs',
    'qwr_tf.examples',
  ],
  # They live at the top of the repository and are installed inside the package,
  # so that a wheel brings them along.
  package_dir={
    'qwr_tf.gin_configs': 'gin_configs',
    'qwr_tf.examples': 'examples',
  },
  entry_points={'console_scripts': ['qwr_tf = qwr_tf.__main__:main']},
  package_data={'qwr_tf.gin_configs': ['*/*.gin']},
  install_requires=_REQUIRED,
  extras_require=_EXTRAS,
  classifiers=[
    'Development Status :: 4 - Beta',
    'Intended Audience :: Developers',
    'Intended Audience :: Science/Research',
    'Operating System :: MacOS',
    'Operating System :: POSIX :: Linux',
    'Programming Language :: Python :: 3 :: Only',
    'Programming Language :: Python :: 3.10',
    'Programming Language :: Python :: 3.11',
    'Programming Language :: Python :: 3.12',
    'Programming Language :: Python :: 3.13',
    'Topic :: Scientific/Engineering :: Artificial Intelligence',
  ],
)
