"""Acting in environments: collecting, evaluating, recording."""
