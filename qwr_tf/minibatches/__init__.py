"""Minibatches of lines 11 and 17: draws, and values computed beforehand."""
