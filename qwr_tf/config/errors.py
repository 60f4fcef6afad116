"""The error of a configuration that cannot be used."""


class ConfigError(ValueError):
  """A configuration that cannot be used; says in one line what to change."""
