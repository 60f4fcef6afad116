"""Floor 3: grids of training runs, one process per core."""
