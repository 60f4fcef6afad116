"""Whatever steps an environment: collecting, evaluating, recording."""
