"""Packaging of qwr_tf; the bounds are those the stack was tried with."""

import pathlib

import setuptools

_HERE = pathlib.Path(__file__).resolve().parent
_README = _HERE / 'README.md'

# TF-Agents 0.19 and Reverb 0.14 are the newest there are and are tied to
# TensorFlow 2.15, which sets most of the upper bounds below.
# `tensorflow-cpu` of the same version is a drop-in.
_REQUIRED = [
  'absl-py>=1,<3',
  'ale-py>=0.10.2',  # From this version on the ROMs are bundled.
  'filelock>=3.20',
  'gin-config>=0.5,<0.6',
  'gymnasium>=1.1,<1.4',  # 1.4 needs a newer typing-extensions.
  'h5py>=3.1',  # Data sets; TensorFlow brings it.
  'matplotlib',  # The learning curve at the end of a run.
  'mujoco>=3.1.6,<5',
  'numpy>=1.23.5,<2',
  'opencv-python-headless>=4.5,<5',  # Atari's preprocessing; 5: NumPy 2.
  'pandas>=2.2,<3.1',  # Reports; 3.1 needs NumPy 2.
  'scipy>=1.15',  # Statistics, and tails of Gaussians.
  'setuptools<81',  # TensorBoard 2.15's command needs pkg_resources.
  'tensorflow~=2.15.1',
  'tensorflow-probability~=0.23.0',
  'tf-agents==0.19.0',
  'tqdm',
]

# Reverb is published for this platform alone.
_LINUX = 'sys_platform == "linux" and platform_machine == "x86_64"'

_EXTRAS = {
  'box2d': ['box2d==2.3.10'],  # gymnasium[box2d] clashes with tf-agents.
  # For runtimes that are not TensorFlow; LiteRT's converter is part of it.
  'onnx': ['onnx>=1.17,<1.18', 'onnxruntime', 'tf2onnx~=1.17.0'],
  'reverb': [f'dm-reverb~=0.14.0; {_LINUX}'],
  # Warm-up requests and the gRPC client; the server comes from Docker.
  'serving': ['tensorflow-serving-api~=2.15.1'],
  'video': ['imageio', 'imageio-ffmpeg'],
}
_EXTRAS['all'] = sorted(sum(_EXTRAS.values(), []))
_EXTRAS['test'] = [
  'build',
  'import-linter',
  'mypy==1.10.1',  # Newer ones clash with tf-agents' typing-extensions.
  'pytest',
  'pytest-xdist',
  'ruff',
  'wheel',
]

setuptools.setup(
  name='qwr_tf',
  version='0.1.0',
  description='Q-Value Weighted Regression on TensorFlow and TF-Agents',
  long_description=_README.read_text('utf-8') if _README.exists() else '',
  long_description_content_type='text/markdown',
  author='The qwr_tf Authors',
  license='Apache-2.0',
  license_files=['LICENSE'],
  python_requires='>=3.10,<3.12',
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
    'Operating System :: MacOS',
    'Operating System :: POSIX :: Linux',
    'Programming Language :: Python :: 3.10',
    'Programming Language :: Python :: 3.11',
    'Topic :: Scientific/Engineering :: Artificial Intelligence',
  ],
)
