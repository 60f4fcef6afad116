"""The mathematics as pure functions: arrays in, arrays out."""
