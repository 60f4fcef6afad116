"""What is told to whoever configured a run, in one line."""


class ConfigError(ValueError):
  """A configuration that cannot be used; says in one line what to change."""
