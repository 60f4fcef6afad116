"""Tables and figures from raw rows."""
