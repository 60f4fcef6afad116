"""Configuration: gin files, values, errors and exit codes."""
