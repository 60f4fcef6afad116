"""Examples; in an installed package they are `qwr_tf.examples`."""
