"""`python -m qwr_tf.export` under its first name."""

import runpy

if __name__ == '__main__':
  runpy.run_module('qwr_tf.export', run_name='__main__', alter_sys=True)
