"""Floor 0: the mathematics, as pure functions of tensors."""
