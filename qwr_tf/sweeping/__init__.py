"""Grids of training runs, one process per core."""
