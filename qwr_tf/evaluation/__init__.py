"""What a policy is worth, estimated from logged episodes."""
