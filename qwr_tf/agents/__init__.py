"""Floor 2: the algorithms."""
