"""Algorithm 2, its slots and its relatives."""
