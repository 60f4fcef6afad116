"""The Python API: one class, exported as `qwr_tf.QWR`."""
