"""What the user wrote: gin files, values, errors and exit codes."""
