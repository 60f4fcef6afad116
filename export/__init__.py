"""Scripts that export, check and play trained policies."""
