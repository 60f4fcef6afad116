"""A run on disk: folder, lock, checkpoints and provenance."""
